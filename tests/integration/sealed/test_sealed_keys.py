"""Who has the key of sealed data and who has not, what is compared without being the same text, and what was changed."""

from __future__ import annotations

import base64
import logging
import threading
from typing import Any

import pytest

from cnstra import (
    CNS,
    Context,
    KeyMissing,
    Orchestrator,
    SendError,
    SubmitError,
    collateral,
    neuron,
)
from cnstra.orchestrator.blobs import Blobs
from cnstra.orchestrator.sealing import Vault, payload
from cnstra.stores import CompressedCodec, EncryptedCodec, PostgresContextStore
from support.blob_stores import MemoryBlobStore
from support.sealed import (
    CODEC,
    MARKER,
    NEW,
    OLD,
    PATIENCE,
    StepAxon,
    answered,
    begin_only,
    begun,
    client_of,
    connected,
    everything,
    first,
    small,
)
from support.serving import serving
from support.waiting import eventually


def test_the_same_submit_again_is_the_same_run(urls: tuple[str, str], client: Orchestrator) -> None:
    """Under its key or its id, though it is sealed anew each time, and with another key of the codec; another payload is not."""
    run = client.submit(first.create_signal("Ada"), idempotency_key="o-17")
    assert client.submit(first.create_signal("Ada"), idempotency_key="o-17").id == run.id
    assert client.submit(first.create_signal("Ada"), run_id=run.id).id == run.id
    again = [first.create_signal(name) for name in ("Ada", "Bob", "Bob")]
    runs = client.submit_many(again, idempotency_keys=["o-17", "o-18", "o-18"])
    assert (runs[0].id, runs[1].id) == (run.id, runs[2].id)
    with client_of(small, urls, EncryptedCodec({"k2": NEW, "k1": OLD})) as rotated:
        assert rotated.submit(first.create_signal("Ada"), idempotency_key="o-17").id == run.id
        with connected(urls) as connection, connection.transaction():
            joined = rotated.submit(first.create_signal("Ada"), idempotency_key="o-17", connection=connection)
        assert joined.id == run.id
    for options in ({"idempotency_key": "o-17"}, {"run_id": run.id}):
        with pytest.raises(SubmitError, match="another signal"):
            client.submit(first.create_signal("Eve"), **options)  # type: ignore[arg-type]
    with pytest.raises(SubmitError, match="another signal"):
        client.submit_many(again[:2], idempotency_keys=["o-17", "o-17"])
    assert len(client.list_runs()) == 2


def test_a_key_that_is_gone_is_named_where_a_submit_cannot_be_compared(
    urls: tuple[str, str], client: Orchestrator
) -> None:
    """Rather than refused as another signal, or taken for the same."""
    client.submit(first.create_signal("Ada"), idempotency_key="o-17")
    with client_of(small, urls, EncryptedCodec({"k2": NEW})) as other, pytest.raises(KeyMissing, match="key 'k1'"):
        other.submit(first.create_signal("Ada"), idempotency_key="o-17")


def test_a_client_without_a_codec_is_not_told_to_take_another_key(urls: tuple[str, str], client: Orchestrator) -> None:
    """It would start the same order twice: nobody without the key of the codec knows whether the payload is another."""
    run = client.submit(first.create_signal("Ada"), idempotency_key="o-17")
    signals = [first.create_signal("Bob"), first.create_signal("Ada")]
    said = f"{run.id}, whose payload cannot be compared: it is sealed with key 'k1'"
    with client_of(small, urls, None) as plain:
        with pytest.raises(KeyMissing, match=f"^idempotency_key 'o-17' is that of run {said}"):
            plain.submit(signals[1], idempotency_key="o-17")
        with pytest.raises(KeyMissing, match=f"^run_id {run.id} is that of run {said}"):
            plain.submit(signals[1], run_id=run.id)
        with pytest.raises(KeyMissing, match=said):
            plain.submit_many(signals, idempotency_keys=["o-18", "o-17"])
        with pytest.raises(SubmitError, match="another signal"):
            plain.submit(StepAxon.second.create_signal({}), idempotency_key="o-17")
        assert len(plain.list_runs()) == 1


