"""Signals that are sent by key, to whichever run expects them."""

from __future__ import annotations

from cnstra.orchestrator.batches import rings_of, same_payload
from cnstra.orchestrator.machine.events import Sent
from cnstra.orchestrator.ports import Ring
from cnstra.orchestrator.store import Posted, Posting
from cnstra.stores.memory.applying import carry_out, decide
from cnstra.stores.memory.operations import operation
from cnstra.stores.memory.state import PostedRow, State


class Sending:
    """The operation of clients that send by key."""

    @operation
    def post(self, state: State, posting: Posting) -> Posted:
        for row in state.posted.values():
            if (row.graph, row.key, row.idempotency_key) == (posting.graph, posting.key, posting.idempotency_key):
                same = row.collateral == posting.collateral and same_payload(row.payload, posting.payload)
                return Posted(run_id=row.run_id, same=same)
        now = state.now()
        expecting = min(
            (
                run_id
                for run_id, of_run in state.expectations.items()
                if state.runs[run_id].submission.graph == posting.graph
                and any((one.key, one.collateral) == (posting.key, posting.collateral) for one in of_run.values())
            ),
            default=None,
        )
        rings: tuple[Ring, ...] = ()
        if expecting is not None:
            sent = Sent(
                collateral=posting.collateral,
                payload=posting.payload,
                idempotency_key=posting.idempotency_key,
                key=posting.key,
            )
            rings = rings_of(carry_out(state, decide(state, expecting, [sent], now), now))
        state.last_posted += 1
        state.posted[state.last_posted] = PostedRow(
            graph=posting.graph,
            key=posting.key,
            collateral=posting.collateral,
            payload=posting.payload,
            idempotency_key=posting.idempotency_key,
            sent_at=now,
            run_id=expecting,
        )
        return Posted(run_id=expecting, rings=rings)
