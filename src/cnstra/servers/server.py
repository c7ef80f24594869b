"""What the supervisor can do with a server of either kind.

Owns the meaning of the words: `Stop.FAST` is an orderly end, `Stop.IMMEDIATE` is what a crash looks like to
the clients and to the data. Holds no state.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol


class Stop(StrEnum):
    """How a server ends."""

    FAST = "fast"
    IMMEDIATE = "immediate"


class Server(Protocol):
    """A server that can be started, stopped and started again in its place."""

    @property
    def url(self) -> str:
        """Where clients connect, the password included."""
        ...

    @property
    def running(self) -> bool:
        """Whether it was started and lives."""
        ...

    def start(self) -> None:
        """Make the data if there are none, and return when clients can connect.

        A server that ran before gets the port back that it had.
        """
        ...

    def stop(self, how: Stop) -> None:
        """Return when nothing of it is left; no effect on one that does not run."""
        ...
