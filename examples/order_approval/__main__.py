"""``python -m order_approval``: a day's orders of all kinds, a worker that dies in the middle, and the books at the end.

Ends with 0 when the books add up, with 1 when they do not.
"""

from __future__ import annotations

import argparse
import os
import secrets
import sys
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
from order_saga.stage import commands, servers, signals
from order_saga.stage.crew import Crew

from cnstra import CnstraError, Orchestrator
from order_approval import books, plan, proof, provider, warehouse
from order_approval.graph import cns
from order_approval.people import People

_WORKER = ("worker", "order_approval.graph:cns", "--lease", "3", "--threads", "8")
_ENDED = ("completed", "failed", "compensated", "cancelled")
_COUNTS = "select status, count(*) from cnstra.runs where tags @> jsonb_build_object('day', %s::text) group by status"
_AT_ONCE = 5  # orders that come in between two looks
_TURN = 0.05  # seconds between two looks
_PATIENCE = 120.0  # seconds without any progress


def main() -> int:
    """A day of the shop; 0 when its books add up."""
    parser = argparse.ArgumentParser(prog="python -m order_approval", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--orders", type=int, default=300, metavar="N", help="how many orders; without it, 300")
    given = parser.parse_args()
    home = Path(os.environ.get("CNSTRA_HOME") or ".cnstra").resolve()
    try:
        with signals.as_exits(), TemporaryDirectory(prefix="order_approval_") as folder:
            os.environ[books.FOLDER] = folder
            with servers.running(home, keep=False) as urls:
                return _day(given.orders, urls, Path(folder))
    except (CnstraError, commands.DemoError, psycopg.Error) as error:
        print(f"order_approval: {error}", file=sys.stderr)
        return 1


def _day(orders: int, urls: servers.Urls, folder: Path) -> int:
    day = secrets.token_hex(3)
    planned = plan.orders_of(day, orders)
    commands.run(["migrate"], urls.environment)
    for book in (provider.book, warehouse.book):
        book.open()
    warehouse.stock_up(plan.goods(planned))
    with (
        Orchestrator(cns, database=urls.database, broker=urls.broker) as orchestrator,
        psycopg.connect(urls.database, autocommit=True) as connection,
        Crew(urls.environment, folder, _WORKER) as crew,
    ):
        for _ in range(2):
            crew.start()
        print(f"Day {day!r}: {len(planned)} orders, two workers.")
        _play(planned, People(orchestrator, connection, day), connection, crew)
        return _report(proof.prove(proof.runs_of(connection, day), planned))


def _play(planned: list[plan.Planned], people: People, connection: psycopg.Connection, crew: Crew) -> None:
    """Orders come in, the office and the customers have their turns, a worker dies; until all runs have ended."""
    coming = list(reversed(planned))
    moved, before, killed = time.monotonic(), Counter[str](), False
    while True:
        for _ in range(min(_AT_ONCE, len(coming))):
            people.place(coming.pop())
        people.act()
        counts = Counter[str](dict(connection.execute(_COUNTS, [people.day]).fetchall()))
        ended = sum(counts[status] for status in _ENDED)
        if ended == len(planned):
            print(f"  {ended} have ended.")
            return
        if not killed and ended >= len(planned) / 3:
            print(
                f"  SIGKILL to worker {crew.kill_one()}, when {ended} have ended and {counts.total() - ended} have not."
            )
            killed = True
        crew.check()
        if counts != before:
            before, moved = counts, time.monotonic()
        elif time.monotonic() - moved > _PATIENCE:
            raise commands.DemoError(f"nothing has moved for {_PATIENCE:.0f} s: {dict(counts)}; see `cnstra doctor`")
        time.sleep(_TURN)


def _report(found: proof.Proof) -> int:
    print("\n  what became of them")
    for (kind, status), count in sorted(found.counts.items()):
        print(f"    {kind:<26} {status:<12} {count:>5}")
    print(f"""
  the books
    sold                       {found.sold / 100:>12,.2f}
    in the till                {found.till / 100:>12,.2f}   {found.charges} charges, {found.refunds} refunds
    on the road                {found.on_the_road:>12,}
    on the shelves             {found.on_shelves:>12,}
""")
    for book in (provider.book, warehouse.book):
        print("  the {}: {} calls for {} things".format(book.name, *book.calls()))
    for line in found.wrong:
        print(f"  ✗ {line}")
    print("\nTHE BOOKS DO NOT ADD UP." if found.wrong else "\nTHE BOOKS ADD UP, to the cent and to the piece.")
    return 1 if found.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
