"""Hops that are decided on a foothold: they leave what any hop leaves, and come to nothing where somebody was there before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from cnstra.orchestrator.machine.plans import Verdict
from cnstra.orchestrator.machine.records import Compensable
from cnstra.orchestrator.store import AppliedBatch, RunEvent, Work
from support.waiting import eventually
from support.worlds import (
    PostgresWorld,
    Threads,
    Worker,
    all_applied,
    cancel_asked,
    context_of,
    deadline_due,
    failed,
    lost,
    pause_asked,
    scatter,
    sent,
    succeeded,
    target,
)


@pytest.fixture
def world(database_url: str) -> Iterator[PostgresWorld]:
    postgres = PostgresWorld(database_url)
    yield postgres
    postgres.close()


def stand(world: PostgresWorld, worker: Worker, **options: Any) -> Work:
    """The second activation of a new run, which its worker kept."""
    run_id = world.submit("stock", **options)
    [work] = [one for one in worker.claim() if one.run_id == run_id]
    first = succeeded(work, lambda ctx: ctx.set({"a": 1}), targets=[target("bank", here=True)])
    [kept] = world.settle(first).kept
    assert kept.foothold is not None
    return kept


def without(event: RunEvent) -> RunEvent:
    """The same end of a hop, of a worker that knows nothing of the run."""
    return replace(event, work=None if event.work is None else replace(event.work, foothold=None))


_NAMES = {"run_id", "worker"}


def left(world: PostgresWorld, work: Work) -> Any:
    """All that people can see of the run, but for names."""
    rows = [world.row(work.run_id), *world.activations(work.run_id).values()]
    history = world.store.run(world.store.history(work.run_id))
    return [{name: value for name, value in row.items() if name not in _NAMES} for row in (*rows, *history)]


def sets(ctx: Any) -> None:
    ctx.set({"a": 2, "b": [3]})


def removes(ctx: Any) -> None:
    del ctx["a"]


HOPS: dict[str, Callable[[Work], RunEvent]] = {
    "ends the run": succeeded,
    "ends it with outputs": lambda work: succeeded(work, outputs=['"out"', "2"]),
    "goes on here": lambda work: succeeded(work, targets=[target("ship", here=True, payload="[7]")]),
    "goes on elsewhere": lambda work: succeeded(work, targets=[target("ship", queue="sea", ordinal=1)], outputs=["1"]),
    "goes on under a limit": lambda work: succeeded(work, targets=[target("ship", here=True, limited=True)]),
    "writes": lambda work: succeeded(work, sets, targets=[target("ship", here=True)]),
    "removes": lambda work: succeeded(work, removes),
    "can be undone": lambda work: succeeded(
        work, targets=[target("ship", here=True, compensable=Compensable.DONE)], compensable=Compensable.DONE
    ),
    "starts two": lambda work: succeeded(work, targets=[target("ship", here=True), target("stock", ordinal=1)]),
    "starts a timer": lambda work: succeeded(work, targets=[target("ship", delay=timedelta(days=1))]),
}


@pytest.mark.parametrize("hop", HOPS.values(), ids=HOPS)
def test_g2_a_hop_on_a_foothold_leaves_what_any_hop_leaves(
    world: PostgresWorld, hop: Callable[[Work], RunEvent]
) -> None:
    """Rows, times, context, what its worker keeps, and what is rung for."""
    worker = world.worker()
    found = []
    for kind in (without, lambda event: event):
        work = stand(world, worker)
        world.clock.advance(3)
        batch = world.apply(kind(hop(work)))
        [answer] = batch.answers
        rung = [(ring.door, [number for _, number in ring.activations]) for ring in batch.rings]
        kept = [(one.neuron, one.payload, one.snapshot, one.run_elapsed, one.foothold is None) for one in answer.kept]
        found.append((answer.verdict, rung, kept, left(world, work)))
        world.clock.advance(-3)
    assert found[0] == found[1]
    assert found[0][0] is Verdict.APPLIED


@pytest.mark.parametrize("hop", ["ends the run", "goes on here", "writes"])
def test_g2_a_gather_stands_as_firmly_as_any_other(world: PostgresWorld, hop: str) -> None:
    """Nothing of its group can move the run any more."""
    worker = world.worker()
    found = []
    for kind in (without, lambda event: event):
        run_id = world.submit("stock")
        world.settle(succeeded(worker.claim_one(), scattered=[scatter("1", gather=("bank",))]))
        world.settle(succeeded(worker.claim_one(), results=["1"]))
        gather = worker.claim_one()
        assert (gather.run_id, gather.payload, gather.foothold is None) == (run_id, "[1]", False)
        [answer] = world.apply(kind(HOPS[hop](gather))).answers
        found.append((answer.verdict, [(one.neuron, one.payload) for one in answer.kept], left(world, gather)))
    assert found[0] == found[1]
    assert found[0][0] is Verdict.APPLIED


SEALED = '{"$sealed":"gold:00"}'


@pytest.mark.parametrize(
    ("options", "payload", "able"),
    [
        pytest.param({}, SEALED, {"places": ("\x1fgold",)}, id="its payload is sealed"),
        pytest.param({"pinned": True}, "1", {}, id="its run is pinned"),
    ],
)
def test_g13_what_a_hop_on_a_foothold_begins_waits_for_who_can_run_it(
    world: PostgresWorld, options: dict[str, Any], payload: str, able: dict[str, Any]
) -> None:
    """As any successor does, that is begun with its run's row at hand."""
    run_id = world.submit("stock", **options)
    work = world.worker().claim_one()
    assert work.foothold is not None
    assert world.settle(succeeded(work, targets=[target("ship", payload=payload)])).verdict is Verdict.APPLIED
    assert world.worker(graph_version="v2").claim() == []
    [ship] = world.worker().claim(**able)
    assert (ship.run_id, ship.neuron) == (run_id, "ship")


