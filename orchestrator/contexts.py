"""The port of a context store: one value that outlives whoever works on it; and the store in memory.

Anything with ``get()`` and ``set(value)`` is a context store. The stores that come with CNStra count versions, too, so that
two writers can tell that they met. All of it is for sync callers; this file knows no server.

Rules that all of CNStra's stores follow:

- ``get()`` gives the caller's own copy: changing it changes nothing that is stored.
- None is no value: ``set(None)`` is ``delete()``, and ``get()`` is None where there is nothing.
- Version 0 says that nothing was ever written. The first write gives a version above it; every further one (a set, a
  deletion, a compare-and-set that succeeded, an update) gives exactly one more.
- A value is exactly JSON, or what the store's codec takes. What is refused is refused before anything is written.
"""

from __future__ import annotations

import json
import marshal
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import NoneType
from typing import Any, Final, Protocol, TypeVar, runtime_checkable

from cnstra.orchestrator import values
from cnstra.orchestrator.codecs import Codec, JsonCodec, checked, decoded, encoded
from cnstra.orchestrator.errors import ContextConflict, ContextError
from cnstra.orchestrator.values import MAX_VALUE_BYTES

T = TypeVar("T")


@runtime_checkable
class ContextStore(Protocol):
    """Keeps one value."""

    def get(self) -> Any:
        """The value; None when there is none."""
        ...

    def set(self, value: Any, /) -> None:
        """Write the value."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Versioned:
    """A value, and the version that it has."""

    value: Any
    version: int


@runtime_checkable
class VersionedContextStore(ContextStore, Protocol):
    """Keeps one value, and counts its versions."""

    @property
    def version(self) -> int:
        """The version of the last write; 0 when nothing was ever written."""
        ...

    def get_versioned(self) -> Versioned:
        """The value with its version, read at one moment."""
        ...

    def compare_and_set(self, value: Any, expected_version: int) -> bool:
        """Write the value if the version is still ``expected_version``; whether it was. With 0: if there is nothing yet."""
        ...

    def update(self, function: Callable[[Any], T], /) -> T:
        """Write what a pure function makes of the newest value (None when there is none), and return it."""
        ...

    def delete(self) -> None:
        """Remove the value. That is a write: the version goes up."""
        ...


# -- writers that meet ---------------------------------------------------------------------------------------------

MOST_RACES: Final = 1000
"""How many races in a row an update may lose before it gives up: with its pauses, that takes about half a minute."""

_LONGEST_PAUSE = 0.05


def updated(
    store: VersionedContextStore,
    function: Callable[[Any], T],
    where: str,
    *,
    races: int = MOST_RACES,
    sleep: Callable[[float], None] = time.sleep,
    chance: Callable[[], float] = random.random,
) -> T:
    """``update`` by ``compare_and_set``: calls the function again on what whoever was first has written.

    Nothing is locked while the function runs. The more races are lost, the longer are the pauses between them, up to
    50 ms, and each of another length, so that many writers come out of each other's way.

    Raises ``ContextConflict`` after ``races``, with nothing written.
    """
    for lost in range(races):
        held = store.get_versioned()
        value = function(held.value)
        if store.compare_and_set(value, held.version):
            return value
        if lost:  # the first time somebody else was just quicker
            sleep(chance() * min(0.0005 * 2.0 ** min(lost, 10), _LONGEST_PAUSE))
    raise ContextConflict(
        f"{where}: an update lost {races:,} races in a row, nothing was written; is it written to without a pause, "
        "or by the update's own function?"
    )


def version_asked(expected_version: Any, where: str) -> int:
    """The version that a compare-and-set expects. Raises ``ContextError`` for what cannot be one."""
    if type(expected_version) is not int or expected_version < 0:
        raise ContextError(
            f"{where}: expected_version is {expected_version!r}; it is an int from 0, as .version gives it"
        )
    return expected_version


# -- in memory -----------------------------------------------------------------------------------------------------

_ATOMS: Final = frozenset({str, int, float, bool, NoneType})
_SMALL: Final = 2**63
_WHERE: Final = "the context in memory"

# marshal copies trees of builtins several times faster than any loop in Python. Its second format writes every object
# anew: later ones would keep two mentions of one list as one list, which JSON does not.
_FORMAT: Final = 2
# No JSON text is longer than this many times marshal's bytes: "false" and a comma stand against one byte, \\u0001 against
# one byte of a string.
_WIDEST: Final = 6


class InMemoryContextStore:
    """A context in this process's memory, gone with it. Threads may share it.

    ``value`` is what it holds at the beginning; it counts as the first write. ``codec`` is for values that are not
    exactly JSON; without one, they are copied without being written as text.
    """

    __slots__ = ("__weakref__", "_codec", "_held", "_lock")

    def __init__(self, value: Any = None, *, codec: Codec | None = None) -> None:
        self._codec = None if codec is None or type(codec) is JsonCodec else checked(codec)
        self._lock = threading.Lock()
        self._held: tuple[Any, int] = (None, 0)  # an atom or bytes; replaced as one, so that readers need no lock
        if value is not None:
            self.set(value)

    def get(self) -> Any:
        """The value, as a copy of the caller's own; None when there is none."""
        return self._opened(self._held[0])

    def set(self, value: Any, /) -> None:
        """Write the value; None removes it. Raises ``ContextError`` for one that is not exactly JSON."""
        sealed = self._sealed(value)
        with self._lock:
            self._held = (sealed, self._held[1] + 1)

    @property
    def version(self) -> int:
        """How many times it was written."""
        return self._held[1]

    def get_versioned(self) -> Versioned:
        """The value with its version, read at one moment."""
        sealed, version = self._held
        return Versioned(value=self._opened(sealed), version=version)

    def compare_and_set(self, value: Any, expected_version: int) -> bool:
        """Write the value if the version is still ``expected_version``; whether it was."""
        expected = version_asked(expected_version, _WHERE)
        sealed = self._sealed(value)
        with self._lock:
            if self._held[1] != expected:
                return False
            self._held = (sealed, expected + 1)
            return True

    def update(self, function: Callable[[Any], T], /) -> T:
        """Write what a pure function makes of the newest value, and return it; called again when another was first."""
        return updated(self, function, _WHERE)

    def delete(self) -> None:
        """Remove the value."""
        self.set(None)

    def _sealed(self, value: Any) -> Any:
        if value is None:
            return None
        if self._codec is not None:
            return encoded(self._codec, value, _WHERE)
        kind = type(value)
        if kind is int and -_SMALL < value < _SMALL:
            return value
        values.check(value, where=_WHERE, error=ContextError)
        if kind in _ATOMS:
            if kind is str:
                _check_size(value, len(value))
            return value
        try:
            data = marshal.dumps(value, _FORMAT)
        except ValueError:  # 2,000 levels, which a raised recursion limit lets through
            raise ContextError(f"{_WHERE}: is nested too deeply; flatten it") from None
        _check_size(value, len(data))
        return data

    def _opened(self, sealed: Any) -> Any:
        if type(sealed) is not bytes:
            return sealed
        return marshal.loads(sealed) if self._codec is None else decoded(self._codec, sealed, _WHERE)  # noqa: S302 - own bytes

    def __repr__(self) -> str:
        return f"<{type(self).__name__} at version {self.version}>"


def _check_size(value: Any, size: int) -> None:
    """Refuse what other stores would refuse; only what may be too large is written as text for it."""
    if size * _WIDEST > MAX_VALUE_BYTES:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        values.check_size(text, where=_WHERE, error=ContextError)
