"""Ending, pausing, undoing, retrying and cloning runs, through both clients, with a worker that serves them."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
import redis
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_fixed

from cnstra import (
    CNS,
    AsyncOrchestrator,
    AsyncRun,
    Axon,
    ConfigurationError,
    Context,
    Orchestrator,
    Run,
    RunNotFound,
    RunStateError,
    Signal,
    SubmitError,
    collateral,
    neuron,
)
from cnstra.stores.blobs import RedisBlobStore
from support.serving import serving
from support.waiting import eventually

PATIENCE = 60.0
HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Order:
    """``stop``: the courier is to ``fail``, or to stop at the ``gate``; or the ``bank`` is to stop there."""

    id: str
    stop: str = ""


@dataclass
class Shop:
    """The outside world: what was asked of it, in order, and a gate at which handlers wait."""

    asked: list[tuple[str, str, str]] = field(default_factory=list)
    broken: bool = False
    at_the_gate: threading.Event = field(default_factory=threading.Event)
    gate: threading.Event = field(default_factory=threading.Event)

    def wait(self) -> None:
        self.at_the_gate.set()
        assert self.gate.wait(PATIENCE)

    def said(self, order: str) -> list[str]:
        return [what for of, what, _ in self.asked if of == order]


placed = collateral("order.placed", Order)


class StockAxon(Axon):
    reserved = collateral("reserved", Order)


class BankAxon(Axon):
    charged = collateral("charged", Order)


class CourierAxon(Axon):
    shipped = collateral("shipped", str)


once = Retrying(stop=stop_after_attempt(1))
stock = neuron("stock", StockAxon, retry=once)
bank = neuron("bank", BankAxon, retry=once)
courier = neuron("courier", CourierAxon, retry=once)


@stock.dendrite(placed)
def reserve(order: Order, axon: StockAxon, ctx: Context) -> Any:
    ctx.services.asked.append((order.id, "reserve", ctx.idempotency_key))
    ctx["reserved"] = order.id
    return axon.reserved.create_signal(order)


@reserve.compensate
def release(order: Order, ctx: Context) -> None:
    ctx.services.asked.append((order.id, f"release {ctx['reserved']}", ctx.idempotency_key))
    del ctx["reserved"]


@bank.dendrite(StockAxon.reserved)
def charge(order: Order, axon: BankAxon, ctx: Context) -> Any:
    ctx.services.asked.append((order.id, "charge", ctx.idempotency_key))
    if order.stop == "bank":
        ctx.services.wait()
    return axon.charged.create_signal(order)


@charge.compensate(retry=Retrying(stop=stop_after_attempt(2), wait=wait_fixed(0.01)))
def refund(order: Order, ctx: Context, outputs: list[Signal[Any]]) -> None:
    ctx.services.asked.append((order.id, f"refund {[signal.payload.id for signal in outputs]}", ctx.idempotency_key))
    if ctx.services.broken:
        raise ConnectionError("the bank is closed")


@courier.dendrite(BankAxon.charged)
def ship(order: Order, axon: CourierAxon, ctx: Context) -> Any:
    ctx.services.asked.append((order.id, "ship", ctx.idempotency_key))
    if order.stop == "fail" and ctx.attempt == 1:
        raise ValueError("no car is free")
    if order.stop == "gate":
        ctx.services.wait()
    return axon.shipped.create_signal(order.id)


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture
def graph(shop: Shop) -> CNS:
    return CNS([stock, bank, courier], name="shop", services=shop)


@pytest.fixture
def orchestrator(graph: CNS, database_url: str, broker_url: str) -> Iterator[Orchestrator]:
    with Orchestrator(graph, database=database_url, broker=broker_url) as found:
        yield found


@pytest.fixture
def served(
    graph: CNS, database_url: str, broker_url: str, orchestrator: Orchestrator, shop: Shop
) -> Iterator[Orchestrator]:
    with serving(graph, database_url, broker_url):
        try:
            yield orchestrator
        finally:
            shop.gate.set()


def order(name: str = "o-1", stop: str = "") -> Signal[Order]:
    return placed.create_signal(Order(name, stop))


def statuses(run: Run) -> dict[str, str]:
    return {row["neuron"]: row["status"] for row in run.describe()["activations"]}


# -- compensation --------------------------------------------------------------------------------------------------


def test_g10_a_run_that_fails_is_undone_from_its_end_under_keys_of_its_own(served: Orchestrator, shop: Shop) -> None:
    """Each compensation sees the context and what its call had emitted; do and undo have two keys."""
    run = served.submit(order(stop="fail"))
    result = run.wait(PATIENCE)
    assert (result.status, result.error, result.context) == ("compensated", "no car is free", {})
    assert shop.said("o-1") == ["reserve", "charge", "ship", "refund ['o-1']", "release o-1"]
    assert statuses(run) == {"stock": "compensated", "bank": "compensated", "courier": "failed"}
    keys = [key for _, _, key in shop.asked]
    assert keys == [f"{run.id}:{number}:{which}" for number, which in
                    ((1, "do"), (2, "do"), (3, "do"), (2, "undo"), (1, "undo"))]  # fmt: skip
    with pytest.raises(RunStateError, match="is compensated; only a failed run can be retried"):
        run.retry()


def test_a_compensation_that_fails_for_good_is_taken_up_again_by_a_retry(served: Orchestrator, shop: Shop) -> None:
    """The run is failed with both errors; retried, it goes on undoing, and calls nothing that is done."""
    shop.broken = True
    run = served.submit(order(stop="fail"))
    assert run.wait(PATIENCE).status == "failed"
    row = run.describe()
    assert (row["error"], row["compensation_error"]) == ("no car is free", "the bank is closed")
    assert row["compensation_error_type"] == "ConnectionError"
    assert shop.said("o-1")[3:] == ["refund ['o-1']"] * 2
    shop.broken = False
    assert [found.id for found in served.retry_failed()] == [run.id]
    assert run.wait(PATIENCE).status == "compensated"
    assert shop.said("o-1")[3:] == ["refund ['o-1']"] * 3 + ["release o-1"]


def test_a_compensation_that_is_poisoned_leaves_the_run_failed(
    served: Orchestrator, shop: Shop, database_url: str
) -> None:
    """It is not called again in this attempt; the run says what of it failed, and a retry begins the count anew."""
    shop.broken = True
    run = served.submit(order(stop="fail"))
    assert run.wait(PATIENCE).status == "failed"
    shop.broken = False
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            "create function lose() returns trigger language plpgsql as 'begin new.crashes := 5; return new; end'"
        )
        connection.execute(
            "create trigger lose before update on cnstra.activation for each row "
            "when (old.status = 'failed' and new.status = 'ready') execute function lose()"
        )
        run.retry()
        assert run.wait(PATIENCE).status == "failed"
        connection.execute("drop trigger lose on cnstra.activation")
    row = run.describe()
    assert (row["error"], row["compensation_error_type"]) == ("no car is free", "cnstra.Poisoned")
    assert "the compensation of bank" in row["compensation_error"]
    assert "5 workers were lost with it" in row["compensation_error"]
    assert shop.said("o-1")[3:] == ["refund ['o-1']"] * 2
    run.retry()
    assert run.wait(PATIENCE).status == "compensated"


# -- cancel, pause, deadlines --------------------------------------------------------------------------------------


def test_a_cancelled_run_lets_what_runs_come_to_its_end(served: Orchestrator, shop: Shop) -> None:
    """Nothing is undone unless that was asked for; asked again, nothing changes; asked otherwise, it is refused."""
    run = served.submit(order(stop="gate"))
    assert shop.at_the_gate.wait(PATIENCE)
    run.cancel()
    run.cancel()
    assert run.status() == "running"
    with pytest.raises(RunStateError, match="being cancelled already, without compensation"):
        run.cancel(compensate=True)
    shop.gate.set()
    result = run.wait(PATIENCE)
    assert (result.status, [signal.payload for signal in result.outputs]) == ("cancelled", ["o-1"])
    assert statuses(run) == {"stock": "done", "bank": "done", "courier": "done"}
    with pytest.raises(RunStateError, match="is cancelled; only a paused run can be resumed"):
        run.resume()


def test_a_cancel_with_compensation_undoes_what_is_done(served: Orchestrator, shop: Shop) -> None:
    """Once what runs has ended."""
    run = served.submit(order(stop="gate"))
    assert shop.at_the_gate.wait(PATIENCE)
    run.cancel(compensate=True)
    assert run.status() == "compensating"
    shop.gate.set()
    assert run.wait(PATIENCE).status == "compensated"
    assert shop.said("o-1")[3:] == ["refund ['o-1']", "release o-1"]
    with pytest.raises(RunStateError, match="was cancelled already, with compensation"):
        run.cancel()


def test_a_paused_run_waits_until_it_is_resumed(served: Orchestrator, shop: Shop) -> None:
    """Its running handler ends; the next one is not called before the resume."""
    run = served.submit(order(stop="bank"))
    assert shop.at_the_gate.wait(PATIENCE)
    run.pause()
    run.pause()
    assert run.status() == "paused"
    shop.gate.set()
    eventually(lambda: statuses(run)["bank"] == "done", PATIENCE, what="the bank has come to its end")
    other = served.submit(order("o-2"))
    assert other.wait(PATIENCE).status == "completed"  # the worker is free, and was told
    assert (run.status(), statuses(run)["courier"]) == ("paused", "ready")
    run.resume()
    assert run.wait(PATIENCE).status == "completed"
    with pytest.raises(RunStateError, match="is completed; it cannot be paused"):
        run.pause()


def test_a_run_that_misses_its_deadline_is_undone_and_can_only_be_cloned(served: Orchestrator, shop: Shop) -> None:
    """Whether it had done something or nothing; a deadline that is none is refused."""
    run = served.submit(order(stop="gate"), deadline=timedelta(seconds=0.5))
    idle = served.submit(order("o-2"), delay=HOUR, deadline=timedelta(seconds=0.5))
    assert idle.wait(PATIENCE).error_type == "cnstra.DeadlineExceeded"
    shop.gate.set()
    result = run.wait(PATIENCE)
    assert (result.status, result.error_type) == ("compensated", "cnstra.DeadlineExceeded")
    assert idle.status() == "failed"
    with pytest.raises(RunStateError, match="passed its deadline, so no attempt of it can follow; clone it instead"):
        idle.retry()
    assert served.retry_failed() == served.retry_failed(dry_run=True) == []
    for wrong in (timedelta(0), datetime(2099, 1, 1), 5):  # noqa: DTZ001 - without a zone on purpose
        with pytest.raises(SubmitError, match="deadline"):
            served.submit(order(), deadline=wrong)  # type: ignore[arg-type]
    assert idle.clone(deadline=None).wait(PATIENCE).status == "completed"


# -- many ----------------------------------------------------------------------------------------------------------


def test_many_runs_are_cancelled_by_what_they_are(orchestrator: Orchestrator) -> None:
    """All of what is given must fit; a dry run changes nothing; a second call finds nothing."""
    berlin = orchestrator.submit_many([order(f"b-{n}") for n in range(3)], tags={"shop": "berlin"})
    wien = orchestrator.submit(order(), tags={"shop": "wien"}, delay=HOUR)
    ids = sorted(run.id for run in berlin)

    def found(**which: Any) -> list[uuid.UUID]:
        return [run.id for run in orchestrator.cancel_runs(dry_run=True, **which)]

    assert found(tag="shop=berlin") == found(status="running") == ids
    assert found(status=["waiting", "paused"]) == [wien.id]
    assert found(graph="shop") == found(older_than=timedelta(0)) == sorted([*ids, wien.id])
    assert found(graph="other") == found(older_than=HOUR) == found(since=datetime.now(UTC) + HOUR) == []
    assert found(tag="shop=berlin", status="waiting") == []
    assert {run.status() for run in berlin} == {"running"}

    assert [run.id for run in orchestrator.cancel_runs(tag="shop=berlin")] == ids
    assert orchestrator.cancel_runs(tag="shop=berlin", compensate=True) == []
    assert {run.status() for run in berlin} == {"cancelled"}
    assert wien.status() == "waiting"


def test_many_runs_are_undone(served: Orchestrator, shop: Shop) -> None:
    """Each as by itself."""
    run = served.submit(order(stop="bank"))
    assert shop.at_the_gate.wait(PATIENCE)
    assert [found.id for found in served.cancel_runs(graph="shop", compensate=True)] == [run.id]
    assert run.status() == "compensating"
    shop.gate.set()
    assert run.wait(PATIENCE).status == "compensated"
    assert shop.said("o-1")[2:] == ["refund ['o-1']", "release o-1"]


def test_more_runs_than_a_page_are_cancelled_each_once(orchestrator: Orchestrator) -> None:
    """Page by page, in transactions of their own."""
    runs = orchestrator.submit_many(order(f"o-{n}") for n in range(250))
    assert len(orchestrator.cancel_runs(graph="shop", dry_run=True)) == 250
    cancelled = orchestrator.cancel_runs(graph="shop")
    assert [run.id for run in cancelled] == sorted(run.id for run in runs)
    assert len(orchestrator.list_runs(status="cancelled", limit=1_000)) == 250


@pytest.mark.parametrize(
    ("which", "problem"),
    [
        ({}, "nothing says which runs are to be cancelled"),
        ({"graph": None, "status": None}, "nothing says which runs"),
        ({"status": "failed"}, "no run of status 'failed' can be cancelled; running, waiting, paused can"),
        ({"status": ["running", "nonsense"]}, "'nonsense'"),
        ({"older_than": timedelta(-1)}, "older_than"),
        ({"older_than": 5}, "older_than=5 must be a timedelta"),
        ({"since": datetime(2026, 1, 1)}, "time zone"),  # noqa: DTZ001 - without one on purpose
    ],
)
def test_g15_a_choice_that_says_nothing_or_cannot_be_ends_no_run(
    orchestrator: Orchestrator, which: dict[str, Any], problem: str
) -> None:
    """G15: a variable that happened to be None must not end everything."""
    run = orchestrator.submit(order())
    with pytest.raises(ConfigurationError, match=problem):
        orchestrator.cancel_runs(**which)
    assert run.status() == "running"


def test_failed_runs_are_retried_by_the_same_choice(served: Orchestrator, shop: Shop) -> None:
    """By tag and by age; the others stay failed."""
    shop.broken = True
    runs = [served.submit(order(f"o-{n}", stop="fail"), tags={"n": str(n)}) for n in range(2)]
    assert {run.wait(PATIENCE).status for run in runs} == {"failed"}
    shop.broken = False
    assert served.retry_failed(older_than=HOUR) == served.retry_failed(graph="other") == []
    dry = served.retry_failed(since=datetime.now(UTC) - HOUR, dry_run=True)
    assert {run.id for run in dry} == {run.id for run in runs}
    assert [run.id for run in served.retry_failed(tag="n=1", older_than=timedelta(0))] == [runs[1].id]
    assert runs[1].wait(PATIENCE).status == "compensated"
    assert runs[0].status() == "failed"


# -- clones --------------------------------------------------------------------------------------------------------

POLICY = Retrying(stop=stop_after_attempt(2), retry=retry_if_exception_type(ValueError))


def test_a_clone_repeats_everything_under_keys_of_its_own(served: Orchestrator, shop: Shop) -> None:
    """Side effects included; it has the original's signal, priority, tags and policy, and says whose clone it is."""
    run = served.submit(order(stop="fail"), idempotency_key="k", priority=7, tags={"a": "b"}, retry=POLICY)
    assert run.wait(PATIENCE).status == "completed"  # by its policy, at the second attempt
    clone = run.clone()
    assert clone.wait(PATIENCE).status == "completed"
    row, of = clone.describe(), run.describe()
    same = ("graph", "entry_collateral", "entry_payload", "priority", "tags", "attempt", "outputs")
    assert {name: row[name] for name in same} == {name: of[name] for name in same}
    assert (row["cloned_from"], row["idempotency_key"], row["deadline_at"]) == (run.id, None, None)
    assert (of["cloned_from"], of["idempotency_key"]) == (None, "k")
    assert shop.said("o-1") == ["reserve", "charge", "ship", "ship"] * 2
    assert len({key for _, _, key in shop.asked}) == 6


