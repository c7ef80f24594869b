"""The store port: what ``submit`` keeps, and what it takes for the same run."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest
from msgspec.structs import replace

from cnstra.orchestrator.errors import SubmitError
from cnstra.orchestrator.ports import Ring, door
from cnstra.orchestrator.store import Accepted, Submission
from support.worlds import EVERYTHING, GRAPH, World, target


def keep(world: World, *submissions: Submission) -> tuple[list[Accepted], tuple[Ring, ...]]:
    return world.store.run(world.store.submit(submissions))


def test_g1_a_kept_run_is_there_to_be_read_and_claimed(world: World) -> None:
    """What ``submit`` has returned is stored with all that was given, and rings for its first activations."""
    submission = world.submission(
        target("stock", payload='{"id": 1}'),
        target("bank", payload='{"id": 1}', queue="bank"),
        payload='{"id": 1}',
        priority=3,
        tags={"customer": "17"},
        idempotency_key="order-1",
        policy={"stop": 2},
    )
    accepted, rings = keep(world, submission)
    assert accepted == [Accepted(run_id=submission.run_id, new=True)]
    assert rings == (
        Ring(door=door(GRAPH, "default"), activations=((submission.run_id, 1),)),
        Ring(door=door(GRAPH, "bank"), activations=((submission.run_id, 2),)),
    )
    row = world.row(submission.run_id)
    assert row["status"] == "running"
    assert row["outstanding"] == 2
    assert row["entry_payload"] == {"id": 1}
    assert row["tags"] == {"customer": "17"}
    assert row["priority"] == 3
    assert row["idempotency_key"] == "order-1"
    assert row["submitted_at"] == world.clock.now()
    work = world.worker(queues=("bank",)).claim_one()
    assert (work.run_id, work.activation_id, work.neuron) == (submission.run_id, 2, "bank")
    assert work.policy == {"stop": 2}
    assert work.try_number == work.attempt == 1


def test_a_delayed_run_waits_and_rings_for_nothing(world: World) -> None:
    """A delay makes the first activations scheduled and the run waiting, whose time is kept in the store."""
    submission = world.submission("stock", delay=timedelta(seconds=30))
    _, rings = keep(world, submission)
    assert rings == ()
    assert world.status(submission.run_id) == "waiting"
    first = world.activations(submission.run_id)[1]
    assert first["status"] == "scheduled"
    assert first["available_at"] == world.clock.now() + timedelta(seconds=30)
    assert world.worker().claim() == []


def test_a_delay_that_is_over_is_none(world: World) -> None:
    """A delay of nothing, or less, starts the run at once."""
    run_id = world.submit("stock", delay=timedelta(seconds=-1))
    assert world.status(run_id) == "running"
    assert world.activations(run_id)[1]["available_at"] == world.clock.now()


def test_a_run_that_nothing_could_move_is_refused(world: World) -> None:
    """A run without a first activation would never end; neither it nor its batch is kept."""
    good, bad = world.submission("stock"), replace(world.submission("stock"), targets=())
    with pytest.raises(ValueError, match=str(bad.run_id)):
        world.accept(good, bad)
    assert world.status(good.run_id) is None
    assert world.status(bad.run_id) is None


def test_the_same_run_id_again_is_the_same_run(world: World) -> None:
    """A submit that is repeated after a lost reply changes nothing, and says so."""
    submission = world.submission("stock")
    world.accept(submission)
    (again,) = world.accept(submission)
    assert again == Accepted(run_id=submission.run_id, new=False)
    assert len(world.activations(submission.run_id)) == 1
    assert world.row(submission.run_id)["outstanding"] == 1


def test_the_same_run_id_with_another_signal_is_told_apart(world: World) -> None:
    """The id of another run is refused, not taken for a repetition; the run that has it stays as it is."""
    submission = world.submission("stock", payload='{"id": 1}')
    world.accept(submission)
    for other in (
        replace(submission, payload='{"id": 2}'),
        replace(submission, collateral="refund"),
        replace(submission, graph="other"),
    ):
        with pytest.raises(SubmitError, match=f"run_id {submission.run_id} is that of run {submission.run_id}"):
            world.accept(other)
    assert world.row(submission.run_id)["entry_payload"] == {"id": 1}


def test_the_same_idempotency_key_is_the_same_run(world: World) -> None:
    """A second submit under a key answers the run that has it, however its payload's JSON is written."""
    first = world.submission("stock", payload='{"id":1,"n":2.0}', idempotency_key="k")
    second = world.submission("stock", payload='{"n": 2.0, "id": 1}', idempotency_key="k")
    world.accept(first)
    (answer,) = world.accept(second)
    assert answer == Accepted(run_id=first.run_id, new=False)
    assert world.status(second.run_id) is None


@pytest.mark.parametrize("payload", ['{"id": 2}', '{"id": true}', '{"id": "1"}', "[1]", "null"])
def test_another_payload_under_the_same_key_is_told_apart(world: World, payload: str) -> None:
    """A key that stands for another signal is refused, and nothing of its batch is kept, not even another's key."""
    first = world.submission("stock", payload='{"id": 1}', idempotency_key="k")
    second = world.submission("stock", payload=payload, idempotency_key="k")
    world.accept(first)
    beside = world.submission("bank", idempotency_key="beside")
    with pytest.raises(SubmitError, match=f"idempotency_key 'k' is that of run {first.run_id}"):
        world.accept(beside, second)
    assert world.status(second.run_id) is None
    assert world.status(beside.run_id) is None
    assert world.accept(beside) == [Accepted(run_id=beside.run_id, new=True)]


