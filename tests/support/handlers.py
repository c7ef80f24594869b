"""What handlers of the tests' graphs share: what each does first, and a change that many make to a number of their context."""

from __future__ import annotations

from typing import Any

from cnstra import Context
from support import ledger
from support.points import points


def enter(ctx: Context, what: str = "", **details: Any) -> None:
    """What every handler does first."""
    ledger.note(ctx, what, **details)
    points.reach("call.inside", ctx.activation_id)


def plus_one(value: int | None) -> int:
    return (value or 0) + 1
