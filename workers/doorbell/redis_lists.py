"""Doorbells on Redis or Valkey: one list a queue, waited for with ``BLPOP``.

Why not Dramatiq's own Redis broker, made for messages that must not be lost? Doorbells may be lost, and three
things could not be had from it (measured with Dramatiq 2.2.1):

* *Idle workers wait, and a ring wakes exactly one.* ``BLPOP`` hands an element to the client that waited
  longest. Among 20 idle workers 100 rings woke 100 times; when they waited beside the queue (``BLMOVE``
  onto itself) and then fetched, 1,990 times.
* *A bound that holds.* Each ``RPUSH`` has its ``LTRIM`` behind it, which keeps a queue at its bound however many ring
  at once, and one packet rings any number of queues. With bodies in a hash beside it, trimming would strand them.
* *Nobody waits who rings.* The answer is heard before the next ring (``redis_line``).
* *Nothing stays behind.* No sets of unacknowledged ids, heartbeats of dead processes, dead letters, nor the
  scans of all keys that mend these. A list expires a day after its last ring.

The price: a doorbell leaves Redis when it is handed over, so a worker that dies with one in its hand takes it
along, and a sweep over Postgres rings again. With acknowledgements the sweep would still come first: Dramatiq
gives a dead worker's messages back after a minute at the earliest.

Relied on: ``BLPOP`` looks at its keys in order.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, NoReturn, cast
from uuid import uuid4

import redis
from dramatiq import Middleware
from redis.backoff import NoBackoff
from redis.retry import Retry

from cnstra.orchestrator.errors import BrokerAway
from cnstra.workers.doorbell.consumer import Delivery
from cnstra.workers.doorbell.doorbells import BrokerFacts, Doorbells, Keeping
from cnstra.workers.doorbell.redis_line import RedisLines, command
from cnstra.workers.doorbell.redis_servers import client_of

_log = logging.getLogger("cnstra.listener")

_ANSWER_WITHIN = 1.0
"""Seconds that Redis has to take a connection, or to answer; what a command may block comes on top."""

_UNHEARD_QUEUE_EXPIRES = 24 * 3600
_HUSH_EXPIRES = 60


class _Here(NamedTuple):
    """What a process has of the server. It goes over a fork as a whole, and is not the child's then."""

    pid: int
    client: redis.Redis
    lines: RedisLines


