"""Contexts of a declared type: what is written key by key fits it, and what does not fit any more spoils no result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypedDict

import attrs
import msgspec
import pytest
from tenacity import Retrying, stop_after_attempt

from cnstra import CNS, Context, ContextError, PayloadError, collateral, neuron
from cnstra.testing import Lab

once = Retrying(stop=stop_after_attempt(1))
begun = collateral("begun", int)
told = collateral("told", int)


@dataclass
class State:
    count: int = 0
    due: datetime | None = None
    names: list[str] = field(default_factory=list)


@attrs.define
class Attrs:
    count: int = 0


class Keys(TypedDict, total=False):
    count: int


class Struct(msgspec.Struct):
    count: int = 0


def graph(handler: Callable[[Any, Any, Any], Any], context: Any = State) -> CNS:
    worker = neuron("worker", {"told": told}, retry=once)
    worker.dendrite(begun)(handler)
    return CNS([worker], name="typed", context=context)


def ended(handler: Callable[[Any, Any, Any], Any], context: Any = State) -> Any:
    with Lab(graph(handler, context)) as lab:
        return lab.submit(begun.create_signal(1)).wait()


def in_one_process(handler: Callable[[Any, Any, Any], Any], context: Any = State) -> Any:
    return graph(handler, context).stimulate(begun.create_signal(1))


UNFIT: list[tuple[Callable[[Context[Any, Any]], Any], str]] = [
    (lambda ctx: ctx.__setitem__("count", "x"), r"\$\.count must be an integer, got string"),
    (lambda ctx: ctx.__setitem__("names", ["a", 5]), r"\$\.names\[1\] must be a string, got"),
    (lambda ctx: ctx.update({"names": ["a"], "count": "x"}), r"\$\.count must be an integer, got string"),
    (lambda ctx: ctx.update("due", lambda _: "soon"), r"\$\.due must be"),
]


@pytest.mark.parametrize(("write", "problem"), UNFIT)
@pytest.mark.parametrize("durable", [True, False], ids=["durable", "in one process"])
def test_g15_a_key_that_does_not_fit_the_declared_type_is_refused_at_once(
    write: Callable[[Context[Any, Any]], Any], problem: str, durable: bool
) -> None:
    """G15: naming the path, and with nothing written: also by an update of several keys."""

    def handler(_: int, axon: Any, ctx: Context[Any, Any]) -> None:
        ctx["count"] = 7
        with pytest.raises(PayloadError, match=f"the context of CNS 'typed' cannot carry this: {problem}"):
            write(ctx)
        assert ctx.get() == State(count=7)

    if durable:
        assert ended(handler).context == State(count=7)
    else:
        assert not in_one_process(handler).failed_tasks


@pytest.mark.parametrize("context", [Attrs, Keys, Struct, dict[str, int]], ids=str)
def test_any_type_whose_keys_are_known_says_what_they_hold(context: Any) -> None:
    """Records of all kinds, and mappings."""
    result = ended(lambda _, axon, ctx: ctx.__setitem__("count", "x"), context)
    assert (result.status, result.error_type) == ("failed", "cnstra.PayloadError")


def test_a_key_that_fits_is_written_as_json_and_comes_back_as_declared() -> None:
    """The whole value has the declared type; keys are JSON."""

    def handler(_: int, axon: Any, ctx: Context[State, Any]) -> None:
        ctx["due"] = "2030-01-01T00:00:00+00:00"
        ctx.update("count", lambda count: (count or 0) + 1)
        ctx["later"] = "a key of a newer release"

    assert ended(handler).context == State(count=1, due=datetime(2030, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (lambda ctx: ctx.update(5), "takes a mapping, or a key and a function of its value, and got int"),
        (lambda ctx: ctx.update("count"), r"update\('count'\) needs a function"),
        (lambda ctx: ctx.update("count", 5), r"and got int; to write a value, ctx\['count'\] = value"),
    ],
)
@pytest.mark.parametrize("durable", [True, False], ids=["durable", "in one process"])
def test_g15_what_is_no_update_is_refused(call: Callable[[Any], Any], problem: str, durable: bool) -> None:
    """G15: by an error of the context, which says what an update takes."""

    def handler(_: int, axon: Any, ctx: Context[Any, Any]) -> None:
        with pytest.raises(ContextError, match=problem):
            call(ctx)

    if durable:
        assert ended(handler).status == "completed"
    else:
        assert not in_one_process(handler).failed_tasks


def test_a_result_has_what_is_stored_where_it_does_not_fit_the_declared_type() -> None:
    """``wait`` raises nothing for how a run ended: a required key may never have been written."""

    @dataclass
    class Strict:
        count: int
        needed: str

    def handler(_: int, axon: Any, ctx: Context[Any, Any]) -> Any:
        ctx["count"] = 1
        return axon.told.create_signal(5)

    with Lab(graph(handler, Strict)) as lab:
        run = lab.submit(begun.create_signal(1))
        result = run.wait()
        assert (result.status, result.context) == ("completed", {"count": 1})
        assert [output.payload for output in result.outputs] == [5]
        with pytest.raises(PayloadError, match="has no key 'needed'"):
            run.context()
