"""The example's graph in a lab: its order saga comes to the right end, on bad days of the bank and under any crash."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal

import pytest
from order_saga.orders import Order, Parcel, order_placed

from cnstra.testing import Lab

with warnings.catch_warnings():  # releases of tenacity before 9.2 have no other name for the parameter
    warnings.filterwarnings("ignore", "The 'initial' parameter", DeprecationWarning)
    from order_saga import bank, graph

ORDER = Order(batch="b", number=1, customer=4, day=date(1997, 1, 1), cds=2, amount=Decimal("29.33"))


@dataclass
class Bank:
    """Charges once by key; fails as it is told."""

    ledger: dict[str, Decimal] = field(default_factory=dict)
    declines: bool = False
    CardDeclined = bank.CardDeclined

    async def charge(self, amount: Decimal, *, key: str, presentation: int, **_: object) -> str:
        if self.declines and presentation == 1:
            raise bank.CardDeclined("card 4 is declined")
        self.ledger.setdefault(key, amount)
        return f"charge-{list(self.ledger).index(key)}"


@dataclass
class Warehouse:
    """Reserves and ships once by key."""

    shelves: Counter[int]
    reserved: dict[str, int] = field(default_factory=dict)
    shipped: dict[str, str] = field(default_factory=dict)

    def on_hand(self, _batch: str, shelf: int) -> int:
        return self.shelves[shelf]

    def reserve(self, _batch: str, number: int, shelf: int, cds: int, *, key: str) -> str | None:
        if key not in self.reserved:
            if self.shelves[shelf] < cds:
                return None
            self.shelves[shelf] -= cds
            self.reserved[key] = number
        return f"reservation-{self.reserved[key]}"

    def ship(self, reservation: str, *, charge: str, key: str) -> str:
        self.shipped.setdefault(key, f"{reservation} for {charge}")
        return f"parcel-{list(self.shipped).index(key)}"


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Bank, Warehouse]]:
    """The bank and the warehouse of a test, in the place of those with tables."""
    found = Bank(), Warehouse(Counter({ORDER.shelf: 2}))
    monkeypatch.setattr(graph, "bank", found[0])
    monkeypatch.setattr(graph, "warehouse", found[1])
    return found


Shop = tuple[Bank, Warehouse]


def test_an_order_is_reserved_charged_and_shipped(shop: Shop) -> None:
    """And its parcel is the output of the run."""
    with Lab(graph.cns) as lab:
        run = lab.submit(order_placed.create_signal(ORDER))
        result = run.wait()

    assert result.status == "completed"
    assert [signal.payload for signal in result.outputs] == [
        Parcel(batch="b", number=1, parcel="parcel-0", charge="charge-0")
    ]
    assert result.context == {"reservation": "reservation-1", "charge": "charge-0"}
    assert [call.neuron for call in run.calls()] == ["stock", "reservation", "payment", "shipping"]


def test_who_comes_too_late_is_told_and_not_charged(shop: Shop) -> None:
    """Of two orders for the last CDs, the second learns it at the shelf, or at the reservation."""
    for seed in range(10):
        books, warehouse = shop
        books.ledger.clear()
        warehouse.shelves[ORDER.shelf] = 2
        with Lab(graph.cns) as lab:
            lab.storm(seed, crash=0, stall=0)
            results = [run.wait() for run in lab.submit_many([order_placed.create_signal(ORDER)] * 2)]
        outputs = sorted(signal.collateral.name for result in results for signal in result.outputs)
        assert outputs == ["order.shipped", "order.sold_out"]
        assert len(books.ledger) == 1


def test_a_declined_card_fails_the_run_and_a_retry_presents_it_again(shop: Shop) -> None:
    """Nothing was charged before, and what was reserved stays reserved."""
    books, warehouse = shop
    books.declines = True
    with Lab(graph.cns) as lab:
        run = lab.submit(order_placed.create_signal(ORDER))
        assert run.wait().error == "card 4 is declined"
        assert (books.ledger, warehouse.shelves[ORDER.shelf]) == ({}, 0)

        run.retry()
        assert run.wait().status == "completed"
        assert [call.attempt for call in run.calls("payment")] == [1, 2]


def test_a_bank_that_is_away_is_asked_again_with_patience(shop: Shop) -> None:
    """Five failures are forgiven, the sixth is not; hours of backoff take no time here."""
    with Lab(graph.cns) as lab:
        lab.fail(graph.charge, ConnectionError("the bank does not answer"), times=5)
        assert lab.submit(order_placed.create_signal(ORDER)).wait().status == "completed"
    with Lab(graph.cns) as lab:
        shop[1].shelves[ORDER.shelf] = 2
        lab.fail(graph.charge, ConnectionError("the bank does not answer"), times=6)
        assert lab.submit(order_placed.create_signal(ORDER)).wait().status == "failed"


@pytest.mark.parametrize("seed", range(20))
def test_whatever_dies_each_order_is_charged_and_shipped_once(shop: Shop, seed: int) -> None:
    """The saga passes its keys on, so that no crash makes it charge twice."""
    books, warehouse = shop
    warehouse.shelves[ORDER.shelf] = 10
    with Lab(graph.cns) as lab:
        lab.storm(seed, crash=0.3)
        for run in lab.submit_many([order_placed.create_signal(ORDER)] * 5):
            assert run.wait().status == "completed"

    assert list(books.ledger.values()) == [ORDER.amount] * 5
    assert (len(warehouse.shipped), warehouse.shelves[ORDER.shelf]) == (5, 0)
