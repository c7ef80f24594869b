"""How the life of a worker meets that of dramatiq's process."""

from __future__ import annotations

from typing import Any

import pytest

from cnstra.running.under_dramatiq import _LifeUnderDramatiq, dramatiq_broker
from cnstra.workers.doorbell.messages import RING_ACTOR
from support.apps.sagas import cns

URLS = {"database": "postgresql://nobody@127.0.0.1:1/nothing", "broker": "redis://127.0.0.1:1/0"}


class Consumer:
    def __init__(self, told: list[str]) -> None:
        self._told = told

    def stop(self) -> None:
        self._told.append("consumer")


class Worker:
    """Dramatiq's, as far as its hooks see it."""

    def __init__(self, broker: Any, told: list[str]) -> None:
        self.broker = broker
        self.consumers = {queue: Consumer(told) for queue in ("one", "two")}


def test_consumers_stop_before_handlers_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dramatiq stops them after its hooks; until then they would take doorbells that nobody answers."""
    broker: Any = dramatiq_broker(cns, **URLS)
    [life] = [one for one in broker.middleware if isinstance(one, _LifeUnderDramatiq)]
    told: list[str] = []
    monkeypatch.setattr(broker, "hush", lambda: told.append("hush"))

    class Life:
        def drain(self) -> None:
            told.append("drain")
            life._ended.set()

    life._life = Life()  # type: ignore[assignment]

    life.before_worker_shutdown(broker, Worker(broker, told))  # type: ignore[arg-type]

    assert told == ["consumer", "consumer", "hush", "drain"]


def test_a_broker_knows_the_doors_of_its_graph_and_connects_nowhere() -> None:
    """It is made when a module is imported, in every process that dramatiq starts, and in its own."""
    broker = dramatiq_broker(cns, **URLS)

    assert set(broker.queues) == {"default@sagas", "slow@sagas"}
    assert set(broker.actors) == {RING_ACTOR}
    assert set(dramatiq_broker(cns, queues=["slow"], **URLS).queues) == {"slow@sagas"}
