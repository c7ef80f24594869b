"""What waits for somebody else costs nobody else: counted in pages and rows that a statement touches, not in seconds (G14)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from cnstra.servers import HeldServers
from cnstra.stores.postgres.addresses import address_of
from cnstra.stores.postgres.pools import PLANNING, STALLING, connecting
from cnstra.stores.postgres.statements import statements
from support.databases import fresh_database

BACKLOG = 20_000
ONE = "'00000000-0000-0000-0000-000000000001'::uuid"
"""The worker that claims in these tests, as the SQL has it."""
A_FEW_PAGES = 60

_FILL = f"""
insert into cnstra.worker (worker, host, pid, graph, graph_version, queues, dendrites, lease, started_at, last_seen_at,
                           expires_at)
select {ONE}, 'h', 1, 'shop', 'v1', array['default'], array['stock' || chr(31) || 'order'], '1 day', now(),
       now(), now() + interval '1 day';

insert into cnstra.run (run_id, graph, graph_version, pinned, entry_collateral, entry_payload, status, outstanding, active,
                        last_activation, submitted_at)
select gen_random_uuid(), 'shop', 'v2', true, 'order', '1', 'running', 1, 1, 1, now()
from generate_series(1, {BACKLOG}) n;

insert into cnstra.activation (run_id, activation_id, ordinal, graph, pin, neuron, dendrite, collateral, payload, queue,
                               priority, attempt, status, blocked, created_at, available_at)
select r.run_id, 1, 0, 'shop', 'v2', 'stock', 'handle', 'order', '1', 'default', 0, 1, 'ready',
       case when row_number() over () % 10 = 0 then 'suspect' end, now(), now() - interval '1 minute'
from cnstra.run r;

insert into cnstra.run (run_id, graph, graph_version, pinned, entry_collateral, entry_payload, status, outstanding, active,
                        last_activation, submitted_at, finished_at, context_kept)
select gen_random_uuid(), 'shop', 'v1', false, 'order', '1', (array['completed', 'failed'])[1 + n % 2], 0, 0, 1, now(),
       now() - make_interval(hours => case when n <= 100 then 1000 else 1 end), n % 3 > 0
from generate_series(1, {BACKLOG}) n;

insert into cnstra.activation (run_id, activation_id, ordinal, graph, pin, neuron, dendrite, collateral, payload, queue,
                               priority, attempt, status, created_at, available_at, finished_at)
select r.run_id, 1, 0, 'shop', '', 'stock', 'handle', 'order', '1', 'default', 0, 1, 'done', now(), now(), now()
from cnstra.run r
where r.finished_at is not null;

analyze
"""


_RUNS = """
insert into cnstra.run (run_id, graph, graph_version, pinned, entry_collateral, entry_payload, status, outstanding, active,
                        last_activation, submitted_at)
select a.run_id, 'shop', 'v1', false, 'order', '1', 'running', 1, 1, 1, now() from cnstra.activation a
"""

_ELSEWHERE = f"""
insert into cnstra.worker (worker, host, pid, graph, graph_version, queues, dendrites, places, lease, started_at,
                           last_seen_at, expires_at)
select case when places = array[''] then gen_random_uuid() else {ONE} end, 'h', 1, 'shop', 'v1', array['default'],
       array['stock' || chr(31) || 'order'], places, '1 day',
       now(), now(), now() + interval '1 day'
from (values (array['']), (array['', 'archive'])) w (places);

insert into cnstra.activation (run_id, activation_id, ordinal, graph, pin, place, neuron, dendrite, collateral, payload,
                               queue, priority, attempt, status, blocked, created_at, available_at)
select gen_random_uuid(), 1, 0, 'shop', '', 'archive', 'stock', 'handle', 'order', '1', 'default', 0, 1, 'ready',
       case when n % 10 = 0 then 'suspect' end, now(), now() - interval '1 minute'
from generate_series(1, {BACKLOG}) n;
{_RUNS};
analyze
"""


_LIMITED = f"""
insert into cnstra.worker (worker, host, pid, graph, graph_version, queues, dendrites, limits, lease, started_at,
                           last_seen_at, expires_at)
