"""Gathers: how they are registered, which scatters they belong to, and which could never be called."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import FrozenInstanceError
from datetime import timedelta
from typing import Any

import pytest
from tenacity import Retrying, stop_after_attempt

from cnstra import (
    CNS,
    Collateral,
    GraphError,
    MemberFailure,
    Neuron,
    PolicyError,
    Task,
    UnknownDendrite,
    collateral,
    neuron,
)

short = Retrying(stop=stop_after_attempt(2))
item, done = collateral("item", int), collateral("item.done", int)


def nothing(_payload: object) -> None:
    """A handler."""


def wired(name: str, hears: list[Collateral[Any]], emits: list[Collateral[Any]]) -> Neuron[Any, Any]:
    """A neuron with ordinary dendrites."""
    made = neuron(name, {f"out{number}": emitted for number, emitted in enumerate(emits)})
    for heard in hears:
        made.dendrite(heard)(nothing)
    return made


def gathering(name: str, gathers: Collateral[Any], emits: list[Collateral[Any]], **options: Any) -> Neuron[Any, Any]:
    """A neuron with one gather."""
    made = wired(name, [], emits)
    made.gather(gathers, **options)(nothing)
    return made


def splitter() -> Neuron[Any, Any]:
    """Emits ``item``, which its own axon has, so that it can scatter it."""
    return wired("splitter", [collateral("start", int)], [item])


def worker() -> Neuron[Any, Any]:
    """Hears ``item``, and emits ``item.done``."""
    return wired("worker", [item], [done])


def names(cns: CNS, scattered: Collateral[Any] | str) -> list[str]:
    """The neurons whose gathers belong to a scatter."""
    return [dendrite.neuron.name for dendrite in cns.network.gathers(scattered)]


def test_a_gather_is_a_dendrite_that_hears_no_single_signal() -> None:
    """It stands among its neuron's dendrites, and not among the subscribers."""
    report = gathering("report", done, [])
    cns = CNS([splitter(), worker(), report], name="many")

    gather = report.dendrites["item.done"]
    assert gather.gathering is not None
    assert (gather.gathering.of, gather.gathering.return_failures) == (None, False)
    assert cns.dendrite("report", "item.done") is gather
    assert cns.subscribers("item.done") == cns.network.subscribers(done) == ()
    assert cns.network.gathers(item) == cns.network.gathers("item") == (gather,)
    assert cns.network.gathered == frozenset({"item.done"})
    assert cns.collateral("item.done") is done
    assert repr(gather) == "<gather nothing of neuron 'report' on 'item.done'>"


def test_what_is_no_gather_says_so() -> None:
    """And a graph without any has none."""
    cns = CNS([splitter(), worker()], name="many")
    [dendrite] = cns.subscribers("item")
    assert dendrite.gathering is None
    assert cns.network.gathers(item) == cns.network.gathers("unknown") == ()
    assert cns.network.gathered == frozenset()


def test_its_options_are_those_of_a_dendrite_and_its_own() -> None:
    """Own ones go before the neuron's."""
    made = neuron("report", retry=short, max_duration=timedelta(seconds=9))
    inherits = made.gather(done)(nothing)
    own = made.gather(
        collateral("other", int),
        of=item,
        return_failures=True,
        retry=Retrying(stop=stop_after_attempt(7)),
        max_duration=timedelta(seconds=2),
        on_conflict="overwrite",
    )(nothing)

    assert (inherits.retry, inherits.max_duration, inherits.on_conflict) == (short, timedelta(seconds=9), "retry")
    assert own.retry is not short
    assert (own.max_duration, own.on_conflict) == (timedelta(seconds=2), "overwrite")
    assert own.gathering is not None
    assert (own.gathering.of, own.gathering.return_failures) == (item, True)


