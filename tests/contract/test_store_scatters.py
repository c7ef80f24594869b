"""Stores of runs: scatters and gathers; each gather is called exactly once a run and group (G11)."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from cnstra.orchestrator.machine.plans import Verdict
from cnstra.orchestrator.machine.records import Compensable
from cnstra.orchestrator.store import Portion, Work
from support.worlds import (
    Worker,
    World,
    attempt_due,
    cancel_asked,
    expectation_due,
    expects,
    failed,
    lost,
    pause_asked,
    resume_asked,
    retry_asked,
    scatter,
    sent,
    succeeded,
    target,
)


def scattered(world: World, worker: Worker, *payloads: str, **options: Any) -> UUID:
    """A run whose first hop has scattered."""
    run_id = world.submit("ship")
    world.settle(succeeded(worker.claim_one(), scattered=[scatter(*payloads, **options)]))
    return run_id


def results_of(work: Work) -> Any:
    return json.loads(work.payload)


def give(world: World, work: Work, **options: Any) -> None:
    """End a member with a result that says which one it is."""
    assert world.settle(succeeded(work, results=[work.payload], **options)).verdict is Verdict.APPLIED


def by_neuron(world: World, run_id: UUID, neuron: str) -> list[dict[str, Any]]:
    return [row for row in world.activations(run_id).values() if row["neuron"] == neuron]


# -- one group -------------------------------------------------------------------------------------------------


def test_g11_a_gather_is_called_once_with_the_results_in_the_order_of_the_scatter(world: World) -> None:
    """Not before the last member has ended; whoever ends first."""
    worker = world.worker()
    run_id = scattered(world, worker, "1", "2", "3")
    assert [row["status"] for row in by_neuron(world, run_id, "report")] == ["waiting"]
    works = worker.claim()
    assert [(work.neuron, work.payload) for work in works] == [("stock", "1"), ("stock", "2"), ("stock", "3")]
    for work in reversed(works[1:]):
        give(world, work)
        assert worker.claim() == []
    give(world, works[0])
    [gather] = worker.claim()
    assert (gather.neuron, gather.collateral, results_of(gather)) == ("report", "result", [1, 2, 3])
    assert world.settle(succeeded(works[0])).verdict is Verdict.REPEATED
    world.settle(succeeded(gather, outputs=["6"]))
    row = world.row(run_id)
    assert (row["status"], row["outstanding"], [one["payload"] for one in row["outputs"]]) == ("completed", 0, [6])
    assert len(by_neuron(world, run_id, "report")) == 1


def test_the_results_show_as_what_their_activations_emitted_and_not_as_outputs_of_the_run(world: World) -> None:
    worker = world.worker()
    run_id = scattered(world, worker, "1")
    give(world, worker.claim_one())
    [row] = by_neuron(world, run_id, "stock")
    assert row["outputs"] == [{"collateral": "result", "payload": 1}]
    assert (row["group_id"], row["member"]) == (1, 0)
    assert world.row(run_id)["outputs"] == []
    [parent] = by_neuron(world, run_id, "ship")
    assert parent["outputs"] == [{"collateral": "order", "payload": 1}]


def test_an_empty_scatter_has_ended_at_once(world: World) -> None:
    """Its gathers are called with nothing."""
    worker = world.worker()
    run_id = scattered(world, worker, gather=("report", "bank"))
    works = worker.claim()
    assert {work.neuron: results_of(work) for work in works} == {"report": [], "bank": []}
    world.apply(*map(succeeded, works))
    assert (world.status(run_id), world.row(run_id)["outstanding"]) == ("completed", 0)


def test_a_member_that_gives_no_result_is_left_out(world: World) -> None:
    worker = world.worker()
    scattered(world, worker, "1", "2", "3")
    works = worker.claim()
    give(world, works[0])
    world.settle(succeeded(works[1]))
    give(world, works[2])
    assert results_of(worker.claim_one()) == [1, 3]


def test_a_member_is_all_that_it_brings_about(world: World) -> None:
    """Its group ends when the last of that has: successors, timers, and signals from outside that it expects."""
    worker = world.worker()
    run_id = scattered(world, worker, "1", "2")
    first, second = worker.claim()
    give(world, second)
    world.settle(
        succeeded(
            first,
            targets=[target("bank"), target("bank", delay=timedelta(seconds=5), ordinal=1)],
            expected=[expects("bank", timeout=timedelta(seconds=9), late=[target("bank")])],
        )
    )
    give(world, worker.claim_one())
    assert worker.claim() == []
    world.clock.advance(5)
    world.fire_everything(worker)
    world.settle(succeeded(worker.claim_one()))
    assert worker.claim() == []
    world.clock.advance(9)
    world.fire_everything(worker)
    world.settle(succeeded(worker.claim_one()))
    gather = worker.claim_one()
    assert (gather.neuron, [one is not None for one in results_of(gather)]) == ("report", [True, True])
    world.settle(succeeded(gather))
    assert world.status(run_id) == "completed"


def test_several_may_hear_what_is_scattered_and_several_may_gather(world: World) -> None:
    """A member is what all of them do; each gather is called with all results."""
    worker = world.worker()
    run_id = scattered(world, worker, "1", "2", to=("stock", "bank"), gather=("report", "ship"))
    works = worker.claim()
    assert len(works) == 4
    for work in works:
        world.settle(succeeded(work, results=[work.payload] if work.neuron == "bank" else []))
    gathers = worker.claim()
    assert {work.neuron: results_of(work) for work in gathers} == {"report": [1, 2], "ship": [1, 2]}
    world.apply(*map(succeeded, gathers))
    assert world.status(run_id) == "completed"


def test_two_results_of_one_member_are_an_error(world: World) -> None:
    """In one hop or in two; the hop that gives the second has failed, for good, and wrote nothing."""
    worker = world.worker()
    run_id = scattered(world, worker, "1", to=("stock", "bank"))
    works = worker.claim()
    give(world, works[0])
    second = succeeded(works[1], lambda ctx: ctx.set({"a": 1}), results=["9"])
    assert world.settle(second).verdict is Verdict.REFUSED
    row = world.row(run_id)
    assert (row["status"], row["error_type"], world.values(run_id)) == ("failed", "cnstra.OutputError", None)
    assert "member 0" in row["error"]

    again = scattered(world, worker, "1")
    assert world.settle(succeeded(worker.claim_one(), results=["1", "2"])).verdict is Verdict.REFUSED
    assert world.status(again) == "failed"


def test_a_scatter_may_begin_so_many_members_at_a_time(world: World) -> None:
    """The next one when one has ended; the results are in their order all the same."""
    worker = world.worker()
    run_id = scattered(world, worker, *map(str, range(7)), limit=3)
    held = worker.claim()
    order, ended = [work.payload for work in held], 0
    while held[0].neuron == "stock":
        assert len(held) == min(3, 7 - ended)
        assert world.row(run_id)["outstanding"] == len(held)
        give(world, held.pop())
        ended += 1
        new = worker.claim()
        order += [work.payload for work in new if work.neuron == "stock"]
        held += new
    assert order == list(map(str, range(7)))
    assert [results_of(work) for work in held] == [list(range(7))]


def test_results_outside_of_any_group_are_outputs_of_the_run(world: World) -> None:
    worker = world.worker()
    run_id = world.submit("stock")
    world.settle(succeeded(worker.claim_one(), results=["4"]))
    assert [one["payload"] for one in world.row(run_id)["outputs"]] == [4]


@pytest.mark.parametrize("size", [2_000])
def test_a_wide_scatter_is_settled_in_batches(world: World, size: int) -> None:
    """Many ends of members in one transaction; the gather has them all, in order."""
    worker = world.worker()
    run_id = scattered(world, worker, *map(str, range(size)))
    while (works := worker.claim(500)) and works[0].neuron == "stock":
        world.apply(*(succeeded(work, results=[work.payload]) for work in works))
    [gather] = works
    assert results_of(gather) == list(range(size))
    world.settle(succeeded(gather))
    assert world.status(run_id) == "completed"


# -- failures --------------------------------------------------------------------------------------------------


def test_a_failed_member_keeps_its_group_open_until_a_retry(world: World) -> None:
    """The others go on to their end; the retry runs the failed one alone; then the gather is called."""
    worker = world.worker()
    run_id = scattered(world, worker, "1", "2", "3")
    works = worker.claim()
    world.settle(failed(works[1]))
    assert world.status(run_id) == "running"
    give(world, works[0])
    give(world, works[2])
    assert (world.status(run_id), world.row(run_id)["outstanding"], worker.claim()) == ("failed", 0, [])
    assert [row["status"] for row in by_neuron(world, run_id, "report")] == ["waiting"]

    world.settle(retry_asked(run_id))
    again = worker.claim_one()
    assert (again.payload, again.attempt) == ("2", 2)
    give(world, again)
    gather = worker.claim_one()
    assert results_of(gather) == [1, 2, 3]
    world.settle(succeeded(gather))
    assert world.status(run_id) == "completed"


def test_the_runs_policy_takes_up_a_failed_member_and_with_a_limit_the_others_go_on(world: World) -> None:
    worker = world.worker()
    run_id = scattered(world, worker, "1", "2", "3", limit=1)
    world.settle(failed(worker.claim_one(), revive_after=1.0))
    give(world, worker.claim_one())
    give(world, worker.claim_one())
    assert world.status(run_id) == "waiting"
    world.clock.advance(1)
    world.settle(attempt_due(run_id))
    give(world, worker.claim_one())
    assert results_of(worker.claim_one()) == [1, 2, 3]


def test_a_gather_that_takes_failures_has_them_in_their_places_and_the_run_goes_on(world: World) -> None:
    """They are handled: the run has not failed, its policy is not asked, and no retry runs them again."""
    worker = world.worker()
    run_id = scattered(world, worker, '{"n":1}', '{"n":2}', '{"n":3}', failures=True)
    works = worker.claim()
    give(world, works[0])
    world.settle(succeeded(works[1], targets=[target("bank"), target("ship", ordinal=1)]))
    world.settle(failed(works[2], revive_after=1.0))
    children = worker.claim()
    world.settle(failed(children[0]))
    assert worker.claim() == []
    world.settle(succeeded(children[1]))
    gather = worker.claim_one()
    failure = {"error": "it broke", "error_type": "shop.Boom", "collateral": "order"}
    assert results_of(gather) == [
        {"result": {"n": 1}},
        {"failure": failure | {"index": 1, "payload": {"n": 2}}},
        {"failure": failure | {"index": 2, "payload": {"n": 3}}},
    ]
    world.settle(failed(gather))
    row = world.row(run_id)
    assert (row["status"], row["error_type"]) == ("failed", "shop.Boom")
    world.settle(retry_asked(run_id))
    [again] = worker.claim()
    assert (again.neuron, results_of(again)) == ("report", results_of(gather))
    world.settle(succeeded(again))
    assert (world.status(run_id), world.row(run_id)["error"]) == ("completed", None)
    assert [row["handled"] for row in by_neuron(world, run_id, "stock")] == [False, False, True]


def test_a_member_that_loses_its_worker_is_tried_again_within_its_group(world: World) -> None:
    worker = world.worker()
    run_id = scattered(world, worker, "1", "2")
    first, second = worker.claim()
    give(world, second)
    world.settle(lost(run_id, first.fence, backoff=0.0))
    world.fire_everything(worker)
    give(world, worker.claim_one())
    assert world.settle(succeeded(first, results=["1"])).verdict is Verdict.FENCED
    assert results_of(worker.claim_one()) == [1, 2]


# -- members that stay with the worker that settles ------------------------------------------------------------


def staying(world: World, worker: Worker, *payloads: str, **options: Any) -> tuple[UUID, tuple[Work, ...]]:
    """A run whose first hop has scattered, and wrote; and the members that its worker holds."""
    run_id = world.submit("ship")
    one = succeeded(
        worker.claim_one(), lambda ctx: ctx.set({"a": 1}), targets=[], scattered=[scatter(*payloads, **options)]
    )
    return run_id, world.settle(one).kept


def test_g11_the_first_members_stay_where_they_are_asked_to_and_others_have_the_rest(world: World) -> None:
    """What stays is held, and sees what its parent wrote; of several dendrites that hear it, it is one."""
    worker, other = world.worker(), world.worker()
    run_id, kept = staying(world, worker, "1", "2", "3", to=("stock", "bank"), gather=("report",), here=2)
    assert [(work.neuron, work.payload, work.try_number) for work in kept] == [("stock", "1", 1), ("stock", "2", 1)]
    assert {work.snapshot.version for work in kept} == {1}
    rest = other.claim()
    assert [(work.neuron, work.payload) for work in rest] == [
        ("bank", "1"),
        ("bank", "2"),
        ("stock", "3"),
        ("bank", "3"),
    ]
    assert (world.row(run_id)["outstanding"], worker.claim()) == (6, [])
    for work in (*kept, *(one for one in rest if one.payload == "3" and one.neuron == "stock")):
        give(world, work)
    for work in rest:
        world.settle(succeeded(work))
    assert results_of(worker.claim_one()) == [1, 2, 3]


@pytest.mark.parametrize(("limit", "here"), [(None, 9), (2, 9), (2, 1)])
def test_no_more_members_stay_than_begin(world: World, limit: int | None, here: int) -> None:
    """With a limit, those that begin later are anybody's."""
    worker = world.worker()
    _, kept = staying(world, worker, "1", "2", "3", limit=limit, here=here)
    begun = 3 if limit is None else limit
    assert [work.payload for work in kept] == ["1", "2", "3"][: min(begun, here)]
    assert [work.payload for work in worker.claim()] == ["1", "2", "3"][len(kept) : begun]
    give(world, kept[0])
    assert [work.payload for work in worker.claim()] == (["3"] if limit else [])


