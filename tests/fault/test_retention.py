"""Deletion that is cut off: workers that die or freeze in the middle of it leave whole runs, and others go on with it (G14)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from cnstra import Run, RunNotFound
from support.graphs import routes
from support.points import Fault
from support.soundness import assert_sound
from support.stage import PATIENCE, Stage
from support.waiting import eventually

_TABLES = ("run", "activation", "context_head", "context_entry", "submission_key")
_SOON: dict[str, Any] = {"expire_every": timedelta(milliseconds=50)}


def _ended_long_ago(stage: Stage, count: int = 20) -> list[Run]:
    """Runs that have completed, as if that had been 40 days ago; no worker is left."""
    worker = stage.start(routes.chain)
    runs = stage.client(routes.chain).submit_many(
        [routes.set_out.create_signal(n) for n in range(count)], idempotency_keys=[f"key {n}" for n in range(count)]
    )
    stage.all_completed(runs)
    worker.drain()
    stage.rows("update cnstra.run set finished_at = finished_at - interval '40 days'")
    return runs


def _kept(stage: Stage, table: str) -> set[UUID]:
    return {row["run_id"] for row in stage.rows(f"select distinct run_id from cnstra.{table}")}


@pytest.mark.parametrize("point", ["expire.begin", "expire.commit", "expire.done"])
def test_g14_a_worker_that_dies_while_it_deletes_leaves_whole_runs(stage: Stage, point: str) -> None:
    """Before the transaction, in it with everything deleted, and after its commit: all of a portion is gone, or none."""
    runs = _ended_long_ago(stage)
    everything = {run.id for run in runs}

    doomed = stage.launch(routes.chain, Fault(point=point, action="kill"), **_SOON)
    doomed.died()

    left = everything if point != "expire.done" else set()
    assert {table: _kept(stage, table) for table in _TABLES} == dict.fromkeys(_TABLES, left)

    stage.start(routes.chain, **_SOON)
    stage.lose(doomed)
    eventually(lambda: not _kept(stage, "run"), PATIENCE, what="another worker has deleted the rest")
    assert {table: _kept(stage, table) for table in _TABLES} == {table: set() for table in _TABLES}
    with pytest.raises(RunNotFound, match="it was pruned"):
        stage.client(routes.chain).get_run(runs[0].id)


def test_g14_a_worker_that_freezes_while_it_deletes_holds_nobody_up(stage: Stage) -> None:
    """The server ends its transaction; others delete, and submit the same keys; when it wakes up, it harms nothing."""
    runs = _ended_long_ago(stage)
    frozen = stage.launch(routes.chain, Fault(point="expire.commit", action="stop"), **_SOON)
    frozen.frozen()

    other = stage.start(routes.chain, **_SOON)
    stage.lose(frozen)
    eventually(lambda: not _kept(stage, "activation"), PATIENCE, what="another worker has deleted them")
    again = stage.client(routes.chain).submit(routes.set_out.create_signal(0), idempotency_key="key 0")
    stage.completed(again)
    frozen.thaw()
    fresh = stage.client(routes.chain).submit(routes.set_out.create_signal(1), idempotency_key="key 1")
    stage.completed(fresh)

    assert {again.id, fresh.id}.isdisjoint({run.id for run in runs})
    assert _kept(stage, "run") == {again.id, fresh.id}
    for run in (again, fresh):
        assert_sound(stage, run.id)
    assert other.alive
    assert frozen.alive


def test_g14_runs_go_on_while_others_are_deleted(stage: Stage) -> None:
    """Workers that delete all the time, in the middle of a backlog: each run completes once, and is sound."""
    _ended_long_ago(stage, count=60)
    for _ in range(2):
        stage.start(routes.chain, **_SOON)
    runs = stage.client(routes.chain).submit_many([routes.set_out.create_signal(n) for n in range(60)])
    stage.all_completed(runs)
    eventually(lambda: _kept(stage, "run") == {run.id for run in runs}, PATIENCE, what="only what is kept is left")
    for run in runs[:5]:
        assert_sound(stage, run.id)
