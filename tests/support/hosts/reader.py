"""A program on a host that locks a run in a transaction, asks for a large answer, and does not read it.

``python -m support.hosts.reader RUN`` connects as the store does, and prints a line when all of that has been sent.
"""

from __future__ import annotations

import os
import signal
import sys

import psycopg

from cnstra.stores.postgres.addresses import address_of
from cnstra.stores.postgres.pools import PLANNING, STALLING, connecting

_BYTES = 64 * 1024 * 1024
"""More than the buffers on the way take."""


def main(run_id: str) -> None:
    url = os.environ["CNSTRA_DATABASE_URL"]
    with (
        psycopg.connect(url, **connecting(address_of(url), PLANNING, STALLING)) as connection,
        connection.transaction(),
    ):
        connection.execute("select from cnstra.run where run_id = %s for update", [run_id])
        connection.pgconn.send_query(f"select repeat('x', {_BYTES})".encode())
        connection.pgconn.flush()
        print("asked", flush=True)
        signal.pause()


if __name__ == "__main__":
    main(sys.argv[1])
