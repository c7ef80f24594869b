"""Where a worker's log lines go: to standard error, each with time, level, logger and message; as a line of text, or of JSON.

The time is UTC. Whatever a library puts into a message, the passwords of servers are not shown. In JSON, what a line is about has
fields of its own: whoever logs gives the work itself, and not its text. structlog renders both, so that an application's own
loggers of that kind come out the same way.
"""

from __future__ import annotations

import json
import logging
import math
import re
import sys
import threading
import traceback
from collections.abc import Iterable, MutableMapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote, urlsplit

import structlog
from structlog.processors import ExceptionRenderer, JSONRenderer, StackInfoRenderer
from structlog.stdlib import PositionalArgumentsFormatter, ProcessorFormatter

from cnstra.orchestrator.context import ABOUT, SEVERAL
from cnstra.orchestrator.run_context import Identity
from cnstra.orchestrator.store import Work
from cnstra.running.orders import Form
from cnstra.workers.calling import told

_log = logging.getLogger("cnstra.worker")

Said = MutableMapping[str, Any]

# They report every attempt to reach a server that is away; ours say once that it is, and once that it is back.
_CHATTY = {"psycopg.pool": logging.ERROR, "dramatiq": logging.WARNING}


def set_up(level: str, *, urls: Iterable[str], form: Form = "text") -> None:
    """Log from ``level`` on. A root logger that has handlers already is left alone but for its level, and so is a structlog that
    is configured already."""
    name_runs()
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = _thread_ended
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _unraisable
    root = logging.getLogger()
    root.setLevel(level.upper())
    for name, quiet in _CHATTY.items():
        logging.getLogger(name).setLevel(max(quiet, root.level))
    if root.handlers:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter(urls, form=form))
    root.addHandler(handler)
    if not structlog.is_configured():
        structlog.configure(
            processors=[
                structlog.stdlib.filter_by_level,
                structlog.contextvars.merge_contextvars,
                PositionalArgumentsFormatter(),
                StackInfoRenderer(),
                ProcessorFormatter.wrap_for_formatter,
            ],
            logger_factory=structlog.stdlib.LoggerFactory(),
            wrapper_class=structlog.stdlib.BoundLogger,
            cache_logger_on_first_use=True,
        )


def formatter(urls: Iterable[str], *, form: Form) -> logging.Formatter:
    """Of records of the standard library, and of structlog's. ``urls`` are those whose passwords are not to be shown."""
    secrets = sorted({secret for url in urls for secret in _secrets(url)}, key=len, reverse=True)

    def covered(_logger: Any, _method: str, text: Any) -> Any:
        for secret in secrets:
            text = text.replace(secret, "***")
        return text

    render = _as_object if form == "json" else _as_text
    return _Formatter(processors=[ExceptionRenderer(_as_told), render, covered])


class _Formatter(ProcessorFormatter):
    def format(self, record: logging.LogRecord) -> str:
        # What is not handed on: the arguments, which tell of whom a line is, and an exception that came as text alone.
        _named(record)
        if record.exc_text and not record.exc_info:
            vars(record)[_TOLD] = record.exc_text
        return super().format(record)


def _as_text(_logger: Any, _method: str, said: Said) -> str:
    """A line for people; names that structlog was given with values stand behind the message."""
    record: logging.LogRecord = said.pop("_record")
    said.pop("_from_structlog")
    behind = _behind(record, said)
    text = f"{_time(record).replace('T', ' ')} {record.levelname} {record.name}: {said.pop('event')}"
    text += "".join(f" {name}={value!r}" for name, value in said.items())
    return "\n".join([text, *behind.values()])


def _as_object(logger: Any, method: str, said: Said) -> str | bytes:
    """One JSON object: what all lines have, what this one is about, and what else it was given."""
    record: logging.LogRecord = said.pop("_record")
    behind = _behind(record, said)
    line = {
        "time": _time(record),
        "level": record.levelname,
        "logger": record.name,
        "message": said.pop("event"),
        "pid": record.process,
        **{name: vars(record)[name] for name in _ABOUT if name in vars(record)},
        **behind,
    }
    if not said.pop("_from_structlog"):
        said = {name: value for name, value in vars(record).items() if name not in _USUAL and _is_field(value)}
    return _JSON(logger, method, {**line, **{name: value for name, value in said.items() if name not in line}})


