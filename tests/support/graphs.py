"""The graphs of the fault tests. Worker processes import them by name, so each stands at the top of this module.

Every handler notes its call in the ledger first, and passes the point ``call.inside`` after that.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any, TypedDict

from tenacity import Retrying, retry_if_not_exception_type, stop_after_attempt, wait_fixed

from cnstra import CNS, Axon, Context, Neuron, Scatter, Signal, collateral, neuron
from support import ledger
from support.bank import bank  # noqa: F401 - found here by its name
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
ask_tomorrow = collateral("moody.ask_tomorrow", Mood)
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


@moody_one.dendrite(ask_tomorrow, retry=Retrying(stop=stop_after_attempt(3), wait=wait_fixed(24 * 3600)))
def answer_the_day_after(mood: Mood, axon: MoodyAxon, ctx: Context) -> Signal[int]:
    return _answer(mood, axon, ctx)


@moody_one.dendrite(ask_stubbornly, retry=Retrying(stop=stop_after_attempt(3), wait=wait_fixed(1)))
def answer_after_a_while(mood: Mood, axon: MoodyAxon, ctx: Context) -> Signal[int]:
    return _answer(mood, axon, ctx)


moody = CNS([moody_one], name="moody")


# -- patient: does the next thing after a second ----------------------------------------------------------------------


class PatientAxon(Axon):
    reminded = collateral("patient.reminded", int)
    over = collateral("patient.over", int)


wait_a_second = collateral("patient.wait", int)
patient_one = neuron("patient", PatientAxon)


@patient_one.dendrite(wait_a_second)
def begin_to_wait(number: int, axon: PatientAxon, ctx: Context) -> Signal[int]:
    enter(ctx)
    ctx["began"] = number
    return axon.reminded.create_signal(number, delay=timedelta(seconds=1))


@patient_one.dendrite(PatientAxon.reminded)
def be_reminded(number: int, axon: PatientAxon, ctx: Context) -> Signal[int]:
    enter(ctx)
    return axon.over.create_signal(number + ctx["began"])


patient = CNS([patient_one], name="patient")


# -- endless: does not come back, unless it is asked to ------------------------------------------------------------------


class EndlessAxon(Axon):
    back = collateral("endless.back", int)


wait_for_ever = collateral("endless.wait", int)
cling = collateral("endless.cling", int)
endless_one = neuron("endless", EndlessAxon, max_duration=timedelta(milliseconds=300))
twice = Retrying(stop=stop_after_attempt(2), wait=wait_fixed(0))


@endless_one.dendrite(wait_for_ever, retry=twice)
async def wait_until_cancelled(tries: int, axon: EndlessAxon, ctx: Context) -> Signal[int]:
    enter(ctx)
    if ctx.try_number <= tries:
        await asyncio.Event().wait()
    return axon.back.create_signal(ctx.try_number)


@endless_one.dendrite(cling, retry=twice)
async def cling_to_it(_: int, axon: EndlessAxon, ctx: Context) -> Signal[int]:
    enter(ctx)
    ctx["clung"] = True
    with suppress(asyncio.CancelledError):
        await asyncio.Event().wait()
    return axon.back.create_signal(0)


# The same on threads, which nobody can cancel. What is stuck is so at the point "call.stuck", until the test lets it go on.
stick = collateral("endless.stick", int)
stick_late = collateral("endless.stick_late", int)
hand_over = collateral("endless.hand_over", int)
pass_by = collateral("endless.pass_by", int)


@endless_one.dendrite(stick, retry=twice)
def get_stuck(tries: int, axon: EndlessAxon, ctx: Context) -> Signal[int]:
    enter(ctx)
    ctx[f"try {ctx.try_number}"] = True
    ctx.heartbeat({"try": ctx.try_number})
    if ctx.try_number <= tries:
        points.reach("call.stuck", ctx.activation_id)
        ctx.log.warning("came back, cancelled: %s", ctx.cancelled)
    return axon.back.create_signal(ctx.try_number)


@endless_one.dendrite(stick_late, retry=twice)
def get_stuck_late(tries: int, axon: EndlessAxon, ctx: Context) -> Iterator[Signal[int]]:
    enter(ctx)
    ctx[f"try {ctx.try_number}"] = True
    yield axon.back.create_signal(ctx.try_number)
    if ctx.try_number <= tries:
        points.reach("call.stuck", ctx.activation_id)


@endless_one.dendrite(hand_over, retry=twice)
def hand_it_over(tries: int, axon: EndlessAxon, ctx: Context) -> Any:
    return wait_until_cancelled(tries, axon, ctx)


@endless_one.dendrite(pass_by)
def go_straight_through(number: int, axon: EndlessAxon, ctx: Context) -> Signal[int]:
    enter(ctx)
    return axon.back.create_signal(number)


endless = CNS([endless_one], name="endless")


# -- import: works through rows, and says how far it is ----------------------------------------------------------------


class ImportAxon(Axon):
    imported = collateral("import.imported", list[int])


import_rows = collateral("import.rows", int)
import_rows_async = collateral("import.rows_async", int)
importer = neuron("importer", ImportAxon)


def _from_where(ctx: Context) -> int:
    begun = 0 if ctx.progress is None else int(ctx.progress["rows"])
    enter(ctx, begun=begun)
    return begun


def _import_row(row: int, ctx: Context) -> None:
    ctx.heartbeat({"rows": row + 1, "try": ctx.try_number})
    points.reach("call.reported", row)


@importer.dendrite(import_rows)
def import_them(rows: int, axon: ImportAxon, ctx: Context) -> Signal[list[int]]:
    begun = _from_where(ctx)
    for row in range(begun, rows):
        _import_row(row, ctx)
    return axon.imported.create_signal([begun, rows])


@importer.dendrite(import_rows_async)
async def import_them_async(rows: int, axon: ImportAxon, ctx: Context) -> Signal[list[int]]:
    begun = _from_where(ctx)
    for row in range(begun, rows):
        await asyncio.to_thread(_import_row, row, ctx)
    return axon.imported.create_signal([begun, rows])


imports = CNS([importer], name="import")


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


# -- shop: of two ages, and of two versions ----------------------------------------------------------------------------


class SellAxon(Axon):
    sold = collateral("shop.sold", int)


sell_it = collateral("shop.sell", int)
wrap_it = collateral("shop.wrap", int)
seller = neuron("seller", SellAxon)
wrapper = neuron("wrapper", {"wrapped": collateral("shop.wrapped", int)})


@seller.dendrite(sell_it)
def sell(number: int, axon: SellAxon, ctx: Context) -> Signal[int]:
    enter(ctx)
    return axon.sold.create_signal(number)


@wrapper.dendrite(wrap_it)
def wrap(number: int, axon: Any, ctx: Context) -> Signal[int]:
    enter(ctx)
    return axon.wrapped.create_signal(number)


old_shop = CNS([seller], name="shop")
new_shop = CNS([seller, wrapper], name="shop")
first_edition = CNS([seller], name="editions", version="1")
second_edition = CNS([seller, wrapper], name="editions", version="2")


# -- relay: lanes that write the same keys of one run, hop after hop, each lane on its own worker ----------------------


EVERY = 5
"""So many hops of a lane have one among them that reads and writes a key that all lanes read and write."""


class Lap(TypedDict):
    """Where a lane is: its number, and how many hops it has still to go."""

    lane: int
    left: int


class RelayAxon(Axon):
    to_red = collateral("relay.red", Lap)
    to_blue = collateral("relay.blue", Lap)


class Laps(TypedDict):
    """How many lanes run, and how many hops each."""

    lanes: int
    hops: int


start_relay = collateral("relay.start", Laps)
starter = neuron("starter", RelayAxon, queue="fork")
red = neuron("red", RelayAxon, queue="left")
blue = neuron("blue", RelayAxon, queue="right")


def joined(mine: list[int] | None, theirs: list[int] | None, base: list[int] | None) -> list[int]:
    """Everything that either of two lists has."""
    return sorted({*(mine or []), *(theirs or [])})


@starter.dendrite(start_relay)
def start_lanes(laps: Laps, axon: RelayAxon, ctx: Context) -> list[Signal[Lap]]:
    enter(ctx)
    return [
        (axon.to_red if lane % 2 else axon.to_blue).create_signal({"lane": lane, "left": laps["hops"]})
        for lane in range(laps["lanes"])
    ]


def _run_a_lap(lap: Lap, ctx: Context) -> Lap | None:
    enter(ctx)
    ctx.update("updates", plus_one)
    if lap["left"] % EVERY == 0:
        ctx["writes"] = ctx.get("writes", 0) + 1
    mine = f"lane {lap['lane']}"
    if ctx.get(mine, lap["left"]) != lap["left"]:
        raise AssertionError(f"{mine} read {ctx[mine]}, and its last hop had written {lap['left']}")
    ctx[mine] = lap["left"] - 1
    return None if lap["left"] == 1 else {"lane": lap["lane"], "left": lap["left"] - 1}


@red.dendrite(RelayAxon.to_red)
def run_red(lap: Lap, axon: RelayAxon, ctx: Context) -> Signal[Lap] | None:
    following = _run_a_lap(lap, ctx)
    return None if following is None else axon.to_red.create_signal(following)


@blue.dendrite(RelayAxon.to_blue)
async def run_blue(lap: Lap, axon: RelayAxon, ctx: Context) -> Signal[Lap] | None:
    following = _run_a_lap(lap, ctx)
    return None if following is None else axon.to_blue.create_signal(following)


relay = CNS([starter, red, blue], name="relay")


# -- contest: two write one key at the same time, under each policy ----------------------------------------------------


class ContestAxon(Axon):
    mine = collateral("contest.mine", int)
    theirs = collateral("contest.theirs", int)


class RivalAxon(Axon):
    again = collateral("contest.theirs", int)


def _contest(policy: Any) -> CNS:
    name = policy if isinstance(policy, str) else "merge"
    opener = neuron("opener", ContestAxon, queue="fork")
    contender = neuron("contender", {}, queue="left")
    rival = neuron("rival", {"again": ContestAxon.theirs}, queue="right")

    @opener.dendrite(begin_contest)
    def open_it(rounds: int, axon: ContestAxon, ctx: Context) -> list[Signal[int]]:
        enter(ctx)
        ctx["prize"] = [0]
        return [axon.mine.create_signal(rounds), axon.theirs.create_signal(rounds)]

    @contender.dendrite(ContestAxon.mine, on_conflict=policy)
    def contend(rounds: int, axon: Any, ctx: Context) -> None:
        prize = ctx["prize"]
        enter(ctx, read=prize)
        ctx["prize"] = [*prize, -1]

    @rival.dendrite(ContestAxon.theirs)
    def take(rounds: int, axon: Any, ctx: Context) -> Signal[int] | None:
        enter(ctx)
        ctx["prize"] = [*ctx["prize"], rounds]
        return axon.again.create_signal(rounds - 1) if rounds > 1 else None

    return CNS([opener, contender, rival], name=f"contest-{name}")


begin_contest = collateral("contest.begin", int)
contest_retry = _contest("retry")
contest_overwrite = _contest("overwrite")
contest_fail = _contest("fail")
contest_merge = _contest(joined)


# -- deadly: kills the process that calls it ---------------------------------------------------------------------------

kill_me = collateral("deadly.kill_me", int)
live_on = collateral("deadly.live_on", int)
deadly_one = neuron("deadly", {"survived": collateral("deadly.survived", int)})


@deadly_one.dendrite(kill_me)
def kill_whoever_calls(deaths: int, axon: Any, ctx: Context) -> Signal[int]:
    ledger.note(ctx)
    if ctx.try_number <= deaths:
        os.kill(os.getpid(), signal.SIGKILL)
    return axon.survived.create_signal(ctx.try_number)


@deadly_one.dendrite(live_on)
def live(number: int, axon: Any, ctx: Context) -> Signal[int]:
    enter(ctx)
    return axon.survived.create_signal(number)


deadly = CNS([deadly_one], name="deadly")


# -- voyage: fans out, fails now and then, and joins by a counter in the context ---------------------------------------


class Plan(TypedDict):
    """``fails`` holds, for each leg, how many of its first tries fail; ``lost`` are legs that fail for good at first."""

    number: int
    fails: list[int]
    lost: list[int]


class Leg(TypedDict):
    """One of the legs of a voyage."""

    number: int
    leg: int
    fails: int
    lost: bool


class LostAtSeaError(Exception):
    """No policy of the dendrite retries this one; that of the run does."""


class DepartAxon(Axon):
    leg = collateral("voyage.leg", Leg)


class SailAxon(Axon):
    all_home = collateral("voyage.all_home", int)


embark = collateral("voyage.embark", Plan)
harbour = neuron("harbour", DepartAxon)
ship = neuron("ship", SailAxon, queue="sea")
quay = neuron("quay", {"summed_up": collateral("voyage.summed_up", int)})
_PERSISTENT = Retrying(
    stop=stop_after_attempt(4), wait=wait_fixed(0.05), retry=retry_if_not_exception_type(LostAtSeaError)
)


@harbour.dendrite(embark)
def depart(plan: Plan, axon: DepartAxon, ctx: Context) -> list[Signal[Leg]]:
    enter(ctx)
    ctx["at sea"] = len(plan["fails"])
    return [
        axon.leg.create_signal({"number": plan["number"], "leg": leg, "fails": fails, "lost": leg in plan["lost"]})
        for leg, fails in enumerate(plan["fails"])
    ]


@ship.dendrite(DepartAxon.leg, retry=_PERSISTENT)
async def sail(leg: Leg, axon: SailAxon, ctx: Context) -> Signal[int] | None:
    enter(ctx)
    if leg["lost"] and ctx.attempt == 1:
        raise LostAtSeaError(f"leg {leg['leg']} is lost at first")
    if ctx.try_number <= leg["fails"]:
        raise ConnectionError(f"leg {leg['leg']} fails at try {ctx.try_number}")
    ctx.update("miles", lambda miles: (miles or 0) + leg["number"] * leg["leg"])
    ctx["at sea"] = ctx["at sea"] - 1
    return axon.all_home.create_signal(leg["number"]) if ctx["at sea"] == 0 else None


@quay.dendrite(SailAxon.all_home)
def sum_up(number: int, axon: Any, ctx: Context) -> Signal[int]:
    enter(ctx)
    ctx["total"] = ctx["miles"]
    return axon.summed_up.create_signal(ctx["miles"])


voyage = CNS([harbour, ship, quay], name="voyage", retry=Retrying(stop=stop_after_attempt(3), wait=wait_fixed(0.1)))


# -- trip: three bookings that can be undone, and a last step that fails if it is told to ------------------------------


class Trip(TypedDict, total=False):
    """What goes wrong: the last step; and, of compensations, the hotel's in the run's first attempt."""

    number: int
    goes_wrong: bool
    stuck: bool


class StuckError(Exception):
    """A compensation that cannot be, this time."""


class FlightAxon(Axon):
    booked = collateral("trip.flight_booked", Trip)


class HotelAxon(Axon):
    booked = collateral("trip.hotel_booked", Trip)


class CarAxon(Axon):
    booked = collateral("trip.car_booked", Trip)


class TripAxon(Axon):
    ready = collateral("trip.ready", int)


plan_trip = collateral("trip.plan", Trip)
BOOKINGS = ("flight", "hotel", "car")
_AT_ONCE = Retrying(stop=stop_after_attempt(3), wait=wait_fixed(0))


def _trip(*, undo: bool) -> list[Neuron[Any, Any]]:
    """The neurons with their compensations, or as they were before there were any."""
    flight = neuron("flight", FlightAxon)
    hotel = neuron("hotel", HotelAxon)
    car = neuron("car", CarAxon)
    departure = neuron("departure", TripAxon, retry=Retrying(stop=stop_after_attempt(1)))

    @flight.dendrite(plan_trip)
    def book_flight(trip: Trip, axon: FlightAxon, ctx: Context) -> Signal[Trip]:
        enter(ctx, "do")
        ctx["flight"] = "booked"
        return axon.booked.create_signal(trip)

    @hotel.dendrite(FlightAxon.booked)
    async def book_hotel(trip: Trip, axon: HotelAxon, ctx: Context) -> Signal[Trip]:
        enter(ctx, "do")
        ctx["hotel"] = "booked"
        await asyncio.sleep(0)
        return axon.booked.create_signal(trip)

    @car.dendrite(HotelAxon.booked)
    def book_car(trip: Trip, axon: CarAxon, ctx: Context) -> Signal[Trip]:
        enter(ctx, "do")
        ctx["car"] = "booked"
        return axon.booked.create_signal(trip)

    @departure.dendrite(CarAxon.booked)
    def depart_at_last(trip: Trip, axon: TripAxon, ctx: Context) -> Signal[int]:
        enter(ctx, "do")
        if trip.get("goes_wrong"):
            raise LostAtSeaError("nobody can leave")
        return axon.ready.create_signal(trip.get("number", 0))

    if undo:

        @book_flight.compensate
        def give_flight_back(trip: Trip, ctx: Context) -> None:
            enter(ctx, "undo")
            ctx["flight"] = "given back"

        @book_hotel.compensate(retry=_AT_ONCE)
        async def give_hotel_back(trip: Trip, ctx: Context, outputs: list[Signal[Any]]) -> None:
            enter(ctx, "undo", outputs=[signal.collateral.name for signal in outputs])
            if trip.get("stuck") and ctx.attempt == 1:
                raise StuckError("the hotel does not answer")
            ctx["hotel"] = "given back"

        @book_car.compensate(uncertain=True)
        def give_car_back(trip: Trip, ctx: Context) -> None:
            enter(ctx, "undo")
            ctx["car"] = "given back"

    return [flight, hotel, car, departure]


_travel = _trip(undo=True)
trip = CNS(_travel, name="trip")
trip_as_it_was = CNS(_trip(undo=False), name="trip")


# -- season: voyages and trips at the same time ------------------------------------------------------------------------

season = CNS(
    [harbour, ship, quay, *_travel], name="season", retry=Retrying(stop=stop_after_attempt(3), wait=wait_fixed(0.1))
)


# -- counter: a neuron of which three run at once, wherever they run -----------------------------------------------------

AT_ONCE = 3


class CrowdAxon(Axon):
    came = collateral("counter.came", int)


class CounterAxon(Axon):
    served = collateral("counter.served", int)


class ClosingAxon(Axon):
    closed = collateral("counter.closed", int)


open_up = collateral("counter.open", int)
crowd = neuron("crowd", CrowdAxon)
counter_desk = neuron("desk", CounterAxon, concurrency=AT_ONCE)
closing = neuron("closing", ClosingAxon)


@crowd.dendrite(open_up)
def let_in(number: int, axon: CrowdAxon, ctx: Context) -> Scatter[int]:
    return axon.came.scatter(range(number))


@counter_desk.dendrite(CrowdAxon.came)
def serve(number: int, axon: CounterAxon, ctx: Context) -> Signal[int]:
    """What it is called for takes a moment, so that calls can meet; both its ends stand in the ledger."""
    enter(ctx, "in")
    threading.Event().wait(0.005)
    ledger.note(ctx, "out")
    return axon.served.create_signal(number)


@closing.gather(CounterAxon.served)
def close(served: list[int], axon: ClosingAxon, ctx: Context) -> Signal[int]:
    return axon.closed.create_signal(len(served))


counter = CNS([crowd, counter_desk, closing], name="counter")


# -- baton: runners hand on a baton, which is in the context and in the signal, and never the same again ----------------


class BatonAxon(Axon):
    handed_over = collateral("baton.handed_over", tuple[int, str])
    arrived = collateral("baton.arrived", int)


start_with_baton = collateral("baton.start", int)
baton_runner = neuron("baton runner", BatonAxon)


def _hand_over(legs: int, axon: BatonAxon, ctx: Context) -> Signal[Any]:
    ctx["baton"] = os.urandom(8).hex()
    ctx.update("legs", plus_one)
    enter(ctx, ctx["baton"])
    return axon.handed_over.create_signal((legs - 1, ctx["baton"])) if legs else axon.arrived.create_signal(0)


@baton_runner.dendrite(start_with_baton)
def run_first(legs: int, axon: BatonAxon, ctx: Context) -> Signal[Any]:
    return _hand_over(legs, axon, ctx)


@baton_runner.dendrite(BatonAxon.handed_over)
def run_on(handed_over: tuple[int, str], axon: BatonAxon, ctx: Context) -> Signal[Any]:
    """It was handed the baton that its context has: both are of one commit."""
    legs, token = handed_over
    assert ctx["baton"] == token, f"the context has {ctx['baton']}, and {token} was handed over"
    return _hand_over(legs, axon, ctx)


baton = CNS([baton_runner], name="baton")
