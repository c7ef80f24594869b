"""The store port: of a neuron with a limit never more activations run than the limit says, over all workers; and none is lost."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from msgspec.structs import replace

from cnstra.orchestrator.machine.events import Expected, Lost
from cnstra.orchestrator.machine.records import Compensable, Target
from cnstra.orchestrator.ports import door
from cnstra.orchestrator.store import RunEvent, Work
from support.worlds import (
    GONE,
    GRAPH,
    QUEUE,
    Worker,
    World,
    cancel_asked,
    expects,
    failed,
    lost,
    pause_asked,
    resume_asked,
    retry_asked,
    returned,
    scatter,
    sent,
    succeeded,
    target,
)

BANK = {"bank": 2}


def bank(**changes: Any) -> Target:
    """A call of the bank, which has a limit."""
    return target("bank", limited=True, **changes)


def limiting(world: World, **changes: Any) -> Worker:
    """A worker whose bank may run twice at once."""
    return world.worker(**{"limits": BANK} | changes)


def calls(world: World, number: int, **changes: Any) -> list[UUID]:
    """Runs that call the bank."""
    return [world.submit(bank(), **changes) for _ in range(number)]


def running(world: World, runs: list[UUID]) -> int:
    return sum(row["status"] == "running" for run_id in runs for row in world.activations(run_id).values())


# -- how much is claimed -------------------------------------------------------------------------------------------


def test_no_more_is_claimed_than_the_limit_leaves(world: World) -> None:
    """However much is asked for; and the next one for each that has been settled."""
    runs = calls(world, 5)
    worker = limiting(world)
    first, second = worker.claim()
    assert worker.claim() == []
    world.apply(succeeded(first))
    [third] = worker.claim()
    assert {work.run_id for work in (first, second, third)} == set(runs[:3])
    world.apply(succeeded(second), succeeded(third))
    assert len(worker.claim()) == 2
    assert running(world, runs) == 2


def test_the_limit_counts_over_all_workers(world: World) -> None:
    """Whoever holds them: what one worker runs is not left to another."""
    runs = calls(world, 4)
    workers = [limiting(world) for _ in range(3)]
    assert [len(worker.claim(1)) for worker in workers] == [1, 1, 0]
    assert running(world, runs) == 2


def test_who_asks_for_less_than_the_limit_leaves_gets_that(world: World) -> None:
    """The rest is there for the next."""
    calls(world, 2)
    assert len(limiting(world).claim(1)) == 1
    assert len(limiting(world).claim(5)) == 1


def test_other_neurons_have_limits_of_their_own(world: World) -> None:
    """One that is used up keeps neither another limited one back, nor one without a limit."""
    for _ in range(3):
        world.submit(bank(), target("ship", limited=True), "stock")
    claimed = [work.neuron for work in limiting(world, limits={"bank": 1, "ship": 2}).claim()]
    assert sorted(claimed) == ["bank", "ship", "ship", "stock", "stock", "stock"]


def test_another_graph_has_limits_of_its_own(world: World) -> None:
    """A neuron of the same name there is another one."""
    here, there = limiting(world, limits={"bank": 1}), limiting(world, limits={"bank": 1}, graph="other")
    mine, theirs = world.submit(bank()), world.submit(bank(), graph="other")
    assert here.claim_one().run_id == mine
    assert there.claim_one().run_id == theirs


def test_the_limit_is_that_of_the_workers_code(world: World) -> None:
    """A deploy that changes it needs nothing else: each worker counts all that runs, and holds its own limit."""
    calls(world, 6)
    old, new = limiting(world, limits={"bank": 1}), limiting(world, limits={"bank": 3})
    assert len(old.claim()) == 1
    assert len(new.claim()) == 2
    assert old.claim() == new.claim() == []


# -- which are claimed ---------------------------------------------------------------------------------------------


def test_limited_work_is_claimed_by_priority_then_by_age(world: World) -> None:
    """Among itself."""
    runs = []
    for priority in (0, 0, 5, 1):
        world.clock.advance(1)
        runs.append(world.submit(bank(), priority=priority))
    worker = limiting(world, limits={"bank": 1})
    order = []
    for _ in runs:
        work = worker.claim_one()
        order.append(work.run_id)
        world.apply(succeeded(work))
    assert order == [runs[2], runs[3], runs[0], runs[1]]


def test_limited_work_and_other_work_take_turns_by_priority_then_by_age(world: World) -> None:
    """Neither starves behind a backlog of the other."""
    runs = []
    for kind, priority in ((bank(), 0), ("stock", 0), (bank(), 0), ("stock", 1), (bank(), 1)):
        world.clock.advance(1)
        runs.append(world.submit(kind, priority=priority))
    worker = limiting(world, limits={"bank": 9})
    order = [worker.claim(1)[0].run_id for _ in runs]
    assert order == [runs[3], runs[4], runs[0], runs[1], runs[2]]


@pytest.mark.parametrize("backwards", [False, True])
def test_the_limit_counts_over_queues_pins_places_and_dendrites(world: World, backwards: bool) -> None:
    """They are different ranges of what is ready, and one limit; the oldest of all of them come first."""
    shapes: list[tuple[Target, dict[str, Any]]] = [
        (bank(), {}),
        (bank(queue="slow"), {}),
        (bank(), {"pinned": True}),
        (bank(), {"place": "archive"}),
        (bank(collateral="answer"), {}),
    ]
    runs = []
    for one, changes in reversed(shapes) if backwards else shapes:
        world.clock.advance(1)
        runs.append(world.submit(one, **changes))
    worker = limiting(world, queues=(QUEUE, "slow"))
    order: list[UUID] = []
    while works := worker.claim(places=("archive",)):
        assert len(works) <= 2
        order += sorted((work.run_id for work in works), key=runs.index)
        world.apply(*(failed(work) for work in works))
    assert order == runs


def test_what_a_worker_does_not_know_it_leaves(world: World) -> None:
    """Also of a neuron with a limit; it is in nobody's way."""
    strange = world.submit(bank(collateral="answer"))
    known = world.submit(bank())
    worker = limiting(world, dendrites=(("bank", "order"),), limits={"bank": 1})
    assert worker.claim_one().run_id == known
    assert world.activations(strange)[1]["status"] == "ready"


