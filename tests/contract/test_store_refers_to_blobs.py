"""The store port: contexts that are kept elsewhere. Versions, conflicts and fences are those of all others; the values are
references to blobs, and what nobody refers to is known."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from msgspec.structs import replace

from cnstra.orchestrator.blobs import Blobs, blob_of, keys_of, referring
from cnstra.orchestrator.machine.events import FailedTry, Returned, Succeeded
from cnstra.orchestrator.machine.plans import Verdict
from cnstra.orchestrator.machine.records import BlobRef
from cnstra.orchestrator.slots import OnStale, Snapshot
from cnstra.orchestrator.store import Applied, Portion, RunEvent, Work
from support.blob_stores import MemoryBlobStore
from support.worlds import BOOM, Handler, Hop, PostgresWorld, Worker, World, hop, lost, returned, target

PLACE = "archive"
ALL = 1000


@dataclass
class Elsewhere:
    """A world whose runs keep their contexts in another store, and what a worker does about that."""

    world: World
    store: MemoryBlobStore = field(default_factory=MemoryBlobStore)

    def __post_init__(self) -> None:
        self.blobs = Blobs(self.store, PLACE, cache_bytes=0)

    def submit(self, *neurons: str) -> UUID:
        return self.world.submit(*neurons, place=PLACE)

    def worker(self) -> Worker:
        return self.world.worker(places=(PLACE,))

    def claim(self, worker: Worker) -> list[Work]:
        return [self.filled(work) for work in worker.claim(places=(PLACE,))]

    def claim_one(self, worker: Worker) -> Work:
        (work,) = self.claim(worker)
        return work

    def filled(self, work: Work) -> Work:
        """Claimed work with its values."""
        fetched = self.blobs.fetch(keys_of(work.snapshot.slots))
        slots = fetched.values(work.snapshot.slots, str(work))
        return replace(work, snapshot=Snapshot(version=work.snapshot.version, slots=slots))

    def event(self, one: Hop, *, turn: int = 0, wasted: tuple[BlobRef, ...] = ()) -> RunEvent:
        """A hop as a settlement, its blob put."""
        plain = one.event()
        assert isinstance(plain.event, Succeeded)
        blob = blob_of(one.work.run_id, one.work.fence, turn, plain.event.changes)
        event = replace(plain.event, wasted=wasted)
        if blob is not None:
            self.blobs.put(blob)
            reference = BlobRef(place=PLACE, key=blob.key)
            event = replace(event, changes=referring(event.changes, blob), blob=reference)
        return replace(plain, event=event)

    def settle(self, work: Work, handler: Handler, **options: Any) -> Applied:
        return self.world.settle(self.event(hop(work, handler, **options)))

    def value(self, run_id: UUID, version: int | None = None) -> Any:
        """The shared value at a version."""
        snapshot = self.world.store.run(self.world.store.context_at(run_id, version))
        assert snapshot is not None
        assert snapshot.place == PLACE
        slots = self.blobs.fetch(keys_of(snapshot.slots)).values(snapshot.slots, "")
        return {name[2:]: slot.text for name, slot in slots.items() if slot.text is not None}

    def referred(self, run_id: UUID) -> set[str]:
        """The keys of the blobs that the run's versions refer to."""
        references = self.world.store.run(self.world.store.references(run_id))
        return {str(one.text)[1:-1] for one in references if one.text is not None}

    def litter(self, place: str = PLACE, after: float = -1.0, limit: int = ALL) -> list[str]:
        return self.world.store.run(self.world.store.litter(place, timedelta(seconds=after), limit))


@pytest.fixture
def elsewhere(world: World) -> Elsewhere:
    return Elsewhere(world)


def key(event: RunEvent) -> str:
    """The key of the blob that a settlement refers to."""
    assert isinstance(event.event, Succeeded)
    assert event.event.blob is not None
    return event.event.blob.key


# -- who may have it -------------------------------------------------------------------------------------------


def test_g13_only_a_worker_with_the_store_may_claim(elsewhere: Elsewhere) -> None:
    """One without it, or with another, leaves the run alone; what lives in the store of runs anybody may have."""
    run_id = elsewhere.submit("stock")
    plain = elsewhere.world.submit("stock")
    assert [work.run_id for work in elsewhere.world.worker(places=("other",)).claim(places=("other",))] == [plain]
    assert elsewhere.world.worker().claim() == []
    (work,) = elsewhere.worker().claim(places=("other", PLACE))
    assert (work.run_id, work.place, work.snapshot.place) == (run_id, PLACE, PLACE)


