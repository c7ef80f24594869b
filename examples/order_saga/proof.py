"""The proof: what the bank, the warehouse and CNStra's views say of a batch, against what the file says.

Each claim is a query, which can be given again with ``cnstra sql``, and what its answer should have been. Nothing here
knows how the orders were carried out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from textwrap import dedent
from typing import Any

import psycopg
from psycopg import sql

from order_saga.purchases import Purchase, totals

_LATEST = "select tags ->> 'batch' from cnstra.runs where graph = 'order_saga' order by submitted_at desc limit 1"

Row = tuple[Any, ...]


class NothingToProve(Exception):
    """There is no batch of orders."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A claim, the query that was asked, its answer, and in what that differs from what is claimed."""

    claim: str
    query: str
    columns: Sequence[str]
    rows: Sequence[Row]
    differences: Sequence[str] = field(default=())


Claim = Callable[[psycopg.Connection, str, Sequence[Purchase]], Finding]


def latest_batch(connection: psycopg.Connection) -> str:
    """The batch that was submitted last. Raises ``NothingToProve``."""
    try:
        row = connection.execute(_LATEST).fetchone()
    except psycopg.errors.UndefinedTable:
        row = None
    if row is None:
        raise NothingToProve("no batch was ever submitted here; run the demo first, with the same CNSTRA_HOME")
    return str(row[0])


def prove(connection: psycopg.Connection, batch: str, purchases: Sequence[Purchase]) -> Iterator[Finding]:
    """A finding for each claim; the batch is proved when none of them has differences."""
    for claim in CLAIMS:
        yield claim(connection, batch, purchases)


def only_declined_failed(connection: psycopg.Connection, batch: str, declined: Set[int]) -> Finding:
    """Before anything is retried: the runs that failed are those of the declined cards."""
    query = _query(
        connection,
        batch,
        """
        select error_type, count(*) as runs, min(error) as for_example from cnstra.runs
        where status = 'failed' and tags @> jsonb_build_object('batch', {batch}) group by error_type
        """,
    )
    columns, rows = _ask(connection, query)
    _, numbers = _ask(
        connection,
        _query(
            connection,
            batch,
            """
            select (entry_payload ->> 'number')::integer from cnstra.runs
            where status = 'failed' and tags @> jsonb_build_object('batch', {batch})
            """,
        ),
    )
    failed = {number for (number,) in numbers}
    return Finding(
        claim=f"{len(failed):,} runs have failed: those with a card that the bank declines",
        query=query,
        columns=columns,
        rows=rows,
        differences=[
            *(f"the run of purchase {number} has failed" for number in sorted(failed - declined)),
            *(f"the run of purchase {number} has not failed" for number in sorted(declined - failed)),
        ],
    )


def every_run_completed(connection: psycopg.Connection, batch: str, purchases: Sequence[Purchase]) -> Finding:
    """A completed run for each purchase, and no other run."""
    query = _query(
        connection,
        batch,
        """
        select status, attempt, count(*) as runs from cnstra.runs
        where tags @> jsonb_build_object('batch', {batch}) group by status, attempt order by status, attempt
        """,
    )
    columns, rows = _ask(connection, query)
    differences = [f"{runs} runs are {status}" for status, _, runs in rows if status != "completed"]
    differences += _unlike("the number of runs", sum(runs for _, _, runs in rows), len(purchases))
    return Finding(
        claim="every purchase's run is completed; those of attempt 2 were declined at first",
        query=query,
        columns=columns,
        rows=rows,
        differences=differences,
    )


def each_charged_once(connection: psycopg.Connection, batch: str, purchases: Sequence[Purchase]) -> Finding:
    """No purchase twice, none missing, none that was never made, and each with its own amount."""
    query = _query(
        connection,
        batch,
        """
        select count(*) as charges, count(distinct number) as purchases, sum(amount) as amount
        from bank.ledger where batch = {batch}
        """,
    )
    columns, rows = _ask(connection, query)
    paid = sum((purchase.amount for purchase in purchases), Decimal())
    differences = _unlike("what was charged", rows[0], (len(purchases), len(purchases), paid))
    _, charges = _ask(
        connection,
        _query(connection, batch, "select number, customer, day, amount from bank.ledger where batch = {batch}"),
    )
    wanted = Counter((purchase.number, purchase.customer, purchase.day, purchase.amount) for purchase in purchases)
    charged = Counter((number, customer, day, amount) for number, customer, day, amount in charges)
    differences += [f"not charged: {_named(*one)}" for one in sorted((wanted - charged).elements())]
    differences += [
        f"charged, and should not have been: {_named(*one)}" for one in sorted((charged - wanted).elements())
    ]
    return Finding(
        claim="every purchase was charged exactly once",
        query=query,
        columns=columns,
        rows=rows,
        differences=differences,
    )


