"""What must not type-check of the reactive database; each mistake is marked for both checkers. Nothing in this file runs."""

from __future__ import annotations

from dataclasses import dataclass

from cnstra import Orchestrator
from cnstra.stores.reactive import Collection, Database, DerivedSetIndex, ReactiveContextStore, SetIndex


@dataclass(frozen=True)
class User:
    id: int
    team: str


def user_id(user: User) -> int:
    return user.id


def team(user: User) -> str:
    return user.team


users = Collection(user_id)
by_team = DerivedSetIndex(users, team)
shown: SetIndex[str, int, User] = SetIndex(users)

users.upsert_one("ann")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
users.select_by_primary_key("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
users.subscribe(lambda: None)  # type: ignore[arg-type,misc]  # pyright: ignore[reportArgumentType]
by_team.primary_keys(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
shown.add("home", "1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
shown.primary_keys("home").add(1)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
Database(print)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
ReactiveContextStore(users, "run-789")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Orchestrator().mirror(users)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
