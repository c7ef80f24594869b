"""Both clients with a store of contexts of the user's own: what they read there, and what they say without it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from cnstra import (
    CNS,
    AsyncOrchestrator,
    Axon,
    ConfigurationError,
    Context,
    ContextError,
    ContextLost,
    DataRefused,
    Orchestrator,
    StoreUnavailable,
    collateral,
    neuron,
)
from cnstra.orchestrator.blobs import Blobs
from support.blob_stores import GetsMany
from support.serving import serving
from support.waiting import eventually

PATIENCE = 60.0


class PackAxon(Axon):
    packed = collateral("packed", str)


ordered = collateral("ordered", str)
packing = neuron("packing", PackAxon)
labelling = neuron("labelling")


@packing.dendrite(ordered)
def pack(name: str, axon: PackAxon, ctx: Context) -> Any:
    """Two keys, and a slot of its own."""
    ctx.set({"name": name, "boxes": 1})
    ctx.local.set({"tape": True})
    return axon.packed.create_signal(name)


@labelling.dendrite(PackAxon.packed)
async def label(name: str, _axon: Any, ctx: Context) -> None:
    """Removes one key, and updates the other."""
    del ctx["name"]
    ctx.update("boxes", lambda boxes: boxes + 1)


cns = CNS([packing, labelling], name="packing")

first, second = neuron("first"), neuron("second")


@first.dendrite(ordered)
def count_first(_name: str, _axon: Any, ctx: Context) -> None:
    ctx.update("count", lambda count: (count or 0) + 1)


@second.dendrite(ordered)
def count_second(_name: str, _axon: Any, ctx: Context) -> None:
    ctx.update("count", lambda count: (count or 0) + 10)


counting = CNS([first, second], name="counting")


@pytest.fixture
def store() -> GetsMany:
    return GetsMany()


class Picky(GetsMany):
    """Holds back the first blob of activation 1, and refuses the second: the one on top of what others wrote meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.others_are_done = threading.Event()

    def put(self, key: str, data: bytes) -> None:
        activation, epoch, _nonce, turn, _digest = key.partition("/")[2].split("-")
        if (activation, epoch) == ("1", "1"):
            assert self.others_are_done.wait(PATIENCE)
            if turn == "1":
                raise DataRefused("never this one")
        super().put(key, data)


def test_what_was_put_before_a_refusal_is_known_to_be_nobodys(database_url: str, broker_url: str) -> None:
    """The try has failed, and left a blob of an earlier settlement behind; the next try counts, and the blob is litter."""
    store = Picky()
    with (
        serving(counting, database_url, broker_url, contexts=[Blobs(store)]),
        Orchestrator(counting, database=database_url, broker=broker_url, context=store) as client,
        psycopg.connect(database_url, autocommit=True) as connection,
    ):
        run = client.submit(ordered.create_signal("Ada"))
        eventually(lambda: run.describe()["activations"][1]["status"] == "done", PATIENCE, what="the other is done")
        store.others_are_done.set()
        assert run.wait(PATIENCE).context == {"count": 11}
        rows = connection.execute("select key from cnstra.context_blobs where run_id = %s", [run.id]).fetchall()
        litter = connection.execute("select key from cnstra.context_litter").fetchall()
    assert {key for (key,) in rows + litter} == set(store.blobs)
    assert len(litter) == 1


@pytest.fixture
def served(database_url: str, broker_url: str, store: GetsMany) -> Iterator[tuple[str, str]]:
    """The servers, and a worker that has the store under two names."""
    with serving(cns, database_url, broker_url, contexts=[Blobs(store), Blobs(store, "archive")]):
        yield database_url, broker_url


