"""Connections to Redis on which nobody waits for an answer: each is heard when the next thing is to be said, or soon will be.

Who rings goes on as soon as the socket has what he says; what the server answers comes meanwhile, and is told to the next caller.
Owns what has not been heard yet, and which connection may be trusted so far. Refuses to know what is said.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress

import redis

_LOOKED = 0.005
"""Seconds for which a connection that was looked at is taken to be there. One that ends in them takes along what is said then."""


def command(*words: bytes) -> bytes:
    """A command as Redis reads it: an array of strings of its serialization protocol, RESP."""
    return b"*%d\r\n" % len(words) + b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in words])


class RedisLines:
    """As many connections as say something at the same time: they are this object's own. For threads, and not over a fork.

    One that has not answered yet, since it was connected, is not trusted: what is said on it first waits for its answer. So a
    server that is away, or refuses, is noticed at once, or else by the next thing that is said on that connection.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._free: deque[_Line] = deque()
        self._generation = 0
        self._closed = False

    def say(self, commands: Sequence[bytes]) -> bool:
        """Send commands, in one packet if they are short. Whether they are answered; if not, that comes later.

        Raises:
            redis.RedisError: the server is away, did not answer in time, or refused these; or it refused those before, and these
                went to it over a connection of their own.
        """
        generation = self._generation
        line = self._taken() or _Line(self._client)
        try:
            answered = line.say(commands)
        except BaseException:
            line.hang_up()
            raise
        self._put_back(line, generation)
        return answered

    def prepare(self) -> None:
        """Something is to be said soon: hear the answers that have come meanwhile, and look whether the connection is there.

        Waits for no answer that has not begun to come, and raises nothing of the broker's: what is wrong is told to who says
        something next.
        """
        generation = self._generation
        line = self._taken()
        if line is None:
            return
        try:
            line.prepare()
        except BaseException:
            line.hang_up()
            raise
        self._put_back(line, generation)

    def hear(self) -> None:
        """Wait until all that was said is answered, but for what is said at the moment. Raises as ``say`` does."""
        generation, failed = self._generation, None
        for line in self._all_taken():
            if isinstance(failed, redis.TimeoutError):  # one of them is enough to wait for
                line.hang_up()
                continue
            try:
                line.hear()
            except redis.RedisError as error:
                line.hang_up()
                failed = error
            else:
                self._put_back(line, generation)
        if failed is not None:
            raise failed

    def hang_up(self) -> None:
        """Let go of the connections; of those on which is spoken at the moment, after that. What follows opens others."""
        self._generation += 1
        for line in self._all_taken():
            line.hang_up()

    def close(self) -> None:
        """Wait for all answers, as long as they come, and let go of the connections for good."""
        self._closed = True
        with suppress(redis.RedisError):
            self.hear()
        self.hang_up()

    def _put_back(self, line: _Line, generation: int) -> None:
        self._free.append(line)
        if self._closed or generation != self._generation:  # it would have been hung up, had it been free then
            with suppress(ValueError):
                self._free.remove(line)
                line.hang_up()

    def _taken(self) -> _Line | None:
        """That on which was spoken last: the others are left to those who speak at the same time."""
        with suppress(IndexError):
            return self._free.pop()
        return None

    def _all_taken(self) -> list[_Line]:
        taken = []
        while (line := self._taken()) is not None:
            taken.append(line)
        return taken


class _Line:
    """One of them, in one thread at a time. After an error it is of no use any more."""

    def __init__(self, client: redis.Redis) -> None:
        self._pool = client.connection_pool
        self._connection = self._pool.get_connection()
        self._unheard = 0
        self._trusted = False
        self._failed: redis.RedisError | None = None  # what nobody has been told yet
        self._looked_at = 0.0

    def prepare(self) -> None:
        if self._failed is not None:
            return
        try:
            while self._unheard and self._connection.can_read():
                self._hear_one()
            if self._trusted and not self._unheard and not self._connection.can_read():
                self._looked_at = time.monotonic()
        except redis.ConnectionError:
            self._begin_anew()
        except redis.RedisError as error:
            self._failed = error

    def say(self, commands: Sequence[bytes]) -> bool:
        refused = None
        try:
            self.hear()
            self._look()
        except redis.ConnectionError:  # it was cut meanwhile, as idle ones are; what was not answered then is lost
            self._begin_anew()
        except redis.ResponseError as error:  # the server has been demoted, say: there may be another one by now
            refused = error
            self._begin_anew()
        self._connection.send_packed_command([b"".join(commands)])  # type: ignore[no-untyped-call]
        self._unheard = len(commands)
        answered = not self._trusted
        if answered:
            self.hear()
            self._trusted = True
        if refused is not None:
            raise refused
        return answered

    def hear(self) -> None:
        if self._failed is not None:
            failed, self._failed = self._failed, None
            raise failed
        while self._unheard:
            self._hear_one()

    def _hear_one(self) -> None:
        self._connection.read_response()
        self._unheard -= 1

    def _look(self) -> None:
        """Begin anew where nobody is there any more, unless somebody was just now. Nothing is to come: it would be the end."""
        looked_at, self._looked_at = self._looked_at, 0.0
        if self._trusted and time.monotonic() - looked_at > _LOOKED and self._connection.can_read():
            self._begin_anew()

    def hang_up(self) -> None:
        self._connection.disconnect()  # type: ignore[no-untyped-call]
        self._pool.release(self._connection)

    def _begin_anew(self) -> None:
        """What is said next is said over a new connection."""
        self._connection.disconnect()  # type: ignore[no-untyped-call]
        self._unheard, self._trusted = 0, False
