"""Submitting runs and asking about them, through both clients, with a worker that serves them."""

from __future__ import annotations

import asyncio
import os
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_fixed

from cnstra import (
    CNS,
    AsyncOrchestrator,
    Axon,
    ConfigurationError,
    Context,
    ContextError,
    GraphError,
    Orchestrator,
    PayloadError,
    PolicyError,
    RunNotFound,
    RunStateError,
    SchemaError,
    SendError,
    SubmitError,
    collateral,
    neuron,
)
from cnstra.stores.reactive import Collection, ContextRecord
from support.serving import serving

PATIENCE = 60.0


@dataclass(frozen=True)
class Order:
    id: str
    amount: int


placed = collateral("order.placed", Order)
unheard = collateral("unheard")


class BankAxon(Axon):
    charged = collateral("charged", Order)
    audited = collateral("audited", str)


bank = neuron("bank", BankAxon)
shipping = neuron("shipping", {"shipped": collateral("shipped", str)})
once = Retrying(stop=stop_after_attempt(1))


@bank.dendrite(placed, retry=once)
def charge(order: Order, axon: BankAxon, ctx: Context) -> Any:
    """Declined in the first attempt for a negative amount."""
    ctx["charge"] = order.amount
    ctx.local.set({"try": ctx.try_number})
    if order.amount < 0 and ctx.attempt == 1:
        raise ValueError(f"card declined for {order.id}")
    return [axon.charged.create_signal(order), axon.audited.create_signal("seen")]


@shipping.dendrite(BankAxon.charged)
async def ship(order: Order, axon: Any, ctx: Context) -> Any:
    """Async, and reads what the step before it wrote."""
    await asyncio.sleep(0)
    ctx["shipped"] = ctx["charge"]
    return axon.shipped.create_signal(order.id)


cns = CNS([bank, shipping], name="shop")


@pytest.fixture
def orchestrator(database_url: str, broker_url: str) -> Iterator[Orchestrator]:
    with Orchestrator(cns, database=database_url, broker=broker_url) as found:
        yield found


@pytest.fixture
def served(database_url: str, broker_url: str, orchestrator: Orchestrator) -> Iterator[Orchestrator]:
    with serving(cns, database_url, broker_url):
        yield orchestrator


def order(amount: int = 5, name: str = "o-1") -> Any:
    return placed.create_signal(Order(name, amount))


def test_a_run_completes_and_tells_its_outputs_and_context(served: Orchestrator) -> None:
    """From submit to the result: outputs decoded, in the order of finishing; the context at any version; who wrote what."""
    run = served.submit(order())
    result = run.wait(timeout=PATIENCE)
    assert (result.status, result.error) == ("completed", None)
    assert [(signal.collateral.name, signal.payload) for signal in result.outputs] == [
        ("audited", "seen"),
        ("shipped", "o-1"),
    ]
    assert result.outputs[0].collateral is BankAxon.audited
    assert result.context == {"charge": 5, "shipped": 5}
    assert run.context(version=1) == {"charge": 5}
    assert run.context(version=0) is None
    assert [(step.version, step.neuron, step.written) for step in run.history()] == [
        (1, "bank", {"charge": 5}),
        (2, "shipping", {"shipped": 5}),
    ]
    assert [row["status"] for row in run.describe()["activations"]] == ["done", "done"]
    with pytest.raises(ContextError, match="versions 0 to 2, not 3"):
        run.context(version=3)


def test_a_failed_run_is_retried_from_where_it_failed(served: Orchestrator) -> None:
    """retry() begins the next attempt; the saved context stands, the failed try's writes do not."""
    run = served.submit(order(-5))
    failed = run.wait(timeout=PATIENCE)
    assert (failed.status, failed.error, failed.error_type) == ("failed", "card declined for o-1", "ValueError")
    assert failed.context is None
    run.retry()
    done = run.wait(timeout=PATIENCE)
    assert (done.status, done.error, done.context) == ("completed", None, {"charge": -5, "shipped": -5})
    row = run.describe()
    assert (row["attempt"], row["activations"][0]["tries"]) == (2, 2)
    with pytest.raises(RunStateError, match=f"run {run.id} is completed; only a failed run can be retried"):
        run.retry()