def test_a_worker_whose_store_is_away_claims_nothing_of_it(elsewhere: Elsewhere) -> None:
    """What it can do at the moment is said with each claim; the run is not unknown meanwhile."""
    run_id = elsewhere.submit("stock")
    worker = elsewhere.worker()
    assert worker.claim(places=()) == []
    elsewhere.world.clock.advance(2)
    elsewhere.world.set_unknown_aside()
    assert elsewhere.world.row(run_id)["blocked"] is None
    assert len(worker.claim(places=(PLACE,))) == 1


def test_g13_a_run_whose_store_no_worker_has_is_unknown_until_one_comes(elsewhere: Elsewhere) -> None:
    """It leaves the ready index, shows as blocked, and comes back."""
    run_id = elsewhere.submit("stock")
    elsewhere.world.worker()
    elsewhere.world.clock.advance(2)
    elsewhere.world.set_unknown_aside()
    assert elsewhere.world.row(run_id)["blocked"] == "unknown"
    worker = elsewhere.worker()
    assert elsewhere.world.row(run_id)["blocked"] is None
    assert elsewhere.claim_one(worker).run_id == run_id


def test_a_poison_suspect_waits_for_a_worker_with_the_store(elsewhere: Elsewhere) -> None:
    """Also the worker that is alone with it needs its context."""
    elsewhere.submit("stock")
    work = elsewhere.claim_one(elsewhere.worker())
    event = lost(work.run_id, work.fence)
    elsewhere.world.apply(replace(event, event=replace(event.event, suspect_at=1)))
    elsewhere.world.clock.advance(2)
    elsewhere.world.fire(work.run_id, work.activation_id)
    without, with_it = elsewhere.world.worker(), elsewhere.worker()
    assert without.claim(suspects=True) == []
    store = elsewhere.world.store
    assert not store.run(store.suspects_wait(without.request(suspects=True)))
    assert store.run(store.suspects_wait(with_it.request(suspects=True, places=(PLACE,))))
    assert len(with_it.claim(suspects=True, places=(PLACE,))) == 1


# -- values and versions ---------------------------------------------------------------------------------------


def test_g5_g7_a_hop_reads_what_the_one_before_it_put(elsewhere: Elsewhere) -> None:
    """From version to version; a successor that is kept has the references, too; old versions stay readable."""
    run_id = elsewhere.submit("stock")
    worker = elsewhere.worker()
    first = elsewhere.settle(
        elsewhere.claim_one(worker), lambda ctx: ctx.set({"a": 1, "b": 1}), targets=[target("bank", here=True)]
    )
    (kept,) = first.kept
    assert kept.snapshot.place == kept.place == PLACE
    kept = elsewhere.filled(kept)
    assert hop(kept).context.get() == {"a": 1, "b": 1}
    elsewhere.settle(kept, lambda ctx: ctx.__delitem__("a"), targets=[target("ship")])
    elsewhere.settle(elsewhere.claim_one(worker), lambda ctx: ctx.update({"b": 2}))

    assert elsewhere.world.row(run_id)["context_version"] == 3
    values = [elsewhere.value(run_id, version) for version in range(4)]
    assert values == [{}, {"a": "1", "b": "1"}, {"b": "1"}, {"b": "2"}]
    assert elsewhere.referred(run_id) == set(elsewhere.store.blobs)
    assert len(elsewhere.store.blobs) == 2, "a hop that only removes puts nothing"


def test_rows_say_where_the_context_is_and_show_none_of_it(elsewhere: Elsewhere) -> None:
    """Versions and removals are exact; what was written is null, and no value of it is in the store of runs."""
    run_id = elsewhere.submit("stock")
    worker = elsewhere.worker()
    elsewhere.settle(elsewhere.claim_one(worker), lambda ctx: ctx.set({"a": "secret"}), targets=[target("bank")])

    def last(ctx: Any) -> None:
        del ctx["a"]
        ctx.local.set("secret")

    elsewhere.settle(elsewhere.claim_one(worker), last)
    world = elsewhere.world
    assert world.row(run_id)["context_place"] == PLACE
    rows = world.store.run(world.store.history(run_id))
    shown = [(row["version"], row["written"], row["removed"], row["local_written"]) for row in rows]
    assert shown == [(1, None, [], None), (2, None, ["a"], None)]
    for which, versions in (((), {1, 2}), ((1,), {2}), ((0, 1), {1}), ((1, 1), set())):
        assert {one.version for one in world.store.run(world.store.references(run_id, *which))} == versions
    if isinstance(world, PostgresWorld):
        with world.connect() as connection:
            (context,) = connection.execute("select data, local, version from cnstra.context").fetchall()
            texts = connection.execute("select e::text from cnstra.context_entry e").fetchall()
        assert context == (None, None, 2)
        assert not any("secret" in text for (text,) in texts)


