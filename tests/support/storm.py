"""A storm: workers, servers and wires die in an order that a seed decides, while runs come and go.

What the seed decides is the same each time; when it meets the runs is not. Nothing here waits for a time: the next blow
comes when the runs have moved on a little.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Literal

import redis

from cnstra import Run
from cnstra.servers import HeldServers
from support import graphs
from support.points import POINTS, Fault
from support.soundness import assert_sound
from support.stage import PATIENCE, Stage, WorkerProcess
from support.waiting import eventually
from support.wire import Wire

WORKERS = 3
_BYTES_A_CALL = 200
"""Of the ledger, about."""


class Storm:
    """One storm over one stage."""

    def __init__(self, stage: Stage, servers: HeldServers, database: Wire, broker: Wire, seed: int) -> None:
        self._stage = stage
        self._servers = servers
        self._wires = (database, broker)
        self._random = random.Random(seed)
        self._crew: list[WorkerProcess] = []
        self._frozen: list[WorkerProcess] = []
        self._mined: list[WorkerProcess] = []
        self._plans: dict[int, graphs.Plan] = {}
        self._runs: list[Run] = []
        self._client = stage.client(graphs.voyage)
        self.blows: list[str] = []

    def rage(self, voyages: int, *, at_once: int) -> None:
        """Let so many voyages begin, so many at a time, with a blow whenever they have moved on; until all have ended."""
        for _ in range(WORKERS):
            self._hire()
        while len(self._runs) < voyages:
            self._embark(min(at_once, voyages - len(self._runs)))
            for _ in range(2):
                self._move_on()
                self._strike()
        while self._moves() is not None and self._random.random() < 0.9:
            self._move_on()
            self._strike()
        for worker in self._frozen:
            worker.thaw()
        self._crew += self._frozen
        self._stage.all_completed(self._runs)

    # -- the runs --------------------------------------------------------------------------------------------------

    def _embark(self, number: int) -> None:
        plans = [self._plan(len(self._runs) + place) for place in range(number)]
        self._plans.update({plan["number"]: plan for plan in plans})
        self._runs += self._client.submit_many([graphs.embark.create_signal(plan) for plan in plans])

    def _plan(self, number: int) -> graphs.Plan:
        width = self._random.randint(2, 6)
        fails = [self._random.choice([0, 0, 0, 1, 2]) for _ in range(width)]
        lost = [leg for leg in range(width) if self._random.random() < 0.05]
        return {"number": number, "fails": fails, "lost": lost}

    def _moves(self) -> int | None:
        """About how many calls were made so far; None when all runs have ended."""
        left = self._stage.rows("select 1 from cnstra.run where finished_at is null limit 1")
        ledger = self._stage.ledger.path
        return (ledger.stat().st_size if ledger.exists() else 0) // _BYTES_A_CALL if left else None

    def _move_on(self) -> None:
        before = self._moves()
        enough = self._random.randint(5, 60)

        def moved() -> bool:
            now = self._moves()
            return before is None or now is None or now >= before + enough

        eventually(moved, PATIENCE, what="the runs move on")

    # -- the blows -------------------------------------------------------------------------------------------------

    def _strike(self) -> None:
        self._look_after_the_mined()
        blows: dict[Callable[[], None], int] = {
            self._kill: 4,
            self._mine: 8,
            self._freeze: 4,
            self._thaw: 4,
            self._replace: 2,
            self._flush: 3,
            self._cut: 4,
            self._crash_postgres: 2,
            self._crash_valkey: 2,
        }
        (blow,) = self._random.choices(list(blows), weights=list(blows.values()))
        self.blows.append(blow.__name__.strip("_"))
        blow()

    def _hire(self) -> None:
        through_wires = self._random.random() < 0.7
        database, broker = self._wires
        self._crew.append(
            self._stage.start(
                graphs.voyage,
                database_url=database.url if through_wires else None,
                broker_url=broker.url if through_wires else None,
                lease=timedelta(seconds=2),
                poison_limit=1_000,
                threads=self._random.randint(1, 6),
                streak=self._random.choice([0, 2, 100]),
                unclaimed_after=timedelta(milliseconds=200),
            )
        )

    def _pick(self) -> WorkerProcess:
        return self._crew.pop(self._random.randrange(len(self._crew)))

    def _kill(self) -> None:
        self._pick().kill()
        self._hire()

    def _mine(self) -> None:
        """One will be killed, or frozen, at a boundary of a hop, whenever it comes by there; another takes its place."""
        worker = self._pick()
        action: Literal["kill", "stop"] = self._random.choice(["kill", "kill", "stop"])
        fault = Fault(point=self._random.choice(POINTS), action=action, after=self._random.randint(0, 20))
        self.blows[-1] += f" {fault.point}: {action}"
        worker.arm(fault)
        self._mined.append(worker)
        self._hire()

    def _look_after_the_mined(self) -> None:
        """Those whose mine has gone off are dead, or among the frozen."""
        self._frozen += [worker for worker in self._mined if worker.is_frozen]
        self._mined = [worker for worker in self._mined if worker.alive and worker not in self._frozen]

    def _replace(self) -> None:
        """A deploy: one ends in good order, another comes."""
        self._pick().drain()
        self._hire()

    def _freeze(self) -> None:
        if len(self._crew) > 1:
            worker = self._pick()
            worker.freeze()
            self._frozen.append(worker)

    def _thaw(self) -> None:
        if self._frozen:
            worker = self._frozen.pop(0)
            worker.thaw()
            self._crew.append(worker)

    def _flush(self) -> None:
        with redis.Redis.from_url(self._stage.broker_url) as broker:
            broker.flushall()

    def _cut(self) -> None:
        self._random.choice(self._wires).cut()

    def _crash_postgres(self) -> None:
        self._servers.restart_postgres("immediate")

    def _crash_valkey(self) -> None:
        self._servers.restart_valkey("immediate")

    # -- after it --------------------------------------------------------------------------------------------------

    def assert_calm(self, *, look_closely_at: int) -> None:
        """Every voyage came to exactly what its plan says; of so many, all that is stored is held together."""
        found = self._stage.rows(
            "select r.run_id, r.status, r.outputs, r.context_version, c.data, r.outstanding, "
            "(r.entry_payload ->> 'number')::int as number, "
            "(select count(*) from cnstra.activations a where a.run_id = r.run_id and a.status = 'done') as done "
            "from cnstra.runs r join cnstra.context c using (run_id)"
        )
        assert sorted(row["number"] for row in found) == sorted(self._plans)
        for row in found:
            assert _outcome(row) == _expected(self._plans[row["number"]]), self._stage.report(row["run_id"])
        steps = sum(len(plan["fails"]) + 2 for plan in self._plans.values())
        assert len(self._stage.ledger.effects()) == steps
        for run in self._random.sample(self._runs, min(look_closely_at, len(self._runs))):
            assert_sound(self._stage, run.id)
        for worker in self._crew:
            assert worker.drain(), worker.log()
        assert self._stage.rows("select * from cnstra.activation where status not in ('done', 'failed')") == []


def _outcome(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("status", "outputs", "context_version", "data", "outstanding", "done")}


def _expected(plan: graphs.Plan) -> dict[str, Any]:
    width = len(plan["fails"])
    miles = plan["number"] * sum(range(width))
    return {
        "status": "completed",
        "outputs": [{"collateral": "voyage.summed_up", "payload": miles}],
        "context_version": width + 2,
        "data": {"at sea": 0, "miles": miles, "total": miles},
        "outstanding": 0,
        "done": width + 2,
    }
