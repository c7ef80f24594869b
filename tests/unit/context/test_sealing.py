"""Envelopes: what stands in the place of a sealed value, what could be taken for one, and what a claim needs for it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from cnstra import ContextError, DataRefused, KeyMissing, PayloadError, SealError, collateral
from cnstra.orchestrator import sealing, values
from cnstra.orchestrator.emission import encoded
from cnstra.orchestrator.machine.events import Event, Expected, FailedTry, GaveWay, Scattered, Sent, Succeeded
from cnstra.orchestrator.machine.records import Claimed, Failure, Late, Output
from cnstra.orchestrator.run_context import Identity, RunContext
from cnstra.orchestrator.sealed import Sealing, opened_payload
from cnstra.orchestrator.sealed_rows import Rows
from cnstra.orchestrator.sealed_store import AS_THEY_ARE, SealedStore
from cnstra.orchestrator.sealing import Vault
from cnstra.orchestrator.slots import Changes, OnStale, Slot, SlotWrite, Snapshot
from cnstra.orchestrator.store import Operations
from cnstra.stores import CompressedCodec, EncryptedCodec
from cnstra.stores.memory import MemoryStore
from cnstra.workers.calling import failure_of
from support.context_stores import Broken, Zipped
from support.worlds import target

RUN = UUID("0192f0c1-2b3c-7d4e-8f5a-6b7c8d9e0f10")
OTHER = UUID("0192f0c1-2b3c-7d4e-8f5a-6b7c8d9e0f11")
VAULT = Vault(EncryptedCodec({"k1": b"o" * 32}))
HERE = sealing.payload(RUN, "order")


@pytest.mark.parametrize("codec", [EncryptedCodec({"k1": b"o" * 32}), CompressedCodec(), Zipped()], ids=range(3))
@pytest.mark.parametrize("text", ['{"a":[1,"ünï"]}', "null", '"text"', "1.0", "[]"])
def test_a_text_comes_back_as_it_was(codec: Any, text: str) -> None:
    """Through any codec, and through Postgres, which writes a space into it."""
    vault = Vault(codec)
    envelope = vault.seal(text, HERE)
    assert envelope.startswith('{"$sealed":"')
    assert sealing.is_sealed(envelope)
    for read in (envelope, json.dumps(json.loads(envelope))):
        assert json.loads(vault.open(read, HERE)) == json.loads(text)
    assert vault.open_value(json.loads(envelope), HERE) == json.loads(text)
    note = vault.seal_note("it\nbroke: ünï", HERE)
    assert note.startswith("$sealed:")
    assert vault.open_note(note, HERE) == "it\nbroke: ünï"


@pytest.mark.parametrize(
    "text", ["null", "{}", '{"$sealed":5}', '{"$sealed":"k1:AA","b":1}', '{"a":{"$sealed":"k1:AA"}}']
)
def test_what_is_no_envelope_is_read_as_it_is(text: str) -> None:
    """Such as what was stored before there was a codec."""
    assert VAULT.open(text, HERE) == text
    assert VAULT.open_note("it broke", HERE) == "it broke"


@pytest.mark.parametrize(
    "elsewhere",
    [
        sealing.payload(OTHER, "order"),
        sealing.payload(RUN, "other"),
        sealing.context(RUN, "s:order"),
        sealing.message(RUN),
    ],
)
def test_an_envelope_belongs_to_one_place(elsewhere: sealing.Bound) -> None:
    """To one run, and there to one collateral, one slot, or one kind of report; the error names where it was found."""
    with pytest.raises(SealError, match=f"^{elsewhere}: it cannot be opened"):
        VAULT.open(VAULT.seal("1", HERE), elsewhere)


def test_nothing_that_an_event_says_stays_readable() -> None:
    """Whatever part of it says it: each text that comes from a handler is told apart from the names beside it."""
    said = '"MARKER"'
    outputs = (Output(ordinal=0, collateral="a", payload=said),)
    targets = (target("stock", payload=said),)
    fence = Claimed(activation_id=1, epoch=1, nonce=1)
    failure = Failure(error_type="ValueError", error="MARKER", traceback="MARKER")
    events: list[Event] = [
        Succeeded(fence=fence, targets=targets),
        Succeeded(fence=fence, outputs=outputs),
        Succeeded(fence=fence, results=outputs),
        *(
            Succeeded(fence=fence, expected=(Expected(collateral="a", targets=(), late=late),))
            for late in (Late(targets=targets), Late(outputs=outputs), Late(results=outputs))
        ),
        Succeeded(fence=fence, scattered=(Scattered(ordinal=0, collateral="a", payloads=(said,), targets=()),)),
        Succeeded(
            fence=fence,
            changes=Changes(writes=(SlotWrite(slot="s:a", text=said, base=0, on_stale=OnStale.CONFLICT),)),
        ),
        FailedTry(fence=fence, failure=failure, retry_after=None),
        GaveWay(fence=fence, failure=failure),
        Sent(collateral="a", payload=said, idempotency_key="once"),
    ]
    for event in events:
        assert "MARKER" in repr(event)
        sealed = repr(Sealing(VAULT, RUN).event(event))
        assert "MARKER" not in sealed
        assert "$sealed" in sealed


def test_no_two_places_are_one() -> None:
    """Of what a run knows, and of different runs: each would be opened in the other's place."""
    of_run = [
        (
            *(make(run, name) for make in (sealing.payload, sealing.context) for name in ("a", "b")),
            *(sealing.progress(run, activation_id) for activation_id in (1, 12)),
            *(sealing.message(run), sealing.traceback(run)),
        )
        for run in (RUN, OTHER)
    ]
    places = [*of_run[0], *of_run[1], sealing.payload(None, "a"), sealing.payload(None, "b")]
    assert len({bytes(place) for place in places}) == len(places)


