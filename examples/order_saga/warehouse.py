"""The warehouse, as the shop sees it: shelves of CDs, reservations and parcels.

It reserves once and ships once by idempotency key. As with the bank, its tables would be elsewhere; here they are the schema
``warehouse`` of the database that ``CNSTRA_DATABASE_URL`` names, over connections of its own.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import psycopg
from psycopg_pool import ConnectionPool

_TABLES = """
create schema if not exists warehouse;
create table if not exists warehouse.stock (
    batch    text not null,
    shelf    integer not null,
    on_hand  integer not null check (on_hand >= 0),
    primary key (batch, shelf)
);
create table if not exists warehouse.reservations (
    key             text primary key,
    reservation_id  bigint generated always as identity unique,
    batch           text not null,
    number          integer not null,
    shelf           integer not null,
    cds             integer not null
);
create table if not exists warehouse.parcels (
    key             text primary key,
    parcel_id       bigint generated always as identity unique,
    reservation_id  bigint not null references warehouse.reservations (reservation_id),
    charge          text not null
);
"""
_RESERVE = """
insert into warehouse.reservations (key, batch, number, shelf, cds)
values (%(key)s, %(batch)s, %(number)s, %(shelf)s, %(cds)s)
on conflict (key) do nothing
"""
_TAKE = """
update warehouse.stock set on_hand = on_hand - %(cds)s
where batch = %(batch)s and shelf = %(shelf)s and on_hand >= %(cds)s
"""
_RESERVED = "select reservation_id from warehouse.reservations where key = %(key)s"
_SHIP = """
insert into warehouse.parcels (key, reservation_id, charge) values (%s, %s, %s)
on conflict (key) do update set charge = excluded.charge
returning parcel_id
"""

_pool = ConnectionPool(os.environ.get("CNSTRA_DATABASE_URL", ""), min_size=1, max_size=4, open=False)


class _SoldOut(Exception):
    """Leaves the reservation's transaction, so that nothing of it is kept."""


def on_hand(batch: str, shelf: int) -> int:
    """How many CDs lie on a shelf."""
    _pool.open()
    with _pool.connection() as connection:
        row = connection.execute(
            "select on_hand from warehouse.stock where batch = %s and shelf = %s", [batch, shelf]
        ).fetchone()
    return 0 if row is None else int(row[0])


def reserve(batch: str, number: int, shelf: int, cds: int, *, key: str) -> str | None:
    """Take CDs off a shelf, once by ``key``; the reservation's id, or None when there are not enough."""
    wanted = {"key": key, "batch": batch, "number": number, "shelf": shelf, "cds": cds}
    _pool.open()
    try:
        with _pool.connection() as connection:
            new = connection.execute(_RESERVE, wanted).rowcount == 1
            if new and connection.execute(_TAKE, wanted).rowcount == 0:
                raise _SoldOut
            return f"reservation-{_one(connection.execute(_RESERVED, wanted))}"
    except _SoldOut:
        return None


def ship(reservation: str, *, charge: str, key: str) -> str:
    """Send what was reserved, once by ``key``; the parcel's id."""
    reservation_id = int(reservation.removeprefix("reservation-"))
    _pool.open()
    with _pool.connection() as connection:
        return f"parcel-{_one(connection.execute(_SHIP, [key, reservation_id, charge]))}"


def stock_up(database_url: str, batch: str, shelves: Mapping[int, int]) -> None:
    """Make the warehouse's tables, where they are missing, and fill the shelves for a batch: shelf to number of CDs."""
    with psycopg.connect(database_url) as connection, connection.cursor() as cursor:
        cursor.execute(_TABLES)
        cursor.executemany(
            "insert into warehouse.stock (batch, shelf, on_hand) values (%s, %s, %s)",
            [(batch, shelf, cds) for shelf, cds in shelves.items()],
        )


def _one(cursor: psycopg.Cursor) -> int:
    row = cursor.fetchone()
    assert row is not None, "the row was there or was made by the same transaction"
    return int(row[0])
