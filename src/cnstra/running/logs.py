"""Where a worker's log lines go: to standard error, each with time, level, logger and message; as a line of text, or of JSON.

The time is UTC. Whatever a library puts into a message, the passwords of servers are not shown. In JSON, what a line is about has
fields of its own: whoever logs gives the work itself, and not its text.
"""

from __future__ import annotations

import json
import logging
import math
import re
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from cnstra.orchestrator.context import ABOUT, SEVERAL
from cnstra.orchestrator.run_context import Identity
from cnstra.orchestrator.store import Work

Form = Literal["text", "json"]

# They report every attempt to reach a server that is away; ours say once that it is, and once that it is back.
_CHATTY = {"psycopg.pool": logging.ERROR, "dramatiq": logging.WARNING}


def set_up(level: str, *, urls: Iterable[str], form: Form = "text") -> None:
    """Log from ``level`` on. A root logger that has handlers already is left alone but for its level."""
    name_runs()
    root = logging.getLogger()
    root.setLevel(level.upper())
    for name, quiet in _CHATTY.items():
        logging.getLogger(name).setLevel(max(quiet, root.level))
    if not root.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(_Objects(urls) if form == "json" else _Lines(urls))
        root.addHandler(handler)


def name_runs() -> None:
    """Have each of our records say what it is about in attributes of its own, where handlers of any kind look for fields."""
    for name in _OURS:
        logger = logging.getLogger(name)
        if _named not in logger.filters:
            logger.addFilter(_named)


_OURS = ("cnstra.worker", "cnstra.supervisor", "cnstra.handler")


def _named(record: logging.LogRecord) -> bool:
    for name, value in _about(record).items():
        vars(record).setdefault(name, value)
    return True


_IN_OPTIONS = re.compile(r"password=(?:'((?:[^'\\]|\\.)*)'|([^\s&']+))")


# What Postgres adds to an error may quote a row, or a part of a value.
_QUOTED = re.compile(
    r"^(?:DETAIL|CONTEXT):.*?(?=^HINT:|^The above exception|^During handling of|^\s*$|\Z)", re.MULTILINE | re.DOTALL
)


class _Lines(logging.Formatter):
    default_msec_format = "%s.%03dZ"

    def __init__(self, urls: Iterable[str]) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self.converter = time.gmtime
        self._secrets = sorted({secret for url in urls for secret in _secrets(url)}, key=len, reverse=True)

    def format(self, record: logging.LogRecord) -> str:
        return self._covered(super().format(record))

    def formatException(self, ei: Any) -> str:
        return _QUOTED.sub("", super().formatException(ei))

    def _covered(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


class _Objects(_Lines):
    """One JSON object a line."""

    default_time_format = "%Y-%m-%dT%H:%M:%S"

    def format(self, record: logging.LogRecord) -> str:
        said: dict[str, Any] = {
            "time": self.formatTime(record),
            "level": record.levelname,
            "logger": record.name,
            "message": self._covered(record.getMessage()),
            "pid": record.process,
            **_about(record),
            **({SEVERAL: vars(record)[SEVERAL]} if SEVERAL in vars(record) else {}),
        }
        if record.exc_info:
            said["exception"] = self._covered(self.formatException(record.exc_info))
        elif record.exc_text:
            said["exception"] = self._covered(record.exc_text)
        extras = {name: value for name, value in vars(record).items() if name not in _USUAL and name not in said}
        for name, value in extras.items():
            if isinstance(value, str):
                said[name] = self._covered(value)
            elif isinstance(value, int | float) and math.isfinite(value):
                said[name] = value
        return json.dumps(said, ensure_ascii=False)


_USUAL = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", ABOUT}


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
    return {text for password in found for text in (password, unquote(password)) if len(text) > 3}
