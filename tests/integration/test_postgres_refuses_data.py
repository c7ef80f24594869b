"""Data that Postgres cannot hold: refused with an error that says so, with nothing stored of the whole batch (G15)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from cnstra.orchestrator.errors import DataRefused, StoreUnavailable
from cnstra.orchestrator.machine.events import FailedTry, Succeeded
from cnstra.orchestrator.machine.plans import Verdict
from cnstra.orchestrator.machine.records import Output
from cnstra.orchestrator.slots import Changes, OnStale, SlotWrite
from cnstra.orchestrator.store import RunEvent, Submission, Work
from support.worlds import BOOM, PostgresWorld, failed, hop, succeeded, target

NUL = '"\\u0000"'
"""JSON that is legal, and that jsonb cannot hold."""


@pytest.fixture
def world(database_url: str) -> Iterator[PostgresWorld]:
    postgres = PostgresWorld(database_url)
    yield postgres
    postgres.close()


def counts(world: PostgresWorld) -> list[int]:
    """How many rows there are of everything."""
    tables = ("run", "activation", "submission_key", "context_entry", "context_head", "try")
    with world.connect() as connection:
        rows = [connection.execute(f"select count(*) from cnstra.{table}".encode()).fetchone() for table in tables]
    return [row[0] for row in rows if row is not None]


def changes(text: str) -> Changes:
    return Changes(writes=(SlotWrite(slot="s:a", text=text, base=0, on_stale=OnStale.CONFLICT),))


def test_what_postgres_quotes_of_a_row_is_left_out(world: PostgresWorld) -> None:
    """As of any error that is none of the data's: what comes of it is logged."""
    with world.connect() as connection:
        connection.execute(
            "create function public.refuse() returns trigger language plpgsql as "
            "$$ begin raise exception 'not today' using detail = new.entry_payload, hint = 'ask again'; end $$"
        )
        connection.execute(
            "create trigger refuse before insert on cnstra.run for each row execute function public.refuse()"
        )

    with pytest.raises(StoreUnavailable) as refused:
        world.accept(world.submission("stock", payload='"4111"'))

    assert str(refused.value) == "submit: RaiseException: not today"


@pytest.mark.parametrize(
    "spoiled",
    [
        pytest.param({"payload": NUL}, id="a payload with U+0000"),
        pytest.param({"payload": '"half'}, id="a payload that is no JSON"),
        pytest.param({"payload": '"\\ud800"'}, id="a payload with half a surrogate pair"),
        pytest.param({"tags": {"a\0": "b"}}, id="a tag with U+0000"),
        pytest.param({"idempotency_key": "k\0"}, id="a key with U+0000"),
        pytest.param({"idempotency_key": "".join(map(str, range(10_000)))}, id="a key that no index can hold"),
        pytest.param({"collateral": "\ud800"}, id="a name that is no text"),
        pytest.param({"priority": 2**31}, id="a priority that is too large"),
        pytest.param({"targets": (target("stock", payload=NUL),)}, id="an activation's payload"),
    ],
)
def test_g15_one_bad_submit_stores_nothing_of_its_batch(world: PostgresWorld, spoiled: dict[str, Any]) -> None:
    """The error names the operation; neither the bad run nor the good ones beside it are kept. Alone it is refused likewise."""
    good: list[Submission] = [world.submission("stock", idempotency_key=f"good {place}") for place in range(2)]
    bad = replace(world.submission("stock"), **spoiled)
    with pytest.raises(DataRefused, match="submit"):
        world.accept(good[0], bad, good[1])
    with pytest.raises(DataRefused, match="submit"):
        world.accept(bad)
    assert counts(world) == [0] * 6
    assert [one.new for one in world.accept(*good)] == [True, True]


def spoiled_events(work: Work) -> dict[str, RunEvent]:
    """Settlements that Postgres cannot hold."""
    nul = Succeeded(fence=work.fence, targets=(target("bank", payload=NUL),))
    output = Succeeded(fence=work.fence, outputs=(Output(ordinal=0, collateral="told", payload=NUL),))
    value = Succeeded(fence=work.fence, changes=changes(NUL))
    message = FailedTry(fence=work.fence, failure=replace(BOOM, error="nul\0"), retry_after=None)
    traceback = FailedTry(fence=work.fence, failure=replace(BOOM, traceback="\ud800"), retry_after=None)
    events = {"payload": nul, "output": output, "value": value, "message": message, "traceback": traceback}
    return {name: RunEvent(run_id=work.run_id, event=event) for name, event in events.items()}


@pytest.mark.parametrize("spoiled", ["payload", "output", "value", "message", "traceback"])
def test_g15_one_bad_settlement_stores_nothing_of_its_batch(world: PostgresWorld, spoiled: str) -> None:
    """Whoever settles in batches finds the culprit by halving: no half stores anything unless all of it fits."""
    for _ in range(3):
        world.submit("stock")
    one, bad, other = world.worker().claim()
    good = [hop(work, lambda ctx: ctx.set({"a": 1}), targets=[target("bank")]).event() for work in (one, other)]
    before = counts(world)
    with pytest.raises(DataRefused, match="apply"):
        world.apply(good[0], spoiled_events(bad)[spoiled], good[1])
    assert counts(world) == before
    assert {world.activations(work.run_id)[1]["status"] for work in (one, bad, other)} == {"running"}
    assert [answer.verdict for answer in world.apply(*good).answers] == [Verdict.APPLIED, Verdict.APPLIED]
    assert world.settle(failed(bad)).verdict is Verdict.APPLIED


def test_an_error_does_not_quote_the_data(world: PostgresWorld) -> None:
    """What Postgres says about a bad row may hold what is in it; logs are no place for that."""
    with pytest.raises(DataRefused) as refused:
        world.submit("stock", payload='{"card": "4111 1111", "bad": "\\u0000"}')
    assert "4111" not in str(refused.value)


def test_a_store_works_on_after_it_has_refused(world: PostgresWorld) -> None:
    """A refusal leaves no broken connection and no open transaction behind."""
    for _ in range(10):
        with pytest.raises(DataRefused):
            world.submit("stock", payload=NUL)
    run_id = world.submit("stock")
    world.apply(succeeded(world.worker().claim_one()))
    assert world.status(run_id) == "completed"
