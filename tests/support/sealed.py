"""Runs whose data is sealed: their graphs, the keys, and a look at all that is stored of them."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import psycopg
import redis
from tenacity import Retrying, stop_after_attempt, wait_fixed

from cnstra import (
    CNS,
    Axon,
    Context,
    MemberFailure,
    Orchestrator,
    Run,
    collateral,
    neuron,
)
from cnstra.stores import EncryptedCodec
from support.serving import serving
from support.waiting import eventually

PATIENCE = 60.0
MARKER = "MARKER-7c1e93"
LONG = f"{MARKER} " * 200
OLD, NEW = b"o" * 32, b"n" * 32
CODEC = EncryptedCodec({"k1": OLD})
_ONCE_MORE = Retrying(stop=stop_after_attempt(2), wait=wait_fixed(0))
ONCE = Retrying(stop=stop_after_attempt(1))


class BeginAxon(Axon):
    item = collateral("item", str)
    later = collateral("later", str)
    late = collateral("late", str)


class WorkAxon(Axon):
    worked = collateral("worked", str)


class SumAxon(Axon):
    total = collateral("total", list[str])
    unheard = collateral("unheard", str)


begun = collateral("begun", str)
answered = collateral("answered", str)
beginner = neuron("beginner", BeginAxon)
workman = neuron("workman", WorkAxon)
sumup = neuron("sumup", SumAxon)
waiter = neuron("waiter")


@beginner.dendrite(begun, retry=_ONCE_MORE)
def begin(said: str, axon: BeginAxon, ctx: Context) -> Any:
    """Fails once; then writes, reports, sets a timer, scatters, and waits for an answer."""
    assert MARKER in said
    ctx.heartbeat({"report": MARKER})
    if ctx.try_number == 1:
        raise ValueError(f"a message with {MARKER}")
    assert ctx.progress == {"report": MARKER}
    ctx["key"] = LONG
    ctx.update("count", lambda count: [*(count or []), MARKER])
    ctx.local.set({"mine": MARKER})
    return [
        axon.later.create_signal(f"later {MARKER}", delay=timedelta(days=30)),
        axon.item.scatter([f"{MARKER} {number}" for number in range(3)], limit=2),
        ctx.expect(
            answered, key="by-key", timeout=timedelta(days=3), on_timeout=axon.late.create_signal(f"late {MARKER}")
        ),
    ]


@workman.dendrite(BeginAxon.item, retry=ONCE)
def work(item: str, axon: WorkAxon, ctx: Context) -> Any:
    ctx.update("count", lambda count: [*(count or []), item])
    if item.endswith("1"):
        raise ValueError(f"it broke: {item}")
    return axon.worked.create_signal(f"worked {item}")


@sumup.gather(WorkAxon.worked, of=BeginAxon.item, return_failures=True)
def sum_up(results: list[str | MemberFailure], axon: SumAxon, ctx: Context) -> Any:
    first, failed, last = results
    assert isinstance(failed, MemberFailure)
    assert (failed.payload, failed.error) == (f"{MARKER} 1", f"it broke: {MARKER} 1")
    return [
        axon.total.create_signal([str(first), str(last)]),
        axon.unheard.create_signal(f"unheard {MARKER}"),
    ]


@waiter.dendrite(answered, BeginAxon.later, BeginAxon.late)
def hear(said: str, _axon: Any, ctx: Context) -> None:
    ctx["heard"] = said


@begin.compensate(retry=ONCE)
def undo(said: str, ctx: Context, outputs: Any) -> None:
    assert MARKER in said
    assert [signal.payload for signal in outputs][:1] == [f"later {MARKER}"]
    raise ValueError(f"not undone: {MARKER}")


everything = CNS([beginner, workman, sumup, waiter], name="everything")


class StepAxon(Axon):
    second = collateral("second", dict)


first = collateral("first", str)
one = neuron("one", StepAxon)
two = neuron("two", {"out": collateral("out", str)}, queue="second")


@one.dendrite(first)
def step_one(said: str, axon: StepAxon, ctx: Context) -> Any:
    ctx.set({"said": said})
    return axon.second.create_signal({"said": said})


@two.dendrite(StepAxon.second, retry=ONCE)
def step_two(said: dict[str, str], axon: Any, ctx: Context) -> Any:
    ctx["again"] = said["said"] + ctx["said"]
    return axon.out.create_signal(said["said"])


small = CNS([one, two], name="small")


def client_of(cns: CNS | None, urls: tuple[str, str], codec: Any = CODEC, **more: Any) -> Orchestrator:
    """A client, with the key unless another codec is given."""
    return Orchestrator(cns, database=urls[0], broker=urls[1], codec=codec, **more)


@contextmanager
def connected(urls: tuple[str, str]) -> Iterator[psycopg.Connection[Any]]:
    """The database, for questions and for harm."""
    with psycopg.connect(urls[0], autocommit=True) as connection:
        yield connection


def hidden(text: str) -> list[str]:
    """A text, and what is left of it in base64, at each place in a group of three."""
    plain = text.encode()
    cut = [base64.b64encode(b"x" * shift + plain)[4:-4].decode() for shift in range(3)]
    return [text, plain.hex(), *cut]


def all_that_is_stored(urls: tuple[str, str], *, at_least: int = 20) -> str:
    """Every column of every row of every table, and all that the broker has, as text."""
    with connected(urls) as connection:
        tables = connection.execute(
            "select quote_ident(tablename) from pg_tables where schemaname = 'cnstra' order by 1"
        ).fetchall()
        assert len(tables) > 15
        rows = [
            row[0]
            for (table,) in tables
            for row in connection.execute(f"select t::text from cnstra.{table} t".encode()).fetchall()
        ]
    assert len(rows) > at_least
    with redis.Redis.from_url(urls[1]) as client:
        for key in client.scan_iter():
            read: dict[bytes, Any] = {
                b"list": lambda name: client.lrange(name, 0, -1),
                b"hash": client.hgetall,
                b"zset": lambda name: client.zrange(name, 0, -1),
                b"set": client.smembers,
                b"string": client.get,
            }
            rows.append(f"{key!r} {read[client.type(key)](key)!r}")
    return "\n".join(rows)


def begin_only(urls: tuple[str, str], run: Run, codec: Any) -> None:
    """Let the first activation of a small run end; the second is ready."""
    with serving(small, *urls, codec=codec, queues=("default",)):
        eventually(lambda: [one["status"] for one in run.describe()["activations"]] == ["done", "ready"], PATIENCE)
