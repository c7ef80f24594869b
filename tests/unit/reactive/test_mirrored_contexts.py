"""A collection as a mirror writes it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from cnstra.orchestrator.flows import Flows, drive
from cnstra.orchestrator.mirroring import Mirroring
from cnstra.orchestrator.ports import SystemEntropy
from cnstra.stores.reactive import Collection, ContextRecord
from cnstra.stores.reactive.mirrored import MirroredContexts
from support.worlds import MemoryWorld, succeeded

ONE, OTHER = (UUID(f"00000000-0000-7000-8000-00000000000{number}") for number in (1, 2))


def test_a_record_only_goes_forward() -> None:
    """What is as new, or newer, stays as it is, and nobody is told."""
    contexts: Collection[str, ContextRecord] = Collection("run_id")
    told: list[tuple[str, ...]] = []
    contexts.subscribe(told.append)
    mirrored = MirroredContexts(contexts)

    mirrored.take({ONE: (2, "two"), OTHER: (1, "one")})
    mirrored.take({ONE: (2, "another two"), OTHER: (3, "three")})
    mirrored.take({ONE: (1, "one")})

    assert [(record.version, record.data) for record in contexts] == [(2, "two"), (3, "three")]
    assert told == [(str(ONE), str(OTHER)), (str(OTHER),)]
    assert (mirrored.version(ONE), mirrored.version(UUID(int=0))) == (2, 0)


def test_it_knows_the_records_of_runs_alone() -> None:
    """Others may keep theirs in the same collection, under names of their own."""
    contexts: Collection[str, ContextRecord] = Collection("run_id")
    for name in (str(ONE), str(OTHER).upper().replace("-", ""), "session 7"):
        contexts.upsert_one(ContextRecord(run_id=name, data=None, version=4))
    assert MirroredContexts(contexts).known() == {ONE: 4}


def test_what_a_look_under_way_has_read_is_not_written_once_the_mirror_has_ended() -> None:
    """Who closes a mirror may go on with the collection as it is."""
    world = MemoryWorld()
    run_id = world.submit("stock")
    contexts: Collection[str, ContextRecord] = Collection("run_id")
    client: Any = _Client(world)
    mirroring = Mirroring(Flows(None, world.store, client, SystemEntropy()), client, MirroredContexts(contexts), {})
    drive(mirroring.begin())
    world.apply(succeeded(world.worker().claim_one(), lambda ctx: ctx.set({"a": 1})))

    look = mirroring.look()
    seen = look.send(None)
    read = look.send(seen)
    mirroring.end()
    with pytest.raises(StopIteration):
        look.send(read)

    assert read[run_id].version == 1
    assert not contexts.has(str(run_id))


def test_an_end_is_found_though_the_clock_of_the_database_has_jumped_back() -> None:
    """As it may when another server takes over: the run came and ended since the last look, at an earlier time."""
    world = MemoryWorld()
    contexts: Collection[str, ContextRecord] = Collection("run_id")
    client: Any = _Client(world)
    mirroring = Mirroring(Flows(None, world.store, client, SystemEntropy()), client, MirroredContexts(contexts), {})
    drive(mirroring.begin())
    world.clock.advance(60)
    drive(mirroring.look())

    world.clock.advance(-3)
    run_id = world.submit("stock")
    world.apply(succeeded(world.worker().claim_one(), lambda ctx: ctx.set({"a": 1})))
    drive(mirroring.look())

    assert contexts.has(str(run_id))


class _Client:
    """A world of flows: over a store in memory, without a pause."""

    def __init__(self, world: MemoryWorld) -> None:
        self.run = world.store.run

    def sleep(self, _seconds: float) -> None: ...

    def monotonic(self) -> float:
        return 0.0