select {ONE}, 'h', 1, 'shop', 'v1', array['default'],
       array['stock' || chr(31) || 'order', 'bank' || chr(31) || 'order'], '{{"bank": 3}}', '1 day', now(), now(),
       now() + interval '1 day';

insert into cnstra.activation (run_id, activation_id, ordinal, graph, pin, neuron, dendrite, collateral, payload, queue,
                               priority, attempt, status, blocked, limited, epoch, nonce, worker, created_at, available_at)
select gen_random_uuid(), 1, 0, 'shop', '', 'bank', 'handle', case when n % 2 = 0 then 'order' else 'unheard' end, '1', 'default',
       0, 1, case when n <= 2 then 'running' else 'ready' end, case when n > 2 then 'limited' end, true, 1, 1,
       gen_random_uuid(), now(), now() - interval '1 minute'
from generate_series(1, {BACKLOG}) n;
{_RUNS};
analyze
"""


@contextmanager
def _filled(servers: HeldServers, template_url: str, fill: str) -> Iterator[psycopg.Connection[Any]]:
    """A database with such a backlog, as the store connects to it."""
    with (
        fresh_database(servers.database_url, template=template_url) as url,
        psycopg.connect(url, **connecting(address_of(url), PLANNING, STALLING)) as connection,
    ):
        connection.execute(fill.encode())
        yield connection


@pytest.fixture(scope="module")
def connection(servers: HeldServers, template_url: str) -> Iterator[psycopg.Connection[Any]]:
    """A worker of one version, and behind it a backlog that is pinned to another."""
    with _filled(servers, template_url, _FILL) as connection:
        yield connection


@pytest.fixture(scope="module")
def elsewhere(servers: HeldServers, template_url: str) -> Iterator[psycopg.Connection[Any]]:
    """A worker with a store of contexts and one without, and a backlog of runs that live in that store."""
    with _filled(servers, template_url, _ELSEWHERE) as connection:
        yield connection


_CLAIM: dict[str, Any] = {
    "worker": "00000000-0000-0000-0000-000000000001",
    "nonce": 1,
    "limit": 10,
    "graph": "shop",
    "graph_version": "v1",
    "queues": ["default"],
    "dendrites": ["stock\x1forder"],
    "places": [""],
    "neurons": [],
    "most": [],
}
_CLAIM_LIMITED = _CLAIM | {
    "dendrites": ["stock\x1forder", "bank\x1forder"],
    "neurons": ["bank"],
    "most": [3],
    "skills": ["bank\x1forder"],
    "skill_neurons": ["bank"],
}
_LONG_AGO = datetime.now(UTC) - timedelta(days=30)
_PRUNE: dict[str, Any] = {"status": "completed", "before": _LONG_AGO, "kept": [True, False], "limit": 200}
_LOOK: dict[str, Any] = {"unclaimed_after": timedelta(seconds=1), "limit": 500}
_GLANCE = _LOOK | {"worker": _CLAIM["worker"], "lease": timedelta(seconds=2)}


def cost(connection: psycopg.Connection[Any], statement: str, parameters: dict[str, Any]) -> tuple[int, int]:
    """The pages that a statement touches, and the rows that it reads in vain."""
    return _cost_of(_plan(connection, statement, parameters))


def cost_of_finding(connection: psycopg.Connection[Any], statement: str, parameters: dict[str, Any]) -> tuple[int, int]:
    """The same, of what it writes to: without the search for room for it, which earlier tests' rows spoil."""
    [child] = _plan(connection, statement, parameters)["Plans"]
    return _cost_of(child)


def _plan(connection: psycopg.Connection[Any], statement: str, parameters: dict[str, Any]) -> dict[str, Any]:
    explain = f"explain (analyze, buffers, timing off, format json) {statements()[statement]}"
    with connection.transaction(force_rollback=True):
        row = connection.execute(explain.encode(), parameters).fetchone()
    assert row is not None
    [found] = row[0] if isinstance(row[0], list) else json.loads(row[0])
    return dict(found["Plan"])


