"""``python -m order_saga.prove``: the demo's proof once more, of the batch that was submitted last.

With the same ``--orders`` and ``--file`` as the demo had. It starts the servers if they do not run.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import psycopg
import redis

from cnstra import CnstraError
from order_saga import proof
from order_saga.purchases import PurchasesError
from order_saga.stage import report, servers
from order_saga.stage.options import proof_options
from order_saga.stage.screen import Screen


def main(arguments: Sequence[str] | None = None) -> int:
    """Prove the latest batch; 0 when every claim holds, else 1. By default as the command line says."""
    given = proof_options(arguments)
    screen = Screen()
    try:
        with (
            servers.running(given.home, keep=False) as urls,
            psycopg.connect(urls.database, autocommit=True) as connection,
        ):
            batch = proof.latest_batch(connection)
            screen.say(f"Batch {batch!r}")
            proved = report.show(proof.prove(connection, batch, given.purchases()), screen)
    except (CnstraError, PurchasesError, proof.NothingToProve, psycopg.Error, redis.RedisError) as error:
        sys.stderr.write(f"order_saga.prove: {error}\n")
        return 1
    report.conclude(screen, proved=proved)
    return 0 if proved else 1


if __name__ == "__main__":
    sys.exit(main())
