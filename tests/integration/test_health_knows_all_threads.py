"""Which of a worker's threads have to be there for it to live: none that it begins is left out."""

from __future__ import annotations

import threading

from cnstra.running.health import lost_threads
from support.sealed import small
from support.serving import serving

_OTHERS = ("cnstra-call-", "cnstra-worker-", "cnstra-scheduler", "cnstra-readmit", "cnstra-overdue")
"""Those that call handlers are replaced by themselves, and those of pools by the pools; the rest comes and goes."""


def test_each_thread_that_a_worker_begins_is_missed_once_it_has_ended(database_url: str, broker_url: str) -> None:
    """A worker that goes on without one of them would leave something undone, and nobody would know."""
    before = set(threading.enumerate())

    with serving(small, database_url, broker_url):
        assert lost_threads() == ()
        begun = {thread.name for thread in set(threading.enumerate()) - before}

    own = {name for name in begun if name.startswith("cnstra-") and not name.startswith(_OTHERS)}
    assert own == set(lost_threads())