class RedisDoorbells(Doorbells):
    """Each queue is a list of at most so many messages.

    Args:
        url: where Redis is. Options in it that would change how calls end are overruled.
        shown: the URL without secrets, for messages.
        namespace: what all keys begin with.
        client_name: what ``CLIENT LIST`` calls the connections.
        wait: seconds that ``pop`` may block.
        outstanding: how many doorbells may wait in a queue.
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
        outstanding: int,
        middleware: Sequence[Middleware],
    ) -> None:
        super().__init__(wait=wait, outstanding=outstanding, middleware=middleware)
        self._url = url
        self._shown = shown
        self._client_name = client_name
        self._prefix = f"{namespace}:doorbells:"
        self._hush_key = f"{namespace}:hush:{uuid4()}"
        self._here = self._begun()

    # What the bell asks.

    def prepare(self) -> None:
        """Hear what the server says to the last push."""
        self._connected().lines.prepare()

    def push(self, messages: Mapping[str, Sequence[bytes]]) -> bool:
        """In one packet; what would make a queue exceed its bound is dropped. What the server says to it is heard at the next
        call, which may so raise for this one.
        """
        commands: list[bytes] = []
        for queue, of_queue in messages.items():
            key = self._key(queue).encode()
            commands += [
                command(b"RPUSH", key, *of_queue),
                command(b"LTRIM", key, b"0", b"%d" % (self.outstanding - 1)),
                command(b"EXPIRE", key, b"%d" % _UNHEARD_QUEUE_EXPIRES),
            ]
        try:
            return self._connected().lines.say(commands)
        except redis.RedisError as error:
            self._away(error)

    def qsize(self, queue: str) -> int:
        here = self._connected()
        try:
            here.lines.hear()
            return here.client.llen(self._key(queue))
        except redis.RedisError as error:
            self._away(error)

    # What a doctor asks.

    def facts(self) -> BrokerFacts:
        try:
            info: dict[str, Any] = self._connected().client.info("everything")
        except redis.RedisError as error:
            self._away(error)
        valkey, append_only = info.get("valkey_version"), info.get("aof_enabled")
        return BrokerFacts(
            kind="Valkey" if valkey else "Redis",
            version=str(valkey or info.get("redis_version", "of unknown version")),
            keeping=Keeping(
                memory_limit=int(info.get("maxmemory", 0)),
                eviction=info.get("maxmemory_policy"),
                append_only=None if append_only is None else bool(append_only),
                snapshots=bool(info.get("rdb_saves", 0)) or bool(info.get("rdb_bgsave_in_progress", 0)),
            ),
        )

    # What the listener and its sources ask.

    def source(self, queue: str, slots: int) -> _List:
        return _List(self, queue, slots)

    def pop(self, queue: str) -> bytes | None:
        """The next message; None after ``wait`` seconds, or when hushed. Raises as ``push`` does."""
        keys = [self._key(queue), self._hush_key]
        try:
            found = cast("list[bytes] | None", self._connected().client.blpop(keys, timeout=self.wait))
        except redis.RedisError as error:
            self._away(error)
        if found is None or found[0] == self._hush_key.encode():
            return None
        return found[1]

    def put_back(self, queue: str, bodies: Sequence[bytes]) -> None:
        """Return messages to the front of their queue, which the next ring trims."""
        try:
            self._connected().client.lpush(self._key(queue), *bodies)
        except redis.RedisError as error:
            self._away(error)

    def hush(self) -> None:
        """Those in ``pop`` give up at once, by a key that only they wait for."""
        self.stopping.set()
        try:
            with self._connected().client.pipeline(transaction=True) as pipe:
                pipe.rpush(self._hush_key, *["hush"] * len(self.queues))
                pipe.expire(self._hush_key, _HUSH_EXPIRES)
                pipe.execute()
        except redis.RedisError:
            _log.debug("Could not wake the waiting consumers; they give up by themselves.")

    def close(self) -> None:
        """Close all connections. Idempotent; what is used afterwards connects again."""
        here = self._here
        if here.pid == os.getpid():
            here.lines.close()
            here.client.close()

    def _connected(self) -> _Here:
        here = self._here
        if here.pid != os.getpid():  # forked: the parent's sockets and locks are not ours
            here = self._here = self._begun()
        return here

    def _begun(self) -> _Here:
        """Two clients: a line keeps its connection, which no limit of the other's is to count."""
        return _Here(os.getpid(), self._open(), RedisLines(self._open()))

    def _open(self) -> redis.Redis:
        """A client whose calls end soon: redis-py's own retry for seconds, and cut blocking commands."""
        ours: dict[str, Any] = {
            "client_name": self._client_name,
            "decode_responses": False,
            "encoding": "utf-8",
            "protocol": 2,
            "retry": Retry(NoBackoff(), 0),
            "socket_connect_timeout": _ANSWER_WITHIN,
            "socket_keepalive": True,
            "socket_timeout": self.wait + _ANSWER_WITHIN,
        }
        return client_of(self._url, ours)

    def _key(self, queue: str) -> str:
        return self._prefix + queue

    def _away(self, error: redis.RedisError) -> NoReturn:
        # Idle connections go, too: after a failover they may lead to a server that can only be read.
        here = self._connected()
        here.lines.hang_up()
        here.client.connection_pool.disconnect(inuse_connections=False)
        reason = str(error).partition(" : <")[0]  # then come the Sentinels that were asked, with all their settings
        raise BrokerAway(f"The broker {self._shown} does not serve ({type(error).__name__}: {reason}).") from error


class _List:
    """The source of one consumer: asks for a doorbell when a slot is free to answer one."""

    def __init__(self, broker: RedisDoorbells, queue: str, slots: int) -> None:
        self._broker = broker
        self._queue = queue
        self._slots = threading.Semaphore(slots)

    def take(self) -> Delivery | None:
        if not self._slots.acquire(timeout=self._broker.wait):
            return None
        body = None
        try:
            body = self._broker.pop(self._queue)
        finally:
            if body is None:
                self._slots.release()
        return None if body is None else Delivery(body)

    def answered(self, delivery: Delivery) -> None:  # noqa: ARG002
        self._slots.release()

    def put_back(self, deliveries: Sequence[Delivery]) -> None:
        self._broker.put_back(self._queue, [delivery.body for delivery in deliveries])

    def close(self) -> None:
        """Nothing is left: what was popped was handed out."""
