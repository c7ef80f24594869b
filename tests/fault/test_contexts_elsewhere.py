"""Runs whose contexts a store of the user's own keeps: nothing is lost or doubled, whoever dies, is away, or comes late."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import redis

from cnstra import CNS, Run
from cnstra.orchestrator.blobs import key_of
from cnstra.stores.blobs import RedisBlobStore
from support.blob_stores import Severed
from support.graphs import contexts, routes
from support.points import Fault
from support.soundness import assert_sound
from support.stage import PATIENCE, Stage, WorkerProcess
from support.waiting import eventually

_REFUSED = "its claim was taken away, so its result was refused; nothing was committed"
_DONE = {"step 1": 0, "step 2": 1, "step 3": 2, "steps": 3}
_SHORT = timedelta(seconds=1)


@pytest.fixture
def elsewhere(stage: Stage) -> Stage:
    """A stage whose runs keep their contexts in the broker's Redis."""
    stage.contexts_url = stage.redis_url
    return stage


@pytest.fixture
def wire(stage: Stage) -> Iterator[Severed]:
    """The same, where workers reach that Redis by a wire."""
    with Severed(stage.redis_url) as wire:
        stage.contexts_url = wire.url
        yield wire


def _blobs(stage: Stage) -> RedisBlobStore:
    return RedisBlobStore.from_url(stage.redis_url)


def _kept(stage: Stage) -> set[str]:
    """The keys of all blobs that are kept."""
    return set(_blobs(stage).keys())


def _referred(stage: Stage) -> set[str]:
    """The keys of all blobs that contexts refer to."""
    return {row["key"] for row in stage.rows("select key from cnstra.context_blobs")}


def _chain(stage: Stage) -> Run:
    return stage.client(routes.chain).submit(routes.set_out.create_signal(10))


def _inside(activation: int) -> Fault:
    return Fault(point="call.inside", action="block", activation=activation)


# -- what is kept where ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("streak", [0, 100], ids=["through the broker", "kept in the process"])
def test_values_are_in_the_store_and_versions_in_postgres(elsewhere: Stage, streak: int) -> None:
    """One blob a hop that wrote; Postgres knows which ones make up which version, and none of the values."""
    stage = elsewhere
    for _ in range(2):
        stage.start(routes.chain, streak=streak)
    run = _chain(stage)

    assert stage.completed(run).context == _DONE
    assert [run.context(version)["steps"] for version in (1, 2, 3)] == [1, 2, 3]
    assert [one.written for one in run.history()] == [{f"step {n}": n - 1, "steps": n} for n in (1, 2, 3)]
    assert_sound(stage, run.id)
    assert len(_kept(stage)) == 3
    assert _kept(stage) == _referred(stage)
    assert stage.row("select data, local, version from cnstra.context") == {"data": None, "local": None, "version": 3}
    history = stage.rows("select written, removed, local_written from cnstra.context_history")
    assert history == [{"written": None, "removed": [], "local_written": None}] * 3
    stored = stage.rows("select to_jsonb(e)::text as text from cnstra.context_entry e")
    assert not any("step" in json.loads(row["text"])["value"] for row in stored)


def test_blobs_have_no_time_to_live(elsewhere: Stage) -> None:
    """A run may wait for months before anybody reads them again."""
    stage = elsewhere
    stage.start(routes.chain)
    stage.completed(_chain(stage))

    with redis.Redis.from_url(stage.redis_url) as client:
        lives = [client.ttl(f"cnstra:blob:{key}") for key in _kept(stage)]
    assert lives == [-1, -1, -1]


# -- SIGKILL ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("streak", [0, 100], ids=["through the broker", "kept in the process"])
@pytest.mark.parametrize(
    "point", ["call.end", "keep.begin", "keep.done", "settle.begin", "settle.commit", "settle.done"]
)
def test_g1_g2_a_worker_that_dies_around_its_blob_leaves_the_run_sound(
    elsewhere: Stage, point: str, streak: int
) -> None:
    """Before the commit the step is called again, and its blob is nobody's; after the commit never."""
    stage = elsewhere
    doomed = stage.start(routes.chain, Fault(point=point, action="kill", activation=2), streak=streak)
    run = _chain(stage)
    doomed.reached(point)
    assert doomed.died() == -signal.SIGKILL
    stage.lose(doomed)
    stage.start(routes.chain, streak=streak)

    assert stage.completed(run).context == _DONE
    assert [(one.version, one.activation_id) for one in run.history()] == [(1, 1), (2, 2), (3, 3)]
    assert stage.ledger.calls(run.id) == {1: 1, 2: 1 if point == "settle.done" else 2, 3: 1}
    assert_sound(stage, run.id)
    left_over = _kept(stage) - _referred(stage)
    assert len(left_over) == (point in ("keep.done", "settle.begin", "settle.commit"))
    assert all(key.startswith(f"{run.id}/2-") for key in left_over)


