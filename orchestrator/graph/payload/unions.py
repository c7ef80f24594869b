"""Unions: a member is found by its Python type on the way out, by the look of its JSON on the way in.

Refused, when the type is declared: members whose JSON could be taken for each other (``str | datetime``,
``list | set``, two dataclasses without a key that tells them apart), because a value would come back as the
wrong one.
"""

from __future__ import annotations

from decimal import Decimal
from itertools import combinations
from typing import Any

from cnstra.orchestrator.graph.payload.coder import (
    ALL_KINDS,
    INTEGER,
    NUMBER,
    OBJECT,
    Coder,
    Misfit,
    Profile,
    Unsupported,
    kind_of,
    type_name,
)
from cnstra.orchestrator.graph.payload.finite import FiniteSet

_ADVICE = (
    "give each a field such as kind: Literal['a'] with its own value, or a required field that the other "
    "does not have; or use one collateral for each type"
)


class Union:
    """``A | B``."""

    exact_class = None

    def __init__(self, members: tuple[Coder, ...]) -> None:
        self.members = _flat(members)
        self.expected = " | ".join(dict.fromkeys(member.expected for member in self.members))
        self.kinds = frozenset[str]().union(*(member.kinds for member in self.members))

    def prepare(self) -> None:
        """Refuse members that cannot be told apart; called once the records among them know their fields."""
        for one, other in combinations(self.members, 2):
            shared = one.kinds & other.kinds
            if shared and not _told_apart(one, other, shared):
                raise Unsupported(
                    f"{one.expected} and {other.expected} look alike in JSON, so a value could come back as "
                    f"the other; {_ADVICE}"
                )

    def fits(self, value: Any, /) -> bool:
        return any(member.fits(value) for member in self.members)

    def encode(self, value: Any) -> Any:
        for member in self.members:
            if member.fits(value):
                encoded = member.encode(value)
                if type(encoded) is float and INTEGER in self.kinds:
                    _refuse_if_read_as_another_integer(encoded)
                return encoded
        raise Misfit(f"must be {self.expected}, got {type_name(value)}")

    def decode(self, value: Any) -> Any:
        kind = kind_of(value)
        found = [member for member in self.members if kind in member.kinds]
        if len(found) > 1:
            found = _pick(found, value)
        if kind == INTEGER and not any(_takes_integer(member, value) for member in found):
            # jsonb gives a large integral float back as an integer.
            found = [member for member in self.members if NUMBER in member.kinds] or found
        if len(found) != 1:
            what = f"matches {len(found)} of" if found else "must be"
            raise Misfit(f"{what} {self.expected}, got {kind}")
        return found[0].decode(value)

    def describe(self, seen: set[int], /) -> str:
        return "|".join(sorted(member.describe(seen) for member in self.members))


def _refuse_if_read_as_another_integer(value: float) -> None:
    # jsonb keeps the decimal digits that Python writes: 1e23 becomes the integer 10**23, which no float is.
    if value.is_integer() and Decimal(repr(value)) != value:
        raise Misfit(f"is the float {value!r}, which would be read back as an int; declare float alone")


def _flat(members: tuple[Coder, ...]) -> tuple[Coder, ...]:
    out: list[Coder] = []
    for member in members:
        out.extend(member.members if isinstance(member, Union) else (member,))
    # int before float: an int given to int | float must stay one.
    return tuple(sorted(dict.fromkeys(out), key=lambda member: member.kinds == {NUMBER}))


def _told_apart(one: Coder, other: Coder, shared: frozenset[str]) -> bool:
    if one.kinds == ALL_KINDS or other.kinds == ALL_KINDS:
        return False
    if isinstance(one, FiniteSet) and isinstance(other, FiniteSet):
        return not one.meets(other)
    if shared == {OBJECT}:
        mine, theirs = _profile(one), _profile(other)
        return mine is not None and theirs is not None and _keys_differ(mine, theirs)
    return False


def _keys_differ(one: Profile, other: Profile) -> bool:
    for key in one.constants.keys() & other.constants.keys():
        if not one.constants[key] & other.constants[key]:
            return True
    return bool(one.required - other.known or other.required - one.known)


def _pick(members: list[Coder], value: Any) -> list[Coder]:
    if not isinstance(value, dict):
        return [m for m in members if isinstance(m, FiniteSet) and m.recognises(value)]
    able = [m for m in members if _could_be(_profile(m), value)]
    # Of two that could be meant, the one that needs a key which the other does not know is meant.
    return [m for m in able if not any(_needs_more(other, m) for other in able if other is not m)]


def _takes_integer(member: Coder, value: int) -> bool:
    return not isinstance(member, FiniteSet) or member.recognises(value)


def _could_be(profile: Profile | None, value: dict[str, Any]) -> bool:
    if profile is None or not profile.required <= value.keys():
        return False
    return all(_is_one_of(value[key], forms) for key, forms in profile.constants.items() if key in value)


def _is_one_of(value: Any, forms: frozenset[Any]) -> bool:
    return not isinstance(value, (list, dict)) and value in forms


def _needs_more(one: Coder, other: Coder) -> bool:
    mine, theirs = _profile(one), _profile(other)
    return mine is not None and theirs is not None and bool(mine.required - theirs.known)


def _profile(member: Coder) -> Profile | None:
    return getattr(member, "profile", None)