def _cost_of(node: dict[str, Any]) -> tuple[int, int]:
    return node["Shared Hit Blocks"] + node["Shared Read Blocks"], _in_vain(node)


def _in_vain(node: dict[str, Any]) -> int:
    removed = int(node.get("Rows Removed by Filter", 0)) + int(node.get("Rows Removed by Index Recheck", 0))
    return removed + sum(_in_vain(child) for child in node.get("Plans", []))


@pytest.mark.parametrize(
    ("statement", "parameters"),
    [
        ("claim", _CLAIM),
        ("claim_suspects", _CLAIM),
        ("suspects_wait", _CLAIM),
        ("find_unclaimed", _LOOK),
        ("set_unknown_aside", _LOOK),
    ],
)
@pytest.mark.in_one_piece
def test_g14_a_backlog_of_another_version_is_not_read(
    connection: psycopg.Connection[Any], statement: str, parameters: dict[str, Any]
) -> None:
    """Whoever has not the version that it is pinned to goes past it in the index, in one step."""
    pages, in_vain = cost(connection, statement, parameters)
    assert in_vain == 0
    assert pages < A_FEW_PAGES


def test_g14_the_version_of_the_backlog_claims_as_much_as_it_asks_for(connection: psycopg.Connection[Any]) -> None:
    """The other side of it, and the proof that the backlog is there: in the order of the index, without sorting it."""
    pages, in_vain = cost(connection, "claim", _CLAIM | {"graph_version": "v2"})
    assert in_vain == 0
    assert A_FEW_PAGES < pages < 20 * _CLAIM["limit"]


@pytest.mark.parametrize("statement", ["claim", "claim_suspects", "suspects_wait"])
@pytest.mark.in_one_piece
def test_g14_a_backlog_of_a_store_that_is_away_is_not_read(elsewhere: psycopg.Connection[Any], statement: str) -> None:
    """Runs whose context lives in a store that a worker does not reach, now or at all, slow nobody else down."""
    pages, in_vain = cost(elsewhere, statement, _CLAIM)
    assert in_vain == 0
    assert pages < A_FEW_PAGES


@pytest.mark.parametrize("statement", ["find_unclaimed", "set_unknown_aside"])
@pytest.mark.in_one_piece
def test_g14_a_backlog_of_a_store_is_looked_at_no_further_than_others(
    elsewhere: psycopg.Connection[Any], statement: str
) -> None:
    """The first of it, in the order of the index; what is read in vain are at most rows of the two workers."""
    pages, in_vain = cost(elsewhere, statement, _LOOK | {"limit": 5})
    assert in_vain <= 2 * 5
    assert pages < A_FEW_PAGES


@pytest.mark.in_one_piece
def test_g14_a_worker_with_the_store_claims_in_the_order_of_the_index(elsewhere: psycopg.Connection[Any]) -> None:
    """The proof that the backlog is there."""
    pages, in_vain = cost(elsewhere, "claim", _CLAIM | {"places": ["", "archive"]})
    assert in_vain == 0
    assert A_FEW_PAGES < pages < 20 * _CLAIM["limit"]


# -- before anybody has counted anew -----------------------------------------------------------------------------------

_YOUNG = f"""
alter table cnstra.activation set (autovacuum_enabled = false);

insert into cnstra.worker (worker, host, pid, graph, graph_version, queues, dendrites, lease, started_at, last_seen_at,
                           expires_at)
select {ONE}, 'h', 1, 'shop', 'v1', array['default'], array['stock' || chr(31) || 'order'], '1 day', now(),
       now(), now() + interval '1 day';

insert into cnstra.activation (run_id, activation_id, ordinal, graph, pin, neuron, dendrite, collateral, payload, queue,
                               priority, attempt, status, created_at, available_at, finished_at)
select gen_random_uuid(), 1, 0, 'shop', '', 'stock', 'handle', 'order', '1', 'default', 0, 1, 'done', now(), now(), now()
from generate_series(1, 1000) n;

analyze;

insert into cnstra.activation (run_id, activation_id, ordinal, graph, pin, neuron, dendrite, collateral, payload, queue,
                               priority, attempt, status, epoch, nonce, worker, created_at, available_at)
select gen_random_uuid(), 1, 0, 'shop', '', 'stock', 'handle', 'order', '1', 'default', 0, 1,
       case when n % 2 = 0 then 'ready' else 'running' end, 1, 1, gen_random_uuid(), now(), now() - interval '1 minute'
from generate_series(1, {BACKLOG}) n
"""