def test_a_run_of_each_kind_keeps_to_its_own(elsewhere: Elsewhere) -> None:
    """One worker, one batch of claims, two places."""
    there, here = elsewhere.submit("stock"), elsewhere.world.submit("stock")
    works = {work.run_id: work for work in elsewhere.worker().claim(places=(PLACE,))}
    batch = elsewhere.world.apply(
        elsewhere.event(hop(elsewhere.filled(works[there]), lambda ctx: ctx.set({"k": 1}))),
        hop(works[here], lambda ctx: ctx.set({"k": 2})).event(),
    )
    assert [answer.verdict for answer in batch.answers] == [Verdict.APPLIED] * 2
    assert elsewhere.value(there) == {"k": "1"}
    assert elsewhere.world.values(here) == {"k": 2}
    assert elsewhere.litter() == []


def test_the_same_submit_at_another_place_is_the_run_where_it_is(elsewhere: Elsewhere) -> None:
    """Where a run keeps its context was decided when it was made."""
    submission = elsewhere.world.submission("stock", place=PLACE, idempotency_key="k")
    elsewhere.world.accept(submission)
    (again,) = elsewhere.world.accept(replace(submission, run_id=elsewhere.world.run_id(), place=None))
    assert (again.run_id, again.new, again.same) == (submission.run_id, False, True)
    assert elsewhere.world.row(submission.run_id)["context_place"] == PLACE


# -- conflicts and litter --------------------------------------------------------------------------------------


def _race(elsewhere: Elsewhere, second: Handler, on_stale: OnStale) -> tuple[Applied, Hop, RunEvent]:
    """Two hops have read the same key; the first commits 1 there, then the second settles."""
    elsewhere.submit("stock")
    worker = elsewhere.worker()
    elsewhere.settle(
        elsewhere.claim_one(worker),
        lambda ctx: ctx.set({"k": 0}),
        targets=[target("bank"), target("ship", ordinal=1)],
    )
    works = {work.neuron: work for work in elsewhere.claim(worker)}
    late = hop(works["ship"], second, on_stale=on_stale)
    assert elsewhere.settle(works["bank"], lambda ctx: ctx.update({"k": 1})).verdict is Verdict.APPLIED
    event = elsewhere.event(late)
    return elsewhere.world.settle(event), late, event


def test_g6_a_conflict_leaves_its_blob_to_nobody(elsewhere: Elsewhere) -> None:
    """What the other wrote stands; the blob of the hop that was refused is litter, once, also when it is sent again."""
    applied, late, event = _race(elsewhere, lambda ctx: ctx.update({"k": 2}), OnStale.CONFLICT)
    assert applied.verdict is Verdict.CONFLICTED
    assert elsewhere.value(late.work.run_id) == {"k": "1"}
    assert elsewhere.litter() == [key(event)]
    elsewhere.world.settle(event)
    assert elsewhere.litter() == [key(event)]


def test_g6_an_update_takes_the_newest_value_from_its_blob_and_puts_another(elsewhere: Elsewhere) -> None:
    """A stale settlement leaves nothing to nobody yet: sent again it may be applied. The one after it does, by name."""
    applied, late, event = _race(elsewhere, lambda ctx: ctx.update("k", lambda k: (k or 0) + 10), OnStale.CONFLICT)
    assert applied.verdict is Verdict.STALE
    assert elsewhere.litter() == []
    fetched = elsewhere.blobs.fetch(keys_of(applied.newest))
    late.context._view.rebase(fetched.values(applied.newest, ""))
    assert isinstance(event.event, Succeeded)
    assert event.event.blob is not None
    again = elsewhere.event(late, turn=1, wasted=(event.event.blob,))
    assert elsewhere.world.settle(again).verdict is Verdict.APPLIED
    assert elsewhere.value(late.work.run_id) == {"k": "11"}
    assert elsewhere.litter() == [key(event)]