def test_members_that_pass_a_limit_of_their_neuron_do_not_stay(world: World) -> None:
    _, kept = staying(world, world.worker(), "1", "2", here=2, limited=True)
    assert kept == ()


@pytest.mark.parametrize("ask", [pause_asked, cancel_asked], ids=["paused", "cancelled"])
def test_nor_do_those_of_a_run_that_does_not_go_on(world: World, ask: Any) -> None:
    worker = world.worker()
    run_id = world.submit("ship")
    work = worker.claim_one()
    world.apply(ask(run_id))
    assert world.settle(succeeded(work, scattered=[scatter("1", "2", here=2)])).kept == ()
    assert worker.claim() == []


def test_a_repeated_settlement_gets_its_members_again(world: World) -> None:
    """A worker whose reply was lost would else hold them without knowing it."""
    world.submit("ship")
    event = succeeded(world.worker().claim_one(), scattered=[scatter("1", "2", "3", here=2)])
    kept = world.settle(event).kept
    again = world.settle(event)
    assert again.verdict is Verdict.REPEATED
    assert [(work.payload, work.fence) for work in again.kept] == [(work.payload, work.fence) for work in kept]
    assert len(kept) == 2


def test_a_member_that_stayed_is_tried_again_elsewhere_when_its_worker_is_lost(world: World) -> None:
    worker = world.worker()
    run_id, (first, second) = staying(world, worker, "1", "2", here=2)
    give(world, second)
    world.settle(lost(run_id, first.fence, backoff=0.0))
    world.fire_everything(worker)
    give(world, world.worker().claim_one())
    assert world.settle(succeeded(first, results=["1"])).verdict is Verdict.FENCED
    assert results_of(worker.claim_one()) == [1, 2]


