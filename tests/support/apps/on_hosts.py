"""Graphs for workers on hosts of their own: those of the fault tests, whose calls go to the ledger that the environment names,
and one whose first handler stops at a gate.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypedDict

from cnstra import CNS, Axon, Context, Signal, collateral, neuron
from support import ledger
from support.bank import bank
from support.gates import stop_at
from support.graphs.journeys import voyage
from support.graphs.routes import chain
from support.handlers import enter, plus_one

__all__ = ["bank", "chain", "letters", "voyage"]

LEDGER = "CNSTRA_TESTS_LEDGER"

if LEDGER in os.environ:
    ledger.open_ledger(Path(os.environ[LEDGER]))


class Letter(TypedDict, total=False):
    """``gates`` are named pipes, at which the first tries of its sorting stop, one each."""

    number: int
    gates: list[str]


class SorterAxon(Axon):
    sorted = collateral("letter.sorted", Letter)


class PostmanAxon(Axon):
    delivered = collateral("letter.delivered", int)


posted = collateral("letter.posted", Letter)
sorter = neuron("sorter", SorterAxon)
postman = neuron("postman", PostmanAxon)


@sorter.dendrite(posted)
def sort(letter: Letter, axon: SorterAxon, ctx: Context) -> Signal[Letter]:
    enter(ctx)
    stop_at(letter.get("gates", []), ctx.try_number)
    ctx["sorted in try"] = ctx.try_number
    ctx.update("steps", plus_one)
    return axon.sorted.create_signal(letter)


@postman.dendrite(SorterAxon.sorted)
def deliver(letter: Letter, axon: PostmanAxon, ctx: Context) -> Signal[int]:
    enter(ctx)
    ctx.update("steps", plus_one)
    return axon.delivered.create_signal(letter["number"])


letters = CNS([sorter, postman], name="letters")
