"""Every index of the schema serves the statements that it names: no cost grows with what was ever done, or waits.

Plans are those of the store's own connections: of statements that are prepared once, the plan for any parameters.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import psycopg
import pytest

from cnstra.orchestrator.store import RunFilter
from cnstra.servers import HeldServers
from cnstra.stores.postgres.addresses import address_of
from cnstra.stores.postgres.pools import PLANNING, STALLING, connecting
from cnstra.stores.postgres.statements import statements
from cnstra.stores.postgres.store import PostgresOperations
from cnstra.stores.postgres.transactions import TransactionRunner
from support.databases import fresh_database
from support.plans import numbered, served

pytestmark = pytest.mark.in_one_piece  # a partition has indexes of its own, by names of its own

SERVED = served()
PEOPLES = {"run_rows"}
"""Statements that are planned anew for what somebody asks."""

_FILL = """
insert into cnstra.run (run_id, graph, graph_version, pinned, entry_collateral, entry_payload, status, outstanding, active,
                        last_activation, tags, submitted_at, finished_at, next_retry_at)
select uuidv7(make_interval(secs => n)), 'g' || n % 3, '1', false, 'c', '1',
       case when n % 500 = 0 then 'failed' when n % 100 = 0 then 'waiting' else 'completed' end, 0, 0, 1,
       case when n % 5 = 0 then jsonb_build_object('customer', (n / 10)::text) else '{}' end, now(),
       case when n % 100 <> 0 or n % 500 = 0 then now() end, case when n % 100 = 0 and n % 500 <> 0 then now() end
from generate_series(1, 5000) n;

insert into cnstra.worker (worker, host, pid, graph, graph_version, queues, dendrites, lease, started_at, last_seen_at,
                           expires_at, lost_at)
select md5(n::text)::uuid, 'h', n, 'g' || n % 3, '1', array['q0', 'q1'], array['n' || chr(31) || 'c'], '10 s', now(), now(),
       now() + '10 s', case when n % 10 = 0 then now() end
from generate_series(1, 30) n;

insert into cnstra.activation (run_id, activation_id, ordinal, graph, pin, neuron, dendrite, collateral, payload, queue, priority,
                               attempt, status, blocked, epoch, nonce, worker, created_at, available_at, finished_at)
select r.run_id, n, 0, r.graph, case when n = 1 then r.graph_version else '' end, 'n', 'd', 'c', '1', 'q' || n % 4, n % 3, 1,
       (array['ready', 'running', 'scheduled', 'done', 'done', 'done', 'done', 'done', 'done', 'done'])[s.at],
       case when s.at = 1 and n % 7 = 0 then 'unknown' end, 1, 1, md5((s.at * n % 30 + 1)::text)::uuid, now(),
       now() - make_interval(secs => n), case when s.at > 3 then now() end
from cnstra.run r
cross join generate_series(1, 4) n
cross join lateral (select abs(hashtext(r.run_id::text || n)) % 10 + 1 as at) s;

insert into cnstra.activation (run_id, activation_id, ordinal, graph, pin, neuron, dendrite, collateral, payload, queue, priority,
                               attempt, status, blocked, limited, epoch, nonce, worker, created_at, available_at)
select r.run_id, 1000, 0, r.graph, '', 'm' || s.at % 9, 'd', 'c', '1', 'q' || s.at % 4, 0, 1,
       case when s.at % 5 = 0 then 'running' else 'ready' end, case when s.at % 5 > 0 then 'limited' end, true, 1, 1,
       md5((s.at % 30 + 1)::text)::uuid, now(), now()
from cnstra.run r
cross join lateral (select abs(hashtext(r.run_id::text)) as at) s;

insert into cnstra.activation (run_id, activation_id, parent_activation_id, ordinal, graph, pin, neuron, dendrite, collateral,
                               payload, queue, priority, attempt, status, created_at, available_at, finished_at, path,
                               gathers)
select r.run_id, 4 + n, 1, 0, r.graph, '', 'n', 'd', 'c', '1', 'q0', 0, 1, case when n % 5 = 0 then 'waiting' else 'done' end,
       now(),
       now(), case when n % 5 > 0 then now() end, array[1, n], case when n % 5 = 0 then 2 + n end
from (select * from cnstra.run limit 100) r
cross join generate_series(1, 50) n;

insert into cnstra.scatter (run_id, group_id, parent, ordinal, collateral, size, path, targets, gathers, started, running,
                            ended, closed)
select r.run_id, n, 1, 0, 'c', 1, case when n > 1 then array[1, n] end, '[]', '[]', 1, 0, 1, n % 5 > 0
from (select * from cnstra.run limit 100) r
cross join generate_series(1, 50) n;

insert into cnstra.member (run_id, group_id, member, payload)
select r.run_id, 1, n, '1' from (select * from cnstra.run limit 100) r cross join generate_series(0, 499) n;