def totals_agree(connection: psycopg.Connection, batch: str, purchases: Sequence[Purchase]) -> Finding:
    """The bank's totals by customer and month are those of the file, to the cent."""
    query = _query(
        connection,
        batch,
        """
        select customer, to_char(day, 'YYYY-MM') as month, sum(amount) as amount
        from bank.ledger where batch = {batch} group by customer, month order by customer, month
        """,
    )
    columns, rows = _ask(connection, query)
    ledger = {(customer, month): amount for customer, month, amount in rows}
    file = totals(purchases)
    differences = [
        f"customer {customer}, {month}: {ledger.get((customer, month), 0)} in the ledger, "
        f"{file.get((customer, month), 0)} in the file"
        for customer, month in sorted(ledger.keys() | file.keys())
        if ledger.get((customer, month)) != file.get((customer, month))
    ]
    return Finding(
        claim=f"the bank's {len(rows):,} totals by customer and month are those of the file, to the cent",
        query=query,
        columns=(*columns, "in_the_file"),
        rows=[(*row, file.get((row[0], row[1]))) for row in rows],
        differences=differences,
    )


def each_shipped_once(connection: psycopg.Connection, batch: str, purchases: Sequence[Purchase]) -> Finding:
    """A parcel for each purchase; and the shelves, which held exactly what was bought, are empty."""
    query = _query(
        connection,
        batch,
        """
        select count(*) as parcels, count(distinct number) as purchases, sum(cds) as cds,
               (select sum(on_hand) from warehouse.stock where batch = {batch}) as left_over
        from warehouse.parcels join warehouse.reservations using (reservation_id) where batch = {batch}
        """,
    )
    columns, rows = _ask(connection, query)
    expected = (len(purchases), len(purchases), sum(purchase.cds for purchase in purchases), 0)
    return Finding(
        claim="every purchase was shipped exactly once",
        query=query,
        columns=columns,
        rows=rows,
        differences=_unlike("what was shipped", rows[0], expected),
    )


def contexts_agree(connection: psycopg.Connection, batch: str, purchases: Sequence[Purchase]) -> Finding:
    """Each run's context names the charge that the bank has for the purchase."""
    query = _query(
        connection,
        batch,
        """
        select count(*) as runs from cnstra.runs join cnstra.context using (run_id)
        join bank.ledger on ledger.batch = {batch} and ledger.number = (entry_payload ->> 'number')::integer
                        and data ->> 'charge' = 'charge-' || charge_id
        where tags @> jsonb_build_object('batch', {batch})
        """,
    )
    columns, rows = _ask(connection, query)
    return Finding(
        claim="every run's context names its charge in the bank's ledger",
        query=query,
        columns=columns,
        rows=rows,
        differences=_unlike("the runs that do", rows[0], (len(purchases),)),
    )


CLAIMS: tuple[Claim, ...] = (every_run_completed, each_charged_once, totals_agree, each_shipped_once, contexts_agree)


def _query(connection: psycopg.Connection, batch: str, template: str) -> str:
    """A query's text, with the batch in it, to be shown as it is asked."""
    text = dedent(template).strip()
    return sql.SQL(text).format(batch=sql.Literal(batch)).as_string(connection)


def _ask(connection: psycopg.Connection, query: str) -> tuple[list[str], list[Row]]:
    cursor = connection.execute(query.encode())
    return [column.name for column in cursor.description or ()], cursor.fetchall()


def _named(number: int, customer: int, day: date, amount: Decimal) -> str:
    return f"purchase {number} by customer {customer} on {day}, {amount}"


def _unlike(what: str, found: object, expected: object) -> list[str]:
    return [] if found == expected else [f"{what}: {found}, and it should be {expected}"]
