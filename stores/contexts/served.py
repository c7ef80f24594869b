"""What context stores on servers have in common: every use of them is one reading, or one conditional write."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TypeVar

from cnstra.orchestrator.contexts import Versioned, updated, version_asked

T = TypeVar("T")


class ServedContextStore(ABC):
    """A context store on a server. ``_where`` names the context in errors."""

    __slots__ = ()

    _where: str

    def get(self) -> Any:
        """The value; None when there is none, or it has expired."""
        return self.get_versioned().value

    def set(self, value: Any, /) -> None:
        """Write the value; None removes it. Raises ``ContextError`` for one that is not exactly JSON, or the codec refuses."""
        self._write(value, None)

    @property
    @abstractmethod
    def version(self) -> int:
        """The version of the last write; 0 when there was none, or it has expired."""

    @abstractmethod
    def get_versioned(self) -> Versioned:
        """The value with its version, read at one moment."""

    def compare_and_set(self, value: Any, expected_version: int) -> bool:
        """Write the value if the version is still ``expected_version``; whether it was."""
        return self._write(value, version_asked(expected_version, self._where))

    def update(self, function: Callable[[Any], T], /) -> T:
        """Write what a pure function makes of the newest value, and return it; called again when another was first.

        Raises ``ContextConflict`` when others were first a thousand times in a row.
        """
        return updated(self, function, self._where)

    def delete(self) -> None:
        """Remove the value."""
        self._write(None, None)

    @abstractmethod
    def _write(self, value: Any, expected: int | None) -> bool:
        """Write a value (None removes it), if the version is still the expected one; whether it was."""
