"""The graphs of the fault tests. Worker processes import them by name, so each stands at the top of this module.

Every handler notes its call in the ledger first, and passes the point ``call.inside`` after that.
"""

from __future__ import annotations

from typing import Any, TypedDict

from tenacity import Retrying, stop_after_attempt, wait_fixed

from cnstra import CNS, Axon, Context, Signal, collateral, neuron
from support import ledger
from support.points import points


def enter(ctx: Context, what: str = "", **details: Any) -> None:
    """What every handler does first."""
    ledger.note(ctx, what, **details)
    points.reach("call.inside", ctx.activation_id)


def plus_one(value: int | None) -> int:
    return (value or 0) + 1


# -- chain: three steps, one after the other ---------------------------------------------------------------------------


class FirstAxon(Axon):
    went_on = collateral("chain.first", int)


class SecondAxon(Axon):
    went_on = collateral("chain.second", int)


class ThirdAxon(Axon):
    arrived = collateral("chain.arrived", int)


set_out = collateral("chain.set_out", int)
first = neuron("first", FirstAxon)
second = neuron("second", SecondAxon)
third = neuron("third", ThirdAxon)


def _step(number: int, ctx: Context) -> int:
    enter(ctx)
    ctx[f"step {ctx.activation_id}"] = ctx.version
    ctx.update("steps", plus_one)
    return number + 1


@first.dendrite(set_out)
def begin(number: int, axon: FirstAxon, ctx: Context) -> Signal[int]:
    return axon.went_on.create_signal(_step(number, ctx))


@second.dendrite(FirstAxon.went_on)
def go_on(number: int, axon: SecondAxon, ctx: Context) -> Signal[int]:
    return axon.went_on.create_signal(_step(number, ctx))


@third.dendrite(SecondAxon.went_on)
def arrive(number: int, axon: ThirdAxon, ctx: Context) -> Signal[int]:
    return axon.arrived.create_signal(_step(number, ctx))


chain = CNS([first, second, third], name="chain")


# -- fan: one deals, many add what they were dealt ---------------------------------------------------------------------


class DealAxon(Axon):
    item = collateral("fan.item", int)


class AddAxon(Axon):
    added = collateral("fan.added", int)


deal_out = collateral("fan.deal", int)
dealer = neuron("dealer", DealAxon)
adder = neuron("adder", AddAxon)


@dealer.dendrite(deal_out)
def deal(width: int, axon: DealAxon, ctx: Context) -> list[Signal[int]]:
    enter(ctx)
    return [axon.item.create_signal(number) for number in range(width)]


@adder.dendrite(DealAxon.item)
async def add(number: int, axon: AddAxon, ctx: Context) -> Signal[int]:
    enter(ctx)
    ctx.update("sum", lambda total: (total or 0) + number)
    return axon.added.create_signal(number)


fan = CNS([dealer, adder], name="fan")


# -- fork: two branches, each on a queue of its own --------------------------------------------------------------------


class ForkAxon(Axon):
    left = collateral("fork.to_left", int)
    right = collateral("fork.to_right", int)


split = collateral("fork.split", int)
fork_in_two = neuron("fork", ForkAxon, queue="fork")
left = neuron("left", {"out": collateral("fork.left", int)}, queue="left")
right = neuron("right", {"out": collateral("fork.right", int)}, queue="right")


@fork_in_two.dendrite(split)
def part(number: int, axon: ForkAxon, ctx: Context) -> list[Signal[int]]:
    enter(ctx)
    return [axon.left.create_signal(number), axon.right.create_signal(number)]


@left.dendrite(ForkAxon.left)
def go_left(number: int, axon: Any, ctx: Context) -> Signal[int]:
    enter(ctx)
    ctx["left"] = number
    return axon.out.create_signal(number)


@right.dendrite(ForkAxon.right)
def go_right(number: int, axon: Any, ctx: Context) -> Signal[int]:
    enter(ctx)
    ctx["right"] = number
    return axon.out.create_signal(number)


fork = CNS([fork_in_two, left, right], name="fork")


# -- moody: fails as often as it is told --------------------------------------------------------------------------------


class Mood(TypedDict, total=False):
    """How it is asked: so many of its first calls fail."""

    fails: int


class MoodyAxon(Axon):
    answer = collateral("moody.answer", int)


ask = collateral("moody.ask", Mood)
ask_stubbornly = collateral("moody.ask_stubbornly", Mood)
moody_one = neuron("moody", MoodyAxon)


def _answer(mood: Mood, axon: MoodyAxon, ctx: Context) -> Signal[int]:
    enter(ctx)
    ctx[f"tried in attempt {ctx.attempt}"] = ctx.try_number
    if ctx.try_number <= mood.get("fails", 0):
        raise ConnectionError(f"no, not at try {ctx.try_number}")
    return axon.answer.create_signal(ctx.try_number)


@moody_one.dendrite(ask, retry=Retrying(stop=stop_after_attempt(1)))
def answer_at_once(mood: Mood, axon: MoodyAxon, ctx: Context) -> Signal[int]:
    return _answer(mood, axon, ctx)


@moody_one.dendrite(ask_stubbornly, retry=Retrying(stop=stop_after_attempt(3), wait=wait_fixed(1)))
def answer_after_a_while(mood: Mood, axon: MoodyAxon, ctx: Context) -> Signal[int]:
    return _answer(mood, axon, ctx)


moody = CNS([moody_one], name="moody")


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
async def slip(text: str, axon: SpoiledAxon, ctx: Context) -> Signal[str]:
    enter(ctx)
    if text == "in the context":
        ctx["text"] = "a\0b"
    return axon.anything.create_signal({"as an output": "a\0b", "as half a character": "a\ud800b"}.get(text, text))


@spoiler.dendrite(typed)
def take_typed(number: int, axon: SpoiledAxon, ctx: Context) -> None:
    enter(ctx)


@spoiler.dendrite(untyped)
def take_untyped(value: Any, axon: SpoiledAxon, ctx: Context) -> None:
    enter(ctx)


spoiled = CNS([spoiler], name="spoiled")
