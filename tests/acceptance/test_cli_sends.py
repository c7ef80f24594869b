"""Signals from the command line: to a run, and by key; and what ``cnstra show`` tells of runs that wait and scatter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from cnstra import Orchestrator, Run
from support.apps import asking
from support.commands import Servers, cnstra
from support.waiting import eventually

PATIENCE = 60.0


@pytest.fixture
def asked(both: Servers, start_worker: Callable[..., Any]) -> Any:
    """Makes a run that waits for an approval, by a key where one is given; a worker is up."""
    start_worker("asking:cns").ready()
    with Orchestrator(asking.cns, database=both.database_url, broker=both.broker_url) as client:

        def make(key: str = "") -> Run:
            run = client.submit(asking.ask.create_signal(key))
            eventually(lambda: run.status() == "waiting", PATIENCE, what="the run waits")
            return run

        yield make


def test_a_signal_is_sent_to_a_run(asked: Any, both: Servers) -> None:
    """The run goes on; its id is printed, so that a script can wait for it."""
    run = asked()

    ended = cnstra("send", str(run.id), "approved", "7", servers=both)

    assert (ended.code, ended.out.strip()) == (0, str(run.id))
    assert [output.payload for output in run.wait(PATIENCE).outputs] == [7]


def test_a_signal_is_sent_by_key_now_or_before_it_is_expected(asked: Any, both: Servers) -> None:
    """To the run that expects it, which is told; or to the next one that will."""
    run = asked("order-17")
    by_key = ["--key", "order-17", "--app", "asking:cns", "--json"]

    taken = cnstra("send", *by_key, "approved", "7", servers=both)
    kept = cnstra("send", *by_key, "--idempotency-key", "once", "approved", "8", servers=both)
    again = cnstra("send", *by_key, "--idempotency-key", "once", "approved", "8", servers=both)

    assert taken.json == {"run_id": str(run.id), "collateral": "approved", "key": "order-17"}
    assert kept.json == again.json == {"run_id": None, "collateral": "approved", "key": "order-17"}
    assert [output.payload for output in run.wait(PATIENCE).outputs] == [7]
    with psycopg.connect(both.database_url, autocommit=True) as connection:
        assert connection.execute("select payload from cnstra.posted where run_id is null").fetchall() == [(8,)]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["approved", "7"], 4, "approved"),
        (["{run}", "approved", "seven"], 6, "is no JSON"),
        (["{run}", "approved", '"x"', "--app", "asking:cns"], 6, "approved"),
        (["{run}", "aproved", "7", "--app", "asking:cns"], 6, "did you mean 'approved'?"),
        (["{run}"], 2, "COLLATERAL"),
        (["--key", "k", "approved", "7"], 2, "--app"),
        (["--key", "k", "--app", "asking:cns", "{run}", "approved", "7"], 2, "no RUN"),
        (["--key", "", "--app", "asking:cns", "approved", "7"], 6, "key ''"),
    ],
)
def test_what_cannot_be_sent_is_refused_in_one_line(
    asked: Any, both: Servers, words: list[str], code: int, said: str
) -> None:
    """With the exit code that says why; the run waits on."""
    run = asked()

    ended = cnstra("send", *(word.format(run=run.id) for word in words), servers=both)

    assert ended.code == code, ended
    assert said in ended.complaint
    assert run.status() == "waiting"


def test_a_run_that_has_ended_takes_no_signal(asked: Any, both: Servers) -> None:
    run = asked()
    cnstra("send", str(run.id), "approved", "7", servers=both)
    run.wait(PATIENCE)

    ended = cnstra("send", str(run.id), "approved", "7", servers=both)

    assert ended.code == 6
    assert "takes no signals any more" in ended.complaint


def test_show_tells_what_a_run_waits_for(asked: Any, both: Servers) -> None:
    """Which signal, by which key, until when, and how to send it."""
    run = asked("order-17")

    said = cnstra("show", str(run.id), servers=both).out
    document = cnstra("show", str(run.id), "--json", servers=both).json

    assert "approved by key 'order-17', until " in said
    assert "asked for by #1 asker" in said
    assert "#2 answerer on approved is waiting for its signal" in said
    assert said.rstrip().endswith(f"cnstra send {run.id} approved JSON")
    [one] = document["expectations"]
    assert (one["collateral"], one["key"], one["activation_id"], one["starts"]) == ("approved", "order-17", 1, [2])


def test_show_tells_how_far_a_scatter_is(asked: Any, both: Servers) -> None:
    """How many members have ended, run, and have not begun: here the first one waits for a signal."""
    with Orchestrator(asking.cns, database=both.database_url, broker=both.broker_url) as client:
        run = client.submit(asking.split.create_signal(5))
        eventually(
            lambda: "4 of 5 members have ended, 1 run" in cnstra("show", str(run.id), servers=both).out,
            PATIENCE,
            what="all but one have ended",
        )
        said = cnstra("show", str(run.id), servers=both).out
        assert "#2 answerer on counted is waiting for the end of scatter 1" in said
        [scatter] = cnstra("show", str(run.id), "--json", servers=both).json["scatters"]
        assert (scatter["size"], scatter["started"], scatter["closed"], scatter["gathers"]) == (5, 5, False, [2])
        cnstra("send", str(run.id), "approved", "0", servers=both)
        assert sorted(output.payload for output in run.wait(PATIENCE).outputs) == [0, 10]