@pytest.fixture(scope="module")
def young(servers: HeldServers, template_url: str) -> Iterator[psycopg.Connection[Any]]:
    """A database that has filled up within a minute: half is ready, half is running, and the statistics are of before."""
    with _filled(servers, template_url, _YOUNG) as connection:
        yield connection


@pytest.mark.parametrize("statement", ["find_unclaimed", "set_unknown_aside"])
@pytest.mark.in_one_piece
def test_g14_a_look_at_a_young_backlog_reads_what_it_looks_at(young: psycopg.Connection[Any], statement: str) -> None:
    """Each of the few is found by its key again, and not by reading all that is ready."""
    pages, in_vain = cost(young, statement, _LOOK | {"limit": 5})
    assert in_vain <= 5
    assert pages < A_FEW_PAGES


@pytest.mark.parametrize("statement", ["claims_of_ids", "load_activations", "report_progress"])
@pytest.mark.in_one_piece
def test_g14_what_is_found_by_its_key_is_so_in_a_young_table(young: psycopg.Connection[Any], statement: str) -> None:
    """All that is running is in a small index, as far as the planner knows; it is not read instead."""
    rows = young.execute("select run_id from cnstra.activation where status = 'running' limit 5").fetchall()
    few: dict[str, Any] = {"run_ids": [run_id for (run_id,) in rows], "activation_ids": [1] * 5}
    few |= {"epochs": [1] * 5, "nonces": [1] * 5, "progress": ["1"] * 5}
    pages, in_vain = cost(young, statement, few)
    assert in_vain == 0
    assert pages < 2 * A_FEW_PAGES


# -- what waits for a time ---------------------------------------------------------------------------------------------

_PATIENT = f"""
insert into cnstra.run (run_id, graph, graph_version, pinned, entry_collateral, entry_payload, status, outstanding, active,
                        last_activation, submitted_at, next_retry_at, deadline_at)
select gen_random_uuid(), 'shop', 'v1', false, 'order', '1', 'waiting', 1, 0, 1, now(), now() + interval '1 year',
       now() + interval '2 years'
from generate_series(1, {BACKLOG}) n;

insert into cnstra.activation (run_id, activation_id, ordinal, graph, pin, neuron, dendrite, collateral, payload, queue,
                               priority, attempt, status, created_at, available_at)
select r.run_id, 1, 0, 'shop', '', 'stock', 'handle', 'order', '1', 'default', 0, 1, 'scheduled', now(),
       now() + interval '1 year'
from cnstra.run r;

insert into cnstra.expectation (run_id, expectation_id, graph, collateral, activations, expires_at, late)
select r.run_id, 2, 'shop', 'answer', '{{2}}', now() + interval '1 year', '[]'
from cnstra.run r
"""


@pytest.fixture(scope="module")
def patient(servers: HeldServers, template_url: str) -> Iterator[psycopg.Connection[Any]]:
    """Runs that wait for next year: by a timer, an attempt, a deadline and an expectation each."""
    with _filled(servers, template_url, _PATIENT) as connection:
        yield connection


_DUE = ("find_due", "find_attempts_due", "find_deadlines_due", "find_expectations_due")


@pytest.mark.parametrize("statement", [*_DUE, "glance"])
@pytest.mark.in_one_piece
def test_g8_g14_what_is_due_next_year_is_not_read_today(patient: psycopg.Connection[Any], statement: str) -> None:
    """The index ends where time has come to; the supervisor looks again and again, for as long as they wait."""
    pages, in_vain = cost(patient, statement, _GLANCE)
    assert in_vain == 0
    assert pages < A_FEW_PAGES


