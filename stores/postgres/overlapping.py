"""A connection on which the caller does something else while the server is at a statement.

A thread that waits for the server has a few hundred microseconds to itself. What it needs right after can be made ready in them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.rows import TupleRow

T = TypeVar("T")


class OverlappingConnection(psycopg.Connection[TupleRow]):
    """One for blocking callers. psycopg's own way of waiting, with a look aside."""

    _meanwhile: Callable[[], None] | None = None

    def do_meanwhile(self, something: Callable[[], None]) -> None:
        """Call this as soon as the next statement is sent, or is sent to be prepared.

        It should raise nothing. What somebody else raises in it, a signal's handler above all, reaches the caller. The server's
        answer is not read then, so that a pool lets go of the connection.
        """
        self._meanwhile = something

    def wait(self, gen: PQGen[T], *args: Any, **kwargs: Any) -> T:
        """Carry out what a generator has to say to the server. By psycopg's own methods it is called for each statement."""
        something, self._meanwhile = self._meanwhile, None
        return super().wait(gen if something is None else _overlapped(gen, something), *args, **kwargs)


def _overlapped(gen: PQGen[T], something: Callable[[], None]) -> PQGen[T]:
    """The same generator, which has its caller do something when it waits for the first time: then all is sent."""
    done, ready = False, None
    while True:
        try:
            awaited = gen.send(ready)  # type: ignore[arg-type]  # None begins it
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        if not done:
            done = True
            something()
        ready = yield awaited
