"""Context stores of a user's own, as the example writes them: any object with get() and set(), and going on after an error."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from context_stores.checkout import bank
from context_stores.in_a_collection import Known, LiveStore
from context_stores.in_a_database import TableStore
from context_stores.on_redis import SessionStore
from context_stores.recover import check_out

from cnstra.stores.reactive import Collection

EXAMPLES = Path(__file__).parents[2] / "examples"
Make = Callable[[], Any]


@pytest.fixture(params=["redis", "database", "collection"])
def make_store(request: pytest.FixtureRequest) -> Iterator[Make]:
    """Makes stores of one context, the same every time."""
    name = uuid.uuid4().hex
    if request.param == "redis":
        client = redis.Redis.from_url(request.getfixturevalue("broker_url"))
        yield lambda: SessionStore(client, name)
        client.close()
    elif request.param == "database":
        connection = sqlite3.connect(":memory:")
        yield lambda: TableStore(connection, name)
        connection.close()
    else:
        collection: Collection[str, Known] = Collection("run_id")
        yield lambda: LiveStore(collection, name)


def test_a_flow_goes_on_with_the_context_that_was_saved_when_it_failed(make_store: Make) -> None:
    """The retry signal's handler reads what the first stimulation wrote, in each of the three stores."""
    cart = f"cart {uuid.uuid4().hex}"

    known = check_out(cart, make_store)

    assert known == {"shelf": f"shelf 12, for {cart}", "receipt": f"paid, to be fetched at shelf 12, for {cart}"}
    assert bank.charged.count(cart) == 1
    assert make_store().get() == known  # another object, of another process say, finds the same


def test_the_store_on_redis_forgets_after_an_hour(broker_url: str) -> None:
    """Its author gave it a time to live, and every write begins it anew."""
    with redis.Redis.from_url(broker_url, decode_responses=True) as client:
        SessionStore(client, "a").set({"n": 1})

        assert json.loads(str(client.get("checkout:session:a"))) == {"n": 1}
        assert 3500 < int(str(client.ttl("checkout:session:a"))) <= 3600


def test_the_example_runs_as_its_readme_says(broker_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From its folder, with the store on Redis taking part."""
    monkeypatch.setenv("CNSTRA_BROKER_URL", broker_url)

    told = subprocess.run(
        [sys.executable, "-m", "context_stores"], cwd=EXAMPLES, capture_output=True, text=True, check=True
    )

    assert told.stdout.count("paid, to be fetched at shelf 12, for three books") >= 3
    assert "a screen sees Known(run_id='run-789'" in told.stdout
    assert "on Redis:" in told.stdout