def test_a_run_policy_restarts_the_failed_frontier_by_itself(served: Orchestrator) -> None:
    """submit(retry=) travels as data and is asked when an activation has failed for good."""
    policy = Retrying(stop=stop_after_attempt(3), wait=wait_fixed(0.01), retry=retry_if_exception_type(ValueError))
    run = served.submit(order(-5), retry=policy)
    assert run.wait(timeout=PATIENCE).status == "completed"
    assert run.describe()["attempt"] == 2


def test_retry_failed_takes_up_every_failed_run(served: Orchestrator) -> None:
    """All failed runs, and no other."""
    runs = served.submit_many([order(-1), order(1), order(-2)])
    assert [run.wait(timeout=PATIENCE).status for run in runs] == ["failed", "completed", "failed"]
    assert {run.id for run in served.retry_failed(graph="shop")} == {runs[0].id, runs[2].id}
    assert [run.wait(timeout=PATIENCE).status for run in runs] == ["completed"] * 3
    assert served.retry_failed() == []


def test_the_async_client_is_the_same(database_url: str, broker_url: str) -> None:
    """The same names, awaited."""

    async def use() -> None:
        async with AsyncOrchestrator(cns, database=database_url, broker=broker_url) as orchestrator:
            run = await orchestrator.submit(order(-5), idempotency_key="k", tags={"tenant": "a"})
            failed = await run.wait(timeout=PATIENCE)
            assert failed.status == await run.status() == "failed"
            await run.retry()
            assert (await run.wait(timeout=PATIENCE)).context == {"charge": -5, "shipped": -5}
            assert [step.version for step in await run.history()] == [1, 2]
            assert await run.context(version=1) == {"charge": -5}
            assert (await run.describe())["attempt"] == 2
            assert (await orchestrator.get_run(run.id)).id == run.id
            assert [found.id for found in await orchestrator.list_runs(tag="tenant=a")] == [run.id]
            assert await orchestrator.retry_failed() == []
            many = await orchestrator.submit_many([order(1), order(2)])
            assert [(await one.wait(timeout=PATIENCE)).status for one in many] == ["completed"] * 2
            with pytest.raises(RunNotFound):
                await orchestrator.get_run(uuid.uuid4())
            with pytest.raises(SubmitError):
                await orchestrator.submit(order(6), idempotency_key="k")

    with serving(cns, database_url, broker_url):
        asyncio.run(use())


