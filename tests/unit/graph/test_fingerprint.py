"""The default version of a graph changes with its structure, and with nothing else."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, make_dataclass
from datetime import timedelta
from typing import Any

import pydantic
import pytest
from tenacity import Retrying

from cnstra.orchestrator.graph import CNS, collateral, neuron


def reserve(_order: object) -> None:
    """A handler."""


def other(_order: object) -> None:
    """A handler of another name."""


Order = make_dataclass("Order", [("id", str), ("amount", int)])


def graph(
    *,
    incoming: str = "order.placed",
    payload: Any = Order,
    attribute: str = "reserved",
    emitted: str = "stock.reserved",
    name: str = "stock",
    handler: Callable[[object], None] = reserve,
    neuron_options: dict[str, Any] | None = None,
    cns_options: dict[str, Any] | None = None,
) -> str:
    """The version of a small graph of which one thing differs."""
    made = neuron(name, {attribute: collateral(emitted, payload)}, **(neuron_options or {}))
    made.dendrite(collateral(incoming, payload))(handler)
    return CNS([made], **{"name": "shop", **(cns_options or {})}).version


@pytest.mark.parametrize(
    "change",
    [
        {"incoming": "order.made"},
        {"payload": int},
        {"payload": make_dataclass("Order", [("id", str), ("amount", float)])},
        {"payload": make_dataclass("Order", [("id", str), ("amount", int), ("note", str)])},
        {"payload": make_dataclass("Order", [("id", str), ("amount", int, 0)])},
        {"payload": make_dataclass("Invoice", [("id", str), ("amount", int)])},
        {"attribute": "taken"},
        {"emitted": "stock.taken"},
        {"name": "store"},
        {"handler": other},
        {"neuron_options": {"local": int}},
        {"cns_options": {"context": int}},
    ],
)
def test_another_structure_is_another_version(change: dict[str, Any]) -> None:
    """What runs in flight depend on is part of the version."""
    assert graph(**change) != graph()


@pytest.mark.parametrize(
    "change",
    [
        {"payload": make_dataclass("Order", [("amount", int), ("id", str)])},
        {"neuron_options": {"queue": "bank", "concurrency": 3}},
        {"neuron_options": {"retry": Retrying(), "max_duration": timedelta(seconds=1)}},
        {"cns_options": {"name": "other", "services": object(), "retry": Retrying()}},
    ],
)
def test_what_may_change_under_a_running_graph_is_no_part_of_the_version(change: dict[str, Any]) -> None:
    """Queues, limits, policies, services, the order of fields: none of them makes a new version."""
    assert graph(**change) == graph()


def test_a_version_is_short_and_the_same_every_time() -> None:
    """Sixteen hexadecimal digits."""
    assert graph() == graph()
    assert len(graph()) == 16
    assert int(graph(), 16) >= 0


@dataclass
class Inner:
    """A model inside of a model."""

    a: int


def model(inner: type) -> Any:
    """A pydantic model with an inner one."""
    return pydantic.create_model("Model", inner=(list[inner] | None, None))  # type: ignore[valid-type]


def test_a_change_inside_of_nested_models_is_seen() -> None:
    """What stands inside of a pydantic model is part of the structure."""
    one = pydantic.create_model("In", a=(int, ...))
    two = pydantic.create_model("In", a=(int, ...), b=(int, 0))
    assert graph(payload=model(one)) != graph(payload=model(two))
    assert graph(payload=model(one)) == graph(payload=model(pydantic.create_model("In", a=(int, ...))))


def test_recursive_types_have_a_version() -> None:
    """A type that names itself is described once."""
    assert graph(payload=Tree) == graph(payload=Tree)


@dataclass
class Tree:
    """A type that names itself."""

    children: list[Tree]
    payload: Inner


def test_the_version_is_the_same_in_every_process() -> None:
    """It does not depend on hash seeds or addresses, so that all workers agree."""
    code = (
        "from enum import Enum; from typing import Literal; from cnstra.orchestrator.graph import *\n"
        "E = Enum('E', {'b': 'b', 'a': 'a'})\n"
        "n = neuron('n', {'a': collateral('a', set[E]), 'b': collateral('b', Literal['x', 'y'])})\n"
        "n.dendrite(collateral('c', dict[str, frozenset[int]]))(lambda p: None)\n"
        "print(CNS([n], name='g').version)"
    )
    versions = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    }
    assert len(versions) == 1


def saga(
    *,
    gather: str | None = None,
    compensation: Callable[[object], None] | None = None,
    of: bool = False,
    return_failures: bool = False,
    **compensation_options: Any,
) -> str:
    """The version of a graph that may gather and compensate."""
    start, item, done = collateral("start", int), collateral("item", int), collateral("done", int)
    splitter, worker, report = neuron("splitter", {"item": item}), neuron("worker", {"done": done}), neuron("report")
    work = worker.dendrite(item)(reserve)
    splitter.dendrite(start)(reserve)
    if gather == "gather":
        options: dict[str, Any] = {"of": item} if of else {}
        report.gather(done, return_failures=return_failures, **options)(reserve)
    elif gather == "dendrite":
        report.dendrite(done)(reserve)
    if compensation is not None:
        work.compensate(**compensation_options)(compensation)
    return CNS([splitter, worker, report] if gather else [splitter, worker], name="shop").version


def test_a_graph_that_neither_gathers_nor_compensates_keeps_its_version() -> None:
    """Runs that are under way, of releases before there were gathers, name their graph by it."""
    assert saga() == "766cedec8f1fe452"
    assert saga(gather="dendrite") == "3681d5066fdeb297"


def test_gathers_and_compensations_are_part_of_the_structure() -> None:
    """Each of their parts; not a policy or a limit, which may change under runs in flight."""
    versions = [
        saga(),
        saga(gather="dendrite"),
        saga(gather="gather"),
        saga(gather="gather", of=True),
        saga(gather="gather", return_failures=True),
        saga(compensation=reserve),
        saga(compensation=other),
        saga(compensation=other, uncertain=True),
    ]
    assert len(set(versions)) == len(versions)
    tuned = saga(compensation=other, retry=Retrying(), max_duration=timedelta(seconds=3))
    assert tuned == saga(compensation=other)
    assert saga(gather="gather") == saga(gather="gather")
