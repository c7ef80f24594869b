"""``python -m benchmarks.profiling``: where the time of durable hops goes, in a worker process and in Postgres.

Runs one graph of the durable suite on private servers, has py-spy look at one worker process meanwhile, and asks
pg_stat_statements afterwards. Writes a flame graph to benchmarks/results/, and prints what each statement took for a step.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.__main__ import RESULTS
from benchmarks.suites.durable import graphs
from benchmarks.suites.durable.ours import seconds_of
from benchmarks.suites.durable.servers import Workers, fresh, servers, workers

_STATEMENTS = """
select calls, rows, total_exec_time * 1000 / %(steps)s as microseconds, wal_bytes / %(steps)s as wal,
       left(regexp_replace(query, '\\s+', ' ', 'g'), 100) as statement
from pg_stat_statements
where dbid = (select oid from pg_database where datname = current_database())
order by total_exec_time desc
limit 20
"""


def main() -> int:
    """Profile what the command line asks for; gives the exit code."""
    options = _parser().parse_args()
    options.results.mkdir(parents=True, exist_ok=True)
    picture = options.results / f"profile-{options.graph}.svg"
    with servers() as place, fresh(place) as here, here.connect() as connection:
        connection.execute("create extension if not exists pg_stat_statements")
        with workers(here, options.graph) as crew:
            connection.execute("select pg_stat_statements_reset()")
            with _watched(crew, picture, options.seconds):
                took = seconds_of(here, connection, options.graph, options.runs)
        steps = options.runs * (graphs.FAN_STEPS if options.graph == "fan" else graphs.STEPS)
        sys.stdout.write(f"{options.graph}: {steps / took:,.0f} steps/s while it was looked at\n\n")
        _print_statements(connection, steps)
    sys.stdout.write(f"\nwritten: {picture}\n")
    return 0


@contextmanager
def _watched(crew: Workers, picture: Path, seconds: int) -> Iterator[None]:
    """py-spy on the last of the processes, for so many seconds, or until the block ends if that is later."""
    command = [
        *(str(Path(sys.executable).parent / "py-spy"), "record", "--gil", "--rate", "200", "--nonblocking"),
        *("--duration", str(seconds), "--output", str(picture), "--pid", str(crew.pids[-1])),
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:  # noqa: S603
        time.sleep(1.0)  # until it has found its way into the process
        yield
        if process.wait() != 0:
            sys.stderr.write("py-spy could not look into the worker: it needs the right to trace processes\n")


def _print_statements(connection: psycopg.Connection[Any], steps: int) -> None:
    sys.stdout.write(f"{'calls':>8} {'rows':>9} {'µs/step':>8} {'WAL B/step':>10}  statement\n")
    for calls, rows, microseconds, wal, statement in connection.execute(_STATEMENTS, {"steps": steps}):
        sys.stdout.write(f"{calls:>8} {rows:>9} {microseconds:>8.2f} {wal:>10.0f}  {statement}\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.profiling", description="See where the time of durable hops goes."
    )
    add = parser.add_argument
    add(
        "--graph",
        default="chain",
        choices=["chain", "async_chain", "fan", "writing"],
        help="what runs (default: chain)",
    )
    add("--runs", type=int, default=10_000, metavar="N", help="how many runs (default: 10,000)")
    add("--seconds", type=int, default=8, metavar="S", help="how long py-spy looks (default: 8)")
    add("--results", type=Path, default=RESULTS, metavar="FOLDER", help="where to write (default: benchmarks/results)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
