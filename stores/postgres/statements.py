"""The store's SQL, by name. All of it stands in ``sql/``; no other file of the package holds a statement."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

_FILES = ("queries.sql", "limits.sql", "steps.sql", "diagnosis.sql")
_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)

# What a worker must know to run an activation: its dendrite, or that dendrite's compensation. Names hold no control
# characters, so the separator is unambiguous. An index has the same expression.
_SKILL = re.compile(r"\bSKILL\((\w+)\)")
_SKILL_SQL = r"\1.neuron || chr(31) || \1.collateral || case when \1.undo then chr(31) || 'undo' else '' end"

# What marks a ready activation that nothing of its run keeps back: see the column ``blocked``.
_UNBLOCKED = re.compile(r"\bUNBLOCKED\((\w+)\)")
_UNBLOCKED_SQL = r"case when \1.limited then 'limited' end"

# The doorbell of a ready activation: as ``ports.door`` has it.
_DOOR = re.compile(r"\bDOOR\((\w+)\)")
_DOOR_SQL = r"\1.queue || '@' || \1.graph"

# What is answered of a claim and of its run, as ``rows.works_of`` reads them.
_CLAIMED = re.compile(r"\bCLAIMED\((\w+)\)")
_CLAIMED_SQL = (
    r"\1.run_id, \1.activation_id, \1.epoch, \1.nonce, \1.neuron, \1.collateral, \1.queue, \1.payload::text, "
    r"\1.attempt, \1.tries, \1.failures, extract(epoch from CLOCK() - \1.first_try_at)::float8, \1.idled, \1.crashes, "
    r"\1.undo, \1.progress::text, \1.worker, \1.started_at, \1.compensable, \1.limited, \1.path is null"
)

_FACTS = re.compile(r"\bFACTS\((\w+)\)")
_FACTS_SQL = (
    r"\1.run_id, extract(epoch from CLOCK() - coalesce(\1.started_at, CLOCK()))::float8, \1.idled, \1.policy, \1.context_place, "
    r"\1.deadline_at, \1.context_version, "
    r"case when \1.outstanding = 1 and \1.status = 'running' and \1.failed = 0 and \1.ending is null and \1.alone is null "
    r"and \1.context_place is null then \1.xmin::text end, "
    r"\1.graph, \1.attempt, \1.last_activation, \1.last_finish, \1.undoable, \1.started_at, \1.last_group"
)

# A value in a form that no index has. What is looked up by its key must not be tempted by a small partial index, which
# the same condition would let it read from end to end: with statistics that lag behind, the planner thinks it empty.
_UNINDEXED = re.compile(r"\bUNINDEXED\((\w+\.\w+)\)")
_UNINDEXED_SQL = r"(\1 || '')"

# A value that equals another one, and of which the planner does not know it. Where a row of something is looked up for a run's
# row, it would else do so by the run alone, as equal to the run's own key, and pass over all other rows of the run.
_APART = re.compile(r"\bAPART\((\w+\.\w+)\)")
_APART_SQL = r"coalesce(\1, \1)"

# What an activation has begun. The child of a plain chain has the number after its parent's; the index has all others.
_CHILDREN = re.compile(r"\bCHILDREN\((\w+)\)")
_CHILDREN_SQL = (
    r"(select * from cnstra.activation where run_id = \1.run_id and activation_id = \1.activation_id + 1 "
    r"and parent_activation_id = \1.activation_id union all "
    r"select * from cnstra.activation where run_id = \1.run_id and parent_activation_id = \1.activation_id "
    r"and parent_activation_id <> activation_id - 1)"
)

# What a payload needs of a worker, behind the place of its context: nothing, or that it can open what is sealed, by the label of
# the envelope; as ``sealing.place_of`` has it.
_NEEDS = re.compile(r"\bNEEDS\((\w+\.\w+)\)")
_NEEDS_SQL = (
    r"""case when starts_with(\1, '{"$sealed":"') then chr(31) || split_part(substr(\1, 13, 65), ':', 1) else '' end"""
)

# Whether a run is among those that were chosen: as ``reading.chosen`` gives the choice.
_FITS = re.compile(r"\bFITS\((\w+)\)")
_FITS_SQL = (
    r"(%(graph)s::text is null or \1.graph = %(graph)s) "
    r"and (%(tags)s::jsonb is null or \1.tags @> %(tags)s::jsonb) "
    r"and (%(tag_key)s::text is null or \1.tags ? %(tag_key)s) "
    r"and (%(since)s::timestamptz is null or \1.submitted_at >= %(since)s) "
    r"and (%(before)s::timestamptz is null or \1.submitted_at < %(before)s)"
)

_MACROS = {
    _NEEDS: _NEEDS_SQL,
    _SKILL: _SKILL_SQL,
    _UNBLOCKED: _UNBLOCKED_SQL,
    _UNINDEXED: _UNINDEXED_SQL,
    _DOOR: _DOOR_SQL,
    _CLAIMED: _CLAIMED_SQL,
    _FACTS: _FACTS_SQL,
    _CHILDREN: _CHILDREN_SQL,
    _APART: _APART_SQL,
    _FITS: _FITS_SQL,
}

# Arrays side by side, as rows. Postgres would carry out each ``unnest`` of ``from unnest(a, b, …)`` by itself, into a store
# of its own, which takes longer than the rest of a small statement; those of a select list go in step.
_COLUMN = r"%\(\w+\)s::\w+\[\]"
_COLUMNS = re.compile(rf"\bunnest\(({_COLUMN}(?:,\s*{_COLUMN})+)\)\s*(\w+) \(([^)]*)\)")

# Another statement as a part of this one, its parameters with a prefix of their own.
_INCLUDE = re.compile(r"\bINCLUDE\((\w+), (\w+)\)")
_PARAMETER = re.compile(r"%\((\w+)\)s")
_MARK = re.compile(r"%%|" + _PARAMETER.pattern)


def sql_text(name: str) -> str:
    """The text of a file of the package's ``sql`` folder."""
    return resources.files(__package__).joinpath("sql", *name.split("/")).read_text(encoding="utf-8")


