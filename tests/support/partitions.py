"""The schema with its tables of runs partitioned by time, as ``deploy/partitions.sql`` makes it."""

from __future__ import annotations

from pathlib import Path

import psycopg

_SCRIPT = Path(__file__).resolve().parents[2] / "deploy" / "partitions.sql"


def partition(database_url: str) -> None:
    """Partition a database that has the schema, and no runs."""
    from cnstra.stores.postgres import migrate

    with psycopg.connect(database_url) as connection:
        connection.execute(_SCRIPT.read_bytes())
    migrate(database_url)
