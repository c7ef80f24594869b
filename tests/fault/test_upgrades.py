"""The next release migrates under the workers of this one, which go on: before, while it waits for their locks, and after."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cnstra.orchestrator.errors import SchemaError
from cnstra.stores.postgres import migrate, migrating
from support.graphs import routes
from support.points import Fault
from support.soundness import assert_sound
from support.stage import PATIENCE, Stage
from support.waiting import eventually

NEXT = {
    "migrations/0098_next.sql": """
        alter table cnstra.run add column region text not null default 'here';
        alter table cnstra.activation add column region text;
        create index next_activations on cnstra.activation (run_id) where region is not null;
        create table cnstra.extra (run_id uuid primary key)
    """
}
"""What a next release may do: columns that have a default or may be null, indexes, tables."""

_WAITING = "select pid from pg_stat_activity where query like '%next_activations%' and wait_event_type = 'Lock'"


@contextmanager
def next_release() -> Iterator[None]:
    """Meanwhile `migrate` is the next release's in this process; workers are this one's."""
    known, text = migrating.migrations(), migrating.sql_text
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(migrating, "migrations", lambda: [*known, (98, "0098_next.sql")])
        patch.setattr(migrating, "sql_text", lambda name: NEXT.get(name) or text(name))
        yield


def test_workers_go_on_while_the_next_release_migrates(stage: Stage) -> None:
    """The migration has to wait for a worker that is about to commit a hop. Nothing fails, no handler is called twice; and a
    worker of this release that is started after it works, too.
    """
    worker = stage.start(routes.chain)
    client = stage.client(routes.chain)
    worker.arm(Fault(point="settle.commit", action="block", activation=2))
    run = client.submit(routes.set_out.create_signal(10))
    worker.reached("settle.commit")
    taken: list[str] = []
    migration = threading.Thread(target=lambda: taken.extend(migrate(stage.database_url)))
    with next_release():
        migration.start()
        eventually(lambda: stage.rows(_WAITING), PATIENCE, what="the migration waits for the worker's locks")

        worker.release("settle.commit")
        migration.join(PATIENCE)

    assert taken == ["0098_next.sql"]
    stage.completed(run)
    stage.completed(client.submit(routes.set_out.create_signal(20)))
    assert worker.drain()
    stage.start(routes.chain)
    last = client.submit(routes.set_out.create_signal(30))
    stage.completed(last)
    for one in client.list_runs():
        assert stage.ledger.calls(one.id) == {1: 1, 2: 1, 3: 1}
        assert_sound(stage, one.id)
    assert "ERROR" not in worker.log()


def test_the_release_before_does_not_migrate_back(stage: Stage) -> None:
    """It is told to leave the schema as it is, by name."""
    with next_release():
        migrate(stage.database_url)

    with pytest.raises(SchemaError, match=r"migration 98, newer than this release's .*upgrade cnstra"):
        migrate(stage.database_url)
    assert stage.rows("select region from cnstra.run") == []