def test_an_async_client_leaves_its_event_loop_free_while_it_closes(
    database_url: str, broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bell waits a moment for a broker that hangs: not on the loop's thread, where others would wait, too."""
    closing: list[threading.Thread] = []

    async def use() -> None:
        client = AsyncOrchestrator(cns, database=database_url, broker=broker_url)
        await client.submit(order(5))
        close = client._bell.close
        monkeypatch.setattr(client._bell, "close", lambda: (closing.append(threading.current_thread()), close()))
        await client.close()

    asyncio.run(use())
    assert closing != [threading.current_thread()]
    assert len(closing) == 1


def test_the_same_idempotency_key_is_the_same_run(orchestrator: Orchestrator) -> None:
    """A second submit answers the run that has the key; another payload under it is refused, and nothing is stored."""
    first = orchestrator.submit(order(), idempotency_key="order-17")
    assert orchestrator.submit(order(), idempotency_key="order-17").id == first.id
    with pytest.raises(SubmitError, match=f"'order-17' is that of run {first.id}, which was started by another signal"):
        orchestrator.submit(order(6), idempotency_key="order-17")
    assert len(orchestrator.list_runs()) == 1


def test_a_batch_with_keys_can_be_submitted_again(orchestrator: Orchestrator) -> None:
    """After a crash half way nobody knows what was kept: the same keys give the same runs, and only the rest is new."""
    signals = [order(number) for number in range(3)]
    kept = orchestrator.submit_many(signals[:2], idempotency_keys=["0", "1"])
    again = orchestrator.submit_many(signals, idempotency_keys=["0", "1", "2"])
    assert [run.id for run in again[:2]] == [run.id for run in kept]
    assert len(orchestrator.list_runs()) == 3
    with pytest.raises(SubmitError, match="2 idempotency_keys for 3 signals"):
        orchestrator.submit_many(signals, idempotency_keys=["0", "1"])


def test_a_run_id_of_ones_own_is_a_uuid7_and_the_same_run_when_given_again(orchestrator: Orchestrator) -> None:
    """As UUID or str; any other version would not sort by time."""
    own = uuid.UUID("01936b2e-0000-7000-8000-000000000001")
    assert orchestrator.submit(order(), run_id=own).id == own
    assert orchestrator.submit(order(), run_id=str(own)).id == own
    with pytest.raises(SubmitError, match="started by another signal"):
        orchestrator.submit(order(6), run_id=own)
    with pytest.raises(SubmitError, match="UUID of version 4"):
        orchestrator.submit(order(), run_id=uuid.uuid4())
    with pytest.raises(SubmitError, match="is no run id"):
        orchestrator.submit(order(), run_id="order-17")


@pytest.mark.parametrize(
    ("options", "error", "problem"),
    [
        ({"priority": 2**31}, SubmitError, "no integer of 32 bits"),
        ({"priority": "high"}, SubmitError, "no integer of 32 bits"),
        ({"priority": True}, SubmitError, "no integer of 32 bits"),
        ({"idempotency_key": ""}, SubmitError, "printable string of 1 to 400 characters"),
        ({"idempotency_key": "a\0"}, SubmitError, "printable string"),
        ({"tags": {"a": 1}}, SubmitError, "must be a string for a string"),
        ({"tags": {"": "a"}}, SubmitError, "its key not empty"),
        ({"tags": ["a"]}, SubmitError, "must be strings by strings"),
        ({"tags": "a"}, SubmitError, "must be strings by strings"),
        ({"tags": {"a": "\0"}}, PayloadError, r"U\+0000"),
        ({"delay": timedelta(seconds=-1)}, SubmitError, "from nothing to a century"),
        ({"delay": 5}, SubmitError, "must be a timedelta"),
        ({"retry": Retrying(retry=retry_if_exception_type(ValueError), before=lambda _: None)}, PolicyError, "before"),
    ],
)
def test_g15_options_that_cannot_be_kept_are_refused_with_nothing_stored(
    orchestrator: Orchestrator, options: dict[str, Any], error: type[Exception], problem: str
) -> None:
    """G15: at the door, naming what and what to do."""
    with pytest.raises(error, match=problem):
        orchestrator.submit(order(), **options)
    assert orchestrator.list_runs() == []


def test_g15_a_batch_with_nothing_in_it_is_looked_at_all_the_same(orchestrator: Orchestrator) -> None:
    """G15: who submits what a query found is told of a wrong option at once, and not when it first finds something."""
    assert orchestrator.submit_many([], priority=1) == []
    with pytest.raises(SubmitError, match="no integer of 32 bits"):
        orchestrator.submit_many([], priority=2**31)
    assert orchestrator.list_runs() == []


@pytest.mark.parametrize(
    ("call", "options", "problem"),
    [
        (
            "submit",
            {"idempotency_ky": "order-17"},
            r"submit\(\) has no option idempotency_ky=; did you mean idempotency_key=",
        ),
        ("submit_many", {"run_id": None}, r"submit_many\(\) has no option run_id=; .*it takes priority, "),
        ("list_runs", {"state": "failed"}, r"list_runs\(\) has no option state=; did you mean status="),
        ("retry_failed", {"dry_rum": True}, r"retry_failed\(\) has no option dry_rum="),
        ("cancel_runs", {"grap": "shop"}, r"cancel_runs\(\) has no option grap=; did you mean graph="),
        ("mirror", {"grap": "shop"}, r"mirror\(\) has no option grap=; did you mean graph="),
        ("clone", {"prioriti": 3}, r"clone\(\) has no option prioriti=; did you mean priority="),
    ],
)
def test_g15_an_option_that_there_is_not_is_refused_with_nothing_done(
    orchestrator: Orchestrator, call: str, options: dict[str, Any], problem: str
) -> None:
    """G15: a misspelt one, passed over, would submit twice, or cancel every run there is."""
    run = orchestrator.submit(order())
    first: dict[str, tuple[Any, ...]] = {
        "submit": (order(),),
        "submit_many": ([order()],),
        "mirror": (Collection[str, ContextRecord](primary_key="run_id"),),
    }
    with pytest.raises(TypeError, match=problem):
        getattr(run if call == "clone" else orchestrator, call)(*first.get(call, ()), **options)
    assert [(one.id, one.status()) for one in orchestrator.list_runs()] == [(run.id, "running")]


@pytest.mark.parametrize(
    ("call", "options", "problem"),
    [
        ("list_runs", {"tag": 5}, "tag=5 must be"),
        ("list_runs", {"tag": ("a",)}, "or a pair of strings"),
        ("list_runs", {"tag": ("a", None)}, "or a pair of strings"),
        ("list_runs", {"tag": "a\0"}, r"U\+0000"),
        ("list_runs", {"since": 5}, "since=5 must be a datetime with a time zone"),
        ("list_runs", {"status": ["failed"]}, "no run has status"),
        ("list_runs", {"limit": -1}, "limit=-1 must be a whole number"),
        ("list_runs", {"limit": 2**70}, "must be a whole number"),
        ("list_runs", {"limit": True}, "limit=True must be a whole number"),
        ("retry_failed", {"graph": 5}, "graph=5 must be the name of a graph"),
        ("retry_failed", {"graph": "a\0"}, r"U\+0000"),
        ("cancel_runs", {"status": 5}, "status=5 must be one or several of running"),
    ],
)
def test_g15_what_no_run_can_be_is_refused_by_name(
    orchestrator: Orchestrator, call: str, options: dict[str, Any], problem: str
) -> None:
    """G15: before Postgres or Python stumble over it."""
    with pytest.raises(ConfigurationError, match=problem):
        getattr(orchestrator, call)(**options)


def test_g15_what_cannot_be_asked_of_a_run_is_refused_by_name(
    orchestrator: Orchestrator, database_url: str, broker_url: str
) -> None:
    """G15: times that are no numbers, versions that are none, and nothing in the place of signals."""
    run = orchestrator.submit(order())
    for timeout in ("5", timedelta(seconds=5), float("nan")):
        with pytest.raises(ConfigurationError, match="must be a number of seconds"):
            run.wait(timeout=timeout)  # type: ignore[arg-type]
    for version in ("1", 1.0, True):
        with pytest.raises(ContextError, match="is no version of a context"):
            run.context(version=version)  # type: ignore[arg-type]
        with pytest.raises(ContextError, match="is no version of a context"):
            list(run.watch(after=version))  # type: ignore[arg-type]
    with pytest.raises(SendError, match="send takes a signal, got NoneType"):
        orchestrator.send(None, key="order-17")  # type: ignore[arg-type]
    with (
        Orchestrator(database=database_url, broker=broker_url) as graphless,
        pytest.raises(SendError, match="sending by key needs the graph"),
    ):
        graphless.send(placed.create_signal(Order("a", 1)), key="order-17")
    with pytest.raises(SubmitError, match="submit_many takes several signals, got Signal"):
        orchestrator.submit_many(order())  # type: ignore[arg-type]
    with pytest.raises(SubmitError, match="must be a list, with one for each signal"):
        orchestrator.submit_many([order()], idempotency_keys="a")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"cns": "shop"}, "'shop' is no CNS"),
        ({"cns": CNS}, "is no CNS; give the graph itself"),
        ({"database": 5}, "a URL is a text, and no int"),
        ({"broker": b"redis://"}, "a URL is a text, and no bytes"),
    ],
)
def test_g15_a_client_of_what_is_none_is_refused_when_it_is_made(
    database_url: str, broker_url: str, options: dict[str, Any], problem: str
) -> None:
    """G15: not when it is first used."""
    with pytest.raises(ConfigurationError, match=problem):
        Orchestrator(**({"cns": cns, "database": database_url, "broker": broker_url} | options))


