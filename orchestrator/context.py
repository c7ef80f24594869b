"""What a handler sees, the same in a durable run and within one process: the shared context, its neuron's own slot, and
who it is.

This is the face of it, for users; behind it stands the view of a try (``run_context``), or a context store
(``stimulation/context``). It keeps nothing.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, MutableMapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Generic, Protocol, cast, overload
from uuid import UUID

from typing_extensions import TypeVar

from cnstra.orchestrator import values
from cnstra.orchestrator.errors import ContextError
from cnstra.orchestrator.graph.collaterals import Collateral, Signal
from cnstra.orchestrator.graph.expectations import Expectation, make_expectation

if TYPE_CHECKING:
    from cnstra.orchestrator.graph import AfferentPath, Modality

LONGEST_KEY = 500
"""Characters of a key of the shared value."""

LARGEST_PROGRESS = 64 * 1024
"""Bytes, in UTF-8, of the JSON text of what a handler reports of its progress."""

T = TypeVar("T", default=Any)
L = TypeVar("L", default=Any)
_D = TypeVar("_D")


class ValueType(Protocol):
    """A declared type: to exactly-JSON builtins, and back."""

    def encode(self, value: Any) -> Any: ...
    def decode(self, value: Any) -> Any: ...
    def check_key(self, key: str, value: Any) -> None: ...


class AbortSignal(Protocol):
    """Whatever can say that the work is to end: ``threading.Event``, ``asyncio.Event``, one of your own."""

    def is_set(self) -> bool: ...


class Local(ABC, Generic[L]):
    """One neuron's own slot in the run: nobody else's handlers see it."""

    __slots__ = ()

    @abstractmethod
    def get(self) -> L | None:
        """The value, or None when there is none."""

    @abstractmethod
    def set(self, value: L) -> None:
        """Write the value; in a durable run it is committed with the hop."""

    @abstractmethod
    def delete(self) -> None:
        """Remove the value."""


class Context(ABC, Generic[T, L]):
    """The run's shared context as one handler sees it, and the handler's place in the run.

    Reads see the handler's own writes at once. In a durable run what is written is committed with the hop, or not at
    all; within one process it goes to the context store at once. What ``get`` returns is the handler's own copy: only
    assignment writes.
    """

    __slots__ = ()

    # -- who this is ---------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def run_id(self) -> str:
        """The run's id, a UUIDv7; within one process, the stimulation's."""

    @property
    @abstractmethod
    def activation_id(self) -> int:
        """The activation's number within its run."""

    @property
    @abstractmethod
    def attempt(self) -> int:
        """Which pass over the run this is, from 1; a retry of a failed run is the next one."""

    @property
    @abstractmethod
    def try_number(self) -> int:
        """How many times this activation's handler was called, this call included. Never counts anew."""

    @property
    def idempotency_key(self) -> str:
        """The key to give to whatever must happen once: the same in every try, attempt and after every crash.

        A compensation has another one than the call that it undoes.
        """
        return f"{self.run_id}:{self.activation_id}:do"

    @property
    @abstractmethod
    def services(self) -> Any:
        """What the CNS was given as ``services=``."""

    @property
    @abstractmethod
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        """A log whose lines name the run, the activation and the neuron."""

    # -- waiting for others ----------------------------------------------------------------------------------------

    def expect(
        self,
        collateral: Collateral[Any],
        *,
        key: str | None = None,
        timeout: timedelta | None = None,
        on_timeout: Signal[Any] | None = None,
    ) -> Expectation:
        """A wait for a signal from outside, for the handler to return: in a durable run only.

        The run waits until one on ``collateral`` is sent to it, or to ``key`` (1 to 400 printable characters), which
        then starts the dendrites of the collateral; without ``timeout`` it waits without end. With one (up to a century,
        from the commit of the hop) ``on_timeout``, a signal of the neuron's axon, is emitted if nothing has come. Raises
        ExpectationError.
        """
        return make_expectation(collateral, key=key, timeout=timeout, on_timeout=on_timeout)

    # -- time ----------------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def deadline(self) -> datetime | None:
        """When the run is to have ended, an aware datetime; None when nobody said, and within one process."""

    @property
    @abstractmethod
    def cancelled(self) -> bool:
        """Whether the handler's work is of no use any more: the run is being ended, or this try has lost its claim.

        It is told of within a few seconds; within one process it says whether ``abort_signal`` is set. Nothing stops
        a handler that does not look: one that looks can return early.
        """

    @property
    @abstractmethod
    def progress(self) -> Any:
        """What ``heartbeat`` was told last for this activation, in this try or an earlier one; None when nothing was.

        It is a copy of its own each time. Of what a try reported in its last second before its worker died, some may be
        missing.
        """

    @abstractmethod
    def heartbeat(self, progress: Any = None) -> None:
        """Say that the handler lives: its ``max_duration`` counts from here on. Any thread may.

        ``progress`` is any value that is exactly JSON, of at most 64 KB, and shows in ``cnstra.activations`` within about a
        second; None leaves it as it was. It is no part of the hop's transaction: what a try reported stays, also when it
        failed, and the next try finds it in ``ctx.progress``.

        Raises ``ContextError`` for a progress that cannot be kept, and, in a durable run, ``MaxDurationExceeded`` when it
        comes too late: the claim is lost, and what the handler does from here on is dropped.
        """

    @property
    def connection(self) -> Any:
        """The handler's own psycopg connection, where its dendrite says ``transaction=True``: what is done there commits
        with the hop, or not at all. A ``psycopg.Connection``, in an async handler a ``psycopg.AsyncConnection``.

        Raises ContextError everywhere else, and once the handler has ended.
        """
        raise ContextError(
            "ctx.connection is there in a durable run only, for a handler whose dendrite says transaction=True"
        )

    # -- within one process only ---------------------------------------------------------------------------------

    @property
    def stimulation_context(self) -> Any:
        """What ``stimulate`` was given as ``stimulation_context=``; None in a durable run."""
        return None

    @property
    def modality(self) -> Modality | None:
        """The modality of the stimulation; None in a durable run."""
        return None

    @property
    def afferent_path(self) -> AfferentPath | None:
        """The afferent path of the stimulation; None in a durable run."""
        return None

    @property
    def abort_signal(self) -> AbortSignal | None:
        """What ``stimulate`` was given as ``abort_signal=``; None in a durable run."""
        return None

    # -- the shared value ----------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def version(self) -> int:
        """The version of the context that this handler started from; within one process, the store's now."""

    @property
    @abstractmethod
    def local(self) -> Local[L]:
        """The neuron's own slot."""

    @overload
    def get(self) -> T | None: ...
    @overload
    def get(self, key: str) -> Any: ...
    @overload
    def get(self, key: str, default: _D) -> Any | _D: ...
    @abstractmethod
    def get(self, key: str | None = None, default: Any = None) -> Any:
        """The whole value (None when there is none), or one key of it (``default`` when it is missing)."""

    @abstractmethod
    def set(self, value: T) -> None:
        """Write the whole value: keys that it does not have are removed."""

    @abstractmethod
    def delete(self) -> None:
        """Remove the whole value; ``get()`` is None then."""

    @abstractmethod
    def __getitem__(self, key: str) -> Any: ...

    @abstractmethod
    def __setitem__(self, key: str, value: Any) -> None: ...

    @abstractmethod
    def __delitem__(self, key: str) -> None: ...

    @abstractmethod
    def __contains__(self, key: object) -> bool: ...

    @overload
    def update(self, mapping: Mapping[str, Any], /) -> None: ...
    @overload
    def update(self, key: str, function: Callable[[Any], Any], /) -> None: ...
    @abstractmethod
    def update(self, what: Mapping[str, Any] | str, function: Callable[[Any], Any] | None = None, /) -> None:
        """Write several keys; or change one key by a pure function of its newest value (None when it is missing).

        The function may be called many times, and never conflicts: when somebody else wrote the key meanwhile, it is
        called again on what they wrote.
        """


