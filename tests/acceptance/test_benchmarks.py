"""``python -m benchmarks``, as ``make bench-quick`` calls it, at sizes of a few hops."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import __main__ as command
from benchmarks import suites
from benchmarks.measuring import Contestant, Race, WrongResult
from support.pages import ROOT


def test_a_quick_run_writes_every_figure(tmp_path: Path) -> None:
    """From the root of a clone: exit code 0, a table, and a document with a figure of each contestant in each round."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "benchmarks",
            "--quick",
            "--without-peers",
            "--scale",
            "0.001",
            "--rounds",
            "2",
            "--results",
            str(tmp_path),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    [document], [table] = tmp_path.glob("*.json"), tmp_path.glob("*.txt")
    assert table.read_text() == done.stdout
    found = json.loads(document.read_text())
    assert [suite["name"] for suite in found["suites"]] == list(suites.SUITES)
    contestants = [each for suite in found["suites"] for race in suite["races"] for each in race["contestants"]]
    assert contestants
    for contestant in contestants:
        assert len(contestant["figure"]["samples"]) == 2
        assert min(contestant["figure"]["samples"]) > 0
        assert contestant["name"] in done.stdout
    goals = [each["figure"]["goal"]["at_least"] for each in contestants if each["figure"]["goal"]]
    assert {800_000, 10_000, 8_000} <= set(goals) <= {800_000, 400_000, 10_000, 8_000}
    assert {"processor", "cores", "python", "load_before", "load_after"} <= set(found["machine"])


def test_a_wrong_result_fails_the_command_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A table with figures of work that was not done would be worse than none."""

    def take() -> float:
        raise WrongResult("a hop is missing")

    race = Race(name="r", unit="u", contestants=(Contestant(name="spoiled", says="a test", take=take),))
    suite = suites.Suite(says="a test", races=lambda _: iter([race]))
    monkeypatch.setattr(command, "SUITES", {"spoiled": suite})

    code = command.main(["--results", str(tmp_path)])

    assert code == 1
    assert "a hop is missing; nothing was written" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
