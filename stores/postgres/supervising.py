"""Looking after what nobody holds: the supervisor's short, idempotent looks and sweeps."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from cnstra.orchestrator.batches import rings_of
from cnstra.orchestrator.machine.records import Claimed
from cnstra.orchestrator.ports import Ring
from cnstra.orchestrator.store import Findings, LostClaim
from cnstra.stores.postgres.transactions import Ask, Steps, operation


class Supervising:
    """The operations of the one worker that supervises for the moment."""

    @operation
    def look(
        self, _repeated: bool, worker: UUID, lease: timedelta, unclaimed_after: timedelta, limit: int
    ) -> Steps[Findings]:
        if not (yield Ask("supervise", {"worker": worker, "lease": lease})):
            return Findings(elected=False)
        due = yield Ask("find_due", {"limit": limit})
        attempts_due = yield Ask("find_attempts_due", {"limit": limit})
        expectations_due = yield Ask("find_expectations_due", {"limit": limit})
        deadlines_due = yield Ask("find_deadlines_due", {"limit": limit})
        [(workers_lost,)] = yield Ask("find_workers_lost", {})
        [(suspects, limited)] = yield Ask("find_suspects", {})
        unclaimed = yield Ask("find_unclaimed", {"unclaimed_after": unclaimed_after, "limit": limit})
        if limited:
            unclaimed += yield Ask("find_limited", {"unclaimed_after": unclaimed_after, "limit": limit})
        return Findings(
            elected=True,
            due=tuple((run_id, activation_id) for run_id, activation_id in due),
            attempts_due=tuple(run_id for (run_id,) in attempts_due),
            deadlines_due=tuple(run_id for (run_id,) in deadlines_due),
            expectations_due=tuple((run_id, number) for run_id, number in expectations_due),
            workers_lost=workers_lost,
            suspects=suspects,
            unclaimed=rings_of(unclaimed),
            limited=limited,
        )

    @operation
    def lost_claims(self, _repeated: bool, limit: int) -> Steps[list[LostClaim]]:
        yield Ask("take_for_lost", {})
        yield Ask("cut_off_steps", {})
        yield Ask("forget_lost", {})
        rows = yield Ask("lost_claims", {"limit": limit})
        return [
            LostClaim(
                run_id=row[0],
                fence=Claimed(activation_id=row[1], epoch=row[2], nonce=row[3]),
                worker=row[4],
                host=row[5],
                pid=row[6],
            )
            for row in rows
        ]

    @operation
    def set_unknown_aside(self, _repeated: bool, unclaimed_after: timedelta, limit: int) -> Steps[int]:
        yield Ask("keep_registration_closed", {})
        return len((yield Ask("set_unknown_aside", {"unclaimed_after": unclaimed_after, "limit": limit})))

    @operation
    def lift_limits(self, _repeated: bool, limit: int) -> Steps[tuple[Ring, ...]]:
        yield Ask("keep_registration_closed", {})
        return rings_of((yield Ask("lift_limits", {"limit": limit})))