@cache
def statements(clock: str = "clock_timestamp()") -> Mapping[str, str]:
    """Every statement by its name, with ``clock`` (an SQL expression) as the store's clock."""
    parts = [part for file in _FILES for part in _NAME.split(sql_text(file))[1:]]
    found: dict[str, str] = {}
    for name, text in zip(parts[::2], parts[1::2], strict=True):
        if name in found:
            raise ValueError(f"two statements are named {name!r}")
        lines = [line for line in text.splitlines() if not line.startswith("--")]
        text = "\n".join(lines).strip()
        for macro, sql in _MACROS.items():
            text = macro.sub(sql, text)
        found[name] = _COLUMNS.sub(_in_step, text.replace("CLOCK()", clock))
    return {name: _INCLUDE.sub(lambda part: _included(found, part[1], part[2]), text) for name, text in found.items()}


def _in_step(columns: re.Match[str]) -> str:
    arrays, names = (re.split(r",\s*", columns[number]) for number in (1, 3))
    listed = ", ".join(f"unnest({array}) as {name}" for array, name in zip(arrays, names, strict=True))
    return f"(select {listed}) {columns[2]}"


def _included(found: Mapping[str, str], name: str, prefix: str) -> str:
    return _PARAMETER.sub(rf"%({prefix}_\1)s", found[name])


class Numbered(NamedTuple):
    """A statement as Postgres reads it, and the names of its parameters in the order of their numbers."""

    text: bytes
    names: tuple[str, ...]


@cache
def numbered(text: str) -> Numbered:
    """A statement with numbers in the place of names. psycopg does the same, each time anew where a text has 4 KB or more."""
    numbers: dict[str, int] = {}

    def number(mark: re.Match[str]) -> str:
        return "%" if mark[1] is None else f"${numbers.setdefault(mark[1], len(numbers) + 1)}"

    return Numbered(_MARK.sub(number, text).encode(), tuple(numbers))


def included(prefix: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a statement that another one includes under a prefix."""
    return {f"{prefix}_{name}": value for name, value in parameters.items()}
