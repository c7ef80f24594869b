"""Runs whose data is sealed: nothing of it can be read anywhere, and who has the keys notices nothing."""

from __future__ import annotations

import asyncio
import base64
import logging
import random
from typing import Any

import pytest

from cnstra import (
    CNS,
    AsyncOrchestrator,
    Context,
    DataRefused,
    KeyMissing,
    Orchestrator,
    PayloadError,
    Run,
    SubmitError,
    collateral,
    neuron,
)
from cnstra.orchestrator.blobs import Blobs
from cnstra.stores import EncryptedCodec, PostgresContextStore
from support.blob_stores import MemoryBlobStore
from support.sealed import (
    CODEC,
    MARKER,
    NEW,
    ONCE,
    PATIENCE,
    StepAxon,
    all_that_is_stored,
    answered,
    begin_only,
    begun,
    client_of,
    connected,
    everything,
    first,
    hidden,
    small,
)
from support.serving import serving
from support.waiting import eventually


def scattered_out(run: Run) -> bool:
    return any(one["neuron"] == "sumup" and one["status"] == "done" for one in run.describe()["activations"])


def test_nothing_that_a_run_knows_can_be_read_anywhere(urls: tuple[str, str], caplog: pytest.LogCaptureFixture) -> None:
    """Not in any column of any table, not at the broker, not in the logs; neither as it is, nor encoded."""
    caplog.set_level(logging.DEBUG)
    with client_of(everything, urls) as client, serving(everything, *urls, codec=CODEC):
        run = client.submit(begun.create_signal(f"begun {MARKER}"), idempotency_key="o-17", tags={"kind": "secret"})
        eventually(lambda: scattered_out(run), PATIENCE, what="the gather was called")
        waiting = all_that_is_stored(urls)  # what would come too late, and the timer, too
        for form in hidden(MARKER):
            assert form not in waiting
        client.send(answered.create_signal(f"posted {MARKER}"), key="nobody-yet")
        run.send(answered.create_signal(f"expected {MARKER}"))
        run.send(answered.create_signal(f"a letter {MARKER}"))
        eventually(lambda: run.context().get("heard") is not None, PATIENCE, what="the answer was heard")

        whole = run.describe()
        assert whole["entry_payload"] == f"begun {MARKER}"
        assert [out["payload"] for out in whole["outputs"]] == [
            [f"worked {MARKER} 0", f"worked {MARKER} 2"],
            f"unheard {MARKER}",
        ]
        stored = all_that_is_stored(urls)
        for form in hidden(MARKER):
            assert form not in stored
        assert stored.count("$sealed") > 20

        run.cancel(compensate=True)
        eventually(lambda: run.status() == "failed", 2 * PATIENCE, what="its compensation has failed for good")
        assert run.describe()["compensation_error"] == f"not undone: {MARKER}"
        stored = all_that_is_stored(urls)
    for form in hidden(MARKER):
        assert form not in stored
        assert form not in caplog.text
    assert "secret" in stored  # tags are not sealed: one finds runs by them


def test_a_clone_is_sealed_for_itself(urls: tuple[str, str], client: Orchestrator) -> None:
    """Its payload is the original's, and its envelope is not."""
    run = client.submit(first.create_signal("Ada"))
    clone = run.clone()
    with connected(urls) as connection:
        texts = connection.execute("select entry_payload ->> '$sealed' from cnstra.run").fetchall()
    assert len(set(texts)) == 2
    with serving(small, *urls, codec=CODEC):
        assert clone.wait(PATIENCE).context == {"said": "Ada", "again": "AdaAda"}