insert into cnstra.expectation (run_id, expectation_id, graph, collateral, key, activations, expires_at, late)
select r.run_id, n, r.graph, 'c' || n % 3, case when n % 2 = 0 then 'k' || n end, array[n],
       case when n % 4 = 0 then now() + make_interval(hours => n) end, '{}'
from (select * from cnstra.run limit 1000) r
cross join generate_series(1, 5) n;

insert into cnstra.letter (run_id, number, collateral, payload, idempotency_key, sent_at, taken_by)
select r.run_id, n, 'c' || n % 3, '1', 'k' || n, now(), case when n % 10 > 0 then n end
from (select * from cnstra.run limit 1000) r
cross join generate_series(1, 20) n;

insert into cnstra.posted (graph, key, collateral, payload, idempotency_key, sent_at, run_id)
select 'g' || n % 3, 'k' || n % 1000, 'c', '1', n::text, now() - make_interval(secs => n), case when n % 10 > 0 then uuidv7() end
from generate_series(1, 20000) n;

analyze
"""

_ASKED: list[tuple[str, dict[str, Any]]] = [
    ("run_failed", {"status": "failed"}),
    ("run_by_tag", {"tags": json.dumps({"customer": "17"})}),
]


@contextmanager
def connected(servers: HeldServers, template_url: str) -> Iterator[psycopg.Connection[Any]]:
    """A database of its own, as the store connects to it."""
    with (
        fresh_database(servers.database_url, template=template_url) as url,
        psycopg.connect(url, **connecting(address_of(url), PLANNING, STALLING)) as connection,
    ):
        yield connection


@pytest.fixture(scope="module")
def connection(servers: HeldServers, template_url: str) -> Iterator[psycopg.Connection[Any]]:
    """A database in which there is much of everything, with statistics."""
    with connected(servers, template_url) as connection:
        connection.execute(_FILL.encode())
        yield connection


@pytest.fixture(scope="module")
def empty(servers: HeldServers, template_url: str) -> Iterator[psycopg.Connection[Any]]:
    """A database in which there was nothing yet when the plans were made."""
    with connected(servers, template_url) as connection:
        yield connection


def plan(connection: psycopg.Connection[Any], explain: str, parameters: dict[str, Any] | None = None) -> str:
    rows = connection.execute(explain.encode(), parameters).fetchall()
    return "\n".join(line for (line,) in rows)


@pytest.mark.parametrize(
    ("index", "statement"),
    [(index, name) for index, names in SERVED.items() for name in names if name not in PEOPLES],
)
def test_an_index_serves_the_statement_that_it_names(
    connection: psycopg.Connection[Any], index: str, statement: str
) -> None:
    """The plan that serves any parameters goes through it."""
    found = plan(connection, f"explain (generic_plan) {numbered(statements()[statement])}")
    assert index in found


@pytest.mark.parametrize("statement", ["claim", "claim_suspects", "readmit_known"])
def test_places_and_pins_are_conditions_of_the_index(connection: psycopg.Connection[Any], statement: str) -> None:
    """Not filters over rows that were read; the dendrites of what is unknown are, too."""
    found = plan(connection, f"explain (generic_plan) {numbered(statements()[statement])}")
    [condition] = [line for line in found.splitlines() if "Index Cond" in line and "queue" in line]
    assert all(part in condition for part in ("graph = ", "queue = ", "pin = ", "place = "))
    assert ("chr(31)" in condition or "|| '" in condition) == (statement == "readmit_known")


@pytest.mark.parametrize("statement", ["lock_limits", "claim_with_limits", "find_limited", "lift_limits"])
def test_what_a_worker_knows_is_a_condition_of_the_index_of_limited_work(
    connection: psycopg.Connection[Any], statement: str
) -> None:
    """So that what nobody knows is read by nobody, and needs not be set aside."""
    found = plan(connection, f"explain (generic_plan) {numbered(statements()[statement])}")
    lines = found.splitlines()
    [condition] = [
        lines[place + 1]
        for place, line in enumerate(lines)
        if "activation_limited" in line and "Cond" in lines[place + 1]
    ]
    assert all(part in condition for part in ("graph = ", "queue = ", "pin = ", "place = ", "neuron || "))


@pytest.mark.parametrize(("index", "which"), _ASKED)
def test_an_index_serves_what_people_ask(
    connection: psycopg.Connection[Any], index: str, which: dict[str, Any]
) -> None:
    """A listing of runs by what few of them have goes through the index of that."""
    everything = {"status": None, "tags": None, "tag_key": None, "from_id": None, "since": None, "limit": 100}
    assert index in plan(connection, f"explain {statements()['run_rows']}", everything | which)
    assert "run_rows" in SERVED[index]


@pytest.mark.parametrize(
    ("index", "which"),
    [("run_failed", RunFilter(status="failed")), ("run_by_tag", RunFilter(tag=("customer", "17")))],
)
def test_the_store_asks_so_that_the_plan_is_for_what_is_asked(
    connection: psycopg.Connection[Any], index: str, which: RunFilter
) -> None:
    """Its connections plan without a look at parameters; what people ask is sent with them in its text."""
    runner = TransactionRunner(lambda: nullcontext(connection), statements())
    before = scans(connection, index)
    runner.run(PostgresOperations().run_rows(which))
    assert scans(connection, index) == before + 1


def scans(connection: psycopg.Connection[Any], index: str) -> int:
    """How often an index was read."""
    connection.execute("select pg_stat_force_next_flush()")
    row = connection.execute("select idx_scan from pg_stat_user_indexes where indexrelname = %s", [index]).fetchone()
    assert row is not None
    return int(row[0])


def test_every_index_names_statements_that_there_are(connection: psycopg.Connection[Any]) -> None:
    """An index that serves nothing costs every write; so each says what it is for. A unique one guards."""
    rows = connection.execute(
        "select indexname, indexdef like 'CREATE UNIQUE%' from pg_indexes where schemaname = 'cnstra'"
    ).fetchall()
    assert {name for name, is_unique in rows if not is_unique} <= set(SERVED) <= {name for name, _ in rows}
    assert {name for names in SERVED.values() for name in names} <= set(statements())
    assert {index for index, names in SERVED.items() if PEOPLES & set(names)} == {index for index, _ in _ASKED}


SETTLING = [
    *("lock_runs", "load_activations", "load_heads", "update_runs", "update_activations", "report_progress"),
    *("settle_ahead", "settle_ahead_with_contexts", "write_hops", "insert_run"),
    *("load_groups", "load_members", "load_pending", "update_groups", "update_members", "fire", "abandon"),
    *("load_letters", "known_letters", "load_expectations", "load_expectations_by_id", "delete_expectations"),
    *("deliver", "take_letters", "load_posted", "find_posted", "find_expecting", "take_posted"),
]
CLAIMING = ["claim", "claim_with_limits", "claim_suspects", "claims_of_ids", "run_facts", "load_contexts"]


@pytest.mark.parametrize("statement", SETTLING)
def test_a_hop_reads_no_table_from_end_to_end(connection: psycopg.Connection[Any], statement: str) -> None:
    """Whatever their statistics say, the statements of a settlement reach each row by its key."""
    assert "Seq Scan" not in plan(connection, f"explain (generic_plan) {numbered(statements()[statement])}")


@pytest.mark.parametrize("statement", SETTLING + CLAIMING)
@pytest.mark.parametrize("state", ["empty", "connection"], ids=["of nothing", "of much"])
def test_a_hop_reads_nothing_of_its_run_that_it_does_not_name(
    request: pytest.FixtureRequest, state: str, statement: str
) -> None:
    """Each row by its whole key, so that the thousandth hop of a run costs what the first did. Read at once are the results
    of a group, and what was sent under a key.
    """
    connection = request.getfixturevalue(state)
    keys = dict(
        connection.execute(
            "select c.relname, array_agg(a.attname::text order by a.attnum) from pg_index i "
            "join pg_class c on c.oid = i.indexrelid join pg_attribute a on a.attrelid = c.oid "
            "where i.indisprimary and c.relnamespace = 'cnstra'::regnamespace group by 1"
        ).fetchall()
    )
    keys["posted_pkey"].remove("number")
    if statement == "fire":
        keys["member_pkey"].remove("member")
    explain = f"explain (generic_plan, format json) {numbered(statements()[statement])}"
    [(shown,)] = connection.execute(explain.encode()).fetchall()
    for scan in scans_of(shown[0]["Plan"]):
        missing = [column for column in keys.get(scan["Index Name"], []) if column not in scan.get("Index Cond", "")]
        assert not missing, f"{scan['Index Name']} without {missing}: {scan.get('Index Cond')}"


def scans_of(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All scans of indexes in a plan."""
    if "Index Name" in node:
        yield node
    for part in node.get("Plans", ()):
        yield from scans_of(part)


def test_what_hops_wrote_is_matched_by_a_hash(connection: psycopg.Connection[Any]) -> None:
    """Joined, each entry of a batch would be compared with each of its hops."""
    shown = plan(connection, f"explain (generic_plan) {numbered(statements()['settle_ahead_with_contexts'])}")
    assert shown.count("hashed SubPlan") == 2


def test_a_look_of_a_mirror_reads_what_it_follows_what_lives_and_what_ended_lately(
    connection: psycopg.Connection[Any],
) -> None:
    """Each by an index, up to a bound in it, so that nothing in it grows with what ever was."""
    found = plan(connection, f"explain (generic_plan) {numbered(statements()['sight'])}")
    lines = found.splitlines()
    assert "Seq Scan" not in found
    for index, bound in {
        "run_pkey": "run_id = ",
        "run_open": "run_id >= ",
        "run_ending": "run_id > ",
        "run_ended": "finished_at >= ",
    }.items():
        [place, *others] = [number for number, line in enumerate(lines) if index in line]
        assert not others, found
        assert any("Index Cond" in line and bound in line for line in lines[place : place + 3]), found
