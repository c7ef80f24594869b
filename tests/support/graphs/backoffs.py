"""Graphs whose runs go on later: moody fails as often as it is told, and is tried again at once, after a second or tomorrow;
patient gives a signal that is delayed.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TypedDict

from tenacity import Retrying, stop_after_attempt, wait_fixed

from cnstra import CNS, Axon, Context, Signal, collateral, neuron
from support.handlers import enter

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