def test_a_client_reads_through_the_store(served: tuple[str, str], store: GetsMany) -> None:
    """The result, every version, and the history with local contexts."""
    with Orchestrator(cns, database=served[0], broker=served[1], context=store) as client:
        run = client.submit(ordered.create_signal("Ada"))
        assert run.wait(PATIENCE).context == {"boxes": 2}
        assert [run.context(version) for version in range(3)] == [None, {"name": "Ada", "boxes": 1}, {"boxes": 2}]
        with pytest.raises(ContextError, match="versions 0 to 2, not 3"):
            run.context(3)
        history = [(one.version, one.written, one.removed, one.local_written) for one in run.history()]
        assert history == [
            (1, {"name": "Ada", "boxes": 1}, (), {"tape": True}),
            (2, {"boxes": 2}, ("name",), None),
        ]
        assert run.describe()["context_place"] == "context"


def test_an_async_client_reads_through_the_same_sync_store(served: tuple[str, str], store: GetsMany) -> None:
    """Under another name, too."""

    async def main() -> None:
        options: dict[str, Any] = {"database": served[0], "broker": served[1], "context": store}
        async with AsyncOrchestrator(cns, **options, context_name="archive") as client:
            [run] = await client.submit_many([ordered.create_signal("Grace")])
            assert (await run.wait(PATIENCE)).context == {"boxes": 2}
            assert await run.context(1) == {"name": "Grace", "boxes": 1}
            assert [one.removed for one in await run.history()] == [(), ("name",)]
            assert (await run.describe())["context_place"] == "archive"

    asyncio.run(main())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (None, r"which was not given here; pass it: Orchestrator\(..., context=store, context_name='archive'\)"),
        ("other", r"keeps its context in the store 'archive'"),
    ],
)
def test_a_client_without_the_store_is_told_what_to_pass(
    served: tuple[str, str], store: GetsMany, name: str | None, message: str
) -> None:
    """For what needs the context; everything else about the run it may know."""
    servers: dict[str, Any] = {"database": served[0], "broker": served[1]}
    with Orchestrator(cns, **servers, context=store, context_name="archive") as owner:
        run_id = owner.submit(ordered.create_signal("Ada")).id
        owner.get_run(run_id).wait(PATIENCE)
    options: dict[str, Any] = {} if name is None else {"context": store, "context_name": name}
    with Orchestrator(cns, **servers, **options) as stranger:
        run = stranger.get_run(run_id)
        for ask in (run.context, run.history, run.wait):
            with pytest.raises(ConfigurationError, match=message):
                ask()
        assert run.status() == "completed"
        assert len(run.describe()["activations"]) == 2


def test_what_the_store_has_lost_is_an_error_and_nothing_older(served: tuple[str, str], store: GetsMany) -> None:
    """Whoever has read it already may know it still; whoever has not does not. Away is not lost."""
    servers: dict[str, Any] = {"database": served[0], "broker": served[1]}
    with Orchestrator(cns, **servers, context=store) as owner:
        run_id = owner.submit(ordered.create_signal("Ada")).id
        owner.get_run(run_id).wait(PATIENCE)
    with psycopg.connect(served[0]) as connection:
        query = "select key from cnstra.context_blobs where run_id = %s order by version"
        first, second = (key for (key,) in connection.execute(query, [run_id]))
    with Orchestrator(cns, **servers, context=store) as other:
        run = other.get_run(run_id)
        store.away = True
        with pytest.raises(StoreUnavailable, match="the store of contexts 'context', get: AwayError"):
            run.context()
        store.away = False
        good = store.blobs.pop(second)
        with pytest.raises(ContextLost, match=f"{run_id}.*{second}.*is gone"):
            run.context()
        assert run.context(1) == {"name": "Ada", "boxes": 1}
        store.blobs[second] = good
        assert run.context() == {"boxes": 2}
    assert first in store.blobs


def test_a_client_that_is_given_no_store_at_all_is_refused(served: tuple[str, str]) -> None:
    """At once, and with no connection made."""
    with pytest.raises(ConfigurationError, match="no method put"):
        Orchestrator(cns, database=served[0], broker=served[1], context=object())  # type: ignore[arg-type]
