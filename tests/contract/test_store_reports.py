"""Progress: what the holder of a claim reports shows at once, outlives the try, and is refused of everybody else."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

import pytest
from msgspec.structs import replace

from cnstra.orchestrator.machine.records import Claimed
from cnstra.orchestrator.store import Report, RunEvent, Work
from support.worlds import World, failed, lost, retry_asked, returned, succeeded


def report_of(work: Work, progress: str, **fence: int) -> Report:
    return Report(run_id=work.run_id, fence=replace(work.fence, **fence), progress=progress)


def report(world: World, *reports: Report) -> list[Report]:
    """Report; those that were refused."""
    return world.store.run(world.store.report(reports))


def progress_of(world: World, run_id: UUID, number: int = 1) -> object:
    return world.activations(run_id)[number]["progress"]


def test_what_running_handlers_report_shows_in_their_rows(world: World) -> None:
    """Each in its own, the last one counts; nothing else of the run, and nothing of others, changes."""
    run_id, other = world.submit("stock", "bank"), world.submit("ship")
    works = world.worker().claim_by_neuron()
    before = {**world.activations(run_id), 3: world.activations(other)[1]}

    assert report(world, report_of(works["stock"], '{"rows":3}'), report_of(works["ship"], "[1]")) == []
    assert report(world, report_of(works["stock"], '{"rows":4}')) == []

    after = {**world.activations(run_id), 3: world.activations(other)[1]}
    assert after == {1: before[1] | {"progress": {"rows": 4}}, 2: before[2], 3: before[3] | {"progress": [1]}}


ENDS: list[Callable[[Work], RunEvent]] = [
    lambda work: failed(work, retry_after=0.0),
    lambda work: lost(work.run_id, work.fence, backoff=0.0),
    returned,
]


@pytest.mark.parametrize("end", ENDS, ids=["it failed", "its worker was lost", "it was given back"])
def test_the_next_try_finds_what_the_last_one_reported(world: World, end: Callable[[Work], RunEvent]) -> None:
    """However the try ended; a first one finds nothing."""
    run_id = world.submit("stock")
    work = world.worker().claim_one()
    assert work.progress is None
    report(world, report_of(work, '"half"'))

    world.apply(end(work))
    world.fire(run_id, 1)

    assert progress_of(world, run_id) == "half"
    assert world.worker().claim_one().progress == '"half"'


def test_the_next_attempt_finds_what_the_last_one_reported(world: World) -> None:
    """Progress belongs to the activation: a retry of the run does not begin anew."""
    run_id = world.submit("stock")
    work = world.worker().claim_one()
    report(world, report_of(work, "7"))
    world.apply(failed(work))
    assert (world.status(run_id), progress_of(world, run_id)) == ("failed", 7)

    world.apply(retry_asked(run_id))

    again = world.worker().claim_one()
    assert (again.attempt, again.progress) == (2, "7")


def test_the_last_progress_stays_visible_after_the_end(world: World) -> None:
    """Of an activation that is done."""
    run_id = world.submit("stock")
    work = world.worker().claim_one()
    report(world, report_of(work, "100"))
    world.apply(succeeded(work))
    assert (world.status(run_id), progress_of(world, run_id)) == ("completed", 100)


def test_a_claim_whose_reply_was_lost_has_the_progress_too(world: World) -> None:
    """A claim that is answered again is the same claim."""
    world.submit("stock")
    worker = world.worker()
    work = worker.claim_one()
    report(world, report_of(work, "1"))
    world.apply(returned(work))

    (again,) = world.replayed(world.store.claim(worker.request()))

    assert again.progress == "1"


@pytest.mark.parametrize("stale", [{"epoch": 2}, {"nonce": 7}, {"activation_id": 9}])
def test_g3_progress_carries_the_fence(world: World, stale: dict[str, int]) -> None:
    """With another epoch or nonce it is refused, and the others of its batch are kept."""
    run_id = world.submit("stock", "bank")
    works = world.worker().claim_by_neuron()
    bad, good = report_of(works["stock"], "1", **stale), report_of(works["bank"], "2")

    assert report(world, bad, good) == [bad]

    rows = world.activations(run_id)
    assert (rows[1]["progress"], rows[2]["progress"]) == (None, 2)


def test_g3_a_zombies_progress_is_refused(world: World) -> None:
    """Its claim was taken away, and then went to somebody else: what that one reports stays."""
    run_id = world.submit("stock")
    zombie = world.worker().claim_one()
    world.apply(lost(run_id, zombie.fence, backoff=0.0))
    late = report_of(zombie, '"late"')
    assert report(world, late) == [late]
    world.fire(run_id, 1)
    assert report(world, report_of(world.worker().claim_one(), '"mine"')) == []

    assert report(world, late) == [late]

    assert progress_of(world, run_id) == "mine"


def test_g4_progress_of_what_is_done_is_refused(world: World) -> None:
    """A report that comes behind its own settlement changes nothing; nor does one of a run that is not there."""
    run_id = world.submit("stock")
    work = world.worker().claim_one()
    world.apply(succeeded(work))
    done = world.activations(run_id)
    late = report_of(work, "1")
    nowhere = Report(run_id=UUID(int=7), fence=Claimed(activation_id=1, epoch=1, nonce=1), progress="1")

    assert report(world, late, nowhere) == [late, nowhere]

    assert world.activations(run_id) == done