@pytest.mark.parametrize(
    ("handler", "given"),
    [
        (lambda results: (results,), ([1],)),
        (lambda results, axon: (results, axon), ([1], "a")),
        (lambda results, axon, ctx: (results, axon, ctx), ([1], "a", "c")),
    ],
)
def test_its_handler_takes_the_results_the_axon_the_context(handler: Any, given: tuple[Any, ...]) -> None:
    """As many of them as it has arguments; a unit test calls it as it is."""
    gather = neuron("report").gather(done)(handler)
    assert gather.call([1], "a", "c") == gather(*given) == given
    assert gather.arity == len(given)


async def streams(results: Any) -> AsyncIterator[Any]:
    yield results


@pytest.mark.parametrize(
    ("handler", "problem"),
    [
        (streams, "streams is an async generator; return a list of signals"),
        (lambda: None, "takes 0 arguments; it must take (results), (results, axon) or (results, axon, ctx)"),
        (lambda results, axon=None: None, "has a default for 'axon'"),
        (dict, "the handler is the class dict"),
        ("report", "the handler must be callable, got str"),
    ],
)
def test_what_cannot_be_called_with_certainty_is_refused(handler: Any, problem: str) -> None:
    """As of handlers; the message says that it is a gather."""
    made = neuron("report")
    with pytest.raises(GraphError) as caught:
        made.gather(done)(handler)
    assert str(caught.value).startswith("neuron 'report', gather on 'item.done': ")
    assert problem in str(caught.value)
    assert not made.dendrites


@pytest.mark.parametrize(
    ("options", "error", "problem"),
    [
        ({"of": "item"}, GraphError, "of= must be the collateral that is scattered, got str"),
        ({"of": item.create_signal(1)}, GraphError, "of= must be the collateral that is scattered, got Signal"),
        ({"return_failures": 1}, GraphError, "return_failures= must be True or False, got 1"),
        ({"return_failures": None}, GraphError, "return_failures= must be True or False, got None"),
        ({"retry": 3}, GraphError, "retry= must be a tenacity policy"),
        ({"retry": Retrying(retry_error_callback=lambda state: None)}, PolicyError, "gather on 'item.done'"),
        ({"max_duration": 3}, GraphError, "max_duration= must be a timedelta"),
        ({"on_conflict": "merge"}, GraphError, "on_conflict must be"),
        ({"limit": 3}, TypeError, "limit"),
    ],
)
def test_an_option_that_means_nothing_is_refused(options: dict[str, Any], error: type[Exception], problem: str) -> None:
    """Where it is given."""
    with pytest.raises(error, match=problem):
        neuron("report").gather(done, **options)


def test_a_gather_is_of_one_collateral() -> None:
    """The decorator is used with parentheses."""
    made = neuron("report")
    with pytest.raises(GraphError, match=r"gather\(\) takes a collateral, got str$"):
        made.gather("item.done")  # type: ignore[call-overload]
    with pytest.raises(GraphError, match=r"with parentheses: @n\.gather\(collateral\)"):
        made.gather(nothing)  # type: ignore[call-overload]
    with pytest.raises(TypeError):
        made.gather(done, item)  # type: ignore[call-overload]


def test_a_neuron_answers_to_a_collateral_once() -> None:
    """By a dendrite or by a gather, in whichever order they come."""
    first, second = neuron("report"), neuron("report")
    first.dendrite(done)(nothing)
    second.gather(done)(nothing)
    for again in (
        lambda: first.gather(done)(nothing),
        lambda: second.gather(done)(nothing),
        lambda: second.dendrite(done)(nothing),
    ):
        with pytest.raises(GraphError, match=r"two dendrites on 'item\.done'"):
            again()


def test_a_sealed_neuron_takes_no_gather() -> None:
    """Neither by a decorator that was made before."""
    made = wired("report", [item], [])
    early = made.gather(done)
    CNS([made], name="shop")
    for late in (lambda: made.gather(done), lambda: early(nothing)):
        with pytest.raises(GraphError, match="takes no more dendrites"):
            late()