def test_a_clone_has_the_deadline_that_was_a_length_of_time(orchestrator: Orchestrator) -> None:
    """Counted from the clone; not one that was a moment; what is given goes before both."""
    long, dated = (
        orchestrator.submit(order(), deadline=HOUR),
        orchestrator.submit(order(), deadline=datetime.now(UTC) + HOUR),
    )

    def deadline(run: Run) -> timedelta | None:
        row = run.describe()
        return row["deadline_at"] and row["deadline_at"] - row["submitted_at"]

    assert deadline(long.clone()) == deadline(long.clone().clone()) == HOUR
    assert deadline(dated.clone()) is None
    assert deadline(long.clone(deadline=None)) is None
    assert deadline(dated.clone(deadline=2 * HOUR)) == 2 * HOUR
    changed = long.clone(priority=-1, tags={"c": "d"}).describe()
    assert (changed["priority"], changed["tags"], long.clone(tags=None).describe()["tags"]) == (-1, {"c": "d"}, {})


def test_a_clones_context_is_kept_where_the_originals_is(graph: CNS, database_url: str, broker_url: str) -> None:
    """Whichever store the client was given that clones it."""
    servers = {"database": database_url, "broker": broker_url}
    with (
        Orchestrator(graph, **servers) as plain,
        redis.Redis.from_url(broker_url) as client,
        Orchestrator(graph, **servers, context=RedisBlobStore(client), context_name="vault") as vault,
    ):
        here, there = plain.submit(order()), vault.submit(order())
        clones = [plain.get_run(there.id).clone(), vault.get_run(here.id).clone()]
        assert [clone.describe()["context_place"] for clone in clones] == ["vault", None]


