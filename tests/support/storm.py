"""A storm: workers, servers and wires die in an order that a seed decides, while runs come and go, and people cancel them.

Voyages come to exactly what their plans say, also where somebody pauses them; trips may be cancelled, or be too late, or go
wrong, and are undone then.

What the seed decides is the same each time; when it meets the runs is not. Nothing here waits for a time: the next blow
comes when the runs have moved on a little.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Literal

from cnstra import Run, RunStateError, StoreUnavailable
from cnstra.servers import HeldServers
from support.graphs import journeys
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
        self._plans: dict[int, journeys.Plan] = {}
        self._runs: list[Run] = []
        self._trips: list[Run] = []
        self._paused: list[Run] = []
        self._client = stage.client(journeys.season)
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
        eventually(self._resume, PATIENCE, what="everything goes on")
        self._stage.all_completed(self._runs)
        for trip in self._trips:
            self._stage.ended(trip)

    # -- the runs --------------------------------------------------------------------------------------------------

    def _embark(self, number: int) -> None:
        plans = [self._plan(len(self._runs) + place) for place in range(number)]
        self._plans.update({plan["number"]: plan for plan in plans})
        self._runs += self._client.submit_many([journeys.embark.create_signal(plan) for plan in plans])
        for _ in range(number // 2):
            self._book()

    def _book(self) -> None:
        """A trip that may go wrong, or be too late."""
        goes_wrong = self._random.random() < 0.3
        deadline = timedelta(seconds=self._random.choice([2, 5])) if self._random.random() < 0.2 else None
        self._trips.append(
            self._client.submit(journeys.plan_trip.create_signal({"goes_wrong": goes_wrong}), deadline=deadline)
        )

    def _plan(self, number: int) -> journeys.Plan:
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
            if not self._stage.rows(
                "select 1 from cnstra.run where finished_at is null and status <> 'paused' limit 1"
            ):
                self._resume()
            return before is None or now is None or now >= before + enough

        eventually(moved, PATIENCE, what="the runs move on")

    # -- the blows -------------------------------------------------------------------------------------------------

    def _strike(self) -> None:
        self._look_after_the_mined()
        self._resume()
        blows: dict[Callable[[], None], int] = {
            self._kill: 4,
            self._mine: 8,
            self._freeze: 4,
            self._thaw: 4,
            self._replace: 2,
            self._flush: 3,
            self._cut: 4,
            self._crash_postgres: 2,
            self._crash_broker: 2,
            self._pause: 4,
            self._cancel: 6,
        }
        (blow,) = self._random.choices(list(blows), weights=list(blows.values()))
        self.blows.append(blow.__name__.strip("_"))
        blow()

    def _hire(self) -> None:
        through_wires = self._random.random() < 0.7
        database, broker = self._wires
        self._crew.append(
            self._stage.start(
                journeys.season,
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
        self._stage.lose_doorbells()

    def _cut(self) -> None:
        self._random.choice(self._wires).cut()

    def _crash_postgres(self) -> None:
        self._servers.restart_postgres("immediate")

    def _crash_broker(self) -> None:
        self._stage.broker.stop()
        self._stage.broker.start()

    # -- what people ask ------------------------------------------------------------------------------------------

    def _pause(self) -> None:
        """Some runs are paused, of either kind, until the next blow."""
        for run in self._random.sample(self._runs + self._trips, 5):
            self._asks(run.pause)  # where the reply is lost, it may be paused all the same
            self._paused.append(run)

    def _resume(self) -> bool:
        """Let everything go on that was paused; whether all of it could be told."""
        self._paused = [run for run in self._paused if not self._asks(run.resume)]
        return not self._paused

    def _cancel(self) -> None:
        """Some of the newest trips are cancelled, one way or the other."""
        for trip in self._random.sample(self._trips[-8:], min(3, len(self._trips))):
            compensate = self._random.random() < 0.7
            self._asks(lambda: trip.cancel(compensate=compensate))  # noqa: B023 - called at once

    def _asks(self, ask: Callable[[], None]) -> bool:
        """Ask something of a run, unless Postgres is away; one that has ended, or ends otherwise, says so."""
        try:
            ask()
        except RunStateError:
            return True
        except StoreUnavailable:
            return False
        return True

    # -- after it --------------------------------------------------------------------------------------------------

    def assert_calm(self, *, look_closely_at: int) -> None:
        """Every voyage came to exactly what its plan says; of so many, all that is stored is held together."""
        found = self._stage.rows(
            "select r.run_id, r.status, r.outputs, r.context_version, c.data, r.outstanding, "
            "(r.entry_payload ->> 'number')::int as number, "
            "(select count(*) from cnstra.activations a where a.run_id = r.run_id and a.status = 'done') as done "
            "from cnstra.runs r join cnstra.context c using (run_id) where r.entry_collateral = 'voyage.embark'"
        )
        assert sorted(row["number"] for row in found) == sorted(self._plans)
        for row in found:
            assert outcome_of(row) == expected_of(self._plans[row["number"]]), self._stage.report(row["run_id"])
        steps = sum(len(plan["fails"]) + 2 for plan in self._plans.values())
        voyages = {run.id for run in self._runs}
        assert len({entry.key for entry in self._stage.ledger.entries() if entry.run_id in voyages}) == steps
        for trip in self._trips:
            assert_comes_to_an_end(self._stage, trip)
        for run in self._random.sample(self._runs, min(look_closely_at, len(self._runs))) + self._trips:
            assert_sound(self._stage, run.id)
        for worker in self._crew:
            assert worker.drain(), worker.log()
        assert self._stage.rows("select * from cnstra.activation where finished_at is null") == []


def assert_comes_to_an_end(stage: Stage, trip: Run) -> None:
    """Each booking stands or was given back, as the trip's end says: all of those that were made, or none."""
    run = stage.row("select status, error_type, outputs from cnstra.runs where run_id = %s", trip.id)
    steps = stage.rows(
        "select status, activation_id from cnstra.activations where run_id = %s order by activation_id", trip.id
    )
    context = trip.context() or {}
    for name, step in zip(journeys.BOOKINGS, steps, strict=False):
        expected = {"done": "booked", "compensated": "given back"}.get(step["status"])
        assert context.get(name) == expected, stage.report(trip.id)
    bookings = {step["status"] for step in steps[: len(journeys.BOOKINGS)]}
    match run["status"]:
        case "completed":
            assert bookings == {"done"}
            assert len(run["outputs"]) == 1
        case "compensated":
            assert "done" not in bookings
        case "cancelled":
            assert "compensated" not in bookings
        case "failed":
            assert run["error_type"] == "cnstra.DeadlineExceeded"
            assert bookings == {"cancelled"}
        case other:
            raise AssertionError(f"{other}\n{stage.report(trip.id)}")


def outcome_of(row: dict[str, Any]) -> dict[str, Any]:
    """What a voyage came to."""
    return {name: row[name] for name in ("status", "outputs", "context_version", "data", "outstanding", "done")}


def expected_of(plan: journeys.Plan) -> dict[str, Any]:
    """What it has to come to, whatever died on its way."""
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
