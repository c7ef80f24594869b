"""The store port: activations that lost many workers, which only a worker that runs nothing else may claim (rule 4)."""

from __future__ import annotations

from uuid import UUID

from msgspec.structs import replace

from cnstra.orchestrator.machine.events import Lost
from cnstra.orchestrator.machine.plans import Verdict
from cnstra.orchestrator.store import RunEvent, Work
from support.worlds import GONE, Worker, World, failed, retry_asked, returned, succeeded


def _loses(world: World, work: Work, *, suspect_at: int = 2) -> None:
    """The worker is lost with it; its next try is due."""
    event = Lost(fence=work.fence, failure=GONE, backoff=1.0, suspect_at=suspect_at)
    assert world.settle(RunEvent(run_id=work.run_id, event=event)).verdict is Verdict.APPLIED
    world.clock.advance(1.0)
    assert world.fire(work.run_id, work.activation_id).verdict is Verdict.APPLIED


def _suspect(world: World, worker: Worker) -> UUID:
    """A run whose activation has lost two workers."""
    run_id = world.submit("stock")
    for _ in range(2):
        _loses(world, worker.claim_one())
    return run_id


def _waits(world: World, worker: Worker) -> bool:
    return world.store.run(world.store.suspects_wait(worker.request()))


def test_a_suspect_is_claimed_only_by_who_asks_for_suspects(world: World) -> None:
    """The first loss is forgiven; from the second on, ordinary claims pass over it, and a claim for suspects has no other."""
    worker = world.worker()
    run_id = _suspect(world, worker)
    other = world.submit("stock")
    assert world.activations(run_id)[1]["status"] == "ready"
    assert _waits(world, worker)
    assert world.look(worker).suspects
    assert [work.run_id for work in worker.claim()] == [other]
    [work] = worker.claim(suspects=True)
    assert (work.run_id, work.crashes, work.try_number) == (run_id, 2, 3)
    assert worker.claim(suspects=True) == []
    assert not _waits(world, worker)
    assert not world.look(worker).suspects


def test_a_suspect_that_nobody_here_could_run_does_not_wait_for_them(world: World) -> None:
    """A process must not empty itself for what it has not the code for."""
    _suspect(world, world.worker())
    stranger = world.worker(("bank", "order"))
    assert not _waits(world, stranger)
    assert stranger.claim(suspects=True) == []


def test_a_suspect_stays_one_until_it_is_done(world: World) -> None:
    """Given back, or failed and tried again, it still has nobody beside it; done, it is over, and so is the run."""
    worker = world.worker()
    run_id = _suspect(world, worker)
    [work] = worker.claim(suspects=True)
    world.apply(returned(work))
    assert worker.claim() == []
    [work] = worker.claim(suspects=True)
    world.apply(failed(work, retry_after=5.0))
    world.clock.advance(5.0)
    world.fire(run_id, 1)
    assert worker.claim() == []
    [work] = worker.claim(suspects=True)
    world.apply(succeeded(work))
    assert world.status(run_id) == "completed"


def test_a_new_attempt_suspects_nobody(world: World) -> None:
    """Who retries a run that failed for its losses has mended the cause: the count begins anew."""
    worker = world.worker()
    run_id = _suspect(world, worker)
    [work] = worker.claim(suspects=True)
    world.apply(failed(work))
    world.apply(retry_asked(run_id))
    assert not _waits(world, worker)
    [work] = worker.claim()
    assert (work.run_id, work.crashes, work.attempt) == (run_id, 0, 2)


def test_a_claim_for_suspects_repeats_under_its_nonce(world: World) -> None:
    """When its reply was lost, the same suspect is answered again."""
    worker = world.worker()
    run_id = _suspect(world, worker)
    request = replace(worker.request(), suspects=True)
    assert [work.run_id for work in world.replayed(world.store.claim(request))] == [run_id]