CHANGES: dict[str, Callable[[PostgresWorld, Work], list[RunEvent]]] = {
    "paused": lambda _, work: [pause_asked(work.run_id)],
    "cancelled": lambda _, work: [cancel_asked(work.run_id)],
    "cancelled to be undone": lambda _, work: [cancel_asked(work.run_id, compensate=True)],
    "out of time": lambda _, work: [deadline_due(work.run_id)],
    "sent something": lambda _, work: [sent(work.run_id, idempotency_key="k")],
    "lost": lambda _, work: [lost(work.run_id, work.fence)],
    "settled already": lambda _, work: [without(succeeded(work))],
    "failed already": lambda _, work: [failed(work, retry_after=5.0)],
}


PASSING = {"out of time"}
"""What passes over a run that is locked."""


@pytest.mark.parametrize(
    ("change", "waits"),
    [
        pytest.param(change, waits, id=f"{name} {'while it waits' if waits else 'before'}")
        for name, change in CHANGES.items()
        for waits in (False, True)
        if not (waits and name in PASSING)
    ],
)
def test_g3_what_has_changed_the_run_counts(
    world: PostgresWorld, change: Callable[[PostgresWorld, Work], list[RunEvent]], waits: bool
) -> None:
    """The hop comes to what it comes to without a foothold: whether the change was there before, or it had to wait for it."""
    worker = world.worker()
    found = []
    for kind in (without, lambda event: event):
        work = stand(world, worker, deadline=timedelta(seconds=2))
        world.clock.advance(3)
        hop = kind(succeeded(work, sets, targets=[target("ship", here=True)], compensable=Compensable.DONE))
        operations = [world.store.apply([one]) for one in (*change(world, work), hop)]
        batch: AppliedBatch
        if waits:
            with world.in_line(work.run_id, *operations) as threads:
                pass
            batch = threads.results()[-1]
        else:
            *_, batch = [world.store.run(operation) for operation in operations]
        [answer] = all_applied(world.store, [hop], batch).answers
        found.append((answer.verdict, [one.neuron for one in answer.kept], left(world, work)))
        world.clock.advance(-3)
    assert found[0] == found[1]


