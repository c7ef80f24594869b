"""The store port: who is handed which activation, and under which lease."""

from __future__ import annotations

from uuid import UUID

from msgspec.structs import replace

from cnstra.orchestrator.machine.plans import Verdict
from cnstra.orchestrator.slots import EMPTY
from cnstra.orchestrator.store import HeldClaim
from support.worlds import LEASE, World, failed, hop, lost, returned, succeeded, target


def test_a_claim_carries_all_that_its_call_needs(world: World) -> None:
    """Claimed work has its fence, its payload, the facts that policies are asked with, and the context."""
    run_id = world.submit(target("stock", payload='{"id": 1}'), policy={"stop": 2})
    worker = world.worker()
    request = worker.request()
    (work,) = world.store.run(world.store.claim(request))
    assert (work.run_id, work.activation_id) == (run_id, 1)
    assert (work.fence.epoch, work.fence.nonce) == (1, request.nonce)
    assert (work.neuron, work.collateral, work.queue) == ("stock", "order", "default")
    assert (work.attempt, work.try_number, work.failures, work.crashes) == (1, 1, 0, 0)
    assert (work.elapsed, work.idled, work.run_elapsed, work.run_idled) == (0.0, 0.0, 0.0, 0.0)
    assert work.policy == {"stop": 2}
    assert work.snapshot == EMPTY
    row = world.activations(run_id)[1]
    assert (row["status"], row["worker"], row["epoch"], row["tries"]) == ("running", worker.info.worker, 1, 1)
    assert row["started_at"] == world.clock.now()


def test_an_activation_is_handed_out_once(world: World) -> None:
    """What one worker holds, no other gets."""
    world.submit("stock")
    assert len(world.worker().claim()) == 1
    assert world.worker().claim() == []


def test_workers_that_claim_at_the_same_time_share_what_there_is(world: World) -> None:
    """No activation goes to two of them, and none is left."""
    runs = {world.submit("stock") for _ in range(20)}
    workers = [world.worker() for _ in range(3)]
    claims = world.at_once(
        *(world.store.claim(worker.request(limit=20)) for worker in workers),
        hold="lock table cnstra.activation in access exclusive mode",
    )
    claims += [world.worker().claim()]  # a claim passes over what another one has locked, and leaves it for the next
    claimed = [work.run_id for works in claims for work in works]
    assert len(claimed) == len(set(claimed))
    assert set(claimed) == runs


def test_higher_priority_goes_first_then_the_older(world: World) -> None:
    """The order of claims is that of priority, and of readiness among equals, whatever the doorbells say."""
    old = world.submit("stock")
    world.clock.advance(1)
    urgent = world.submit("stock", priority=5)
    world.clock.advance(1)
    low = world.submit("stock", priority=-1)
    young = world.submit("stock")
    worker = world.worker()
    assert [worker.claim(1)[0].run_id for _ in range(4)] == [urgent, old, young, low]


def test_priority_and_age_count_across_queues(world: World) -> None:
    """A worker of several queues takes the most urgent of all of them, within its limit."""
    one = world.submit(target("stock", queue="a"))
    world.clock.advance(1)
    two = world.submit(target("stock", queue="b"), priority=1)
    world.clock.advance(1)
    world.submit(target("stock", queue="a"))
    claimed = world.worker(queues=("a", "b")).claim(2)
    assert {work.run_id for work in claimed} == {one, two}


def test_successors_have_their_runs_priority(world: World) -> None:
    """An urgent run stays urgent on its whole way."""
    world.submit("bank")
    world.clock.advance(1)
    urgent = world.submit("stock", priority=1)
    worker = world.worker()
    (first,) = worker.claim(1)
    world.clock.advance(1)
    world.apply(succeeded(first, targets=[target("ship")]))
    (second,) = worker.claim(1)
    assert (second.run_id, second.neuron) == (urgent, "ship")


def test_a_limit_leaves_the_rest(world: World) -> None:
    """A worker gets no more than it asked for, and the rest stays claimable."""
    for _ in range(5):
        world.submit("stock")
    assert len(world.worker().claim(3)) == 3
    assert len(world.worker().claim()) == 2


def test_only_the_asked_queues_are_served(world: World) -> None:
    """Work of a queue that a worker does not serve waits for one that does."""
    run_id = world.submit(target("bank", queue="bank"))
    assert world.worker().claim() == []
    assert world.worker(queues=("default", "bank")).claim_one().run_id == run_id


