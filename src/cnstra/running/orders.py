"""What a worker is told to do, and how a parent tells it to a child: over a pipe, so that no list of processes and no
environment shows a password.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Literal

from cnstra.loading import named_context
from cnstra.workers.settings import WorkerSettings

Form = Literal["text", "json"]
"""What the log's lines are like."""

DRAIN = b"drain"
"""Take no more work, let handlers end."""
NOW = b"now"
"""End at once."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Orders:
    """One worker: which graph, which servers, how much. ``lease`` and ``drain`` are seconds; ``contexts`` are stores as
    ``load_context`` takes them, ``codec`` is one as ``load_codec`` does; ``health`` is where probes are answered.
    """

    app: str
    database_url: str
    broker_url: str
    processes: int
    threads: int
    coroutines: int
    queues: tuple[str, ...] | None
    lease: float
    drain: float
    log_level: str
    log_format: Form = "text"
    contexts: tuple[str, ...] = ()
    codec: str | None = None
    transactions: int | None = None
    debug: bool = False
    health: str | None = None

    @property
    def urls(self) -> list[str]:
        """Where its servers are: what passwords may stand in."""
        return [self.database_url, self.broker_url, *(where for _, where in map(named_context, self.contexts))]

    def settings(self) -> WorkerSettings:
        """The same in the words of the worker. Raises ``ConfigurationError``."""
        return WorkerSettings(
            queues=self.queues,
            threads=self.threads,
            coroutines=self.coroutines,
            transactions=self.transactions,
            lease=timedelta(seconds=self.lease),
            drain=timedelta(seconds=self.drain),
        )

    def packed(self) -> bytes:
        """One line, for a pipe."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def unpacked(cls, line: bytes) -> Orders:
        """What ``packed`` made a line of."""
        given = json.loads(line)
        queues, contexts = given.pop("queues"), given.pop("contexts")
        return cls(**given, queues=None if queues is None else tuple(queues), contexts=tuple(contexts))
