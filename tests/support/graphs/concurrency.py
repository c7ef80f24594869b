"""A graph with a limit: many come to its counter, which serves three at once, and the ledger has both ends of each call."""

from __future__ import annotations

import threading

from cnstra import CNS, Axon, Context, Scatter, Signal, collateral, neuron
from support import ledger
from support.handlers import enter

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
