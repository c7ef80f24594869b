"""The versioned slots of a run's context, and when two writers of one are in conflict.

The context is kept as slots, each with the version of the run's context that wrote it last, so that writes to different
keys both survive and every value is stored once. This file owns the naming of slots and how a value is put together from
them; it refuses to know where they are kept.

A slot is ``s:KEY`` (one key of the shared mapping), ``w`` (the whole shared value where it is no mapping, or an empty one)
or ``l:NEURON`` (a neuron's local context). A removed slot keeps its version as a tombstone, so that a removal, too, can be
in conflict with a write.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, Final

from msgspec import Struct

from cnstra.orchestrator import values

WHOLE: Final = "w"
_SHARED: Final = "s:"
_LOCAL: Final = "l:"


def shared(key: str) -> str:
    """The slot of one key of the shared mapping."""
    return _SHARED + key


def local(neuron: str) -> str:
    """The slot of a neuron's local context."""
    return _LOCAL + neuron


def shared_key(slot: str) -> str | None:
    """The key that a shared slot stands for; None for the other kinds."""
    return slot[2:] if slot.startswith(_SHARED) else None


def local_neuron(slot: str) -> str | None:
    """The neuron whose local context a slot is; None for the other kinds."""
    return slot[2:] if slot.startswith(_LOCAL) else None


def is_shared(slot: str) -> bool:
    """Whether the slot is a part of the shared value (a key of it, or all of it)."""
    return slot == WHOLE or slot.startswith(_SHARED)


class Slot(Struct, frozen=True, gc=False):
    """A slot's newest version, and the JSON text it holds; None when it was removed."""

    version: int
    text: str | None


class Snapshot(Struct, frozen=True, kw_only=True, gc=False):
    """A run's context as it was at one version.

    Where ``place`` names a store of the user's own, the texts are references to blobs there, and no values yet.
    """

    version: int
    slots: Mapping[str, Slot]
    place: str | None = None


EMPTY: Final = Snapshot(version=0, slots={})


class OnStale(Enum):
    """What becomes of a write to a slot that somebody has written since it was read."""

    CONFLICT = "conflict"
    """The hop is not committed; the activation runs again on the fresh context."""
    OVERWRITE = "overwrite"
    """The write wins."""
    REPORT = "report"
    """Nothing is committed; the newest value goes back to the worker, which settles again."""


class SlotWrite(Struct, frozen=True, kw_only=True, gc=False):
    """One write of a hop: the JSON text (None removes), and the version of the slot that the hop had read (0: none)."""

    slot: str
    text: str | None
    base: int
    on_stale: OnStale


class Changes(Struct, frozen=True, kw_only=True, gc=False):
    """All that one hop writes to the context.

    ``replaces`` says that the whole shared value was set or deleted: then every shared slot counts as written, those
    too that the hop never saw, and ``on_stale`` holds for them. ``policy`` holds where keys were written, and the value
    has become one that has no keys meanwhile.
    """

    writes: tuple[SlotWrite, ...] = ()
    replaces: OnStale | None = None
    policy: OnStale = OnStale.CONFLICT

    def __bool__(self) -> bool:
        return bool(self.writes) or self.replaces is not None


NO_CHANGES: Final = Changes()


class Resolution(Struct, frozen=True, kw_only=True, gc=False):
    """What a hop's changes come to against the newest versions of the slots.

    Exactly one of three: ``conflict`` (run again), ``stale`` slots (report, settle again), or the ``entries`` to write.
    """

    conflict: tuple[str, ...] = ()
    stale: tuple[str, ...] = ()
    entries: tuple[tuple[str, str | None], ...] = ()


_NOTHING: Final = Resolution()


def resolve(changes: Changes, heads: Mapping[str, int], *, read: int) -> Resolution:
    """Hold a hop's changes against ``heads``: the newest version of each slot, negative where it was removed.

    ``read`` is the version of the context that the hop started from.
    """
    if not changes:
        return _NOTHING
    writes = list(changes.writes)
    named = {write.slot for write in writes}
    if changes.replaces is not None:
        writes.extend(
            SlotWrite(slot=slot, text=None, base=0, on_stale=changes.replaces)
            for slot, head in heads.items()
            if is_shared(slot) and slot not in named and head > 0
        )
    elif (
        heads.get(WHOLE, 0) > read
        and WHOLE not in named
        and any(_needs_keys(write, changes.policy) for write in writes)
    ):
        # Somebody has set the whole value since: to one without keys, which a key beside it would hide.
        writes.append(SlotWrite(slot=WHOLE, text=None, base=read, on_stale=changes.policy))
    behind = [write for write in writes if abs(heads.get(write.slot, 0)) > write.base]
    conflict = tuple(write.slot for write in behind if write.on_stale is OnStale.CONFLICT)
    if conflict:
        return Resolution(conflict=conflict)
    stale = tuple(write.slot for write in behind if write.on_stale is OnStale.REPORT)
    if stale:
        return Resolution(stale=stale)
    return Resolution(entries=tuple((write.slot, write.text) for write in writes))


def _needs_keys(write: SlotWrite, policy: OnStale) -> bool:
    """Whether a write needs a value that has keys. To remove one from a value without keys changes nothing; but the hop saw
    another value, and would be refused the removal now: so it runs again where conflicts are to be told.
    """
    return shared_key(write.slot) is not None and (write.text is not None or policy is OnStale.CONFLICT)


def shape(slots: Mapping[str, Slot]) -> tuple[dict[str, str], str | None]:
    """The shared value's keys with their texts, and the text that stands where there are none.

    The second is None when there is no value at all: nothing was ever written, or all of it was deleted.
    """
    keys = {slot[2:]: held.text for slot, held in slots.items() if held.text is not None and slot.startswith(_SHARED)}
    if keys:
        return keys, "{}"
    whole = slots.get(WHOLE)
    if whole is not None and whole.text is not None:
        return {}, whole.text
    last_key = max((held.version for slot, held in slots.items() if slot.startswith(_SHARED)), default=0)
    return {}, "{}" if last_key > (whole.version if whole is not None else 0) else None


def written_by(texts: Mapping[str, str | None]) -> tuple[Any, Any]:
    """What one version wrote, of its slots' texts: the keys (or the value that stands where there are none), and the
    local context; None where that was not written."""
    keys = {
        slot[2:]: values.load(text) for slot, text in texts.items() if text is not None and slot.startswith(_SHARED)
    }
    whole = texts.get(WHOLE)
    local = next((text for slot, text in texts.items() if slot.startswith(_LOCAL)), None)
    return (
        keys if keys or whole is None else values.load(whole),
        None if local is None else values.load(local),
    )