def test_keys_are_unique_by_graph(world: World) -> None:
    """Two graphs may use the same business id."""
    first = world.submission("stock", idempotency_key="k")
    second = world.submission("stock", idempotency_key="k", graph="other")
    assert [one.new for one in world.accept(first, second)] == [True, True]


def test_a_key_that_comes_twice_in_a_batch_is_one_run(world: World) -> None:
    """Repetition within a batch is as between batches: one run, and the others are told of it."""
    one = world.submission("stock", payload="1", idempotency_key="k")
    two = world.submission("stock", payload="1", idempotency_key="k")
    three = world.submission("stock", payload="3", idempotency_key="k")
    with pytest.raises(SubmitError, match="started by another signal"):
        world.accept(one, two, three)
    assert world.accept(one, two) == [
        Accepted(run_id=one.run_id, new=True),
        Accepted(run_id=one.run_id, new=False),
    ]
    assert world.status(two.run_id) is None
    assert len(world.worker().claim()) == 1


def test_a_run_id_that_comes_twice_in_a_batch_is_one_run(world: World) -> None:
    """The first counts, with its own activations; another signal under the same id is refused."""
    one = world.submission("stock", payload="1")
    other = replace(one, payload="2", targets=(target("bank"), target("ship")))
    with pytest.raises(SubmitError, match="started by another signal"):
        world.accept(one, one, other)
    assert world.accept(one, one) == [
        Accepted(run_id=one.run_id, new=True),
        Accepted(run_id=one.run_id, new=False),
    ]
    assert [row["neuron"] for row in world.activations(one.run_id).values()] == ["stock"]
    assert world.row(one.run_id)["outstanding"] == 1


def test_a_batch_mixes_new_and_known_runs(world: World) -> None:
    """Answers come in the order of the submits, each with what became of it."""
    old = world.submission("stock", idempotency_key="old")
    world.accept(old)
    new, again = world.submission("bank"), world.submission("stock", idempotency_key="old")
    accepted, rings = keep(world, new, again, old)
    assert [(one.run_id, one.new) for one in accepted] == [
        (new.run_id, True),
        (old.run_id, False),
        (old.run_id, False),
    ]
    assert rings == (Ring(door=door(GRAPH, "default"), activations=((new.run_id, 1),)),)


def test_submits_of_one_key_at_the_same_time_make_one_run(world: World) -> None:
    """Of several submits that meet, one makes the run and the others learn its id."""
    submissions = [world.submission("stock", idempotency_key="k") for _ in range(3)]
    results = world.at_once(
        *(world.store.submit([submission]) for submission in submissions),
        hold="insert into cnstra.submission_key values ('shop', 'k', gen_random_uuid())",
    )
    answers = [accepted for [accepted], _ in results]
    assert sum(answer.new for answer in answers) == 1
    (run_id,) = {answer.run_id for answer in answers}
    assert run_id in {submission.run_id for submission in submissions}
    assert len(world.worker().claim()) == 1


def hold_id(submission: Submission) -> str:
    """A statement that keeps a run's id from being taken, until it is undone."""
    return f"""
        insert into cnstra.run (run_id, graph, graph_version, pinned, entry_collateral, entry_payload, status,
                                outstanding, active, last_activation, submitted_at)
        values ('{submission.run_id}', 'x', 'x', false, 'x', '1', 'running', 1, 1, 1, now())"""


def test_submits_of_one_id_at_the_same_time_make_one_run(world: World) -> None:
    """A client that submits again while its first submit is under way gets the same run."""
    submission = world.submission("stock", "bank")
    operation = world.store.submit([submission])
    results = world.at_once(operation, operation, hold=hold_id(submission))
    assert sorted(accepted.new for [accepted], _ in results) == [False, True]
    assert len(world.activations(submission.run_id)) == 2


def test_two_batches_with_the_same_ids_in_opposite_order_both_succeed(world: World) -> None:
    """Clients that repeat each other's batches get no error, and every run once."""
    batch = [world.submission(neuron) for neuron, _ in EVERYTHING]
    forward, backward = world.store.submit(batch), world.store.submit(batch[::-1])
    for accepted, _ in world.at_once(forward, backward, hold=hold_id(batch[0])):
        assert {one.run_id for one in accepted} == {one.run_id for one in batch}
    assert {work.run_id for work in world.worker().claim()} == {one.run_id for one in batch}


def test_a_replayed_submit_answers_the_same_run(world: World) -> None:
    """When the reply of a submit was lost, the runner's second one finds what the first one kept."""
    submission = world.submission("stock", idempotency_key="k")
    [accepted], _ = world.replayed(world.store.submit([submission]))
    assert accepted.run_id == submission.run_id
    assert accepted.same
    assert len(world.activations(submission.run_id)) == 1


def test_an_unknown_run_is_not_there(world: World) -> None:
    """Reads of a run that nobody submitted answer nothing, and do not fail."""
    nobody = UUID(int=7)
    assert world.store.run(world.store.run_row(nobody)) is None
    assert world.status(nobody) is None
    assert world.activations(nobody) == {}
    assert world.store.run(world.store.history(nobody)) == []
    assert world.store.run(world.store.context_at(nobody, None)) is None
