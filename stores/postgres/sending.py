"""Signals that are sent by key, to whichever run expects them.

Two meet here without a common row: who sends by a key, and who begins to expect one. Both hold the key's lock while they look
for each other, so that one of them finds the other. Runs are locked before keys: who finds that a run expects the signal
begins anew, with the run.
"""

from __future__ import annotations

from uuid import UUID

from cnstra.orchestrator.machine.events import Sent
from cnstra.orchestrator.machine.plans import Verdict
from cnstra.orchestrator.store import Posted, Posting, RunEvent
from cnstra.stores.postgres.applying import applied
from cnstra.stores.postgres.transactions import Ask, InterferenceError, Steps, operation


class Sending:
    """The operation of clients that send by key, and what was sent before."""

    @operation
    def posted(self, _repeated: bool, graph: str, key: str, idempotency_key: str) -> Steps[tuple[str, str] | None]:
        rows = yield Ask("posted_signal", {"graph": graph, "key": key, "idempotency_key": idempotency_key})
        return rows[0] if rows else None

    @operation
    def letter(self, _repeated: bool, run_id: UUID, idempotency_key: str) -> Steps[tuple[str, str] | None]:
        rows = yield Ask("letter", {"run_id": run_id, "idempotency_key": idempotency_key})
        return rows[0] if rows else None

    @operation
    def post(self, _repeated: bool, posting: Posting) -> Steps[Posted]:
        asked = {
            "graph": posting.graph,
            "key": posting.key,
            "collateral": posting.collateral,
            "payload": posting.payload,
            "idempotency_key": posting.idempotency_key,
        }
        known = yield Ask("find_posted", asked)
        if known:
            [(same, run_id)] = known
            return Posted(run_id=run_id, same=same)
        expecting = yield Ask("find_expecting", asked)
        if not expecting:
            yield Ask("lock_keys", {"graphs": [posting.graph], "keys": [posting.key]})
            if (yield Ask("find_expecting", asked)):
                raise InterferenceError(f"a run has begun to expect {posting.collateral!r} by key {posting.key!r}")
            yield from _keep(asked, None)
            return Posted(run_id=None)
        [(run_id,)] = expecting
        sent = Sent(
            collateral=posting.collateral,
            payload=posting.payload,
            idempotency_key=posting.idempotency_key,
            key=posting.key,
        )
        batch = yield from applied([RunEvent(run_id=run_id, event=sent)])
        if batch.answers[0].verdict is not Verdict.APPLIED:
            raise InterferenceError(f"run {run_id} expects {posting.collateral!r} by key {posting.key!r} no longer")
        yield from _keep(asked, run_id)
        return Posted(run_id=run_id, rings=batch.rings)


def _keep(asked: dict[str, str], run_id: UUID | None) -> Steps[None]:
    if not (yield Ask("insert_posted", asked | {"run_id": run_id})):
        raise InterferenceError(f"the same signal was sent by key {asked['key']!r} at the same moment")