def test_g13_an_unknown_dendrite_is_left_for_one_who_knows_it(world: World) -> None:
    """A worker without the neuron, or with it but not on this collateral, leaves the activation as it is."""
    run_id = world.submit("bank")
    assert world.worker(("stock", "order")).claim() == []
    assert world.worker(("bank", "refund"), ("ban", "korder")).claim() == []
    assert world.activations(run_id)[1]["tries"] == 0
    assert world.worker(("bank", "order")).claim_one().run_id == run_id


def test_g13_a_pinned_run_is_left_for_its_version(world: World) -> None:
    """A run that is pinned goes to workers of its very graph version, also with its later activations."""
    pinned = world.submit("stock", pinned=True, graph_version="v1")
    assert world.worker(graph_version="v2").claim() == []
    old = world.worker(graph_version="v1")
    work = old.claim_one()
    assert work.run_id == pinned
    world.apply(succeeded(work, targets=[target("ship")]))
    assert world.worker(graph_version="v2").claim() == []
    assert old.claim_one().neuron == "ship"


def test_a_run_that_is_not_pinned_goes_to_any_version(world: World) -> None:
    """A deploy takes over the runs of the version before it."""
    run_id = world.submit("stock", graph_version="v1")
    assert world.worker(graph_version="v2").claim_one().run_id == run_id


def test_graphs_are_apart(world: World) -> None:
    """Two graphs with the same names of neurons and queues do not get each other's work."""
    world.submit("stock", graph="other")
    mine = world.submit("stock")
    assert world.worker().claim_one().run_id == mine
    assert len(world.worker(graph="other").claim()) == 1


def test_a_replayed_claim_answers_the_same_claims(world: World) -> None:
    """When a claim's reply was lost, the runner's second one gives what the first one took, and no more."""
    runs = {world.submit("stock") for _ in range(4)}
    worker = world.worker()
    works = world.replayed(world.store.claim(worker.request(limit=2)))
    assert len(works) == 2
    assert {work.fence.epoch for work in works} == {1}
    rest = {work.run_id for work in worker.claim()}
    assert rest | {work.run_id for work in works} == runs
    assert len(rest) == 2


def test_a_replayed_claim_that_had_given_nothing_may_claim(world: World) -> None:
    """A replay is a claim like any other when the first one never happened."""
    worker = world.worker()
    request = worker.request()
    assert world.store.run(world.store.claim(request)) == []
    run_id = world.submit("stock")
    assert [work.run_id for work in world.replayed(world.store.claim(request))] == [run_id]


def test_a_worker_that_never_came_gets_nothing(world: World) -> None:
    """Claims are made under a lease: without one nobody would take them back."""
    world.submit("stock")
    worker = world.worker()
    stranger = replace(worker.info, worker=world.run_id())
    assert worker.claim(worker=stranger.worker) == []
    assert len(worker.claim()) == 1


def test_g3_a_worker_that_was_taken_for_lost_gets_nothing(world: World) -> None:
    """Once its lease has run out and somebody has noticed, a worker can neither renew it nor claim."""
    world.submit("stock")
    worker = world.worker()
    world.clock.advance(LEASE + 1)
    world.store.run(world.store.lost_claims(100))
    assert world.store.run(world.store.renew(worker.info.worker)) is None
    assert worker.claim() == []
    assert len(world.worker().claim()) == 1


def test_a_lease_that_ran_out_unnoticed_goes_on(world: World) -> None:
    """A worker that comes late, but before anybody took it for lost, keeps what it holds."""
    world.submit("stock")
    worker = world.worker()
    work = worker.claim_one()
    world.clock.advance(LEASE + 1)
    assert world.store.run(world.store.renew(worker.info.worker)) == [HeldClaim(run_id=work.run_id, fence=work.fence)]
    assert world.store.run(world.store.lost_claims(100)) == []
    assert world.settle(succeeded(work)).verdict is Verdict.APPLIED


def test_renewing_answers_the_claims_that_a_worker_is_believed_to_hold(world: World) -> None:
    """So a worker finds what it holds without knowing: claims whose reply it never saw."""
    worker = world.worker()
    assert world.store.run(world.store.renew(worker.info.worker)) == []
    world.submit("stock")
    world.submit("bank")
    one, two = worker.claim()
    world.apply(succeeded(one))
    assert world.store.run(world.store.renew(worker.info.worker)) == [HeldClaim(run_id=two.run_id, fence=two.fence)]


def test_a_worker_that_nobody_knows_cannot_renew(world: World) -> None:
    """A worker that was forgotten learns that it has no lease."""
    assert world.store.run(world.store.renew(UUID(int=7))) is None


