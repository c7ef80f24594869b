"""When something next happens of itself: for a clock that stands still until then.

Beyond the port of stores: only who moves the clock of a store in memory asks. Whatever waits for a time is named here, or that
clock would pass over it.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from cnstra.orchestrator.machine.states import ActivationStatus, RunStatus
from cnstra.stores.memory.operations import operation
from cnstra.stores.memory.state import State
from cnstra.stores.memory.supervising import may_pass


class Moments:
    """The operation of who moves the clock."""

    @operation
    def next_moment(self, state: State) -> datetime | None:
        """The first moment at which a supervisor finds something to do, also one that has passed; None when that is never.

        The leases of workers that hold something count, whether somebody would renew them or not.
        """
        return min(_moments(state), default=None)


def _moments(state: State) -> Iterator[datetime]:
    for row in state.with_status(ActivationStatus.SCHEDULED):
        yield row.activation.available_at or row.created_at
    for run in [kept.run for kept in state.runs.values()]:
        if run.next_retry_at is not None and run.status is RunStatus.WAITING:
            yield run.next_retry_at
        if run.deadline_at is not None and may_pass(run):
            yield run.deadline_at
    for expectations in state.expectations.values():
        yield from (one.expires_at for one in expectations.values() if one.expires_at is not None)
    for lease in state.workers.values():
        if state.claims_of(lease.info.worker):
            # A lease is there up to its last moment, and is lost with the next one that a clock can show.
            yield lease.lost_at or lease.expires_at + datetime.resolution
