"""The words of a run's story that several of its parts use."""

from __future__ import annotations

from cnstra.stores.postgres.diagnosing import Row

_LONGEST = 2_000


def called(activation: Row) -> str:
    """An activation by its number and names."""
    return f"#{activation['activation_id']} {activation['neuron']} on {activation['collateral']}"


def times(count: int, what: str = "try") -> str:
    """How often."""
    return f"1 {what}" if count == 1 else f"{count} {'tries' if what == 'try' else what + 's'}"


def first_line(kind: str, text: str | None) -> str:
    """An error in a line."""
    return f"{kind}: {text.splitlines()[0]}" if text else kind


def cut(text: str) -> str:
    """A text that does not hide the rest."""
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… ({len(text)} characters)"


def indented(text: str, first: int, following: int) -> str:
    """A text behind spaces: so many on its first line, so many on the others."""
    head, *rest = text.splitlines() or [""]
    return "\n".join([" " * first + head, *(" " * following + line for line in rest)])
