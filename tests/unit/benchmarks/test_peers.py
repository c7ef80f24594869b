"""The peers' side of the durable suite: environments that fit their pins, questions that arrive, answers read with distrust.

No peer is installed here, and no server runs: what the programs make of their peers is not tested, what is said between them
and the benchmark is.
"""

from __future__ import annotations

import ast
import fcntl
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.measuring import WrongResult
from benchmarks.peers import environments, taking
from benchmarks.peers.environments import PROGRAMS, Unprepared, folder, prepare, requirements, version
from benchmarks.peers.programs import crew as crews
from benchmarks.peers.programs.crew import crew, wait_until
from benchmarks.peers.programs.speaking import WORKLOADS, Asked, Best, Wrong, answer, must_be, per_second
from benchmarks.peers.roster import PEERS, Peer
from benchmarks.peers.taking import Servers, Taken, Work, command, run, understood, with_database

SLEEPS = ["timeit", "-n1", "-r1", "import time; time.sleep(60)"]
"""A module that may be run as a worker, and does not end by itself."""


@pytest.fixture
def peer() -> Peer:
    return PEERS[0]


# -- who they are --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("each", PEERS, ids=lambda each: each.name)
def test_each_peer_has_a_program_and_pins_all_it_needs(each: Peer) -> None:
    """A figure of today can be taken again with the same versions."""
    lines = requirements(each.name).read_text().splitlines()

    assert (PROGRAMS / f"{each.name}.py").exists()
    assert all("==" in line for line in lines if line and not line.startswith("#"))
    assert version(each.name)


def test_no_two_peers_empty_the_same_database() -> None:
    """What one left behind is never found by another."""
    assert len({each.broker_database for each in PEERS}) == len(PEERS)


@pytest.mark.parametrize("name", ["../__init__", "__init__", "speaking", "crew", "__main__"])
def test_what_programs_share_needs_the_standard_library_only(name: str) -> None:
    """It is imported where neither CNStra nor what it depends on is installed."""
    tree = ast.parse((PROGRAMS / f"{name}.py").read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}

    strangers = {name for name in imported if name.partition(".")[0] not in sys.stdlib_module_names}
    assert {name for name in strangers if not name.startswith("benchmarks.peers.programs")} == set()


# -- environments --------------------------------------------------------------------------------------------------


@pytest.fixture
def pins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The requirements of a peer that does not exist."""
    file = tmp_path / "some.txt"
    file.write_text("# what it is\nsome==1.2\n\nother==3\n")
    monkeypatch.setattr(environments, "PROGRAMS", tmp_path)
    return file


def test_an_environment_is_named_for_its_requirements_and_its_python(
    pins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever changes a pin, or the Python, never measures the old versions."""
    before = folder("some", tmp_path)
    assert before == folder("some", tmp_path)

    pins.write_text("some==1.3\n")
    other_pins = folder("some", tmp_path)
    monkeypatch.setattr("platform.python_version", lambda: "4.0.0")
    other_python = folder("some", tmp_path)

    assert len({before, other_pins, other_python}) == 3


def test_the_version_is_the_pinned_one(pins: Path) -> None:
    """Not that of something else in the file."""
    assert version("some") == "1.2"

    pins.write_text("something==1\n")
    with pytest.raises(Unprepared, match="does not pin some"):
        version("some")