@pytest.mark.parametrize("backlog", ["connection", "elsewhere", "limited", "young"])
@pytest.mark.in_one_piece
def test_g14_a_glance_at_a_backlog_reads_no_more_than_its_first(backlog: str, request: pytest.FixtureRequest) -> None:
    """Whether there is any is all that it asks."""
    pages, in_vain = cost(request.getfixturevalue(backlog), "glance", _GLANCE)
    assert in_vain <= 2
    assert pages < A_FEW_PAGES


# -- sagas -----------------------------------------------------------------------------------------------------------

_PAUSED = """
update cnstra.run
set status = 'paused', deadline_at = now() - interval '1 hour', next_retry_at = now() - interval '1 hour'
where status = 'running' and pinned;
update cnstra.run set deadline_at = now() + interval '1 day' where status = 'completed';
update cnstra.run set deadline_at = now() - interval '1 hour', ending = 'failed' where status = 'failed'
"""

_LONG = """
insert into cnstra.run (run_id, graph, graph_version, pinned, entry_collateral, entry_payload, status, outstanding, active,
                        last_activation, submitted_at, ending, undoable)
select '{run_id}', 'shop', 'v1', false, 'order', '1', 'compensating', 0, 0, {number}, now(),
       'failed', {number};
insert into cnstra.activation (run_id, activation_id, ordinal, graph, pin, neuron, dendrite, collateral, payload, queue,
                               priority, attempt, status, created_at, available_at, finished_at, finish, undoable, tries)
select '{run_id}', n, 0, 'shop', '', 'stock', 'handle', 'order', '1', 'default', 0, 1, 'done',
       now(), now(), now(), n, true, 1
from generate_series(1, {number}) n
"""


@contextmanager
def within(connection: psycopg.Connection[Any], *statements_of_it: str) -> Iterator[None]:
    """Other rows, for a while; with the statistics that there were before, as after a burst."""
    with connection.transaction(force_rollback=True):
        for statement in statements_of_it:
            connection.execute(statement.encode())
        yield


@pytest.mark.parametrize("statement", ["find_deadlines_due", "find_attempts_due"])
def test_g14_paused_runs_whose_time_has_come_are_not_read(connection: psycopg.Connection[Any], statement: str) -> None:
    """Nor those that have ended, or end: each look of the supervisor finds nothing, in one step of the index."""
    with within(connection, *_PAUSED.split(";")):
        pages, in_vain = cost(connection, statement, {"limit": 500})
    assert in_vain == 0
    assert pages < 2 * A_FEW_PAGES


@pytest.mark.parametrize("statement", ["note_done", "undo"])
def test_g14_what_is_undone_next_is_found_in_the_index(connection: psycopg.Connection[Any], statement: str) -> None:
    """However much a run has done: each of its compensations costs the same."""
    run_id = uuid4()
    with within(connection, *_LONG.format(run_id=run_id, number=BACKLOG).split(";")):
        which = {"run_ids": [run_id], "now": datetime.now(UTC)}
        pages, in_vain = cost_of_finding(connection, statement, which)
    assert in_vain == 0
    assert pages < A_FEW_PAGES


# -- limits --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def limited(servers: HeldServers, template_url: str) -> Iterator[psycopg.Connection[Any]]:
    """A worker that knows a neuron with a limit, and a backlog of it: half of that on a dendrite that nobody knows."""
    with _filled(servers, template_url, _LIMITED) as connection:
        yield connection


@pytest.mark.parametrize(
    ("statement", "parameters"),
    [
        ("claim", _CLAIM),
        ("claim_suspects", _CLAIM),
        ("suspects_wait", _CLAIM),
        ("find_unclaimed", _LOOK),
        ("set_unknown_aside", _LOOK),
        ("find_suspects", {}),
        ("lift_limits", {"limit": 10}),
    ],
)
@pytest.mark.in_one_piece
def test_g14_a_backlog_behind_a_limit_is_not_read_by_others(
    limited: psycopg.Connection[Any], statement: str, parameters: dict[str, Any]
) -> None:
    """Neither by who claims or looks for other work, nor to find whether it waits."""
    pages, in_vain = cost(limited, statement, parameters)
    assert in_vain <= 2  # rows of workers
    assert pages < A_FEW_PAGES


