"""A graph that waits for signals, and one member of whose scatter does: for the tests of ``send`` and ``show``."""

from __future__ import annotations

from datetime import timedelta

from cnstra import CNS, Axon, Context, Expectation, Scatter, Signal, collateral, neuron


class AskAxon(Axon):
    """What the one who asks emits."""

    expired = collateral("ask.expired", int)
    part = collateral("ask.part", int)


class AnswerAxon(Axon):
    """What comes of an answer."""

    settled = collateral("settled", int)
    counted = collateral("counted", int)


ask = collateral("ask", str)
approved = collateral("approved", int)
split = collateral("split", int)
asker = neuron("asker", AskAxon)
answerer = neuron("answerer", AnswerAxon)


@asker.dendrite(ask)
def put(key: str, axon: AskAxon, ctx: Context) -> Expectation:
    """Wait for an approval, for an hour."""
    late = axon.expired.create_signal(0)
    return ctx.expect(approved, key=key or None, timeout=timedelta(hours=1), on_timeout=late)


@asker.dendrite(split)
def scatter(size: int, axon: AskAxon) -> Scatter[int]:
    """Deal numbers, two at a time."""
    return axon.part.scatter(range(size), limit=2)


@answerer.dendrite(AskAxon.part)
def count(number: int, axon: AnswerAxon, ctx: Context) -> Signal[int] | Expectation:
    """The first one waits for an approval."""
    return ctx.expect(approved) if number == 0 else axon.counted.create_signal(number)


@answerer.dendrite(approved)
def take(number: int, axon: AnswerAxon) -> Signal[int]:
    """Say so."""
    return axon.settled.create_signal(number)


@answerer.gather(AnswerAxon.counted)
def sum_up(numbers: list[int], axon: AnswerAxon) -> Signal[int]:
    """Say how much it comes to."""
    return axon.settled.create_signal(sum(numbers))


cns = CNS([asker, answerer], name="asking")