def test_the_same_signal_sent_again_is_sent_once(urls: tuple[str, str]) -> None:
    """To a run, and by key; another payload under the same idempotency key is refused."""
    with client_of(everything, urls) as client:
        run = client.submit(begun.create_signal(MARKER))
        for _ in range(2):
            run.send(answered.create_signal("yes"), idempotency_key="once")
            assert client.send(answered.create_signal("yes"), key="k", idempotency_key="once") is None
        with pytest.raises(SendError, match="another signal"):
            run.send(answered.create_signal("no"), idempotency_key="once")
        with pytest.raises(SendError, match="another signal"):
            client.send(answered.create_signal("no"), key="k", idempotency_key="once")
        with (
            client_of(everything, urls, None) as plain,
            pytest.raises(SendError, match="without its codec; give another"),
        ):
            plain.get_run(run.id).send(answered.create_signal("yes"), idempotency_key="once")
    with connected(urls) as connection:
        assert connection.execute("select count(*) from cnstra.letter").fetchone() == (1,)
        assert connection.execute("select count(*) from cnstra.posted").fetchone() == (1,)


def test_keys_are_changed_while_runs_go_on(urls: tuple[str, str]) -> None:
    """What the old key sealed is opened by whoever has both; what is written from then on is sealed with the new one."""
    both = EncryptedCodec({"k1": OLD, "k2": NEW}, current="k2")
    with client_of(small, urls) as client, client_of(small, urls, both) as rotated:
        run = client.submit(first.create_signal("Ada"))
        with serving(small, *urls, codec=both):
            result = rotated.get_run(run.id).wait(PATIENCE)
        assert (result.context, [out.payload for out in result.outputs]) == (
            {"said": "Ada", "again": "AdaAda"},
            ["Ada"],
        )
        with pytest.raises(KeyMissing, match=f"run {run.id}, .*key 'k2'"):
            run.context()
    with connected(urls) as connection:
        rows = connection.execute(
            "select payload ->> '$sealed' from cnstra.activation order by activation_id"
        ).fetchall()
    assert [text.partition(":")[0] for (text,) in rows] == ["k1", "k2"]


@pytest.mark.parametrize("lacking", [None, EncryptedCodec({"k2": NEW}), CompressedCodec()], ids=repr)
def test_a_worker_without_the_key_leaves_the_work_to_one_that_has_it(
    urls: tuple[str, str], client: Orchestrator, lacking: Any
) -> None:
    """It never claims it; the run says that nobody knows it, and has not failed."""
    run = client.submit(first.create_signal("Ada"))
    with serving(small, *urls, codec=lacking), client_of(small, urls, lacking) as other:
        other.submit(first.create_signal("Bob")).wait(PATIENCE)  # it takes what it can
        eventually(lambda: run.describe()["blocked"] == "unknown", PATIENCE, what="nobody knows it")
        assert [(one["status"], one["tries"]) for one in run.describe()["activations"]] == [("ready", 0)]
        with serving(small, *urls, codec=CODEC):
            assert run.wait(PATIENCE).status == "completed"


