"""Workers of different ages side by side: what one does not know waits for one that does, and nothing waits behind it."""

from __future__ import annotations

from typing import Any

from cnstra import Run
from cnstra.workers.supervisor import MOST_PER_LOOK
from support.graphs import routes, versions
from support.points import Fault
from support.soundness import assert_sound
from support.stage import PATIENCE, Stage
from support.waiting import eventually


def _shown(stage: Stage, run: Run) -> tuple[Any, ...]:
    """How the run stands in ``cnstra.runs``."""
    row = stage.row("select status, blocked, error from cnstra.runs where run_id = %s", run.id)
    return row["status"], row["blocked"], row["error"]


def _is_set_aside(stage: Stage, run: Run) -> bool:
    blocked = stage.row("select blocked from cnstra.activation where run_id = %s", run.id)["blocked"]
    return bool(blocked == "unknown")


def test_g13_a_neuron_that_a_worker_does_not_have_waits_for_one_that_has_it(stage: Stage) -> None:
    """It is not called, not failed, and shows as blocked; the newer worker takes it up as soon as it comes."""
    old = stage.start(versions.old_shop)
    client = stage.client(versions.new_shop)
    unknown = client.submit(versions.wrap_it.create_signal(1))
    known = client.submit(versions.sell_it.create_signal(2))
    stage.completed(known)
    eventually(lambda: _is_set_aside(stage, unknown), PATIENCE, what="the unknown one is set aside")
    assert _shown(stage, unknown) == ("running", "unknown", None)
    assert stage.activation(unknown, 1)["tries"] == 0

    new = stage.start(versions.new_shop)

    assert [signal.payload for signal in stage.completed(unknown).outputs] == [1]
    assert _shown(stage, unknown) == ("completed", None, None)
    assert {entry.pid for entry in stage.ledger.entries(unknown.id)} == {new.pid}
    assert_sound(stage, unknown.id)
    assert old.alive


def test_g13_a_run_of_a_pinned_version_waits_for_that_version(stage: Stage) -> None:
    """A worker of another version leaves it alone, though it has a neuron of that name."""
    second = stage.start(versions.second_edition)
    run = stage.client(versions.first_edition).submit(versions.sell_it.create_signal(1))
    other = stage.client(versions.second_edition).submit(versions.sell_it.create_signal(2))
    stage.completed(other)
    assert _shown(stage, run) == ("running", "unknown", None)

    first = stage.start(versions.first_edition)

    stage.completed(run)
    assert {entry.pid for entry in stage.ledger.entries(run.id)} == {first.pid}
    assert {entry.pid for entry in stage.ledger.entries(other.id)} == {second.pid}
    assert_sound(stage, run.id)


def test_g13_work_becomes_unknown_when_the_last_that_knows_it_is_lost(stage: Stage) -> None:
    """A rolling deploy that goes wrong: the run shows what it lacks, and goes on when somebody brings it back."""
    stage.start(versions.old_shop)
    new = stage.start(versions.new_shop, Fault(point="call.inside", action="kill"))
    run = stage.client(versions.new_shop).submit(versions.wrap_it.create_signal(1))
    new.died()
    stage.lose(new)
    eventually(lambda: _is_set_aside(stage, run), PATIENCE, what="the run is set aside")
    assert _shown(stage, run) == ("running", "unknown", None)

    stage.start(versions.new_shop)

    stage.completed(run)
    assert stage.ledger.calls(run.id) == {1: 2}
    assert_sound(stage, run.id)


def test_g13_nothing_starves_behind_unknown_work(stage: Stage) -> None:
    """More unknown work than a sweep looks at stands in front of all others, by its priority and by its age."""
    many = MOST_PER_LOOK + 100
    client = stage.client(versions.new_shop)
    unknown = client.submit_many([versions.wrap_it.create_signal(n) for n in range(many)], priority=9)
    known = client.submit_many([versions.sell_it.create_signal(n) for n in range(20)])

    old = stage.start(versions.old_shop)
    stage.all_completed(known)
    aside = "select count(*) as number from cnstra.activation where blocked = 'unknown'"
    eventually(lambda: stage.row(aside)["number"] == many, PATIENCE, what="all of the unknown is out of the way")
    # Out of the way: from now on a doorbell that was lost is found again at once.
    old.arm(Fault(point="doorbell.heard", action="block"))
    lost = client.submit(versions.sell_it.create_signal(1))
    old.reached("doorbell.heard")
    stage.completed(lost)

    stage.start(versions.new_shop)

    stage.all_completed(unknown)
    assert len(stage.ledger.entries()) == many + 20 + 1
    old.release("doorbell.heard")


def test_g13_a_supervisor_need_not_know_the_graph_that_it_looks_after(stage: Stage) -> None:
    """The claims of a lost worker, and timers, are taken care of by a worker of another graph."""
    doomed = stage.start(routes.chain, Fault(point="call.inside", action="kill", activation=2))
    run = stage.client(routes.chain).submit(routes.set_out.create_signal(10))
    doomed.died()

    stranger = stage.start(routes.fork)
    stage.lose(doomed)

    taken_back = "select status from cnstra.activation where run_id = %s and activation_id = 2"
    eventually(lambda: stage.row(taken_back, run.id)["status"] == "ready", PATIENCE, what="it is ready again")
    assert _shown(stage, run) == ("running", "unknown", None)
    stage.start(routes.chain)
    assert stage.completed(run).context["steps"] == 3
    assert stage.ledger.calls(run.id) == {1: 1, 2: 2, 3: 1}
    assert_sound(stage, run.id)
    assert stranger.alive