# -- groups within groups --------------------------------------------------------------------------------------


def nested(
    world: World, worker: Worker, *, failures: bool = False, inner_failures: bool = False
) -> tuple[UUID, list[Work]]:
    """Two members that each scatter two of their own, which ``bank`` does; ``ship`` gathers these, ``report`` all."""
    run_id = scattered(world, worker, "1", "2", failures=failures)
    for work in worker.claim():
        own = scatter(f"{work.payload}1", f"{work.payload}2", to=("bank",), gather=("ship",), failures=inner_failures)
        world.settle(succeeded(work, scattered=[own]))
    return run_id, worker.claim()


def test_a_group_within_a_member_ends_first_and_what_its_gather_emits_belongs_to_the_member(world: World) -> None:
    worker = world.worker()
    run_id, inner = nested(world, worker)
    assert [work.payload for work in inner] == ["11", "12", "21", "22"]
    for work in inner[:3]:
        give(world, work)
    [gather] = worker.claim()
    assert (gather.neuron, results_of(gather)) == ("ship", [11, 12])
    world.settle(succeeded(gather, results=["1"]))
    assert worker.claim() == []
    give(world, inner[3])
    [gather] = worker.claim()
    world.settle(succeeded(gather, results=["2"]))
    [outer] = worker.claim()
    assert (outer.neuron, results_of(outer)) == ("report", [1, 2])
    world.settle(succeeded(outer))
    row = world.row(run_id)
    assert (row["status"], row["outstanding"], row["outputs"]) == ("completed", 0, [])


