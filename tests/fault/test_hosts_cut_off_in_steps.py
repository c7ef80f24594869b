"""Hosts are cut off from Postgres while a handler has the transaction of its own hop: ``transaction=True``.

What it did there is there once, whoever did it; and what it has locked is free for others soon, though nobody at either end
was told anything.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cnstra import Run
from cnstra.servers import HeldServers
from support import bank
from support.commands import WorkerCommand
from support.gates import Gate
from support.held_commits import held_commits
from support.hosts import Host, Way
from support.hosts.outpost import Outpost
from support.soundness import assert_sound
from support.stage import PATIENCE
from support.waiting import eventually

COLOURS = ["sync", "async"]
TELLER = 2  # the number of its activation
_REFUSED = "its claim was taken away, so its result was refused; nothing was committed"


@pytest.fixture(autouse=True)
def _tables(outpost: Outpost) -> None:
    bank.tables(outpost.stage.database_url)


def _ask(outpost: Outpost, colour: str, *gates: Gate, **order: Any) -> Run:
    """A booking whose teller stops at these gates with the account's row in its hands, one in each try."""
    return outpost.stage.client(bank.bank).submit(
        bank.asked.create_signal({"amount": 5, "colour": colour, "gates": [gate.path for gate in gates], **order})
    )


def _assert_booked_once(outpost: Outpost, run: Run, *, runs: int = 1) -> None:
    stage = outpost.stage
    result = stage.completed(run)
    assert [output.payload for output in result.outputs] == [5]
    assert stage.row("select balance from account")["balance"] == 5 * runs
    key = f"{run.id}:{TELLER}:do"
    assert stage.rows("select key, amount from booking where key = %s", key) == [{"key": key, "amount": 5}]
    assert_sound(stage, run.id)


def _callers(outpost: Outpost, run: Run, activation: int) -> list[int]:
    """The processes that have called the handler of an activation."""
    return [entry.pid for entry in outpost.stage.ledger.entries(run.id) if entry.activation_id == activation]


def _ports_of_steps(outpost: Outpost, host: Host) -> list[int]:
    """Where the connections of a host begin whose handlers are in a transaction."""
    query = (
        "select client_port from pg_stat_activity where client_addr = %s::inet and datname = current_database() "
        "and application_name like 'cnstra step %%'"
    )
    return [row["client_port"] for row in outpost.stage.rows(query, host.address)]


def _serves_alone(outpost: Outpost, worker: WorkerCommand, others: list[WorkerCommand], colour: str) -> None:
    """Once the others are gone, it does such a step as ever."""
    for other in others:
        other.kill()
    again = _ask(outpost, colour)
    _assert_booked_once(outpost, again, runs=2)
    assert _callers(outpost, again, TELLER) == [worker.pid]


@pytest.mark.parametrize(
    ("way", "ends", "colour"),
    [
        ("both", "once healed", "sync"),
        ("both", "cut off", "async"),
        ("there", "once healed", "async"),
        ("back", "cut off", "sync"),
        ("back", "cut off", "async"),
    ],
)
def test_g3_g4_a_step_whose_host_is_cut_off_is_done_once_and_holds_up_nobody(
    outpost: Outpost, tmp_path: Path, way: Way, ends: str, colour: str
) -> None:
    """Others do it after the lease; they need the row that it has locked. It ends, is heard again, and commits nothing."""
    far, near = outpost.host(), outpost.host()
    zombie = outpost.start(far, "bank")
    of_zombie, of_heir = Gate(tmp_path / "gate-1"), Gate(tmp_path / "gate-2")
    run = _ask(outpost, colour, of_zombie, of_heir)
    of_zombie.reached()
    heir = outpost.start(near, "bank")

    far.cut_off_from(outpost.database, way=way)
    if ends == "cut off":  # in one direction, what it asks is answered to nobody
        of_zombie.open()
    with outpost.telling():
        of_heir.reached()  # it has the account's row
    if ends == "once healed":
        of_zombie.open()
    far.heal()
    with outpost.telling():
        eventually(lambda: _REFUSED in zombie.log, PATIENCE, what="the zombie's settlement is refused")
    assert outpost.stage.row("select balance from account")["balance"] == 0
    of_heir.open()

    _assert_booked_once(outpost, run)
    assert _callers(outpost, run, TELLER) == [zombie.pid, heir.pid]
    _serves_alone(outpost, zombie, [heir], colour)


@pytest.mark.parametrize("colour", COLOURS)
def test_g4_a_step_whose_host_is_cut_off_in_its_commit_is_not_done_again(
    outpost: Outpost, servers_for_hosts: HeldServers, colour: str
) -> None:
    """It is committed, and nobody hears of that. Others find it done, and do what comes after it."""
    with held_commits(servers_for_hosts, outpost.stage.database_url) as commits:
        far, near = outpost.host(), outpost.host()
        cut_off = outpost.start(far, "bank")
        run = _ask(outpost, colour, wrong="careful")
        commits.one_is_held()
        far.cut_off_from(outpost.database, way="back")
        heir = outpost.start(near, "bank")

    with outpost.telling():
        _assert_booked_once(outpost, run)
    far.heal()
    eventually(
        lambda: outpost.stage.rows("select from cnstra.workers where pid = %s", cut_off.pid),
        PATIENCE,
        what="it has a lease again",
    )
    assert _callers(outpost, run, TELLER) == [cut_off.pid]
    assert _callers(outpost, run, 3)[0] == heir.pid  # the other one, when it has heard of its commit, may come too late
    _serves_alone(outpost, cut_off, [heir], colour)


@pytest.mark.parametrize("colour", COLOURS)
def test_g4_a_step_whose_connection_leads_nowhere_in_its_commit_is_not_done_again(
    outpost: Outpost, servers_for_hosts: HeldServers, colour: str
) -> None:
    """Its worker asks on another connection, learns that it was committed, and goes on."""
    with held_commits(servers_for_hosts, outpost.stage.database_url) as commits:
        far = outpost.host()
        worker = outpost.start(far, "bank", lease=60.0)
        run = _ask(outpost, colour, wrong="careful")
        commits.one_is_held()
        far.forget(outpost.database, _ports_of_steps(outpost, far))

    with outpost.telling():
        _assert_booked_once(outpost, run)
    assert _callers(outpost, run, TELLER) == [worker.pid]
    assert outpost.stage.activation(run, TELLER)["tries"] == 1


@pytest.mark.parametrize("colour", COLOURS)
def test_g4_a_step_whose_connection_leads_nowhere_is_done_again_by_the_same_worker(
    outpost: Outpost, tmp_path: Path, colour: str
) -> None:
    """The server has answered to nobody, and would hold the account's row for as long as TCP tries to. The worker is not lost, so
    that nobody but itself takes its step's locks away."""
    far = outpost.host()
    worker = outpost.start(far, "bank", lease=60.0)
    gate = Gate(tmp_path / "gate")
    run = _ask(outpost, colour, gate)
    gate.reached()
    far.forget(outpost.database, _ports_of_steps(outpost, far), way="back")

    gate.open()

    with outpost.telling():
        _assert_booked_once(outpost, run)
    assert _callers(outpost, run, TELLER) == [worker.pid] * 2