# -- zombies ---------------------------------------------------------------------------------------------------


def _everything(stage: Stage, run: Run) -> list[dict[str, Any]]:
    """All that is stored of a run."""
    tables = ("run", "activation", "try", "context_head", "context_entry")
    query = " union all ".join(f"select to_jsonb(t) as row from cnstra.{name} t where t.run_id = %s" for name in tables)
    return sorted(stage.rows(query, *[run.id] * len(tables)), key=repr)


@pytest.mark.parametrize("point", ["call.end", "keep.begin", "keep.done", "settle.begin"])
def test_g3_a_zombie_that_writes_after_its_lease_changes_nothing(elsewhere: Stage, point: str) -> None:
    """Its blob is one that nobody refers to, and is deleted; what the heir wrote stands, byte for byte."""
    stage = elsewhere
    zombie = stage.start(routes.chain, Fault(point=point, action="stop", activation=2))
    run = _chain(stage)
    zombie.reached(point)
    zombie.frozen()
    stage.lose(zombie)
    stage.start(routes.chain)
    stage.completed(run)
    before = _everything(stage, run)

    zombie.thaw()

    eventually(lambda: _REFUSED in zombie.log(), PATIENCE, what="the zombie's settlement is refused")
    assert _everything(stage, run) == before
    assert run.context() == _DONE
    assert_sound(stage, run.id)
    (noted,) = stage.rows("select key from cnstra.context_litter")
    assert _kept(stage) - _referred(stage) == {noted["key"]}
    _is_tidied(stage)


def _is_tidied(stage: Stage) -> None:
    """A worker deletes what nobody refers to, and nothing else."""
    stage.start(routes.chain, lease=_SHORT)
    eventually(lambda: _kept(stage) == _referred(stage), PATIENCE, what="the litter is deleted")
    eventually(lambda: not stage.rows("select from cnstra.context_litter"), PATIENCE, what="and forgotten")


# -- two at once -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cns", "prize", "wasted"),
    [
        (contexts.contest_retry, [0, 1, -1], 1),
        (contexts.contest_overwrite, [0, -1], 0),
        (contexts.contest_merge, [-1, 0, 1], 1),
        (contexts.contest_fail, [0, 1], 1),
    ],
    ids=["retry", "overwrite", "merge", "fail"],
)
def test_g6_two_hops_that_race_for_one_key_lose_no_update(
    elsewhere: Stage, cns: CNS, prize: list[int], wasted: int
) -> None:
    """The dendrite's policy decides, on values from the store; the blob of the settlement that lost is deleted."""
    stage = elsewhere
    stage.start(cns, queues=("fork",))
    contender = stage.start(cns, _inside(2), queues=("left",))
    rival = stage.start(cns, _inside(3), queues=("right",))
    run = stage.client(cns).submit(contexts.begin_contest.create_signal(1))
    contender.reached("call.inside")
    rival.reached("call.inside")
    rival.release("call.inside")
    newest = "select context_version as number from cnstra.run"
    eventually(lambda: stage.row(newest)["number"] == 2, PATIENCE, what="the rival's version")
    contender.release("call.inside")

    assert stage.ended(run).context == {"prize": prize}
    assert_sound(stage, run.id)
    assert len(_kept(stage) - _referred(stage)) == wasted
    noted = {row["key"] for row in stage.rows("select key from cnstra.context_litter")}
    assert noted == _kept(stage) - _referred(stage)


