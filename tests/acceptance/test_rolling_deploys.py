"""Rolling deploys: workers of one release after the other are replaced by those of the next, while orders come all the time."""

from __future__ import annotations

import signal
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.rows import dict_row

from cnstra import CNS, Orchestrator, Run
from support.apps import releases
from support.apps.on_hosts import LEDGER
from support.apps.releases import placed
from support.commands import MODULES, Servers, WorkerCommand
from support.customers import Customers
from support.gates import Gate
from support.ledger import Entry, Ledger
from support.waiting import eventually

PATIENCE = 60.0


class Shop:
    """The database, the ledger of all calls, clients and workers of the releases."""

    def __init__(self, both: Servers, ledger: Ledger, start_worker: Any, clients: ExitStack) -> None:
        self.ledger = ledger
        self._both = both
        self._start_worker = start_worker
        self._clients = clients

    def worker(self, release: str, *arguments: str) -> WorkerCommand:
        """A worker of a release, which takes work."""
        environment = MODULES | {LEDGER: str(self.ledger.path)}
        started: WorkerCommand = self._start_worker(f"releases:{release}", *arguments, environment=environment)
        return started.ready()

    def client(self, cns: CNS) -> Orchestrator:
        return self._clients.enter_context(
            Orchestrator(cns, database=self._both.database_url, broker=self._both.broker_url)
        )

    def customers(self, cns: CNS) -> Customers:
        """Who places orders without a pause."""
        client = self.client(cns)
        return Customers(
            self._both.database_url, lambda number: client.submit(placed.create_signal({"number": number}))
        )

    def rows(self, query: str, *parameters: Any) -> list[dict[str, Any]]:
        with psycopg.connect(self._both.database_url, autocommit=True, row_factory=dict_row) as connection:
            return connection.execute(query.encode(), parameters).fetchall()

    def assert_shipped(self, run: Run, *, tries: int = 1, steps: int | None = None) -> None:
        """The order has ended as it had to: shipped once, each step done once and, but for ``tries``, tried once."""
        run.wait(PATIENCE)
        self._assert_shipped(run, self.ledger.entries(run.id), tries=tries, steps=steps)

    def all_shipped(self, runs: list[Run]) -> None:
        """The same of many, each of whose steps was tried once; their calls are read at once."""
        for run in runs:
            run.wait(PATIENCE)
        calls: defaultdict[UUID, list[Entry]] = defaultdict(list)
        for entry in self.ledger.entries():
            calls[entry.run_id].append(entry)
        for run in runs:
            self._assert_shipped(run, calls[run.id], tries=1, steps=None)

    def _assert_shipped(self, run: Run, calls: list[Entry], *, tries: int, steps: int | None) -> None:
        result = run.wait(PATIENCE)
        shown = run.describe()
        assert result.status == "completed", shown
        assert [one.payload for one in result.outputs] == [shown["entry_payload"]["number"]]
        done = shown["activations"]
        assert {one["status"] for one in done} == {"done"}, done
        assert sum(one["tries"] for one in done) == len(done) + tries - 1, done
        assert len(calls) == len(done) + tries - 1
        assert len({entry.key for entry in calls}) == len(done)
        assert result.context == {"steps": len(done)}
        assert shown["context_version"] == len(done)
        assert steps in (None, len(done))

    def waits_for_code(self, run: Run) -> None:
        """Wait until the run shows that nobody has the code for its next step; nothing of it has failed."""
        shown = "select status, blocked, error from cnstra.runs where run_id = %s"
        unknown = {"status": "running", "blocked": "unknown", "error": None}
        eventually(lambda: self.rows(shown, run.id) == [unknown], PATIENCE, what="it is shown as unknown")
        last = run.describe()["activations"][-1]
        assert (last["neuron"], last["status"], last["tries"], last["error"]) == ("wrapper", "ready", 0, None)

    def pids(self, run: Run) -> list[int]:
        return [entry.pid for entry in self.ledger.entries(run.id)]


@pytest.fixture
def shop(both: Servers, tmp_path: Path, start_worker) -> Iterator[Shop]:
    with ExitStack() as clients:
        yield Shop(both, Ledger(tmp_path / "ledger"), start_worker, clients)


def _at(gate: Gate, step: str, number: int = 1) -> Any:
    return placed.create_signal({"number": number, "gate": gate.path, "at": step})


def _stop(worker: WorkerCommand) -> None:
    worker.send(signal.SIGTERM)
    worker.logged("draining")


