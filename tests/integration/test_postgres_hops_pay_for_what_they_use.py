"""The statements of a hop, counted: who uses neither waits nor groups, retention nor a store of contexts, pays nothing (G14)."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any, cast

import pytest
from msgspec.structs import replace

from cnstra.orchestrator.machine.records import Compensable
from cnstra.stores.postgres.transactions import Ask, PostgresOperation
from support.worlds import (
    PostgresWorld,
    cancel_asked,
    deadline_due,
    expects,
    failed,
    pause_asked,
    resume_asked,
    scatter,
    sent,
    succeeded,
    target,
)

_CLAIM = ["claim"]
_LOCK = ["lock_runs", "load_activations"]


class CountingWorld(PostgresWorld):
    """Writes down the statements that its store sends."""

    def __init__(self, database_url: str) -> None:
        super().__init__(database_url)
        self.sent: list[str] = []
        self._rows: dict[str, int] = {}
        self._given: dict[str, int] = {}
        carry_out = self.postgres.run
        self.postgres.run = lambda one: carry_out(self._noted(cast("Any", one)))  # type: ignore[method-assign]

    def _noted(self, operation: PostgresOperation[Any]) -> PostgresOperation[Any]:
        def steps(repeated: bool) -> Generator[Ask, list[Any], Any]:
            asking, rows = operation.steps(repeated), None
            while True:
                try:
                    ask = asking.send(rows)  # type: ignore[arg-type]
                except StopIteration as stop:
                    return stop.value
                self.sent.append(ask.statement)
                rows = yield ask
                self._rows[ask.statement] = len(rows or ())
                given = cast("Any", ask.parameters)
                self._given[ask.statement] = len(given.get("new_run_ids", given.get("run_ids", ())))

        return PostgresOperation(operation.name, steps)

    def since(self) -> list[str]:
        """What was sent since this was asked last."""
        sent, self.sent = self.sent, []
        return sent

    def brought(self, *statements: str) -> list[int]:
        """How many rows these statements brought when they were sent last."""
        return [self._rows[statement] for statement in statements]

    def given(self, *statements: str) -> list[int]:
        """To how many rows these statements were sent last; ``write_hops``, how many it was to insert."""
        return [self._given[statement] for statement in statements]


@pytest.fixture
def world(database_url: str) -> Iterator[CountingWorld]:
    world = CountingWorld(database_url)
    yield world
    world.close()


def test_g14_an_ordinary_hop_sends_these_statements_and_no_others(world: CountingWorld) -> None:
    """A submit, a claim, and the settlements of two branches: of one that writes and goes on, and of one that ends."""
    worker = world.worker()
    world.since()
    world.submit("stock", "ship")
    assert world.since() == ["insert_run"]
    stock, ship = sorted(worker.claim(), key=lambda work: work.activation_id)
    assert world.since() == _CLAIM
    world.apply(succeeded(stock, lambda ctx: ctx.set({"a": 1}), targets=[target("bank")]))
    assert world.since() == [*_LOCK, "load_heads", "write_hops", "insert_entries", "update_heads"]
    world.apply(succeeded(ship))
    assert world.since() == [*_LOCK, "write_hops"]
    worker.claim_one()
    assert world.since() == [*_CLAIM, "load_contexts"]


def test_g14_a_hop_of_a_run_that_its_worker_knows_is_one_statement(world: CountingWorld) -> None:
    """Claimed, or kept from the hop before: it is settled without another look; what it writes is written beside it."""
    world.submit("stock")
    work = world.worker().claim_one()
    world.since()
    [work] = world.settle(succeeded(work, targets=[target("ship", here=True)])).kept
    assert world.since() == ["settle_ahead"]
    write = succeeded(work, lambda ctx: ctx.set({"a": 1}), targets=[target("ship", here=True)])
    [work] = world.settle(write).kept
    assert world.since() == ["settle_ahead_with_contexts"]
    world.settle(succeeded(work))
    assert world.since() == ["settle_ahead"]


def test_g14_a_submit_asks_the_time_and_takes_a_key_only_where_it_must(world: CountingWorld) -> None:
    world.since()
    world.submit("stock", idempotency_key="order-17")
    assert world.since() == ["take_keys", "insert_run"]
    world.submit("stock", delay=timedelta(days=1))
    assert world.since() == ["clock", "insert_run"]
    world.accept(world.submission("stock"), world.submission("stock"))
    assert world.since() == ["insert_runs", "insert_activations"]


def test_all_that_is_submitted_alone_is_one_prepared_statement(world: CountingWorld) -> None:
    """Whatever is said of it: each other one would be planned anew in each session, and kept there."""
    soon = timedelta(hours=749, microseconds=3)
    said: list[dict[str, Any]] = [
        {},
        {"priority": 7, "tags": {"shop": "here"}},
        {"priority": -70_000, "policy": {"kind": "never"}, "pinned": True},
        {"deadline": soon, "idempotency_key": "key"},
        {"deadline": world.clock.now() + soon, "delay": soon},
        {"place": "elsewhere", "cloned_from": world.run_id()},
    ]
    with world.connect() as connection:
        for changes in said:
            world.postgres.run_in(connection, world.postgres.submit([world.submission("stock", "bank", **changes)]))
        query = "select count(*) from pg_prepared_statements where statement like '%insert into cnstra.activation%'"
        assert connection.execute(query).fetchone() == (1,)


class Marked(str):
    """As libraries mark text: one of their own is no plain one."""

    __slots__ = ()


class Moment(datetime):
    """As libraries make times."""


@pytest.mark.parametrize("keyed", [False, True])
@pytest.mark.parametrize(
    "deadline",
    [
        timedelta(days=31, hours=5, microseconds=3),
        Moment(2090, 1, 1, microsecond=3, tzinfo=timezone(timedelta(hours=1, seconds=31))),
        datetime(2090, 1, 1, tzinfo=timezone(-timedelta(hours=1, seconds=31))),
    ],
)
def test_a_run_that_is_submitted_alone_is_kept_as_in_a_batch(
    world: CountingWorld, deadline: timedelta | datetime, *, keyed: bool
) -> None:
    """To the last letter, as queries see it: a time, which has several forms, what JSON and arrays quote, and what is more than a
    plain text or time.
    """
    quoted = '"\\ {,} NULL \u2028 é \U0001f600 \x7f'
    said: dict[str, Any] = {
        "deadline": deadline,
        "idempotency_key": Marked("key") if keyed else None,
        "place": Marked("elsewhere"),
        "priority": -3,
        "tags": {"a": quoted},
        "payload": json.dumps({"text": quoted, "number": 12345678901234567890.5}, ensure_ascii=False),
        "policy": {"kind": "never", "seconds": 1e-07},
    }
    quoting = replace(target("bank", compensable=Compensable.DONE), payload=json.dumps(quoted), limited=True)
    alone, first, second = (world.submission("stock", quoting, **said) for _ in range(3))
    if keyed:
        first, second = (
            replace(one, idempotency_key=Marked(f"key {place}")) for place, one in enumerate((first, second))
        )
    world.accept(alone)
    world.accept(first, second)
    with world.connect() as connection:
        rows = connection.execute(
            "select distinct to_jsonb(r) - '{run_id, submitted_at, deadline_at, idempotency_key}'::text[], "
            "r.deadline_after::text, case when r.deadline_after is null then r.deadline_at end, left(r.idempotency_key, 3), "
            "(select jsonb_agg(to_jsonb(a) - '{run_id, created_at, available_at}'::text[] order by activation_id) "
            "from cnstra.activation a where a.run_id = r.run_id) from cnstra.run r"
        ).fetchall()
    assert len(rows) == 1


def test_g14_what_ends_and_undoes_runs_is_paid_for_by_those_that_it_happens_to(world: CountingWorld) -> None:
    """A compensation costs a hop and the two statements that begin it; a cancel reads what is open, a pause sweeps once."""
    worker = world.worker()
    run_id = world.submit(target("stock", compensable=Compensable.DONE))
    done = succeeded(worker.claim_one(), targets=[target("bank")], compensable=Compensable.DONE)
    world.since()
    world.apply(done)
    assert world.since() == ["settle_ahead"]
    written = ["update_runs", "update_activations"]
    work = worker.claim_one()
    world.since()
    world.apply(failed(work))
    assert world.since() == [*_LOCK, *written, "insert_tries", "note_done", "undo"]
    work = worker.claim_one()
    assert world.since() == [*_CLAIM, "run_facts", "emitted"]
    world.apply(succeeded(work))
    assert world.since() == [*_LOCK, *written]
    assert world.status(run_id) == "compensated"

    other = world.submit("stock")
    world.since()
    world.apply(pause_asked(other))
    assert world.since() == ["lock_runs", "clock", "write_hops", "hold"]
    world.apply(resume_asked(other))
    assert world.since() == ["lock_runs", "clock", "write_hops", "let_go"]
    world.apply(deadline_due(other))
    assert world.since() == ["lock_free_runs", "load_open", "clock"]
    world.apply(cancel_asked(other))
    assert world.since() == ["lock_runs", "load_open", "clock", *written]


def test_g14_a_graph_with_limits_pays_one_statement_a_claim(world: CountingWorld) -> None:
    """That finds and locks what may run of limited work; where nothing waits, or nothing may run, the claim is the plain one."""
    worker = world.worker(limits={"bank": 1})
    world.submit("stock")
    world.since()
    world.apply(succeeded(worker.claim_one(), targets=[target("bank", limited=True), target("bank", limited=True)]))
    assert world.since()[:3] == ["hold_lease", "lock_limits", "claim"]
    worker.claim_one()
    assert world.since() == ["hold_lease", "lock_limits", "claim_with_limits", "run_facts"]
    assert worker.claim() == []
    assert world.since() == ["hold_lease", "lock_limits", "claim"]


_OF_GROUPS = ["load_groups", "load_members"]


@pytest.mark.parametrize("size", [4, 400])
def test_g11_g14_the_end_of_a_member_costs_the_same_in_any_group(world: CountingWorld, size: int) -> None:
    """The statements, and the rows that they bring and change: none more where there are a hundred times as many members."""
    worker = world.worker()
    world.submit("ship")
    world.apply(succeeded(worker.claim_one(), scattered=[scatter(*map(str, range(size)), failures=True)]))
    well, badly = worker.claim(2)
    world.since()

    world.apply(succeeded(well, results=["1"]))

    counted = ["update_groups", "update_members"]
    assert world.since() == [*_LOCK, *_OF_GROUPS, "write_hops", *counted]
    assert world.brought(*_LOCK, *_OF_GROUPS) == [1, 1, 1, 1]
    world.apply(failed(badly))
    written = ["update_activations", "insert_tries"]
    assert world.since() == [*_LOCK, *_OF_GROUPS, "write_hops", *written, *counted, "abandon"]
    assert world.given(*written, *counted) == [1, 1, 1, 1]


@pytest.mark.parametrize("size", [4, 400])
def test_g11_g14_the_next_member_of_a_limited_group_costs_the_same_in_any(world: CountingWorld, size: int) -> None:
    """It is loaded alone, with its payload."""
    worker = world.worker()
    world.submit("ship")
    world.apply(succeeded(worker.claim_one(), scattered=[scatter(*map(str, range(size)), limit=2)]))
    work, _ = worker.claim()
    world.since()

    world.apply(succeeded(work, results=["1"]))

    assert world.since() == [*_LOCK, *_OF_GROUPS, "load_pending", "write_hops", "update_groups", "update_members"]
    assert world.brought("load_pending") == [1]
    assert world.given("update_members", "update_groups", "write_hops") == [2, 1, 1]


def test_g14_a_wait_costs_its_own_statements(world: CountingWorld) -> None:
    """A hop that expects a signal, and the signal; by no key, so that no key is locked."""
    worker = world.worker()
    run_id = world.submit("stock")
    work = worker.claim_one()
    world.since()

    world.apply(succeeded(work, expected=[expects()]))
    assert world.since() == ["lock_runs", "load_letters", "load_activations", "write_hops", "insert_expectations"]

    world.apply(sent(run_id))
    taken = ["update_runs", "update_activations", "deliver", "delete_expectations", "insert_letters"]
    assert world.since() == [
        *("lock_runs", "known_letters", "load_expectations", "load_activations"),
        *taken,
    ]
