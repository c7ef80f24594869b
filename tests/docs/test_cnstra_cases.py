"""The page of CNStra's cases is complete and true: every case has a test that exists, or a reason."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from support.pages import ROOT

PAGE = ROOT / "docs" / "reference" / "cnstra-cases.md"
DIFFERENCES = ROOT / "docs" / "explanation" / "differences-from-cnstra.md"
SECTIONS = re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL)
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def rows(text: str) -> list[list[str]]:
    """The rows of a section's table, as cells."""
    lines = [line for line in text.splitlines() if line.startswith("| ")][1:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@cache
def names_in(path: str) -> frozenset[str]:
    """The names of the tests in a file."""
    tree = ast.parse(Path(ROOT, path).read_text())
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    return frozenset(node.name for node in tree.body if isinstance(node, kinds) and node.name.startswith("test_"))


def test_every_test_that_the_page_names_exists() -> None:
    """A test that was renamed or moved takes its mentions along."""
    named = TEST.findall(PAGE.read_text())

    assert named
    assert [f"{path}::{name}" for path, name in named if name not in names_in(path)] == []


@pytest.mark.parametrize(("heading", "text"), SECTIONS, ids=[heading for heading, _ in SECTIONS])
def test_a_section_has_as_many_cases_as_its_heading_says(heading: str, text: str) -> None:
    """No case is lost and none stands twice; one without a test has its reason beside it."""
    found = rows(text)
    cases = [cells[0] for cells in found]
    counted = re.search(r": (\d+) cases$", heading)

    assert len(set(cases)) == len(cases)
    assert counted is None or int(counted[1]) == len(cases)
    for cells in found:
        held_by, differs = (cells[-2], cells[-1]) if counted else (cells[-1], "")
        assert TEST.search(held_by) or (held_by == "none" and differs), f"{cells[0]} has neither a test nor a reason"


def test_every_source_is_on_the_page() -> None:
    """Ten files of tests, in three languages, and what is held beyond them."""
    assert [heading for heading, _ in SECTIONS][-1] == "Beyond those cases"
    assert len(SECTIONS) == 11
    assert sum(len(rows(text)) for _, text in SECTIONS[:-1]) == 133


def test_every_difference_that_the_page_links_to_is_explained() -> None:
    """The last column's links lead to headings, and every heading has a case that leads to it, or stands for itself."""
    headings = {
        re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^## (.+)$", DIFFERENCES.read_text(), re.MULTILINE)
    }
    linked = set(re.findall(r"differences-from-cnstra\.md#([\w-]+)", PAGE.read_text()))

    assert linked <= headings
