"""The option ``--debug``, which may stand before a command or among its options."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import typer

_asked = False


def debugging() -> bool:
    """Whether tracebacks are wanted."""
    return _asked


def _ask(wanted: bool) -> bool:
    global _asked  # read where an error ends the program, when there is no context any more
    _asked = _asked or wanted
    return wanted


Debug = Annotated[
    bool,
    typer.Option(
        "--debug", envvar="CNSTRA_DEBUG", callback=_ask, is_eager=True, help="Show the traceback of an error."
    ),
]


def with_debug(command: Callable[..., Any]) -> Callable[..., Any]:
    """The command with one more option, ``--debug``."""

    @wraps(command)
    def run(**options: Any) -> Any:
        del options["debug"]
        return command(**options)

    signature = inspect.signature(command, eval_str=True)
    debug = inspect.Parameter("debug", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Debug)
    changed = signature.replace(parameters=[*signature.parameters.values(), debug])
    run.__signature__ = changed  # type: ignore[attr-defined]
    run.__annotations__ = {name: parameter.annotation for name, parameter in changed.parameters.items()}
    return run
