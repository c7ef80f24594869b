"""The bank, as the shop sees it: a service elsewhere that charges cards, with its own books and its own bad days.

It charges once by idempotency key. Some calls fail for a while: half of these before anything was charged, half after it,
when only the answer is lost. Some cards are declined when they are presented for the first time. Which ones is settled by a
seed, so that a day can be repeated. Its ledger would be another company's; here it is the schema ``bank`` of the database
that ``CNSTRA_DATABASE_URL`` names, over connections of its own.
"""

from __future__ import annotations

import hashlib
import os
from datetime import date
from decimal import Decimal

import psycopg
from psycopg_pool import AsyncConnectionPool

SEED = "ORDER_SAGA_SEED"
_DECLINED = 0.02
_TROUBLED = 0.03

_BOOKS = """
create schema if not exists bank;
create table if not exists bank.ledger (
    key        text primary key,
    charge_id  bigint generated always as identity unique,
    batch      text not null,
    number     integer not null,
    customer   integer not null,
    day        date not null,
    amount     numeric(12, 2) not null check (amount >= 0),
    asked      integer not null default 1,
    charged_at timestamptz not null default clock_timestamp()
);
create index if not exists ledger_by_number on bank.ledger (batch, number);
create table if not exists bank.trouble (
    key    text primary key,
    calls  integer not null
);
"""
_CHARGE = """
insert into bank.ledger (key, batch, number, customer, day, amount)
values (%(key)s, %(batch)s, %(number)s, %(card)s, %(day)s, %(amount)s)
on conflict (key) do update set asked = ledger.asked + 1
returning charge_id
"""
_TROUBLE = """
insert into bank.trouble (key, calls) values (%s, 1)
on conflict (key) do update set calls = trouble.calls + 1
returning calls
"""

_pool = AsyncConnectionPool(
    os.environ.get("CNSTRA_DATABASE_URL", ""), kwargs={"autocommit": True}, min_size=1, max_size=4, open=False
)


class CardDeclined(Exception):
    """The card was not charged, and calling again at once will not change that."""


async def charge(amount: Decimal, *, card: int, day: date, batch: str, number: int, key: str, presentation: int) -> str:
    """Charge a card, once by ``key``; the charge's id, also when it had been charged before.

    Raises ``CardDeclined``, and ``ConnectionError`` when the bank cannot be reached or its answer was lost: then nobody
    knows whether the card was charged, and the way to find out is to call again with the same key.
    """
    if declines(card) and presentation == 1:
        raise CardDeclined(f"card {card} is declined")
    bad_calls, answer_lost = _trouble(card, day, amount)
    entry = {"key": key, "batch": batch, "number": number, "card": card, "day": day, "amount": amount}
    try:
        await _pool.open()
        async with _pool.connection() as connection:
            bad = bad_calls > 0 and await _one(connection, _TROUBLE, [key]) <= bad_calls
            if bad and not answer_lost:
                raise ConnectionError("the bank does not answer")
            charge_id = await _one(connection, _CHARGE, entry)
    except psycopg.OperationalError as error:
        raise ConnectionError(f"the bank does not answer: {error}") from error
    if bad:
        raise ConnectionError("the bank's answer was lost")
    return f"charge-{charge_id}"


def declines(card: int) -> bool:
    """Whether the bank declines this card when it is presented for the first time."""
    return _chance("card", card) < _DECLINED


def open_books(database_url: str) -> None:
    """Make the bank's tables, where they are missing."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(_BOOKS)


def _trouble(card: int, day: date, amount: Decimal) -> tuple[int, bool]:
    """How many calls for such a payment fail, and whether they do so after the charge."""
    if _chance("trouble", card, day, amount) >= _TROUBLED:
        return 0, False
    return (2 if _chance("twice", card, day, amount) < 0.5 else 1), _chance("lost", card, day, amount) < 0.5


def _chance(*what: object) -> float:
    """A number from 0 to 1 that is always the same for the same thing and seed."""
    text = "/".join(map(str, (os.environ.get(SEED, "0"), *what)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) / 2**64


async def _one(connection: psycopg.AsyncConnection, query: str, values: list[str] | dict[str, object]) -> int:
    row = await (await connection.execute(query.encode(), values)).fetchone()
    assert row is not None, "both statements return a row"
    return int(row[0])