class Commands:
    """Stands for ``subprocess.run``: remembers, and fails from the one that is to fail on."""

    def __init__(self, *, fails: str = "") -> None:
        self.given: list[list[str]] = []
        self._fails = fails

    def __call__(self, command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        self.given.append(command)
        if "venv" in command:
            Path(command[-1]).mkdir(parents=True)
        failed = self._fails in command
        return subprocess.CompletedProcess(command, int(failed), "", "no index\n" if failed else "")


def test_an_environment_is_made_once(pins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the requirements beside the program; git sees nothing of it."""
    commands = Commands()
    monkeypatch.setattr(subprocess, "run", commands)

    python = prepare("some", tmp_path / "cache")
    again = prepare("some", tmp_path / "cache")

    assert python == again == folder("some", tmp_path / "cache") / "bin" / "python"
    assert [command[1:3] for command in commands.given] == [["-m", "venv"], ["-m", "pip"]]
    assert commands.given[1][-1] == str(pins)
    assert (tmp_path / "cache" / ".gitignore").read_text() == "*\n"


def test_an_environment_that_was_not_finished_is_made_again(
    pins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of what is pinned would be found by nobody until a program fails."""
    monkeypatch.setattr(subprocess, "run", Commands(fails="install"))
    with pytest.raises(Unprepared, match=r"some could not be made.*no index"):
        prepare("some", tmp_path / "cache")

    commands = Commands()
    monkeypatch.setattr(subprocess, "run", commands)
    prepare("some", tmp_path / "cache")

    assert len(commands.given) == 2


# -- what is asked, and answered -----------------------------------------------------------------------------------


def ask(monkeypatch: pytest.MonkeyPatch, arguments: list[str], figures: list[float]) -> tuple[int, Asked]:
    """A program that takes these figures, called with these arguments; its exit code, and what it was asked."""
    asked: list[Asked] = []

    def measure(given: Asked) -> list[float]:
        asked.append(given)
        return figures

    best = dict.fromkeys(WORKLOADS, Best(way="slow", processes=2, threads=8))
    monkeypatch.setattr(sys, "argv", ["program", *arguments])
    status = answer("pytest", {"slow": "it walks", "quick": "it runs"}, best, measure)
    return status, asked[0]


def test_what_is_asked_arrives(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line of the benchmark is the one that programs read; what it leaves open is the best."""
    work = Work(workload="fans", size=30, repetitions=2)
    python, dash_m, module, name, *arguments = command(Path("/venv/bin/python"), peer, work)

    _, asked = ask(monkeypatch, arguments, [1.0, 2.0])

    assert [python, dash_m, module, name] == ["/venv/bin/python", "-m", "benchmarks.peers.programs", peer.name]
    assert asked == Asked(workload="fans", size=30, repetitions=2, processes=2, threads=8, way="slow")


def test_what_is_answered_is_understood(
    peer: Peer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Figures, the version, and the words of the configuration that took them."""
    arguments = ["line", "--repetitions", "2", "--way", "quick", "--processes", "1", "--threads", "3"]
    status, _ = ask(monkeypatch, arguments, [1.5, 2.5])

    taken = understood(peer, Work(workload="line", repetitions=2), status, capsys.readouterr().out, "")

    assert taken == Taken(
        peer=f"pytest {pytest.__version__}",
        figures=(1.5, 2.5),
        configuration="it runs; 1 processes, 3 at once in each",
    )


def test_a_program_with_a_hole_in_its_figures_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It prints no document at all."""
    status, _ = ask(monkeypatch, ["line", "--repetitions", "2"], [1.5])

    output = capsys.readouterr()
    assert (status, output.out) == (1, "")
    assert output.err.splitlines()[-1] == "pytest: Wrong: 2 figures were asked for, and 1 taken"


def test_a_program_whose_runs_came_to_something_else_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last line on stderr says what, and is what the benchmark quotes."""

    def measure(_: Asked) -> list[float]:
        must_be("the sum", 44, 45)
        return [1.0]

    monkeypatch.setattr(sys, "argv", ["program", "fans"])
    status = answer("pytest", {"slow": ""}, {"fans": Best(way="slow", processes=1, threads=1)}, measure)

    output = capsys.readouterr()
    assert (status, output.out) == (1, "")
    with pytest.raises(WrongResult, match=r"ended with 1: pytest: Wrong: the sum should be 45, and is 44"):
        understood(PEERS[0], Work(workload="fans"), status, output.out, output.err)


def document(**changes: object) -> str:
    """A whole answer, but for the changes; None leaves a field out."""
    whole = {"peer": "some 1", "figures": [2.0], "checked": True, "configuration": "as it comes", **changes}
    return json.dumps({name: value for name, value in whole.items() if value is not None})


@pytest.mark.parametrize(
    "output",
    [
        "",
        "no document",
        "[]",
        document(checked=None),
        document(checked=False),
        document(checked=1),
        document(peer=None),
        document(figures=None),
        document(figures=[]),
        document(figures=[1.0, 2.0]),
        document(figures=["fast"]),
        document(figures=[0]),
        document(figures=[float("nan")]),
        document(figures=[float("inf")]),
    ],
)
def test_an_answer_that_is_not_whole_is_refused(peer: Peer, output: str) -> None:
    """No figure without a check, and none that nobody asked for."""
    assert understood(peer, Work(workload="chains"), 0, document(), "").figures == (2.0,)

    with pytest.raises(WrongResult, match="dbos, chains"):
        understood(peer, Work(workload="chains"), 0, output, "")


def test_a_program_that_died_without_a_word_is_refused(peer: Peer) -> None:
    """As when it was killed; what it printed before counts for nothing."""
    with pytest.raises(WrongResult, match="ended with -9: no word of why"):
        understood(peer, Work(workload="chains"), -9, document(), "")


def test_a_contestant_takes_the_median(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    """It names the version, and says what is durable and how it was configured."""
    monkeypatch.setattr(environments, "prepare", lambda _: Path("/venv/bin/python"))
    monkeypatch.setattr(
        taking, "figures", lambda *_: Taken(peer="some 1", figures=(3.0, 9.0, 4.0), configuration="as it comes")
    )
    servers = Servers(database_url="postgresql://localhost/cnstra", broker_url="redis://localhost/0")

    made = taking.contestant(peer, Work(workload="line", repetitions=3), servers)

    assert made.take() == 4.0
    assert made.name == f"dbos {version('dbos')}"
    assert peer.best in made.says


@pytest.mark.parametrize("amounts", [{"size": 0}, {"repetitions": 0}])
def test_work_that_is_none_is_refused(amounts: dict[str, int]) -> None:
    """There is no figure of nothing."""
    with pytest.raises(ValueError, match="at least 1"):
        Work(workload="chains", **amounts)


def test_steps_are_counted_as_the_workload_has_them() -> None:
    """Five of a chain; a scatter, ten members and a gather of a fan."""
    assert per_second("chains", 100, 2.0) == 250
    assert per_second("fans", 100, 2.0) == 600


def test_a_peer_is_given_another_database_of_the_same_server() -> None:
    """User, password and options stay."""
    assert (
        with_database("postgresql://u:p@h:5/cnstra?sslmode=off", "peer_x") == "postgresql://u:p@h:5/peer_x?sslmode=off"
    )
    assert with_database("redis://:p@h:6/0", "12") == "redis://:p@h:6/12"


# -- processes -----------------------------------------------------------------------------------------------------


def test_nobody_of_a_program_is_left(tmp_path: Path) -> None:
    """A program that dies leaves its workers; whoever ran it does not wait for them, and ends them."""
    lock = tmp_path / "lock"
    worker = (
        f"import fcntl, time; f = open({str(lock)!r}, 'w'); fcntl.flock(f, 2); print('up', flush=True); time.sleep(60)"
    )
    program = (
        "import os, subprocess, sys\n"
        f"w = subprocess.Popen([sys.executable, '-c', {worker!r}], stdout=subprocess.PIPE)\n"
        "w.stdout.readline(); print('said'); sys.stdout.flush(); print('why', file=sys.stderr); os._exit(3)"
    )

    status, output, errors = run([sys.executable, "-c", program], {})

    assert (status, output, errors) == (3, "said\n", "why\n")
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # granted once the worker is gone


def test_a_program_that_does_not_end_is_ended() -> None:
    """It has no figure."""
    with pytest.raises(WrongResult, match=r"given up after 0\.1 s"):
        run([sys.executable, "-m", *SLEEPS], {}, patience=0.1)


def test_workers_are_ended_when_the_work_fails() -> None:
    """Whatever was raised between."""
    with pytest.raises(Wrong, match="the work"), crew([SLEEPS, SLEEPS]) as workers:
        raise Wrong("the work")

    assert [worker.returncode is None for worker in workers] == [False, False]


def test_a_dead_worker_is_not_waited_for() -> None:
    """The program fails at once, and says so."""
    with crew([["timeit", "-n1", "-r1", "import os; os._exit(7)"]]) as workers:
        workers[0].wait()
        with pytest.raises(Wrong, match=r"the first messages: a worker ended with 7"):
            wait_until(lambda: False, "the first messages", workers)


def test_work_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that got lost would be waited for forever."""
    monkeypatch.setattr(crews, "PATIENCE", 0.0)

    with pytest.raises(Wrong, match="the last of the results: given up"):
        wait_until(lambda: False, "the last of the results")
