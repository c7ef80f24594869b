"""A run that was submitted within the user's own transaction is found by workers after the commit, rung for or not."""

from __future__ import annotations

import psycopg
import pytest

from support.graphs import routes
from support.stage import Stage


@pytest.mark.parametrize("rings", [True, False])
def test_workers_run_it_after_the_commit(stage: Stage, database_url: str, rings: bool) -> None:
    """Rung for, or found by the supervisor."""
    stage.start(routes.chain)
    with psycopg.connect(database_url) as own:
        run = stage.client(routes.chain).submit(routes.set_out.create_signal(1), connection=own)
    if rings:
        run.ring()

    stage.completed(run)
