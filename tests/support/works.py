"""Claimed work as a worker has it, for tests that need some and no store."""

from __future__ import annotations

from uuid import UUID

from cnstra.orchestrator.machine.records import Claimed
from cnstra.orchestrator.slots import EMPTY
from cnstra.orchestrator.store import Work

RUN = UUID("0192f0c1-2b3c-7d4e-8f5a-6b7c8d9e0f10")


def work(number: int = 1, run_id: UUID = RUN) -> Work:
    """An activation of a run, tried for the first time."""
    return Work(
        run_id=run_id,
        fence=Claimed(activation_id=number, epoch=1, nonce=1),
        neuron="bank",
        collateral="order",
        queue="default",
        payload="1",
        attempt=1,
        try_number=1,
        failures=0,
        elapsed=0.0,
        idled=0.0,
        crashes=0,
        run_elapsed=0.0,
        run_idled=0.0,
        policy=None,
        snapshot=EMPTY,
    )
