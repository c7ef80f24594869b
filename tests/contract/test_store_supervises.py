"""The store port: the looks and sweeps of supervisors (rule 5), each short and safe to repeat."""

from __future__ import annotations

from datetime import timedelta

from msgspec.structs import replace

from cnstra.orchestrator.machine.plans import Verdict
from cnstra.orchestrator.ports import Ring, door
from support.worlds import EVERYTHING, GRAPH, LEASE, World, failed, lost, succeeded, target


def test_one_of_several_supervises_and_another_takes_over(world: World) -> None:
    """Who looks first is elected for two seconds; it renews by looking, and somebody else follows when it stops."""
    first, second = world.worker(), world.worker()
    assert world.look(first).elected
    assert not world.look(second).elected
    world.clock.advance(1.9)
    assert world.look(first).elected
    world.clock.advance(1.9)
    assert not world.look(second).elected
    world.clock.advance(0.2)
    assert world.look(second).elected
    assert not world.look(first).elected


def test_supervisors_that_meet_elect_one(world: World) -> None:
    """Of looks at the same moment, one is elected."""
    workers = [world.worker() for _ in range(3)]
    world.submit("stock")
    looks = [world.store.look(worker.info.worker, worker.info.lease, worker.info.lease, 10) for worker in workers]
    found = world.at_once(*looks, hold="select from cnstra.supervisor for update")
    assert [findings.elected for findings in found].count(True) == 1


def test_who_is_not_elected_is_told_only_whether_work_waits(world: World) -> None:
    """Only the one supervisor gets work to do; all others may claim, should nobody hear of it."""
    first, second = world.worker(), world.worker()
    assert world.look(first).elected
    assert not world.look(second).waits
    run_id = world.submit("stock")
    assert not world.look(second).waits
    world.clock.advance(1.1)
    assert world.look(first).unclaimed == (Ring(door=door(GRAPH, "default"), activations=((run_id, 1),)),)
    told = world.look(second)
    assert (told.elected, told.waits, told.unclaimed) == (False, True, ())
    [work] = second.claim()
    assert not world.look(second).waits
    world.apply(failed(work, retry_after=10.0))
    world.clock.advance(5)
    assert world.look(first).elected
    assert not world.look(second).waits


def test_work_that_only_some_may_have_waits_at_once(world: World) -> None:
    """That of a neuron with a limit."""
    first, second = world.worker(), world.worker()
    world.look(first)
    world.submit("stock", target("bank", limited=True))
    assert world.look(second).waits


def test_a_look_finds_what_is_due_by_its_time(world: World) -> None:
    """Scheduled activations whose time has come, the longest due first, and no more than asked for."""
    worker = world.worker()
    runs = [world.submit("stock") for _ in range(4)]
    works = {work.run_id: work for work in worker.claim()}
    for seconds, run_id in zip((30.0, 10.0, 20.0, 40.0), runs, strict=True):
        world.apply(failed(works[run_id], retry_after=seconds))
    world.clock.advance(9.9)
    assert world.look(worker).due == ()
    world.clock.advance(20.1)
    assert world.look(worker).due == ((runs[1], 1), (runs[2], 1), (runs[0], 1))
    assert world.look(worker, limit=2).due == ((runs[1], 1), (runs[2], 1))


def test_a_look_finds_what_nobody_has_claimed(world: World) -> None:
    """Ready activations whose doorbell was lost, or for whom everybody was busy, are to be rung for again."""
    run_id = world.submit("stock", target("bank", queue="bank"))
    worker = world.worker(queues=("default", "bank"))
    world.clock.advance(1)
    assert world.look(worker).unclaimed == ()
    world.clock.advance(0.1)
    rings = world.look(worker).unclaimed
    assert {ring.door: ring.activations for ring in rings} == {
        door(GRAPH, "default"): ((run_id, 1),),
        door(GRAPH, "bank"): ((run_id, 2),),
    }
    worker.claim()
    assert world.look(worker).unclaimed == ()


def test_nothing_starves_behind_a_queue_that_nobody_serves(world: World) -> None:
    """However much waits for a queue without workers, lost doorbells of the others are found."""
    for _ in range(10):
        world.submit(target("stock", queue="abandoned"))
    for _ in range(10):
        world.submit("stock", graph="abandoned")
    run_id = world.submit(target("stock", queue="served"))
    world.clock.advance(2)
    worker = world.worker(queues=("served",))
    assert world.look(worker, limit=5).unclaimed == (Ring(door=door(GRAPH, "served"), activations=((run_id, 1),)),)


