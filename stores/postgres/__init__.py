"""Runs in Postgres: carries out what the machine decided, each operation one transaction."""

from __future__ import annotations

from cnstra.stores.postgres.migrating import migrate
from cnstra.stores.postgres.store import AsyncPostgresStore, PostgresOperations, PostgresStore

__all__ = ["AsyncPostgresStore", "PostgresOperations", "PostgresStore", "migrate"]
