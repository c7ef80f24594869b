"""The graphs of the fault tests of runs that wait, scatter and gather, beside those of ``support.graphs``."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, TypedDict

from tenacity import Retrying, stop_after_attempt, wait_fixed

from cnstra import CNS, Axon, Context, Expectation, MemberFailure, Scatter, Signal, collateral, neuron
from support.handlers import enter

_AT_ONCE = Retrying(stop=stop_after_attempt(3), wait=wait_fixed(0))
_ONCE = Retrying(stop=stop_after_attempt(1))


# -- approval: asks somebody outside, and gives up when nobody answers -------------------------------------------------


class Question(TypedDict, total=False):
    """What is asked: by which key the answer may be sent, and after how many seconds nobody is waited for any more."""

    key: str
    seconds: float


class AskAxon(Axon):
    given_up = collateral("approval.given_up", Question)


class AnswerAxon(Axon):
    taken = collateral("approval.taken", int)


put_question = collateral("approval.question", Question)
approval_given = collateral("approval.given", int)
asker = neuron("asker", AskAxon)
answerer = neuron("answerer", AnswerAxon)


@asker.dendrite(put_question)
def put(question: Question, axon: AskAxon, ctx: Context) -> Expectation:
    enter(ctx, "ask")
    ctx["asked"] = True
    if "seconds" not in question:
        return ctx.expect(approval_given, key=question.get("key"))
    late = axon.given_up.create_signal(question)
    return ctx.expect(
        approval_given, key=question.get("key"), timeout=timedelta(seconds=question["seconds"]), on_timeout=late
    )


@answerer.dendrite(approval_given)
def take(number: int, axon: AnswerAxon, ctx: Context) -> Signal[int]:
    enter(ctx, "answer", number=number)
    ctx.update("answers", lambda answers: [*(answers or []), number])
    return axon.taken.create_signal(number)


@answerer.dendrite(AskAxon.given_up)
def give_up(question: Question, axon: AnswerAxon, ctx: Context) -> Signal[int]:
    enter(ctx, "late")
    ctx["late"] = True
    return axon.taken.create_signal(-1)


approval = CNS([asker, answerer], name="approval")


# -- tally: one scatters numbers, many count them, some of these only at the second try, one sums up --------------------


class Lot(TypedDict, total=False):
    """What is counted: ``size`` numbers, at most ``limit`` at once. Each of ``flaky`` fails once, each of ``broken`` for good
    in the run's first attempt.
    """

    size: int
    limit: int
    flaky: list[int]
    broken: list[int]


class Ball(TypedDict, total=False):
    """A number to be counted, and how it is with it."""

    number: int
    flaky: bool
    broken: bool


class LotAxon(Axon):
    ball = collateral("tally.ball", Ball)


class CountAxon(Axon):
    counted = collateral("tally.counted", int)


class SumAxon(Axon):
    sum = collateral("tally.sum", int)


class BrokenError(Exception):
    """It cannot be counted."""


def _tally(name: str, *, failures: bool) -> CNS:
    drawer = neuron("drawer", LotAxon)
    counter = neuron("counter", CountAxon)
    summer = neuron("summer", SumAxon)

    @drawer.dendrite(draw_lot)
    def draw(lot: Lot, axon: LotAxon, ctx: Context) -> Scatter[Ball]:
        enter(ctx, "scatter")
        flaky, broken = lot.get("flaky", []), lot.get("broken", [])
        balls = [Ball(number=n, flaky=n in flaky, broken=n in broken) for n in range(lot["size"])]
        return axon.ball.scatter(balls, limit=lot.get("limit"))

    @counter.dendrite(LotAxon.ball, retry=_AT_ONCE)
    def count(ball: Ball, axon: CountAxon, ctx: Context) -> Signal[int]:
        enter(ctx, "member", number=ball["number"])
        if ball.get("flaky") and ctx.try_number == 1:
            raise ConnectionError("try again")
        if ball.get("broken") and ctx.attempt == 1:
            raise BrokenError("not in this attempt")
        return axon.counted.create_signal(ball["number"])

    async def sum_up(results: Any, axon: SumAxon, ctx: Context) -> Signal[int]:
        numbers = [-1 - one.index if isinstance(one, MemberFailure) else one for one in results]
        enter(ctx, "gather", results=numbers)
        ctx["results"] = numbers
        return axon.sum.create_signal(sum(numbers))

    if failures:
        summer.gather(CountAxon.counted, return_failures=True)(sum_up)
    else:
        summer.gather(CountAxon.counted)(sum_up)
    return CNS([drawer, counter, summer], name=name)


draw_lot = collateral("tally.lot", Lot)
tally = _tally("tally", failures=False)
lenient_tally = _tally("lenient", failures=True)


# -- atlas: a scatter within each member of a scatter ------------------------------------------------------------------


class Shelf(TypedDict):
    """So many volumes, of so many maps each."""

    volumes: int
    maps: int


class ShelfAxon(Axon):
    volume = collateral("atlas.volume", list[int])


class VolumeAxon(Axon):
    map = collateral("atlas.map", int)


class MapAxon(Axon):
    drawn = collateral("atlas.drawn", int)


class BoundAxon(Axon):
    bound = collateral("atlas.bound", list[int])


open_shelf = collateral("atlas.shelf", Shelf)
librarian = neuron("librarian", ShelfAxon)
editor = neuron("editor", VolumeAxon)
cartographer = neuron("cartographer", MapAxon)
binder = neuron("binder", BoundAxon)
reader = neuron("reader", {"read": collateral("atlas.read", int)})


@librarian.dendrite(open_shelf)
def open_it(shelf: Shelf, axon: ShelfAxon, ctx: Context) -> Scatter[list[int]]:
    enter(ctx, "scatter")
    each = shelf["maps"]
    return axon.volume.scatter([list(range(n * each, (n + 1) * each)) for n in range(shelf["volumes"])], limit=3)


@editor.dendrite(ShelfAxon.volume)
def edit(maps: list[int], axon: VolumeAxon, ctx: Context) -> Scatter[int]:
    enter(ctx, "scatter")
    return axon.map.scatter(maps)


@cartographer.dendrite(VolumeAxon.map, retry=_AT_ONCE)
async def draw_map(number: int, axon: MapAxon, ctx: Context) -> Signal[int]:
    enter(ctx, "member", number=number)
    if number % 5 == 0 and ctx.try_number == 1:
        raise ConnectionError("the ink is dry")
    return axon.drawn.create_signal(number)


@binder.gather(MapAxon.drawn, of=VolumeAxon.map)
def bind_maps(results: list[int], axon: BoundAxon, ctx: Context) -> Signal[list[int]]:
    enter(ctx, "gather", results=results)
    return axon.bound.create_signal(results)


@reader.gather(BoundAxon.bound, of=ShelfAxon.volume)
def read_all(results: list[list[int]], axon: Any, ctx: Context) -> Signal[int]:
    enter(ctx, "gather", results=results)
    ctx["read"] = results
    return axon.read.create_signal(sum(map(len, results)))


atlas = CNS([librarian, editor, cartographer, binder, reader], name="atlas")