def test_a_clone_under_an_id_of_ones_own_is_made_once(orchestrator: Orchestrator) -> None:
    """So that it can be asked for again when the answer was lost."""
    run = orchestrator.submit(order())
    own = uuid.UUID("01936b2e-0000-7000-8000-000000000001")
    assert run.clone(run_id=own).id == run.clone(run_id=own).id == own
    assert len(orchestrator.list_runs()) == 2


def test_a_clone_outlives_its_original(orchestrator: Orchestrator) -> None:
    """What was pruned is named, and is gone."""
    run = orchestrator.submit(order())
    run.cancel()
    clone = run.clone()
    assert orchestrator.prune(older_than=timedelta(0), statuses=["cancelled"]) == {"cancelled": 1}
    row = clone.describe()
    assert (row["status"], row["cloned_from"]) == ("running", run.id)
    with pytest.raises(RunNotFound, match=f"no run {run.id} is stored here"):
        run.clone()


def test_a_clone_starts_those_that_hear_its_signal_now(
    orchestrator: Orchestrator, database_url: str, broker_url: str
) -> None:
    """A new release has another dendrite on the entry collateral; the original's was another neuron's."""
    run = orchestrator.submit(order())
    audit = neuron("audit")

    @audit.dendrite(placed)
    def look(order: Order) -> None: ...

    with Orchestrator(CNS([audit], name="shop"), database=database_url, broker=broker_url) as later:
        clone = later.get_run(run.id).clone()
    assert list(statuses(clone)) == ["audit"]
    assert list(statuses(run)) == ["stock"]


