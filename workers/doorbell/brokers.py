"""Which broker a URL means, and how to name it in a log without its password. Each kind is loaded for a URL of its own: their
clients take longer to load than much that a process without a broker does.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, unquote

from dramatiq import Middleware

from cnstra.orchestrator.errors import ConfigurationError
from cnstra.workers.doorbell.doorbells import OUTSTANDING, Doorbells

_SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel", "amqp", "amqps")

_SEVERAL = re.compile(";(?=amqps?://)")
"""What stands between the URLs of several nodes."""

_NAMESPACE = "namespace"
"""The option of a URL that is ours: what the names of all keys and queues begin with."""

# Only what certainly holds no secret: unescaped characters in a password make the rest of a URL ambiguous.
_PLAIN = re.compile(r"(?P<scheme>[\w+]+)://(?:[^@/?#]*@)?(?P<place>[\w.:,\[\]-]*(?:/[\w%.-]*){0,2})")


def open_broker(
    url: str,
    *,
    client_name: str,
    wait: float = 0.0,
    outstanding: int = OUTSTANDING,
    middleware: Sequence[Middleware] = (),
) -> Doorbells:
    """The broker that the URL's scheme names. It connects when it is first used.

    Args:
        url: of Redis, or of RabbitMQ; there, several may be given, separated by ``;``. Its option ``namespace`` is for what
            shares a broker with others: what the names of all keys and queues begin with, ``cnstra`` if not given.
        client_name: what the server calls the connections.
        wait: seconds that a source waits for a doorbell.
        outstanding: how many doorbells may wait in a queue.
        middleware: the only middleware there is.

    Raises:
        ConfigurationError: for a scheme that is not supported, or a URL that its client library refuses.
    """
    scheme = url.partition("://")[0]
    if scheme not in _SCHEMES:
        supported = ", ".join(f"{name}://" for name in _SCHEMES)
        raise ConfigurationError(f"No broker for {shown(url)!r}: its URL must start with one of {supported}.")
    try:
        plain, namespaces = zip(*map(_without_namespace, _SEVERAL.split(url)), strict=True)
        [namespace] = set(namespaces)
        open_one = _rabbitmq if scheme.startswith("amqp") else _redis
        return open_one(
            plain,
            client_name,
            shown=shown(url),
            namespace=namespace,
            wait=wait,
            outstanding=outstanding,
            middleware=middleware,
        )
    except (TypeError, ValueError, OSError, SyntaxError):  # their texts may quote the password
        raise ConfigurationError(
            f"The broker's URL {shown(url)!r} cannot be used: its port, or an option after the '?', "
            "is not valid, or names a file that there is not. Special characters in a password must be percent-encoded."
        ) from None


def _redis(urls: Sequence[str], client_name: str, **options: Any) -> Doorbells:
    from cnstra.workers.doorbell.redis_lists import RedisDoorbells

    return RedisDoorbells(urls[0], client_name=client_name, **options)


def _rabbitmq(urls: Sequence[str], client_name: str, **options: Any) -> Doorbells:
    try:
        from cnstra.workers.doorbell.quorum_queues import QuorumDoorbells
        from cnstra.workers.doorbell.rabbit_line import servers_of
    except ModuleNotFoundError as missing:
        raise ConfigurationError(
            f"RabbitMQ needs the package {missing.name!r}, which is not installed: pip install 'cnstra[rabbitmq]'"
        ) from missing
    return QuorumDoorbells(servers_of(urls, client_name=client_name), **options)


def in_namespace(url: str, namespace: str) -> str:
    """The URL of the same broker, where everything has names that begin with ``namespace``."""
    option = f"{_NAMESPACE}={quote(namespace, safe='')}"
    return ";".join(
        f"{plain}{'&' if '?' in plain else '?'}{option}" for plain, _ in map(_without_namespace, _SEVERAL.split(url))
    )


def _without_namespace(url: str) -> tuple[str, str]:
    """The URL without the option that is ours, and its value."""
    place, _, options = url.partition("?")
    ours: list[str] = []
    theirs: list[str] = []
    for option in options.split("&"):
        name, _, value = option.partition("=")
        (ours if name == _NAMESPACE else theirs).append(value if name == _NAMESPACE else option)
    if not ours:
        return url, "cnstra"
    [namespace] = ours
    if not namespace:
        raise ValueError
    return "?".join([place, *(["&".join(theirs)] if theirs else [])]), unquote(namespace)


def shown(url: str) -> str:
    """The URL for people: without user, password and options; where these blur, the scheme alone."""
    first, *others = _SEVERAL.split(url)
    if others:
        return ";".join(map(shown, [first, *others]))
    plain = _PLAIN.fullmatch(url.partition("?")[0])
    if plain is None or "@" in url.partition("?")[2]:
        scheme, found, _ = url.partition("://")
        return f"{scheme}://…" if found else "…"
    return f"{plain['scheme']}://{plain['place']}"
