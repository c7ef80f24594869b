"""The catalogue, as the import sees it: a service elsewhere that books deliveries, and that has its bad days.

It books a delivery once by idempotency key: a second call with the same key changes nothing. Some items it cannot book at
first, because somebody holds their row, say; a few never. Which ones is settled by a seed, so that a night can be repeated.
Its tables would be another company's; here they are the schema ``catalogue`` of the database that ``CNSTRA_DATABASE_URL``
names, over connections of its own.
"""

from __future__ import annotations

import hashlib
import os
from datetime import date

import psycopg
from psycopg_pool import AsyncConnectionPool

from nightly_import.feed import Item

SEED = "NIGHTLY_IMPORT_SEED"
_TROUBLED = 0.03
_HOPELESS = 0.004

_TABLES = """
create schema if not exists catalogue;
create table if not exists catalogue.items (
    sku      text primary key,
    name     text not null,
    price    numeric(10, 2) not null,
    on_hand  integer not null
);
create table if not exists catalogue.deliveries (
    key     text primary key,
    sku     text not null,
    night   date not null,
    pieces  integer not null,
    asked   integer not null default 1
);
create table if not exists catalogue.refusals (
    key    text primary key,
    calls  integer not null
);
"""
# One statement: the delivery is noted, and where it was not known yet the pieces are added.
_BOOK = """
with delivery as (
    insert into catalogue.deliveries (key, sku, night, pieces)
    values (%(key)s, %(sku)s, %(night)s, %(pieces)s)
    on conflict (key) do update set asked = deliveries.asked + 1
    returning asked
)
insert into catalogue.items (sku, name, price, on_hand)
select %(sku)s, %(name)s, %(price)s, %(pieces)s from delivery where asked = 1
on conflict (sku) do update
set name = excluded.name, price = excluded.price, on_hand = items.on_hand + excluded.on_hand
"""
_REFUSE = """
insert into catalogue.refusals (key, calls) values (%s, 1)
on conflict (key) do update set calls = refusals.calls + 1
returning calls
"""

_pool = AsyncConnectionPool(
    os.environ.get("CNSTRA_DATABASE_URL", ""), kwargs={"autocommit": True}, min_size=1, max_size=4, open=False
)


async def book(item: Item, *, night: date, key: str) -> None:
    """Add the pieces of a delivery to what is on hand, once by ``key``.

    Raises ``ConnectionError`` when it cannot be done now, or nobody knows whether it was: call again with the same key.
    """
    try:
        await _pool.open()
        async with _pool.connection() as connection:
            if refuses_at_first(item.sku) or refuses(item.sku):
                cursor = await connection.execute(_REFUSE, [key])
                [(calls,)] = await cursor.fetchall()
                if calls <= 2 or refuses(item.sku):
                    raise ConnectionError(f"the catalogue is busy with {item.sku}")
            values = {"sku": item.sku, "name": item.name, "price": item.price, "pieces": item.pieces}
            await connection.execute(_BOOK, values | {"night": night, "key": key})
    except psycopg.OperationalError as error:
        raise ConnectionError(f"the catalogue does not answer: {error}") from error


def make_tables(database_url: str = "") -> None:
    """Make the catalogue's tables, where they are missing; without a URL, where the environment says."""
    with psycopg.connect(database_url or os.environ["CNSTRA_DATABASE_URL"], autocommit=True) as connection:
        connection.execute(_TABLES)


def refuses(sku: str) -> bool:
    """Whether the catalogue can never book this item."""
    return _chance("never", sku) < _HOPELESS


def refuses_at_first(sku: str) -> bool:
    """Whether the first two calls for this item fail."""
    return _chance("at first", sku) < _TROUBLED


def booked(connection: psycopg.Connection, night: date) -> list[tuple[str, int, int, int]]:
    """What was delivered in a night: SKU, pieces, and how many deliveries that were; and how many pieces there are
    beyond those of all deliveries of all nights.
    """
    query = """
        select sku, (sum(pieces) filter (where night = %(night)s))::int, count(*) filter (where night = %(night)s),
               max(on_hand) - sum(pieces)::int
        from catalogue.items full join catalogue.deliveries using (sku)
        group by sku having bool_or(night = %(night)s) order by sku
    """
    return connection.execute(query, {"night": night}).fetchall()


def _chance(*what: object) -> float:
    """A number from 0 to 1 that is always the same for the same thing and seed."""
    text = "/".join(map(str, (os.environ.get(SEED, "0"), *what)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) / 2**64