def test_each_served_queue_has_its_share_of_a_look(world: World) -> None:
    """A backlog in one queue does not hide the lost doorbells of another one."""
    for _ in range(10):
        world.submit(target("stock", queue="busy"))
    run_id = world.submit(target("stock", queue="quiet"))
    world.clock.advance(2)
    worker = world.worker(queues=("busy", "quiet"))
    rings = {ring.door: ring.activations for ring in world.look(worker, limit=5).unclaimed}
    assert rings[door(GRAPH, "quiet")] == ((run_id, 1),)


def test_what_is_aside_is_not_rung_for(world: World) -> None:
    """Work that nobody can claim rings no doorbell."""
    world.submit("bank")
    worker = world.worker(("stock", "order"))
    world.clock.advance(2)
    world.set_unknown_aside()
    assert world.look(worker).unclaimed == ()


# -- leases ----------------------------------------------------------------------------------------------------


def test_a_look_notices_a_lease_that_has_run_out(world: World) -> None:
    """From then on, until the worker and its claims are gone."""
    supervisor, other = world.worker(lease=timedelta(seconds=10 * LEASE)), world.worker()
    world.submit("stock")
    work = other.claim_one()
    world.clock.advance(LEASE)
    assert not world.look(supervisor).workers_lost
    world.clock.advance(0.1)
    assert world.look(supervisor).workers_lost
    world.store.run(world.store.lost_claims(100))
    assert world.look(supervisor).workers_lost
    world.apply(lost(work.run_id, work.fence))
    world.store.run(world.store.lost_claims(100))
    assert not world.look(supervisor).workers_lost


def test_claims_of_lost_workers_are_answered_until_they_are_taken_back(world: World) -> None:
    """With who held them, in the order of their runs, page by page, and again after a lost reply."""
    worker = world.worker(host="there", pid=99)
    runs = [world.submit("stock", "bank") for _ in range(2)]
    worker.claim()
    assert world.store.run(world.store.lost_claims(100)) == []
    world.clock.advance(LEASE + 1)
    claims = world.store.run(world.store.lost_claims(3))
    assert [(claim.run_id, claim.fence.activation_id) for claim in claims] == [
        (runs[0], 1),
        (runs[0], 2),
        (runs[1], 1),
    ]
    assert {(claim.worker, claim.host, claim.pid) for claim in claims} == {(worker.info.worker, "there", 99)}
    assert world.store.run(world.store.lost_claims(3)) == claims
    world.apply(*(lost(claim.run_id, claim.fence) for claim in claims))
    (last,) = world.store.run(world.store.lost_claims(3))
    assert (last.run_id, last.fence.activation_id) == (runs[1], 2)


def test_a_live_workers_claims_are_not_lost(world: World) -> None:
    """Renewing keeps them, for however long the handler runs."""
    worker = world.worker()
    world.submit("stock")
    work = worker.claim_one()
    for _ in range(5):
        world.clock.advance(LEASE - 1)
        world.store.run(world.store.renew(worker.info.worker))
        assert world.store.run(world.store.lost_claims(100)) == []
    assert world.settle(succeeded(work)).verdict is Verdict.APPLIED


def test_a_lost_worker_is_forgotten_when_it_holds_nothing(world: World) -> None:
    """Neither it nor what it had is looked for any more; under its id a new lease could begin."""
    worker = world.worker()
    world.submit("stock")
    work = worker.claim_one()
    world.clock.advance(LEASE + 1)
    world.store.run(world.store.lost_claims(100))
    world.store.run(world.store.register(worker.info))
    assert world.store.run(world.store.renew(worker.info.worker)) is None
    world.apply(lost(work.run_id, work.fence))
    world.store.run(world.store.lost_claims(100))
    world.store.run(world.store.register(worker.info))
    assert world.store.run(world.store.renew(worker.info.worker)) == []


# -- what nobody knows -----------------------------------------------------------------------------------------


def test_g13_what_no_live_worker_knows_is_set_aside_and_shown(world: World) -> None:
    """After a while, and not at once; the run says that it is blocked, and has not failed."""
    run_id = world.submit("stock", "bank")
    world.worker(("stock", "order"))
    world.set_unknown_aside()
    assert world.row(run_id)["blocked"] is None
    world.clock.advance(1.1)
    world.set_unknown_aside()
    run = world.row(run_id)
    assert (run["blocked"], run["status"], run["outstanding"]) == ("unknown", "running", 2)
    assert {work.neuron for work in world.worker().claim()} == {"stock", "bank"}
    assert world.row(run_id)["blocked"] is None