def test_workers_are_replaced_one_by_one_and_nothing_is_lost_nor_done_twice(shop: Shop, make_gate) -> None:
    """Each drains: what it is in the middle of ends there, in its time, and the rest goes to others. Every step of every order
    was called exactly once, by whichever release had it."""
    old = [shop.worker("first", "--drain", "60") for _ in range(2)]
    customers = shop.customers(releases.first)
    with customers.coming():
        customers.move_on(20, PATIENCE)
        slow, gates = [], [make_gate() for _ in old]
        client = shop.client(releases.first)
        for gate in gates:
            slow.append(client.submit(_at(gate, "take")))
            gate.reached()
        for worker in old:
            shop.worker("second")
            _stop(worker)
            customers.move_on(20, PATIENCE)  # others go on
        for gate in gates:
            gate.open()
        assert [worker.ended() for worker in old] == [0, 0]
        customers.move_on(20, PATIENCE)
    shop.all_shipped(customers.runs)
    for run in slow:
        shop.assert_shipped(run)
        assert shop.pids(run)[0] in {worker.pid for worker in old}
        assert shop.pids(run)[-1] not in {worker.pid for worker in old}


def test_a_handler_that_takes_longer_than_the_drain_is_taken_up_by_others(shop: Shop, make_gate) -> None:
    """The old worker is gone when its time is over. The step is tried again under the same key, without waiting for a lease."""
    gate = make_gate()
    old = shop.worker("first", "--drain", "0.5", "--lease", "3600")
    run = shop.client(releases.first).submit(_at(gate, "take"))
    gate.reached()
    new = shop.worker("second")

    old.send(signal.SIGTERM)

    assert old.ended() == 8
    shop.assert_shipped(run, tries=2, steps=3)
    assert shop.pids(run) == [old.pid, new.pid, new.pid, new.pid]


def test_g13_what_a_new_neuron_is_to_do_waits_for_the_new_release(shop: Shop, make_gate) -> None:
    """A deploy is taken back half way: the old release carries on, leaves the step that it does not know, and nothing fails.
    The next deploy takes it up."""
    gate = make_gate()
    new = shop.worker("second", "--drain", "60")
    run = shop.client(releases.second).submit(_at(gate, "pick"))
    gate.reached()
    old = shop.worker("first")
    _stop(new)
    gate.open()
    assert new.ended() == 0

    shop.waits_for_code(run)
    customers = shop.customers(releases.first)
    with customers.coming():
        customers.move_on(20, PATIENCE)
        shop.waits_for_code(run)
        newer = shop.worker("second")
        shop.assert_shipped(run, steps=3)
        customers.move_on(20, PATIENCE)
    shop.all_shipped(customers.runs)
    assert shop.pids(run) == [new.pid, new.pid, newer.pid]
    assert old.running


def test_g13_what_a_removed_neuron_was_to_do_waits_for_the_old_release_or_is_cancelled(shop: Shop, make_gate) -> None:
    """Orders on their way to it wait, and do not fail; new ones go past. One is cancelled; for the other the old release is
    brought back."""
    gates = [make_gate(), make_gate()]
    old = shop.worker("second", "--drain", "60")
    client = shop.client(releases.second)
    runs = [client.submit(_at(gate, "pick")) for gate in gates]
    for gate in gates:
        gate.reached()
    customers = shop.customers(releases.third)
    shop.worker("third")
    _stop(old)
    for gate in gates:
        gate.open()
    assert old.ended() == 0
    with customers.coming():
        customers.move_on(20, PATIENCE)
    shop.all_shipped(customers.runs)
    for run in runs:
        shop.waits_for_code(run)

    cancelled, kept = runs
    cancelled.cancel()
    assert cancelled.wait(PATIENCE).status == "cancelled"
    shop.waits_for_code(kept)
    back = shop.worker("second")

    shop.assert_shipped(kept, steps=3)
    assert shop.pids(kept)[-1] == back.pid
    assert [entry.what for entry in shop.ledger.entries(cancelled.id)] == ["take", "pick"]


def test_g13_runs_of_a_pinned_version_are_done_by_that_version_beside_the_next_one(shop: Shop, make_gate) -> None:
    """Both versions serve while orders of both come; each order is all of one version. One that is left over waits."""
    first = shop.worker("pinned_first", "--drain", "60")
    second = shop.worker("pinned_second")
    of_first, of_second = shop.customers(releases.pinned_first), shop.customers(releases.pinned_second)
    with of_first.coming(), of_second.coming():
        of_first.move_on(20, PATIENCE)
        of_second.move_on(20, PATIENCE)
    for worker, customers in ((first, of_first), (second, of_second)):
        shop.all_shipped(customers.runs)
        runs = {run.id for run in customers.runs}
        assert {entry.pid for entry in shop.ledger.entries() if entry.run_id in runs} == {worker.pid}
    gate = make_gate()
    left = shop.client(releases.pinned_first).submit(_at(gate, "take"))
    gate.reached()
    _stop(first)
    gate.open()
    assert first.ended() == 0

    shown = "select blocked from cnstra.runs where run_id = %s"
    eventually(lambda: shop.rows(shown, left.id) == [{"blocked": "unknown"}], PATIENCE, what="it waits for its version")
    back = shop.worker("pinned_first")
    shop.assert_shipped(left, steps=2)
    assert shop.pids(left) == [first.pid, back.pid]
