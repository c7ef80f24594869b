"""The graph on which tests of the command line cancel, pause and undo runs. A payload says where its handlers stop or fail."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tenacity import Retrying, stop_after_attempt

from cnstra import CNS, Axon, Context, collateral, neuron


@dataclass(frozen=True)
class Trip:
    """``fails`` is the name of the step that fails in the first attempt; ``gate`` a named pipe at which the flight stops."""

    fails: str = ""
    gate: str = ""


class HotelAxon(Axon):
    booked = collateral("hotel.booked", Trip)


class FlightAxon(Axon):
    booked = collateral("flight.booked", Trip)


planned = collateral("trip.planned", Trip)
once = Retrying(stop=stop_after_attempt(1))
hotel = neuron("hotel", HotelAxon, retry=once)
flight = neuron("flight", FlightAxon, retry=once)
car = neuron("car", retry=once)


@hotel.dendrite(planned)
def book_room(trip: Trip, axon: HotelAxon) -> Any:
    """Book it."""
    return axon.booked.create_signal(trip)


@book_room.compensate(retry=once)
def cancel_room(trip: Trip, ctx: Context[Any]) -> None:
    """Fails in the first attempt, if the trip says so."""
    if "hotel is closed" in trip.fails and ctx.attempt == 1:
        raise ConnectionError("the hotel does not answer")


@flight.dendrite(HotelAxon.booked)
def book_seat(trip: Trip, axon: FlightAxon) -> Any:
    """Stop at the gate, if there is one."""
    if trip.gate:
        with open(trip.gate, "rb") as file:
            file.read()
    return axon.booked.create_signal(trip)


@book_seat.compensate
def cancel_seat(trip: Trip) -> None:
    """Give it back."""


@car.dendrite(FlightAxon.booked)
def rent(trip: Trip) -> None:
    """The last step."""
    if trip.fails:
        raise ValueError("no car is free")


cns = CNS([hotel, flight, car], name="trips")
