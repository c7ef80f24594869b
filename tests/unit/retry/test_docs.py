"""The pages about retries are true: what they recommend is let in, and their tables name what there is."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from cnstra.orchestrator import retry
from cnstra.orchestrator.retry import parts

DOCS = Path(__file__).parents[3] / "docs"
GUIDE = DOCS / "how-to" / "retry.md"
REFERENCE = DOCS / "reference" / "retry.md"


def blocks(page: Path, language: str) -> list[str]:
    """The fenced code of one language, in the order of the page."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def names_in_code(text: str) -> set[str]:
    return set(re.findall(r"`([a-z_]+)`", text))


@pytest.mark.parametrize("name", ["network_trouble", "temporary_trouble", "patient", "logged"])
def test_every_policy_of_the_guide_is_let_in(name: str) -> None:
    """What the guide recommends is not refused by the door."""
    [code] = [code for code in blocks(GUIDE, "python") if f"\n{name} = " in code]
    found: dict[str, Any] = {}
    exec(code, found)

    retry.check_policy(found[name], "the guide")


def test_the_guides_policy_of_a_run_can_travel() -> None:
    """It is given to submit, so it has to be data."""
    [code] = [code for code in blocks(GUIDE, "python") if "\nrun_policy = " in code]
    found: dict[str, Any] = {}
    exec(code, found)

    retry.from_data(retry.to_data(found["run_policy"], "the guide"), "the guide")


def test_the_data_in_the_reference_is_what_its_code_writes() -> None:
    """The format that is shown is the format that is stored."""
    [shown] = blocks(REFERENCE, "json")
    [code] = [code for code in blocks(REFERENCE, "python") if "stored = to_data" in code]
    found: dict[str, Any] = {}
    exec(code, found)

    assert json.loads(shown) == found["stored"]


@pytest.mark.parametrize("role", ["stop", "wait", "retry"])
def test_the_reference_names_every_strategy_that_can_travel(role: str) -> None:
    """No strategy is missing in the table, and none is there that would be refused."""
    [row] = re.findall(rf"^\| `{role}` \| (.*) \|$", REFERENCE.read_text(), re.MULTILINE)

    assert names_in_code(row) == {shape.name for shape in parts.SHAPES if shape.role == role}


def test_the_reference_names_every_public_name() -> None:
    """What the package exports is described."""
    described = REFERENCE.read_text()
    types = {"Outcome", "Verdict"}  # unions of the names that are described

    assert [name for name in retry.__all__ if name not in described and name not in types] == []
