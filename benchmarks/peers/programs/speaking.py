"""How a program of a peer is asked, and how it answers: arguments in, one JSON document out.

The servers come in by the environment, so that the worker processes of the peer have them, too.

It times nothing and checks nothing itself. It refuses to print figures when the work raised anything: then there is one
line on stderr, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import json
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata

WORKLOADS = ("chains", "fans", "line", "start")

CHAIN = 5
"""Steps of a run of ``chains``. Each adds 1 to the counter that travels, so that a run comes to 5."""
MEMBERS = 10
"""Members of a run of ``fans``. Each returns its number, from 0 on."""
SUM = sum(range(MEMBERS))
"""What the gather of a run of ``fans`` comes to."""
FAN = MEMBERS + 2
"""Steps of a run of ``fans``: the scatter, its members, the gather."""
LINE = 50
"""Steps of the one run of ``line``."""
DATABASE_URL = "PEER_DATABASE_URL"
"""Variable of the environment: an empty Postgres database that nobody else uses."""
BROKER_URL = "PEER_BROKER_URL"
"""The same for an empty database of Redis or Valkey."""

PAUSE = 0.05
"""Seconds for which the system is left alone before each repetition of ``line`` and ``start``."""
PATIENCE = 120.0
"""Seconds after which work that has not ended is given up."""


class Wrong(Exception):
    """Work did not come to what it should have, or not in time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a program is to do."""

    workload: str
    size: int
    """Runs of each repetition, for ``chains`` and ``fans``."""
    repetitions: int
    """How many figures are to be taken."""
    processes: int
    threads: int
    """In each process; or coroutines, where the peer has those instead."""
    way: str
    """Which of the peer's ways to do it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Best:
    """A configuration of a peer, for one workload."""

    way: str
    processes: int
    threads: int


Measure = Callable[[Asked], Sequence[float]]
"""Does the work, checks it, and gives a figure for each repetition."""


def answer(peer: str, ways: Mapping[str, str], best: Mapping[str, Best], measure: Measure) -> int:
    """Do what the command line asks for, and print the document. Gives the exit code.

    ``ways`` has a sentence for each way to do the work; ``best`` says what is taken where the command line leaves it open.
    """
    asked = _asked(ways, best)
    try:
        figures = [float(figure) for figure in measure(asked)]
        if len(figures) != asked.repetitions:
            raise Wrong(f"{asked.repetitions} figures were asked for, and {len(figures)} taken")
    except Exception as error:
        traceback.print_exc()
        sys.stderr.write(f"{peer}: {type(error).__name__}: {' '.join(str(error).split())}\n")
        return 1
    document = {
        "peer": f"{peer} {metadata.version(peer)}",
        "figures": figures,
        "checked": True,
        "configuration": f"{ways[asked.way]}; {asked.processes} processes, {asked.threads} at once in each",
    }
    sys.stdout.write(json.dumps(document) + "\n")
    return 0


def per_second(workload: str, size: int, seconds: float) -> float:
    """Steps a second, of as many runs of a workload."""
    return size * (CHAIN if workload == "chains" else FAN) / seconds


def must_be(what: str, found: object, expected: object) -> None:
    """Raises ``Wrong`` unless both are equal."""
    if found != expected:
        raise Wrong(f"{what} should be {expected!r}, and is {str(found)[:200]}")


def must_all_come_to(expected: object, found: Sequence[object], runs: int) -> None:
    """Raises ``Wrong`` unless there are that many results, and each is the expected one."""
    must_be("the number of results", len(found), runs)
    if wrong := [value for value in found if value != expected]:
        raise Wrong(
            f"{len(wrong)} of {runs} runs should have come to {expected!r}, and came to others, as {wrong[0]!r}"
        )


def _asked(ways: Mapping[str, str], best: Mapping[str, Best]) -> Asked:
    parser = argparse.ArgumentParser()
    add = parser.add_argument
    add("workload", choices=WORKLOADS)
    add("--size", type=int, default=1)
    add("--repetitions", type=int, default=1)
    add("--processes", type=int)
    add("--threads", type=int)
    add("--way", choices=sorted(ways))
    given = parser.parse_args()
    chosen = best[given.workload]
    return Asked(
        workload=given.workload,
        size=given.size,
        repetitions=given.repetitions,
        processes=given.processes or chosen.processes,
        threads=given.threads or chosen.threads,
        way=given.way or chosen.way,
    )
