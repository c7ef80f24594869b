"""Customers: runs that come one after the other, without a pause, while something happens to who carries them out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

import psycopg

from cnstra import Run
from support.waiting import eventually

_AHEAD = 12
"""So many are on their way at most: more would wait in line, and not meet what happens."""

_ENDED = "select count(*) from cnstra.run where run_id = any(%s) and finished_at is not null"


class Coming:
    """Somebody who comes by ``_come``, on a thread of its own, until there are ``_enough``."""

    def __init__(self, database_url: str) -> None:
        self._enough = threading.Event()
        self._database_url = database_url

    @contextmanager
    def coming(self) -> Iterator[None]:
        """Let them come while the block lasts."""
        thread = threading.Thread(target=self._come)
        thread.start()
        try:
            yield
        finally:
            self._enough.set()
            thread.join()

    def _come(self) -> None:
        raise NotImplementedError

    def _is_crowded(self, runs: Collection[Run]) -> bool:
        """Whether more would only wait in line, behind these. While the server is away nobody knows, and they may come."""
        try:
            return len(runs) - self._ended(runs) >= _AHEAD
        except psycopg.Error:
            return False

    def _ended(self, runs: Collection[Run]) -> int:
        """How many of these have."""
        with psycopg.connect(self._database_url, autocommit=True, connect_timeout=2) as connection:
            (ended,) = connection.execute(_ENDED, [[run.id for run in runs]]).fetchone() or (0,)
        return int(ended)


class Customers(Coming):
    """``submit`` is called with 0, 1, 2 … as long as ``coming`` lasts; ``runs`` are what came of it."""

    def __init__(self, database_url: str, submit: Callable[[int], Run]) -> None:
        super().__init__(database_url)
        self.runs: list[Run] = []
        self._submit = submit

    def move_on(self, runs: int, patience: float) -> None:
        """Wait until so many more have ended."""
        enough = self._ended(self.runs) + runs
        eventually(lambda: self._ended(self.runs) >= enough, patience, what=f"{runs} more runs end")

    def _come(self) -> None:
        while not self._enough.wait(0.01):
            if not self._is_crowded(self.runs):
                self.runs.append(self._submit(len(self.runs)))
