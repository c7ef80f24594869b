"""The context of a handler of a durable run.

It answers from the ``View`` of one try, which keeps what was read and written. It reads and writes no store.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, cast
from uuid import UUID

from msgspec import Struct
from typing_extensions import TypeVar

from cnstra.orchestrator import slots, values
from cnstra.orchestrator.context import (
    Context,
    Local,
    PlacedLog,
    ValueType,
    checked_function,
    checked_items,
    checked_key,
    fitting,
    progress_text,
)
from cnstra.orchestrator.errors import ContextError
from cnstra.orchestrator.slots import Slot, Snapshot
from cnstra.orchestrator.view import View

_log = logging.getLogger("cnstra.handler")

T = TypeVar("T", default=Any)
L = TypeVar("L", default=Any)


class Identity(Struct, frozen=True, kw_only=True, gc=False):
    """Who a try is. ``attempt`` and ``try_number`` count from 1. ``undo`` says that it is a compensation's."""

    run_id: UUID | str
    activation_id: int
    neuron: str
    attempt: int
    try_number: int
    undo: bool = False

    def __str__(self) -> str:
        what = f"the compensation of {self.neuron}" if self.undo else self.neuron
        return f"run {self.run_id}, activation {self.activation_id} ({what})"


class Lifeline:
    """What ties a call under way to the worker that watches it: it tells of heartbeats, and is told when the work is of no
    use any more. Any thread may use it; before anybody listens, heartbeats go nowhere.
    """

    __slots__ = ("_hears", "cancelled")

    def __init__(self) -> None:
        self.cancelled = False
        self._hears: Callable[[str | None], None] = _unheard

    def heard_by(self, hears: Callable[[str | None], None]) -> None:
        """From here on, ``hears`` is told of each heartbeat, with the text of its progress; what it raises goes to the
        handler.
        """
        self._hears = hears

    def left_alone(self) -> None:
        """From here on heartbeats go nowhere, as before anybody listened: those of threads that a handler left behind."""
        self._hears = _unheard

    def beat(self, progress: str | None) -> None:
        """The handler lives."""
        self._hears(progress)


def _unheard(_: str | None) -> None:
    """A heartbeat that nobody waits for."""


class RunLocal(Local[L]):
    """A neuron's slot of the try's view."""

    __slots__ = ("_slot", "_type", "_view")

    def __init__(self, view: View, slot: str, type_: ValueType | None) -> None:
        self._view, self._slot, self._type = view, slot, type_

    def get(self) -> L | None:
        value = self._view.read(self._slot)
        return cast("L | None", value if value is None or self._type is None else self._type.decode(value))

    def set(self, value: L) -> None:
        plain = value if self._type is None else self._type.encode(value)
        self._view.write(self._slot, values.dump(plain, where=lambda: self._view.name(self._slot), error=ContextError))

    def delete(self) -> None:
        self._view.write(self._slot, None)


