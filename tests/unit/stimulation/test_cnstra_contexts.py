"""Contexts of stimulations: the shared value, a neuron's own slot, services, the stimulation's context, and clean-up."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from cnstra import CNS, Axon, Context, StimulationError, collateral, neuron
from cnstra.orchestrator.contexts import InMemoryContextStore
from support.stimulating import Told, ended_well, in_a_loop


@dataclass(frozen=True)
class Attempts:
    count: int
    message: str = ""


class Out(Axon):
    out = collateral("out", str)
    again = collateral("again", int)


start = collateral("start", int)


# -- a neuron's own slot ---------------------------------------------------------------------------------------------


def test_a_handler_reads_what_it_wrote_in_its_own_slot() -> None:
    """With its declared type: what comes back is of that type, equal, and a copy."""
    counts = neuron("counts", Out, local=Attempts)
    seen: list[Any] = []

    @counts.dendrite(start)
    def count(n: int, axon: Out, ctx: Context[Any, Attempts]) -> Any:
        seen.append(ctx.local.get())
        written = Attempts(count=n, message="hello")
        ctx.local.set(written)
        read = ctx.local.get()
        assert read is not None
        assert read is not written
        seen.append(read)
        return axon.out.create_signal(read.message)

    told = Told()
    CNS([counts]).stimulate(start.create_signal(1), on_response=told)

    assert seen == [None, Attempts(count=1, message="hello")]
    assert told.payloads("out") == ["hello"]


def test_a_slot_that_was_never_written_is_none() -> None:
    """So a handler writes its default itself."""
    reads = neuron("reads", Out)
    reads.dendrite(start)(lambda _, axon, ctx: axon.out.create_signal(ctx.local.get() or "default"))
    told = Told()

    CNS([reads]).stimulate(start.create_signal(1), on_response=told)

    assert told.payloads("out") == ["default"]


def test_a_slot_belongs_to_its_neuron_and_to_its_stimulation() -> None:
    """All of a neuron's dendrites share it over the hops of one stimulation; no other neuron, no other stimulation."""
    loop, other = neuron("loop", Out), neuron("other")
    seen: list[Any] = []

    @loop.dendrite(start, Out.again)
    def count(n: int, axon: Out, ctx: Context) -> Any:
        ctx.local.set((ctx.local.get() or 0) + 1)
        return axon.again.create_signal(n - 1) if n else axon.out.create_signal(str(ctx.local.get()))

    other.dendrite(Out.out)(lambda _, axon, ctx: seen.append(ctx.local.get()))
    cns, told = CNS([loop, other]), Told()
    cns.stimulate(start.create_signal(2), on_response=told, max_neuron_hops=5)
    cns.stimulate(start.create_signal(0), on_response=told)

    assert told.payloads("out") == ["3", "1"]
    assert seen == [None, None]


def test_a_slot_can_be_emptied() -> None:
    """After that it is as if it had never been written."""
    forgets, seen = neuron("forgets"), list[Any]()

    @forgets.dendrite(start)
    def forget(n: int, axon: Any, ctx: Context) -> None:
        ctx.local.set(n)
        ctx.local.delete()
        ctx.local.delete()
        seen.append(ctx.local.get())

    ended_well(CNS([forgets]).stimulate(start.create_signal(1)))

    assert seen == [None]


# -- the shared value --------------------------------------------------------------------------------------------------


def test_all_neurons_share_one_value_and_responses_show_it() -> None:
    """Writes go to the store at once: the next handler, and the listener of the same hop, see them."""
    writes, reads, seen = neuron("writes", Out), neuron("reads"), list[Any]()

    @writes.dendrite(start)
    def write(n: int, axon: Out, ctx: Context) -> Any:
        ctx["n"] = n
        return axon.out.create_signal("written")

    reads.dendrite(Out.out)(lambda _, axon, ctx: seen.append((ctx["n"], ctx.version)))
    values: list[Any] = []
    stimulation = CNS([writes, reads]).stimulate(
        start.create_signal(5), on_response=lambda response: values.append(response.context_value)
    )

    assert seen == [(5, 1)]
    assert values == [None, {"n": 5}, {"n": 5}]
    assert stimulation.context_store.get() == {"n": 5}


def test_a_listener_captures_the_store_and_the_retry_goes_on_with_it() -> None:
    """On an error, ``response.context_store`` is kept; the retry signal is stimulated with it as ``ctx=``."""
    retry, steps = collateral("retry", int), list[Any]()
    works = neuron("works", Out)

    @works.dendrite(start, retry)
    def work(n: int, axon: Out, ctx: Context) -> Any:
        ctx.update("tries", lambda tries: (tries or 0) + 1)
        steps.append(ctx["tries"])
        if ctx["tries"] < 2:
            raise ConnectionError("away")
        return axon.out.create_signal(f"done after {ctx['tries']}")

    saved, told = list[Any](), Told()
    cns = CNS([works])
    cns.stimulate(
        start.create_signal(1),
        on_response=lambda response: saved.append(response.context_store) if response.error else None,
    )
    again = cns.stimulate(retry.create_signal(1), ctx=saved[0], on_response=told)

    assert steps == [1, 2]
    assert told.payloads("out") == ["done after 2"]
    assert again.context_store is saved[0]