def test_g13_a_worker_that_knows_it_takes_it_up(world: World) -> None:
    """It is claimable again when such a worker comes, of the right graph, queue and version."""
    run_id = world.submit(target("bank", queue="bank"), pinned=True)
    blind = world.worker(("stock", "order"), queues=("bank",))
    world.clock.advance(2)
    world.set_unknown_aside()
    for stranger in (
        {"graph": "other"},
        {"queues": ("default",)},
        {"graph_version": "v2"},
        {"dendrites": (("bank", "refund"),)},
    ):
        world.store.run(world.store.register(replace(blind.info, worker=world.run_id(), **stranger)))  # type: ignore[arg-type]
        assert world.row(run_id)["blocked"] == "unknown"
    assert world.worker(queues=("bank",)).claim_one().run_id == run_id


def test_what_somebody_knows_stays(world: World) -> None:
    """A busy worker is no reason to set its work aside, nor is one that serves the queue among others that do not."""
    world.submit("bank")
    world.worker(("stock", "order"))
    knowing = world.worker()
    world.clock.advance(2)
    world.set_unknown_aside()
    assert len(knowing.claim()) == 1


def test_a_queue_without_workers_is_left_alone(world: World) -> None:
    """Where no worker is up at all, nothing is unknown: the next one may know it."""
    run_id = world.submit("bank")
    world.clock.advance(2)
    world.set_unknown_aside()
    knowing = world.worker()
    assert knowing.claim_one().run_id == run_id


def test_a_lost_worker_knows_nothing(world: World) -> None:
    """What only a worker knew that is gone counts as unknown."""
    run_id = world.submit("bank")
    world.worker()
    world.worker(("stock", "order"), lease=timedelta(seconds=10 * LEASE))
    world.clock.advance(LEASE + 1)
    world.set_unknown_aside()
    assert world.row(run_id)["blocked"] is None
    world.store.run(world.store.lost_claims(100))
    world.set_unknown_aside()
    assert world.row(run_id)["blocked"] == "unknown"


def test_g13_an_old_version_is_set_aside_where_only_new_workers_are(world: World) -> None:
    """A run that is pinned to a version which no worker has is unknown, though they have its neurons."""
    pinned, free = world.submit("stock", pinned=True), world.submit("stock")
    new = world.worker(graph_version="v2")
    world.clock.advance(2)
    world.set_unknown_aside()
    assert world.row(pinned)["blocked"] == "unknown"
    assert new.claim_one().run_id == free


def test_a_sweep_looks_at_no_more_than_asked(world: World) -> None:
    """Sweeps are short: the first in the order of claiming are looked at, the rest by the next one."""
    runs = []
    for _ in range(5):
        runs.append(world.submit("bank"))
        world.clock.advance(0.1)
    world.worker(("stock", "order"))
    world.clock.advance(2)
    for aside in (3, 5):
        world.set_unknown_aside(limit=3)
        assert [world.row(run_id)["blocked"] for run_id in runs] == ["unknown"] * aside + [None] * (5 - aside)


def test_work_that_nobody_knew_comes_back_in_portions(world: World) -> None:
    """A newcomer's registration readmits no more than asked; it goes on until it is told that there is no more."""
    runs = [world.submit("bank") for _ in range(5)] + [world.submit("ship", graph="other")]
    blind = world.worker(("stock", "order"))
    world.worker(("stock", "order"), graph="other")
    world.clock.advance(2)
    world.set_unknown_aside()
    knowing = replace(blind.info, worker=world.run_id(), dendrites=EVERYTHING)

    def aside() -> int:
        return [world.row(run_id)["blocked"] for run_id in runs].count("unknown")

    assert aside() == 6
    assert world.store.run(world.store.register(knowing, 2)) is True
    assert aside() == 4
    assert world.store.run(world.store.readmit(knowing, 2)) is True
    assert world.store.run(world.store.readmit(knowing, 2)) is False
    assert aside() == 1
    assert world.store.run(world.store.readmit(knowing, 2)) is False
    assert world.row(runs[-1])["blocked"] == "unknown"


def test_a_sweep_says_how_much_it_has_set_aside(world: World) -> None:
    """So that it goes on while there is more: each claim reads over what stays."""
    for _ in range(3):
        world.submit("bank")
    world.submit("stock")
    world.worker(("stock", "order"))
    world.clock.advance(2)
    second = timedelta(seconds=1)
    found = [world.store.run(world.store.set_unknown_aside(second, 2)) for _ in range(3)]
    assert found == [2, 1, 0]
