"""A graph whose second step, of three, books an amount in a table of the user's own, within its own hop's transaction.

``tables`` makes the tables. Each handler notes its call in the ledger first; the teller passes ``call.inside`` with its
statement done, so that it holds the account's row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from operator import methodcaller
from typing import Any, TypedDict

import psycopg
from tenacity import Retrying, stop_after_attempt, wait_fixed

from cnstra import CNS, Axon, Context, Signal, TransactionError, collateral, neuron
from support import ledger
from support.gates import stop_at, stop_at_async
from support.points import points

ACCOUNT = "create table public.account (name text primary key, balance int not null check (balance >= 0))"
BOOKING = (
    "create table public.booking (key text, amount int, constraint once unique (key) deferrable initially deferred)"
)
OPEN = "insert into public.account values ('Ann', 0)"
BOOK = "update account set balance = balance + %s where name = 'Ann'"
NOTE = "insert into booking values (%s, %s)"


def tables(database_url: str) -> None:
    """The user's own tables, in the schema in which everybody looks: the owner's name is that of ours."""
    with psycopg.connect(database_url) as connection:
        for statement in (ACCOUNT, BOOKING, OPEN):
            connection.execute(statement)


def grant_to_all(database_url: str) -> None:
    """The rights to the user's own tables, whatever the role of the workers is."""
    with psycopg.connect(database_url) as connection:
        connection.execute("grant all on public.account, public.booking to public")


class Order(TypedDict, total=False):
    """What to book, and what is to go wrong meanwhile, in so many first tries."""

    amount: int
    wrong: str
    tries: int
    colour: str
    rival: int
    """What another branch of the run writes where the teller writes, too."""
    gates: list[str]
    """Named pipes, at which the teller's first tries stop, one each, with their statements done."""


class FrontAxon(Axon):
    to_teller = collateral("bank.to_teller", Order)
    to_async_teller = collateral("bank.to_async_teller", Order)
    to_lazy_teller = collateral("bank.to_lazy_teller", Order)
    to_rival = collateral("bank.to_rival", int)


class TellerAxon(Axon):
    booked = collateral("bank.booked", int)


class BackAxon(Axon):
    told = collateral("bank.told", int)


asked = collateral("bank.asked", Order)
front = neuron("front", FrontAxon)
teller = neuron("teller", TellerAxon)
back = neuron("back", BackAxon)
rival = neuron("rival")
twice = Retrying(stop=stop_after_attempt(2), wait=wait_fixed(0))
once = Retrying(stop=stop_after_attempt(1))


@front.dendrite(asked)
def receive(order: Order, axon: FrontAxon, ctx: Context) -> Iterator[Signal[Any]]:
    ledger.note(ctx)
    to: Any = getattr(
        axon, {"sync": "to_teller", "async": "to_async_teller"}.get(order.get("colour", ""), "to_lazy_teller")
    )
    yield to.create_signal(order)
    if "rival" in order:
        yield axon.to_rival.create_signal(order["rival"])


def _wrong(order: Order, ctx: Context, what: str) -> bool:
    return order.get("wrong") == what and ctx.try_number <= order.get("tries", 1)


@teller.dendrite(FrontAxon.to_teller, transaction=True, retry=twice)
def book(order: Order, axon: TellerAxon, ctx: Context) -> Signal[int]:
    ledger.note(ctx)
    connection: psycopg.Connection[Any] = ctx.connection
    connection.execute(BOOK, (order["amount"],))
    connection.execute(NOTE, (ctx.idempotency_key, order["amount"]))
    _context(order, ctx)
    points.reach("call.inside", ctx.activation_id)
    stop_at(order.get("gates", []), ctx.try_number)
    for what, go_wrong in WRONG.items():
        if _wrong(order, ctx, what):
            go_wrong(connection)
    return axon.booked.create_signal(order["amount"])


