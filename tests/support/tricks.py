"""What a worker of the fault tests can be made to do differently before it starts: each trick stands for something that
the engine must bear, and says what.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from cnstra.orchestrator import values
from cnstra.orchestrator.graph.payload import plain
from cnstra.orchestrator.store import AppliedBatch, Operation, RunEvent
from cnstra.workers import committing
from support.faulty_worker import WatchedStore


def settle_backwards() -> None:
    """Batches come in the opposite order of that in which their hops ended."""
    apply = WatchedStore.apply

    def backwards(self: WatchedStore, events: Sequence[RunEvent]) -> Operation[AppliedBatch]:
        plain: Any = apply(self, list(reversed(events)))
        steps = plain.steps

        def turned(repeated: bool) -> Any:
            applied = yield from steps(repeated)
            left = tuple(len(events) - 1 - place for place in reversed(applied.left))
            return AppliedBatch(answers=tuple(reversed(applied.answers)), rings=applied.rings, left=left)

        return replace(plain, steps=turned)

    WatchedStore.apply = backwards  # type: ignore[method-assign]


def one_commit_at_a_time() -> None:
    """What ends while one is under way is settled together, however many commits could be."""
    committing.IN_FLIGHT = 1


def open_the_door() -> None:
    """Text that Postgres cannot hold passes the checks of payloads and of the context, so that only Postgres refuses it."""
    values._check_text = lambda text: None
    plain.text = lambda value: value
