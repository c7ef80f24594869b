"""The proof: the provider's book, the warehouse's book and CNStra's runs, held against each other, order by order.

Nothing here knows how the orders were carried out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import psycopg

from order_approval import provider, warehouse
from order_approval.plan import Kind, Planned, goods

_RUNS = """
select idempotency_key, status, coalesce(error_type, '') from cnstra.runs
where tags @> jsonb_build_object('day', %s::text)
"""

_ENDS: dict[Kind, tuple[set[str], str]] = {  # how a run of each kind may end, and why
    Kind.SMALL: ({"completed"}, ""),
    Kind.APPROVED: ({"completed"}, ""),
    Kind.REJECTED: ({"compensated"}, "Rejected"),
    Kind.UNANSWERED: ({"compensated"}, "NobodyDecided"),
    Kind.LATE: ({"compensated", "failed"}, "DeadlineExceeded"),  # failed, where nothing had begun
    Kind.CANCELLED: ({"compensated"}, ""),
    Kind.REGRETTED: ({"completed", "compensated", "cancelled"}, ""),
    Kind.DECLINED: ({"compensated"}, "CardDeclined"),
    Kind.SILENT: ({"compensated"}, "ConnectionError"),
    Kind.UNSHIPPABLE: ({"compensated"}, "CannotShip"),
    Kind.SOLD_OUT: ({"compensated"}, "SoldOut"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What was found: ``counts`` of orders by kind and status, and what is ``wrong``, which should be nothing."""

    counts: Mapping[tuple[Kind, str], int]
    sold: int
    till: int
    charges: int
    refunds: int
    on_shelves: int
    on_the_road: int
    wrong: Sequence[str] = field(default=())


def runs_of(connection: psycopg.Connection, day: str) -> dict[str, tuple[str, str]]:
    """How each order's run has ended, and why."""
    return {key: (status, why) for key, status, why in connection.execute(_RUNS, [day]).fetchall()}


def prove(runs: Mapping[str, tuple[str, str]], planned: Sequence[Planned]) -> Proof:
    """Ask both books, and compare them with what CNStra says."""
    till = provider.book.balances("till")
    road, reserved = warehouse.book.balances("road"), warehouse.book.balances("reserved")
    shelves = {item: sum(warehouse.book.balances(f"shelf of {item}").values()) for item in goods(planned)}
    charges, refunds = provider.book.entries("charge"), provider.book.entries("refund")
    left, counts, wrong = Counter(goods(planned)), Counter[tuple[Kind, str]](), list[str]()

    for one in planned:
        order = one.order
        status, why = runs.get(order.id, ("lost", ""))
        counts[one.kind, status] += 1
        sold = status == "completed"
        statuses, reason = _ENDS[one.kind]
        if status not in statuses or not why.endswith(reason):
            wrong.append(f"{order.id} ({one.kind}): its run is {status} {why}".rstrip())
        for what, found, expected in (
            ("paid", till.get(order.id, 0), order.amount * sold),
            ("sent", road.get(order.id, 0), order.quantity * sold),
            ("kept aside", reserved.get(order.id, 0), 0),
            ("charges beyond the first", max(charges.get(order.id, 0) - 1, 0), 0),
            ("refunds without a charge", max(refunds.get(order.id, 0) - charges.get(order.id, 0), 0), 0),
        ):
            if found != expected:
                wrong.append(f"{order.id} ({one.kind}, {status}): {what}: {found}, and it should be {expected}")
        left[order.item] -= order.quantity * sold
    wrong += [
        f"on the shelf of {item}: {shelves[item]}, and it should be {left[item]}"
        for item in sorted(shelves)
        if shelves[item] != left[item]
    ]
    takings = sum(one.order.amount for one in planned if runs.get(one.order.id, ("",))[0] == "completed")
    if sum(till.values()) != takings:
        wrong.append(f"in the till: {sum(till.values())}, and {takings} was sold")
    return Proof(
        counts=counts,
        sold=takings,
        till=sum(till.values()),
        charges=sum(charges.values()),
        refunds=sum(refunds.values()),
        on_shelves=sum(shelves.values()),
        on_the_road=sum(road.values()),
        wrong=wrong,
    )