def test_a_failure_within_an_inner_group_is_taken_by_the_gather_around_it(world: World) -> None:
    """The inner gather is never called; the member around has failed, and is handled."""
    worker = world.worker()
    run_id, inner = nested(world, worker, failures=True)
    world.settle(failed(inner[0]))
    for work in inner[1:]:
        give(world, work)
    [gather] = worker.claim()
    assert results_of(gather) == [21, 22]
    world.settle(succeeded(gather, results=["2"]))
    [outer] = worker.claim()
    assert outer.neuron == "report"
    [first, second] = results_of(outer)
    assert (first["failure"]["index"], first["failure"]["payload"], second) == (0, 1, {"result": 2})
    world.settle(succeeded(outer))
    assert world.status(run_id) == "completed"
    assert sorted(row["status"] for row in by_neuron(world, run_id, "ship")) == ["cancelled", "done", "done"]


def test_a_group_that_nobody_gathers_ends_with_the_member_that_has_failed(world: World) -> None:
    """A retry of something else takes up nothing of it: its counts stay what they were."""
    worker = world.worker()
    run_id = scattered(world, worker, "1", failures=True)
    own = scatter("11", "12", to=("bank",), gather=())
    world.settle(succeeded(worker.claim_one(), scattered=[own]))
    first, second = worker.claim()
    world.settle(failed(first))
    world.settle(succeeded(second))
    gather = worker.claim_one()
    assert "failure" in results_of(gather)[0]
    world.settle(failed(gather))
    before = world.groups(run_id)
    assert [group.closed for group in before.values()] == [True, True]

    world.settle(retry_asked(run_id))

    assert world.groups(run_id) == before
    world.settle(succeeded(worker.claim_one()))
    assert world.status(run_id) == "completed"


