"""Graphs whose calls are broken off: endless is stuck beyond its ``max_duration``, until it is cancelled or let go; import says
how far it is, and goes on from there in its next try; deadly kills the process that calls it.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any

from tenacity import Retrying, stop_after_attempt, wait_fixed

from cnstra import CNS, Axon, Context, Signal, collateral, neuron
from support import ledger
from support.handlers import enter
from support.points import points

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
