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
    """As many connections of a client as say something at the same time. For threads, and not over a fork.

    One that has not answered yet, since it was connected, is not trusted: what is said on it first waits for its answer. So a
    server that is away, or refuses, is noticed at once, or one call late on a connection where it had answered before.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._free: deque[_Line] = deque()

    def say(self, commands: Sequence[Command]) -> None:
        """Send commands, in one packet if they are short.

        Raises:
            redis.RedisError: the server is away, did not answer in time, or refused these; or it refused those before, and these
                went to it over a connection of their own.
        """
        line = self._taken() or _Line(self._client)
        try:
            line.say(commands)
        except BaseException:
            line.hang_up()
            raise
        self._free.append(line)

    def hear(self) -> None:
        """Wait until all that was said is answered. Raises as ``say`` does."""
        heard = []
        while (line := self._taken()) is not None:
            try:
                line.hear()
            except BaseException:
                line.hang_up()
                raise
            heard.append(line)
        self._free.extend(heard)

    def hang_up(self) -> None:
        """Let go of the connections, but for those on which is spoken at the moment. What follows opens others."""
        while (line := self._taken()) is not None:
            line.hang_up()

    def _taken(self) -> _Line | None:
        """That on which was spoken last: the others are left to those who speak at the same time."""
        with suppress(IndexError):
            return self._free.pop()
        return None


class _Line:
    """One of them, in one thread at a time. After an error it is of no use any more."""

    def __init__(self, client: redis.Redis) -> None:
        self._pool = client.connection_pool
        self._connection = self._pool.get_connection()
        self._unheard = 0
        self._trusted = False

    def say(self, commands: Sequence[Command]) -> None:
        refused = None
        try:
            self.hear()
            if self._trusted and self._connection.can_read():  # nothing is to come: it is the end
                self._connect()
        except redis.ConnectionError:  # it was cut meanwhile, as idle ones are
            self._connect()
        except redis.ResponseError as error:  # the server has been demoted, say: there may be another one by now
            refused = error
            self._connect()
        self._connection.send_packed_command(self._connection.pack_commands(commands))  # type: ignore[no-untyped-call]
        self._unheard = len(commands)
        if not self._trusted:
            self.hear()
            self._trusted = True
        if refused is not None:
            raise refused

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
