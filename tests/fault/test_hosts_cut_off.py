"""Hosts are cut off from Postgres, from the broker, from both: packets vanish, and nobody is told.

Each worker is a real ``cnstra worker`` on a host of its own. What is lost is lost between them and the servers, so connections
stay open at both ends, and the servers have no reason to think ill of anybody.
"""

from __future__ import annotations

import itertools
import signal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from cnstra import Run
from support.apps import on_hosts
from support.commands import WorkerCommand
from support.gates import Gate
from support.hosts import Host, Place, Way
from support.hosts.caller import Caller
from support.hosts.outpost import Outpost
from support.hosts.voyages import Voyages
from support.soundness import assert_sound
from support.stage import PATIENCE
from support.waiting import eventually

_REFUSED = "its claim was taken away, so its result was refused; nothing was committed"

_OVER_BOTH = pytest.mark.parametrize("broker_of_hosts", ["redis", "rabbitmq"])
_CUTS = pytest.mark.parametrize(
    ("cut", "broker_of_hosts"),
    [("database", "redis"), *itertools.product(["broker", "both"], ["redis", "rabbitmq"])],
)


def _places(outpost: Outpost, cut: str) -> list[Place]:
    return {"database": [outpost.database], "broker": [outpost.broker], "both": [outpost.database, outpost.broker]}[cut]


def _post(outpost: Outpost, *gates: Gate, number: int = 1) -> Run:
    """A letter whose sorting stops at these gates, one in each try."""
    letter: on_hosts.Letter = {"number": number, "gates": [gate.path for gate in gates]}
    return outpost.stage.client(on_hosts.letters).submit(on_hosts.posted.create_signal(letter))


def _everything(outpost: Outpost, run: Run) -> list[dict[str, Any]]:
    """All that is stored of a run."""
    tables = ("run", "activation", "try", "context_head", "context_entry")
    query = " union all ".join(f"select to_jsonb(t) as row from cnstra.{name} t where t.run_id = %s" for name in tables)
    return sorted(outpost.stage.rows(query, *[run.id] * len(tables)), key=repr)


def _serves(outpost: Outpost, worker: WorkerCommand) -> bool:
    return bool(outpost.stage.rows("select from cnstra.workers where pid = %s", worker.pid))


@pytest.mark.parametrize("way", ["both", "there", "back"])
def test_g3_a_worker_that_was_cut_off_commits_nothing_of_what_others_do_by_now(
    outpost: Outpost, tmp_path: Path, way: Way
) -> None:
    """It called its handler; cut off, it ends it. Its settlement arrives when the way is healed, or arrives at once and its reply
    is lost: others are in the middle of the same step by then, under the same key. It is refused, and serves again, as it is."""
    stage = outpost.stage
    far, near = outpost.host(), outpost.host()
    zombie = outpost.start(far, "letters")
    of_zombie, of_heir = Gate(tmp_path / "gate-1"), Gate(tmp_path / "gate-2")
    run = _post(outpost, of_zombie, of_heir)
    of_zombie.reached()
    epoch = stage.activation(run, 1)["epoch"]
    heir = outpost.start(near, "letters")

    far.cut_off_from(outpost.database, way=way)
    of_heir.reached()
    before = _everything(outpost, run)
    of_zombie.open()
    far.heal()

    with outpost.telling():
        eventually(lambda: _REFUSED in zombie.log, PATIENCE, what="the zombie's settlement is refused")
    assert _everything(outpost, run) == before
    of_heir.open()
    assert stage.completed(run).context == {"sorted in try": 2, "steps": 2}
    assert stage.activation(run, 1)["epoch"] == epoch + 1
    assert [entry.pid for entry in stage.ledger.entries(run.id)] == [zombie.pid, heir.pid, heir.pid]
    assert stage.ledger.calls(run.id) == {1: 2, 2: 1}
    assert_sound(stage, run.id)  # among others: both calls of the first step had one key
    eventually(lambda: _serves(outpost, zombie), PATIENCE, what="it has a lease again")
    heir.send(signal.SIGTERM)
    assert heir.ended() == 0
    again = _post(outpost)
    stage.completed(again)
    assert {entry.pid for entry in stage.ledger.entries(again.id)} == {zombie.pid}