def test_a_failure_that_an_inner_gather_takes_is_none_of_the_member_around(world: World) -> None:
    worker = world.worker()
    run_id, inner = nested(world, worker, inner_failures=True)
    world.apply(failed(inner[0]), *(succeeded(work, results=[work.payload]) for work in inner[1:]))
    gathers = worker.claim()
    assert ["failure" in results_of(work)[0] for work in gathers] == [True, False]
    for number, work in enumerate(gathers):
        world.settle(succeeded(work, results=[str(number)]))
    assert results_of(worker.claim_one()) == [0, 1]
    assert world.row(run_id)["error"] is None


def test_a_failure_that_nobody_takes_keeps_both_groups_open_until_a_retry(world: World) -> None:
    worker = world.worker()
    run_id, inner = nested(world, worker)
    world.settle(failed(inner[0]))
    for work in inner[1:]:
        give(world, work)
    world.settle(succeeded(worker.claim_one(), results=["2"]))
    assert world.status(run_id) == "failed"
    world.settle(retry_asked(run_id))
    give(world, worker.claim_one())
    world.settle(succeeded(worker.claim_one(), results=["1"]))
    assert results_of(worker.claim_one()) == [1, 2]


def test_a_gather_that_could_belong_to_two_scatters_is_refused(world: World) -> None:
    """Where neither is named: the hop that scatters within has failed, and says what to write."""
    worker = world.worker()
    run_id = scattered(world, worker, "1", named=False)
    own = scatter("2", to=("bank",), gather=("report",), named=False, collateral="part")
    assert world.settle(succeeded(worker.claim_one(), scattered=[own])).verdict is Verdict.REFUSED
    row = world.row(run_id)
    assert row["status"] == "failed"
    assert "of=" in row["error"]


