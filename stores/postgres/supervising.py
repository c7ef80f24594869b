"""Looking after what nobody holds: the supervisor's short, idempotent looks and sweeps."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from cnstra.orchestrator.batches import rings_of
from cnstra.orchestrator.machine.records import Claimed
from cnstra.orchestrator.ports import Ring
from cnstra.orchestrator.store import Findings, LostClaim
from cnstra.stores.postgres.transactions import Ask, PostgresOperation, Rows, Steps, operation


class Supervising:
    """The operations of the one worker that supervises for the moment."""

    def look(
        self, worker: UUID, lease: timedelta, unclaimed_after: timedelta, limit: int
    ) -> PostgresOperation[Findings]:
        return PostgresOperation(
            "look", lambda _repeated: self._look(worker, lease, unclaimed_after, limit), at_once=True
        )

    def _look(self, worker: UUID, lease: timedelta, unclaimed_after: timedelta, limit: int) -> Steps[Findings]:
        asked = {"worker": worker, "lease": lease, "unclaimed_after": unclaimed_after}
        [(elected, due, attempts, expectations, deadlines, workers_lost, apart, ready)] = yield Ask("glance", asked)
        if not elected:
            return Findings(elected=False, waits=ready or apart)
        found: dict[str, Rows] = {}
        for statement, there in (
            ("find_due", due),
            ("find_attempts_due", attempts),
            ("find_expectations_due", expectations),
            ("find_deadlines_due", deadlines),
        ):
            found[statement] = (yield Ask(statement, {"limit": limit})) if there else []
        suspects = limited = False
        if apart:
            [(suspects, limited)] = yield Ask("find_suspects", {})
        unclaimed: Rows = []
        late = {"unclaimed_after": unclaimed_after, "limit": limit}
        if ready:
            unclaimed += yield Ask("find_unclaimed", late)
        if limited:
            unclaimed += yield Ask("find_limited", late)
        return Findings(
            elected=True,
            waits=ready or apart,
            due=tuple((run_id, activation_id) for run_id, activation_id in found["find_due"]),
            attempts_due=tuple(run_id for (run_id,) in found["find_attempts_due"]),
            deadlines_due=tuple(run_id for (run_id,) in found["find_deadlines_due"]),
            expectations_due=tuple((run_id, number) for run_id, number in found["find_expectations_due"]),
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
