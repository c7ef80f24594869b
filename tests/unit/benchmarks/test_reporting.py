"""What is written of figures: nothing left out of the JSON, every verdict in the table."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.machine import Machine
from benchmarks.measuring import Beside, Contestant, Effort, Goal, Outcome, Race, Spread
from benchmarks.reporting import Report, as_json, as_text, write


def report() -> Report:
    """Of one race: a limit, and an engine that meets one goal of two."""
    engine = Contestant(
        name="engine",
        says="goes round",
        take=lambda: 0.0,
        goal=Goal(at_least=400_000),
        beside=(Beside(other="limit", goal=Goal(at_most=0.25)),),
    )
    race = Race(
        name="loops", unit="hops/s", contestants=(Contestant(name="limit", says="a loop", take=lambda: 0.0), engine)
    )
    figures = {"limit": Spread(samples=(1_000_000, 2_000_000)), "engine": Spread(samples=(400_000, 600_000))}
    return Report(
        name="some",
        command="python -m benchmarks",
        effort=Effort(rounds=2, scale=1.0),
        machine=Machine(
            system="Linux",
            processor="a processor",
            cores=2,
            python="CPython 3.13.0",
            versions={"cnstra": "1"},
            commit=None,
        ),
        began="2026-01-01T00:00:00+00:00",
        ended="2026-01-01T00:01:00+00:00",
        load_before=(0.1, 0.2, 0.3),
        load_after=None,
        pace_before=14.23,
        pace_after=6.18,
        share_of_a_core=0.98,
        outcomes={"in-process": [Outcome(race=race, figures=figures)]},
    )


def test_the_document_has_figures_spreads_ratios_and_verdicts() -> None:
    """A program that reads it finds what the table shows, and each sample."""
    document = json.loads(as_json(report()))

    [suite] = document["suites"]
    [race] = suite["races"]
    limit, engine = race["contestants"]
    assert (suite["name"], race["unit"]) == ("in-process", "hops/s")
    assert limit["figure"]["goal"] is None
    assert engine["figure"] == {
        "median": 500_000,
        "least": 400_000,
        "most": 600_000,
        "samples": [400_000, 600_000],
        "goal": {"at_least": 400_000, "at_most": None, "met": True},
    }
    [ratio] = engine["ratios"]
    assert (ratio["beside"], ratio["samples"], ratio["median"]) == ("limit", [0.4, 0.3], 0.35)
    assert ratio["goal"]["met"] is False
    assert document["machine"]["load_before"] == [0.1, 0.2, 0.3]
    assert document["machine"]["load_after"] is None
    assert (document["machine"]["pace_before"], document["machine"]["pace_after"]) == (14.23, 6.18)


def test_the_table_has_the_same_in_one_line_each() -> None:
    """Who is compared with whom, how far the rounds lay apart, what was met and what was not."""
    text = as_text(report())

    [line] = [line for line in text.splitlines() if line.startswith("engine")]
    for cell in ("500,000", "400,000..600,000", ">= 400,000: met", "0.35", "0.30..0.40", "limit (<= 0.25: NOT MET)"):
        assert cell in line
    assert "0.10 0.20 0.30 before, unknown after" in text
    assert "14.2 million rounds a second before, 6.2 after" in text


def test_both_files_are_written_over_those_before(tmp_path: Path) -> None:
    """The folder is made; a name stands for the last run under it."""
    folder = tmp_path / "results"
    write(report(), folder)

    document, table = write(report(), folder)

    assert sorted(folder.iterdir()) == [document, table]
    assert json.loads(document.read_text())["name"] == "some"
    assert table.read_text() == as_text(report())
