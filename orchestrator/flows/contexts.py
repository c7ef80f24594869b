"""How the contexts of runs are read: whole, version by version, and as they change, wherever they are kept."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from msgspec.structs import replace

from cnstra.orchestrator import sealing, slots, values
from cnstra.orchestrator.blobs import USUAL_PLACE, Fetched, keys_of
from cnstra.orchestrator.errors import (
    CnstraError,
    ConfigurationError,
    ContextError,
    ContextExpired,
    ContextLost,
    SealError,
    StoreUnavailable,
)
from cnstra.orchestrator.flows.worlds import FIRST_PAUSE, LONGEST_PAUSE, Flow, Flowing, not_found
from cnstra.orchestrator.graph import PayloadType
from cnstra.orchestrator.slots import Slot, Snapshot
from cnstra.orchestrator.store import Look, Sightings

_PORTION = 100
"""Versions that a watch asks for at once: each may be as large as a value can be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """One version of a run's context: who wrote what. Without an activation, it was written from outside of the run."""

    version: int
    activation_id: int | None
    neuron: str | None
    written: Any
    removed: tuple[str, ...]
    local_written: Any
    at: datetime


class Contexts(Flowing):
    """The flows of who looks at contexts."""

    @property
    def _declared(self) -> PayloadType | None:
        """The type that the graph declares for contexts."""
        return self._cns.context_payload if self._cns is not None else None

    def context(self, run_id: uuid.UUID, version: int | None) -> Flow[Any]:
        """The shared value at a version; None when there was none."""
        value = yield from self._stored_context(run_id, version)
        return value if value is None or self._declared is None else self._declared.decode(value)

    def _stored_context(self, run_id: uuid.UUID, version: int | None) -> Flow[Any]:
        """It, as it is stored: exactly JSON."""
        if version is not None:
            _require_version(run_id, version)
        snapshot = yield from self._run(self._operations.context_at(run_id, version))
        if snapshot is None:
            row = yield from self.row(run_id)
            raise ContextError(f"run {run_id}: its context has versions 0 to {row['context_version']}, not {version}")
        if snapshot.version and not snapshot.slots:
            yield from self.row(run_id)  # it, too, may have gone
            raise _expired(run_id)
        return (yield from self._shared(run_id, snapshot))

    def _shared(self, run_id: uuid.UUID, snapshot: Snapshot) -> Flow[Any]:
        """The shared value of a snapshot, wherever its parts are kept."""
        if snapshot.place is not None:
            [slots_at] = yield from self._values(run_id, snapshot.place, [snapshot.slots])
            snapshot = Snapshot(version=snapshot.version, slots=slots_at)
        return shared_value(snapshot, f"context of run {run_id}")

    def history(self, run_id: uuid.UUID, after: int = 0) -> Flow[list[Written]]:
        """Every version of the run's context after one, in order."""
        run = yield from self.row(run_id)
        return (yield from self._written(run, after))

    def watched(self, run_id: uuid.UUID, after: int, status: str | None) -> Flow[tuple[str, int, list[Written]]]:
        """The run's status, the version of its context, and what was written after a version, as soon as there is something, or
        the status is another. Where much was written, it is the first portion: no more than that waits in memory.

        A store that goes away meanwhile is asked again; not one that is away at the first look, where no status is known.
        Raises ``RunNotFound``, ``ContextExpired``, ``StoreUnavailable``.
        """
        pause = FIRST_PAUSE
        while True:
            try:
                run = yield from self._run(self._operations.run_standing(run_id))
                if run is None:
                    raise not_found(run_id)
                written = yield from self._written(run, after, _PORTION)
            except StoreUnavailable:
                if status is None:
                    raise
                pause = LONGEST_PAUSE
            else:
                if written and written[0].version != after + 1:
                    raise ContextExpired(
                        f"run {run_id}: what came after version {after} of its context has been deleted; the oldest that is "
                        f"kept is version {written[0].version}: begin after {written[0].version - 1}"
                    )
                if written or run["status"] != status:
                    return run["status"], run["context_version"], written
            yield self._world.sleep(pause)
            pause = min(pause * 1.5, LONGEST_PAUSE)

    def _written(self, run: Mapping[str, Any], after: int, limit: int | None = None) -> Flow[list[Written]]:
        run_id = run["run_id"]
        if run["context_version"] <= after:
            return []
        rows = yield from self._run(self._operations.history(run_id, after, limit))
        if not rows:
            yield from self.row(run_id)  # or the run has gone with them
            raise _expired(run_id)
        if run["context_place"] is not None:
            rows = yield from self._with_values(run_id, run["context_place"], rows)
        return [
            Written(
                version=row["version"],
                activation_id=row["activation_id"],
                neuron=row["neuron"],
                written=row["written"],
                removed=tuple(row["removed"]),
                local_written=row["local_written"],
                at=row["at"],
            )
            for row in rows
        ]

    def sighted(self, look: Look) -> Flow[Sightings]:
        """How runs stand."""
        return cast("Sightings", (yield from self._run(self._operations.sight(look))))

    def newest(self, runs: Mapping[uuid.UUID, str | None]) -> Flow[dict[uuid.UUID, tuple[int, Any] | CnstraError]]:
        """The newest versions of runs' contexts with their shared values, by run; ``runs`` says where each is kept.

        In the place of a value stands what went wrong with one run. Left out is who has none, or none any more.
        """
        found: dict[uuid.UUID, tuple[int, Any] | CnstraError] = {}
        for run_id, snapshot in (yield from self._run(self._operations.contexts_of(list(runs)))).items():
            try:
                value = yield from self._shared(run_id, replace(snapshot, place=runs[run_id]))
            except (ConfigurationError, ContextLost, SealError, StoreUnavailable) as error:
                found[run_id] = error
            else:
                found[run_id] = (snapshot.version, value)
        return found

    # -- contexts that are kept elsewhere ----------------------------------------------------------------------

    def _values(
        self, run_id: uuid.UUID, place: str, contexts: Sequence[Mapping[str, Slot]]
    ) -> Flow[list[dict[str, Slot]]]:
        """Slots with their values, from the store that keeps them. Raises ``ContextLost``."""
        blobs = self._blobs
        if blobs is None or blobs.place != place:
            named = "" if place == USUAL_PLACE else f", context_name={place!r}"
            raise ConfigurationError(
                f"run {run_id} keeps its context in the store {place!r}, which was not given here; "
                f"pass it: Orchestrator(..., context=store{named})"
            )
        keys = set[str]().union(*map(keys_of, contexts))
        fetched: Fetched = yield self._world.call(lambda: blobs.fetch(keys))
        return [fetched.values(context, f"run {run_id}") for context in contexts]

    def _with_values(
        self, run_id: uuid.UUID, place: str, rows: Sequence[Mapping[str, Any]]
    ) -> Flow[list[dict[str, Any]]]:
        """Rows of the history with what they wrote."""
        versions: dict[int, dict[str, Slot]] = {row["version"]: {} for row in rows}
        first, last = rows[0]["version"], rows[-1]["version"]
        for one in (yield from self._run(self._operations.references(run_id, first - 1, last))):
            if one.version in versions:
                versions[one.version][one.slot] = Slot(one.version, one.text)
        if not all(versions.values()):  # every version wrote something: it went after the rows were read
            yield from self.row(run_id)
            raise _expired(run_id)
        contexts = yield from self._values(run_id, place, list(versions.values()))
        found = []
        for row, context in zip(rows, contexts, strict=True):
            written, local = slots.written_by({name: slot.text for name, slot in context.items()})
            found.append({**row, "written": written, "local_written": local})
        return found