def test_g3_a_claim_that_was_handed_on_settles_nothing(world: PostgresWorld) -> None:
    """Not even where the run is as its worker left it."""
    for column in ("epoch", "nonce"):
        work = stand(world, world.worker())
        with world.connect() as connection:
            connection.execute(
                f"update cnstra.activation set {column} = {column} + 1 where run_id = %s and activation_id = 2".encode(),
                [work.run_id],
            )
        assert world.settle(succeeded(work)).verdict is Verdict.FENCED
        assert [row["status"] for row in world.activations(work.run_id).values()] == ["done", "running"]


def test_g3_a_claim_that_runs_no_more_settles_nothing(world: PostgresWorld) -> None:
    """Though the epoch and the nonce are still its own, and the run is as its worker left it."""
    work = stand(world, world.worker())
    with world.connect() as connection:
        connection.execute(
            "update cnstra.activation set status = 'ready' where run_id = %s and activation_id = 2", [work.run_id]
        )
    assert world.settle(succeeded(work, sets, targets=[target("ship", here=True)])).verdict is Verdict.REPEATED
    assert [row["status"] for row in world.activations(work.run_id).values()] == ["done", "ready"]
    assert world.values(work.run_id) == {"a": 1}


def test_a_batch_mixes_hops_on_footholds_and_others(world: PostgresWorld) -> None:
    """Each is answered in its place, whatever was written first; two of one run are decided together."""
    worker = world.worker()
    stands = [stand(world, worker) for _ in range(3)]
    world.submit("stock", "bank")
    pair = sorted(worker.claim(), key=lambda work: work.activation_id)
    world.apply(cancel_asked(stands[1].run_id))
    here = [target("ship", here=True)]
    batch = world.apply(
        succeeded(pair[0], sets),
        succeeded(stands[0], targets=here),
        succeeded(stands[1], targets=here),
        failed(pair[1]),
        succeeded(stands[2], sets),
    )
    assert [answer.verdict for answer in batch.answers] == [Verdict.APPLIED] * 5
    assert [[one.run_id for one in answer.kept] for answer in batch.answers] == [[], [stands[0].run_id], [], [], []]
    assert [world.status(work.run_id) for work in (pair[0], *stands)] == ["failed", "running", "cancelled", "completed"]
    assert world.values(stands[2].run_id) == {"a": 2, "b": [3]}


def test_g5_what_hops_on_footholds_wrote_is_what_others_read(world: PostgresWorld) -> None:
    """The newest of each key, though an older one was there: whoever claims next reads what the hops before it wrote."""
    work = stand(world, world.worker())
    world.settle(succeeded(work, sets, targets=[target("ship")]))
    snapshot = world.worker().claim_one().snapshot
    slots = {name: (slot.version, slot.text) for name, slot in snapshot.slots.items()}
    assert (snapshot.version, slots["s:a"], slots["s:b"]) == (2, (2, "2"), (2, "[3]"))


@pytest.mark.parametrize("hop_first", [True, False])
def test_g2_a_foothold_decides_for_no_other_event_of_its_run(world: PostgresWorld, hop_first: bool) -> None:
    """What comes with the hop in one batch is decided with it, in the order in which they come."""
    work = stand(world, world.worker())
    hop, pause = succeeded(work, targets=[target("ship", here=True)]), pause_asked(work.run_id)
    batch = world.apply(*((hop, pause) if hop_first else (pause, hop)))
    assert [answer.verdict for answer in batch.answers] == [Verdict.APPLIED, Verdict.APPLIED]
    assert world.status(work.run_id) == "paused"
    statuses = [row["status"] for row in world.activations(work.run_id).values()]
    assert statuses == ["done", "done", "running" if hop_first else "ready"]