@pytest.mark.parametrize(
    ("sealed", "opened", "said"),
    [
        (
            VAULT,
            Vault(CompressedCodec()),
            "it is sealed with key 'k1', and at hand is CompressedCodec, which has no keys",
        ),
        (Vault(CompressedCodec()), VAULT, "it is sealed by a codec without keys, and at hand is 'k1'"),
        (Vault(Zipped()), VAULT, "it is sealed by a codec without keys, and at hand is 'k1'"),
    ],
)
def test_what_another_kind_of_codec_sealed_is_not_taken_for_broken(sealed: Vault, opened: Vault, said: str) -> None:
    """So the work goes back to who has that one, and does not fail."""
    with pytest.raises(KeyMissing, match=f"^{HERE}: {said}; (add that key|give that codec)$"):
        opened.open(sealed.seal("1", HERE), HERE)
    with pytest.raises(KeyMissing, match=said):
        opened.open_note(sealed.seal_note("broken", HERE), HERE)


def test_what_was_sent_by_key_is_opened_in_any_run() -> None:
    """It belonged to none when it was sealed; but to its collateral it did."""
    posted = VAULT.seal("1", sealing.payload(None, "order"))
    assert opened_payload(VAULT, posted, RUN, "order") == "1"
    with pytest.raises(SealError, match=f"run {RUN}, payload of 'other'"):
        opened_payload(VAULT, posted, RUN, "other")


def test_the_results_of_a_group_are_opened_one_by_one() -> None:
    """Those beside failures, too, and the failures' payloads and messages; plain ones among them stay."""
    given = [
        {"result": json.loads(VAULT.seal('"sealed"', HERE))},
        {"result": "plain"},
        {
            "failure": {
                "index": 2,
                "collateral": "item",
                "payload": json.loads(VAULT.seal("7", sealing.payload(RUN, "item"))),
                "error": VAULT.seal_note("it broke", sealing.message(RUN)),
                "error_type": "shop.Boom",
            }
        },
    ]
    failure = {"index": 2, "collateral": "item", "payload": 7, "error": "it broke", "error_type": "shop.Boom"}
    opened = json.loads(opened_payload(VAULT, json.dumps(given), RUN, "order"))
    assert opened == [{"result": "sealed"}, {"result": "plain"}, {"failure": failure}]
    plain = [json.loads(VAULT.seal("1", HERE)), 2, "a text with $sealed in it"]
    assert json.loads(opened_payload(VAULT, json.dumps(plain), RUN, "order")) == [1, 2, "a text with $sealed in it"]


# -- lookalikes ----------------------------------------------------------------------------------------------------

LOOKALIKES: list[Any] = [{"$sealed": "k1:AAAA"}, {"a": [{"b": 1, "$sealed": None}]}, [{"$sealed": {}}]]


@pytest.mark.parametrize("value", LOOKALIKES, ids=repr)
def test_a_value_with_the_key_of_envelopes_is_refused(value: Any) -> None:
    """As a payload and in a context, wherever it stands, naming the path."""
    order: Any = collateral("order", Any)
    with pytest.raises(PayloadError, match=r"\$.* has a key '\$sealed', which only sealed values have"):
        encoded(order.create_signal(value), "here")
    context = RunContext[Any, Any](
        Snapshot(version=0, slots={}), Identity(run_id=RUN, activation_id=1, neuron="n", attempt=1, try_number=1)
    )
    with pytest.raises(ContextError, match=r"key 'k': \$.* has a key '\$sealed'"):
        context["k"] = value


