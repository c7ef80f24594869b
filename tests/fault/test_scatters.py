"""Workers and servers go away under scatters: every gather is called once, with all results in order, and every run ends."""

from __future__ import annotations

import json
import random
import signal
from collections import Counter
from datetime import timedelta

import psycopg
import pytest

from cnstra import Run
from cnstra.servers import HeldServers
from support import saga_graphs as graphs
from support.points import Fault
from support.soundness import assert_sound
from support.stage import PATIENCE, Stage
from support.waiting import eventually

_SCATTER, _GATHER, _MEMBER = 1, 2, 4
"""The numbers of the activation that scatters, of its gather, and of the second of three members."""
_IN_THE_CALL = ["call.inside", "settle.begin", "settle.commit"]


def _drawn(stage: Stage, size: int, **lot: object) -> Run:
    return stage.client(graphs.tally).submit(graphs.draw_lot.create_signal({"size": size, **lot}))


def _assert_gathered_once(stage: Stage, run: Run, results: list[object], *, calls: int | None = 1) -> None:
    """The one gather of the run has all results in their order; ``calls``, where it is given, is how often it was called."""
    called = [entry for entry in stage.ledger.entries(run.id) if entry.what == "gather"]
    assert len({entry.key for entry in called}) == 1, called
    assert all(entry.details["results"] == results for entry in called), called
    assert calls is None or len(called) == calls, called
    assert_sound(stage, run.id)


def test_members_stay_with_the_worker_that_scattered_as_far_as_it_has_threads(stage: Stage) -> None:
    """They are born claimed; the others are rung for, and all of them end in their places."""
    stage.start(graphs.tally, threads=4)
    run = _drawn(stage, 9)
    stage.completed(run)
    _assert_gathered_once(stage, run, list(range(9)))
    with psycopg.connect(stage.database_url) as connection:
        born = connection.execute(
            "select array_agg(member order by member) from cnstra.activations "
            "where run_id = %s and member is not null and started_at = created_at",
            [run.id],
        ).fetchone()
    assert born == ([0, 1, 2],)  # one thread has scattered them


@pytest.mark.parametrize("point", ["claim.done", "call.begin", *_IN_THE_CALL, "settle.done"])
@pytest.mark.parametrize("number", [_SCATTER, _MEMBER, _GATHER], ids=["the scatter", "a member", "the gather"])
def test_g4_g11_a_group_survives_its_worker(stage: Stage, point: str, number: int) -> None:
    """Killed at every boundary of who scatters, of a member, and of the gather: each commits once, in its place."""
    doomed = stage.start(graphs.tally, Fault(point=point, action="kill", activation=number), streak=0)
    run = _drawn(stage, 3)
    doomed.reached(point)
    assert doomed.died() == -signal.SIGKILL
    stage.lose(doomed)

    stage.start(graphs.tally, streak=0)

    result = stage.completed(run)
    assert (result.context, [output.payload for output in result.outputs]) == ({"results": [0, 1, 2]}, [3])
    again = point in _IN_THE_CALL
    _assert_gathered_once(stage, run, [0, 1, 2], calls=2 if again and number == _GATHER else 1)
    assert stage.ledger.calls(run.id)[number] == (2 if again else 1)


@pytest.mark.parametrize("point", ["call.inside", "settle.begin", "settle.commit"])
def test_g3_g11_a_member_that_stalls_past_its_lease_gives_nothing(stage: Stage, point: str) -> None:
    """Another worker ends it in its place; what the first then says counts in no group."""
    zombie = stage.start(
        graphs.tally,
        Fault(point=point, action="stop", activation=_MEMBER),
        streak=0,
        lease=timedelta(seconds=6),
    )
    run = _drawn(stage, 3)
    zombie.reached(point)
    zombie.frozen()
    stage.lose(zombie)
    stage.start(graphs.tally, streak=0)
    stage.completed(run)

    zombie.thaw()

    eventually(lambda: "its claim was taken away" in zombie.log(), PATIENCE, what="the zombie's settlement is refused")
    _assert_gathered_once(stage, run, [0, 1, 2])


