"""What a report of progress costs Postgres."""

from __future__ import annotations

from typing import Any

from cnstra.stores.postgres.statements import statements
from support.worlds import PostgresWorld


def _hot_updates(connection: Any) -> tuple[int, int]:
    """Updates of activations in this transaction, and how many of these touched no index."""
    row = connection.execute(
        "select sum(n_tup_upd)::int, sum(n_tup_hot_upd)::int from pg_stat_xact_user_tables "
        "where relname = 'activation' or relname like 'activation\\_%'"  # its partitions
    ).fetchone()
    return (row[0], row[1])


def test_g14_progress_touches_no_index(database_url: str) -> None:
    """The row stays on its page, however often it is written: no index grows by progress."""
    world = PostgresWorld(database_url)
    try:
        world.submit("stock")
        work = world.worker().claim_one()
        with world.connect() as connection:
            connection.execute("begin")
            for step in range(5):
                connection.execute(
                    statements()["report_progress"].encode(),
                    {
                        "run_ids": [work.run_id],
                        "activation_ids": [work.activation_id],
                        "epochs": [work.fence.epoch],
                        "nonces": [work.fence.nonce],
                        "progress": [str(step)],
                    },
                )
            assert _hot_updates(connection) == (5, 5)
    finally:
        world.close()