def test_footholds_lead_on_to_the_end(world: PostgresWorld) -> None:
    """Hop after hop, with what each wrote: the context's versions are exact, and each is read by the next."""
    work = stand(world, world.worker())
    for number in range(5):
        assert context_of(work).version == number + 1
        event = succeeded(work, lambda ctx: ctx.set({"a": ctx["a"] + 1}), targets=[target("ship", here=True)])
        [work] = world.settle(event).kept
        assert work.foothold is not None
    assert world.settle(succeeded(work)).verdict is Verdict.APPLIED
    assert (world.values(work.run_id), world.status(work.run_id)) == ({"a": 6}, "completed")
    assert world.row(work.run_id)["context_version"] == 6


@pytest.mark.parametrize("others", [1, 2])
def test_there_is_no_foothold_where_others_may_move_the_run(world: PostgresWorld, others: int) -> None:
    """Another branch changes the run whenever it gets on, so that one would seldom hold."""
    world.submit(*["stock"] * (1 + others))
    work = world.worker().claim()[0]
    [kept] = world.settle(succeeded(work, targets=[target("bank", here=True)])).kept
    assert kept.foothold is None


def test_there_is_no_foothold_for_what_was_handed_out_before(world: PostgresWorld) -> None:
    """Its row says more than its claim tells: how it failed, which is to be gone when it is done."""
    worker = world.worker()
    run_id = world.submit("stock")
    world.settle(failed(worker.claim_one(), retry_after=0.0))
    world.fire(run_id, 1)
    again = worker.claim_one()
    assert again.foothold is None
    world.settle(succeeded(again))
    assert (world.status(run_id), world.activations(run_id)[1]["error"]) == ("completed", None)


def test_what_is_left_keeps_nobody_waiting(world: PostgresWorld) -> None:
    """A hop whose run was moved, and is locked now, is left; the other of its batch is settled, and goes on."""
    worker = world.worker()
    mine, moved = stand(world, worker), stand(world, worker)
    world.apply(pause_asked(moved.run_id))
    hops = [succeeded(work, targets=[target("ship", here=True)]) for work in (moved, mine)]
    with world.held(f"select from cnstra.run where run_id = '{moved.run_id}' for update"):
        batch = world.store.run(world.store.apply(hops))
        assert batch.left == (0,)
        assert [one.run_id for answer in batch.answers for one in answer.kept] == [mine.run_id]
    assert [answer.verdict for answer in all_applied(world.store, hops, batch).answers] == [Verdict.APPLIED] * 2
    assert (world.status(mine.run_id), world.status(moved.run_id)) == ("running", "paused")


def test_g5_a_claim_that_waited_for_its_lease_is_given_what_was_written_meanwhile(world: PostgresWorld) -> None:
    """Its statement began before: another has had the activation since, and what undoes it must find what that one wrote."""
    waiting, other = world.worker(), world.worker()
    run_id = world.submit("stock")
    with world.held(f"select from cnstra.worker where worker = '{waiting.info.worker}' for no key update"):
        claims = Threads([waiting.claim])
        eventually(lambda: len(world.waiting()) == 1, what="the claim waits for its lease")
        done = succeeded(
            other.claim_one(), sets, targets=[target("bank", queue="elsewhere")], compensable=Compensable.DONE
        )
        world.settle(done)
        world.apply(cancel_asked(run_id, compensate=True))
    [[undo]] = claims.results()
    assert (undo.undo, undo.snapshot.version, undo.foothold) == (True, 1, None)
    assert undo.snapshot.slots["s:a"].text == "2"


def test_claims_that_are_found_again_are_no_footholds(world: PostgresWorld) -> None:
    """Their marks would be newer than the claims, which alone tell after a failover that the marks are true."""
    worker = world.worker()
    world.submit("stock")
    operation = world.store.claim(worker.request(1))
    [found] = world.replayed(operation)
    assert found.foothold is None
