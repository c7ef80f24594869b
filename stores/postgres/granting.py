"""Group roles with the rights that workers, clients and readers need, and no more.

What each may do stands in ``sql/roles.sql``. The groups cannot log in: users are made by whoever administers the server, and
put into one. Once they are there, migrations give them what is new.
"""

from __future__ import annotations

import re
from typing import Any

import psycopg

from cnstra.orchestrator.errors import ConfigurationError, SchemaError
from cnstra.stores.postgres.statements import sql_text, statements

_PREFIX = re.compile(r"(?!pg_)[a-z_][a-z0-9_]{0,55}")
_GROUP = re.compile(r"\b(WORKER|CLIENT|READER)\b")


def groups(prefix: str) -> dict[str, str]:
    """The names of the groups. Raises ``ConfigurationError`` for a prefix that makes no names which need no quotes."""
    if not _PREFIX.fullmatch(prefix):
        raise ConfigurationError(
            f"{prefix!r} cannot begin the names of roles: lower-case letters, digits and underscores, no digit first, not pg_, "
            "56 characters at most"
        )
    return {group: f"{prefix}_{group.lower()}" for group in ("WORKER", "CLIENT", "READER")}


def script(prefix: str) -> str:
    """The statements that make the groups, where they are missing, and give them their rights, whatever they had before."""
    names = groups(prefix)
    return _GROUP.sub(lambda group: names[group[1]], sql_text("roles.sql"))


def grant(connection: psycopg.Connection[Any], prefix: str | None) -> None:
    """Carry that out, in the transaction of a migration: for the groups of the prefix, and for those that have rights already.

    Raises ``SchemaError`` where the role of the connection may not.
    """
    known = {name for (name,) in connection.execute(statements()["prefixes_of_groups"].encode())}
    for one in sorted(known | ({prefix} if prefix is not None else set())):
        try:
            connection.execute(script(one).encode())
        except psycopg.errors.InsufficientPrivilege as error:
            raise SchemaError(
                f"the roles {', '.join(groups(one).values())} cannot be made, or given rights, by this role: "
                f"{error.diag.message_primary}; an administrator can: cnstra migrate --roles {one} --print-roles"
            ) from error