# -- with all the rest -----------------------------------------------------------------------------------------


def test_a_cancel_ends_members_and_gathers(world: World) -> None:
    """And nothing that has not begun does."""
    worker = world.worker()
    run_id = scattered(world, worker, "1", "2", "3", limit=2)
    held, _ = worker.claim()
    world.settle(lost(run_id, _.fence, backoff=9.0))
    world.settle(cancel_asked(run_id))
    assert world.status(run_id) == "running"
    world.settle(succeeded(held, results=["1"], scattered=[scatter("7")], targets=[target("bank")]))
    assert (world.status(run_id), world.row(run_id)["outstanding"]) == ("cancelled", 0)
    assert [row["status"] for row in by_neuron(world, run_id, "report")] == ["cancelled"]
    assert worker.claim() == []


def test_g10_the_end_of_a_member_counts_in_a_run_that_ends_whatever_it_gives(world: World) -> None:
    """No gather is called any more, so that a second result of a member is none; what it did is undone."""
    worker = world.worker()
    run_id = world.submit("ship")
    world.settle(succeeded(worker.claim_one(), scattered=[scatter("1", to=("stock", "bank"))]))
    works = worker.claim_by_neuron()
    give(world, works["stock"])
    world.settle(cancel_asked(run_id, compensate=True))
    give(world, works["bank"], compensable=Compensable.DONE)
    undo = worker.claim_one()
    assert (undo.neuron, undo.undo) == ("bank", True)
    world.settle(succeeded(undo))
    assert world.status(run_id) == "compensated"


def test_what_members_have_done_is_undone(world: World) -> None:
    """Also what was done beside a failure that a gather has taken; the gather that still waits is cancelled."""
    worker = world.worker()
    run_id = scattered(world, worker, "1", "2")
    first, second = worker.claim()
    world.settle(succeeded(first, results=["1"], compensable=Compensable.DONE))
    world.settle(failed(second))
    assert world.status(run_id) == "compensating"
    assert [row["status"] for row in by_neuron(world, run_id, "report")] == ["cancelled"]
    [undo] = worker.claim()
    assert (undo.undo, undo.payload) == (True, "1")
    told = [(output.collateral, output.payload, output.collected) for output in undo.emitted]
    assert told == [("result", "1", False)]
    world.settle(succeeded(undo))
    assert world.status(run_id) == "compensated"


def test_a_paused_scatter_goes_on_where_it_was(world: World) -> None:
    worker = world.worker()
    run_id = scattered(world, worker, "1", "2", limit=1)
    first = worker.claim_one()
    world.settle(pause_asked(run_id))
    give(world, first)
    assert worker.claim() == []
    world.settle(resume_asked(run_id))
    second = worker.claim_one()
    world.settle(pause_asked(run_id))
    give(world, second)
    assert worker.claim() == []
    world.settle(resume_asked(run_id))
    assert results_of(worker.claim_one()) == [1, 2]


