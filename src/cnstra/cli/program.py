"""The program: its commands under one name, and how each of them ends.

An error is one line on standard error, and an exit code that says what can be done; the traceback is for ``--debug``.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated

import typer

from cnstra.cli.commands import add_to
from cnstra.cli.debugging import Debug, debugging
from cnstra.exits import MEANINGS, Exit, code_of, line_of
from cnstra.orchestrator.errors import CnstraError

_EXIT_CODES = "\b\nExit codes:\n" + "\n".join(f"{code:>5}  {meaning}" for code, meaning in MEANINGS.items())

app = typer.Typer(
    name="cnstra",
    help="Durable sagas on a message broker: state in Postgres, doorbells on Redis.",
    epilog=_EXIT_CODES,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
add_to(app)


def _version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"cnstra {version('cnstra')}\n")
        raise typer.Exit


@app.callback()
def _program(
    debug: Debug = False,
    show_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version, and end.")
    ] = False,
) -> None:
    """Options that stand before the command."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; the exit code."""
    try:
        code = app(args=arguments, prog_name="cnstra", standalone_mode=False)
        sys.stdout.flush()
        return int(code or Exit.DONE)
    except BrokenPipeError:
        return _unread()
    except SystemExit as ended:
        if not isinstance(ended.__context__, BrokenPipeError):  # which typer makes an exit of
            raise
        return _unread()
    except (KeyboardInterrupt, typer.Abort):
        return Exit.INTERRUPTED
    except Exception as error:
        return _ended_by(error)


def _unread() -> Exit:
    """Who reads the output has seen enough; the interpreter must not try to flush the rest of it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return Exit.DONE


def _ended_by(error: Exception) -> int:
    format_message = getattr(error, "format_message", None)
    if callable(format_message):  # the command line's own; its classes have moved from one release of typer to the next
        text = str(format_message())
        if "\n" in text:  # the help, for a command line without a command
            sys.stderr.write(text.rstrip() + "\n")
        else:
            _complain(f"{text.rstrip('.')}; see {_command_of(error)} --help")
        return int(getattr(error, "exit_code", Exit.USAGE))
    if debugging():
        traceback.print_exception(error)
    code = code_of(error)
    expected = isinstance(error, CnstraError) or debugging()
    _complain(line_of(error) + ("" if expected else "; --debug shows the traceback"))
    return code


def _command_of(error: Exception) -> str:
    return str(getattr(getattr(error, "ctx", None), "command_path", "cnstra"))


def _complain(text: str) -> None:
    sys.stderr.write(f"cnstra: {' '.join(text.split())}\n")
