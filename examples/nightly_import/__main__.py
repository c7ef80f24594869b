"""``python -m nightly_import``: one night, with a cron that fires twice and a worker that dies in the middle, and the proof."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import psycopg
import redis
from order_saga.stage import commands, servers, signals
from order_saga.stage.commands import DemoError
from order_saga.stage.crew import Crew
from order_saga.stage.screen import Screen

from cnstra import CnstraError, Orchestrator, Run
from nightly_import import catalogue, feed, proof
from nightly_import.cron import begin
from nightly_import.graph import AT_ONCE, Night, Report, cns

WORKER = ("worker", "nightly_import.graph:cns", "--lease", "5")
_WORKERS = 2
_PAUSE = 0.5
_STALLED = 120.0
_LINES = """
select count(*) filter (where status in ('done', 'failed')) from cnstra.activations
where run_id = %s and neuron = 'importer'
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the night: 0 when all is proved, else 1. By default as the command line says."""
    given = _options(arguments)
    os.environ[catalogue.SEED] = str(given.seed)  # the workers inherit it
    home = Path(os.environ.get("CNSTRA_HOME") or ".cnstra").resolve()
    try:
        with signals.as_exits(), servers.running(home, keep=False) as urls:
            return 0 if _play(urls, home / "nightly_import", given.items, given.seed, given.date, Screen()) else 1
    except (CnstraError, DemoError, psycopg.Error, redis.RedisError) as error:
        sys.stderr.write(f"nightly_import: {error}\n")
        return 1


def _play(urls: servers.Urls, folder: Path, items: int, seed: int, day: date, screen: Screen) -> bool:
    commands.run(["migrate"], urls.environment)
    path = folder / f"feed-{day}-{items}-{seed}.csv"
    feed.write(path, size=items, seed=seed)
    night = Night(date=day, feed=str(path))
    screen.step("feed", f"{items:,} lines in {path}")
    with (
        psycopg.connect(urls.database, autocommit=True) as connection,
        Crew(urls.environment, folder, WORKER) as crew,
        Orchestrator(cns, database=urls.database, broker=urls.broker) as orchestrator,
    ):
        catalogue.make_tables(urls.database)
        for _ in range(_WORKERS):
            screen.step("worker", f"process {crew.start()} is ready")
        begun = time.monotonic()
        run = begin(orchestrator, night)
        screen.step("cron", f"run {run.id} is submitted")
        again = begin(orchestrator, night)
        screen.step("cron", f"fires a second time, and gets the same run: {again.id}")

        _until(items * 2 // 5, run, connection, crew, screen)
        screen.step("accident", f"SIGKILL to worker {crew.kill_one()}, with up to {AT_ONCE} lines in hand")
        screen.step("worker", f"process {crew.start()} is ready")
        _until(items, run, connection, crew, screen)
        result = run.wait(_STALLED)
        screen.step("time", f"{time.monotonic() - begun:.1f} s for {items:,} lines")

        for output in result.outputs:
            _show(output.payload, screen)
        wrong = list(proof.differences(connection, night))
        for one in wrong[:10]:
            screen.step("differs", one)
        screen.say("PROVED: each item once, and a report that is right." if not wrong else "NOT PROVED.")
        return not wrong


def _until(lines: int, run: Run, connection: psycopg.Connection, crew: Crew, screen: Screen) -> None:
    """Show how many lines have come to an end, until so many have. Raises ``DemoError`` when nothing moves any more."""
    before, moved = -1, time.monotonic()
    while True:
        [(done,)] = connection.execute(_LINES, [run.id]).fetchall()
        screen.progress(f"{done:,} lines", now=done >= lines)
        if done >= lines:
            return
        crew.check()
        if done != before:
            before, moved = done, time.monotonic()
        elif time.monotonic() - moved > _STALLED:
            raise DemoError(f"nothing has moved for {_STALLED:.0f} s: {done:,} lines; run {run.id} is {run.status()}")
        time.sleep(_PAUSE)


def _show(report: Report, screen: Screen) -> None:
    screen.step("report", f"{report.date}: {report.imported:,} of {report.lines:,} lines imported")
    screen.step("", f"{report.pieces:,} pieces, worth {report.value:,}; {len(report.failed):,} lines failed:")
    for failed in report.failed[:5]:
        screen.step("", failed.why)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m nightly_import", description="One night's import, and its proof.")
    parser.add_argument("--items", type=int, default=5_000, metavar="N", help="lines of the feed; without it, 5000")
    parser.add_argument(
        "--seed", type=int, default=7, metavar="S", help="which lines are broken, and what the catalogue refuses"
    )
    parser.add_argument(
        "--date", type=date.fromisoformat, default=date(2026, 1, 31), help="the night; each is imported once"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
