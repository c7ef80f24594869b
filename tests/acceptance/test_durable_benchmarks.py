"""The durable suite, at sizes of a few runs: each way to take a figure gives one, and a run that did other work has none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from benchmarks.measuring import Contestant, Effort, WrongResult
from benchmarks.suites import durable
from benchmarks.suites.durable import bare, graphs, ours
from benchmarks.suites.durable.relay import relay
from benchmarks.suites.durable.servers import Place, fresh, workers

pytestmark = pytest.mark.past_the_pooler

SPOILED: dict[str, Callable[[Place], float]] = {
    "chains that come to another number": lambda place: ours.steps_per_second(place, "chain", 3, result=4),
    "scatters that come to another sum": lambda place: ours.steps_per_second(place, "fan", 2, result=44),
}


@pytest.fixture
def place(database_url: str, broker_url: str) -> Place:
    return Place(database_url=database_url, broker_url=broker_url)


@pytest.mark.parametrize("graph", ["async_chain", "blocking", "awaiting"])
def test_chains_have_a_figure(place: Place, graph: str) -> None:
    """With sync handlers and async ones, quick ones and slow ones."""
    assert ours.steps_per_second(place, graph, 4) > 0


def test_chains_have_costs_beside(place: Place) -> None:
    """Commits and bytes of the database's log."""
    costs = ours.Costs()
    assert ours.steps_per_second(place, "chain", 4, costs=costs) > 0
    assert len(costs.commits) == len(costs.wal) == 1
    assert 0 < costs.commits[0] < 10
    assert costs.wal[0] > 100


def test_so_have_scatters_contexts_and_submits(place: Place) -> None:
    """Each is looked up at its end."""
    assert ours.fans_per_second(place, 2) > 0
    assert ours.writing_steps_per_second(place, 2) > 0
    assert ours.submits_per_second(place, 3, at_once=True) > 0
    assert ours.submits_per_second(place, 3, at_once=False) > 0
    assert bare.inserts_per_second(place, 5) > 0
    assert bare.milliseconds_per_insert(place, 5) > 0


def test_the_least_that_a_durable_start_takes_has_a_figure(place: Place) -> None:
    """Of rows that another process takes, each once."""
    with relay(place) as least:
        assert least.milliseconds_to_start(3) > 0


def test_an_idle_system_has_its_latencies(place: Place) -> None:
    """Of a line of hops, and of the first one."""
    for graph, take in (("line", "milliseconds_per_step"), ("clock", "milliseconds_to_start")):
        with (
            fresh(place) as here,
            workers(here, graph, processes=1),
            here.connect() as connection,
            ours._client(here, getattr(graphs, graph)) as client,
        ):
            assert getattr(ours.Idle(client, connection), take)(2) > 0


def test_pages_are_counted_beside_a_backlog(place: Place) -> None:
    """Of the statements of the hops, and not of whoever looks whether they have ended."""
    alone, beside = (ours.pages_per_step(place, 3, waiting=waiting) for waiting in (0, 500))
    assert 0 < alone < 10_000
    assert 0 < beside < 10_000


def test_memory_and_idleness_have_theirs(place: Place) -> None:
    """Of a worker process, by its own counters and by those of the servers."""
    assert ours.growth(place, 4, first=2) > 0
    idling = ours.Idling()
    assert idling.measure(place, 0.5) >= 0
    assert len(idling.commands) == len(idling.queries) == 1


@pytest.mark.parametrize("spoiled", SPOILED.values(), ids=SPOILED)
def test_a_run_with_another_result_has_no_figure(place: Place, spoiled: Callable[[Place], float]) -> None:
    """It did complete; its output is looked at."""
    with pytest.raises(WrongResult, match="so many did: 0"):
        spoiled(place)


def test_a_worker_that_does_not_take_work_fails_the_take(place: Place) -> None:
    """Its graph cannot be loaded."""
    with pytest.raises(WrongResult, match="instead of 'ready'"), workers(place, "no_such_graph"):
        raise AssertionError("it said ready")


def test_the_suite_has_its_races(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them are put together; peers are asked for by the same sizes."""
    asked: list[Any] = []
    monkeypatch.setattr(durable, "contestant", lambda peer, work, _: asked.append((peer.name, work)) or _stand_in(peer))
    races = durable.races(Effort(rounds=1, scale=0.01, is_quick=True))

    names = [race.name for race in races]

    assert [name.partition(":")[0] for name in names] == ["W1", "W2"]
    assert {(peer, work.workload) for peer, work in asked} == {
        (peer, workload) for peer in ("dbos", "celery", "procrastinate", "dramatiq") for workload in ("chains", "fans")
    }


def _stand_in(peer: Any) -> Any:
    return Contestant(name=peer.name, says="nothing", take=lambda: 1.0)