def test_members_may_wait_for_signals_and_for_timeouts(world: World) -> None:
    """What comes too late may be a member's result."""
    worker = world.worker()
    run_id = scattered(world, worker, "1", "2")
    for work in worker.claim():
        world.settle(succeeded(work, expected=[expects("bank", timeout=timedelta(seconds=5), late=[target("stock")])]))
    first, second = (row["activation_id"] for row in by_neuron(world, run_id, "bank"))
    world.settle(sent(run_id, "8"))
    give(world, worker.claim_one())
    world.clock.advance(5)
    assert world.settle(expectation_due(run_id, second)).verdict is Verdict.APPLIED
    world.settle(succeeded(worker.claim_one(), results=["9"]))
    assert results_of(worker.claim_one()) == [8, 9]
    assert first < second


def test_what_a_timeout_emits_is_the_members_result(world: World) -> None:
    """On a collateral that is gathered it is collected like any other signal of the member, and is no output of the run."""
    worker = world.worker()
    run_id = scattered(world, worker, "1", "2")
    [first, second] = worker.claim()
    give(world, first)
    world.settle(succeeded(second, expected=[expects("bank", timeout=timedelta(seconds=5), result="7")]))
    [awaited] = [row["activation_id"] for row in by_neuron(world, run_id, "bank")]
    world.clock.advance(5)
    assert world.settle(expectation_due(run_id, awaited)).verdict is Verdict.APPLIED
    gather = worker.claim_one()
    assert (gather.neuron, results_of(gather)) == ("report", [1, 7])
    world.settle(succeeded(gather))
    row = world.row(run_id)
    assert (row["status"], row["outputs"]) == ("completed", [])
    assert world.activations(run_id)[awaited]["outputs"] == [{"collateral": "result", "payload": 7}]


def test_a_timeout_adds_no_second_result_to_a_member(world: World) -> None:
    """There is no hop that could fail for it: the first stays, and the late one is an output of the run, for all to see."""
    worker = world.worker()
    run_id = scattered(world, worker, "1")
    work = worker.claim_one()
    give(world, work, expected=[expects("bank", timeout=timedelta(seconds=5), result="7")])
    [awaited] = [row["activation_id"] for row in by_neuron(world, run_id, "bank")]
    world.clock.advance(5)
    world.settle(expectation_due(run_id, awaited))
    gather = worker.claim_one()
    assert results_of(gather) == [1]
    world.settle(succeeded(gather))
    row = world.row(run_id)
    assert (row["status"], [one["payload"] for one in row["outputs"]]) == ("completed", [7])


def test_a_compensation_of_what_a_gather_took_as_failed_may_fail_the_run(world: World) -> None:
    """That the failure was handled says nothing of the compensation's: it is not passed over, and a retry takes it up."""
    uncertain = Compensable.UNCERTAIN
    worker = world.worker()
    run_id = scattered(world, worker, "1", failures=True)
    world.settle(failed(worker.claim_one(), compensable=uncertain))
    world.settle(failed(worker.claim_one()))
    assert world.status(run_id) == "compensating"
    undo = worker.claim_one()
    assert (undo.neuron, undo.undo) == ("stock", True)
    world.settle(failed(undo, compensable=uncertain))
    assert world.status(run_id) == "failed"
    world.settle(retry_asked(run_id))
    world.settle(succeeded(worker.claim_one(), compensable=uncertain))
    assert world.status(run_id) == "compensated"
    assert [row["handled"] for row in by_neuron(world, run_id, "stock")] == [True]


def test_all_of_a_scatter_leaves_with_its_run(world: World) -> None:
    worker = world.worker()
    run_id = scattered(world, worker, "1")
    give(world, worker.claim_one())
    world.settle(succeeded(worker.claim_one()))
    world.clock.advance(10)
    world.store.run(world.store.prune(["completed"], world.clock.now(), Portion()))
    assert world.status(run_id) is None
    assert world.activations(run_id) == {}
