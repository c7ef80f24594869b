"""The store port: what a settlement changes, all of it or nothing (G2), and when a run ends (G9)."""

from __future__ import annotations

from cnstra.orchestrator.machine.plans import Verdict
from cnstra.orchestrator.ports import door
from support.worlds import GRAPH, World, failed, succeeded, target


def test_g2_a_hop_commits_as_one(world: World) -> None:
    """The activation's end, its context writes, its outputs, its successors and the run's state come together."""
    run_id = world.submit("stock")
    work = world.worker().claim_one()
    world.clock.advance(3)
    batch = world.apply(
        succeeded(
            work,
            lambda ctx: ctx.set({"reserved": 2}),
            targets=[target("bank", payload='{"n": 1}'), target("ship", payload='{"n": 1}')],
            outputs=['"told"'],
        )
    )
    assert batch.answers[0].verdict is Verdict.APPLIED
    assert [(ring.door, ring.activations) for ring in batch.rings] == [
        (door(GRAPH, "default"), ((run_id, 2), (run_id, 3)))
    ]
    rows = world.activations(run_id)
    assert rows[1]["status"] == "done"
    assert rows[1]["finished_at"] == world.clock.now()
    assert (rows[1]["context_version_read"], rows[1]["context_version_written"]) == (0, 1)
    assert rows[1]["outputs"] == [
        {"collateral": "order", "payload": {"n": 1}},
        {"collateral": "told", "payload": "told"},
    ]
    for number, neuron in ((2, "bank"), (3, "ship")):
        row = rows[number]
        assert (row["status"], row["neuron"], row["parent_activation_id"]) == ("ready", neuron, 1)
        assert row["created_at"] == row["available_at"] == world.clock.now()
    run = world.row(run_id)
    assert (run["status"], run["outstanding"], run["context_version"]) == ("running", 2, 1)
    assert run["outputs"] == [{"collateral": "told", "payload": "told"}]
    assert world.values(run_id) == {"reserved": 2}


def test_a_run_ends_when_nothing_is_outstanding(world: World) -> None:
    """Neither before the last branch has ended, nor later than with it."""
    run_id = world.submit("stock", "bank")
    works = world.worker().claim_by_neuron()
    world.apply(succeeded(works["stock"]))
    run = world.row(run_id)
    assert (run["status"], run["outstanding"], run["finished_at"]) == ("running", 1, None)
    world.clock.advance(1)
    world.apply(succeeded(works["bank"]))
    run = world.row(run_id)
    assert (run["status"], run["outstanding"], run["finished_at"]) == ("completed", 0, world.clock.now())


def test_the_last_two_branches_that_finish_at_once_end_the_run(world: World) -> None:
    """Two settlements of one run that meet see each other: the second finds nothing outstanding, and ends it."""
    run_id = world.submit("stock", "bank")
    works = world.worker().claim()
    batches = world.at_once(*(world.store.apply([succeeded(work)]) for work in works))
    assert [batch.answers[0].verdict for batch in batches] == [Verdict.APPLIED, Verdict.APPLIED]
    run = world.row(run_id)
    assert (run["status"], run["outstanding"]) == ("completed", 0)


def test_branches_of_one_batch_end_the_run(world: World) -> None:
    """Settlements of one run in one batch are folded into one change, of which none is lost."""
    run_id = world.submit("stock", "bank", "ship")
    works = world.worker().claim_by_neuron()
    batch = world.apply(
        succeeded(works["stock"], lambda ctx: ctx.update({"a": 1})),
        succeeded(works["bank"], lambda ctx: ctx.update({"b": 2})),
        succeeded(works["ship"], lambda ctx: ctx.update({"c": 3})),
    )
    assert [answer.verdict for answer in batch.answers] == [Verdict.APPLIED] * 3
    run = world.row(run_id)
    assert (run["status"], run["outstanding"], run["context_version"]) == ("completed", 0, 3)
    assert world.values(run_id) == {"a": 1, "b": 2, "c": 3}


def test_batches_that_lock_the_same_runs_in_opposite_order_both_commit(world: World) -> None:
    """Two batches that meet over many runs, each in the other's order, wait for each other and lose nothing."""
    runs = [world.submit("stock", "bank") for _ in range(10)]
    works = {(work.run_id, work.neuron): work for work in world.worker().claim()}
    forward = [succeeded(works[run_id, "stock"]) for run_id in runs]
    backward = [succeeded(works[run_id, "bank"]) for run_id in reversed(runs)]
    for batch in world.at_once(world.store.apply(forward), world.store.apply(backward)):
        assert {answer.verdict for answer in batch.answers} == {Verdict.APPLIED}
    assert {world.status(run_id) for run_id in runs} == {"completed"}


