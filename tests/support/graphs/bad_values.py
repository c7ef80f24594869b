"""A graph that gives what cannot be kept: ``SPOILED`` are its values, ``ERRORS`` what it raises; a payload names one of them."""

from __future__ import annotations

from typing import Any

from tenacity import Retrying, stop_after_attempt, wait_fixed

from cnstra import CNS, Axon, Context, Signal, collateral, neuron
from support.handlers import enter

# -- spoiled: gives what cannot be kept, in many ways ------------------------------------------------------------------

MEGABYTE = 1024 * 1024


class Unheard:
    """Something that no store can keep."""


class UnequalError(Exception):
    """Somebody asked whether two things are equal that refuse to say."""


class Unequal:
    """Something that cannot be compared, as an array that asks ``any()`` or ``all()``."""

    def __eq__(self, other: object) -> bool:
        raise UnequalError("is it equal? look closer")

    __hash__ = None  # type: ignore[assignment]


class WordlessError(Exception):
    """An error that has no words."""

    def __str__(self) -> str:
        raise ValueError("no words")


SPOILED: dict[str, Any] = {
    "of the wrong type": "seven",
    "of no type that is known": Unheard(),
    "not a number": float("nan"),
    "with a key that is no text": {1: "one"},
    "with NUL": "a\0b",
    "with half a surrogate pair": "a\ud800b",
    "of 10 MB": "x" * (10 * MEGABYTE),
    "within itself": [],
    "with more digits than can be written": 10**5_000,
}
SPOILED["within itself"].append(SPOILED["within itself"])

ERRORS: dict[str, BaseException] = {
    "with NUL": ValueError("a\0b"),
    "with half a surrogate pair": ValueError("a\ud800b"),
    "of 10 MB": ValueError("x" * (10 * MEGABYTE)),
    "without words": WordlessError(),
    "that would end a program": SystemExit("a\0b"),
    "that would end a thread": KeyboardInterrupt(),
    "of many": ExceptionGroup("a\0b", [ValueError("c\ud800d")]),
}


class SpoiledAxon(Axon):
    number = collateral("spoiled.number", int)
    anything = collateral("spoiled.anything", Any)


emit_spoiled = collateral("spoiled.emit", str)
keep_spoiled = collateral("spoiled.keep", str)
keep_own_spoiled = collateral("spoiled.keep_own", str)
change_in_place = collateral("spoiled.change_in_place", str)
fail_spoiled = collateral("spoiled.fail", str)
slip_through = collateral("spoiled.slip_through", str)
typed = collateral("spoiled.typed", int)
untyped = collateral("spoiled.untyped", Any)
spoiler = neuron("spoiler", SpoiledAxon, retry=Retrying(stop=stop_after_attempt(2), wait=wait_fixed(0)))


@spoiler.dendrite(emit_spoiled)
def emit(how: str, axon: SpoiledAxon, ctx: Context) -> Signal[Any]:
    enter(ctx)
    ctx["before"] = "written"
    signal: Signal[Any] = (axon.number if how == "of the wrong type" else axon.anything).create_signal(SPOILED[how])
    return signal


@spoiler.dendrite(keep_spoiled)
def keep(how: str, axon: SpoiledAxon, ctx: Context) -> None:
    enter(ctx)
    ctx["before"] = "written"
    ctx["spoiled"] = SPOILED[how]


@spoiler.dendrite(keep_own_spoiled)
def keep_own(how: str, axon: SpoiledAxon, ctx: Context) -> None:
    enter(ctx)
    ctx["before"] = "written"
    ctx.local.set(SPOILED[how])


@spoiler.dendrite(change_in_place)
async def change(how: str, axon: SpoiledAxon, ctx: Context) -> None:
    enter(ctx)
    ctx["list"] = [1]
    ctx["list"][0] = Unequal()


@spoiler.dendrite(fail_spoiled)
def fail(how: str, axon: SpoiledAxon, ctx: Context) -> None:
    enter(ctx)
    ctx["before"] = "written"
    raise ERRORS[how]


@spoiler.dendrite(slip_through)
async def slip(text: str, axon: SpoiledAxon, ctx: Context) -> Signal[Any]:
    enter(ctx)
    if text == "in the context":
        ctx["text"] = "a\0b"
    emitted: Any = {"as an output": "a\0b", "as half a character": "a\ud800b"}.get(text, text)
    return axon.anything.create_signal(emitted)


@spoiler.dendrite(typed)
def take_typed(number: int, axon: SpoiledAxon, ctx: Context) -> None:
    enter(ctx)


@spoiler.dendrite(untyped)
def take_untyped(value: Any, axon: SpoiledAxon, ctx: Context) -> None:
    enter(ctx)


spoiled = CNS([spoiler], name="spoiled")
