"""Doorbells on Redis or Valkey: one list a queue, waited for with ``BLPOP``.

Why not Dramatiq's own Redis broker, made for messages that must not be lost? Doorbells may be lost, and three
things could not be had from it (measured with Dramatiq 2.2.1):

* *Idle workers wait, and a ring wakes exactly one.* ``BLPOP`` hands an element to the client that waited
  longest. Among 20 idle workers 100 rings woke 100 times; when they waited beside the queue (``BLMOVE``
  onto itself) and then fetched, 1,990 times.
* *A bound that holds.* ``RPUSH`` and ``LTRIM`` in one script keep a queue at its bound however many ring
  at once, and one round trip rings any number of queues. With bodies in a hash beside it, trimming would
  strand them.
* *Nothing stays behind.* No sets of unacknowledged ids, heartbeats of dead processes, dead letters, nor the
  scans of all keys that mend these. A list expires a day after its last ring.

The price: a doorbell leaves Redis when it is handed over, so a worker that dies with one in its hand takes it
along, and a sweep over Postgres rings again. With acknowledgements the sweep would still come first: Dramatiq
gives a dead worker's messages back after a minute at the earliest.

Relied on: what a script pushes wakes waiting clients when it has ended; ``BLPOP`` looks at its keys in order.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, cast
from uuid import uuid4

import redis
from dramatiq import Broker, Consumer, Message, Middleware
from redis.backoff import NoBackoff
from redis.retry import Retry

from cnstra.orchestrator.errors import BrokerAway
from cnstra.workers.doorbell.consumer import DoorbellConsumer
from cnstra.workers.doorbell.messages import encode

_log = logging.getLogger("cnstra.listener")

_ANSWER_WITHIN = 1.0
"""Seconds that Redis has to take a connection, or to answer; what a command may block comes on top."""

# One command, as the client's part of a transaction of five takes longer than the server's. For each key: how many, and these.
_PUSH = """
local at_most, expires, place = tonumber(ARGV[1]), tonumber(ARGV[2]), 3
for _, key in ipairs(KEYS) do
    local last = place + tonumber(ARGV[place])
    redis.call('RPUSH', key, unpack(ARGV, place + 1, last))
    redis.call('LTRIM', key, 0, at_most - 1)
    redis.call('EXPIRE', key, expires)
    place = last + 1