# -- slots do not leak ---------------------------------------------------------------------------------------------


ENDS = {
    "done": succeeded,
    "failed": failed,
    "tried again later": lambda work: failed(work, retry_after=60.0),
    "given back": returned,
    "lost": lambda work: lost(work.run_id, work.fence, backoff=60.0),
}


@pytest.mark.parametrize("how", ENDS)
def test_whatever_ends_a_claim_frees_its_slot(world: World, how: str) -> None:
    """There is no slot beside the claim: nothing is left of it."""
    calls(world, 3)
    worker = limiting(world, limits={"bank": 1})
    for _ in range(3):
        work = worker.claim_one()
        assert worker.claim() == []
        world.apply(ENDS[how](work))
    assert len(worker.claim()) == (how == "given back")


def test_lost_workers_free_their_slots(world: World) -> None:
    """When their claims are taken back, and not before: until then their handlers may run."""
    runs = calls(world, 4)
    doomed = limiting(world)
    assert len(doomed.claim()) == 2
    world.clock.advance(60)
    other = limiting(world)
    claims = world.store.run(world.store.lost_claims(100))
    assert len(claims) == 2
    assert other.claim() == []
    world.apply(*(lost(claim.run_id, claim.fence, backoff=60.0) for claim in claims))
    assert {work.run_id for work in other.claim()} == set(runs[2:])


def test_a_claim_whose_reply_was_lost_takes_its_slots_once(world: World) -> None:
    """Repeated under its nonce it answers the same claims."""
    calls(world, 3)
    worker = limiting(world)
    assert len(world.replayed(world.store.claim(worker.request()))) == 2
    assert worker.claim() == []


def test_claims_that_meet_never_exceed_the_limit(world: World) -> None:
    """Several workers at the same moment, again and again."""
    runs = calls(world, 12)
    workers = [limiting(world) for _ in range(4)]
    lease = "select from cnstra.worker where graph = 'shop' for update"
    for _ in range(6):
        claimed = world.at_once(*(world.store.claim(worker.request()) for worker in workers), hold=lease)
        works = [work for works in claimed for work in works]
        works += [work for worker in workers for work in worker.claim()]  # who met another one asks again
        assert len(works) == running(world, runs) == 2
        world.apply(*(succeeded(work) for work in works))
    assert {world.status(run_id) for run_id in runs} == {"completed"}


# -- what else happens to an activation ----------------------------------------------------------------------------


