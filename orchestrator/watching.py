"""Following a run from outside: every version of its context, and every change of its status, each once.

A watch knows the last version that it has given, and asks for what came after it. So it misses nothing and gives nothing twice,
however often the connection breaks, and one that begins anew goes on from where another ended. How the store is asked, and when,
is the business of ``flows``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cnstra.orchestrator.errors import ContextError
from cnstra.orchestrator.flows import Written
from cnstra.orchestrator.machine.states import ENDED, RunStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What has changed of a run.

    ``status`` is the run's at the moment at which this was read: where a run has ended, versions that it wrote before may still
    follow, and the iteration itself says when that was all. ``version`` is that of its context up to which all has been given.
    ``written`` is the version that was written; None where the status alone has changed.
    """

    status: str
    version: int
    written: Written | None


class Watch:
    """Where one watch has got to. ``after`` is the last version that is known already. Raises ``ContextError`` for none."""

    def __init__(self, after: int = 0) -> None:
        if type(after) is not int or after < 0:
            raise ContextError(
                f"after={after!r} is no version of a context; give that of the last change, or 0 for all"
            )
        self.after = after
        self.status: str | None = None
        self._newest = 0

    @property
    def is_over(self) -> bool:
        """Whether the run has ended, and all of it was given."""
        return self.status is not None and RunStatus(self.status) in ENDED and self.after >= self._newest

    def take(self, status: str, newest: int, written: Sequence[Written]) -> list[Change]:
        """What was found of a run, as changes. ``newest`` is the version of its context."""
        self.status, self._newest = status, newest
        if not written:
            return [Change(status=status, version=self.after, written=None)]
        self.after = written[-1].version
        return [Change(status=status, version=one.version, written=one) for one in written]
