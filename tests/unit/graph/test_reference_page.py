"""The reference page of the graph is true: its blocks run from top to bottom and show what they say."""

from __future__ import annotations

import doctest
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "graph.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHOWN = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module for the page, because the types of fields are looked up in the module of their class."""
    module = ModuleType("reference_page")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


def test_every_block_of_the_page_runs(page: ModuleType) -> None:
    """Python blocks run in one namespace; sessions give the output and the errors that stand beneath them."""
    blocks = [(match[1], match[2]) for match in BLOCK.finditer(PAGE.read_text())]
    assert {language for language, _ in blocks} == {"python", "pycon"}
    runner = doctest.DocTestRunner(optionflags=SHOWN, verbose=False)
    report: list[str] = []
    for number, (language, source) in enumerate(blocks, start=1):
        if language == "python":
            exec(compile(source, f"{PAGE.name}, block {number}", "exec"), vars(page))
        else:
            session = doctest.DocTestParser().get_doctest(source, vars(page), f"block {number}", PAGE.name, 0)
            assert session.examples, f"block {number} shows nothing"
            runner.run(session, out=report.append, clear_globs=False)
    assert not report, "\n".join(report)