@pytest.mark.parametrize(
    ("statement", "parameters"),
    [("lock_limits", _CLAIM_LIMITED), ("claim_with_limits", _CLAIM_LIMITED), ("find_limited", _LOOK)],
)
@pytest.mark.in_one_piece
def test_g14_a_backlog_behind_a_limit_is_read_as_far_as_the_limit_leaves(
    limited: psycopg.Connection[Any], statement: str, parameters: dict[str, Any]
) -> None:
    """One slot is free: one row is claimed, whatever waits, and nothing of it is read that nobody knows."""
    pages, in_vain = cost(limited, statement, parameters)
    assert in_vain <= 2
    assert pages < 2 * A_FEW_PAGES


def test_g14_the_backlog_is_there(limited: psycopg.Connection[Any]) -> None:
    """The other side of it: with a higher limit more is claimed, in the order of the index."""
    pages, in_vain = cost(limited, "claim_with_limits", _CLAIM_LIMITED | {"most": [1000], "limit": 100})
    assert in_vain <= 2
    assert 2 * A_FEW_PAGES < pages < 20 * 100


# -- retention -----------------------------------------------------------------------------------------------------


def test_g14_what_is_still_kept_is_not_read_to_find_what_is_not(connection: psycopg.Connection[Any]) -> None:
    """Of many runs that have ended, only those that are due are touched: locked, counted, and none of them in vain."""
    pages, in_vain = cost(connection, "lock_ended", _PRUNE | {"limit": 10})
    assert in_vain == 0
    assert pages < 10 * A_FEW_PAGES
    pages, in_vain = cost(connection, "count_ended", _PRUNE)
    assert in_vain == 0
    assert pages < 5 * A_FEW_PAGES


def test_g14_where_nothing_is_due_looking_costs_a_step_in_the_index(connection: psycopg.Connection[Any]) -> None:
    """A minute's idle sweep: whatever is stored, and also where contexts are to go and all of them have."""
    never = _PRUNE | {"before": _LONG_AGO - timedelta(days=365)}
    for which in (never, never | {"kept": [True]}, _PRUNE | {"status": "cancelled"}):
        pages, in_vain = cost(connection, "lock_ended", which)
        assert in_vain == 0
        assert pages < A_FEW_PAGES


@pytest.mark.parametrize("statement", ["forget_runs", "forget_contexts"])
def test_g14_deleting_reaches_each_row_by_its_key(connection: psycopg.Connection[Any], statement: str) -> None:
    """Ten runs cost as many pages as they and their indexes have, in tables with very many rows of others."""
    rows = connection.execute("select run_id from cnstra.run where status = 'completed' order by finished_at limit 10")
    pages, in_vain = cost(connection, statement, {"run_ids": [run_id for (run_id,) in rows.fetchall()]})
    assert in_vain == 0
    assert pages < 10 * A_FEW_PAGES


def test_g14_a_newcomer_reads_no_more_of_the_unknown_than_it_takes_up(connection: psycopg.Connection[Any]) -> None:
    """Beside very much that it does not know either, a portion of what it knows is found in the order of the index."""
    aside = (
        "update cnstra.activation a set blocked = 'unknown', neuron = n.name, pin = '' "
        "from (select run_id, case when row_number() over () % 100 = 0 then 'bank' else 'ship' end as name "
        "      from cnstra.activation where status = 'ready') n "
        "where a.run_id = n.run_id"
    )
    newcomer = _CLAIM | {"dendrites": ["bank\x1forder", "mint\x1forder"], "limit": 20}
    with connection.transaction(force_rollback=True):
        connection.execute(aside.encode())
        pages, in_vain = cost(connection, "readmit_known", newcomer)
        [(known,)] = connection.execute("select count(*) from cnstra.activation where neuron = 'bank'").fetchall()
    assert known == BACKLOG // 100
    assert in_vain == 0
    assert pages < 20 * A_FEW_PAGES