@pytest.mark.parametrize("limit", [None, 2])
def test_g11_a_failed_member_is_retried_alone(stage: Stage, limit: int | None) -> None:
    """The run has failed, its gather waits; the retry calls the failed one again, and then the gather."""
    stage.start(graphs.tally)
    run = _drawn(stage, 9, broken=[4], limit=limit) if limit else _drawn(stage, 9, broken=[4])
    assert stage.ended(run).status == "failed"
    assert [entry.what for entry in stage.ledger.entries(run.id) if entry.what == "gather"] == []
    assert_sound(stage, run.id)

    run.retry()

    stage.completed(run)
    _assert_gathered_once(stage, run, list(range(9)))
    calls = Counter(e.details["number"] for e in stage.ledger.entries(run.id) if e.what == "member" and e.attempt == 2)
    assert calls == {4: 1}


def test_g11_what_has_failed_stands_in_its_place_where_the_gather_takes_it(stage: Stage) -> None:
    """The run completes, at its first attempt."""
    stage.start(graphs.lenient_tally)
    lot = graphs.draw_lot.create_signal({"size": 6, "flaky": [0, 3], "broken": [1, 4]})
    run = stage.client(graphs.lenient_tally).submit(lot)
    stage.completed(run)
    _assert_gathered_once(stage, run, [0, -2, 2, 3, -5, 5])
    assert stage.row("select attempt, error from cnstra.runs") == {"attempt": 1, "error": None}


def test_g1_g11_hundreds_of_members_survive_workers_broker_and_database(
    doomed_stage: Stage, doomed_servers: HeldServers
) -> None:
    """Workers are killed at any moment, the broker forgets, Postgres crashes: wide, limited, failing and nested groups end."""
    stage, chance = doomed_stage, random.Random(17)
    size, long = 360, 1_200  # the limited one is what lasts: five of its members at a time
    flaky = list(range(0, size, 7))
    wide = _drawn(stage, size, flaky=flaky)
    limited = _drawn(stage, long, flaky=flaky, limit=5)
    lenient = stage.client(graphs.lenient_tally).submit(
        graphs.draw_lot.create_signal({"size": size, "broken": [3, 50], "flaky": flaky})
    )
    nested = stage.client(graphs.atlas).submit(graphs.open_shelf.create_signal({"volumes": 8, "maps": 7}))
    runs = [wide, limited, lenient, nested]
    apps = [graphs.tally, graphs.tally, graphs.lenient_tally, graphs.atlas]
    options = {"lease": timedelta(seconds=2), "poison_limit": 1_000}
    crew = [(app, stage.start(app, **options)) for app in apps]
    blows = 0
    while blows < 8 and not all(run.status() == "completed" for run in runs):
        before = len(stage.ledger.entries())
        eventually(
            lambda: len(stage.ledger.entries()) >= before + 25 or all(run.status() == "completed" for run in runs),  # noqa: B023
            PATIENCE,
            what="the runs move on",
        )
        app, worker = crew.pop(chance.randrange(len(crew)))
        worker.kill()
        if blows % 3 == 1:
            stage.lose_doorbells()
        if blows % 4 == 2:
            doomed_servers.restart_postgres("immediate")
        crew.append((app, stage.start(app, **options)))
        blows += 1
        most = stage.row("select max(running) as most from cnstra.scatter where run_id = %s", limited.id)["most"]
        assert most is None or most <= 5
    stage.all_completed(runs)
    assert blows > 3, "they were over before much could happen to them"

    for run, members in ((wide, size), (limited, long)):
        assert stage.completed(run).context == {"results": list(range(members))}
        _assert_gathered_once(stage, run, list(range(members)), calls=None)
    _assert_gathered_once(stage, lenient, [-1 - n if n in (3, 50) else n for n in range(size)], calls=None)
    volumes = [list(range(n * 7, n * 7 + 7)) for n in range(8)]
    assert stage.completed(nested).context == {"read": volumes}
    called = {
        (entry.activation_id, json.dumps(entry.details["results"]))
        for entry in stage.ledger.entries(nested.id)
        if entry.what == "gather"
    }
    assert sorted(results for _, results in called) == sorted(map(json.dumps, [*volumes, volumes]))
    assert_sound(stage, nested.id)
