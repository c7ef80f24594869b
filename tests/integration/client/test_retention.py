"""Pruning and retention through both clients, and what is said of runs and contexts that are gone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from cnstra import (
    CNS,
    AsyncOrchestrator,
    ConfigurationError,
    Context,
    ContextExpired,
    Orchestrator,
    Run,
    RunNotFound,
    collateral,
    neuron,
)
from support.serving import serving
from support.waiting import eventually

PATIENCE = 60.0

asked = collateral("asked", int)
teller = neuron("teller", {"told": collateral("told", int)})


@teller.dendrite(asked)
def tell(number: int, axon: Any, ctx: Context) -> Any:
    ctx["number"] = number
    return axon.told.create_signal(number)


cns = CNS([teller], name="tellers")
DAY = timedelta(days=1)


@pytest.fixture
def orchestrator(database_url: str, broker_url: str) -> Iterator[Orchestrator]:
    with Orchestrator(cns, database=database_url, broker=broker_url) as orchestrator:
        yield orchestrator


@pytest.fixture
def old(orchestrator: Orchestrator, database_url: str, broker_url: str) -> Run:
    """A run that completed 20 days ago; no worker is left."""
    with serving(cns, database_url, broker_url):
        run = orchestrator.submit(asked.create_signal(17))
        assert run.wait(PATIENCE).status == "completed"
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("update cnstra.run set finished_at = finished_at - interval '20 days'")
    return run


def test_everything_that_is_asked_of_a_pruned_run_says_that_it_may_have_been_pruned(
    orchestrator: Orchestrator, old: Run
) -> None:
    """Whatever the question is; who waits for it does not wait for ever."""
    assert orchestrator.prune(older_than=DAY) == {"completed": 1, "compensated": 0, "cancelled": 0}
    questions: list[Callable[[], object]] = [
        old.status,
        old.context,
        old.history,
        old.describe,
        old.retry,
        lambda: old.context(1),
        lambda: old.wait(PATIENCE),
        lambda: orchestrator.get_run(old.id),
    ]
    for question in questions:
        with pytest.raises(RunNotFound, match=f"no run {old.id} is stored here: it never was, or it was pruned"):
            question()


def test_a_context_that_is_gone_is_never_taken_for_an_empty_one(
    orchestrator: Orchestrator, old: Run, database_url: str, broker_url: str
) -> None:
    """Asking for it raises; how the run ended, and what came out of it, is still told."""
    orchestrator.set_retention(context=7 * DAY)
    with serving(cns, database_url, broker_url):
        eventually(lambda: _is_expired(orchestrator, old), PATIENCE, what="the worker has deleted the context")

    for question in (old.context, lambda: old.context(1), old.history):
        with pytest.raises(ContextExpired, match=f"run {old.id}: its context is not kept any longer"):
            question()
    result = old.wait(PATIENCE)
    assert (result.status, result.context) == ("completed", None)
    assert [signal.payload for signal in result.outputs] == [17]
    assert old.context(0) is None


def _is_expired(orchestrator: Orchestrator, run: Run) -> bool:
    try:
        run.context()
    except ContextExpired:
        return True
    return False


def test_a_dry_run_counts_what_a_prune_would_delete(orchestrator: Orchestrator, old: Run) -> None:
    """With the same limit."""
    counts = {"completed": 1, "compensated": 0, "cancelled": 0}
    assert orchestrator.prune(older_than=DAY, dry_run=True) == counts
    assert orchestrator.prune(older_than=DAY, dry_run=True, limit=0) == dict.fromkeys(counts, 0)
    assert orchestrator.prune(older_than=DAY, limit=0) == dict.fromkeys(counts, 0)
    assert orchestrator.prune(older_than=21 * DAY) == dict.fromkeys(counts, 0)
    assert old.status() == "completed"
    assert orchestrator.prune(older_than=DAY, limit=1) == counts


@pytest.mark.parametrize(
    "which",
    [
        {"older_than": DAY, "statuses": ["running"]},
        {"older_than": DAY, "statuses": ["completed", "waiting"]},
        {"older_than": -DAY},
        {"older_than": 30},
        {"older_than": timedelta(days=99_999)},
        {"older_than": DAY, "limit": -1},
    ],
)
def test_what_cannot_be_meant_is_refused(orchestrator: Orchestrator, old: Run, which: dict[str, Any]) -> None:
    """With nothing deleted."""
    with pytest.raises(ConfigurationError):
        orchestrator.prune(**which)
    assert old.status() == "completed"


def test_rules_that_there_are_not_are_refused(orchestrator: Orchestrator) -> None:
    """And with them all others that were given at the same time."""
    before = orchestrator.retention()
    wrong: list[dict[str, Any]] = [
        {"running": DAY},
        {"completed": timedelta(seconds=1)},
        {"failed": timedelta(days=99_999)},
        {"cancelled": 7},
    ]
    for rules in wrong:
        with pytest.raises(ConfigurationError):
            orchestrator.set_retention(**({"context": DAY} | rules))
    assert orchestrator.retention() == before


def test_both_clients_have_the_same(old: Run, database_url: str, broker_url: str) -> None:
    """The async one, awaited."""

    async def asynchronously() -> None:
        async with AsyncOrchestrator(cns, database=database_url, broker=broker_url) as orchestrator:
            await orchestrator.set_retention(failed=90 * DAY, completed=None)
            rules = await orchestrator.retention()
            assert (rules["failed"], rules["completed"], rules["cancelled"]) == (90 * DAY, None, 90 * DAY)
            pruned = await orchestrator.prune(older_than=DAY, statuses=["completed", "failed"])
            assert pruned == {"completed": 1, "failed": 0}
            with pytest.raises(RunNotFound):
                await orchestrator.get_run(old.id)

    asyncio.run(asynchronously())
