"""Contexts read and written from outside of any hop: that of a run, under the run's lock, or one that stands by itself.

A write into a run follows the rules of hops: it locks the run's row, raises the context's version by one, and keeps each
slot that it writes as an entry. It is no activation's, and never gives way: hops that read what it overwrote are in
conflict with it when they are settled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from cnstra.orchestrator import values
from cnstra.orchestrator.errors import ContextError, ContextExpired, RunNotFound
from cnstra.orchestrator.flows import shared_value
from cnstra.orchestrator.run_context import Identity, RunContext, view_of
from cnstra.orchestrator.sealed import opened_snapshot, sealed_changes
from cnstra.orchestrator.sealing import Vault
from cnstra.orchestrator.slots import EMPTY, OnStale, resolve
from cnstra.stores.postgres import rows as shapes
from cnstra.stores.postgres.transactions import Ask, Rows, Steps, operation


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Whose context is asked for. ``was_run``: the id was seen to be a run's. ``freely``: with what only contexts have that
    are no run's, a lifetime. ``vault`` is what seals the context of a run.
    """

    context_id: UUID
    was_run: bool
    freely: bool
    vault: Vault | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A context as it is. ``sealed`` are the bytes of one that was written by another codec than JSON."""

    version: int
    of_run: bool
    value: Any = None
    sealed: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Writing:
    """A write: JSON's ``text``, or what another codec ``sealed`` of a ``value``; neither is a deletion. ``expected`` is the
    version that must be the present one; ``lives`` is for contexts that are no run's.
    """

    text: str | None = None
    sealed: bytes | None = None
    value: Any = None
    expected: int | None = None
    lives: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrote:
    """What became of a write; ``of_run`` says whose context it was."""

    written: bool
    of_run: bool


class ContextKeeping:
    """The operations of context stores."""

    @operation
    def read(self, _repeated: bool, place: Place, wanted: bool) -> Steps[Kept]:
        runs = yield Ask("find_context", {"run_id": place.context_id})
        _check(place, runs)
        if runs:
            return (yield from _read_of_run(place, runs[0][0], wanted))
        found = yield Ask("read_free_context", {"context_id": place.context_id, "values": wanted})
        if not found:
            return Kept(version=0, of_run=False)
        [(version, text, sealed)] = found
        return Kept(
            version=version,
            of_run=False,
            value=None if text is None else values.load(text),
            sealed=None if sealed is None else bytes(sealed),
        )

    @operation
    def write(self, _repeated: bool, place: Place, writing: Writing) -> Steps[Wrote]:
        runs = yield Ask("lock_context", {"run_id": place.context_id})
        _check(place, runs, writes=True)
        if runs:
            written = yield from _write_to_run(place, runs[0][0], writing)
            return Wrote(written=written, of_run=True)
        rows = yield Ask(
            "change_free_context" if writing.expected else "make_free_context",
            {
                "context_id": place.context_id,
                "data": writing.text,
                "sealed": writing.sealed,
                "expected": writing.expected,
                "lives": writing.lives,
            },
        )
        return Wrote(written=bool(rows), of_run=False)


def _check(place: Place, runs: Rows, *, writes: bool = False) -> None:
    if runs and place.freely:
        raise ContextError(
            f"context {place.context_id} in Postgres is a run's own, and lives as long as the run; "
            "give ttl= only for a UUID that is no run's"
        )
    if place.was_run and not runs:  # it must not go on as a context of its own
        raise RunNotFound(f"run {place.context_id} is not stored any more, and neither is its context")
    for version, is_kept, elsewhere in runs:
        if elsewhere is not None:
            raise ContextError(
                f"run {place.context_id} keeps its context in the store {elsewhere!r} of your own, and not in Postgres; "
                "read it with Orchestrator(context=...)"
            )
        if not is_kept and (version or writes):  # written once more, it would stay for ever
            raise ContextExpired(
                f"run {place.context_id}: the retention has taken its context, which comes back no more"
            )


def _read_of_run(place: Place, version: int, wanted: bool) -> Steps[Kept]:
    rows: Rows = []
    if wanted:
        rows = yield Ask("load_contexts", {"run_ids": [place.context_id]})
        if version and not rows:  # every version has slots: they went since the run was looked at
            _check(replace(place, was_run=True), (yield Ask("find_context", {"run_id": place.context_id})))
    if not rows:
        return Kept(version=version, of_run=True)
    # It may have been written since the run was looked at: what is read here has the version that is read with it.
    snapshot = shapes.snapshots_of(rows)[place.context_id]
    if place.vault is not None:
        snapshot = opened_snapshot(place.vault, place.context_id, snapshot)
    value = shared_value(snapshot, f"context of run {place.context_id}")
    return Kept(version=snapshot.version, of_run=True, value=value)


def _write_to_run(place: Place, version: int, writing: Writing) -> Steps[bool]:
    run_id = place.context_id
    if writing.expected is not None and writing.expected != version:
        return False
    found = yield Ask("load_heads", {"run_ids": [run_id]})
    heads = found[0][1] if found else {}
    if not isinstance(heads, Mapping):  # the user's connection may leave JSON as text
        heads = values.load(heads)
    entries = _entries(place, writing, heads)
    [(now,)] = yield Ask("clock", {})
    yield Ask(
        "insert_outside_entries",
        {
            "run_id": run_id,
            "version": version + 1,
            "slots": [slot for slot, _ in entries],
            "texts": [text for _, text in entries],
            "now": now,
        },
    )
    newest = {slot: version + 1 if text is not None else -version - 1 for slot, text in entries}
    yield Ask(
        "update_heads",
        {"now": now, "run_ids": [run_id], "versions": [version + 1], "heads": [json.dumps(newest)]},
    )
    yield Ask("raise_version", {"run_id": run_id, "version": version + 1})
    return True


def _entries(place: Place, writing: Writing, heads: Mapping[str, int]) -> tuple[tuple[str, str | None], ...]:
    """What setting the whole value comes to, slot by slot: as if an activation that overwrites had done it."""
    identity = Identity(run_id=str(place.context_id), activation_id=0, neuron="from outside", attempt=1, try_number=1)
    context = RunContext[Any, Any](EMPTY, identity)
    context.set(writing.value if writing.text is None else values.load(writing.text))
    changes = view_of(context).changes(OnStale.OVERWRITE)
    if place.vault is not None:
        changes = sealed_changes(place.vault, place.context_id, changes)
    return resolve(changes, heads, read=0).entries