def test_g15_signals_that_start_nothing_are_refused(orchestrator: Orchestrator) -> None:
    """G15: one that nobody hears, one of another collateral of the same name, no signal at all; and one bad of many."""
    with pytest.raises(SubmitError, match="nobody in CNS 'shop' hears 'unheard'"):
        orchestrator.submit(unheard.create_signal())
    with pytest.raises(SubmitError, match="is not the one of that name"):
        orchestrator.submit(collateral("order.placed", Order).create_signal(Order("a", 1)))
    with pytest.raises(SubmitError, match="takes signals, got Order"):
        orchestrator.submit(Order("a", 1))  # type: ignore[arg-type]
    with pytest.raises(PayloadError):
        orchestrator.submit_many([order(), placed.create_signal(Order("bad", "not a number"))])  # type: ignore[arg-type]
    assert orchestrator.list_runs() == []


def test_runs_are_listed_newest_first_by_status_tag_and_time(orchestrator: Orchestrator) -> None:
    """Filters, alone and together."""
    one = orchestrator.submit(order(), tags={"tenant": "a"})
    two = orchestrator.submit(order(), tags={"tenant": "b"})
    ids = lambda **which: [run.id for run in orchestrator.list_runs(**which)]  # noqa: E731
    assert ids() == [two.id, one.id]
    assert ids(limit=1) == [two.id]
    assert ids(tag="tenant") == [two.id, one.id]
    assert ids(tag="tenant=a") == ids(tag=("tenant", "a")) == [one.id]
    assert ids(status="running") == [two.id, one.id]
    assert ids(status="failed") == []
    assert ids(since=datetime.now(UTC) - timedelta(hours=1)) == [two.id, one.id]
    assert ids(since=datetime.now(UTC) + timedelta(hours=1)) == []