ABOUT = "cnstra_about"
"""The attribute of a log record that says what it is about: whose text stands in front of the message."""


def naming(*activations: tuple[UUID, int | None]) -> dict[str, Any]:
    """What a log line says of the runs and activations that it is about, as its ``extra``: fields that any handler finds. None in
    the place of an activation: the line is about the run.
    """
    named = [
        {"run_id": str(run_id)} | ({} if number is None else {"activation_id": number})
        for run_id, number in activations
    ]
    return named[0] if len(named) == 1 else {SEVERAL: named[:_MOST_NAMED]}


SEVERAL = "activations"
"""The field of a line that is about more than one."""

_MOST_NAMED = 20


class PlacedLog(logging.LoggerAdapter[logging.Logger]):
    """Puts ``where`` of its extras in front of every line; the record has it, too, beside what the caller adds."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        where = cast("Mapping[str, Any]", self.extra)["where"]
        kwargs["extra"] = {ABOUT: where, **(kwargs.get("extra") or {})}
        return f"{where}: {msg}", kwargs


def progress_text(progress: Any, where: str) -> str | None:
    """The JSON text of a progress; None for none. Raises ContextError for what cannot be kept, naming path and type."""
    if progress is None:
        return None
    where = f"progress of {where}"
    text = values.dump(progress, where=where, error=ContextError)
    if len(text) * 4 > LARGEST_PROGRESS and (size := len(text.encode())) > LARGEST_PROGRESS:
        raise ContextError(
            f"{where}: is {size:,} bytes of JSON, above the limit of {LARGEST_PROGRESS:,}; report where the work is, and "
            "keep the work itself elsewhere"
        )
    return text


def checked_key(key: Any) -> str:
    """The key itself. Raises ContextError for what cannot be a key of a context."""
    if type(key) is str and len(key) <= LONGEST_KEY and key.isascii() and "\0" not in key:
        return key
    if type(key) is not str:
        raise ContextError(f"{key!r} of type {type(key).__name__} is no key of a context; keys are strings")
    if len(key) > LONGEST_KEY:
        raise ContextError(f"a key of a context has {len(key)} characters, at most {LONGEST_KEY} fit: {key[:50]!r}…")
    values.dump(key, where=f"key {key!r} of a context", error=ContextError)
    return key


def checked_items(mapping: Any, where: object) -> list[tuple[Any, Any]]:
    """What ``ctx.update(mapping)`` writes. Raises ContextError for what is no mapping."""
    if not isinstance(mapping, Mapping):
        raise ContextError(
            f"context of {where}: update() takes a mapping, or a key and a function of its value, and got "
            f"{type(mapping).__name__}"
        )
    return list(mapping.items())


def checked_function(key: str, function: Any, where: object) -> Callable[[Any], Any]:
    """The function of ``ctx.update(key, function)``. Raises ContextError for what cannot be called."""
    if not callable(function):
        given = (
            "" if function is None else f", and got {type(function).__name__}; to write a value, ctx[{key!r}] = value"
        )
        raise ContextError(f"context of {where}: update({key!r}) needs a function of the key's value{given}")
    return cast("Callable[[Any], Any]", function)


def fitting(type_: ValueType, key: str, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The function, with what it gives held against the declared type of the context."""

    def fitted(value: Any) -> Any:
        new = function(value)
        type_.check_key(key, new)
        return new

    return fitted
