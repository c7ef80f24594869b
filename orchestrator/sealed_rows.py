"""Rows of the views, as people see them: what is sealed is opened, as far as it can be.

What cannot be opened stays as it is: rows are for looking at, and one part that lacks its key hides no other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar
from uuid import UUID

from cnstra.orchestrator import sealing, slots
from cnstra.orchestrator.errors import SealError
from cnstra.orchestrator.sealed import opened_value
from cnstra.orchestrator.sealing import Bound, Vault

T = TypeVar("T")
Row = Mapping[str, Any]


class Rows:
    """Opens rows of the views, with one vault."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    def run(self, row: Row) -> Row:
        """A row of ``cnstra.runs``."""
        run_id = row["run_id"]
        return {
            **self.outcome(row),
            "entry_payload": self._payload(row["entry_payload"], run_id, row["entry_collateral"]),
            "compensation_error": self._note(row["compensation_error"], sealing.message(run_id)),
        }

    def outcome(self, row: Row) -> Row:
        """The part of such a row that says what the run came to."""
        run_id = row["run_id"]
        return {
            **row,
            "outputs": self._signals(row["outputs"], run_id),
            "error": self._note(row["error"], sealing.message(run_id)),
        }

    def activation(self, row: Row) -> Row:
        """A row of ``cnstra.activations``."""
        run_id = row["run_id"]
        return {
            **row,
            "payload": self._payload(row["payload"], run_id, row["collateral"]),
            "outputs": self._signals(row["outputs"], run_id),
            "error": self._note(row["error"], sealing.message(run_id)),
            "progress": self._value(row["progress"], sealing.progress(run_id, row["activation_id"])),
        }

    def tried(self, row: Row) -> Row:
        """A row of ``cnstra.tries``, of whatever run its ``run_id`` says."""
        run_id = row["run_id"]
        return {
            **row,
            "error": self._note(row["error"], sealing.message(run_id)),
            "error_traceback": self._note(row["error_traceback"], sealing.traceback(run_id)),
        }

    def context(self, row: Row, run_id: UUID) -> Row:
        """A row of ``cnstra.context``."""
        local = row["local"]
        return {
            **row,
            "data": self._shared(row["data"], run_id),
            "local": {
                neuron: self._value(value, sealing.context(run_id, slots.local(neuron)))
                for neuron, value in local.items()
            }
            if isinstance(local, dict)
            else local,
        }

    def written(self, row: Row) -> Row:
        """A row of ``cnstra.context_history``."""
        run_id = row["run_id"]
        own = sealing.context(run_id, slots.local(row["neuron"] or ""))
        return {
            **row,
            "written": self._shared(row["written"], run_id),
            "local_written": self._value(row["local_written"], own),
        }

    def _shared(self, value: Any, run_id: UUID) -> Any:
        """The shared value: one without keys is sealed as a whole, another key by key."""
        if sealing.envelope_of(value) is not None:
            return self._value(value, sealing.context(run_id, slots.WHOLE))
        if not isinstance(value, dict):
            return value
        return {key: self._value(item, sealing.context(run_id, slots.shared(key))) for key, item in value.items()}

    def _signals(self, signals: Sequence[Row], run_id: UUID) -> list[Row]:
        return [{**one, "payload": self._payload(one["payload"], run_id, one["collateral"])} for one in signals]

    def _payload(self, value: Any, run_id: UUID, collateral: str) -> Any:
        return _as_it_is(lambda: opened_value(self._vault, value, run_id, collateral), value)

    def _value(self, value: Any, bound: Bound) -> Any:
        return _as_it_is(lambda: self._vault.open_value(value, bound), value)

    def _note(self, text: str | None, bound: Bound) -> str | None:
        return None if text is None else _as_it_is(lambda: self._vault.open_note(text, bound), text)


def _as_it_is(open_: Callable[[], T], sealed: T) -> T:
    try:
        return open_()
    except SealError:
        return sealed
