"""The context of a handler within one process: it reads and writes the stimulation's context store, at once.

Local contexts are no part of that value. They are kept in memory beside the store object, so that a stimulation that goes
on with the store of another finds them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar, cast
from weakref import ref

from cnstra.orchestrator import values
from cnstra.orchestrator.context import (
    AbortSignal,
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
from cnstra.orchestrator.contexts import InMemoryContextStore
from cnstra.orchestrator.errors import ContextError
from cnstra.orchestrator.graph import AfferentPath, Modality

if TYPE_CHECKING:
    from cnstra.orchestrator.stimulation.plan import Route
    from cnstra.orchestrator.stimulation.stimulation import Stimulation

T = TypeVar("T")
L = TypeVar("L")

Locals = dict[str, InMemoryContextStore]
"""The local contexts of a stimulation, by neuron."""

_beside: dict[int, tuple[ref[Any], Locals]] = {}
"""By the id of the store: two stores that are equal are two, and one that has no hash is one, too."""


def locals_beside(store: Any) -> Locals:
    """The local contexts that are kept beside a context store; new ones for a store that cannot be referred to weakly."""
    key = id(store)
    try:
        kept = ref(store, lambda _: _beside.pop(key, None))
    except TypeError:
        return {}
    return _beside.setdefault(key, (kept, {}))[1]


class StimulationLocal(Local[L]):
    """A neuron's slot beside the context store."""

    __slots__ = ("_locals", "_neuron", "_type")

    def __init__(self, locals_: Locals, neuron: str, type_: ValueType | None) -> None:
        self._locals, self._neuron, self._type = locals_, neuron, type_

    def get(self) -> L | None:
        slot = self._locals.get(self._neuron)
        value = None if slot is None else slot.get()
        return cast("L | None", value if value is None or self._type is None else self._type.decode(value))

    def set(self, value: L) -> None:
        plain = value if self._type is None else self._type.encode(value)
        slot = self._locals.get(self._neuron)
        if slot is None:
            slot = self._locals[self._neuron] = InMemoryContextStore()
        slot.set(plain)

    def delete(self) -> None:
        self._locals.pop(self._neuron, None)


class StimulationContext(Context[T, L]):
    """The context of one call. ``set`` and its like write through to the store."""

    __slots__ = ("_number", "_progress", "_route", "_stimulation")

    _progress: str
    """Of the last heartbeat that had one; not there before, as it would cost every call."""

    def __init__(self, stimulation: Stimulation, route: Route) -> None:
        self._stimulation = stimulation
        self._route = route
        self._number = stimulation._count_call()

    # -- who this is ---------------------------------------------------------------------------------------------

    @property
    def run_id(self) -> str:
        return self._stimulation.id

    @property
    def activation_id(self) -> int:
        return self._number

    @property
    def attempt(self) -> int:
        return 1

    @property
    def try_number(self) -> int:
        return 1

    @property
    def services(self) -> Any:
        return self._stimulation.cns.services

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        return PlacedLog(logging.getLogger("cnstra.handler"), {"where": self._where})

    @property
    def stimulation(self) -> Stimulation:
        """The stimulation that this call is part of."""
        return self._stimulation

    @property
    def stimulation_context(self) -> Any:
        return self._stimulation.options.stimulation_context

    @property
    def modality(self) -> Modality | None:
        return self._stimulation.options.modality

    @property
    def afferent_path(self) -> AfferentPath | None:
        return self._stimulation.options.afferent_path

    @property
    def abort_signal(self) -> AbortSignal | None:
        return self._stimulation.options.abort_signal

    # -- time ----------------------------------------------------------------------------------------------------

    @property
    def deadline(self) -> datetime | None:
        return None

    @property
    def cancelled(self) -> bool:
        abort = self.abort_signal
        return abort is not None and abort.is_set()

    @property
    def progress(self) -> Any:
        return values.load(getattr(self, "_progress", "null"))

    def heartbeat(self, progress: Any = None) -> None:
        text = progress_text(progress, self._where)
        self._stimulation._hear()
        if text is not None:
            self._progress = text

    @property
    def _where(self) -> str:
        return f"stimulation {self.run_id}, activation {self._number} ({self._route.neuron.name})"

    # -- the shared value ----------------------------------------------------------------------------------------

    @property
    def version(self) -> int:
        store = self._stimulation.context_store
        return int(store.version) if self._stimulation._has_versions else 0

    @property
    def local(self) -> Local[L]:
        neuron = self._route.neuron
        return StimulationLocal(self._stimulation._local_contexts, neuron.name, neuron.local_payload)

    def get(self, key: str | None = None, default: Any = None) -> Any:
        value = self._stimulation.context_store.get()
        if key is not None:
            return self._keys_of(value).get(checked_key(key), default)
        type_ = self._stimulation.cns.context_payload
        return value if value is None or type_ is None else type_.decode(value)

    def set(self, value: T) -> None:
        type_ = self._stimulation.cns.context_payload
        self._write(value if value is None or type_ is None else type_.encode(value))

    def delete(self) -> None:
        self._write(None)

    def __getitem__(self, key: str) -> Any:
        return self._keys_of(self._stimulation.context_store.get())[checked_key(key)]

    def __setitem__(self, key: str, value: Any) -> None:
        self._write_keys({checked_key(key): value})

    def __delitem__(self, key: str) -> None:
        checked_key(key)
        self._change(lambda keys: keys.__delitem__(key))

    def __contains__(self, key: object) -> bool:
        return key in self._keys_of(self._stimulation.context_store.get())

    def update(self, what: Mapping[str, Any] | str, function: Callable[[Any], Any] | None = None, /) -> None:
        if not isinstance(what, str):
            self._write_keys({checked_key(key): value for key, value in checked_items(what, self._where)})
            return
        key, change = checked_key(what), checked_function(what, function, self._where)
        type_ = self._stimulation.cns.context_payload
        fitted = change if type_ is None else fitting(type_, key, change)
        self._change(lambda keys: keys.update({key: fitted(keys.get(key))}))

    def _write_keys(self, new: dict[str, Any]) -> None:
        type_ = self._stimulation.cns.context_payload
        if type_ is not None:
            for key, value in new.items():
                type_.check_key(key, value)
        self._change(lambda keys: keys.update(new))

    def _keys_of(self, value: Any) -> dict[str, Any]:
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise ContextError(
                f"context of {self._where}: the value is a {type(value).__name__}, so it has no keys; use ctx.get() "
                "and ctx.set()"
            )
        return value

    def _change(self, change: Callable[[dict[str, Any]], object]) -> None:
        """Change keys, by the store's own ``update`` where it has one: other processes may be writing others."""

        def changed(value: Any) -> dict[str, Any]:
            keys = dict(self._keys_of(value))
            change(keys)
            return keys

        store = self._stimulation.context_store
        if self._stimulation._has_versions:
            store.update(changed)
        else:
            store.set(changed(store.get()))

    def _write(self, value: Any) -> None:
        store = self._stimulation.context_store
        if value is None and self._stimulation._has_versions:
            store.delete()
        else:
            store.set(value)

    def __repr__(self) -> str:
        return f"<context of {self._where}>"