# -- which scatters a gather belongs to ------------------------------------------------------------------------------


def test_without_of_it_belongs_to_every_collateral_that_leads_to_its_own() -> None:
    """Over as many steps as it takes, and to no other. What is emitted by nobody cannot be scattered."""
    start, half = collateral("start", int), collateral("half", int)
    cns = CNS(
        [
            wired("splitter", [start], [item]),
            wired("one", [item], [half]),
            wired("two", [half], [done]),
            wired("aside", [half], [collateral("aside", int)]),
            gathering("report", done, []),
        ]
    )
    assert {name for name in cns.collaterals if names(cns, name)} == {"item", "half"}
    assert names(cns, half) == ["report"]


def test_what_is_scattered_is_no_result_of_itself() -> None:
    """A gather on the scattered collateral belongs to it only where the graph leads back to it."""
    outer = collateral("outer", int)
    straight = CNS(
        [wired("first", [], [outer]), wired("splitter", [outer], [item]), worker(), gathering("report", item, [])]
    )
    assert names(straight, item) == []
    assert names(straight, outer) == ["report"]
    round_about = CNS([splitter(), wired("again", [item], [item]), gathering("report", item, [])])
    assert names(round_about, item) == ["report"]


def test_several_gathers_of_one_scatter_come_in_the_order_of_registration() -> None:
    """Also of one collateral, and with or without of=."""
    cns = CNS(
        [
            splitter(),
            gathering("second", done, []),
            worker(),
            gathering("first", done, [], of=item, return_failures=True),
        ]
    )
    assert names(cns, item) == ["second", "first"]


def test_the_way_does_not_lead_through_other_gathers() -> None:
    """What the gather of the inner group emits is reached from the outer collateral by name alone."""
    page, ready = collateral("page", int), collateral("page.ready", int)

    def graph(**options: Any) -> CNS:
        return CNS(
            [
                wired("book", [collateral("start", int)], [page]),
                wired("splitter", [page], [item]),
                worker(),
                gathering("inner", done, [ready], of=item),
                gathering("outer", ready, [], **options),
            ]
        )

    with pytest.raises(
        GraphError, match=r"the gather nothing on 'page\.ready' would never be called.*gather\(\.\.\., of="
    ):
        graph()
    cns = graph(of=page)
    assert names(cns, page) == ["outer"]
    assert names(cns, item) == ["inner"]


def test_a_way_through_an_ordinary_dendrite_of_a_gathering_neuron_counts() -> None:
    """What a neuron emits is told by its axon, not by which of its handlers emits it."""
    ready, aside = collateral("ready", int), collateral("aside", int)
    both = gathering("both", done, [ready], of=item)
    both.dendrite(aside)(nothing)
    cns = CNS(
        [wired("splitter", [collateral("start", int)], [item, aside]), worker(), both, gathering("last", ready, [])]
    )
    assert names(cns, aside) == ["last"]
    assert names(cns, item) == ["both"]


def test_with_of_it_belongs_to_that_collateral_alone() -> None:
    """Also where others lead to its own."""
    half = collateral("half", int)
    cns = CNS(
        [splitter(), wired("one", [item], [half]), wired("two", [half], [done]), gathering("report", done, [], of=half)]
    )
    assert names(cns, half) == ["report"]
    assert names(cns, item) == []


