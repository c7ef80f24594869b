"""The declared type of a payload, as the rest of the graph and the engine use it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cnstra.orchestrator.errors import GraphError, PayloadError
from cnstra.orchestrator.graph.payload.build import build_coder, coder_of
from cnstra.orchestrator.graph.payload.coder import Misfit, Unsupported, key_step, type_name


class PayloadType:
    """A declared type and its exact JSON form.

    ``owner`` is how messages name what carries the payload, for example ``collateral 'order.placed'``. Raises
    GraphError when the type has no exact JSON form.
    """

    __slots__ = ("_coder", "declared", "exact_class", "fits", "owner")

    declared: Any
    owner: str
    exact_class: type | None
    """A class whose own instances all fit from outside, if there is one: what a caller may test first."""
    fits: Callable[[Any], bool]
    """Whether the outer type of a value is the declared one."""

    def __init__(self, declared: Any, owner: str) -> None:
        try:
            self._coder = build_coder(declared)
        except Unsupported as unsupported:
            where = f" at {unsupported.path}" if unsupported.path else ""
            raise GraphError(
                f"the payload type of {owner} cannot be stored{where}: {unsupported.problem}"
            ) from unsupported.__cause__
        except RecursionError:
            raise GraphError(
                f"the payload type of {owner} cannot be stored: it nests into itself without end"
            ) from None
        self.declared = declared
        self.owner = owner
        self.fits = self._coder.fits
        self.exact_class = self._coder.exact_class

    @property
    def expected(self) -> str:
        """The type as messages name it."""
        return self._coder.expected

    def check(self, value: object) -> None:
        """Refuse a value whose outer type is not the declared one; what is inside is not looked at."""
        if not self.fits(value):
            raise PayloadError(
                f"{self.owner} carries {self.expected}, got {type_name(value)}; give it a payload of its type"
            )

    def encode(self, value: object) -> Any:
        """The exact JSON of ``value`` in builtins, all of it checked; raises PayloadError with the path."""
        try:
            return self._coder.encode(value)
        except (Misfit, RecursionError) as error:
            raise self._unfit(error, "cannot carry this payload") from error.__cause__

    def decode(self, value: Any) -> Any:
        """The value that was encoded, as the declared type; raises PayloadError with the path."""
        try:
            return self._coder.decode(value)
        except (Misfit, RecursionError) as error:
            raise self._unfit(error, f"cannot read this JSON as {self.expected}") from error.__cause__

    def check_key(self, key: str, value: Any) -> None:
        """Refuse the exact JSON of one key of the value if it would not come back; raises PayloadError with the path.

        A key that the type does not name, and a type whose keys are not known one by one, are left to ``decode``.
        """
        coder = coder_of(self._coder, key)
        try:
            if coder is not None:
                coder.decode(value)
        except (Misfit, RecursionError) as error:
            raise self._unfit(error, "cannot carry this", at=key_step(key)) from error.__cause__

    def describe(self) -> str:
        """The type's structure as a stable text, for fingerprints."""
        return self._coder.describe(set())

    def _unfit(self, error: Misfit | RecursionError, failure: str, at: str = "") -> PayloadError:
        if isinstance(error, Misfit):
            return PayloadError(f"{self.owner} {failure}: ${at}{error.path} {error.problem}")
        return PayloadError(
            f"{self.owner} {failure}: it is nested too deeply, or holds itself; flatten it, or store it elsewhere"
        )

    def __repr__(self) -> str:
        return f"PayloadType({self.expected})"