class RunContext(Context[T, L]):
    """The run's shared context as one handler sees it, and the handler's place in the run."""

    __slots__ = (
        "_connection",
        "_deadline",
        "_identity",
        "_lifeline",
        "_local",
        "_log",
        "_progress",
        "_services",
        "_type",
        "_view",
    )

    def __init__(
        self,
        snapshot: Snapshot,
        identity: Identity,
        *,
        services: Any = None,
        context_type: ValueType | None = None,
        local_type: ValueType | None = None,
        deadline: datetime | None = None,
        progress: str | None = None,
    ) -> None:
        self._identity = identity
        self._type = context_type
        self._view = View(snapshot, identity)
        self._local: Local[L] = RunLocal(self._view, slots.local(identity.neuron), local_type)
        self._services = services
        self._deadline = deadline
        self._progress = progress
        self._lifeline = Lifeline()
        self._connection: Any = None
        self._log: PlacedLog | None = None

    @property
    def local(self) -> Local[L]:
        return self._local

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        if self._log is None:
            self._log = PlacedLog(_log, {"where": self._identity})
        return self._log

    @property
    def services(self) -> Any:
        return self._services

    @property
    def connection(self) -> Any:
        if self._connection is None:
            raise ContextError(
                f"context of {self._view.where}: ctx.connection is there for a handler whose dendrite says "
                "transaction=True, and until it has ended"
            )
        return self._connection

    @property
    def run_id(self) -> str:
        return str(self._identity.run_id)

    @property
    def activation_id(self) -> int:
        return self._identity.activation_id

    @property
    def attempt(self) -> int:
        return self._identity.attempt

    @property
    def try_number(self) -> int:
        return self._identity.try_number

    @property
    def idempotency_key(self) -> str:
        return f"{self.run_id}:{self.activation_id}:{'undo' if self._identity.undo else 'do'}"

    @property
    def version(self) -> int:
        return self._view.version

    # -- time ----------------------------------------------------------------------------------------------------

    @property
    def deadline(self) -> datetime | None:
        return self._deadline

    @property
    def cancelled(self) -> bool:
        return self._lifeline.cancelled

    @property
    def progress(self) -> Any:
        return None if self._progress is None else values.load(self._progress)

    def heartbeat(self, progress: Any = None) -> None:
        text = progress_text(progress, str(self._identity))
        self._lifeline.beat(text)
        if text is not None:
            self._progress = text

    # -- the shared value ----------------------------------------------------------------------------------------

    def get(self, key: str | None = None, default: Any = None) -> Any:
        if key is not None:
            self._require_mapping()
            slot = slots.shared(checked_key(key))
            held = self._view.held.get(slot)
            return default if held is None or held.text is None else self._view.read(slot)
        value = self._whole()
        return value if value is None or self._type is None else self._type.decode(value)

    def _whole(self) -> Any:
        keys, otherwise = self._shape()
        if keys:
            return {key: self._view.read(slots.shared(key)) for key in keys}
        if otherwise is None:
            return None
        return self._view.read(slots.WHOLE) if otherwise != "{}" else {}

    def _shape(self) -> tuple[dict[str, str], str | None]:
        # A slot that this try wrote is newer than all that it read: versions above the snapshot's stand for that.
        return slots.shape(
            {
                name: Slot(self._view.version + 1 if held.written else held.base, held.text)
                for name, held in self._view.held.items()
            }
        )

    def _require_mapping(self) -> None:
        whole = self._view.held.get(slots.WHOLE)
        if whole is not None and whole.text is not None and whole.text != "{}":
            kind = type(values.load(whole.text)).__name__
            raise ContextError(
                f"context of {self._view.where}: the value is a {kind}, so it has no keys; use ctx.get() and ctx.set()"
            )

    def set(self, value: T) -> None:
        plain = value if self._type is None else self._type.encode(value)
        if plain is None:
            self.delete()
        elif type(plain) is dict and plain:
            texts = {
                (slot := slots.shared(checked_key(key))): values.dump(
                    item, where=self._view.name(slot), error=ContextError
                )
                for key, item in plain.items()
            }
            self._replace(texts)
        else:
            self._replace(
                {slots.WHOLE: values.dump(plain, where=lambda: self._view.name(slots.WHOLE), error=ContextError)}
            )

    def delete(self) -> None:
        self._replace({})

    def _replace(self, texts: Mapping[str, str]) -> None:
        for slot, held in list(self._view.held.items()):
            if slots.is_shared(slot) and slot not in texts and held.text is not None:
                self._view.write(slot, None)
        if not texts:  # a tombstone as new as those of the keys says: not an empty mapping, but no value
            self._view.write(slots.WHOLE, None)
        for slot, text in texts.items():
            self._view.write(slot, text)
        self._view.replaced = True

    def __getitem__(self, key: str) -> Any:
        self._require_mapping()
        slot = slots.shared(checked_key(key))
        held = self._view.held.get(slot)
        if held is None or held.text is None:
            raise KeyError(key)
        return self._view.read(slot)

    def __setitem__(self, key: str, value: Any) -> None:
        self._require_mapping()
        self._view.write(*self._keyed(key, value))

    def _keyed(self, key: str, value: Any) -> tuple[str, str]:
        """The slot of a key, and the text of its value. Raises ContextError, PayloadError."""
        slot = slots.shared(checked_key(key))
        text = values.dump(value, where=lambda: self._view.name(slot), error=ContextError)
        if self._type is not None:
            self._type.check_key(key, value)
        return slot, text

    def __delitem__(self, key: str) -> None:
        self[key]
        self._view.write(slots.shared(key), None)

    def __contains__(self, key: object) -> bool:
        self._require_mapping()
        held = self._view.held.get(slots.shared(key)) if isinstance(key, str) else None
        return held is not None and held.text is not None

    def update(self, what: Mapping[str, Any] | str, function: Callable[[Any], Any] | None = None, /) -> None:
        if isinstance(what, str):
            self._require_mapping()
            key, change = checked_key(what), checked_function(what, function, self._view.where)
            self._view.update(slots.shared(key), change if self._type is None else fitting(self._type, key, change))
            return
        for slot, text in [self._keyed(key, value) for key, value in checked_items(what, self._view.where)]:
            self._require_mapping()
            self._view.write(slot, text)

    def __repr__(self) -> str:
        return f"<context of {self._view.where} at version {self.version}>"


def lifeline_of(context: RunContext[Any, Any]) -> Lifeline:
    """What ties the handler to whoever watches it."""
    return context._lifeline


def view_of(context: RunContext[Any, Any]) -> View:
    """What the handler read and wrote: for whoever settles the hop."""
    return context._view


def lend_connection(context: RunContext[Any, Any], connection: Any) -> None:
    """Let the handler have a connection; None takes it away."""
    context._connection = connection
