"""What the reference pages list is what there is: names, parameters, columns, variables, errors; and links lead somewhere.

Each list is compared in both directions, so that neither a page nor the code can get ahead of the other.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints
from unittest.mock import Mock
from uuid import UUID

import psycopg
import pytest
from typing_extensions import Unpack

import cnstra
from cnstra import testing
from cnstra.orchestrator import errors
from cnstra.stores import InMemoryContextStore, PostgresContextStore, RedisContextStore, reactive
from cnstra.testing import fixtures
from support.pages import ROOT, pages

REFERENCE = ROOT / "docs" / "reference"
OTHERS = [ROOT / "ARCHITECTURE.md", ROOT / "CHANGELOG.md"]


def sections(page: Path) -> dict[str, str]:
    """The text of a page by its headings of the second level."""
    parts = re.split(r"^## (.+)$", page.read_text(), flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def table(text: str) -> dict[str, list[str]]:
    """The rows of the tables in a text, by what stands between backticks in the first cell."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| `")
    ]
    return {name: row[1:] for row in rows for name in re.findall(r"`([^`]+)`", row[0])}


# -- the views -----------------------------------------------------------------------------------------------------

COLUMNS = """
    select c.relname, a.attname, replace(format_type(a.atttypid, a.atttypmod), 'timestamp with time zone', 'timestamptz')
    from pg_attribute a
    join pg_class c on c.oid = a.attrelid and c.relkind = 'v' and c.relnamespace = 'cnstra'::regnamespace
    where a.attnum > 0
    order by c.relname, a.attnum
"""


def test_the_page_of_the_views_has_every_column_with_its_type(database_url: str) -> None:
    """In the order of the view, nothing missing and nothing made up."""
    found: dict[str, list[tuple[str, str]]] = {}
    with psycopg.connect(database_url) as connection:
        for view, column, kind in connection.execute(COLUMNS):
            found.setdefault(f"cnstra.{view}", []).append((column, kind))

    described = {
        view: [(column, cells[0]) for column, cells in table(text).items()]
        for view, text in sections(REFERENCE / "sql-views.md").items()
    }
    assert described == found


# -- Python --------------------------------------------------------------------------------------------------------

ENTRY = re.compile(r"^`(\w+)(\(.*\))?`$", re.MULTILINE)
IN_PROCESS: dict[str, Any] = {
    "Stimulation": cnstra.Stimulation,
    "Response": cnstra.Response,
    "Drain": cnstra.Drain,
    "Task": cnstra.Task,
    "Failure": cnstra.Failure,
    "StimulationGate": cnstra.StimulationGate,
}
THINGS: dict[str, list[Any]] = {
    "Orchestrator": [cnstra.Orchestrator, cnstra.AsyncOrchestrator],
    "Run": [cnstra.Run(UUID(int=0), Mock()), cnstra.AsyncRun(UUID(int=0), Mock())],  # instances: they have attributes
    "RunResult": [cnstra.RunResult],
    "Written": [cnstra.Written],
    "Mirror": [cnstra.Mirror, cnstra.AsyncMirror],
    "Context": [cnstra.Context],
    "Context stores": [InMemoryContextStore, PostgresContextStore, RedisContextStore],
}


def parameters(method: Callable[..., Any]) -> set[str]:
    """The parameters of a method, without types and defaults; options by their names."""
    names: set[str] = set()
    for parameter in list(inspect.signature(method, eval_str=True).parameters.values())[1:]:
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            assert get_origin(parameter.annotation) is Unpack
            [options] = get_args(parameter.annotation)
            names |= set(get_type_hints(options))
        else:
            names.add(parameter.name)
    return names


def members(thing: Any) -> dict[str, set[str] | None]:
    """The public members of a class or an instance; of methods, the parameters."""
    found = {name: inspect.getattr_static(thing, name) for name in dir(thing) if not name.startswith("_")}
    return {name: parameters(member) if inspect.isfunction(member) else None for name, member in found.items()}