@pytest.mark.beneath_the_seal
@_CUTS
def test_g1_to_g7_hold_when_a_host_is_cut_off_under_load(outpost: Outpost, cut: str) -> None:
    """Others take over what it held, and it commits nothing twice when it is back; each run comes to what it had to."""
    far, near = outpost.host(), outpost.host()
    cut_off, other = outpost.start(far, "voyage"), outpost.start(near, "voyage")
    voyages = Voyages(outpost, seed=1)
    with voyages.coming():
        voyages.move_on(10)
        far.cut_off_from(*_places(outpost, cut))
        if cut != "broker":
            eventually(lambda: not _serves(outpost, cut_off), PATIENCE, what="it is taken for lost")
        voyages.move_on(20)
        far.heal()
        eventually(lambda: _serves(outpost, cut_off), PATIENCE, what="it has a lease")
        voyages.move_on(20)
        voyages.worked_by(cut_off)
    voyages.assert_all_arrived()
    for worker in (cut_off, other):
        worker.send(signal.SIGTERM)
        assert worker.ended() == 0


@_OVER_BOTH
def test_g1_a_worker_that_is_cut_off_from_the_broker_works_by_sweeps(outpost: Outpost) -> None:
    """It begins, and goes on, without hearing a doorbell; once healed, it hears them again."""
    far = outpost.host()
    far.cut_off_from(outpost.broker)
    worker = outpost.start(far, "letters")
    runs = [_post(outpost, number=number) for number in range(30)]

    outpost.stage.all_completed(runs)

    assert far.is_cut_off
    for run in runs[::10]:
        assert_sound(outpost.stage, run.id)
    worker.logged("only sweeps find the work of this queue")
    far.heal()
    worker.logged("the broker is back")


@_CUTS
def test_a_worker_that_is_cut_off_can_be_stopped(outpost: Outpost, cut: str) -> None:
    """It cannot end its lease, nor say anything to anybody; and it does not wait for that longer than it was told to drain."""
    far = outpost.host()
    worker = outpost.start(far, "letters", "--drain", "10" if cut == "broker" else "1")
    far.cut_off_from(*_places(outpost, cut))

    worker.send(signal.SIGTERM)

    assert worker.ended() == (0 if cut == "broker" else 8)
    assert far.is_cut_off


@_OVER_BOTH
def test_a_worker_that_was_cut_off_from_the_broker_from_the_beginning_can_be_stopped(outpost: Outpost) -> None:
    """It is in the middle of reaching for it, again and again."""
    far = outpost.host()
    far.cut_off_from(outpost.broker)
    worker = outpost.start(far, "letters", "--drain", "10")
    worker.logged("only sweeps find the work of this queue")

    worker.send(signal.SIGTERM)

    assert worker.ended() == 0
    assert far.is_cut_off


def test_g3_what_a_worker_could_not_settle_before_it_ended_is_done_by_others(outpost: Outpost, tmp_path: Path) -> None:
    """Told to stop while it is cut off, it lets its handler end, waits for the database as long as it may, and is gone."""
    far = outpost.host()
    gate = Gate(tmp_path / "gate")
    worker = outpost.start(far, "letters", "--drain", "2")
    run = _post(outpost, gate)
    gate.reached()
    far.cut_off_from(outpost.database, outpost.broker)
    worker.send(signal.SIGTERM)
    worker.logged("draining")
    gate.open()
    assert worker.ended() == 8

    heir = outpost.start(outpost.host(), "letters")

    assert outpost.stage.completed(run).context == {"sorted in try": 2, "steps": 2}
    assert [entry.pid for entry in outpost.stage.ledger.entries(run.id)] == [worker.pid, heir.pid, heir.pid]
    assert_sound(outpost.stage, run.id)