def test_work_of_which_a_part_needs_another_key_goes_back_as_no_failed_try(
    urls: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """Its payload can be opened, its context not: somebody else does it."""
    caplog.set_level(logging.WARNING)
    both = EncryptedCodec({"k2": NEW, "k1": OLD})
    with client_of(small, urls, both) as client, connected(urls) as connection:
        run = client.submit(first.create_signal("Ada"))
        begin_only(urls, run, both)
        sealed = Vault(CODEC).seal('{"said":"Ada"}', payload(run.id, "second"))
        connection.execute(
            "update cnstra.activation set payload = %s, place = chr(31) || 'k1' where run_id = %s and activation_id = 2",
            [sealed, run.id],
        )
        with serving(small, *urls, codec=CODEC):
            eventually(lambda: "it goes back" in caplog.text, PATIENCE, what="it was given back")
            eventually(lambda: run.status() == "waiting", PATIENCE, what="it waits")
        assert f"run {run.id}, context slot 's:said': it is sealed with key 'k2'" in caplog.text
        found = run.describe()["activations"][1]
        assert (found["status"], found["tries"], found["error"]) == ("scheduled", 0, None)
        connection.execute("update cnstra.activation set available_at = now() where status = 'scheduled'")
        with serving(small, *urls, codec=both):
            assert run.wait(PATIENCE).status == "completed"


adder = neuron("adder")
adding, added = threading.Event(), threading.Event()


@adder.dendrite(collateral("add", int))
def add(number: int, _axon: Any, ctx: Context) -> None:
    """Waits, before it ends, until somebody else has written."""
    ctx.update("count", lambda count: (count or 0) + number)
    adding.set()
    assert added.wait(PATIENCE)


sums = CNS([adder], name="sums")


def test_a_hop_gives_way_where_others_wrote_with_another_key_meanwhile(
    urls: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """It cannot take their value in; it has not failed, and a worker that has both keys calls it again."""
    caplog.set_level(logging.WARNING)
    both, entry = EncryptedCodec({"k1": OLD, "k2": NEW}), sums.collateral("add")
    assert entry is not None
    with client_of(sums, urls, both) as client, connected(urls) as connection:
        with serving(sums, *urls, codec=CODEC):
            run = client.submit(entry.create_signal(1))
            assert adding.wait(PATIENCE)
            PostgresContextStore(connection, run.id, codec=EncryptedCodec({"k2": NEW})).set({"count": 10})
            added.set()
            eventually(lambda: run.status() == "waiting", PATIENCE, what="it gave way")
        assert "context slot 's:count': it is sealed with key 'k2'" in caplog.text
        [activation] = run.describe()["activations"]
        assert (activation["status"], activation["error"]) == ("scheduled", None)
        connection.execute("update cnstra.activation set available_at = now() where status = 'scheduled'")
        with serving(sums, *urls, codec=both):
            assert run.wait(PATIENCE).context == {"count": 11}


def flipped(sealed: str) -> str:
    """What is sealed, with one bit changed in its last byte."""
    label, _, text = sealed.partition(":")
    data = bytearray(base64.b64decode(text))
    data[-1] ^= 1
    return f"{label}:{base64.b64encode(data).decode()}"


@pytest.mark.parametrize("what", ["payload", "context", "key"])
def test_what_was_changed_fails_its_step_until_it_is_back(
    urls: tuple[str, str], client: Orchestrator, what: str
) -> None:
    """A bit of a payload, of the context, or of the key: the error names run and place, and a retry goes on from there."""
    run = client.submit(first.create_signal("Ada"))
    begin_only(urls, run, CODEC)
    columns = {
        "payload": ("activation", "payload", "and activation_id = 2"),
        "context": ("context_entry", "value", ""),
        "key": ("run", "entry_payload", ""),
    }
    table, column, which = columns[what]
    read = f"select {column} ->> '$sealed' from cnstra.{table} where run_id = %s {which}"
    write = f"update cnstra.{table} set {column} = jsonb_build_object('$sealed', %s::text) where run_id = %s {which}"
    place = "context slot 's:said'" if what == "context" else "payload of 'second'"
    wrong = EncryptedCodec({"k1": NEW}) if what == "key" else CODEC
    with connected(urls) as connection:
        [(sealed,)] = connection.execute(read.encode(), [run.id]).fetchall()
        if what != "key":
            connection.execute(write.encode(), [flipped(sealed), run.id])
        with serving(small, *urls, codec=wrong):
            eventually(lambda: run.status() == "failed", PATIENCE, what="it has failed")
        with client_of(small, urls, wrong) as who_failed_it:
            row = who_failed_it.get_run(run.id).describe()
        assert row["error_type"] == "cnstra.SealError"
        assert row["error"].startswith(f"run {run.id}, {place}: it cannot be opened")
        connection.execute(write.encode(), [sealed, run.id])
    run.retry()
    with serving(small, *urls, codec=CODEC):
        assert run.wait(PATIENCE).context == {"said": "Ada", "again": "AdaAda"}


def test_what_is_sealed_for_one_run_cannot_be_given_to_another(urls: tuple[str, str], client: Orchestrator) -> None:
    """Nor to another place of the same run: it fails, and nothing of the other is done."""
    mine, other = client.submit(first.create_signal("mine")), client.submit(first.create_signal("other"))
    with connected(urls) as connection:
        connection.execute(
            "update cnstra.activation set payload = (select entry_payload from cnstra.run where run_id = %s) where run_id = %s",
            [mine.id, other.id],
        )
    with serving(small, *urls, codec=CODEC):
        assert mine.wait(PATIENCE).status == "completed"
        assert other.wait(PATIENCE).error_type == "cnstra.SealError"


def test_a_client_without_the_key_sees_what_is_sealed_and_is_given_no_value(
    urls: tuple[str, str], client: Orchestrator
) -> None:
    """Rows show envelopes; results, contexts and clones say which key they need."""
    run = client.submit(first.create_signal("Ada"))
    with serving(small, *urls, codec=CODEC):
        result = run.wait(PATIENCE)
    assert [one.written for one in run.history()] == [{"said": "Ada"}, {"again": "AdaAda"}]
    assert [change.written.written for change in run.watch() if change.written] == [
        {"said": "Ada"},
        {"again": "AdaAda"},
    ]
    assert run.context(1) == {"said": "Ada"}
    for lacking in (None, EncryptedCodec({"k2": NEW})):
        with client_of(small, urls, lacking) as other:
            blind = other.get_run(run.id)
            found = blind.describe()
            for value in (found["entry_payload"], found["outputs"][0]["payload"], found["activations"][1]["payload"]):
                assert value["$sealed"].startswith("k1:")
            assert blind.history()[0].written["said"].keys() == {"$sealed"}
            for asks in (blind.wait, blind.context, blind.clone):
                with pytest.raises(KeyMissing, match=f"run {run.id}.*key 'k1'"):
                    asks()
    assert result.status == "completed"


echo = neuron("echo", {"out": collateral("out", dict)})


@echo.dendrite(collateral("call", dict))
def echoed(said: dict[str, str], axon: Any) -> Any:
    """Writes no context."""
    return axon.out.create_signal(said)


echoing = CNS([echo], name="echoing")


def test_an_output_that_nobody_has_opened_is_not_given(urls: tuple[str, str]) -> None:
    """Though its type would fit: it is a mapping, too."""
    entry = echoing.collateral("call")
    assert entry is not None
    with client_of(echoing, urls) as client, serving(echoing, *urls, codec=CODEC):
        run = client.submit(entry.create_signal({"said": "Ada"}))
        assert [out.payload for out in run.wait(PATIENCE).outputs] == [{"said": "Ada"}]
    for lacking in (None, EncryptedCodec({"k2": NEW})):
        with (
            client_of(echoing, urls, lacking) as other,
            pytest.raises(KeyMissing, match=f"run {run.id}, an output on 'out'"),
        ):
            other.get_run(run.id).wait()


def test_runs_that_began_without_a_codec_go_on_with_one(urls: tuple[str, str]) -> None:
    """What has no envelope is read as it is; what is written from then on is sealed."""
    with client_of(small, urls, None) as plain, client_of(small, urls) as client:
        run = plain.submit(first.create_signal("Ada"))
        begin_only(urls, run, None)
        with serving(small, *urls, codec=CODEC):
            assert client.get_run(run.id).wait(PATIENCE).context == {"said": "Ada", "again": "AdaAda"}
        with connected(urls) as connection:
            rows = connection.execute("select data from cnstra.context where run_id = %s", [run.id]).fetchall()
        assert rows[0][0]["said"] == "Ada"
        assert rows[0][0]["again"]["$sealed"].startswith("k1:")
        with pytest.raises(KeyMissing, match=r"an output on 'out'|context of run"):
            run.wait()


def test_a_slot_elsewhere_that_needs_another_key_lets_the_work_go_back(
    urls: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """As one in the database does."""
    caplog.set_level(logging.WARNING)
    store, both = MemoryBlobStore(), EncryptedCodec({"k2": NEW, "k1": OLD})
    with client_of(small, urls, both, context=store) as client, connected(urls) as connection:
        run = client.submit(first.create_signal("Ada"))
        with serving(small, *urls, codec=both, contexts=[Blobs(store)], queues=("default",)):
            eventually(lambda: [one["status"] for one in run.describe()["activations"]] == ["done", "ready"], PATIENCE)
        connection.execute(
            "update cnstra.activation set payload = %s, place = 'context' || chr(31) || 'k1' where activation_id = 2",
            [Vault(CODEC).seal('{"said":"Ada"}', payload(run.id, "second"))],
        )
        with serving(small, *urls, codec=CODEC, contexts=[Blobs(store)]):
            eventually(lambda: "it goes back" in caplog.text, PATIENCE, what="it was given back")
        connection.execute("update cnstra.activation set available_at = now() where status = 'scheduled'")
        with serving(small, *urls, codec=both, contexts=[Blobs(store)]):
            result = run.wait(PATIENCE)
        assert (result.status, run.describe()["activations"][1]["tries"]) == ("completed", 1)
