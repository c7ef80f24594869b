"""One try's private view of a context: what it read, what it wrote, and how that stands up to what others wrote.

It starts from the snapshot that the claim loaded, and gives its writes out as ``Changes`` when the hop is settled. It
deals in slots and JSON texts; what users may do with them is the business of ``Context``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from msgspec import Struct, field

from cnstra.orchestrator import sealing, slots, values
from cnstra.orchestrator.errors import ContextError
from cnstra.orchestrator.slots import Changes, OnStale, Slot, SlotWrite, Snapshot

Merge = Callable[[Any, Any, Any], Any]


class _Held(Struct):
    """One slot in the handler's view.

    ``text`` is what it holds now, ``base`` the version that was read. ``value`` is the handler's own copy, made from
    ``text`` when first asked for. ``functions`` are the updates that are to be applied to the newest value instead of
    checking it; ``written`` says that the slot is part of the hop's changes.
    """

    base: int
    text: str | None
    written: bool = False
    copied: bool = False
    value: Any = None
    functions: list[Callable[[Any], Any]] = field(default_factory=list)


class View:
    """The slots as one try has read and written them, from the snapshot that its claim loaded."""

    __slots__ = ("closed", "held", "replaced", "version", "where")

    def __init__(self, snapshot: Snapshot, where: object) -> None:
        if snapshot.place is not None:
            raise RuntimeError(f"{where}: its values were not taken from the store {snapshot.place!r}")
        self.version = snapshot.version
        self.where = where
        self.held: dict[str, _Held] = {}
        for name, slot in snapshot.slots.items():
            self.held[name] = _Held(slot.version, slot.text)
        self.replaced = False
        self.closed = False

    def close(self) -> None:
        """The handler has ended: from here on it writes nothing more. Conflicts are still settled."""
        self.closed = True

    def read(self, slot: str) -> Any:
        """The handler's own copy of a slot's value; None when it is missing.

        A slot that is read after an update of it is checked for conflicts like any other.
        """
        held = self.held.get(slot)
        if held is None or held.text is None:
            return None
        held.functions.clear()
        return self._copy(held)

    def _copy(self, held: _Held) -> Any:
        if not held.copied:
            held.value = self._load(held)
            held.copied = True
        return held.value

    def _load(self, held: _Held) -> Any:
        value = None if held.text is None else values.load(held.text)
        if type(value) is dict and values.SEALED in value:  # another worker has a codec, and this one has none
            sealing.refuse_sealed(value, f"context of {self.where}")
        return value

    def write(self, slot: str, text: str | None) -> None:
        """Write a slot, or remove it: None. Raises ``ContextError`` once the handler has ended."""
        self._require_open()
        self._write(slot, text)

    def _require_open(self) -> None:
        if self.closed:
            raise ContextError(
                f"context of {self.where}: the handler has ended, and what is written now would be part of no hop; have it wait "
                "for its tasks and threads before it returns"
            )

    def _write(self, slot: str, text: str | None) -> None:
        held = self.held.setdefault(slot, _Held(0, None))
        held.text, held.written, held.copied, held.value = text, True, False, None
        held.functions.clear()
        self._keep_mapping(slot, held)

    def update(self, slot: str, function: Callable[[Any], Any]) -> None:
        """Change a slot by a function of its newest value. Raises as ``write``."""
        self._require_open()
        held = self.held.setdefault(slot, _Held(0, None))
        # Where the whole value was set or deleted, a key that was not in it is known, too: there is none.
        blind = not (held.written or self.replaced) or bool(held.functions)
        self._apply(slot, held, function)
        if blind:
            held.functions.append(function)

    def _apply(self, slot: str, held: _Held, function: Callable[[Any], Any]) -> None:
        current = self._load(held)
        held.text = values.dump(function(current), where=partial(self.name, slot), error=ContextError)
        held.written, held.copied, held.value = True, False, None
        self._keep_mapping(slot, held)

    def _keep_mapping(self, slot: str, held: _Held) -> None:
        """Where this try removed the whole value and then gave it a key, it is a mapping, also when the key goes again."""
        whole = self.held.get(slots.WHOLE)
        removed = whole is not None and whole.written and whole.text is None
        if removed and slots.shared_key(slot) is not None and held.text is not None:
            self._write(slots.WHOLE, "{}")

    def name(self, slot: str) -> str:
        key = slots.shared_key(slot)
        part = "the whole value" if slot == slots.WHOLE else f"key {key!r}" if key is not None else "the local context"
        return f"context of {self.where}, {part}"

    def rebase(self, newest: Mapping[str, Slot]) -> dict[str, Slot]:
        """Apply the pending updates to values that somebody wrote meanwhile; the slots that have none come back."""
        others: dict[str, Slot] = {}
        for slot, fresh in newest.items():
            held = self.held.get(slot)
            if held is None or not held.functions:
                others[slot] = fresh
                continue
            functions = list(held.functions)
            held.base, held.text = fresh.version, fresh.text
            for function in functions:
                self._apply(slot, held, function)
        return others

    def merge(
        self,
        newest: Mapping[str, Slot],
        function: Merge,
        base: Snapshot,
        fits: Callable[[str, Any], None] = lambda _slot, _value: None,
    ) -> None:
        """Settle a conflict by a merge function: (mine, theirs, base) → the value to write, slot by slot. ``fits`` raises for one
        that the slot cannot have.
        """
        for slot, fresh in newest.items():
            held = self.held.setdefault(slot, _Held(0, None))
            before = base.slots.get(slot)
            merged = function(_load(held.text), _load(fresh.text), _load(before.text if before else None))
            text = values.dump(merged, where=partial(self.name, slot), error=ContextError)
            fits(slot, merged)
            self._write(slot, text)
            held.base = fresh.version

    def changes(self, on_stale: OnStale) -> Changes:
        """What was written. ``on_stale`` is the dendrite's policy; slots with pending updates are always reported."""
        writes = tuple(
            SlotWrite(
                slot=slot,
                text=held.text,
                base=held.base,
                on_stale=OnStale.REPORT if held.functions else on_stale,
            )
            for slot, held in self.held.items()
            if held.written and (held.text is not None or held.base or slots.is_shared(slot))
        )
        return Changes(writes=writes, replaces=on_stale if self.replaced else None, policy=on_stale)

    def unassigned(self) -> list[str]:
        """Names of the values that the handler changed in place and never assigned: such a change is lost."""
        return [
            self.name(slot)
            for slot, held in self.held.items()
            if held.copied and held.text is not None and _changed(held.value, held.text)
        ]


def _load(text: str | None) -> Any:
    return None if text is None else values.load(text)


def _changed(value: Any, text: str) -> bool:
    try:
        return bool(value != values.load(text))
    except Exception:  # what cannot be compared was not in it before
        return True
