"""A run's context is written from outside while workers run its hops: nobody loses anything."""

from __future__ import annotations

import psycopg
import pytest

from cnstra.stores import PostgresContextStore
from support.graphs import contexts
from support.soundness import assert_sound
from support.stage import PATIENCE, Stage
from support.waiting import eventually

_LANES = 2
_HOPS = 20
_TIMES = 10


@pytest.mark.beneath_the_seal
@pytest.mark.parametrize("die", [False, True], ids=["workers that live", "a worker that is killed"])
def test_g6_g7_updates_from_outside_among_the_hops_of_two_workers(stage: Stage, die: bool) -> None:
    """Lanes on two workers write, and a store outside counts up in the same value, over and over.

    Every hop's writes and every count are in the end, each has its own version, and the history tells them apart.
    """
    stage.start(contexts.relay, queues=("fork",))
    left, _ = [stage.start(contexts.relay, queues=(queue,)) for queue in ("left", "right")]
    run = stage.client(contexts.relay).submit(contexts.start_relay.create_signal({"lanes": _LANES, "hops": _HOPS}))

    with psycopg.connect(stage.database_url, autocommit=True) as connection:
        store = PostgresContextStore(connection, run.id)
        for turn in range(_TIMES):
            seen = store.version
            eventually(
                lambda: store.version > seen or run.status() != "running",  # noqa: B023 - called at once
                PATIENCE,
                what="a hop has written since",
            )
            store.update(lambda value: {**(value or {}), "outside": (value or {}).get("outside", 0) + 1})
            if die and turn == 2:
                left.kill()
                stage.lose(left)
                stage.start(contexts.relay, queues=("left",))
    result = stage.completed(run)

    hops = _LANES * _HOPS
    lanes = {f"lane {lane}": 0 for lane in range(_LANES)}
    assert result.context == {"updates": hops, "writes": hops // contexts.EVERY, "outside": _TIMES, **lanes}
    history = run.history()
    assert [written.version for written in history] == list(range(1, hops + _TIMES + 1))
    outside = [written for written in history if written.activation_id is None]
    assert [written.written["outside"] for written in outside] == list(range(1, _TIMES + 1))
    assert {written.neuron for written in outside} == {None}
    assert_sound(stage, run.id)
