"""A lab's workers, as the store sees them: their leases, their claims, and a supervisor that never dies.

Owns time as far as it moves work: what is due is looked for by the same ``Supervisor`` as in production, and
``next_moment`` says when it would find something. Refuses to know calls.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from cnstra.orchestrator.graph import CNS
from cnstra.orchestrator.ports import Entropy, Ring
from cnstra.orchestrator.store import ClaimRequest, Portion, Work, WorkerInfo
from cnstra.stores.memory import MemoryStore
from cnstra.testing.clock import LabClock
from cnstra.testing.errors import LabError
from cnstra.workers.settings import WorkerSettings
from cnstra.workers.supervisor import Supervisor

_MOST_LOOKS = 10_000


class SilentBell:
    """Nobody needs to be rung: the lab looks for work itself."""

    def ring(self, rings: Sequence[Ring]) -> None: ...

    def close(self) -> None: ...


@dataclass(slots=True, eq=False)
class Hand:
    """One incarnation of a worker. ``expires`` is when its lease runs out; ``alone`` says that it holds a poison suspect."""

    worker: UUID
    expires: datetime
    alive: bool = True
    alone: bool = False


class Crew:
    """The workers of a lab."""

    def __init__(
        self, cns: CNS, store: MemoryStore, clock: LabClock, entropy: Entropy, settings: WorkerSettings
    ) -> None:
        self._graph = cns.durable_name
        self._cns = cns
        self._store = store
        self._clock = clock
        self._entropy = entropy
        self._settings = settings
        self._dendrites = tuple(
            (neuron.name, collateral) for neuron in cns.neurons.values() for collateral in neuron.dendrites
        )
        self._compensations = tuple(
            (neuron.name, collateral) for neuron in cns.neurons.values() for collateral in neuron.compensations
        )
        self._limits = {
            neuron.name: neuron.concurrency for neuron in cns.neurons.values() if neuron.concurrency is not None
        }
        self.hands: list[Hand] = []
        supervisor = entropy.run_id()
        self._supervisor = Supervisor(
            store, SilentBell(), settings, lambda: supervisor, _nothing, _nothing, self._expire
        )

    # -- workers -----------------------------------------------------------------------------------------------

    def resize(self, count: int) -> None:
        """Have so many workers. Those that are too many claim no more, and keep what they hold."""
        while len(self.hands) < count:
            self.hands.append(self._born())
        for hand in self.hands[count:]:
            hand.alive = False
        del self.hands[count:]

    def lose(self, hand: Hand) -> None:
        """A worker dies, or stalls: its lease is not renewed any more, and another has its place."""
        if hand.alive:
            hand.alive = False
            self.hands[self.hands.index(hand)] = self._born()

    def _born(self) -> Hand:
        worker = self._entropy.run_id()
        info = WorkerInfo(
            worker=worker,
            host=socket.gethostname(),
            pid=os.getpid(),
            graph=self._graph,
            graph_version=self._cns.version,
            queues=self._cns.queues,
            dendrites=self._dendrites,
            lease=self._settings.lease,
            compensations=self._compensations,
            limits=self._limits,
        )
        self._store.run(self._store.register(info))
        return Hand(worker, self._clock.now() + self._settings.lease)

    def claim(self, hand: Hand, limit: int, *, suspects: bool = False) -> list[Work]:
        return self._store.run(
            self._store.claim(
                ClaimRequest(
                    worker=hand.worker,
                    nonce=self._entropy.nonce(),
                    graph=self._graph,
                    graph_version=self._cns.version,
                    queues=self._cns.queues,
                    dendrites=self._dendrites,
                    limit=limit,
                    suspects=suspects,
                    compensations=self._compensations,
                    limits=self._limits,
                )
            )
        )

    # -- time --------------------------------------------------------------------------------------------------

    def look_around(self) -> None:
        """Renew the leases of the living, and let the supervisor do what is due by now."""
        for hand in self.hands:
            self._store.run(self._store.renew(hand.worker))
            hand.expires = self._clock.now() + self._settings.lease
        for _ in range(_MOST_LOOKS):
            self._supervisor.look_around()
            moment = self.next_moment()
            if moment is None or moment > self._clock.now():
                return
        raise LabError(f"at {self._clock.now()} something stays due, however often the supervisor looks")

    def next_moment(self) -> datetime | None:
        """When time alone next moves something: a timer, a backoff, an attempt, a lost worker. None is never.

        Where nothing can run any more, a worker that lives holds nothing, so that its lease is no such time.
        """
        return self._store.run(self._store.next_moment())

    def _expire(self) -> None:
        """Delete what the store's rules no longer keep. A lab begins with rules that keep everything."""
        while self._store.run(self._store.expire(Portion())).more:
            pass


def _nothing() -> None: ...
