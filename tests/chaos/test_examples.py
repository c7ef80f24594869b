"""The examples at their full size, and with more accidents than a test of every run has time for."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.commands import Servers
from support.examples import play


@pytest.fixture
def both(database_url: str, broker_url: str) -> Servers:
    """A new database with the schema, and an empty broker."""
    return Servers(database_url=database_url, broker_url=broker_url)


@pytest.mark.chaos
def test_five_thousand_lines_are_imported_once_though_a_worker_dies(both: Servers, tmp_path: Path) -> None:
    """The example as its README has it."""
    ended = play("nightly_import", servers=both, home=tmp_path)

    print(ended.out)
    assert ended.code == 0, ended.out + ended.err
    assert "5,000 lines imported" in ended.out


@pytest.mark.chaos
@pytest.mark.parametrize("seed", range(6))
def test_the_agent_does_each_step_once_whenever_its_workers_die(both: Servers, tmp_path: Path, seed: int) -> None:
    """Five workers, one after the other, at other moments and with another service each time."""
    ended = play("agent_flow", "--seed", str(seed), "--kills", "5", servers=both, home=tmp_path)

    print(ended.out)
    assert ended.code == 0, f"seed {seed}\n{ended.out}{ended.err}"
