"""How commands end: their exit codes, and an error's one line.

A code says what somebody, or a script, can do next. They are part of the contract: none changes its meaning.
"""

from __future__ import annotations

from enum import IntEnum

from cnstra.orchestrator.errors import (
    AccessRefused,
    BrokerAway,
    CnstraError,
    ConfigurationError,
    ContextError,
    DataRefused,
    GraphError,
    PayloadError,
    PolicyError,
    QueryError,
    RunNotFound,
    RunStateError,
    SchemaError,
    SendError,
    StoreUnavailable,
    SubmitError,
)


class Exit(IntEnum):
    """The exit codes of every command."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NOT_COMPLETED = 3
    NOT_FOUND = 4
    CONFIGURATION = 5
    REFUSED = 6
    AWAY = 7
    CUT_SHORT = 8
    INTERRUPTED = 130


MEANINGS = {
    Exit.DONE: "done; of a worker: every running handler had ended",
    Exit.FAILED: "failed in a way that no other code names; of doctor and health: not healthy",
    Exit.USAGE: "the command line cannot be understood",
    Exit.NOT_COMPLETED: "the run that was waited for has not completed: it ended otherwise, or not in time",
    Exit.NOT_FOUND: "no such run is stored",
    Exit.CONFIGURATION: "APP, a URL, the address for probes, the database's schema or its role cannot be used; "
    "another try gives the same",
    Exit.REFUSED: "bad input, or a run whose status forbids it: nothing was changed",
    Exit.AWAY: "a server cannot be reached; try again later",
    Exit.CUT_SHORT: "a worker ended before its handlers did; others take their work over",
    Exit.INTERRUPTED: "interrupted from the keyboard",
}

_CODES: tuple[tuple[Exit, tuple[type[CnstraError], ...]], ...] = (
    (Exit.NOT_FOUND, (RunNotFound,)),
    (Exit.CONFIGURATION, (ConfigurationError, GraphError, SchemaError, AccessRefused)),
    (
        Exit.REFUSED,
        (SubmitError, SendError, PayloadError, PolicyError, ContextError, RunStateError, DataRefused, QueryError),
    ),
    (Exit.AWAY, (StoreUnavailable, BrokerAway)),
)


class EndedWith(CnstraError):
    """What another process of ours ended with: its error's line, and its exit code."""

    def __init__(self, message: str, code: Exit) -> None:
        super().__init__(message)
        self.code = code


def code_of(error: BaseException) -> Exit:
    """The exit code that an error comes to."""
    if isinstance(error, EndedWith):
        return error.code
    return next((code for code, kinds in _CODES if isinstance(error, kinds)), Exit.FAILED)


def line_of(error: BaseException) -> str:
    """An error in one line: the message of one of ours, the type too of any other."""
    text = " ".join(str(error).split())
    if isinstance(error, CnstraError) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
