"""The demo, by its command, on real purchases: it proves what it claims, it can fail to, and it leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import psutil
import psycopg
import pytest

from cnstra.servers import hold
from support.commands import cnstra, command_line, environment_of
from support.folders import temporary_home
from support.holders import processes_of
from support.waiting import eventually

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
ORDERS = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A demo that has ended, in a home whose servers still run."""

    home: Path
    code: int
    out: str
    err: str


def environment(home: Path, **more: str) -> dict[str, str]:
    """What the demo and the proof are run with."""
    return environment_of(None, {"CNSTRA_HOME": str(home), **more})


@pytest.fixture(scope="module")
def shown() -> Iterator[Shown]:
    """The demo of a small share of the purchases: through the crash, the flush and the retry, to the proof."""
    with temporary_home() as home:
        done = subprocess.run(
            command_line(["demo"]),
            env=environment(home, CNSTRA_DEMO_ORDERS=str(ORDERS), CNSTRA_DEMO_KEEP="1"),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        yield Shown(home=home, code=done.returncode, out=done.stdout, err=done.stderr)


@pytest.fixture
def ledger(shown: Shown) -> Iterator[psycopg.Connection]:
    """A connection to the demo's database; what a test changes there in its block is put back."""
    with hold(shown.home) as held, psycopg.connect(held.database_url, autocommit=True) as connection:
        connection.execute("create temporary table kept as table bank.ledger")
        yield connection
        connection.execute("truncate bank.ledger")
        connection.execute("insert into bank.ledger overriding system value table kept")


def prove(shown: Shown) -> subprocess.CompletedProcess[str]:
    """The proof, once more, as a command of its own."""
    return subprocess.run(
        [sys.executable, "-m", "order_saga.prove", "--orders", str(ORDERS)],
        cwd=EXAMPLES,
        env=environment(shown.home),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_every_purchase_is_charged_once_through_a_crash_a_flush_and_a_retry(
    shown: Shown, ledger: psycopg.Connection
) -> None:
    """The command ends with 0 and says why; and the ledger, asked by the test itself, agrees."""
    assert shown.code == 0, shown.out + shown.err
    assert "SIGKILL to worker" in shown.out
    assert "FLUSHALL" in shown.out
    assert "✓ 5 runs have failed: those with a card that the bank declines" in shown.out
    assert "5 runs retried" in shown.out
    assert "✗" not in shown.out
    assert "PROVED: every purchase was charged exactly once." in shown.out

    lines = (shown.home / "demo" / "CDNOW_sample.txt").read_text().split("\n")[:ORDERS]
    bought = [(number, Decimal(line.split()[4])) for number, line in enumerate(lines, start=1)]
    assert ledger.execute("select number, amount from bank.ledger order by number").fetchall() == bought
    runs = "select status, attempt, count(*) from cnstra.runs group by status, attempt order by attempt"
    assert ledger.execute(runs).fetchall() == [("completed", 1, ORDERS - 5), ("completed", 2, 5)]
    row = ledger.execute("select sum(asked) > count(*) from bank.ledger").fetchone()
    assert row == (True,), "answers were lost, so the bank must have been asked again for the same charges"


@pytest.mark.parametrize(
    ("tampering", "difference"),
    [
        ("delete from bank.ledger where number = 7", "not charged: purchase 7 by customer"),
        (
            "insert into bank.ledger (key, batch, number, customer, day, amount) "
            "select key || ' again', batch, number, customer, day, amount from bank.ledger where number = 7",
            "charged, and should not have been: purchase 7 by customer",
        ),
        ("update bank.ledger set amount = amount + 0.01 where number = 7", "in the file"),
        ("update bank.ledger set day = day + 31 where number = 7", "0 in the ledger"),
    ],
    ids=["a charge is missing", "a charge is doubled", "a cent too much", "another month"],
)
def test_the_proof_fails_when_the_ledger_is_not_what_was_bought(
    shown: Shown, ledger: psycopg.Connection, tampering: str, difference: str
) -> None:
    """A proof that could not fail would prove nothing: one wrong charge among all of them is found and named."""
    assert prove(shown).returncode == 0

    ledger.execute(tampering.encode())

    failed = prove(shown)
    assert failed.returncode == 1
    assert "NOT PROVED" in failed.stdout
    assert difference in failed.stdout


def test_the_commands_that_the_demo_ends_with_can_be_given(shown: Shown) -> None:
    """What it says about going on is true: the run that it names can be shown, and the query asked."""
    *_, show = re.findall(r"cnstra (show \S+)", shown.out)
    (query,) = re.findall(r"cnstra sql '(.*)'", shown.out)

    here = {"CNSTRA_HOME": str(shown.home)}
    assert cnstra(*show.split(), environment=here).code == 0
    assert "payment" in cnstra("sql", query, environment=here).out


def test_the_picture_in_the_readme_is_that_of_the_graph() -> None:
    """The README shows the graph that the example has, as the command draws it."""
    drawn = cnstra("graph", "order_saga.graph:cns", folder=EXAMPLES).out

    assert f"```mermaid\n{drawn}```" in (EXAMPLES / "order_saga" / "README.md").read_text()


@contextmanager
def begun(home: Path, file: Path) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A demo that is in the midst of its work, and the ids of its workers."""
    with subprocess.Popen(
        command_line(["demo"]),
        env=environment(home, CNSTRA_DEMO_FILE=str(file)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as demo:
        assert demo.stdout is not None
        workers: list[int] = []
        try:
            for line in demo.stdout:
                workers += map(int, re.findall(r"ready, as process (\d+)", line))
                if "submitted" in line:
                    break
            assert len(workers) == 2
            yield demo, workers
        finally:
            demo.kill()
            for worker in workers:
                with suppress(ProcessLookupError):  # it has ended, as it should
                    os.killpg(worker, signal.SIGKILL)


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 128 + signal.SIGTERM), (signal.SIGKILL, -signal.SIGKILL)],
)
def test_a_demo_that_is_stopped_leaves_no_worker_and_no_server_behind(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    """Whether it can clean up or not: its processes end with it."""
    file = tmp_path / "purchases.txt"
    file.write_text("".join(f"{customer:05} 0001 19970101 1 10.00\n" for customer in range(3_000)))
    with temporary_home() as home, begun(home, file) as (demo, workers):
        os.kill(demo.pid, number)
        assert demo.wait(120) == code

        eventually(lambda: not any(map(psutil.pid_exists, workers)), what="the workers have ended")
        eventually(lambda: not processes_of(home), what="the servers have stopped")