def test_every_way_to_become_ready_keeps_the_limit(world: World) -> None:
    """Emitted, though its worker would keep it; tried again; delayed; expected; in the next attempt."""
    worker = limiting(world, limits={"bank": 1})
    [blocker] = [world.submit(bank())]
    holder = worker.claim_one()
    assert holder.run_id == blocker
    emitted = world.submit("stock")
    answer = world.settle(succeeded(worker.claim_one(), targets=[bank(here=True)]))
    assert answer.kept == ()
    delayed = world.submit(bank(), delay=timedelta(seconds=5))
    expected = world.submit("stock")
    world.apply(succeeded(worker.claim_one(), expected=[expects_bank()]))
    world.apply(sent(expected))
    world.clock.advance(5)
    world.fire(delayed, 1)
    assert worker.claim() == []
    world.apply(failed(holder))
    order = []
    while works := worker.claim():
        [work] = works
        order.append(work.run_id)
        world.apply(succeeded(work))
        if work.run_id == emitted:
            world.apply(retry_asked(blocker))
    assert set(order) == {emitted, delayed, expected, blocker}
    assert {world.status(run_id) for run_id in order} == {"completed"}


def expects_bank() -> Expected:
    """A wait that is to start the bank."""
    return replace(expects("bank"), targets=(bank(collateral="answer"),))


def test_a_failed_try_and_a_conflict_pass_the_limit_again(world: World) -> None:
    """They come back behind the limit, not beside it."""
    run_id = world.submit(bank(), bank())
    worker = limiting(world, limits={"bank": 1})
    work = worker.claim_one()
    world.apply(failed(work, retry_after=1.0))
    other = worker.claim_one()
    world.clock.advance(1)
    world.fire(run_id, work.activation_id)
    assert worker.claim() == []
    world.apply(succeeded(other))
    assert worker.claim_one().activation_id == work.activation_id


def test_a_paused_run_holds_no_slot_and_comes_back_behind_the_limit(world: World) -> None:
    """Nothing of it is claimed meanwhile; what runs comes to its end, and counts until then."""
    paused, other = world.submit(bank(), bank()), world.submit(bank())
    worker = limiting(world, limits={"bank": 1})
    held = worker.claim_one()
    world.apply(pause_asked(paused))
    assert worker.claim() == []
    world.apply(succeeded(held))
    assert worker.claim_one().run_id == other
    world.apply(resume_asked(paused))
    assert worker.claim() == []
    assert world.row(paused)["blocked"] == "limited"


def test_one_that_is_to_run_alone_passes_the_limit(world: World) -> None:
    """After three conflicts it waits for its siblings, and for its neuron's limit."""
    run_id = world.submit(bank(), "stock")
    worker = limiting(world, limits={"bank": 1})
    for _ in range(3):
        works = worker.claim_by_neuron()
        world.apply(
            succeeded(works["stock"], lambda ctx: ctx.set({"a": 1}), targets=[target("stock")]),
            succeeded(works["bank"], lambda ctx: ctx.set({"a": 2})),
        )
    world.clock.advance(1)
    other = world.submit(bank())
    alone = worker.claim_one()
    assert (alone.run_id, alone.neuron) == (run_id, "bank")
    world.apply(returned(alone))
    holder = worker.claim_one()  # the older of the two
    assert holder.run_id == run_id
    world.apply(succeeded(holder, lambda ctx: ctx.set({"a": 3})))
    assert {(work.run_id, work.neuron) for work in worker.claim()} == {(other, "bank"), (run_id, "stock")}


def _conflict(world: World, worker: Worker, loser: str, winner: str) -> None:
    """Three times in a row one activation of a run loses to another, and is to run alone then."""
    for number in range(3):
        works = worker.claim_by_neuron()
        followed = [target(winner)] if number < 2 else []
        world.apply(
            succeeded(works[winner], lambda ctx: ctx.set({"a": 1}), targets=followed),
            succeeded(works[loser], lambda ctx: ctx.set({"a": 2})),
        )


def test_what_waits_for_a_limit_is_set_aside_while_another_runs_alone(world: World) -> None:
    """Also when the limit has room; afterwards it is back behind its limit."""
    other = world.submit(bank())
    worker = limiting(world, limits={"bank": 1})
    holder = worker.claim_one()
    world.clock.advance(1)
    run_id = world.submit("stock", bank(), "ship")
    _conflict(world, worker, "stock", "ship")
    world.apply(succeeded(holder))
    alone = worker.claim_one()
    assert (alone.run_id, alone.neuron) == (run_id, "stock")
    world.submit(bank())
    holder = worker.claim_one()
    world.apply(succeeded(alone))
    assert worker.claim() == []
    world.apply(succeeded(holder))
    assert worker.claim_one().run_id == run_id
    assert world.status(other) == "completed"