def described(text: str) -> dict[str, set[str] | None]:
    """The same as a section of the page has it."""
    return {
        name: set(re.findall(r"(\w+)(?:=[^,)]*)?", signature)) if signature else None
        for name, signature in ENTRY.findall(text)
    }


def own_members(thing: type) -> dict[str, set[str] | None]:
    """What a kind of index has in addition to what all share."""
    shared = members(reactive.Index(reactive.Collection("id"), "any"))
    return {name: found for name, found in members(thing).items() if name not in shared}


def test_the_page_of_the_reactive_database_has_every_member_with_its_parameters() -> None:
    """Of everything that is exported, nothing missing and nothing made up."""
    kinds = [reactive.SetIndex, reactive.OrderedIndex, reactive.DerivedSetIndex, reactive.DerivedOrderedIndex]
    collection = reactive.Collection[Any, Any]("id")
    things = {
        "Collection": members(collection),
        "Index": members(reactive.Index(collection, "any")),
        "Database": members(reactive.Database()),
        **{kind.__name__: own_members(kind) for kind in kinds},
        **{
            thing.__name__: members(thing)
            for thing in (
                reactive.ImmediateScheduler,
                reactive.ManualScheduler,
                reactive.AsyncioScheduler,
                reactive.ContextRecord,
                reactive.ReactiveContextStore,
            )
        },
    }
    page = sections(REFERENCE / "reactive.md")

    assert {heading: described(text) for heading, text in page.items()} == things
    assert {*things, "Scheduler"} == set(reactive.__all__)


@pytest.mark.parametrize("heading", THINGS)
def test_the_page_of_the_api_has_every_member_with_its_parameters(heading: str) -> None:
    """Nothing missing and nothing made up; async twins have the same."""
    shown = described(sections(REFERENCE / "python-api.md")[heading])

    for thing in THINGS[heading]:
        assert shown == members(thing)


@pytest.mark.parametrize("heading", IN_PROCESS)
def test_the_page_of_stimulations_has_every_member_with_its_parameters(heading: str) -> None:
    """As on the page of the API."""
    assert described(sections(REFERENCE / "in-process.md")[heading]) == members(IN_PROCESS[heading])


def test_the_page_of_the_test_kit_has_every_member_with_its_parameters() -> None:
    """What labs have beyond the clients, in both colours; and every exported name."""
    page = REFERENCE / "testing.md"
    call = {field.name: None for field in dataclasses.fields(testing.HandlerCall)}
    found = {heading: described(text) for heading, text in sections(page).items()}

    for lab, client in ((testing.Lab, cnstra.Orchestrator), (testing.AsyncLab, cnstra.AsyncOrchestrator)):
        beyond = {name: what for name, what in members(lab).items() if name not in members(client) or name == "close"}
        assert found["Lab"] == beyond
    for run, handle in ((testing.LabRun, cnstra.Run), (testing.AsyncLabRun, cnstra.AsyncRun)):
        assert found["LabRun"] == {name: what for name, what in members(run).items() if name not in members(handle)}
    assert found["HandlerCall"] == call
    assert [name for name in testing.__all__ if name not in page.read_text()] == []


def test_the_page_of_the_test_kit_has_every_fixture() -> None:
    """With its scope."""
    rows = table(sections(REFERENCE / "testing.md")["Fixtures"])
    given = {name: value for name, value in vars(fixtures).items() if name.startswith("cnstra_")}

    assert {name: cells[0] for name, cells in rows.items()} == {
        name: fixture._fixture_function_marker.scope for name, fixture in given.items()
    }


def test_every_exported_name_is_described() -> None:
    """Whatever ``from cnstra import …`` gives has its place in the reference."""
    names = ("python-api.md", "graph.md", "in-process.md", "errors.md")
    text = "".join((REFERENCE / name).read_text() for name in names)
    described = set(re.findall(r"\w+", text))

    assert [name for name in cnstra.__all__ if name not in described] == []


