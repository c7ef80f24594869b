"""A database's URL: what of it is for libpq, and what is ours.

Ours is ``pooler=transaction``: a pooler in transaction mode, such as pgbouncer, stands between. Each transaction may go to
another server connection, so nothing may rest on a session: what is prepared by name, options that are sent at the start,
what SET leaves behind. Whatever needs a setting takes it along in its own transaction.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import psycopg
from psycopg.conninfo import conninfo_to_dict

from cnstra.orchestrator.errors import ConfigurationError

_OURS = "pooler"
_MODES = ("transaction",)
_URL = re.compile(r"postgres(?:ql)?://")
_WORDS = re.compile(r"\s*(\w+)\s*=\s*('(?:[^'\\]|\\.)*'|(?:[^\s\\]|\\.)*)")
"""What stands in ``host=… dbname=…``, the other form that libpq takes."""
_SETTING = re.compile(r"-c (\w+)=(\S+)")

DECLARE = (
    f"if a pooler in transaction mode, such as pgbouncer, is in between, add {_OURS}=transaction to the database's URL"
)
"""What to do where a session is not what it seems."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a database is, as libpq takes it, and whether a pooler in transaction mode is in between."""

    url: str = field(repr=False)
    pooled: bool

    def parts(self) -> dict[str, Any]:
        """What it says, by libpq's names. Raises ``ConfigurationError`` where libpq cannot read it."""
        try:
            return conninfo_to_dict(self.url)
        except psycopg.Error:  # its text may quote the password
            raise ConfigurationError(
                "the database's URL cannot be used: it is to read postgresql://user:password@host:port/database; "
                "special characters in a password must be percent-encoded, and what stands after the ? must be libpq's"
            ) from None

    def starting_with(self, *options: str) -> dict[str, Any]:
        """How psycopg is to begin a session: with these settings and the URL's own, which go first. A pooler refuses ours, so
        they are left to the transactions, and none of its server connections is to know a statement by a name."""
        given = self.parts().get("options")
        together = " ".join(str(part) for part in (*(() if self.pooled else options), given) if part)
        return {"options": together} | ({"prepare_threshold": None} if self.pooled else {})

    def of_primary(self) -> dict[str, str]:
        """How libpq is to find the server that takes writes, where our own session does not: that would be taken for the server's
        doing, and none be found. Nothing where the URL does not ask for such a server."""
        return {"target_session_attrs": "primary"} if self.parts().get("target_session_attrs") == "read-write" else {}

    def taken_along(self, *options: str) -> dict[str, list[str]] | None:
        """The settings that each transaction takes along, as parameters of ``take_along``; None where the session has them."""
        if not self.pooled:
            return None
        settings = [setting for option in options for setting in _SETTING.findall(option)]
        return {"names": [name for name, _ in settings], "values": [value for _, value in settings]}


def address_of(database_url: str) -> Address:
    """What the URL says to whom. Raises ``ConfigurationError`` for a mode of the pooler that there is not."""
    plain, modes = (_of_url if _URL.match(database_url) else _of_words)(database_url)
    for mode in modes:
        if mode not in _MODES:
            raise ConfigurationError(
                f"the database's URL says {_OURS}={mode}: it can be {_OURS}=transaction, which is right in session mode, too; "
                "a pooler in statement mode cannot be used, as operations are transactions"
            )
    return Address(url=plain, pooled=bool(modes))


def _of_url(url: str) -> tuple[str, list[str]]:
    place, mark, options = url.partition("?")
    ours, theirs = [], []
    for option in options.split("&"):
        name, _, value = option.partition("=")
        if name == _OURS:
            ours.append(unquote(value))
        else:
            theirs.append(option)
    if not ours:
        return url, []
    return place + (mark + "&".join(theirs) if theirs else ""), ours


def _of_words(words: str) -> tuple[str, list[str]]:
    """From its beginning on, word by word: a password may contain anything. What is no word is left to libpq to refuse."""
    ours, theirs, at = [], [], 0
    while found := _WORDS.match(words, at):
        if found[1] == _OURS:
            ours.append(found[2].strip("'"))
        else:
            theirs.append(found[0])
        at = found.end()
    return "".join([*theirs, words[at:]]), ours
