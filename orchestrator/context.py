"""What a handler sees of its run: the shared context, its neuron's own slot, and who it is.

It is what users touch; the keeping of what they read and wrote is the ``View`` behind it. It reads and writes no store.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, cast, overload

from typing_extensions import TypeVar

from cnstra.orchestrator import slots, values
from cnstra.orchestrator.errors import ContextError
from cnstra.orchestrator.slots import Slot, Snapshot
from cnstra.orchestrator.view import View

LONGEST_KEY = 500
"""Characters of a key of the shared value."""

T = TypeVar("T", default=Any)
L = TypeVar("L", default=Any)
_D = TypeVar("_D")


class ValueType(Protocol):
    """A declared type: to exactly-JSON builtins, and back."""

    def encode(self, value: Any) -> Any: ...
    def decode(self, value: Any) -> Any: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who a try is. ``attempt`` and ``try_number`` count from 1."""

    run_id: str
    activation_id: int
    neuron: str
    attempt: int
    try_number: int


class Local(Generic[L]):
    """One neuron's own slot in the run: nobody else's handlers see it."""

    __slots__ = ("_slot", "_type", "_view")

    def __init__(self, view: View, slot: str, type_: ValueType | None) -> None:
        self._view, self._slot, self._type = view, slot, type_

    def get(self) -> L | None:
        """The value, or None when there is none."""
        value = self._view.read(self._slot)
        return cast("L | None", value if value is None or self._type is None else self._type.decode(value))

    def set(self, value: L) -> None:
        """Write the value; it is committed with the hop."""
        plain = value if self._type is None else self._type.encode(value)
        self._view.write(self._slot, values.dump(plain, where=self._view.name(self._slot), error=ContextError))

    def delete(self) -> None:
        """Remove the value."""
        self._view.write(self._slot, None)


class Context(Generic[T, L]):
    """The run's shared context as one handler sees it, and the handler's place in the run.

    Reads see the handler's own writes at once; what is written is committed with the hop, or not at all. What ``get``
    returns is the handler's own copy: only assignment writes.
    """

    __slots__ = ("_identity", "_type", "_view", "local", "log", "services")

    def __init__(
        self,
        snapshot: Snapshot,
        identity: Identity,
        *,
        services: Any = None,
        context_type: ValueType | None = None,
        local_type: ValueType | None = None,
    ) -> None:
        where = f"run {identity.run_id}, activation {identity.activation_id} ({identity.neuron})"
        self._identity = identity
        self._type = context_type
        self._view = View(snapshot, where)
        self.local: Local[L] = Local(self._view, slots.local(identity.neuron), local_type)
        self.services = services
        self.log: logging.LoggerAdapter[logging.Logger] = _RunLog(logging.getLogger("cnstra.handler"), {"where": where})

    # -- who this is ---------------------------------------------------------------------------------------------

    @property
    def run_id(self) -> str:
        """The run's id, a UUIDv7."""
        return self._identity.run_id

    @property
    def activation_id(self) -> int:
        """The activation's number within its run."""
        return self._identity.activation_id

    @property
    def attempt(self) -> int:
        """Which pass over the run this is, from 1; a retry of a failed run is the next one."""
        return self._identity.attempt

    @property
    def try_number(self) -> int:
        """How many times this activation's handler was called, this call included. Never counts anew."""
        return self._identity.try_number

    @property
    def idempotency_key(self) -> str:
        """The key to give to whatever must happen once: the same in every try, attempt and after every crash."""
        return f"{self._identity.run_id}:{self._identity.activation_id}:do"

    @property
    def version(self) -> int:
        """The version of the context that this handler started from."""
        return self._view.version

    # -- the shared value ----------------------------------------------------------------------------------------

    @overload
    def get(self) -> T | None: ...
    @overload
    def get(self, key: str) -> Any: ...
    @overload
    def get(self, key: str, default: _D) -> Any | _D: ...
    def get(self, key: str | None = None, default: Any = None) -> Any:
        """The whole value (None when there is none), or one key of it (``default`` when it is missing)."""
        if key is not None:
            self._require_mapping()
            slot = slots.shared(_key(key))
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
        """Write the whole value: keys that it does not have are removed."""
        plain = value if self._type is None else self._type.encode(value)
        if plain is None:
            self.delete()
        elif type(plain) is dict and plain:
            texts = {
                (slot := slots.shared(_key(key))): values.dump(item, where=self._view.name(slot), error=ContextError)
                for key, item in plain.items()
            }
            self._replace(texts)
        else:
            self._replace({slots.WHOLE: values.dump(plain, where=self._view.name(slots.WHOLE), error=ContextError)})

    def delete(self) -> None:
        """Remove the whole value; ``get()`` is None then."""
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
        slot = slots.shared(_key(key))
        held = self._view.held.get(slot)
        if held is None or held.text is None:
            raise KeyError(key)
        return self._view.read(slot)

    def __setitem__(self, key: str, value: Any) -> None:
        self._require_mapping()
        slot = slots.shared(_key(key))
        self._view.write(slot, values.dump(value, where=self._view.name(slot), error=ContextError))

    def __delitem__(self, key: str) -> None:
        self[key]
        self._view.write(slots.shared(key), None)

    def __contains__(self, key: object) -> bool:
        self._require_mapping()
        held = self._view.held.get(slots.shared(key)) if isinstance(key, str) else None
        return held is not None and held.text is not None

    @overload
    def update(self, mapping: Mapping[str, Any], /) -> None: ...
    @overload
    def update(self, key: str, function: Callable[[Any], Any], /) -> None: ...
    def update(self, what: Mapping[str, Any] | str, function: Callable[[Any], Any] | None = None, /) -> None:
        """Write several keys; or change one key by a pure function of its newest value (None when it is missing).

        The function may be called many times, and never conflicts: when somebody else wrote the key meanwhile, it is
        called again on what they wrote.
        """
        if isinstance(what, str):
            if function is None:
                raise ContextError(
                    f"context of {self._view.where}: update({what!r}) needs a function of the key's value"
                )
            self._require_mapping()
            self._view.update(slots.shared(_key(what)), function)
            return
        for key, value in what.items():
            self[key] = value

    def __repr__(self) -> str:
        return f"<Context of {self._view.where} at version {self.version}>"


class _RunLog(logging.LoggerAdapter[logging.Logger]):
    """Puts the run and the activation in front of every line that a handler logs."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        return f"{cast('Mapping[str, Any]', self.extra)['where']}: {msg}", kwargs


def _key(key: Any) -> str:
    if type(key) is not str:
        raise ContextError(f"{key!r} of type {type(key).__name__} is no key of a context; keys are strings")
    if len(key) > LONGEST_KEY:
        raise ContextError(f"a key of a context has {len(key)} characters, at most {LONGEST_KEY} fit: {key[:50]!r}…")
    values.dump(key, where=f"key {key!r} of a context", error=ContextError)
    return key


def view_of(context: Context[Any, Any]) -> View:
    """What the handler read and wrote: for whoever settles the hop."""
    return context._view