def shared_value(snapshot: Snapshot, where: str | None = None) -> Any:
    """The shared value that a snapshot's slots come to.

    With ``where``, which names it, raises ``KeyMissing`` where something of it is sealed, and nobody has opened that.
    """
    keys, otherwise = slots.shape(snapshot.slots)
    if where is not None:
        for text in (*keys.values(), otherwise or ""):
            if sealing.is_sealed(text):
                raise sealing.not_opened(sealing.label_of(text) or "", where)
    if keys:
        return {key: values.load(text) for key, text in keys.items()}
    return None if otherwise is None else values.load(otherwise)


def whole(snapshot: Snapshot) -> tuple[Any, dict[str, Any]]:
    """The shared value that a snapshot's slots come to, and the local contexts by neuron."""
    return shared_value(snapshot), {
        neuron: values.load(slot.text)
        for name, slot in snapshot.slots.items()
        if slot.text is not None and (neuron := slots.local_neuron(name)) is not None
    }


def _require_version(run_id: uuid.UUID, version: Any) -> None:
    if type(version) is not int or version < 0:
        raise ContextError(f"run {run_id}: {version!r} is no version of a context; versions are whole numbers from 0")


def _expired(run_id: uuid.UUID) -> ContextExpired:
    return ContextExpired(
        f"run {run_id}: its context is not kept any longer; cnstra.context.expires_at says since when, "
        "and `cnstra retention` for how long contexts are"
    )
