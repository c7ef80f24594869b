"""What only the test kit raises: a use of a lab that cannot be, and a change to a context that would be lost."""

from __future__ import annotations

from cnstra.orchestrator.errors import CnstraError, ContextError


class LabError(CnstraError):
    """A use of a lab that cannot be, or a graph that does not come to rest in it."""


class UnassignedChange(LabError, ContextError):
    """A handler changed a value of its context in place and did not assign it: in production the change would be lost."""