def test_one_that_waited_to_run_alone_passes_the_limit_then(world: World) -> None:
    """It waits for its siblings first, with room for it or not; let go, it is behind its neuron's limit."""
    worker = limiting(world, limits={"bank": 1})
    sibling = world.submit("report", bank(), "stock")
    works = worker.claim_by_neuron()
    world.apply(returned(works["bank"]), returned(works["stock"]))
    held = works["report"]
    _conflict(world, worker, "bank", "stock")
    assert worker.claim() == []
    world.clock.advance(1)
    world.submit(bank())
    holder = worker.claim_one()
    world.apply(succeeded(held))
    assert worker.claim() == []
    world.apply(succeeded(holder))
    assert worker.claim_one().run_id == sibling


def test_compensations_pass_the_same_limit(world: World) -> None:
    """Undoing calls the same neuron: its limit counts both."""
    undone = world.submit(target("bank", limited=True, compensable=Compensable.DONE), "stock")
    worker = limiting(world, limits={"bank": 1})
    works = worker.claim_by_neuron()
    world.apply(succeeded(works["bank"], compensable=Compensable.DONE))
    other = world.submit(bank())
    holder = worker.claim_one()
    world.apply(succeeded(works["stock"], targets=[target("stock")]), cancel_asked(undone, compensate=True))
    assert world.row(undone)["status"] == "compensating"
    assert worker.claim() == []
    assert world.row(undone)["blocked"] == "limited"
    world.apply(succeeded(holder))
    work = worker.claim_one()
    assert (work.run_id, work.undo) == (undone, True)
    world.submit(bank())
    assert worker.claim() == []
    world.apply(succeeded(work))
    assert world.status(undone) == "compensated"
    assert world.status(other) == "completed"


def test_a_scatter_of_a_hundred_goes_through_a_limit_of_three(world: World) -> None:
    """Never more at once, each once, and the gather follows."""
    run_id = world.submit("ship")
    workers = [limiting(world, limits={"stock": 3}) for _ in range(2)]
    members = scatter(*map(str, range(100)), limited=True)
    world.apply(succeeded(workers[0].claim_one(), scattered=[members]))
    payloads: list[str] = []
    turns = 0
    while works := [work for worker in workers for work in worker.claim(2)]:
        turns += 1
        if [work.neuron for work in works] == ["report"]:
            world.apply(succeeded(works[0]))
            break
        assert len(works) <= 3
        payloads += [work.payload for work in works]
        world.apply(*(succeeded(work, results=[work.payload]) for work in works))
    assert sorted(map(int, payloads)) == list(range(100))
    assert turns > 100 // 3
    assert world.status(run_id) == "completed"


# -- suspects ------------------------------------------------------------------------------------------------------


def _suspect(world: World, worker: Worker) -> UUID:
    run_id = world.submit(bank(), priority=9)
    work = worker.claim(1)[0]
    assert work.run_id == run_id
    event = Lost(fence=work.fence, failure=GONE, backoff=1.0, suspect_at=1)
    world.apply(RunEvent(run_id=run_id, event=event))
    world.clock.advance(1)
    world.fire(run_id, 1)
    return run_id


def test_a_suspect_counts_as_running_and_waits_for_the_limit(world: World) -> None:
    """It runs alone in its process, and the limit holds over all of them; nobody is emptied for one that has no slot."""
    worker = limiting(world, limits={"bank": 1})
    suspect = _suspect(world, worker)
    calls(world, 2)
    [holder] = worker.claim()
    assert worker.claim(suspects=True) == []
    assert not world.store.run(world.store.suspects_wait(worker.request()))
    world.apply(succeeded(holder))
    assert world.store.run(world.store.suspects_wait(worker.request()))
    [work] = worker.claim(suspects=True)
    assert work.run_id == suspect
    assert worker.claim() == []
    world.apply(succeeded(work))
    assert len(worker.claim()) == 1


# -- who is told ---------------------------------------------------------------------------------------------------


