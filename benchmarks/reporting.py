"""Writes figures down: as a table for people, as JSON for programs. Knows no suite."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.machine import Machine
from benchmarks.measuring import Contestant, Effort, Goal, Outcome, Spread

FORMAT = 1
"""Raised when a reader of older JSON would misread it."""

Load = tuple[float, float, float] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All of one invocation."""

    name: str
    command: str
    effort: Effort
    machine: Machine
    began: str
    ended: str
    load_before: Load
    load_after: Load
    pace_before: float
    """Of the machine: millions of rounds of a plain loop of Python in a second."""
    pace_after: float
    share_of_a_core: float
    """CPU seconds of this process for each second of the clock: below 1, it waited, or others had the core."""
    outcomes: Mapping[str, Sequence[Outcome]]
    """By suite."""


def write(report: Report, folder: Path) -> tuple[Path, Path]:
    """Write ``<name>.json`` and ``<name>.txt``, over those of the run before; gives their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    document, table = folder / f"{report.name}.json", folder / f"{report.name}.txt"
    document.write_text(as_json(report), encoding="utf-8")
    table.write_text(as_text(report), encoding="utf-8")
    return document, table


# -- for programs --------------------------------------------------------------------------------------------------


def as_json(report: Report) -> str:
    """One document, indented."""
    document = {
        "format": FORMAT,
        "name": report.name,
        "command": report.command,
        "effort": asdict(report.effort),
        "began": report.began,
        "ended": report.ended,
        "machine": {
            **asdict(report.machine),
            "load_before": report.load_before,
            "load_after": report.load_after,
            "pace_before": report.pace_before,
            "pace_after": report.pace_after,
            "share_of_a_core": report.share_of_a_core,
        },
        "suites": [
            {"name": suite, "races": [_race(outcome) for outcome in outcomes]}
            for suite, outcomes in report.outcomes.items()
        ],
    }
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _race(outcome: Outcome) -> dict[str, Any]:
    race = outcome.race
    return {
        "name": race.name,
        "unit": race.unit,
        "contestants": [_contestant(outcome, contestant) for contestant in race.contestants],
    }


def _contestant(outcome: Outcome, contestant: Contestant) -> dict[str, Any]:
    return {
        "name": contestant.name,
        "says": contestant.says,
        "figure": _judged(outcome.figures[contestant.name], contestant.goal),
        "ratios": [
            {"beside": beside.other, **_judged(outcome.ratio(contestant.name, beside.other), beside.goal)}
            for beside in contestant.beside
        ],
    }


def _judged(spread: Spread, goal: Goal | None) -> dict[str, Any]:
    return {
        "median": spread.median,
        "least": spread.least,
        "most": spread.most,
        "samples": spread.samples,
        "goal": None if goal is None else {**asdict(goal), "met": goal.is_met_by(spread.median)},
    }


# -- for people ----------------------------------------------------------------------------------------------------


def as_text(report: Report) -> str:
    """A table for each race."""
    machine = report.machine
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    lines = [
        f"{report.name}: {report.command}",
        f"{machine.python}, {versions}{'' if machine.commit is None else f', commit {machine.commit}'}",
        f"{machine.processor}, {machine.cores} cores, {machine.system}",
        f"{report.began} to {report.ended}, load average {_load(report.load_before)} before, {_load(report.load_after)} after;",
        f"this process had {report.share_of_a_core:.2f} of a core.",
        f"A plain loop of Python did {report.pace_before:.1f} million rounds a second before, {report.pace_after:.1f} after.",
        "Each figure is the median of its rounds (least..most). A ratio is taken within each round.",
    ]
    for suite, outcomes in report.outcomes.items():
        for outcome in outcomes:
            lines += ["", *table(suite, outcome)]
    return "\n".join(lines) + "\n"


def table(suite: str, outcome: Outcome) -> list[str]:
    """The lines of one race's table."""
    race = outcome.race
    rounds = len(outcome.figures[race.contestants[0].name].samples)
    rows: list[tuple[str, ...]] = [("", race.unit, "least..most", "goal", "ratio", "least..most", "beside")]
    for contestant in race.contestants:
        rows += _rows(outcome, contestant)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [f"{suite}: {race.name} ({rounds} rounds)"]
    for row in rows:
        cells = [
            cell.ljust(width) if column in {0, 3, 6} else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines


def _rows(outcome: Outcome, contestant: Contestant) -> list[tuple[str, ...]]:
    figure = outcome.figures[contestant.name]
    first = (contestant.name, _number(figure.median), _range(figure), _goal(contestant.goal, figure))
    ratios = []
    for beside in contestant.beside:
        ratio = outcome.ratio(contestant.name, beside.other)
        goal = _goal(beside.goal, ratio)
        ratios.append((_number(ratio.median), _range(ratio), beside.other + (f" ({goal})" if goal else "")))
    if not ratios:
        return [(*first, "", "", "")]
    return [(*(first if index == 0 else ("", "", "", "")), *ratio) for index, ratio in enumerate(ratios)]


def _number(value: float) -> str:
    """With three digits or more, and no more decimals than that takes."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _range(spread: Spread) -> str:
    return f"{_number(spread.least)}..{_number(spread.most)}"


def _goal(goal: Goal | None, spread: Spread) -> str:
    if goal is None:
        return ""
    bound = f">= {goal.at_least:,g}" if goal.at_least is not None else f"<= {goal.at_most:,g}"
    return f"{bound}: {'met' if goal.is_met_by(spread.median) else 'NOT MET'}"


def _load(load: Load) -> str:
    return "unknown" if load is None else " ".join(f"{value:.2f}" for value in load)