def test_the_page_of_errors_has_every_error() -> None:
    """The whole tree, and no error that was renamed."""
    found = {
        name
        for name, cls in vars(errors).items()
        if isinstance(cls, type) and issubclass(cls, Exception) and name[0] != "_"
    }

    assert set(table((REFERENCE / "errors.md").read_text())) == found


# -- settings ------------------------------------------------------------------------------------------------------


def test_the_page_of_settings_has_every_variable() -> None:
    """Every variable that the code knows, and no other."""
    sources = [
        path for folder in ("src/cnstra", "workers", "stores", "orchestrator") for path in (ROOT / folder).rglob("*.py")
    ]
    found = {name for path in sources for name in re.findall(r"\bCNSTRA_[A-Z_]*[A-Z]\b", path.read_text())}

    assert set(re.findall(r"`(CNSTRA_\w+)`", (REFERENCE / "settings.md").read_text())) == found


# -- links and paths -----------------------------------------------------------------------------------------------

LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)(?:#[^)]*)?\)")
PATH = re.compile(r"`((?:tests|orchestrator|stores|workers|src|docs|deploy|examples)/[\w./-]+)`")


@pytest.mark.parametrize("page", [*pages(), *OTHERS], ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_and_every_path_leads_somewhere(page: Path) -> None:
    """A file that was moved takes its mentions along."""
    text = page.read_text()
    missing = [target for target in LINK.findall(text) if not (page.parent / target).exists()]
    missing += [path for path in PATH.findall(text) if not (ROOT / path).exists()]

    assert missing == []


GUARANTEES = ROOT / "docs" / "explanation" / "guarantees.md"
PROMISED = {heading.partition(":")[0]: text for heading, text in sections(GUARANTEES).items() if heading[0] == "G"}


@pytest.mark.parametrize("number", PROMISED)
def test_the_first_test_of_every_guarantee_tries_to_break_it(number: str) -> None:
    """The file that stands first under a guarantee has tests that are named after it."""
    first = (GUARANTEES.parent / LINK.findall(PROMISED[number])[0]).resolve()

    assert re.search(rf"(_{number.lower()}_|\b{number}\b)", first.read_text())


# -- the architecture ----------------------------------------------------------------------------------------------

ARCHITECTURE = ROOT / "ARCHITECTURE.md"
PARTS = (
    "orchestrator",
    "workers",
    "stores",
    "src/cnstra/cli",
    "src/cnstra/running",
    "src/cnstra/servers",
    "src/cnstra/testing",
)
SOURCES = [*(ROOT / "src" / "cnstra").glob("*.py"), *(path for part in PARTS for path in (ROOT / part).rglob("*.py"))]


def test_the_architecture_has_every_room() -> None:
    """Each folder with its files, in both directions: who adds a file says what it is for."""
    described = {
        folder.rstrip("/"): set(re.findall(r"`(\w+\.py)`", "".join(re.findall(r"^- (.*?):", text, re.MULTILINE))))
        for folder, text in re.findall(
            r"^### `(.+?)`\n(.*?)(?=^##)", ARCHITECTURE.read_text(), re.MULTILINE | re.DOTALL
        )
    }
    found: dict[str, set[str]] = {}
    for path in SOURCES:
        if path.name != "__init__.py":
            found.setdefault(str(path.parent.relative_to(ROOT)), set()).add(path.name)

    assert described == found


def test_every_name_of_the_architecture_exists() -> None:
    """``function()``, ``Class.method()`` and ``Class`` are defined where the code is."""
    functions, classes = set[str](), dict[str, set[str]]()
    for tree in (ast.parse(path.read_text()) for path in SOURCES):
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                functions.add(node.name)
            elif isinstance(node, ast.ClassDef):
                classes.setdefault(node.name, set()).update(
                    inner.name for inner in node.body if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef)
                )
    text = ARCHITECTURE.read_text()
    named = re.findall(r"`(?:(\w+)\.)?(\w+)\(\)`", text)

    assert [name for owner, name in named if name not in (classes.get(owner, set()) if owner else functions)] == []
    assert [name for name in re.findall(r"`([A-Z][a-z]\w+)`", text) if name not in classes] == []
