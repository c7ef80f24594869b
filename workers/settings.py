"""What a worker process is told: how much it may hold, how long its lease is, when it looks around."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from cnstra.orchestrator.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """Settings of one worker process. Durations are ``timedelta``.

    ``threads`` is how many sync handlers run at once, ``coroutines`` how many async ones. A lease that is not renewed
    for ``lease`` makes the worker lost: what it held is tried again elsewhere after ``crash_backoff``; an activation that
    lost ``poison_limit`` workers has failed with ``Poisoned``. The supervisor looks around every ``look_every`` and rings
    again for what nobody has claimed for ``unclaimed_after``; ``expire_every`` is how often it has deleted what the store's
    rules no longer keep. A single successor goes on in the same process for at most
    ``streak`` hops before others get their turn. From ``most_stuck`` handlers on, sync or async, that went beyond their
    ``max_duration`` and do not come back, the process claims no more work for such handlers. A blob of a context that
    turned out to be nobody's is deleted from its store ``litter_after`` so long a time. Of the handlers of each kind with
    ``transaction=True`` so many as ``transactions`` may have their connection at once; None is as many as ``threads``.
    """

    queues: tuple[str, ...] | None = None
    threads: int = 8
    coroutines: int = 200
    transactions: int | None = None
    lease: timedelta = timedelta(seconds=15)
    drain: timedelta = timedelta(seconds=25)
    crash_backoff: timedelta = timedelta(seconds=1)
    poison_limit: int = 5
    look_every: timedelta = timedelta(milliseconds=750)
    supervisor_lease: timedelta = timedelta(seconds=2)
    unclaimed_after: timedelta = timedelta(milliseconds=200)
    expire_every: timedelta = timedelta(minutes=1)
    streak: int = 100
    most_stuck: int = 32
    litter_after: timedelta = timedelta(minutes=1)

    def __post_init__(self) -> None:
        for name in ("threads", "coroutines", "poison_limit", "most_stuck"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"a worker's {name} is {getattr(self, name)}; it must be at least 1")
        if self.transactions is not None and self.transactions < 1:
            raise ConfigurationError(f"a worker's transactions is {self.transactions}; it must be at least 1")
        for name in ("lease", "look_every", "supervisor_lease", "unclaimed_after", "expire_every"):
            if getattr(self, name) <= timedelta(0):
                raise ConfigurationError(f"a worker's {name} is {getattr(self, name)}; it must be longer than nothing")
        if self.queues is not None and not self.queues:
            raise ConfigurationError(
                "a worker was given an empty list of queues; leave it out to serve all of the graph's"
            )
