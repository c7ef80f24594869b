"""Who acts from outside: the customers, who order and may think better of it, and the office, which decides what waits for it."""

from __future__ import annotations

import time
from contextlib import suppress

import psycopg

from cnstra import Orchestrator, Run, RunStateError
from order_approval.books import chance
from order_approval.orders import Decision, order_decided, order_placed
from order_approval.plan import Kind, Planned

_ON_THE_DESK = """
select r.idempotency_key from cnstra.runs r join cnstra.activations a using (run_id)
where r.tags @> jsonb_build_object('day', %s::text)
  and r.status = 'waiting' and a.status = 'waiting' and a.collateral = 'order.decided'
"""

_REGRET_WITHIN = 0.3  # seconds


class People:
    """The office and the customers of one day."""

    def __init__(self, orchestrator: Orchestrator, connection: psycopg.Connection, day: str) -> None:
        self.day = day
        self._orchestrator = orchestrator
        self._connection = connection
        self._placed: dict[str, tuple[Planned, Run]] = {}
        self._regrets: list[tuple[float, Run]] = []
        self._seen: set[str] = set()

    def place(self, planned: Planned) -> None:
        """A customer orders. The order's number is the idempotency key, so that it cannot be placed twice."""
        order = planned.order
        run = self._orchestrator.submit(
            order_placed.create_signal(order),
            idempotency_key=order.id,
            deadline=planned.deadline,
            tags={"day": self.day},
        )
        self._placed[order.id] = planned, run
        if planned.kind is Kind.REGRETTED:  # at whatever step the order may be then
            self._regrets.append((time.monotonic() + _REGRET_WITHIN * chance("regret", order.id), run))

    def act(self) -> None:
        """Do what is to be done by now."""
        for due in [one for one in self._regrets if one[0] <= time.monotonic()]:
            self._regrets.remove(due)
            _cancel(due[1])
        for (order_id,) in self._connection.execute(_ON_THE_DESK, [self.day]).fetchall():
            if order_id not in self._seen:
                self._seen.add(order_id)
                self._handle(*self._placed[order_id])

    def _handle(self, planned: Planned, run: Run) -> None:
        """An order waits for the office."""
        match planned.kind:
            case Kind.APPROVED | Kind.REGRETTED:
                self._decide(planned, approved=True)
            case Kind.REJECTED:
                self._decide(planned, approved=False)
            case Kind.CANCELLED:
                _cancel(run)
            case _:  # the office never comes to it
                pass

    def _decide(self, planned: Planned, *, approved: bool) -> None:
        """By the order's number: the office needs to know no run."""
        decision = order_decided.create_signal(Decision(approved=approved, by="the office"))
        self._orchestrator.send(decision, key=planned.order.id, idempotency_key=planned.order.id)


def _cancel(run: Run) -> None:
    """The customer cancels: what was done is undone. For an order that has ended it is too late."""
    with suppress(RunStateError):
        run.cancel(compensate=True)
