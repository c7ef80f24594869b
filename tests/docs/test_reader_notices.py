"""The reader of the pages is no easy one: a block that does not do what its page says is noticed, and named."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from support.pages import PageError, blocks, reader
from support.waiting import eventually

FENCE = "`" * 3


def page(folder: Path, *fenced: tuple[str, str]) -> Path:
    """A page of these blocks, each with a language and its code."""
    path = folder / "page.md"
    path.write_text("".join(f"{FENCE}{language}\n{code}\n{FENCE}\n\n" for language, code in fenced))
    return path


def read(folder: Path, *fenced: tuple[str, str]) -> None:
    """Paste a page's blocks, as a reader would."""
    with reader(folder, {}) as pasting:
        for block in blocks(page(folder, *fenced)):
            pasting.paste(block)


@pytest.mark.parametrize(
    ("language", "code", "noticed"),
    [
        pytest.param("python", "assert 1 == 2", "AssertionError", id="python that raises"),
        pytest.param("python", "import warnings\nwarnings.warn('old')", "UserWarning: old", id="python that warns"),
        pytest.param("python", "raise SystemExit", "SystemExit", id="python that ends"),
        pytest.param("python", "# file: shop.py\ndef (", "invalid syntax", id="a file that is no python"),
        pytest.param("pycon", ">>> 1 + 1\n3", "Got:\n    2", id="a session with another result"),
        pytest.param("pycon", "1 + 1", "shows nothing", id="a session without a prompt"),
        pytest.param("sh", "false\ntrue", "a command of the block failed", id="a command that fails in the middle"),
        pytest.param("sh", "exit 0", "a command of the block failed", id="a terminal that is closed"),
        pytest.param("console", "$ echo one\ntwo", "prints\none", id="a command that prints something else"),
    ],
)
def test_a_block_that_lies_is_named(tmp_path: Path, language: str, code: str, noticed: str) -> None:
    """The error has the page, the line and what happened."""
    with pytest.raises(PageError) as raised:
        read(tmp_path, ("text", "before"), (language, code))

    assert f"page.md, line 6 ({language})" in str(raised.value)
    assert noticed in str(raised.value)


def test_blocks_share_a_folder_a_terminal_and_a_prompt(tmp_path: Path) -> None:
    """What one block makes, the next ones find: files, variables, the current folder, names."""
    read(
        tmp_path,
        ("sh", "mkdir shop\ncd shop\nexport CNSTRA_LEASE=7"),
        ("python", "# file: prices.py\napple = 3"),
        ("python", "import os\nfrom prices import apple"),
        ("pycon", ">>> apple, os.environ['CNSTRA_LEASE'], os.path.basename(os.getcwd())\n(3, '7', 'shop')"),
        ("console", "$ ls *.py; echo $CNSTRA_LEASE\nprices.py\n…"),
    )


def test_what_a_page_leaves_running_ends_with_it(tmp_path: Path) -> None:
    """A worker in the background goes on between blocks, and no longer than its page."""
    read(tmp_path, ("sh", "sleep 1000 &\necho $! >pid"), ("sh", "kill -0 $(cat pid)"))

    pid = int((tmp_path / "work" / "pid").read_text())
    eventually(lambda: not runs(pid), what="the process is gone")


def runs(pid: int) -> bool:
    """Whether a process is there, and not only its entry."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_block_without_an_end_is_noticed(tmp_path: Path) -> None:
    """Else the rest of the page would be part of it."""
    path = tmp_path / "page.md"
    path.write_text(f"{FENCE}python\nx = 1\n")

    with pytest.raises(PageError, match="has no end"):
        blocks(path)
