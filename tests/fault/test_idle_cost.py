"""Workers that have nothing to do ask their servers next to nothing; rates have an upper bound only, by the servers' clocks."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import psycopg
import pytest
import redis
from psycopg.rows import dict_row

from cnstra.workers.settings import WorkerSettings
from support.graphs import routes, versions
from support.stage import PATIENCE, Stage
from support.waiting import eventually

_A_FEW = 3.0
"""So many times a second, and worker, an idle worker may ask each of its servers."""

_WORKERS = 2
_DEFAULTS: dict[str, Any] = {
    name: getattr(WorkerSettings(), name)
    for name in ("lease", "look_every", "supervisor_lease", "unclaimed_after", "crash_backoff")
}

# What happened in this database since the counters were reset, and for how long that has been.
_ASKED = (
    "select coalesce(sum(s.calls) filter (where s.query !~* '^(begin|commit)'), 0)::float8 as statements, "
    "coalesce(sum(s.calls) filter (where s.query ilike '%%update cnstra.supervisor%%'), 0)::int as looks, "
    "coalesce(sum(s.calls) filter (where s.query ilike '%%update cnstra.activation%%'), 0)::int as claims, "
    "extract(epoch from clock_timestamp() - (select stats_reset from pg_stat_statements_info))::float8 as seconds "
    "from pg_stat_statements s join pg_database d on d.oid = s.dbid "
    "where d.datname = current_database() and s.query not like '%%pg_stat_statements%%'"
)


def test_g14_idle_workers_ask_postgres_and_redis_a_few_times_a_second(doomed_stage: Stage) -> None:
    """Counted over a number of looks around, with the settings that workers have by default."""
    stage = doomed_stage
    if stage.broker_url != stage.redis_url:
        pytest.skip(
            "RabbitMQ counts no commands: nothing is asked of it while nothing is to be done, but for heartbeats"
        )
    for _ in range(_WORKERS):
        stage.start(routes.chain, **_DEFAULTS)
    run = stage.client(routes.chain).submit(routes.set_out.create_signal(1))
    stage.completed(run)
    with (
        psycopg.connect(stage.database_url, autocommit=True, row_factory=dict_row) as postgres,
        redis.Redis.from_url(stage.redis_url) as broker,
    ):
        if not postgres.execute("select from pg_extension where extname = 'pg_stat_statements'").rowcount:
            pytest.skip("this Postgres has no pg_stat_statements")

        def counted(looks: int) -> dict[str, Any]:
            """What both are asked from now on until each worker has looked around so often."""
            broker.config_resetstat()
            postgres.execute("select pg_stat_statements_reset()")

            def looked() -> dict[str, Any] | None:
                row = postgres.execute(_ASKED.encode()).fetchone()
                return row if row is not None and row["looks"] >= looks * _WORKERS else None

            found = eventually(looked, PATIENCE, what="each worker has looked around")
            assert found is not None
            return found

        counted(2)  # the run is over, and what followed from it
        asked = counted(6)
        commands = broker.info("commandstats")

    assert asked["claims"] == 0, "nothing is ready, so nobody has anything to claim"
    assert 0 < asked["statements"] <= _A_FEW * _WORKERS * asked["seconds"], asked
    # The broker's counters were reset earlier than those of Postgres, and are read later: the time is longer.
    calls = sum(
        stats["calls"] for name, stats in commands.items() if name not in ("cmdstat_info", "cmdstat_config|resetstat")
    )
    assert 0 < calls <= _A_FEW * _WORKERS * asked["seconds"] + 10, commands


def test_g14_a_backlog_that_nobody_can_take_costs_no_more(doomed_stage: Stage) -> None:
    """Hundreds of timers, and hundreds of activations that no worker knows: looks cost statements, not rows."""
    stage = doomed_stage
    client = stage.client(versions.new_shop)
    stage.start(versions.old_shop, **_DEFAULTS | {"unclaimed_after": timedelta(milliseconds=1)})
    client.submit_many([versions.wrap_it.create_signal(n) for n in range(300)])
    client.submit_many([versions.sell_it.create_signal(n) for n in range(300)], delay=timedelta(days=1))
    aside = "select count(*) as number from cnstra.activation where blocked = 'unknown'"
    eventually(lambda: stage.row(aside)["number"] == 300, PATIENCE, what="the unknown is out of the way")
    with psycopg.connect(stage.database_url, autocommit=True, row_factory=dict_row) as postgres:
        if not postgres.execute("select from pg_extension where extname = 'pg_stat_statements'").rowcount:
            pytest.skip("this Postgres has no pg_stat_statements")
        postgres.execute("select pg_stat_statements_reset()")
        rows = (
            "select s.calls, s.rows, s.query from pg_stat_statements s join pg_database d on d.oid = s.dbid "
            "where d.datname = current_database() and s.query ilike '%%cnstra.%%' and s.query not like '%%cnstra.retention%%'"
        )  # how many rules there are has nothing to do with the backlog

        def looked() -> list[dict[str, Any]] | None:
            found = postgres.execute(rows.encode()).fetchall()
            looks = sum(one["calls"] for one in found if "update cnstra.supervisor" in one["query"].lower())
            return found if looks >= 3 else None

        for one in eventually(looked, PATIENCE, what="the worker has looked around") or []:
            assert one["rows"] <= 2 * one["calls"], one
