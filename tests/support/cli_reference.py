"""The generated part of the page about the command line: what the commands say of themselves.

``python -m support.cli_reference``, in the folder ``tests``, writes it anew; a test holds the page against it. Made of the
commands' own data, not of their help's layout, which differs from one release of typer to the next.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import typer.main

from cnstra.cli.program import app
from cnstra.exits import MEANINGS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "cli.md"
BEGIN = "<!-- from here on generated: cd tests && python -m support.cli_reference -->\n"


def commands() -> dict[str, Any]:
    """Every command by its name, in the order of the help."""
    return dict(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


def options_of(command: Any) -> list[Any]:
    """Its options, without its arguments and ``--help``."""
    return [given for given in command.params if given.param_type_name == "option" and "--help" not in given.opts]


def arguments_of(command: Any) -> list[Any]:
    """Its arguments."""
    return [given for given in command.params if given.param_type_name == "argument"]


def generated() -> str:
    """The generated part."""
    return BEGIN + "\n" + "\n".join([*_exit_codes(), *_commands()]).rstrip() + "\n"


def _exit_codes() -> Iterator[str]:
    yield "## Exit codes\n"
    yield "| code | meaning |\n|---|---|"
    for code, meaning in MEANINGS.items():
        yield f"| {int(code)} | {meaning} |"
    yield ""


def _commands() -> Iterator[str]:
    for name, command in commands().items():
        arguments = arguments_of(command)
        yield f"## cnstra {name}\n"
        yield "```text\n" + " ".join(["cnstra", name, *(given.metavar for given in arguments), "[OPTIONS]"]) + "\n```\n"
        yield _prose(command.help) + "\n"
        if arguments:
            yield "| argument | meaning |\n|---|---|"
            for given in arguments:
                yield f"| `{given.metavar.strip('[]')}` | {given.help} |"
            yield ""
        yield "| option | environment | default | meaning |\n|---|---|---|---|"
        for given in options_of(command):
            yield f"| {_shown(given)} | `{given.envvar}` | {_default(given)} | {given.help} |"
        yield ""


def _prose(text: str) -> str:
    return "\n\n".join(" ".join(part.split()) for part in text.replace("\b", "").split("\n\n")).replace("--", r"\--")


def _shown(option: Any) -> str:
    return f"`{option.opts[0]}`" if option.is_flag else f"`{option.opts[0]} {option.metavar}`".replace("|", r"\|")


def _default(option: Any) -> str:
    if option.is_flag or option.default in (None, [], ()):
        return ""
    return f"`{option.default.value if isinstance(option.default, Enum) else option.default}`"


if __name__ == "__main__":
    written = PAGE.read_text().partition(BEGIN)[0]
    PAGE.write_text(written + generated())
