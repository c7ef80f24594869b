"""Watching a batch: how many of its runs stand how, asked from the view ``cnstra.runs`` a few times a second."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping

import psycopg
from psycopg.types.json import Jsonb

from order_saga.stage.commands import DemoError
from order_saga.stage.crew import Crew
from order_saga.stage.screen import Screen

_COUNTS = "select status, count(*) from cnstra.runs where tags @> %s group by status"
_ENDED = ("completed", "failed", "compensated", "cancelled")
_PAUSE = 0.2
_STALLED = 120.0


class Watch:
    """One batch, seen from outside."""

    def __init__(self, connection: psycopg.Connection, batch: str, crew: Crew, screen: Screen) -> None:
        self._connection = connection
        self._batch = batch
        self._crew = crew
        self._screen = screen

    def counts(self) -> Counter[str]:
        """Status to number of runs."""
        return Counter(dict(self._connection.execute(_COUNTS, [Jsonb({"batch": self._batch})]).fetchall()))

    def until_open(self, at_most: int, *, last: bool = False) -> None:
        """Show progress until no more than so many runs have not ended; as the ``last`` progress of an act, in full.

        Raises ``DemoError`` when a worker ends of itself, or nothing moves any more.
        """
        before, moved = Counter[str](), time.monotonic()
        while True:
            counts = self.counts()
            still_open = counts.total() - sum(counts[status] for status in _ENDED)
            done = still_open <= at_most
            if counts:
                self._screen.progress(_line(counts), now=done and last)
            if done:
                return
            self._crew.check()
            if counts != before:
                before, moved = counts, time.monotonic()
            elif time.monotonic() - moved > _STALLED:
                raise DemoError(f"nothing has moved for {_STALLED:.0f} s: {_line(counts)}; see `cnstra doctor`")
            time.sleep(_PAUSE)


def _line(counts: Mapping[str, int]) -> str:
    """Such as ``submitted 3,500 · running 812 · completed 2,650 · failed 38``."""
    shown = {"submitted": sum(counts.values())}
    shown |= {status: counts[status] for status in ("running", "waiting", *_ENDED) if counts.get(status)}
    return " · ".join(f"{name} {count:,}" for name, count in shown.items())