def test_a_text_that_speaks_of_seals_is_no_lookalike() -> None:
    """Only keys are reserved."""
    for value in ("$sealed", "$sealed:k1:AAAA", {"a": '{"$sealed":"k1:AAAA"}'}):
        assert json.loads(values.dump(value, where="here", error=PayloadError)) == value


def test_a_message_that_looks_sealed_is_kept_as_a_message() -> None:
    """A handler may raise anything."""
    kept = failure_of(ValueError("$sealed:k1:AAAA")).error
    assert kept == " $sealed:k1:AAAA"
    assert VAULT.open_note(kept, HERE) == kept


# -- who can open what ---------------------------------------------------------------------------------------------


def test_an_activation_needs_what_opens_its_payload() -> None:
    """Beside the store of its run's context; and a worker reaches both together, and each alone."""
    sealed = VAULT.seal("1", HERE)
    assert sealing.place_of("", '{"a":1}') == ""
    assert sealing.place_of("archive", "1") == "archive"
    assert sealing.needed(sealing.place_of("archive", sealed)) == ("archive", "k1")
    assert sealing.needed(sealing.place_of("", f"[{sealed}]")) == ("", "k1")
    assert sealing.needed(sealing.place_of("", Vault(CompressedCodec()).seal("1", HERE))) == ("", "")
    assert sealing.needed("archive") == ("archive", None)
    reached = sealing.places_with(("archive",), VAULT.labels)
    for place in ("archive", sealing.place_of("archive", sealed), sealing.place_of("", sealed)):
        assert place in reached
    assert sealing.place_of("", Vault(CompressedCodec()).seal("1", HERE)) not in reached


def test_a_handler_is_never_shown_an_envelope() -> None:
    """A worker without a codec that meets a slot which another one sealed: the read says what is missing."""
    sealed = VAULT.seal("1", sealing.context(RUN, "s:a"))
    context = RunContext[Any, Any](
        Snapshot(version=1, slots={"s:a": Slot(1, sealed), "s:b": Slot(1, "2")}),
        Identity(run_id=RUN, activation_id=1, neuron="n", attempt=1, try_number=1),
    )
    assert context["b"] == 2
    for read in (lambda: context["a"], context.get, lambda: context.update("a", lambda value: value)):
        with pytest.raises(KeyMissing, match="sealed with key 'k1', and was not opened"):
            read()


# -- what people see -----------------------------------------------------------------------------------------------


def test_rows_that_cannot_be_opened_stay_as_they_are() -> None:
    """Part by part: one that lacks a key sees the rest."""
    lacking = Rows(Vault(EncryptedCodec({"k2": b"n" * 32})))
    envelope = json.loads(VAULT.seal("1", sealing.context(RUN, "s:a")))
    row = {"data": {"a": envelope, "b": 2}, "local": {"n": envelope}}
    assert lacking.context(row, RUN) == row
    opened = Rows(VAULT).context({**row, "local": None}, RUN)
    assert opened == {"data": {"a": 1, "b": 2}, "local": None}
    whole = json.loads(VAULT.seal("[1]", sealing.context(RUN, "w")))
    assert Rows(VAULT).context({"data": whole, "local": {}}, RUN)["data"] == [1]


def test_a_codec_that_refuses_quotes_nothing() -> None:
    """Its message may hold the value, and goes to logs."""
    with pytest.raises(DataRefused, match="the codec Broken refused it, with ValueError") as refused:
        Vault(Broken()).seal('"secret"', HERE)
    assert "secret" not in str(refused.value)
    with pytest.raises(SealError, match="the codec Broken cannot open it"):
        Vault(Broken()).open('{"$sealed":":AAAA"}', HERE)


def test_of_every_operation_of_a_store_it_is_said_what_of_it_is_sealed() -> None:
    """One that somebody adds fails loudly where there is a codec, in the place of passing by it unsealed."""
    operations = {name for name, member in vars(Operations).items() if callable(member) and not name.startswith("_")}
    written = {name for name in operations if name in vars(SealedStore.__mro__[1])}
    assert written.isdisjoint(AS_THEY_ARE)
    assert operations <= written | AS_THEY_ARE
    assert AS_THEY_ARE - {"next_moment"} <= operations, "the last one is of labs alone"
    store: Any = SealedStore(MemoryStore(lambda: datetime.now(UTC)), VAULT)
    with pytest.raises(AttributeError, match="no operation 'tell_all'"):
        store.tell_all()
