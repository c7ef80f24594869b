"""Every code block of the README and of the documentation does what its page says.

A test is a reader who pastes the blocks of one page, in order, beginning in an empty folder: ``python`` blocks into one
prompt, or into a file where the first line is ``# file: shop.py``; ``pycon`` sessions likewise, held against what they
show; ``sh`` blocks into one terminal, where ``cnstra worker … &`` runs on in the background; ``console`` blocks there, too,
with what each command prints; ``sql`` blocks at the prompt of the page's database. The servers are real: an empty database
with the schema and an empty broker, named in the environment. A page that says ``cnstra up`` gets neither, and starts its
own. One that makes its Postgres by ``initdb`` is read by the user that this may run as.

Blocks of ``make`` commands belong to a clone of the repository, and are not run: the targets must exist.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from cnstra.servers import down
from support.folders import delete_home, new_home
from support.pages import ROOT, RUN, SHOWN, Block, blocks, pages, reader

PAGES = pages()


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def with_blocks(wanted: str) -> list[Path]:
    """The pages that have a block with this property."""
    return [page for page in PAGES if any(getattr(block, wanted) for block in blocks(page))]


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder, short of path, which the account that runs the servers can pass through."""
    path = new_home()
    try:
        yield path
    finally:
        for lock in path.rglob("supervisor.lock"):
            down(lock.parent)
        delete_home(path)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_says_what_it_is(page: Path) -> None:
    """A block without a language, or of one that nobody runs, could say anything."""
    strange = [str(block) for block in blocks(page) if block.language not in RUN | SHOWN]

    assert strange == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_code_hides_in_a_directive(page: Path) -> None:
    """Code that is no fenced block would not be run."""
    assert not re.search(r"\{(code|code-block|code-cell|literalinclude|sourcecode)\}", page.read_text())


@pytest.mark.parametrize("page", with_blocks("makes"), ids=name_of)
def test_every_make_target_exists(page: Path) -> None:
    """What a page tells to make can be made. The targets themselves are too long to run here, and run in the CI."""
    targets = set(re.findall(r"^([\w -]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    known = {name for names in targets for name in names.split()}

    for block in blocks(page):
        if block.makes:
            assert make_targets(block) <= known, f"{block}: the Makefile has only {sorted(known)}"


def make_targets(block: Block) -> set[str]:
    """The targets of a block that is made of nothing but ``make`` commands, and of entering the environment they made."""
    found = set()
    for line in block.code.splitlines():
        command = line.partition("#")[0].strip()
        if command and command != ". .venv/bin/activate":
            assert command.startswith("make "), f"{block}: {line!r} is not make; give it a block of its own"
            found |= {word for word in command.split()[1:] if "=" not in word}
    return found


@pytest.mark.parametrize("page", with_blocks("runs"), ids=name_of)
def test_a_reader_who_pastes_the_blocks_succeeds(page: Path, folder: Path, request: pytest.FixtureRequest) -> None:
    """Nothing fails, in the order of the page, on real servers."""
    found = blocks(page)
    environment = {}
    if any(block.needs_servers for block in found) and not any(block.starts_servers for block in found):
        environment = {
            "CNSTRA_DATABASE_URL": request.getfixturevalue("database_url"),
            "CNSTRA_BROKER_URL": request.getfixturevalue("broker_url"),
        }

    with reader(folder, environment, makes_postgres=any(block.makes_postgres for block in found)) as pasting:
        for block in found:
            if block.runs:
                pasting.paste(block)
