"""Runs on a schema that is partitioned by time: a run is in the partitions of its month, whatever becomes of it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from cnstra.servers import HeldServers
from cnstra.stores.postgres import migrate
from support.brokers import Broker
from support.databases import fresh_database
from support.graphs import routes
from support.partitions import partition
from support.points import Fault
from support.soundness import assert_sound
from support.stage import Stage, on_stage


@pytest.fixture
def stage(servers: HeldServers, broker: Broker, broker_url: str, tmp_path: Path) -> Iterator[Stage]:
    with fresh_database(servers.database_url) as database_url:
        migrate(database_url)
        partition(database_url)
        with on_stage(database_url, broker, tmp_path, broker_url) as stage:
            yield stage


def test_runs_of_many_hops_and_of_groups_end_in_the_partitions_of_their_month(stage: Stage) -> None:
    """Also when their worker dies: claims, footholds, contexts, gathers and the looks of the supervisor find them there."""
    doomed = stage.start(routes.chain, Fault(point="call.inside", action="kill", activation=2))
    chain = stage.client(routes.chain).submit(routes.set_out.create_signal(10))
    fan = stage.client(routes.fan).submit(routes.deal_out.create_signal(3))
    assert doomed.died() == -signal.SIGKILL
    stage.lose(doomed)
    for graph in (routes.chain, routes.fan):
        stage.start(graph)
    for run in (chain, fan):
        stage.completed(run)
        assert_sound(stage, run.id)

    month = f"{datetime.now(UTC):%Y_%m}"
    with psycopg.connect(stage.database_url) as connection:
        for table in ("run", "activation", "context_entry"):
            query = f"select distinct c.relname from cnstra.{table} t join pg_class c on c.oid = t.tableoid"
            assert connection.execute(query.encode()).fetchall() == [(f"{table}_{month}",)]


def test_a_database_with_runs_is_not_partitioned(stage: Stage) -> None:
    """Nothing of it is touched."""
    stage.client(routes.chain).submit(routes.set_out.create_signal(10))
    with pytest.raises(psycopg.errors.RaiseException, match="holds runs"):
        partition(stage.database_url)
    with psycopg.connect(stage.database_url) as connection:
        assert connection.execute("select count(*) from cnstra.runs").fetchone() == (1,)
