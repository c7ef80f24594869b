"""A lab's time, which only the lab moves; and its ids, whose order is the same each time."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from uuid import UUID

from cnstra.orchestrator.ports import uuid7
from cnstra.testing.errors import LabError

_PER_MILLISECOND = 1 << 12  # ids that sort by when they were made: what fits before the variant of a UUIDv7


class LabClock:
    """Stands still until it is moved, and never goes back. Begins on a whole second, now where nobody says when."""

    def __init__(self, start: datetime | None = None) -> None:
        if start is not None and start.tzinfo is None:
            raise LabError(f"start={start!r} has no time zone; give it one, such as datetime(..., tzinfo=UTC)")
        self.began = (start or datetime.now(UTC)).replace(microsecond=0)
        self._now = self.began

    def now(self) -> datetime:
        return self._now

    def move_to(self, moment: datetime) -> None:
        """Let time pass until then; a moment that has passed changes nothing."""
        self._now = max(self._now, moment)

    def seconds(self) -> float:
        """How long it has run."""
        return (self._now - self.began) / timedelta(seconds=1)


class LabEntropy:
    """Ids and nonces. Run ids sort by when they were made, also where the clock stands: chance decides no order."""

    def __init__(self, chance: random.Random, clock: LabClock) -> None:
        self._chance = chance
        self._clock = clock
        self._last = 0

    def run_id(self) -> UUID:
        self._last = max(self._last + 1, int(self._clock.now().timestamp() * 1000) * _PER_MILLISECOND)
        milliseconds, number = divmod(self._last, _PER_MILLISECOND)
        return uuid7(milliseconds, (number << 64 | self._chance.getrandbits(62)).to_bytes(10))

    def nonce(self) -> int:
        return self._chance.getrandbits(63)