def _another(payload: Any, name: str = "order.placed", graph: str = "shop") -> CNS:
    entry, other = collateral(name, payload), neuron("other")
    other.dendrite(entry)(lambda _: None)
    return CNS([other], name=graph)


@pytest.mark.parametrize(
    ("cns", "problem"),
    [
        (None, r"cloning needs the graph: Orchestrator\(cns, \.\.\.\)"),
        (_another(Order, graph="bank"), "is of graph 'shop', and this Orchestrator has 'bank'"),
        (_another(Order, name="order.made"), "began with collateral 'order.placed', which CNS 'shop' has no more"),
        (_another(int), "its entry payload does not fit collateral 'order.placed' any more: "),
    ],
)
def test_g15_a_clone_that_cannot_be_is_refused_with_nothing_stored(
    orchestrator: Orchestrator, database_url: str, broker_url: str, cns: CNS | None, problem: str
) -> None:
    """G15: without the graph, with another, and when the signal is not of the graph any more."""
    run = orchestrator.submit(order())
    with (
        Orchestrator(cns, database=database_url, broker=broker_url) as other,
        pytest.raises(SubmitError, match=problem),
    ):
        other.get_run(run.id).clone()
    assert len(orchestrator.list_runs()) == 1


# -- the other colour ----------------------------------------------------------------------------------------------


