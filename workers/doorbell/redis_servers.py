"""A client of the Redis that a URL names: of one server, or of the master that Sentinels agree on.

Owns the URLs of Sentinels, for which ``redis-py`` has none: ``redis+sentinel://user:password@host:26379,host/service/0``.
User and password are the master's; the Sentinels' own are the options ``sentinel_username`` and ``sentinel_password``. With
``rediss+sentinel`` both are reached over TLS.
"""

from __future__ import annotations

import re
from typing import Any, cast

import redis
from redis.connection import parse_url
from redis.sentinel import MasterNotFoundError, Sentinel, SentinelConnectionPool

_SENTINEL = re.compile(
    r"(?P<scheme>rediss?)\+sentinel://(?P<who>[^@/?#]*@)?(?P<sentinels>[^@/?#]+)/(?P<service>[^@/?#]+)"
    r"(?P<database>/\d+)?(?P<options>\?.*)?"
)
_SENTINEL_PORT = 26379


def client_of(url: str, ours: dict[str, Any]) -> redis.Redis:
    """A client that connects when first used. What is in ``ours`` overrules the options of the URL.

    Raises ``ValueError`` or ``TypeError`` for what ``redis-py`` refuses.
    """
    pool = _sentinels_pool(url, ours) if "+sentinel://" in url else redis.ConnectionPool.from_url(url, **ours)
    pool.connection_kwargs.update(ours)
    pool.connection_class(**pool.connection_kwargs)  # connects nowhere, but refuses unknown options
    client = redis.Redis(connection_pool=pool)
    client.auto_close_connection_pool = True
    return client


def _sentinels_pool(url: str, ours: dict[str, Any]) -> redis.ConnectionPool:
    parts = _SENTINEL.fullmatch(url)
    if parts is None:
        raise ValueError("not of the form redis+sentinel://host:port,host:port/service/database")
    of_master = parse_url(  # type: ignore[no-untyped-call]
        f"{parts['scheme']}://{parts['who'] or ''}master{parts['database'] or ''}{parts['options'] or ''}"
    )
    of_sentinels = {
        name: of_master.pop(f"sentinel_{name}") for name in ("username", "password") if f"sentinel_{name}" in of_master
    }
    of_master.pop("host")
    if of_master.pop("connection_class", None) is not None:
        of_sentinels["ssl"] = of_master["ssl"] = True
    of_sentinels["retry"] = ours["retry"]  # the next Sentinel is asked; their clients' own retry takes seconds
    of_sentinels["socket_timeout"] = of_sentinels["socket_connect_timeout"] = ours["socket_connect_timeout"]
    sentinels = _Sentinels([_address(one) for one in parts["sentinels"].split(",")], sentinel_kwargs=of_sentinels)  # type: ignore[no-untyped-call]
    return SentinelConnectionPool(parts["service"], sentinels, **(of_master | ours))  # type: ignore[no-untyped-call]


class _Sentinels(Sentinel):
    """Those who say which server is the master; and why none of them does. What redis-py says then quotes all their settings,
    passwords among them, so that nothing of it can be shown.
    """

    def discover_master(self, service_name: str) -> tuple[str, int]:
        """Where it is, by the first that knows: that one is asked first the next time. Raises ``MasterNotFoundError``."""
        reasons = []
        asked = self.sentinels  # another thread may put others in its place meanwhile
        for sentinel in asked:
            of_it = sentinel.connection_pool.connection_kwargs
            try:
                state = cast("dict[str, Any]", sentinel.sentinel_masters()).get(service_name)
            except (redis.ConnectionError, redis.TimeoutError) as error:
                reason = str(error)
            else:
                if state is not None and self.check_master_state(state, service_name):  # type: ignore[no-untyped-call]
                    self.sentinels = [sentinel, *(one for one in asked if one is not sentinel)]
                    return state["ip"], state["port"]
                reason = "knows no such service" if state is None else "takes the master for down"
            reasons.append(f"{of_it['host']}:{of_it['port']}: {reason.rstrip('.')}")
        raise MasterNotFoundError(f"no Sentinel names the master of {service_name!r}: {'; '.join(reasons)}")


def _address(sentinel: str) -> tuple[str, int]:
    host, colon, port = sentinel.rpartition(":")
    return (host, int(port)) if colon else (sentinel, _SENTINEL_PORT)