def test_a_run_that_has_not_ended_is_waited_for_no_longer_than_asked(orchestrator: Orchestrator) -> None:
    """wait() says that the run goes on."""
    run = orchestrator.submit(order())
    with pytest.raises(TimeoutError, match=f"run {run.id} is running after 0 seconds; it goes on"):
        run.wait(timeout=0)


def test_a_run_that_is_not_stored_is_not_found(orchestrator: Orchestrator) -> None:
    """Whether the id is a stranger's, or none at all."""
    with pytest.raises(RunNotFound, match="no run 0199"):
        orchestrator.get_run("01990000-0000-7000-8000-000000000001")
    with pytest.raises(RunNotFound, match="'17' is no run id"):
        orchestrator.get_run("17")


def test_a_delayed_run_waits_for_its_time(orchestrator: Orchestrator) -> None:
    """delay= holds the entry activations back; the run shows as waiting."""
    run = orchestrator.submit(order(), delay=timedelta(days=30))
    row = run.describe()
    assert row["status"] == "waiting"
    [activation] = row["activations"]
    assert activation["status"] == "scheduled"
    assert activation["available_at"] - row["submitted_at"] == timedelta(days=30)


def test_a_signal_that_waits_starts_its_run_when_its_time_has_come(orchestrator: Orchestrator) -> None:
    """The run waits as with delay=; to give both is refused, with nothing stored."""
    at = datetime(2100, 1, 1, tzinfo=UTC)
    late = order().collateral.create_signal(order().payload, at=at)
    run = orchestrator.submit(late)
    [activation] = run.describe()["activations"]
    assert (activation["status"], activation["available_at"]) == ("scheduled", at)
    with pytest.raises(SubmitError, match="give one of both"):
        orchestrator.submit(late, delay=timedelta(days=1))


def test_a_database_without_the_schema_is_refused_naming_migrate(empty_database_url: str, broker_url: str) -> None:
    """Before anything is asked of it."""
    with (
        Orchestrator(cns, database=empty_database_url, broker=broker_url) as orchestrator,
        pytest.raises(SchemaError, match="run `cnstra migrate`"),
    ):
        orchestrator.submit(order())


def test_servers_that_nobody_named_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names argument, variable and command."""
    monkeypatch.delenv("CNSTRA_DATABASE_URL", raising=False)
    with pytest.raises(ConfigurationError, match=r"database=.*CNSTRA_DATABASE_URL.*cnstra up"):
        Orchestrator(cns)


def test_a_graph_without_a_name_cannot_be_submitted_to(database_url: str, broker_url: str) -> None:
    """Runs are kept under the graph's name."""
    nameless = CNS([bank, shipping])
    with (
        Orchestrator(nameless, database=database_url, broker=broker_url) as orchestrator,
        pytest.raises(GraphError, match="without a name"),
    ):
        orchestrator.submit(order())


def test_a_client_survives_a_fork(orchestrator: Orchestrator) -> None:
    """The child opens connections of its own; the parent's still work."""
    before = orchestrator.submit(order())
    child = os.fork()
    if child == 0:
        try:
            orchestrator.submit(order(), idempotency_key="from the child")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert {run.id for run in orchestrator.list_runs()} > {before.id}
    assert orchestrator.submit(order()).status() == "running"
