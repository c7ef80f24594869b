"""The example of approvals and refunds, as its README says: real workers, one of which dies; the books add up, or it says so."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.commands import Servers, cnstra, environment_of

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

pytestmark = pytest.mark.past_the_pooler


def run_example(folder: Path, both: Servers, orders: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "order_approval", "--orders", str(orders)],
        cwd=folder,
        env=environment_of(both),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_the_books_add_up_though_a_worker_dies(both: Servers) -> None:
    """Orders of every kind, with the status that belongs to each; the sums are equal, and not empty."""
    told = run_example(EXAMPLES, both, 60)

    assert told.returncode == 0, told.stdout + told.stderr
    assert "SIGKILL to worker" in told.stdout
    assert "THE BOOKS ADD UP, to the cent and to the piece." in told.stdout
    rows = re.findall(r"^    (\S.*?)  +(\w+) +(\d+)$", told.stdout, flags=re.MULTILINE)
    statuses: dict[str, set[str]] = {}
    for kind, status, _ in rows:
        statuses.setdefault(kind, set()).add(status)
    assert len(statuses) == 11
    assert statuses["approved"] == statuses["small"] == {"completed"}
    undone = statuses.keys() - {"approved", "small", "cancelled at any time", "late"}
    assert [statuses[kind] for kind in undone] == [{"compensated"}] * 7
    assert statuses["late"] <= {"compensated", "failed"}  # failed, where it was too late even to begin
    assert sum(int(count) for *_, count in rows) == 60
    [sold], [till] = (re.findall(rf"{what} +([\d,.]+)", told.stdout) for what in ("sold ", "in the till"))
    assert sold == till != "0.00"


def test_it_ends_with_an_error_where_the_books_do_not_add_up(tmp_path: Path, both: Servers) -> None:
    """The same example with one thing wrong in its graph, that nothing is refunded: it is found, and named."""
    for name in ("order_approval", "order_saga"):
        shutil.copytree(EXAMPLES / name, tmp_path / name)
    graph, refund = tmp_path / "order_approval" / "graph.py", "provider.refund(order.id, key=ctx.idempotency_key)"
    assert refund in graph.read_text()
    graph.write_text(graph.read_text().replace(refund, "pass"))

    told = run_example(tmp_path, both, 20)

    assert told.returncode == 1, told.stdout + told.stderr
    assert "THE BOOKS DO NOT ADD UP." in told.stdout
    assert re.search(r"✗ .*cannot be shipped, compensated\): paid", told.stdout)
    assert re.search(r"✗ .*provider silent, compensated\): paid", told.stdout)


def test_the_picture_in_the_readme_is_that_of_the_graph() -> None:
    """As the command draws it."""
    drawn = cnstra("graph", "order_approval.graph:cns", folder=EXAMPLES).out

    assert f"```mermaid\n{drawn}```" in (EXAMPLES / "order_approval" / "README.md").read_text()