def test_g3_a_zombies_blob_is_nobodys(elsewhere: Elsewhere) -> None:
    """Refused by the fence, it is litter; its heir's is not, though activation and content are the same."""
    run_id = elsewhere.submit("stock")
    worker = elsewhere.worker()
    work = elsewhere.claim_one(worker)
    zombie = elsewhere.event(hop(work, lambda ctx: ctx.set({"k": 1})))
    elsewhere.world.apply(returned(work))
    heir = elsewhere.event(hop(elsewhere.claim_one(worker), lambda ctx: ctx.set({"k": 1})))
    assert elsewhere.world.settle(heir).verdict is Verdict.APPLIED
    assert elsewhere.world.settle(zombie).verdict is Verdict.FENCED
    assert key(zombie) != key(heir)
    assert elsewhere.litter() == [key(zombie)]
    assert elsewhere.referred(run_id) == {key(heir)}


def test_g4_a_settlement_that_is_sent_again_litters_nothing(elsewhere: Elsewhere) -> None:
    """Its reply was lost, and its blob is part of the context."""
    elsewhere.submit("stock")
    event = elsewhere.event(hop(elsewhere.claim_one(elsewhere.worker()), lambda ctx: ctx.set({"k": 1})))
    batch = elsewhere.world.replayed(elsewhere.world.store.apply([event]))
    assert [answer.verdict for answer in batch.answers] == [Verdict.REPEATED]
    assert elsewhere.litter() == []


def test_what_a_failed_try_had_put_is_nobodys(elsewhere: Elsewhere) -> None:
    """Such as the blob of a hop whose other data was refused."""
    elsewhere.submit("stock")
    work = elsewhere.claim_one(elsewhere.worker())
    event = elsewhere.event(hop(work, lambda ctx: ctx.set({"k": 1})))
    wasted = (BlobRef(place=PLACE, key=key(event)),)
    failed = FailedTry(fence=work.fence, failure=BOOM, retry_after=1.0, wasted=wasted)
    assert elsewhere.world.settle(RunEvent(run_id=work.run_id, event=failed)).verdict is Verdict.APPLIED
    assert elsewhere.litter() == [key(event)]


def test_litter_is_answered_by_place_after_a_while_page_by_page_until_it_is_gone(elsewhere: Elsewhere) -> None:
    """What was deleted is forgotten; what was noted a moment ago waits: a failover may bring its settlement back."""
    keys = []
    for number in range(3):
        _, _, event = _race(elsewhere, lambda ctx, number=number: ctx.update({"k": number}), OnStale.CONFLICT)  # type: ignore[misc]
        keys.append(key(event))
        for rest in elsewhere.claim(elsewhere.worker()):
            elsewhere.settle(rest, lambda ctx: None)
    keys.sort()
    assert elsewhere.litter(after=60) == []
    elsewhere.world.clock.advance(61)
    assert elsewhere.litter(after=60) == keys
    assert elsewhere.litter(place="other") == []
    assert elsewhere.litter(limit=2) == keys[:2]
    elsewhere.world.store.run(elsewhere.world.store.litter_gone(PLACE, keys[:2]))
    elsewhere.world.store.run(elsewhere.world.store.litter_gone("other", keys))
    assert elsewhere.litter() == keys[2:]


def test_what_a_context_refers_to_is_never_litter(elsewhere: Elsewhere) -> None:
    """Whatever says so: before anything is deleted, it is held against the contexts, and then forgotten."""
    elsewhere.submit("stock")
    work = elsewhere.claim_one(elsewhere.worker())
    event = elsewhere.event(hop(work, lambda ctx: ctx.set({"k": 1})))
    assert elsewhere.world.settle(event).verdict is Verdict.APPLIED
    liar = replace(event, event=replace(event.event, fence=replace(work.fence, nonce=1)))
    assert elsewhere.world.settle(liar).verdict is Verdict.FENCED
    assert elsewhere.litter() == []


def test_the_blobs_of_runs_that_are_pruned_become_litter(elsewhere: Elsewhere) -> None:
    """All of them, also those that later versions overwrote; noted with what forgets the runs, and of these runs alone."""
    gone, stays = elsewhere.submit("stock"), elsewhere.submit("stock")
    worker, world = elsewhere.worker(), elsewhere.world
    for work in elsewhere.claim(worker):
        elsewhere.settle(work, lambda ctx: ctx.update({"k": 1}), targets=[target("bank")])
    for work in elsewhere.claim(worker):
        if work.run_id == gone:
            elsewhere.settle(work, lambda ctx: ctx.update({"k": 2}))
    blobs = elsewhere.referred(gone)
    assert len(blobs) == 2

    pruned = world.store.run(world.store.prune(["completed"], world.clock.now() + timedelta(seconds=1), Portion()))

    assert pruned.runs == ((gone, "completed"),)
    assert elsewhere.litter() == sorted(blobs)
    assert not blobs & elsewhere.referred(stays)


