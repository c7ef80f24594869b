"""Contexts of durable runs in Redis or Valkey: one string a blob, without expiry.

A context is then as safe as this Redis: what it evicts, expires, or loses in a restart or a failover is lost, and its runs
fail with ``ContextLost``. So it wants ``maxmemory-policy noeviction`` and an append-only file. Nothing here sets a time to
live: a run may sleep for months, and its blobs go when the run is forgotten.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from typing import Any

import redis

from cnstra.orchestrator.errors import ConfigurationError

PREFIX = "cnstra:blob:"
_ANSWER_WITHIN = 5.0  # seconds; clients of the user's own have their own


class RedisBlobStore:
    """Blobs in Redis or Valkey.

    ``client`` is a sync client of redis-py, also of Sentinel or a cluster: give it a ``socket_timeout``. It must answer
    bytes and speak with the primary. ``prefix`` is what all keys begin with.

    Raises ``ConfigurationError`` for an async client, and for one that decodes what it is answered.
    """

    def __init__(self, client: Any, prefix: str = PREFIX) -> None:
        if not callable(getattr(client, "execute_command", None)):
            raise ConfigurationError(f"RedisBlobStore: {type(client).__name__} is no client of redis-py")
        if inspect.iscoroutinefunction(client.execute_command):
            raise ConfigurationError("RedisBlobStore: the client is async; give a sync one, such as redis.Redis(...)")
        if _decodes(client):
            raise ConfigurationError(
                "RedisBlobStore: the client has decode_responses=True, and blobs are bytes; leave it out"
            )
        self._client = client
        self._prefix = prefix

    @classmethod
    def from_url(cls, url: str, prefix: str = PREFIX) -> RedisBlobStore:
        """A store at a ``redis://``, ``rediss://`` or ``unix://`` URL. Raises ``ConfigurationError`` for one that is none."""
        try:
            client = redis.Redis.from_url(
                url, socket_timeout=_ANSWER_WITHIN, socket_connect_timeout=_ANSWER_WITHIN, socket_keepalive=True
            )
        except (ValueError, TypeError):  # its text may quote the password
            raise ConfigurationError(
                "the URL of the store of contexts cannot be used: it is to read redis://user:password@host:port/number"
            ) from None
        return cls(client, prefix)

    def put(self, key: str, data: bytes) -> None:
        self._client.set(self._prefix + key, data)

    def get(self, key: str) -> bytes | None:
        found: bytes | None = self._client.get(self._prefix + key)
        return found

    def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """What ``get`` would answer for each key, in one call; in a cluster, one a node."""
        if not keys:
            return []
        together = getattr(self._client, "mget_nonatomic", self._client.mget)
        return list(together([self._prefix + key for key in keys]))

    def delete(self, keys: Iterable[str]) -> None:
        names = [self._prefix + key for key in keys]
        if names:
            self._client.unlink(*names)

    def keys(self, run_id: str = "") -> Iterable[str]:
        """The keys of all blobs, or of one run's: to look for what nobody refers to. Walks through the whole database."""
        escaped = "".join(f"\\{letter}" if letter in "*?[]\\" else letter for letter in self._prefix)
        for name in self._client.scan_iter(match=f"{escaped}{run_id}*", count=1000):
            yield bytes(name)[len(self._prefix.encode()) :].decode()

    def __repr__(self) -> str:
        return f"<RedisBlobStore {self._prefix!r}>"


def _decodes(client: Any) -> bool:
    encoder = client.get_encoder() if callable(getattr(client, "get_encoder", None)) else None
    return bool(getattr(encoder, "decode_responses", False))
