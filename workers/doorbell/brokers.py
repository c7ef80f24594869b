"""Which broker a URL means, and how to name it in a log without its password."""

from __future__ import annotations

import re
from collections.abc import Sequence

from dramatiq import Middleware

from cnstra.orchestrator.errors import ConfigurationError
from cnstra.workers.doorbell.redis_lists import RedisDoorbells

_REDIS = ("redis", "rediss", "unix")

# Only what certainly holds no secret: unescaped characters in a password make the rest of a URL ambiguous.
_PLAIN = re.compile(r"(?P<scheme>\w+)://(?:[^@/?#]*@)?(?P<place>[\w.:\[\]-]*(?:/\w*)?)")


def open_broker(
    url: str, *, namespace: str, client_name: str, wait: float, middleware: Sequence[Middleware] = ()
) -> RedisDoorbells:
    """The broker that the URL's scheme names. It connects when it is first used.

    Raises:
        ConfigurationError: for a scheme that is not supported, or a URL that its client library refuses.
    """
    scheme = url.partition("://")[0]
    if scheme not in _REDIS:
        supported = ", ".join(f"{name}://" for name in _REDIS)
        raise ConfigurationError(f"No broker for {shown(url)!r}: its URL must start with one of {supported}.")
    try:
        return RedisDoorbells(
            url,
            shown=shown(url),
            namespace=namespace,
            client_name=client_name,
            wait=wait,
            middleware=middleware,
        )
    except (TypeError, ValueError):  # their texts may quote the password
        raise ConfigurationError(
            f"The broker's URL {shown(url)!r} cannot be used: its port, or an option after the '?', "
            "is not valid. Special characters in a password must be percent-encoded."
        ) from None


def shown(url: str) -> str:
    """The URL for people: without user, password and options; where these blur, the scheme alone."""
    plain = _PLAIN.fullmatch(url.partition("?")[0])
    if plain is None or "@" in url.partition("?")[2]:
        scheme, found, _ = url.partition("://")
        return f"{scheme}://…" if found else "…"
    return f"{plain['scheme']}://{plain['place']}"