def told(world: World, worker: Worker) -> list[UUID]:
    """The runs for which the supervisor rings."""
    return [run_id for ring in world.look(worker).unclaimed for run_id, _ in ring.activations]


def test_limited_work_rings_when_it_becomes_ready(world: World) -> None:
    """As all work does: who is idle hears of it."""
    _, rings = world.store.run(world.store.submit([world.submission(bank())]))
    assert [ring.door for ring in rings] == [door(GRAPH, QUEUE)]
    worker = limiting(world)
    world.submit("stock")
    works = {work.neuron: work for work in worker.claim()}
    batch = world.apply(succeeded(works["stock"], targets=[bank(), bank()]))
    assert [len(ring.activations) for ring in batch.rings] == [2]


def test_the_supervisor_rings_for_as_much_as_may_run(world: World) -> None:
    """For what has waited for a while and has room; for what has none it does not ring in circles."""
    runs = calls(world, 5)
    worker = limiting(world)
    assert told(world, worker) == []
    world.clock.advance(2)
    assert told(world, worker) == runs[:2]
    works = worker.claim()
    assert told(world, worker) == []
    world.apply(succeeded(works[0]))
    assert told(world, worker) == [runs[2]]


def test_the_supervisor_does_not_ring_where_nobody_could_come(world: World) -> None:
    """Neither for a neuron that no live worker knows, nor for a lost worker's."""
    calls(world, 1)
    worker = limiting(world, dendrites=(("stock", "order"),), limits={})
    world.clock.advance(2)
    assert told(world, worker) == []
    assert world.look(worker).limited


# -- limits that come and go ---------------------------------------------------------------------------------------


def test_a_limit_that_no_worker_has_any_more_is_lifted(world: World) -> None:
    """While one lives that has it, it holds for what is left; then all of it may run."""
    runs = calls(world, 5)
    old, new = limiting(world), limiting(world, limits={})
    assert new.claim() == []
    world.lift_limits()
    assert new.claim() == []
    [first, _] = old.claim()
    world.store.run(world.store.leave(old.info.worker))
    world.lift_limits()
    assert len(new.claim()) == 3
    world.apply(failed(first, retry_after=1.0))
    world.clock.advance(1)
    world.fire(first.run_id, 1)
    world.lift_limits()
    assert new.claim_one().run_id == first.run_id
    assert len(runs) == 5


def test_a_limit_stays_where_no_worker_knows_the_neuron(world: World) -> None:
    """Nobody who knows it is there: whether the limit was dropped is not known, either."""
    calls(world, 1)
    world.worker(("stock", "order"))
    world.lift_limits()
    assert len(limiting(world, limits={"bank": 1}).claim()) == 1


# -- what users see ------------------------------------------------------------------------------------------------


def test_a_run_says_that_its_limit_is_used_up(world: World) -> None:
    """Only then: not while it runs, nor while there is room for it, nor where something else of it is unknown."""
    first, second = calls(world, 2)
    worker = limiting(world, limits={"bank": 1})
    assert [world.row(run_id)["blocked"] for run_id in (first, second)] == [None, None]
    work = worker.claim_one()
    assert [world.row(run_id)["blocked"] for run_id in (first, second)] == [None, "limited"]
    assert [world.row(run_id)["status"] for run_id in (first, second)] == ["running", "running"]
    world.apply(succeeded(work))
    assert [world.row(run_id)["blocked"] for run_id in (first, second)] == [None, None]


def test_limited_work_that_nobody_knows_is_unknown(world: World) -> None:
    """G1: also where it is behind a limit that is used up."""
    first, second = calls(world, 2)
    worker = limiting(world, limits={"bank": 1})
    assert worker.claim(1)[0].run_id == first
    stranger = world.worker(("stock", "order"))
    world.store.run(world.store.leave(worker.info.worker))
    assert world.row(second)["blocked"] == "unknown"
    world.store.run(world.store.leave(stranger.info.worker))
    assert world.row(second)["blocked"] == "unknown"
    limiting(world, limits={"bank": 1})
    assert world.row(second)["blocked"] == "limited"


def test_a_work_item_keeps_nothing_of_its_limit_while_it_runs(world: World) -> None:
    """What is running is not blocked; a run of which all runs says nothing of it."""
    run_id = world.submit(bank())
    work: Work = limiting(world, limits={"bank": 1}).claim_one()
    assert work.run_id == run_id
    assert world.row(run_id)["blocked"] is None
