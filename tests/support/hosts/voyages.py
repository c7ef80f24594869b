"""Load: voyages that come one after the other, each with a plan, and come to exactly what that says."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

from cnstra import Run
from support.commands import WorkerCommand
from support.customers import Customers
from support.graphs import journeys
from support.hosts.outpost import Outpost
from support.soundness import assert_sound
from support.stage import PATIENCE
from support.storm import expected_of, outcome_of
from support.waiting import eventually

_CLOSELY = 200
"""At so many of them everything that is stored is held together: for each, all calls of all are read."""


class Voyages:
    """Submitted from this machine without a pause, as long as ``coming`` lasts; a seed decides of what kind they are."""

    def __init__(self, outpost: Outpost, seed: int) -> None:
        self._outpost = outpost
        self._stage = outpost.stage
        self._random = random.Random(seed)
        self._client = outpost.stage.client(journeys.voyage)
        self._plans: list[journeys.Plan] = []
        self._customers = Customers(outpost.stage.database_url, self._embark)

    @contextmanager
    def coming(self) -> Iterator[None]:
        """Let them come while the block lasts."""
        with self._customers.coming(), self._outpost.telling():
            yield

    def move_on(self, voyages: int) -> None:
        """Wait until so many more have arrived."""
        self._customers.move_on(voyages, PATIENCE)

    def worked_by(self, worker: WorkerCommand) -> None:
        """Wait until a worker calls a handler, from now on."""
        before = self._calls_of(worker)
        eventually(lambda: self._calls_of(worker) > before, PATIENCE, what=f"worker process {worker.pid} works")

    def assert_all_arrived(self) -> None:
        """Wait for all of them. Each came to what its plan says; of many, the rows and the calls agree with that."""
        with self._outpost.telling():
            self._stage.all_completed(self._customers.runs)
        found = self._stage.rows(
            "select r.run_id, r.status, r.outputs, r.context_version, c.data, r.outstanding, "
            "(r.entry_payload ->> 'number')::int as number, "
            "(select count(*) from cnstra.activations a where a.run_id = r.run_id and a.status = 'done') as done "
            "from cnstra.runs r join cnstra.context c using (run_id) "
            "where r.graph = 'voyage' order by number"
        )
        assert [row["number"] for row in found] == [plan["number"] for plan in self._plans]
        for row, plan in zip(found, self._plans, strict=True):
            assert outcome_of(row) == expected_of(plan), self._stage.report(row["run_id"])
        for row in self._random.sample(found, min(_CLOSELY, len(found))):
            assert_sound(self._stage, row["run_id"])
        steps = sum(len(plan["fails"]) + 2 for plan in self._plans)
        voyages = {row["run_id"] for row in found}
        assert len({entry.key for entry in self._stage.ledger.entries() if entry.run_id in voyages}) == steps

    def _embark(self, number: int) -> Run:
        fails = [self._random.choice([0, 0, 0, 1]) for _ in range(self._random.randint(2, 6))]
        plan: journeys.Plan = {"number": number, "fails": fails, "lost": []}
        self._plans.append(plan)
        return self._client.submit(journeys.embark.create_signal(plan), idempotency_key=f"voyage {number}")

    def _calls_of(self, worker: WorkerCommand) -> int:
        return sum(entry.pid == worker.pid for entry in self._stage.ledger.entries())
