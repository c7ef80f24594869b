"""A run may have thousands of activations: what asks for a few of them touches a few pages, counted, not timed (G14)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from cnstra.servers import HeldServers
from cnstra.stores.postgres.addresses import address_of
from cnstra.stores.postgres.pools import PLANNING, STALLING, connecting
from cnstra.stores.postgres.statements import statements
from support.databases import fresh_database

MEMBERS = 5_000
A_FEW_PAGES = 40

_FILL = f"""
insert into cnstra.run (run_id, graph, graph_version, pinned, entry_collateral, entry_payload, status, outstanding, active,
                        last_activation, submitted_at)
values (%(run_id)s, 'wide', 'v1', false, 'begun', '1', 'running', 1, 1, {MEMBERS + 2}, now());

insert into cnstra.activation (run_id, activation_id, parent_activation_id, ordinal, graph, pin, neuron, dendrite, collateral,
                               payload, queue, priority, attempt, status, created_at, available_at, finished_at, path, gathers,
                               origin)
select %(run_id)s, n, case when n > 1 then 1 end, 0, 'wide', '', 'n', 'd', 'c', '1', 'default', 0, 1,
       case when n = 2 then 'waiting' else 'done' end, now(), now(), case when n <> 2 then now() end,
       case when n > 2 then array[1, n - 3] end, case when n = 2 then 1 end, case when n = 2 then 'gather' else '' end
from generate_series(1, {MEMBERS + 2}) n;

insert into cnstra.scatter (run_id, group_id, parent, ordinal, collateral, size, targets, gathers, started, running, ended)
values (%(run_id)s, 1, 1, 0, 'c', {MEMBERS}, '[]', '[]', {MEMBERS}, 0, 0);

analyze
"""


@pytest.fixture(scope="module")
def run_id() -> UUID:
    """The run's."""
    return uuid4()


@pytest.fixture(scope="module")
def connection(servers: HeldServers, template_url: str, run_id: UUID) -> Iterator[psycopg.Connection[Any]]:
    """One run with thousands of members, as the store connects to it."""
    with (
        fresh_database(servers.database_url, template=template_url) as url,
        psycopg.connect(url, **connecting(address_of(url), PLANNING, STALLING)) as connection,
    ):
        for statement in _FILL.split(";\n\n"):
            connection.execute(statement.encode(), {"run_id": run_id} if "%(" in statement else None)
        yield connection


def pages(connection: psycopg.Connection[Any], query: str, parameters: dict[str, Any]) -> int:
    """How many pages a query touches."""
    explain = f"explain (analyze, buffers, timing off, format json) {query}"
    with connection.transaction(force_rollback=True):
        [(found,)] = connection.execute(explain.encode(), parameters).fetchall()
    [plan] = found if isinstance(found, list) else json.loads(found)
    return int(plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"])


def test_g14_what_members_emitted_is_read_without_a_look_at_all_of_the_run(
    connection: psycopg.Connection[Any], run_id: UUID
) -> None:
    """The view shows a hundred members and their outputs; that of one is what its compensation is called with."""
    some = "select * from cnstra.activations where run_id = %(run_id)s and activation_id between 1001 and 1100"
    assert pages(connection, some, {"run_id": run_id}) < 100 * A_FEW_PAGES

    one = {"run_ids": [run_id], "activation_ids": [1001]}
    assert pages(connection, statements()["emitted"], one) < A_FEW_PAGES
    held = {"run_id": run_id, "activation_id": 1001}
    assert pages(connection, statements()["children_held"], held) < A_FEW_PAGES


def test_g14_a_member_that_fails_costs_the_same_however_many_there_are(
    connection: psycopg.Connection[Any], run_id: UUID
) -> None:
    """Gathers within it would have to be given up; there are none, and that is seen without a look at the others."""
    gone = {"now": datetime.now(UTC), "run_ids": [run_id], "paths": ["{1,7}"], "ends": ["{1,8}"]}
    assert pages(connection, statements()["abandon"], gone) < A_FEW_PAGES
