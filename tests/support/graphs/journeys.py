"""Sagas that can fail, and end well for all that: voyage fans out and joins, and is retried; trip books, and is compensated;
season is both in one graph, so it stands with their neurons.
"""

from __future__ import annotations

import asyncio
from typing import Any, TypedDict

from tenacity import Retrying, retry_if_not_exception_type, stop_after_attempt, wait_fixed

from cnstra import CNS, Axon, Context, Neuron, Signal, collateral, neuron
from support.handlers import enter

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
