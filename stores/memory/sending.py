"""Signals that are sent by key, to whichever run expects them."""

from __future__ import annotations

from uuid import UUID

from cnstra.orchestrator.batches import rings_of, same_payload
from cnstra.orchestrator.machine.events import Sent
from cnstra.orchestrator.ports import Ring
from cnstra.orchestrator.store import Posted, Posting
from cnstra.stores.memory.applying import carry_out, decide
from cnstra.stores.memory.operations import operation
from cnstra.stores.memory.state import PostedRow, State


class Sending:
    """The operation of clients that send by key, and what was sent before."""

    @operation
    def posted(self, state: State, graph: str, key: str, idempotency_key: str) -> tuple[str, str] | None:
        asked = (graph, key, idempotency_key)
        rows = (row for row in state.posted.values() if (row.graph, row.key, row.idempotency_key) == asked)
        return next(((row.collateral, row.payload) for row in rows), None)

    @operation
    def letter(self, state: State, run_id: UUID, idempotency_key: str) -> tuple[str, str] | None:
        sent = (row.letter.sent for row in state.letters.get(run_id, ()))
        return next(((one.collateral, one.payload) for one in sent if one.idempotency_key == idempotency_key), None)

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