def test_the_async_client_does_the_same(graph: CNS, database_url: str, broker_url: str, shop: Shop) -> None:
    """The same names, awaited."""

    async def use() -> None:
        async with AsyncOrchestrator(graph, database=database_url, broker=broker_url) as orchestrator:
            failing = await orchestrator.submit(order("a", stop="fail"))
            assert (await failing.wait(PATIENCE)).status == "compensated"
            later = await orchestrator.submit(order("b"), delay=HOUR, tags={"late": "yes"})
            await later.pause()
            assert await later.status() == "paused"
            await later.resume()
            assert await later.status() == "waiting"
            clone = await later.clone(tags={})
            assert isinstance(clone, AsyncRun)
            assert (await clone.wait(PATIENCE)).status == "completed"
            assert (await clone.describe())["cloned_from"] == later.id
            dry = await orchestrator.cancel_runs(tag="late", dry_run=True)
            assert [run.id for run in dry] == [later.id]
            assert await later.status() == "waiting"
            assert [run.id for run in await orchestrator.cancel_runs(tag="late", compensate=True)] == [later.id]
            assert (await later.wait(PATIENCE)).status == "cancelled"
            await later.cancel()
            assert await orchestrator.retry_failed(graph="shop", dry_run=True) == []
            with pytest.raises(ConfigurationError, match="nothing says which"):
                await orchestrator.cancel_runs()
            with pytest.raises(RunStateError):
                await later.resume()

    with serving(graph, database_url, broker_url):
        asyncio.run(use())