# -- given back ------------------------------------------------------------------------------------------------


def test_work_given_back_for_a_while_is_ready_when_that_is_over(elsewhere: Elsewhere) -> None:
    """It was no try; its time is in the store, and holds nothing else."""
    run_id = elsewhere.submit("stock")
    worker = elsewhere.worker()
    work = elsewhere.claim_one(worker)
    event = RunEvent(run_id=run_id, event=Returned(fence=work.fence, backoff=2.0))
    assert elsewhere.world.settle(event).verdict is Verdict.APPLIED
    row = elsewhere.world.activations(run_id)[1]
    assert (row["status"], row["tries"], row["error_type"]) == ("scheduled", 0, None)
    assert elsewhere.world.status(run_id) == "waiting"
    assert elsewhere.world.settle(event).verdict is Verdict.FENCED
    elsewhere.world.clock.advance(1)
    assert elsewhere.world.fire(run_id, 1).verdict is Verdict.VOID
    elsewhere.world.clock.advance(1)
    elsewhere.world.fire(run_id, 1)
    again = elsewhere.claim_one(worker)
    assert (again.try_number, again.failures, again.crashes) == (1, 0, 0)


# -- in nobody's way -------------------------------------------------------------------------------------------


def test_g14_work_of_a_store_that_nobody_has_hides_no_lost_doorbell(elsewhere: Elsewhere) -> None:
    """However much of it waits in front, what somebody can claim is found; and it is rung for where its store is there."""
    for _ in range(3):
        elsewhere.submit("stock")
    plain = elsewhere.world.submit("stock")
    worker = elsewhere.world.worker()
    elsewhere.world.clock.advance(2)
    assert _rung(elsewhere.world, worker) == {plain}
    elsewhere.worker()
    elsewhere.world.clock.advance(2)
    assert len(_rung(elsewhere.world, worker)) == 3


def _rung(world: World, worker: Worker) -> set[UUID]:
    """What the supervisor would ring for, at most two of each kind."""
    return {run_id for ring in world.look(worker, limit=2).unclaimed for run_id, _ in ring.activations}


@pytest.mark.parametrize("pinned", [False, True])
def test_g13_pin_and_place_and_dendrite_must_be_one_workers(elsewhere: Elsewhere, pinned: bool) -> None:
    """Of two workers, of which each lacks what the other has, neither may have it: it shows as unknown."""
    run_id = elsewhere.world.submit("stock", place=PLACE, pinned=pinned)
    has_code = elsewhere.world.worker()
    has_store = elsewhere.world.worker(("bank", "order"), places=(PLACE,), graph_version="v2")
    elsewhere.world.clock.advance(2)
    elsewhere.world.set_unknown_aside()
    assert elsewhere.world.row(run_id)["blocked"] == "unknown"
    assert has_code.claim() == has_store.claim(places=(PLACE,)) == []
    newcomer = elsewhere.worker()
    assert elsewhere.world.row(run_id)["blocked"] is None
    assert elsewhere.claim_one(newcomer).run_id == run_id


@pytest.mark.parametrize("lacks", ["place", "dendrite"])
def test_g1_a_suspect_that_nobody_could_run_shows_as_unknown(elsewhere: Elsewhere, lacks: str) -> None:
    """It is never set aside, as claims pass it over anyway; but somebody has to learn why it waits."""
    run_id = elsewhere.submit("stock")
    first = elsewhere.worker()
    work = elsewhere.claim_one(first)
    event = lost(run_id, work.fence)
    elsewhere.world.apply(replace(event, event=replace(event.event, suspect_at=1)))
    elsewhere.world.clock.advance(2)
    elsewhere.world.fire(run_id, 1)
    assert elsewhere.world.row(run_id)["blocked"] is None
    elsewhere.world.store.run(elsewhere.world.store.leave(first.info.worker))
    if lacks == "place":
        elsewhere.world.worker()
    else:
        elsewhere.world.worker(("bank", "order"), places=(PLACE,))
    assert elsewhere.world.row(run_id)["blocked"] == "unknown"
    elsewhere.worker()
    assert elsewhere.world.row(run_id)["blocked"] is None
