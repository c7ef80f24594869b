"""A context on Redis, shared by all who know the session's id. What is done there is in ``in_redis.lua``.

It is as safe as that Redis: what a failover, an eviction or a restart without persistence loses is gone, and a version
may come back with it. It opens no connections of its own, and closes none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import timedelta
from importlib import resources
from typing import Any, Final, cast
from uuid import UUID

import redis
import redis.asyncio
from redis.client import NEVER_DECODE, Pipeline

from cnstra.orchestrator.codecs import JSON, Codec, checked, decoded, encoded
from cnstra.orchestrator.contexts import Versioned
from cnstra.orchestrator.errors import ConfigurationError, ContextError, StoreUnavailable
from cnstra.stores.contexts.lifetimes import REMEMBERED, Ttl, lifetime
from cnstra.stores.contexts.served import ServedContextStore

_SCRIPT: Final = resources.files(__package__).joinpath("in_redis.lua").read_bytes()
_SHA: Final = hashlib.sha1(_SCRIPT, usedforsecurity=False).hexdigest()


class RedisContextStore(ServedContextStore):
    """A context on Redis.

    ``client`` is a ``redis.Redis``, that of a Sentinel's ``master_for`` included; threads may share the store as they share
    the client. ``session_id`` names the context, below ``prefix``. ``ttl`` is in seconds, or a timedelta; every write
    begins it anew, reads do not; None keeps the context for ever. ``codec`` is for values that are not exactly JSON.

    Every method raises ``StoreUnavailable`` when Redis does not answer: a write may then have happened. Versions begin at
    the server's clock, and go up by one.

    Raises ``ConfigurationError`` for a client, an id or a ttl that cannot be used.
    """

    __slots__ = ("__weakref__", "_client", "_codec", "_key", "_ttl", "_where")

    def __init__(
        self,
        client: redis.Redis,
        session_id: str | UUID,
        ttl: Ttl = 3600,
        prefix: str = "cnstra:ctx:",
        codec: Codec | None = None,
    ) -> None:
        self._client: Any = _usable(client)  # redis-py leaves its lower methods untyped
        if not isinstance(session_id, str | UUID) or not str(session_id):
            raise ConfigurationError(f"RedisContextStore: session_id is {session_id!r}; it is a text that is not empty")
        if not isinstance(prefix, str):
            raise ConfigurationError(f"RedisContextStore: prefix is a {type(prefix).__name__}; it is a text")
        name = f"{prefix}{session_id}"
        self._where = f"context {name!r} on Redis"
        try:
            self._key = name.encode()
        except UnicodeEncodeError:
            raise ConfigurationError(f"{self._where}: prefix and session_id hold what is not valid text") from None
        self._ttl = lifetime(ttl, self._where)
        self._codec: Codec = JSON if codec is None else checked(codec)

    @property
    def version(self) -> int:
        return self._number(self._ask(self._retrying, b"version"))

    def get_versioned(self) -> Versioned:
        version, data = self._ask(self._retrying, b"read")
        number = self._number(version)
        return Versioned(
            value=None if data is None else decoded(self._codec, data, self._where, self._key),
            version=number,
        )

    def _write(self, value: Any, expected: int | None) -> bool:
        data = [] if value is None else [encoded(self._codec, value, self._where, self._key)]
        # That a value was deleted needs to be known only as long as somebody may hold the version before.
        lives = REMEMBERED if self._ttl is None and not data else self._ttl
        milliseconds = b"" if lives is None else b"%d" % max(lives // timedelta(milliseconds=1), 1)
        written, _ = self._ask(self._once, b"write", b"" if expected is None else b"%d" % expected, milliseconds, *data)
        return cast("int", written) == 1

    def _number(self, version: Any) -> int:
        try:
            return int(version)
        except ValueError:
            raise ContextError(f"{self._where}: the key holds something that is not a context") from None

    # -- the wire --------------------------------------------------------------------------------------------------

    def _ask(self, send: Callable[..., Any], *arguments: bytes) -> Any:
        try:
            try:
                return send(b"EVALSHA", _SHA.encode(), b"1", self._key, *arguments)
            except redis.exceptions.NoScriptError:
                return send(b"EVAL", _SCRIPT, b"1", self._key, *arguments)
        except (redis.RedisError, OSError) as error:
            raise self._translated(error) from error

    def _retrying(self, *command: bytes) -> Any:
        """Ask by the client's rules, its retries included: for what changes nothing."""
        return self._client.execute_command(*command, **{NEVER_DECODE: True})

    def _once(self, *command: bytes) -> Any:
        """Ask once, whatever the client would do: who sends a write again, whose reply was lost, writes twice."""
        pool = self._client.connection_pool
        connection = pool.get_connection()
        try:
            connection.send_command(*command)
            return self._client.parse_response(connection, command[0], **{NEVER_DECODE: True})
        except redis.ResponseError:
            raise
        except BaseException:  # also an interrupt: the reply that is still to come is nobody else's
            connection.disconnect()
            raise
        finally:
            pool.release(connection)

    def _translated(self, error: Exception) -> StoreUnavailable | ContextError:
        """The client's error in words of ours; a server's text may quote what was sent, so only its first word is kept."""
        if not isinstance(error, redis.ResponseError):
            return StoreUnavailable(f"{self._where}: {type(error).__name__}: {error}")
        if "WRONGTYPE" in str(error):
            return ContextError(f"{self._where}: the key holds something that is not a context")
        said = str(error).partition(" ")[0]
        return StoreUnavailable(
            f"{self._where}: Redis refused the command: {said if said.isupper() else type(error).__name__}"
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._key.decode()!r}>"


def _usable(client: Any) -> redis.Redis:
    if isinstance(client, redis.asyncio.Redis):
        raise ConfigurationError(
            "RedisContextStore: context stores are sync; give it a redis.Redis, not a redis.asyncio one"
        )
    if isinstance(client, Pipeline) or not isinstance(client, redis.Redis):
        raise ConfigurationError(
            f"RedisContextStore: the client is a {type(client).__module__}.{type(client).__qualname__}; "
            "give it a redis.Redis, from redis.Redis(), redis.from_url() or Sentinel.master_for()"
        )
    return client