def test_contexts_that_are_kept_elsewhere_are_sealed_there(
    urls: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """The blobs, and so the digests in their keys; who lacks the key leaves the work, and a client says what it lacks."""
    caplog.set_level(logging.WARNING)
    store = MemoryBlobStore()
    with (
        client_of(small, urls, context=store) as client,
        client_of(small, urls, EncryptedCodec({"k2": NEW}), context=store) as other,
        serving(small, *urls, codec=CODEC, contexts=[Blobs(store)]),
    ):
        run = client.submit(first.create_signal(MARKER))
        assert run.wait(PATIENCE).context == {"said": MARKER, "again": 2 * MARKER}
        assert [one.written for one in run.history()] == [{"said": MARKER}, {"again": 2 * MARKER}]
        with pytest.raises(KeyMissing, match=f"run {run.id}: .*slot 's:.*key 'k1'"):
            other.get_run(run.id).context()
    assert len(store.blobs) == 2
    kept = "".join(data.decode() for data in store.blobs.values()) + all_that_is_stored(urls, at_least=5)
    for form in hidden(MARKER):
        assert form not in kept


wide = neuron("wide", {"out": collateral("out", str)})


@wide.dendrite(collateral("wide", int), retry=ONCE)
def widen(size: int, axon: Any, ctx: Context) -> Any:
    """Writes so many characters that cannot be compressed."""
    ctx["text"] = base64.b64encode(random.Random(size).randbytes(size)).decode()
    return axon.out.create_signal("fits")


widening = CNS([wide], name="widening")


def test_what_is_too_large_once_it_is_sealed_is_refused(urls: tuple[str, str]) -> None:
    """At the door of a submit, with nothing stored; in a hop as its own failed try, beside others that go on."""
    with client_of(widening, urls) as client, client_of(small, urls) as texts, serving(widening, *urls, codec=CODEC):
        with pytest.raises(DataRefused, match=r"payload of 'first': comes to .* bytes, sealed, above the limit"):
            texts.submit(first.create_signal("x" * 3_500_000))
        assert texts.list_runs() == []
        entry = widening.collateral("wide")
        assert entry is not None
        small_one, large = client.submit_many([entry.create_signal(10), entry.create_signal(2_500_000)])
        assert small_one.wait(PATIENCE).status == "completed"
        result = large.wait(PATIENCE)
    assert (result.status, result.error_type) == ("failed", "cnstra.DataRefused")
    assert "context slot 's:text': comes to" in (result.error or "")


def test_a_value_that_looks_sealed_is_refused_at_the_door(urls: tuple[str, str]) -> None:
    """With a codec and without: else it would be taken for one when it is read."""
    lookalike = {"deep": [{"$sealed": "k1:AAAA"}]}
    for codec in (CODEC, None):
        with client_of(small, urls, codec) as client:
            with pytest.raises(PayloadError, match=r"\$\.deep\[0\] has a key '\$sealed'"):
                client.submit(StepAxon.second.create_signal(lookalike))
            assert client.list_runs() == []


bank = neuron("bank", {"out": collateral("out", str)})


@bank.dendrite(collateral("pay", str), transaction=True)
def pay(said: str, axon: Any, ctx: Context) -> Any:
    ctx.connection.execute("insert into ledger values (%s)", [said[:3]])
    ctx["paid"] = said
    return axon.out.create_signal(said)


banking = CNS([bank], name="banking")


def test_a_step_with_its_own_transaction_is_sealed_like_any_other(urls: tuple[str, str]) -> None:
    """What it writes to tables of the user's own is as the user writes it."""
    entry = banking.collateral("pay")
    assert entry is not None
    with connected(urls) as connection, client_of(banking, urls) as client, serving(banking, *urls, codec=CODEC):
        connection.execute("create table ledger (entry text)")
        assert client.submit(entry.create_signal(MARKER)).wait(PATIENCE).context == {"paid": MARKER}
        assert connection.execute("select entry from ledger").fetchall() == [("MAR",)]
    assert MARKER not in all_that_is_stored(urls, at_least=5)


def test_async_clients_seal_and_open_alike(urls: tuple[str, str]) -> None:
    """A submit, the same again, a result, a clone."""

    async def work() -> tuple[Any, ...]:
        async with AsyncOrchestrator(small, database=urls[0], broker=urls[1], codec=CODEC) as client:
            run = await client.submit(first.create_signal(MARKER), idempotency_key="o-17")
            again = await client.submit(first.create_signal(MARKER), idempotency_key="o-17")
            with pytest.raises(SubmitError, match="another signal"):
                await client.submit(first.create_signal("Eve"), idempotency_key="o-17")
            cloned = await run.clone()
            return run.id == again.id, (await run.wait(PATIENCE)).context, (await cloned.wait(PATIENCE)).context

    written = {"said": MARKER, "again": 2 * MARKER}
    with serving(small, *urls, codec=CODEC):
        assert asyncio.run(work()) == (True, written, written)
    assert MARKER not in all_that_is_stored(urls, at_least=5)


def test_a_runs_own_context_is_read_and_written_from_outside_with_its_codec(
    urls: tuple[str, str], client: Orchestrator
) -> None:
    """Key by key; without the codec it says what it needs."""
    run = client.submit(first.create_signal("Ada"))
    begin_only(urls, run, CODEC)
    with connected(urls) as connection:
        store = PostgresContextStore(connection, run.id, codec=CODEC)
        assert store.get() == {"said": "Ada"}
        store.update(lambda value: {**value, "said": MARKER})
        with pytest.raises(KeyMissing, match=f"context of run {run.id}.*key 'k1'"):
            PostgresContextStore(connection, run.id).get()
    assert MARKER not in all_that_is_stored(urls, at_least=5)
    with serving(small, *urls, codec=CODEC):
        assert run.wait(PATIENCE).context == {"said": MARKER, "again": f"Ada{MARKER}"}