_JSON = JSONRenderer(ensure_ascii=False)


def _behind(record: logging.LogRecord, said: Said) -> dict[str, str]:
    """What has lines of its own: an exception, and a stack that was asked for, by either kind of logger."""
    found = {
        "exception": said.pop("exception", None) or vars(record).get(_TOLD),
        "stack": said.pop("stack_info", None) or said.pop("stack", None),
    }
    return {name: text for name, text in found.items() if text}


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _is_field(value: Any) -> bool:
    """Whether it is shown as it is: of an object nobody knows what its text tells."""
    return isinstance(value, str) or (isinstance(value, int | float) and math.isfinite(value))


def name_runs() -> None:
    """Have each of our records say what it is about in attributes of its own, where handlers of any kind look for fields."""
    for name in _OURS:
        logger = logging.getLogger(name)
        if _named not in logger.filters:
            logger.addFilter(_named)


def _unraisable(raised: Any) -> None:
    """Something was raised where nobody can catch it, in what a handler or a library has left to be cleaned up."""
    if raised.exc_value is not None:
        _log.error("what was left to be cleaned up raised %s", told(raised.exc_value))


def _thread_ended(ended: threading.ExceptHookArgs) -> None:
    """A thread was ended by what it raised: Python would print it as it is, between the lines. What a handler's own thread says
    may quote data."""
    name, error = ended.thread.name if ended.thread is not None else "?", ended.exc_value
    if name.startswith("cnstra-"):
        _log.critical("thread %s has ended", name, exc_info=error)
    elif error is not None and not isinstance(error, SystemExit):
        _log.error("thread %r, which a handler or a library had begun, has ended with %s", name, told(error))


def let_be_heard() -> None:
    """To be called when the application's module is loaded: ``logging.config`` in it silences the loggers that were there before,
    unless it is told not to, and ours were."""
    for name, logger in logging.root.manager.loggerDict.items():
        if name.startswith("cnstra.") and isinstance(logger, logging.Logger):
            logger.disabled = False


_OURS = ("cnstra.worker", "cnstra.supervisor", "cnstra.handler")


def _named(record: logging.LogRecord) -> bool:
    for name, value in _about(record).items():
        vars(record).setdefault(name, value)
    return True


_IN_OPTIONS = re.compile(r"password=(?:'((?:[^'\\]|\\.)*)'|([^\s&']+))")


# What Postgres adds to an error may quote a row, a part of a value, or the statement with its parameters.
_QUOTED = re.compile(
    r"^(?:DETAIL|CONTEXT|QUERY|LINE \d+):.*?(?=^HINT:|^The above exception|^During handling of|^\s*$|\Z)",
    re.MULTILINE | re.DOTALL,
)


def _as_told(exc_info: Any) -> str:
    return _QUOTED.sub("", "".join(traceback.format_exception(*exc_info)).rstrip("\n"))


_ABOUT = ("run_id", "activation_id", "neuron", "attempt", "try_number", SEVERAL)
_TOLD = "cnstra_exception_told"
_USUAL = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", ABOUT, _TOLD}


def _about(record: logging.LogRecord) -> dict[str, Any]:
    """Which run, and which activation of it, a line is about: by the work, or the identity, that was given to be logged."""
    given = [getattr(record, ABOUT, None), *(record.args if isinstance(record.args, tuple) else ())]
    work = next((one for one in given if isinstance(one, Work | Identity)), None)
    if work is None:
        return {}
    return {
        "run_id": str(work.run_id),
        "activation_id": work.activation_id,
        "neuron": work.neuron,
        "attempt": work.attempt,
        "try_number": work.try_number,
    }


def _secrets(url: str) -> set[str]:
    found = {quoted or plain for quoted, plain in _IN_OPTIONS.findall(url)}
    for one in (url, *url.split(";")):  # several nodes of a broker may stand side by side
        with suppress(ValueError):  # some that libpq takes are no URLs to Python
            found.add(urlsplit(one).password or "")
    # Shorter ones would also be found in words that are no secret, and tell by what is missing.
    texts = {text for password in found for text in (password, unquote(password)) if len(text) > 3}
    return texts | {json.dumps(text, ensure_ascii=False)[1:-1] for text in texts}