def test_answers_come_in_the_order_of_the_events(world: World) -> None:
    """A batch over several runs, in any order, is answered event by event."""
    one, two = world.submit("stock", "bank"), world.submit("stock")
    works = {(work.run_id, work.neuron): work for work in world.worker().claim()}
    batch = world.apply(
        succeeded(works[two, "stock"], targets=[target("ship", here=True)]),
        failed(works[one, "bank"], retry_after=1.0),
        succeeded(works[two, "stock"]),
        succeeded(works[one, "stock"], targets=[target("report", here=True)]),
    )
    assert [answer.verdict for answer in batch.answers] == [
        Verdict.APPLIED,
        Verdict.APPLIED,
        Verdict.REPEATED,
        Verdict.APPLIED,
    ]
    assert [[(work.run_id, work.neuron) for work in answer.kept] for answer in batch.answers] == [
        [(two, "ship")],
        [],
        [(two, "ship")],
        [(one, "report")],
    ]


def test_a_run_waits_while_nothing_is_ready_or_running(world: World) -> None:
    """``waiting`` says that only time can move the run."""
    run_id = world.submit("stock", "bank")
    works = world.worker().claim_by_neuron()
    world.apply(failed(works["stock"], retry_after=5.0))
    assert world.status(run_id) == "running"
    world.apply(succeeded(works["bank"]))
    run = world.row(run_id)
    assert (run["status"], run["outstanding"]) == ("waiting", 1)
    world.clock.advance(5)
    world.fire(run_id, 1)
    assert world.status(run_id) == "running"


def test_a_wide_fan_out_is_counted_exactly(world: World) -> None:
    """Every successor is outstanding from its parent's commit on, and each one's end counts once."""
    run_id = world.submit("stock")
    worker = world.worker()
    world.apply(succeeded(worker.claim_one(), targets=[target("bank", ordinal=place) for place in range(40)]))
    assert world.row(run_id)["outstanding"] == 40
    works = worker.claim()
    for place in range(0, 40, 8):
        assert world.row(run_id)["outstanding"] == 40 - place
        world.apply(*(succeeded(work) for work in works[place : place + 8]))
    assert world.row(run_id)["outstanding"] == 0
    assert world.status(run_id) == "completed"


def test_outputs_are_in_the_order_of_finishing(world: World) -> None:
    """A run's outputs are those of its done activations, in the order in which they finished."""
    run_id = world.submit("stock", "bank", "ship")
    works = world.worker().claim_by_neuron()
    for neuron in ("ship", "stock", "bank"):
        world.apply(succeeded(works[neuron], outputs=[f'"{neuron} 1"', f'"{neuron} 2"']))
    told = [output["payload"] for output in world.row(run_id)["outputs"]]
    assert told == ["ship 1", "ship 2", "stock 1", "stock 2", "bank 1", "bank 2"]


def test_a_done_activation_shows_no_error_of_an_earlier_try(world: World) -> None:
    """An activation that failed once and then succeeded is done, and nothing else; its tries tell the rest."""
    run_id = world.submit("stock")
    worker = world.worker()
    world.apply(failed(worker.claim_one(), retry_after=1.0))
    assert world.activations(run_id)[1]["error"] == "it broke"
    world.clock.advance(1)
    world.fire(run_id, 1)
    world.apply(succeeded(worker.claim_one()))
    row = world.activations(run_id)[1]
    assert (row["status"], row["error"], row["error_type"]) == ("done", None, None)


def test_a_run_has_started_when_its_first_call_has(world: World) -> None:
    """The start is that of the earliest claim, whichever activation is settled first, and stays."""
    run_id = world.submit("stock", "bank")
    assert world.row(run_id)["started_at"] is None
    worker = world.worker()
    world.clock.advance(1)
    (first,) = worker.claim(1)
    start = world.clock.now()
    assert world.row(run_id)["started_at"] == start
    world.clock.advance(1)
    (second,) = worker.claim(1)
    for work in (second, first):
        world.apply(succeeded(work))
        assert world.row(run_id)["started_at"] == start


def test_what_became_ready_is_rung_for_by_queue(world: World) -> None:
    """A settlement's rings name the queues and the activations that may be claimed now."""
    one, two = world.submit("stock"), world.submit("stock")
    works = {work.run_id: work for work in world.worker().claim()}
    batch = world.apply(
        succeeded(works[one], targets=[target("bank", queue="bank"), target("ship", ordinal=1)]),
        succeeded(works[two], targets=[target("bank", queue="bank")]),
    )
    assert {ring.door: set(ring.activations) for ring in batch.rings} == {
        door(GRAPH, "bank"): {(one, 2), (two, 2)},
        door(GRAPH, "default"): {(one, 3)},
    }