@pytest.mark.parametrize(
    ("neurons", "of", "problem"),
    [
        ([splitter(), worker()], collateral("stranger", int), "of='stranger', which is not in the graph"),
        ([splitter(), worker()], collateral("item", int), "of= another collateral that is named 'item' too"),
        ([wired("worker", [item], [done])], item, "of='item', which no neuron of the graph emits, so that nobody can"),
        (
            [wired("splitter", [], [item]), wired("two", [], [done])],
            item,
            "of='item', from which 'item.done' cannot be",
        ),
        ([worker(), splitter()], done, "of='item.done', from which 'item.done' cannot be reached"),
        ([worker()], None, "would never be called: no collateral that can be scattered leads to 'item.done'"),
        ([splitter()], None, "would never be called"),
    ],
)
def test_a_gather_that_could_never_be_called_is_refused(
    neurons: list[Neuron[Any, Any]], of: Collateral[Any] | None, problem: str
) -> None:
    """When the graph is built, with or without a name; the message names the neuron, the gather, its collateral."""
    with pytest.raises(GraphError) as caught:
        CNS([*neurons, gathering("report", done, [], of=of)])
    assert str(caught.value).startswith("neuron 'report': the gather nothing on 'item.done' ")
    assert problem in str(caught.value)


def test_a_way_that_leads_over_an_answer_from_outside_is_told_by_the_axon() -> None:
    """What is awaited needs no place there; where a result comes of the answer, it has one."""
    approved = collateral("approved", int)
    hears = wired("hears", [approved], [done])
    with pytest.raises(GraphError, match=r"awaited by ctx\.expect\(\)"):
        CNS([splitter(), wired("asks", [item], []), hears, gathering("report", done, [], of=item)])
    cns = CNS([splitter(), wired("asks", [item], [approved]), hears, gathering("report", done, [])])
    assert names(cns, item) == ["report"]


def test_a_gather_of_another_collateral_of_the_same_name_is_refused() -> None:
    """As of any dendrite, and the message calls it a gather."""
    with pytest.raises(GraphError, match=r"named 'item\.done'.*a gather of neuron 'report'"):
        CNS([splitter(), worker(), gathering("report", collateral("item.done", int), [])])


def test_a_loop_through_a_gather_is_a_loop() -> None:
    """Neurons that can reach each other through a gather stand in one component."""
    again = collateral("again", int)
    cns = CNS(
        [wired("splitter", [again], [item]), worker(), gathering("report", done, [again]), wired("sink", [again], [])]
    )
    assert cns.network.strongly_connected_components == (
        frozenset({"sink"}),
        frozenset({"splitter", "worker", "report"}),
    )


def test_a_deep_graph_is_no_deep_recursion() -> None:
    """A chain of thousands between the scatter and the gather."""
    chain = [collateral(f"c{number}", int) for number in range(3000)]
    neurons = [wired(f"n{number}", [chain[number]], [chain[number + 1]]) for number in range(2999)]
    cns = CNS([wired("first", [], [chain[0]]), *neurons, gathering("report", chain[-1], [], of=chain[0])])
    assert names(cns, chain[0]) == ["report"]


# -- what it gets, and where it does not run -------------------------------------------------------------------------


def test_a_failure_says_which_member_it_was_and_why() -> None:
    """It is made by what runs the graph, and does not change."""
    failure = MemberFailure(index=3, payload=17, error="no stock", error_type="LookupError")
    assert (failure.index, failure.payload, failure.error, failure.error_type) == (3, 17, "no stock", "LookupError")
    with pytest.raises(FrozenInstanceError):
        failure.index = 4  # type: ignore[misc]


def test_within_one_process_nothing_is_gathered() -> None:
    """A signal on a gathered collateral is heard by those who hear it singly; a task of the gather is of nobody."""
    called: list[Any] = []
    report, hears = neuron("report"), neuron("hears")
    report.gather(done)(lambda results: called.append(("gather", results)))
    hears.dendrite(done)(lambda result: called.append(("heard", result)))
    cns = CNS([splitter(), worker(), report, hears], auto_cleanup_contexts=True)

    cns.run(done.create_signal(3))
    assert called == [("heard", 3)]
    [failure] = cns.activate([Task(neuron=report, collateral=done, signal=done.create_signal(4))]).failed_tasks
    assert isinstance(failure.error, UnknownDendrite)
    assert called == [("heard", 3)]