def test_g5_g6_g7_many_writes_from_two_workers_at_once(elsewhere: Stage) -> None:
    """Updates, writes that conflict, and keys of each lane's own: nothing is lost, and each version is one more."""
    stage = elsewhere
    stage.start(contexts.relay, queues=("fork",))
    for queue in ("left", "right"):
        stage.start(contexts.relay, queues=(queue,))
    run = stage.client(contexts.relay).submit(contexts.start_relay.create_signal({"lanes": 4, "hops": 25}))

    result = stage.completed(run)

    lanes = {f"lane {lane}": 0 for lane in range(4)}
    assert result.context == {"updates": 100, "writes": 100 // contexts.EVERY, **lanes}
    assert [one.written["updates"] for one in run.history()] == list(range(1, 101))
    assert_sound(stage, run.id)
    noted = {row["key"] for row in stage.rows("select key from cnstra.context_litter")}
    assert not noted & _referred(stage)


# -- the store is away -----------------------------------------------------------------------------------------


def test_g4_what_a_handler_has_done_waits_for_a_store_that_is_away(stage: Stage, wire: Severed) -> None:
    """It is not called again; runs that do not live there go on meanwhile, in the same process."""
    worker = stage.start(routes.chain, _inside(2), threads=1)
    run = _chain(stage)
    worker.reached("call.inside")
    wire.sever()
    worker.release("call.inside")
    wire.was_tried()

    stage.contexts_url = None
    for other in stage.client(routes.chain).submit_many([routes.set_out.create_signal(n) for n in range(5)]):
        stage.completed(other)
    assert stage.activation(run, 2)["status"] == "running"

    wire.mend()
    stage.contexts_url = stage.redis_url
    found = stage.client(routes.chain).get_run(run.id)
    assert stage.completed(found).context == _DONE
    assert stage.ledger.calls(run.id) == {1: 1, 2: 1, 3: 1}
    assert_sound(stage, run.id)
    _told_once(worker)


def test_what_waits_for_a_store_takes_no_room_from_others(stage: Stage, wire: Severed) -> None:
    """A worker whose hands are full of results that it cannot put serves runs that live elsewhere all the same."""
    worker = stage.start(routes.chain, _inside(1), threads=1)
    runs = [_chain(stage)]
    worker.reached("call.inside")
    runs.append(_chain(stage))  # there is room for one that is called, and for one that waits
    eventually(lambda: stage.activation(runs[1], 1)["status"] == "running", PATIENCE, what="the second is claimed")
    wire.sever()
    worker.release("call.inside")
    eventually(lambda: len(stage.ledger.entries()) == 2, PATIENCE, what="both are called")

    stage.contexts_url = None
    stage.completed(_chain(stage))
    assert [stage.activation(run, 1)["status"] for run in runs] == ["running", "running"]

    wire.mend()
    stage.all_completed(runs)
    assert [stage.ledger.calls(run.id) for run in runs] == [{1: 1, 2: 1, 3: 1}] * 2


def test_g13_work_whose_values_cannot_be_read_goes_back_and_is_no_failed_try(stage: Stage, wire: Severed) -> None:
    """A worker that has read nothing yet gives it back, again and again, and waits longer between; then it is done."""
    first = stage.start(routes.chain, Fault(point="settle.done", action="kill", activation=1), streak=0)
    run = _chain(stage)
    first.reached("settle.done")
    first.died()
    stage.lose(first)
    wire.sever()
    second = stage.start(routes.chain)
    for _ in range(3):
        wire.was_tried()
    row = stage.activation(run, 2)
    assert row["error_type"] is None

    wire.mend()

    assert stage.completed(run).context == _DONE
    assert stage.ledger.calls(run.id) == {1: 1, 2: 1, 3: 1}
    assert stage.activation(run, 2)["tries"] == 1
    assert stage.rows("select * from cnstra.try where error_type <> 'cnstra.WorkerLost'") == []
    assert_sound(stage, run.id)
    _told_once(second)


def _told_once(worker: WorkerProcess) -> None:
    """The outage is in the log once, and so is its end."""
    assert worker.log().count("the store of contexts 'context': the store of contexts") == 1
    assert worker.log().count("the store of contexts 'context': it is back.") == 1


def test_a_worker_drains_though_the_store_is_away(stage: Stage, wire: Severed) -> None:
    """It gives up what waits for the store, says so, and another worker does it again."""
    worker = stage.start(routes.chain, _inside(2), drain=_SHORT)
    run = _chain(stage)
    worker.reached("call.inside")
    wire.sever()
    worker.release("call.inside")
    wire.was_tried()

    assert not worker.drain()

    assert "its result is abandoned: the worker stops, and the store 'context' is away" in worker.log()
    wire.mend()
    stage.start(routes.chain)
    assert stage.completed(run).context == _DONE
    assert_sound(stage, run.id)


# -- a blob is gone --------------------------------------------------------------------------------------------


def _first_step_done(stage: Stage) -> tuple[Run, str]:
    """A run whose second step has not begun, and the key of the blob that its first one wrote."""
    first = stage.start(routes.chain, Fault(point="settle.done", action="kill", activation=1), streak=0)
    run = _chain(stage)
    first.reached("settle.done")
    first.died()
    stage.lose(first)
    (entry, *_) = stage.rows("select value::text as text from cnstra.context_entry")
    return run, key_of(entry["text"])


@pytest.mark.beneath_the_seal
@pytest.mark.parametrize("spoilt", [None, b'{"cnstra":1,"set":{"s:steps":7},"removed":[]}', b"", b"\xff"])
def test_a_blob_that_is_gone_or_spoilt_fails_the_run_until_it_is_restored(
    elsewhere: Stage, spoilt: bytes | None
) -> None:
    """The handler never sees an older context or another one; a retry goes on from exactly there."""
    stage = elsewhere
    run, key = _first_step_done(stage)
    blobs = _blobs(stage)
    good = blobs.get(key)
    assert good is not None
    blobs.delete([key])
    if spoilt is not None:
        blobs.put(key, spoilt)
    stage.start(routes.chain)

    eventually(lambda: run.status() == "failed", PATIENCE, what="the run has failed")
    row = stage.row("select error_type, error, attempt from cnstra.runs")
    assert (row["error_type"], row["attempt"]) == ("cnstra.ContextLost", 1)
    assert key in row["error"]
    assert stage.activation(run, 2)["tries"] == 1
    assert stage.ledger.calls(run.id) == {1: 1}

    blobs.put(key, good)
    run.retry()

    assert stage.completed(run).context == _DONE
    assert stage.ledger.calls(run.id) == {1: 1, 2: 1, 3: 1}
    assert_sound(stage, run.id)


# -- a worker without the store --------------------------------------------------------------------------------


def test_g13_a_worker_without_the_store_leaves_the_run_to_one_that_has_it(elsewhere: Stage) -> None:
    """It claims nothing of it, fails nothing, and serves other runs; the run shows as blocked, and then goes on."""
    stage = elsewhere
    without = stage.start(routes.chain, contexts=())
    run = _chain(stage)
    blocked = "select blocked from cnstra.runs where run_id = %s"
    eventually(lambda: stage.row(blocked, run.id)["blocked"] == "unknown", PATIENCE, what="the run shows as unknown")
    assert stage.row("select blocked, status, context_place from cnstra.runs") == {
        "blocked": "unknown",
        "status": "running",
        "context_place": "context",
    }
    stage.contexts_url = None
    stage.completed(stage.client(routes.chain).submit(routes.set_out.create_signal(0)))
    assert stage.ledger.calls(run.id) == {}

    with_it = stage.start(routes.chain, contexts=[stage.redis_url])

    stage.contexts_url = stage.redis_url
    assert stage.completed(stage.client(routes.chain).get_run(run.id)).context == _DONE
    assert {entry.pid for entry in stage.ledger.entries(run.id)} == {with_it.pid}
    assert without.alive
    assert_sound(stage, run.id)


def test_g13_a_store_of_another_name_is_another_store(elsewhere: Stage) -> None:
    """Where a run keeps its context is a fact of the run, by name: the same server under another one is not it."""
    stage = elsewhere
    stage.start(routes.chain, contexts=[f"archive={stage.redis_url}"])
    run = _chain(stage)
    blocked = "select blocked from cnstra.runs where run_id = %s"
    eventually(lambda: stage.row(blocked, run.id)["blocked"] == "unknown", PATIENCE, what="the run shows as unknown")
    assert stage.ledger.calls(run.id) == {}

    stage.start(routes.chain, contexts=[f"archive={stage.redis_url}", stage.redis_url])

    assert stage.completed(run).context == _DONE