def test_coming_twice_is_coming_once(world: World) -> None:
    """A registration that is repeated neither ends nor shortens the lease."""
    worker = world.worker()
    world.clock.advance(LEASE - 1)
    world.store.run(world.store.renew(worker.info.worker))
    world.store.run(world.store.register(worker.info))
    world.clock.advance(LEASE - 1)
    assert world.store.run(world.store.lost_claims(100)) == []
    assert world.store.run(world.store.renew(worker.info.worker)) == []


def test_a_worker_that_leaves_gives_up_what_it_holds(world: World) -> None:
    """After it has left, a worker can claim nothing, and what it still held is found as lost."""
    world.submit("stock")
    worker = world.worker()
    work = worker.claim_one()
    world.store.run(world.store.leave(worker.info.worker))
    world.submit("stock")
    assert worker.claim() == []
    (found,) = world.store.run(world.store.lost_claims(100))
    assert (found.run_id, found.fence, found.worker) == (work.run_id, work.fence, worker.info.worker)


def test_returned_work_is_claimable_as_if_it_had_never_been_claimed(world: World) -> None:
    """An activation that was given back uncalled keeps its place and counts no try."""
    first = world.submit("stock")
    world.clock.advance(1)
    second = world.submit("stock")
    worker = world.worker()
    (work,) = worker.claim(1)
    assert work.run_id == first
    assert world.settle(returned(work)).verdict is Verdict.APPLIED
    row = world.activations(first)[1]
    assert (row["status"], row["tries"], row["worker"]) == ("ready", 0, None)
    again, other = worker.claim()
    assert {again.run_id, other.run_id} == {first, second}
    (mine,) = (one for one in (again, other) if one.run_id == first)
    assert (mine.try_number, mine.fence.epoch) == (1, 2)


def test_kept_successors_are_claimed_by_the_worker_that_settles(world: World) -> None:
    """A successor that is to stay is running, under the parent's nonce, when the settlement has returned."""
    run_id = world.submit("stock")
    worker = world.worker()
    work = worker.claim_one()
    batch = world.apply(
        succeeded(
            work,
            lambda ctx: ctx.set({"stock": 1}),
            targets=[target("bank", here=True, payload="5"), target("ship", ordinal=1)],
        )
    )
    (kept,) = batch.answers[0].kept
    assert (kept.run_id, kept.activation_id, kept.neuron, kept.payload) == (run_id, 2, "bank", "5")
    assert (kept.fence.epoch, kept.fence.nonce, kept.try_number) == (1, work.fence.nonce, 1)
    assert kept.snapshot.version == 1
    assert kept.snapshot.slots["s:stock"].text == "1"
    assert [ring.activations for ring in batch.rings] == [((run_id, 3),)]
    assert [other.activation_id for other in world.worker().claim()] == [3]
    assert world.settle(succeeded(kept)).verdict is Verdict.APPLIED


def test_policies_are_asked_with_what_the_store_has_counted(world: World) -> None:
    """Failures, the seconds of backoff and the time since the first try come with the next claim."""
    run_id = world.submit("stock")
    worker = world.worker()
    world.apply(failed(worker.claim_one(), retry_after=5.0))
    world.clock.advance(6)
    world.fire(run_id, 1)
    world.clock.advance(1)
    work = worker.claim_one()
    assert (work.failures, work.idled, work.elapsed, work.try_number) == (1, 5.0, 7.0, 2)
    assert work.run_elapsed == 7.0
    world.clock.advance(2)
    world.apply(lost(run_id, work.fence))
    world.clock.advance(1)
    world.fire(run_id, 1)
    work = worker.claim_one()
    assert (work.failures, work.crashes, work.elapsed, work.try_number) == (1, 1, 10.0, 3)


def test_g5_a_claim_sees_what_was_committed_before_it(world: World) -> None:
    """The context that comes with a claim has at least the version that the parent wrote, and all slots."""
    world.submit("stock")
    worker = world.worker()
    first = hop(worker.claim_one(), lambda ctx: ctx.set({"a": 1, "b": None}), targets=[target("bank")])
    first.context.local.set({"mine": True})
    world.apply(first.event())
    work = worker.claim_one()
    assert work.snapshot.version == 1
    texts = {slot: held.text for slot, held in work.snapshot.slots.items()}
    assert set(texts) == {"s:a", "s:b", "l:stock"}
    assert (texts["s:a"], texts["s:b"]) == ("1", "null")
    assert {held.version for held in work.snapshot.slots.values()} == {1}