class Own:
    """A context store of the user's own: nothing but get and set."""

    def __init__(self) -> None:
        self.value: Any = None

    def get(self) -> Any:
        return self.value

    def set(self, value: Any) -> None:
        self.value = value


class Unhashable(Own):
    """One that is compared by its value, and so has no hash."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Unhashable)


@pytest.mark.parametrize("make", [InMemoryContextStore, Own, Unhashable])
def test_any_object_with_get_and_set_is_a_context_store(make: Any) -> None:
    """Its value is the shared one; local contexts stay beside the object, so that a second stimulation finds them."""
    writes, seen = neuron("writes"), list[Any]()

    @writes.dendrite(start)
    def write(n: int, axon: Any, ctx: Context) -> None:
        ctx.update({"n": n, "shared": True})
        ctx.local.set((ctx.local.get() or 0) + 1)
        seen.append(ctx.local.get())
        del ctx["shared"]

    cns, store = CNS([writes]), make()
    ended_well(cns.stimulate(start.create_signal(1), ctx=store))
    ended_well(cns.stimulate(start.create_signal(2), ctx=store))
    ended_well(cns.stimulate(start.create_signal(3), ctx=make()))

    assert seen == [1, 2, 1], "an equal store is another store"
    assert store.get() == {"n": 2}


def test_a_factory_makes_a_store_for_each_stimulation() -> None:
    """Called once each; with ``ctx=`` beside it, or where it gives none, the stimulation is refused."""
    made: list[Own] = []

    def create() -> Own:
        made.append(Own())
        return made[-1]

    cns = CNS([neuron("any")])
    first = cns.stimulate(start.create_signal(1), create_context_store=create)
    second = cns.stimulate(start.create_signal(1), create_context_store=create)

    assert [first.context_store, second.context_store] == made
    with pytest.raises(StimulationError, match="both given"):
        cns.stimulate(start.create_signal(1), ctx=Own(), create_context_store=create)
    with pytest.raises(StimulationError, match="gave None"):
        cns.stimulate(start.create_signal(1), create_context_store=lambda: None)
    with pytest.raises(StimulationError, match=r"create_context_store= must .* it gave \{\}"):
        cns.stimulate(start.create_signal(1), create_context_store=dict)


# -- services, and what a stimulation brings -----------------------------------------------------------------------------


def serving() -> tuple[Any, list[Any]]:
    """A neuron that notes its services and its stimulation's context."""
    made, seen = neuron("served", Out), list[Any]()
    made.dendrite(start)(lambda n, axon, ctx: seen.append((n, ctx.services, ctx.stimulation_context)))
    return made, seen


def test_handlers_find_the_services_of_their_cns() -> None:
    """The object itself, whatever it is; handlers that were bound see it, too."""

    class Pings(Axon):
        ping = collateral("ping", str)

    @dataclass
    class Services:
        seen: list[str]

        def now(self) -> int:
            return 42

    bound, told = neuron("bound", {"done": collateral("done", int)}), Told()

    def ping(text: str, axon: Any, ctx: Context) -> Any:
        ctx.services.seen.append(text)
        return axon.done.create_signal(ctx.services.now())

    bound.bind(Pings, {"ping": ping})
    services = Services(seen=[])
    CNS([bound], services=services).stimulate(Pings.ping.create_signal("a"), on_response=told)

    assert services.seen == ["a"]
    assert told.payloads("done") == [42]


def test_one_neuron_in_two_graphs_finds_each_ones_services() -> None:
    """The graph is the same, what it works with is not."""
    served, seen = serving()

    CNS([served], services="of one").stimulate(start.create_signal(1))
    CNS([served], services="of the other").stimulate(start.create_signal(2))

    assert seen == [(1, "of one", None), (2, "of the other", None)]


def test_without_services_there_are_none() -> None:
    """None, and no error."""
    served, seen = serving()

    ended_well(CNS([served]).stimulate(start.create_signal(1)))

    assert seen == [(1, None, None)]


def test_a_stimulations_own_context_is_the_same_object_on_every_hop() -> None:
    """For logs and correlation: handlers and listeners find what ``stimulate`` was given."""
    served, seen = serving()
    correlation = {"request": "r-1"}
    options: list[Any] = []

    CNS([served]).stimulate(
        [start.create_signal(1), start.create_signal(2)],
        stimulation_context=correlation,
        on_response=lambda response: options.append(response.stimulation.options.stimulation_context),
    )

    assert all(found is correlation for _, _, found in seen)
    assert all(found is correlation for found in options)
    assert len(seen) == 2


@in_a_loop
async def test_two_stimulations_under_way_at_once_do_not_see_each_others_values() -> None:
    """Each has a store of its own, though their handlers take turns."""
    writes, read = neuron("writes"), list[Any]()

    @writes.dendrite(start)
    async def write(n: int, axon: Any, ctx: Context) -> None:
        ctx["n"] = n
        await asyncio.sleep(0)
        read.append((n, ctx["n"]))

    cns = CNS([writes])
    stimulations = [cns.stimulate(start.create_signal(n)) for n in (1, 2)]
    for stimulation in stimulations:
        await stimulation.wait_until_complete()

    assert read == [(1, 1), (2, 2)]