end
"""

_UNHEARD_QUEUE_EXPIRES = 24 * 3600
_HUSH_EXPIRES = 60


class RedisDoorbells(Broker):
    """A Dramatiq broker that keeps each queue as a list of at most so many messages.

    Connects when first used; a forked child gets connections of its own. Safe for threads. It is never
    Dramatiq's global broker, and has no delay queues: timers live in Postgres. Messages come in by ``push``.

    Args:
        url: where Redis is. Options in it that would change how calls end are overruled.
        shown: the URL without secrets, for messages.
        namespace: what all keys begin with.
        client_name: what ``CLIENT LIST`` calls the connections.
        wait: seconds that ``pop`` may block.
        middleware: the only middleware there is.
    """

    def __init__(
        self,
        url: str,
        *,
        shown: str,
        namespace: str,
        client_name: str,
        wait: float,
        middleware: Sequence[Middleware],
    ) -> None:
        super().__init__(middleware=list(middleware))
        self.wait = wait
        self.stopping = threading.Event()
        self._url = url
        self._shown = shown
        self._client_name = client_name
        self._prefix = f"{namespace}:doorbells:"
        self._hush_key = f"{namespace}:hush:{uuid4()}"
        self._client, self._pid = self._open(), os.getpid()
        self._push = self._client.register_script(_PUSH)

    # What the bell asks.

    def push(self, messages: Mapping[str, Sequence[Message[Any]]], *, at_most: int) -> None:
        """Append messages, by queue, in one round trip; drop what would make a queue exceed ``at_most``.

        Raises:
            BrokerAway: Redis could not be reached, did not answer in time, or refused.
        """
        given: list[Any] = [at_most, _UNHEARD_QUEUE_EXPIRES]
        for of_queue in messages.values():
            given += [len(of_queue), *[encode(message) for message in of_queue]]
        try:
            self._push(keys=[self._key(queue) for queue in messages], args=given, client=self._redis())
        except redis.RedisError as error:
            self._away(error)

    def qsize(self, queue: str) -> int:
        """How many doorbells wait in a queue. Raises ``BrokerAway`` as ``push`` does."""
        try:
            return self._redis().llen(self._key(queue))
        except redis.RedisError as error:
            self._away(error)

    # What the listener and its consumers ask.

    def pop(self, queue: str) -> bytes | None:
        """The next message; None after ``wait`` seconds, or when hushed. Raises as ``push`` does."""
        keys = [self._key(queue), self._hush_key]
        try:
            found = cast("list[bytes] | None", self._redis().blpop(keys, timeout=self.wait))
        except redis.RedisError as error:
            self._away(error)
        if found is None or found[0] == self._hush_key.encode():
            return None
        return found[1]

    def put_back(self, queue: str, bodies: Sequence[bytes]) -> None:
        """Return messages to the front of their queue, which the next ring trims."""
        try:
            self._redis().lpush(self._key(queue), *bodies)
        except redis.RedisError as error:
            self._away(error)

    def hush(self) -> None:
        """Let all consumers give up, for good: those in ``pop`` at once, by a key that only they wait for."""
        self.stopping.set()
        try:
            with self._redis().pipeline(transaction=True) as pipe:
                pipe.rpush(self._hush_key, *["hush"] * len(self.queues))
                pipe.expire(self._hush_key, _HUSH_EXPIRES)
                pipe.execute()
        except redis.RedisError:
            _log.debug("Could not wake the waiting consumers; they give up by themselves.")

    # What Dramatiq asks.

    def declare_queue(self, queue_name: str) -> None:
        """Know a queue; without the delay queue, and its consumer, that Dramatiq's own brokers give each."""
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues[queue_name] = None
            self.emit_after("declare_queue", queue_name)

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 0) -> Consumer:  # noqa: ARG002
        """A consumer of at most ``prefetch`` unanswered doorbells. It waits for ``wait``."""
        return DoorbellConsumer(self, queue_name, prefetch)

    def close(self) -> None:
        """Close all connections. Idempotent; what is used afterwards connects again."""
        if self._pid == os.getpid():
            self._client.close()

    def _redis(self) -> redis.Redis:
        if self._pid != os.getpid():  # forked: the parent's sockets and locks are not ours
            self._client, self._pid = self._open(), os.getpid()
        return self._client

    def _open(self) -> redis.Redis:
        """A client whose calls end soon: redis-py's own retry for seconds, and cut blocking commands."""
        ours: dict[str, Any] = {
            "client_name": self._client_name,
            "decode_responses": False,
            "protocol": 2,
            "retry": Retry(NoBackoff(), 0),
            "socket_connect_timeout": _ANSWER_WITHIN,
            "socket_keepalive": True,
            "socket_timeout": self.wait + _ANSWER_WITHIN,
        }
        pool = redis.ConnectionPool.from_url(self._url, **ours)
        pool.connection_kwargs.update(ours)  # over the URL's options
        pool.connection_class(**pool.connection_kwargs)  # connects nowhere, but refuses unknown options
        client = redis.Redis(connection_pool=pool)
        client.auto_close_connection_pool = True
        return client

    def _key(self, queue: str) -> str:
        return self._prefix + queue

    def _away(self, error: redis.RedisError) -> NoReturn:
        # Idle connections go, too: after a failover they may lead to a server that can only be read.
        self._client.connection_pool.disconnect(inuse_connections=False)
        raise BrokerAway(f"The broker {self._shown} does not serve ({type(error).__name__}: {error}).") from error
