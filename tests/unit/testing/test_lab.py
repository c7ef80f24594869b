"""A lab runs a graph as workers would: the same client, the same hops, the same time; and nothing but what the test drives."""

from __future__ import annotations

import asyncio
import contextvars
import random
import threading
import warnings
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from tenacity import Retrying, stop_after_attempt, stop_never, wait_fixed

from cnstra import (
    CNS,
    AsyncOrchestrator,
    AsyncRun,
    Axon,
    ConfigurationError,
    Context,
    ContextError,
    GraphError,
    Orchestrator,
    Run,
    RunNotFound,
    RunStateError,
    SubmitError,
    collateral,
    neuron,
)
from cnstra.orchestrator.machine.records import Target
from cnstra.orchestrator.store import Submission
from cnstra.stores import CompressedCodec
from cnstra.testing import AsyncLab, AsyncLabRun, Lab, LabError, LabRun, UnassignedChange
from cnstra.testing.clock import LabClock
from support.shop import REMINDED_AFTER, Bank, Order, cns, order_placed, payment, remind, reserve, stock

START = datetime(2030, 1, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
ORDER = Order("17", 120, ("book", "pen"))

begun = collateral("begun", int)


def small(*neurons: Any, **options: Any) -> CNS:
    """A graph of a test's own."""
    return CNS(list(neurons), name="small", **options)


def test_what_a_handler_left_behind_writes_nothing_any_more() -> None:
    """Its hop is settled: a write that came later would be lost without a word. It may go on reading."""
    left: list[Any] = []
    worker = neuron("worker", {"told": collateral("told", str)}, retry=Retrying(stop=stop_after_attempt(1)))

    @worker.dendrite(begun)
    def begin(number: int, axon: Any, ctx: Context[Any, Any]) -> Any:
        ctx["number"] = number
        yield axon.told.create_signal("a")
        ctx["end"] = True  # a generator is part of its handler to its end
        left.append(ctx)

    with Lab(small(worker)) as lab:
        assert lab.submit(begun.create_signal(1)).wait().context == {"number": 1, "end": True}
    with pytest.raises(ContextError, match="the handler has ended"):
        left[0]["number"] = 2
    assert left[0]["number"] == 1


# -- the way of a run ----------------------------------------------------------------------------------------------


def test_a_run_comes_to_its_end_through_every_hop() -> None:
    """What is ready runs, timers wait for the clock, and the end is what a durable run's would be."""
    bank = Bank()
    with Lab(cns, services=bank, start=START) as lab:
        run = lab.submit(order_placed.create_signal(ORDER))
        assert (run.status(), lab.calls()) == ("running", [])

        lab.run_until_idle()
        assert run.status() == "waiting"
        assert [call.neuron for call in run.calls()] == ["stock", "payment", "shipping"]

        lab.advance(REMINDED_AFTER)
        result = run.wait()

    assert (result.status, result.error) == ("completed", None)
    assert [signal.payload for signal in result.outputs] == [ORDER]
    assert result.context == {
        "reserved": ["book", "pen"],
        "charge": "charge of 120",
        "parcel": ["book", "pen", "charge of 120"],
        "reminders": 1,
    }
    assert [(written.version, written.neuron) for written in run.history()] == [
        (1, "stock"),
        (2, "payment"),
        (3, "shipping"),
        (4, "payment"),
    ]
    assert [row["status"] for row in run.describe()["activations"]] == ["done"] * 4
    assert bank.charged == {f"{run.id}:2:do": 120}


def test_payloads_and_context_pass_through_json() -> None:
    """A test sees what a durable run sees: other objects, and lists where there were tuples."""
    seen: list[Any] = []
    one, two = neuron("one", {"next": collateral("next", Order)}), neuron("two")

    @one.dendrite(order_placed)
    def first(order: Order, axon: Any, ctx: Context) -> Any:
        seen.append(order)
        ctx["items"] = [list(order.items)]
        return axon.next.create_signal(order)

    @two.dendrite(one.axon.next)
    def second(order: Order, axon: Any, ctx: Context) -> None:
        seen.append(order)
        ctx["items"][0].clear()  # the handler's own copy
        ctx["items"] = ctx["items"] + [[]]

    with Lab(small(one, two)) as lab:
        result = lab.submit(order_placed.create_signal(ORDER)).wait()

    assert seen == [ORDER, ORDER]
    assert len({id(ORDER), *map(id, seen)}) == 3
    assert result.context == {"items": [[], []]}


def test_calls_tell_what_handlers_were_given_and_what_became_of_it() -> None:
    """In their order, of all runs or one, of a neuron, by name, or of one dendrite."""
    with Lab(cns, services=Bank(), start=START) as lab:
        first, second = lab.submit_many(
            [order_placed.create_signal(Order("1")), order_placed.create_signal(Order("2"))]
        )
        lab.advance(REMINDED_AFTER)

        assert [call.payload.id for call in lab.calls(stock)] == ["1", "2"]
        assert lab.calls("payment") == lab.calls(payment) != lab.calls(remind)
        [call] = second.calls(remind)
        assert [call.run_id for call in first.calls()] == [first.id] * 4

    assert (call.run_id, call.activation_id, call.neuron) == (second.id, 4, "payment")
    assert (call.collateral, call.payload, call.at) == ("payment.reminder", Order("2"), START + REMINDED_AFTER)
    assert (call.attempt, call.try_number, call.outcome, call.error) == (1, 1, "committed", None)
    assert call.idempotency_key == f"{second.id}:4:do"


def test_a_call_keeps_its_payload_whatever_the_handler_does_to_its_own() -> None:
    """The journal tells the truth about what was given."""
    taker = neuron("taker")
    given = collateral("given", list[int])
    taker.dendrite(given)(lambda numbers: numbers.clear())

    with Lab(small(taker)) as lab:
        run = lab.submit(given.create_signal([1, 2]))
        run.wait()

    assert [call.payload for call in run.calls()] == [[1, 2]]


# -- the same client -----------------------------------------------------------------------------------------------


def test_a_lab_stands_in_for_an_orchestrator() -> None:
    """Code that submits is tested as it is: the same types, the same options, the same errors."""

    def place(orchestrator: Orchestrator, order: Order) -> Run:
        return orchestrator.submit(order_placed.create_signal(order), idempotency_key=order.id, tags={"by": "web"})

    with Lab(cns, services=Bank()) as lab:
        run = place(lab, Order("17"))
        assert isinstance(run, LabRun)
        assert place(lab, Order("17")).id == run.id
        with pytest.raises(SubmitError):
            place(lab, Order("17", amount=1))
        assert [one.id for one in lab.list_runs(tag="by=web")] == [run.id]
        assert isinstance(lab.list_runs()[0], LabRun)
        assert isinstance(lab.get_run(str(run.id)), LabRun)
        with pytest.raises(RunNotFound):
            lab.get_run(UUID("01900000-0000-7000-8000-000000000000"))
        with pytest.raises(ConfigurationError, match="connection= was given, and a lab has no database"):
            lab.submit(order_placed.create_signal(Order("18")), connection=object())


def test_runs_are_claimed_by_priority_and_then_by_age() -> None:
    """As workers claim; runs that were submitted at the same moment keep their order."""
    with Lab(cns, services=Bank()) as lab:
        for number in range(5):
            lab.submit(order_placed.create_signal(Order(str(number))), priority=int(number == 3))
        lab.run_until_idle()

        assert [call.payload.id for call in lab.calls("stock")] == ["3", "0", "1", "2", "4"]
        assert [run.describe()["entry_payload"]["id"] for run in lab.list_runs()] == ["4", "3", "2", "1", "0"]


def test_a_delayed_run_begins_at_its_time() -> None:
    """``delay=`` is of the lab's time."""
    with Lab(cns, services=Bank(), start=START) as lab:
        run = lab.submit(order_placed.create_signal(ORDER), delay=DAY)
        lab.advance(DAY - timedelta(seconds=1))
        assert (run.status(), run.calls()) == ("waiting", [])
        lab.advance(timedelta(seconds=1))

        assert [call.at for call in run.calls("stock")] == [START + DAY]


def test_a_failed_run_is_retried_from_where_it_failed() -> None:
    """``retry`` and ``retry_failed`` begin the next attempt, on the saved context."""
    with Lab(cns, services=Bank()) as lab:
        lab.fail("shipping", RuntimeError("no van"), times=6)
        run, other = lab.submit_many([order_placed.create_signal(Order("1")), order_placed.create_signal(Order("2"))])
        assert [one.wait().status for one in (run, other)] == ["failed", "failed"]
        assert run.wait().error == "no van"

        run.retry()
        assert [one.id for one in lab.retry_failed(graph="shop")] == [other.id]
        assert [one.wait().status for one in (run, other)] == ["completed", "completed"]
        assert [(call.attempt, call.try_number) for call in run.calls("shipping")] == [(2, 4)]
        assert len(run.calls("stock")) == 1
        with pytest.raises(RunStateError):
            run.retry()


def test_a_runs_policy_brings_the_next_attempt_when_its_time_has_come() -> None:
    """Attempts are moments of the clock like timers."""
    with Lab(cns, services=Bank(), start=START) as lab:
        lab.fail("shipping", RuntimeError("no van"), times=3)
        policy = Retrying(stop=stop_after_attempt(2), wait=wait_fixed(3600))
        run = lab.submit(order_placed.create_signal(ORDER), retry=policy)
        assert run.wait().status == "completed"

        [call] = run.calls("shipping")
        assert call.attempt == 2
        assert call.at > START + timedelta(hours=1)


def test_runs_are_kept_for_ever_until_the_lab_is_told_otherwise() -> None:
    """A test that moves the clock by years finds its runs again; one of the retention sets its rules, and they are kept."""
    with Lab(cns, services=Bank()) as lab:
        run = lab.submit(order_placed.create_signal(ORDER))
        lab.advance(timedelta(days=3650))
        assert run.status() == "completed"

        lab.set_retention(completed=timedelta(days=90))
        lab.run_until_idle()
        with pytest.raises(RunNotFound):
            run.status()

        ended = lab.submit(order_placed.create_signal(ORDER))
        ended.wait()
        assert lab.prune(older_than=timedelta(0))["completed"] == 0  # it ended just now
        lab.advance(DAY)
        assert lab.prune(older_than=DAY / 2)["completed"] == 1
        assert "not stored any more" in repr(ended)


# -- time ----------------------------------------------------------------------------------------------------------


def test_what_is_due_on_the_way_happens_at_its_own_time_and_in_order() -> None:
    """One big step of the clock is as many small ones: what follows from a timer is set from the timer's time on."""
    seen: list[tuple[int, datetime]] = []
    ticker = neuron("ticker", {"tick": begun})

    @ticker.dendrite(begun)
    def tick(left: int, axon: Any, ctx: Context) -> Any:
        seen.append((left, ctx.services()))
        return axon.tick.create_signal(left - 1, delay=timedelta(hours=left)) if left else None

    labs: list[Lab] = []
    with Lab(small(ticker), start=START, services=lambda: labs[0].now) as lab:
        labs.append(lab)
        run = lab.submit(begun.create_signal(2))
        other = lab.submit(begun.create_signal(1))
        lab.advance(DAY)

        assert lab.now == START + DAY
        assert {run.status(), other.status()} == {"completed"}
    hour = timedelta(hours=1)
    assert seen == [(2, START), (1, START), (0, START + hour), (1, START + 2 * hour), (0, START + 3 * hour)]


def test_wait_moves_the_clock_as_far_as_the_run_needs_and_no_further() -> None:
    """Other runs' later timers stay where they are."""
    with Lab(cns, services=Bank(), start=START) as lab:
        run = lab.submit(order_placed.create_signal(ORDER))
        later = lab.submit(order_placed.create_signal(ORDER), delay=DAY)
        assert run.wait().status == "completed"

        assert lab.now == START + REMINDED_AFTER
        assert later.status() == "waiting"


def test_wait_gives_up_after_its_timeout_of_the_labs_time_and_says_what_it_waits_for() -> None:
    """The clock stands at the timeout then, and the run goes on."""
    with Lab(cns, services=Bank(), start=START) as lab:
        run = lab.submit(order_placed.create_signal(ORDER))
        with pytest.raises(TimeoutError) as gave_up:
            run.wait(timeout=3600)
        assert str(gave_up.value) == (
            f"run {run.id} of shop is waiting: 4 payment on payment.reminder is scheduled for {START + REMINDED_AFTER}, "
            "0 tries; 3600 seconds of the lab's time have passed"
        )
        assert lab.now == START + timedelta(hours=1)
        assert run.wait(timeout=REMINDED_AFTER.total_seconds()).status == "completed"


def test_wait_says_when_what_a_run_waits_for_never_comes() -> None:
    """Nothing is ready, nothing is due: to wait on would be for ever."""
    with Lab(cns, services=Bank()) as lab:
        stranger = Target(
            ordinal=0, neuron="stranger", dendrite="f", collateral="order.placed", queue="default", payload="{}"
        )
        submission = Submission(
            run_id=lab._entropy.run_id(),
            graph="shop",
            graph_version="v1",
            pinned=False,
            collateral="order.placed",
            payload="{}",
            targets=(stranger,),
        )
        lab._memory.run(lab._memory.submit([submission]))
        with pytest.raises(
            TimeoutError,
            match=r"is running: 1 stranger on order.placed is ready, 0 tries; nothing that is under way .* will move it",
        ):
            lab.get_run(submission.run_id).wait()


def test_a_clock_begins_on_a_whole_second_and_never_goes_back() -> None:
    """So that fractions of a millisecond decide no order of ids."""
    clock = LabClock(START + timedelta(microseconds=999))
    assert clock.now() == START
    clock.move_to(START + DAY)
    clock.move_to(START)

    assert (clock.now(), clock.seconds()) == (START + DAY, 86_400.0)


def test_time_does_not_go_back_and_a_start_has_a_time_zone() -> None:
    """Both would make runs that cannot be."""
    with Lab(cns) as lab, pytest.raises(LabError, match="time does not go back"):
        lab.advance(-DAY)
    with pytest.raises(LabError, match="has no time zone"):
        Lab(cns, start=datetime(2030, 1, 1))  # noqa: DTZ001


def test_backoffs_are_of_the_labs_time_and_their_jitter_is_of_its_seed() -> None:
    """The same seed, the same seconds; another seed, others. The chance of the test itself is left alone."""

    def seconds(seed: int) -> list[float]:
        with Lab(cns, services=Bank(), seed=seed, start=START) as lab:
            lab.fail(reserve, ConnectionError("away"), times=3)
            run = lab.submit(order_placed.create_signal(ORDER))
            tries = []
            while not run.calls("stock"):
                lab.run_until_idle()
                if run.status() == "waiting":
                    tries.append((run.activations()[0]["available_at"] - lab.now).total_seconds())
                    lab.advance(run.activations()[0]["available_at"] - lab.now)
            return tries

    random.seed(7)
    first = seconds(1)
    drawn = random.random()

    assert len(first) == len({round(one % 1, 6) for one in first}) == 3
    assert [1 <= first[0] <= 2, 2 <= first[1] <= 3, 4 <= first[2] <= 5] == [True] * 3
    assert seconds(1) == first != seconds(2)
    random.seed(7)
    assert random.random() == drawn


# -- handlers ------------------------------------------------------------------------------------------------------


def test_async_handlers_run_on_a_loop_of_the_labs_own_in_the_tests_thread() -> None:
    """One loop for all of them; no thread is started, and nothing is left open."""
    loops: list[asyncio.AbstractEventLoop] = []
    taker = neuron("taker")

    @taker.dendrite(begun)
    async def take(number: int) -> None:
        await asyncio.sleep(0)
        loops.append(asyncio.get_running_loop())
        callers.append(threading.current_thread())

    callers: list[threading.Thread] = []
    threads = threading.active_count()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with Lab(small(taker)) as lab:
            runs = lab.submit_many([begun.create_signal(1), begun.create_signal(2)])
            assert [run.wait().status for run in runs] == ["completed"] * 2
            assert threading.active_count() == threads

    assert len(set(loops)) == 1
    assert loops[0].is_closed()
    assert set(callers) == {threading.current_thread()}


def test_an_async_test_is_told_to_use_the_other_lab() -> None:
    """Two loops cannot run in one thread. Nothing has been called then."""

    async def test() -> None:
        with Lab(cns) as lab:
            lab.submit(order_placed.create_signal(ORDER))
            with pytest.raises(LabError, match="use AsyncLab"):
                lab.run_until_idle()
            assert lab.calls() == []

    asyncio.run(test())


def test_the_async_lab_does_the_same_on_the_loop_of_the_test() -> None:
    """The same names, awaited; what belongs to the test's loop can be used by handlers."""
    taker = neuron("taker", {"told": collateral("told", int)})

    @taker.dendrite(begun)
    async def take(number: int, axon: Any, ctx: Context) -> Any:
        assert await ctx.services == "hello"
        return axon.told.create_signal(number + 1)

    @taker.dendrite(order_placed)
    def fail(order: Order) -> None:
        raise ValueError("no orders here")

    async def test() -> None:
        hello = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(hello.set_result, "hello")
        async with AsyncLab(small(taker), services=hello, start=START) as lab:
            client: AsyncOrchestrator = lab
            run: AsyncRun = await client.submit(begun.create_signal(1), delay=DAY)
            await lab.run_until_idle()
            assert await run.status() == "waiting"
            await lab.advance(DAY)
            assert [signal.payload for signal in (await run.wait()).outputs] == [2]

            [failing] = await lab.submit_many([order_placed.create_signal(ORDER)])
            lab.crash(fail)
            assert (await failing.wait()).error == "no orders here"
            assert [call.outcome for call in failing.calls()] == ["lost", "failed", "failed", "failed"]
            assert isinstance(await lab.get_run(run.id), AsyncLabRun)
            assert [one.id for one in await lab.list_runs()] == [failing.id, run.id]
            assert [one.id for one in await lab.retry_failed()] == [failing.id]
            assert "failed" not in await failing.status()
            assert "run" in repr(failing)
        with pytest.raises(LabError, match="closed"):
            await lab.run_until_idle()

    asyncio.run(test())


def test_tasks_that_wait_in_one_async_lab_take_turns() -> None:
    """Each handler is called once, though two drive, also while one of its calls waits for something."""
    slow = neuron("slow", {"next": begun})

    @slow.dendrite(begun)
    async def take(number: int, axon: Any) -> Any:
        await asyncio.sleep(0)
        return axon.next.create_signal(number - 1) if number else None

    async def test() -> None:
        async with AsyncLab(small(slow)) as lab:
            first, second = await lab.submit_many([begun.create_signal(3), begun.create_signal(3)])
            results = await asyncio.gather(first.wait(), second.wait())
            assert [result.status for result in results] == ["completed"] * 2
            assert len(lab.calls()) == 8

    asyncio.run(test())


def test_a_handler_may_not_drive_an_async_lab_either() -> None:
    """It would wait for itself."""
    nested = neuron("nested")

    @nested.dendrite(begun, retry=Retrying(stop=stop_after_attempt(1)))
    async def take(number: int, axon: Axon, ctx: Context) -> None:
        await ctx.services[0].run_until_idle()

    async def test() -> None:
        labs: list[AsyncLab] = []
        async with AsyncLab(small(nested), services=labs) as lab:
            labs.append(lab)
            run = await lab.submit(begun.create_signal(1))
            result = await asyncio.wait_for(run.wait(), 60)
            assert "cannot drive the lab" in (result.error or "")

    asyncio.run(test())


def test_async_handlers_see_the_context_variables_of_the_test() -> None:
    """As they are when the lab is driven, each time."""
    tenant = contextvars.ContextVar[str]("tenant")
    seen: list[str] = []
    taker = neuron("taker")

    @taker.dendrite(begun)
    async def take(number: int) -> None:
        seen.append(tenant.get())

    with Lab(small(taker)) as lab:
        for name in ("one", "two"):
            tenant.set(name)
            lab.submit(begun.create_signal(1)).wait()

    assert seen == ["one", "two"]


def test_a_cancelled_async_test_ends_and_a_handler_that_cancels_itself_has_failed() -> None:
    """As in a worker, where the one is the end of the process, and the other a failed try."""
    waits = neuron("waits", {"never": collateral("never", int)})
    entered = asyncio.Event()

    @waits.dendrite(begun)
    async def wait(number: int) -> None:
        entered.set()
        if number:
            raise asyncio.CancelledError
        await asyncio.Event().wait()

    async def test() -> None:
        async with AsyncLab(small(waits)) as lab:
            run = await lab.submit(begun.create_signal(1))
            assert (await run.wait()).error == "the handler was cancelled from inside"

            entered.clear()
            await lab.submit(begun.create_signal(0))
            task = asyncio.create_task(lab.run_until_idle())
            await entered.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(test())


def test_an_async_handler_is_bound_by_its_max_duration() -> None:
    """In real time: what it awaits is real, too."""
    slow = neuron("slow")

    @slow.dendrite(begun, max_duration=timedelta(milliseconds=1), retry=Retrying(stop=stop_after_attempt(1)))
    async def take(number: int) -> None:
        await asyncio.Event().wait()

    with Lab(small(slow)) as lab:
        result = lab.submit(begun.create_signal(1)).wait()

    assert (result.status, result.error_type) == ("failed", "cnstra.MaxDurationExceeded")


def test_whatever_a_handler_raises_only_its_try_has_failed() -> None:
    """Also what would end a process; but Ctrl-C is for who runs the tests."""
    rough = neuron("rough")
    raised: list[BaseException] = [SystemExit(3), KeyboardInterrupt()]

    @rough.dendrite(begun)
    def take(number: int) -> None:
        if raised:
            raise raised.pop(0)

    with Lab(small(rough)) as lab:
        run = lab.submit(begun.create_signal(1))
        assert run.wait().error_type == "SystemExit"
        again = lab.submit(begun.create_signal(2))
        with pytest.raises(KeyboardInterrupt):
            again.wait()
        assert again.wait().status == "completed"  # the hop was under way, and goes on


def test_a_handler_may_submit_and_may_not_drive() -> None:
    """The lab is in the middle of its call."""
    nested = neuron("nested")

    @nested.dendrite(begun)
    def take(number: int, axon: Axon, ctx: Context) -> None:
        if number:
            ctx.services[0].submit(begun.create_signal(0)).wait()

    labs: list[Lab] = []
    with Lab(small(nested, retry=None), services=labs) as lab:
        labs.append(lab)
        run = lab.submit(begun.create_signal(1))
        assert "cannot drive the lab" in (run.wait().error or "")
        assert [one.status() for one in lab.list_runs()] == ["completed"] * 3 + ["failed"]  # one of each try


def test_a_value_that_was_changed_and_not_assigned_raises() -> None:
    """Naming the run, the activation and the key; a worker could only warn. What is settled then is what a worker settles."""
    changer = neuron("changer", {"done": collateral("done", int)})

    @changer.dendrite(begun)
    def change(number: int, axon: Any, ctx: Context) -> Any:
        ctx["list"] = [1]
        ctx["list"].append(2)
        return axon.done.create_signal(number)

    with Lab(small(changer)) as lab:
        run = lab.submit(begun.create_signal(1))
        with pytest.raises(UnassignedChange) as raised:
            lab.run_until_idle()
        assert str(raised.value) == (
            f"context of run {run.id}, activation 1 (changer), key 'list': changed in place and not assigned, so the "
            "change is lost; assign the value, such as ctx[key] = value"
        )
        assert run.wait().context == {"list": [1]}


def test_services_of_the_test_take_the_place_of_the_graphs() -> None:
    """Only in the lab: the graph itself keeps its own. None is a service, too."""
    seen: list[Any] = []
    taker = neuron("taker")

    @taker.dendrite(begun)
    def take(number: int, axon: Axon, ctx: Context) -> None:
        seen.append(ctx.services)

    graph = small(taker, services="own")
    for given in ({}, {"services": "fake"}, {"services": None}):
        with Lab(graph, **given) as lab:
            lab.submit(begun.create_signal(1)).wait()

    assert seen == ["own", "fake", None]
    assert graph.services == "own"


# -- ends ----------------------------------------------------------------------------------------------------------


def test_a_graph_that_does_not_come_to_rest_is_stopped_and_named() -> None:
    """A cycle without an end, and a retry without one."""
    cycle = neuron("cycle", {"again": begun})
    cycle.dendrite(begun)(lambda number, axon: axon.again.create_signal(number + 1))
    with Lab(small(cycle), call_limit=200) as lab:
        run = lab.submit(begun.create_signal(0))
        with pytest.raises(LabError, match=rf"run {run.id}, activation \d+ .*cycle on begun.*200 calls"):
            run.wait()
        assert len(run.calls()) == 200

    rests = neuron("rests", {"again": begun})

    @rests.dendrite(begun)
    def rest(number: int, axon: Any) -> Any:
        return axon.again.create_signal(number + 1, delay=DAY if number == 150 else None)

    with Lab(small(rests), call_limit=200) as lab:  # each drive begins to count anew
        run = lab.submit(begun.create_signal(0))
        lab.run_until_idle()
        assert len(run.calls()) == 151
        with pytest.raises(LabError, match="does not come to rest"):
            lab.advance(DAY)
        assert len(run.calls()) == 351

    stubborn = neuron("stubborn")

    @stubborn.dendrite(begun, retry=Retrying(stop=stop_never, wait=wait_fixed(1)))
    def fail(number: int) -> None:
        raise ValueError

    with Lab(small(stubborn), call_limit=200) as lab, pytest.raises(LabError, match="does not come to rest"):
        lab.submit(begun.create_signal(0)).wait()


def test_a_closed_lab_runs_nothing_and_can_still_be_read() -> None:
    """Assertions may come after the block."""
    with Lab(cns, services=Bank()) as lab:
        run = lab.submit(order_placed.create_signal(ORDER))
        lab.run_until_idle()
    lab.close()

    assert run.status() == "waiting"
    assert len(run.calls()) == 3
    with pytest.raises(LabError, match="closed"):
        run.wait()


def test_a_graph_without_a_name_has_no_durable_runs() -> None:
    """As in production."""
    with pytest.raises(GraphError), Lab(CNS([stock])):
        pass


def test_a_run_tells_its_story() -> None:
    """What a failed assertion shows."""
    with Lab(cns, services=Bank(), start=START) as lab:
        lab.fail(payment, ConnectionError("the bank\nis away"), times=3)
        run = lab.submit(order_placed.create_signal(ORDER))
        run.wait()

    assert repr(run) == (
        f"<run {run.id} of shop: failed, attempt 1, 1 of 2 done: ConnectionError: the bank\n"
        "  1 stock on order.placed: done → stock.reserved\n"
        "  2 payment on stock.reserved: failed, 3 tries: ConnectionError: the bank>"
    )


def test_a_long_story_leaves_out_its_middle() -> None:
    """How it began, and how it stands."""
    cycle = neuron("cycle", {"again": begun})
    cycle.dendrite(begun)(lambda left, axon: axon.again.create_signal(left - 1) if left else None)
    with Lab(small(cycle)) as lab:
        run = lab.submit(begun.create_signal(99))
        run.wait()

    lines = repr(run).splitlines()
    assert len(lines) == 1 + 10 + 1 + 40
    assert (lines[10], lines[11]) == ("  10 cycle on begun: done → begun", "  … 50 more …")
    assert (lines[12], lines[-1]) == ("  61 cycle on begun: done → begun", "  100 cycle on begun: done>")


def test_two_labs_of_one_graph_know_nothing_of_each_other() -> None:
    """Each has its own store, clock and faults."""
    with Lab(cns, services=Bank()) as one, Lab(cns, services=Bank(), start=START) as other:
        one.fail(stock, ValueError("no"), times=9)
        run = other.submit(order_placed.create_signal(ORDER))
        assert run.wait().status == "completed"
        assert one.list_runs() == []


def test_a_lab_seals_its_data_and_shows_nothing_of_that() -> None:
    """A codec has to take all that a run stores; who uses the lab notices only what the codec does."""

    class Counting(CompressedCodec):
        sealed = 0

        def wrap(self, data: bytes, bound: bytes) -> bytes:
            self.sealed += 1
            return super().wrap(data, bound)

    codec = Counting()
    with Lab(cns, services=Bank(), codec=codec) as lab:
        run = lab.submit(order_placed.create_signal(Order("o-17", 10)), idempotency_key="o-17")
        again = lab.submit(order_placed.create_signal(Order("o-17", 10)), idempotency_key="o-17")
        sealed = run.wait()
        run.clone().wait()
    with Lab(cns, services=Bank()) as lab:
        plain = lab.submit(order_placed.create_signal(Order("o-17", 10))).wait()
    assert run.id == again.id
    assert (sealed.status, sealed.outputs, sealed.context) == (plain.status, plain.outputs, plain.context)
    assert codec.sealed > 5
