"""Graphs that are about what a context has: in relay, many lanes write the same keys; in contest, two write one key, under each
policy of a conflict; in baton, what a hop reads must be what its signal brings.
"""

from __future__ import annotations

import os
from typing import Any, TypedDict

from cnstra import CNS, Axon, Context, Signal, collateral, neuron
from support.handlers import enter, plus_one

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