@pytest.mark.parametrize("way", ["both", "back"])
def test_g1_what_a_client_submits_while_it_is_cut_off_is_one_run_in_the_end(outpost: Outpost, way: Way) -> None:
    """It gets an error, and nothing half is stored. Where only replies are lost the run may be there; asked again under the
    same key, the client gets that one."""
    far = outpost.host()
    outpost.start(outpost.host(), "letters")
    ids = "select run_id from cnstra.run"
    with Caller(far, outpost.servers.environment) as caller:
        far.cut_off_from(outpost.database, way=way)
        assert caller.submit("only once") == "StoreUnavailable"
        stored = [row["run_id"] for row in outpost.stage.rows(ids)]
        assert len(stored) <= (1 if way == "back" else 0)
        far.heal()

        run_id = caller.submit("only once")

        assert not stored or [run_id] == stored
        assert [row["run_id"] for row in outpost.stage.rows(ids)] == [run_id]
        assert isinstance(run_id, UUID)
        run = outpost.stage.client(on_hosts.letters).get_run(run_id)
        outpost.stage.completed(run)
        assert_sound(outpost.stage, run.id)


@_OVER_BOTH
def test_g1_a_client_that_is_cut_off_from_the_broker_submits_all_the_same(outpost: Outpost) -> None:
    """It has rung before, and its connection is open at both ends. Nobody hears it now; a sweep finds the run."""
    far = outpost.host()
    outpost.start(outpost.host(), "letters")
    client = outpost.stage.client(on_hosts.letters)
    with Caller(far, outpost.servers.environment) as caller:
        for key in ("heard", "kept", "kept, too", "heard again"):
            if key == "kept":
                far.cut_off_from(outpost.broker)
            if key == "heard again":
                far.heal()

            run_id = caller.submit(key)

            assert not isinstance(run_id, str)
            outpost.stage.completed(client.get_run(run_id))


@pytest.mark.parametrize(("way", "broker_of_hosts"), [("both", "redis"), ("both", "rabbitmq"), ("back", "rabbitmq")])
def test_g1_a_worker_notices_that_the_broker_has_fallen_silent_and_hears_it_again(outpost: Outpost, way: Way) -> None:
    """Its connections are open at both ends, and lead nowhere; it gives them up, and makes new ones when there is a way."""
    far = outpost.host()
    worker = outpost.start(far, "letters")
    outpost.stage.completed(_post(outpost))

    far.cut_off_from(outpost.broker, way=way)
    worker.logged("only sweeps find the work of this queue")
    run = _post(outpost)
    outpost.stage.completed(run)
    assert_sound(outpost.stage, run.id)
    assert far.is_cut_off
    far.heal()

    worker.logged("the broker is back")
    outpost.stage.completed(_post(outpost))


def test_a_worker_whose_connections_lead_nowhere_finds_new_ones_before_it_is_taken_for_lost(outpost: Outpost) -> None:
    """As after a firewall has forgotten them, or the primary's address has moved: new ones would work at once. With the usual
    lease it stays who it is, though they fail at the worst moment."""
    far = outpost.host()
    worker = outpost.start(far, "letters", lease=15.0)
    outpost.stage.all_completed([_post(outpost, number=number) for number in range(50)])
    outpost.start(outpost.host(), "letters")  # somebody who would take it for lost
    lease = "select worker, last_seen_at from cnstra.workers where pid = %s"
    due = f"{lease} and clock_timestamp() > last_seen_at + interval '4.8 s'"
    (before,) = eventually(lambda: outpost.stage.rows(due, worker.pid), PATIENCE, what="a renewal is due")

    far.forget(outpost.database, _ports(outpost, far))

    after = eventually(
        lambda: [row for row in outpost.stage.rows(lease, worker.pid) if row["last_seen_at"] > before["last_seen_at"]],
        PATIENCE,
        what="its lease goes on",
    )
    assert [row["worker"] for row in after] == [before["worker"]]
    assert "was taken for lost" not in worker.log


def _ports(outpost: Outpost, host: Host) -> list[int]:
    """Where the connections of a host to the database begin."""
    query = "select client_port from pg_stat_activity where client_addr = %s::inet and datname = current_database()"
    return [row["client_port"] for row in outpost.stage.rows(query, host.address)]
