"""``python -m context_stores``: one checkout with each store."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from typing import Any

import redis

from cnstra.stores.reactive import Collection, Database, ImmediateScheduler
from context_stores.in_a_collection import Known, LiveStore
from context_stores.in_a_database import TableStore
from context_stores.on_redis import SessionStore
from context_stores.recover import check_out


def main() -> None:
    """Check out with each store that can be had."""
    database = sqlite3.connect(":memory:")
    screen: Collection[str, Known] = Collection("run_id", database=Database(ImmediateScheduler()))
    screen.subscribe(lambda keys: print(f"  a screen sees {screen.select_by_primary_key(keys[0])}"))
    stores: dict[str, Callable[[], Any]] = {
        "in a database": lambda: TableStore(database, "run-456"),
        "in a reactive collection": lambda: LiveStore(screen, "run-789"),
    }
    if url := os.environ.get("CNSTRA_BROKER_URL"):
        stores["on Redis"] = lambda: SessionStore(redis.Redis.from_url(url), "session-123")
    for name, create in stores.items():
        print(f"{name}:")
        print(f"  {check_out('three books', create)}")


if __name__ == "__main__":
    main()
