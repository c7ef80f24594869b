"""Connections to Redis on which nobody waits for an answer: each is heard when the next thing is to be said.

Who rings goes on as soon as the socket has what he says; what the server answers comes meanwhile, and is told to the next caller.
Owns what has not been heard yet, and which connection may be trusted so far. Refuses to know what is said.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import redis

Command = Sequence[Any]


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

    def say(self, commands: Sequence[Command]) -> bool:
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

    def say(self, commands: Sequence[Command]) -> bool:
        refused = None
        try:
            self.hear()
            if self._trusted and self._connection.can_read():  # nothing is to come: it is the end
                self._connect()
        except redis.ConnectionError:  # it was cut meanwhile, as idle ones are; what was not answered then is lost
            self._connect()
        except redis.ResponseError as error:  # the server has been demoted, say: there may be another one by now
            refused = error
            self._connect()
        self._connection.send_packed_command(self._connection.pack_commands(commands))  # type: ignore[no-untyped-call]
        self._unheard = len(commands)
        answered = not self._trusted
        if answered:
            self.hear()
            self._trusted = True
        if refused is not None:
            raise refused
        return answered

    def hear(self) -> None:
        while self._unheard:
            self._connection.read_response()
            self._unheard -= 1

    def hang_up(self) -> None:
        self._connection.disconnect()  # type: ignore[no-untyped-call]
        self._pool.release(self._connection)

    def _connect(self) -> None:
        self._connection.disconnect()  # type: ignore[no-untyped-call]
        self._connection.connect()  # type: ignore[no-untyped-call]
        self._unheard, self._trusted = 0, False
