"""Where a worker's log lines go: to standard error, one line each, with time, level, logger and message.

The time is UTC. Whatever a library puts into a message, the passwords of the two servers are not shown.
"""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from urllib.parse import unquote, urlsplit

# They report every attempt to reach a server that is away; ours say once that it is, and once that it is back.
_CHATTY = {"psycopg.pool": logging.ERROR, "dramatiq": logging.WARNING}


def set_up(level: str, *, urls: Iterable[str]) -> None:
    """Log from ``level`` on. A root logger that has handlers already is left alone but for its level."""
    root = logging.getLogger()
    root.setLevel(level.upper())
    for name, quiet in _CHATTY.items():
        logging.getLogger(name).setLevel(max(quiet, root.level))
    if not root.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(_Lines(urls))
        root.addHandler(handler)


_IN_OPTIONS = re.compile(r"password=([^\s&']+)")


class _Lines(logging.Formatter):
    default_msec_format = "%s.%03dZ"

    def __init__(self, urls: Iterable[str]) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self.converter = time.gmtime
        self._secrets = sorted({secret for url in urls for secret in _secrets(url)}, key=len, reverse=True)

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


def _secrets(url: str) -> set[str]:
    found = set(_IN_OPTIONS.findall(url))
    for one in (url, *url.split(";")):  # several nodes of a broker may stand side by side
        with suppress(ValueError):  # some that libpq takes are no URLs to Python
            found.add(urlsplit(one).password or "")
    # Shorter ones would also be found in words that are no secret, and tell by what is missing.
    return {text for password in found for text in (password, unquote(password)) if len(text) > 3}
