"""The example of approvals and refunds in a lab: whatever dies and whoever cancels, the books add up; and they can fail to."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from order_approval import books, graph, plan, proof, provider, warehouse
from order_approval.orders import Decision, order_decided, order_placed
from order_approval.plan import Kind, Planned

from cnstra import CNS, RunStateError
from cnstra.testing import Lab, LabRun

ALL_KINDS = 40
"""So many orders are two or more of each kind."""
STORMS = range(8)

Runs = Mapping[str, LabRun]
Morning = Callable[[str], list[Planned]]


@pytest.fixture
def morning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Morning]:
    """Gives the orders of a new day, and opens its books."""
    logging.getLogger("cnstra").setLevel(logging.ERROR)  # each lost worker would be a warning

    def begin(day: str) -> list[Planned]:
        folder = tmp_path / day
        folder.mkdir()
        monkeypatch.setenv(books.FOLDER, str(folder))
        planned = plan.orders_of(day, ALL_KINDS)
        for book in (provider.book, warehouse.book):
            book.open()
        warehouse.stock_up(plan.goods(planned))
        return planned

    yield begin
    logging.getLogger("cnstra").setLevel(logging.NOTSET)
    for book in (provider.book, warehouse.book):
        book.close()


def changed_graph(old: str, new: str) -> CNS:
    """The example's graph with other words in its source."""
    source = Path(graph.__file__).read_text()
    assert old in source
    source = source.replace(old, new)
    module = ModuleType("changed_graph")
    exec(compile(source, "changed_graph", "exec", dont_inherit=True), vars(module))
    found = vars(module)["cns"]
    assert isinstance(found, CNS)
    return found


def place(lab: Lab, one: Planned) -> LabRun:
    return lab.submit(order_placed.create_signal(one.order), idempotency_key=one.order.id, deadline=one.deadline)


def cancel(run: LabRun) -> None:
    with suppress(RunStateError):  # it has ended, or is being undone
        run.cancel(compensate=True)


def decide(lab: Lab, one: Planned) -> None:
    """What the office does to an order of its kind, and the customer who waits; also before anybody asks."""
    if one.kind in (Kind.APPROVED, Kind.REGRETTED, Kind.REJECTED):
        decision = Decision(approved=one.kind is not Kind.REJECTED, by="the office")
        lab.send(order_decided.create_signal(decision), key=one.order.id)


def proved(runs: Runs, planned: list[Planned]) -> proof.Proof:
    """The example's own proof, of runs in a lab."""
    ended: dict[str, tuple[str, str]] = {}
    for order_id, run in runs.items():
        row: dict[str, Any] = run.describe()
        ended[order_id] = row["status"], row["error_type"] or ""
    return proof.prove(ended, planned)


def a_day(cns: CNS, planned: list[Planned]) -> proof.Proof:
    """Nothing dies, nobody cancels at a strange time."""
    with Lab(cns) as lab:
        runs = {one.order.id: place(lab, one) for one in planned}
        lab.run_until_idle()
        for one in planned:
            decide(lab, one)
            if one.kind is Kind.CANCELLED:
                cancel(runs[one.order.id])
        for run in runs.values():
            run.wait()
    return proved(runs, planned)


def a_stormy_day(cns: CNS, planned: list[Planned], seed: int) -> proof.Proof:
    """Workers die and stall; customers cancel at any moment, also those whose order would have come to its end."""
    chance = random.Random(seed)
    with Lab(cns) as lab:
        lab.storm(seed, crash=0.2, stall=0.1)
        runs = {one.order.id: place(lab, one) for one in planned}
        cancelling = [one for one in planned if one.kind in (Kind.CANCELLED, Kind.REGRETTED)]
        others = [one for one in planned if one.kind not in (Kind.LATE, Kind.CANCELLED, Kind.REGRETTED)]
        cancelling += chance.sample(others, 10)
        deeds: list[Callable[[], None]] = [lambda one=one: decide(lab, one) for one in planned]
        deeds += [lambda one=one: cancel(runs[one.order.id]) for one in cancelling]
        chance.shuffle(deeds)
        for deed in deeds:
            deed()
            lab.advance(timedelta(seconds=chance.choice([0, 0.1, 1, 10])))
        for run in runs.values():
            run.wait()
    anyhow = {id(one) for one in cancelling}
    return proved(runs, [replace(one, kind=Kind.REGRETTED) if id(one) in anyhow else one for one in planned])


def test_every_kind_of_order_comes_to_its_end_and_the_books_add_up(
    morning: Morning,
) -> None:
    """Approved, rejected, unanswered, too late, cancelled, declined, silent, impossible to ship, sold out."""
    planned = morning("calm")
    found = a_day(graph.cns, planned)

    assert found.wrong == []
    assert {kind for kind, _ in found.counts} == set(Kind)
    assert found.refunds > 0


@pytest.mark.parametrize("seed", STORMS)
def test_whatever_dies_and_whoever_cancels_when_the_books_add_up(morning: Morning, seed: int) -> None:
    """Nobody pays for what was not sent, and nothing is sent that was not paid, nor kept aside for ever."""
    assert a_stormy_day(graph.cns, morning(f"storm-{seed}"), seed).wrong == []


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("provider.refund(order.id, key=ctx.idempotency_key)", "pass"), "(cannot be shipped, compensated): paid"),
        (("warehouse.release(order.id, key=ctx.idempotency_key)", "pass"), "(rejected, compensated): kept aside"),
        (("@charge.compensate(uncertain=True, ", "@charge.compensate("), "(provider silent, compensated): paid"),
        (("if not decision.approved:", "if False:"), "(rejected): its run is completed"),
    ],
    ids=["nothing is refunded", "nothing is released", "an uncertain charge is forgotten", "a rejection is not heard"],
)
def test_the_proof_fails_where_something_is_not_undone(
    morning: Morning, change: tuple[str, str], complaint: str
) -> None:
    """A proof that could not fail would prove nothing: it names the orders of the kind that suffers."""
    found = a_day(changed_graph(*change), morning("broken"))

    assert [line for line in found.wrong if complaint in line], found.wrong


@pytest.mark.parametrize(
    "change",
    [
        ("order.amount, key=ctx.idempotency_key", "order.amount, key=f'{ctx.idempotency_key} {ctx.try_number}'"),
        ("@reserve.compensate(uncertain=True, ", "@reserve.compensate("),
        ("@ship.compensate(uncertain=True, ", "@ship.compensate("),
    ],
    ids=["a key of its own for each try", "an uncertain reservation is forgotten", "an uncertain parcel is forgotten"],
)
def test_the_proof_fails_in_a_storm_where_a_call_is_made_twice_or_forgotten(
    morning: Morning, change: tuple[str, str]
) -> None:
    """What only shows when a worker dies in the wrong moment: some storm finds it."""
    broken = changed_graph(*change)

    assert any(a_stormy_day(broken, morning(f"storm-{seed}"), seed).wrong for seed in range(20))