@teller.dendrite(FrontAxon.to_async_teller, transaction=True, retry=twice)
async def book_async(order: Order, axon: TellerAxon, ctx: Context) -> Signal[int]:
    ledger.note(ctx)
    connection: psycopg.AsyncConnection[Any] = ctx.connection
    await connection.execute(BOOK, (order["amount"],))
    await connection.execute(NOTE, (ctx.idempotency_key, order["amount"]))
    _context(order, ctx)
    points.reach("call.inside", ctx.activation_id)
    await stop_at_async(order.get("gates", []), ctx.try_number)
    for what, go_wrong in WRONG_ASYNC.items():
        if _wrong(order, ctx, what):
            await go_wrong(connection)
    return axon.booked.create_signal(order["amount"])


@teller.dendrite(FrontAxon.to_lazy_teller, transaction=True, retry=once)
def book_lazily(order: Order, axon: TellerAxon, ctx: Context) -> Any:
    """A generator: its body runs after it was called."""
    yield book.handler(order, axon, ctx)


@rival.dendrite(FrontAxon.to_rival)
def write_meanwhile(turn: int, axon: Any, ctx: Context) -> None:
    ledger.note(ctx)
    ctx["turn"] = turn


@back.dendrite(TellerAxon.booked)
def tell(amount: int, axon: BackAxon, ctx: Context) -> Signal[int]:
    ledger.note(ctx)
    return axon.told.create_signal(amount)


def _context(order: Order, ctx: Context) -> None:
    if order.get("wrong") == "conflict":
        ctx["turn"] = ctx.get("turn", 0) + 1
    if order.get("wrong") == "stale":
        ctx.update("turn", lambda turn: (turn or 0) + 1)


# -- what may go wrong ---------------------------------------------------------------------------------------------


def _fails(sqlstate: str) -> str:
    return f"do $$ begin raise exception 'so it is' using errcode = '{sqlstate}'; end $$"


_UNTIDY = "create temporary table untidy (x int); set search_path = pg_temp; select pg_advisory_lock(77)"

STATEMENTS = {
    "untidy": _UNTIDY,
    "untidy, and fails": f"{_UNTIDY}; select 1/0",
    "serialization": _fails("40001"),
    "deadlock": _fails("40P01"),
    "COMMIT": "commit",
    "ROLLBACK": "rollback",
    "COMMIT and BEGIN": "commit; begin",
    "twice": "insert into booking select * from booking",
    "unread": "set transaction read only",
    "careful": "set local synchronous_commit = remote_write",
}


def _raise(_: Any) -> None:
    raise ConnectionError("no")


def _swallow(connection: psycopg.Connection[Any]) -> None:
    with suppress(psycopg.Error):
        connection.execute("select 1/0")


def _swallow_commit(connection: psycopg.Connection[Any]) -> None:
    with suppress(TransactionError):
        connection.execute("commit")


def _enter(connection: Any) -> None:
    with connection:
        raise AssertionError("it is refused")


WRONG: dict[str, Callable[[Any], Any]] = {
    **{what: methodcaller("execute", text) for what, text in STATEMENTS.items()},
    "raise": _raise,
    "a failed statement": _swallow,
    "a COMMIT that nobody hears of": _swallow_commit,
    "commit()": methodcaller("commit"),
    "rollback()": methodcaller("rollback"),
    "close()": methodcaller("close"),
    "autocommit": lambda connection: setattr(connection, "autocommit", True),
    "with": _enter,
}


async def _raise_async(_: Any) -> None:
    raise ConnectionError("no")


async def _swallow_async(connection: psycopg.AsyncConnection[Any]) -> None:
    with suppress(psycopg.Error):
        await connection.execute("select 1/0")


async def _swallow_commit_async(connection: psycopg.AsyncConnection[Any]) -> None:
    with suppress(TransactionError):
        await connection.execute("commit")


async def _enter_async(connection: Any) -> None:
    async with connection:
        raise AssertionError("it is refused")


WRONG_ASYNC: dict[str, Callable[[Any], Any]] = {
    **{what: methodcaller("execute", text) for what, text in STATEMENTS.items()},
    "raise": _raise_async,
    "a failed statement": _swallow_async,
    "a COMMIT that nobody hears of": _swallow_commit_async,
    "commit()": methodcaller("commit"),
    "rollback()": methodcaller("rollback"),
    "close()": methodcaller("close"),
    "autocommit": methodcaller("set_autocommit", True),
    "with": _enter_async,
}


bank = CNS([front, teller, back, rival], name="bank")
