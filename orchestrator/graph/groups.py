"""What a gather says of its group, and what it gets for a member that failed.

Owned here are the words alone. ``Neuron.gather`` makes gathers, ``reaching`` finds which scatters they belong to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cnstra.orchestrator.errors import GraphError
from cnstra.orchestrator.graph.collaterals import Collateral


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathering:
    """What makes a dendrite a gather: it is called once a group, with the results of the members."""

    of: Collateral[Any] | None
    """The scattered collateral whose groups it gathers; None: the one from which its own can be reached."""
    return_failures: bool
    """Whether a member that failed is handed over in its place, and counts as handled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberFailure:
    """Stands in the place of a member that failed, for a gather with ``return_failures=True``."""

    index: int
    """The member's place in the scatter, from 0."""
    payload: Any
    """What was scattered to it."""
    error: str
    """What went wrong, as ``cnstra.activations`` says it."""
    error_type: str
    """The qualified name of the exception, or of CNStra's own error."""


def make_gathering(of: Any, return_failures: Any, where: str) -> Gathering:
    """Checked options of a gather. Raises GraphError."""
    if of is not None and not isinstance(of, Collateral):
        raise GraphError(f"{where}: of= must be the collateral that is scattered, got {type(of).__name__}")
    if not isinstance(return_failures, bool):
        raise GraphError(f"{where}: return_failures= must be True or False, got {return_failures!r}")
    return Gathering(of=of, return_failures=return_failures)
