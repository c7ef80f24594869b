"""The very same graph on real servers: a worker process, Postgres, a broker, and a day that takes a tenth of a second."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
from order_saga.stage import commands, servers, signals
from order_saga.stage.crew import Crew

from cnstra import CnstraError, Orchestrator, Run, RunResult
from subscription import pace, services
from subscription.graph import cns
from subscription.services import Cards
from subscription.words import PRICES, Application, Goodbye, Upgrade, applied, wished

CUSTOMER = "Bob"
_DAY = 0.1  # seconds
_WORKER = ("worker", "subscription.graph:cns", "--threads", "2")
_PATIENCE = 60.0


def main() -> int:
    """A few months; 0 when what was paid is what should have been."""
    home = Path(os.environ.get("CNSTRA_HOME") or ".cnstra").resolve()
    try:
        with signals.as_exits(), TemporaryDirectory(prefix="subscription_") as folder:
            path = str(Path(folder) / "cards.sqlite")
            os.environ.update({services.VARIABLE: path, pace.VARIABLE: str(_DAY)})  # for the worker
            with servers.running(home, keep=False) as urls:
                commands.run(["migrate"], urls.environment)
                with (
                    Crew(urls.environment, Path(folder), _WORKER) as crew,
                    Orchestrator(cns, database=urls.database, broker=urls.broker) as orchestrator,
                    closing(Cards(path)) as cards,
                ):
                    crew.start()
                    return _live(orchestrator, cards)
    except (CnstraError, commands.DemoError, psycopg.Error, TimeoutError) as error:
        print(f"subscription: {error}", file=sys.stderr)
        return 1


def _live(orchestrator: Orchestrator, cards: Cards) -> int:
    """What the customer does, each when the card company has come so far."""

    def asked(what: str, *, charged: bool = True) -> int:
        return sum(one.what.startswith(what) and one.charged is charged for one in cards.log(CUSTOMER))

    run = orchestrator.submit(applied.create_signal(Application(customer=CUSTOMER, plan="basic")))
    _say("subscribes to basic")
    _until(lambda: asked("month") == 1, "the first month is paid")
    _say("has a card that expires")
    cards.expire(CUSTOMER)
    _until(lambda: asked("month", charged=False) > 0, "the card is declined")
    _say("has a new card")
    cards.replace(CUSTOMER)
    if run.status() == "failed":  # its card was declined too often by now
        run.retry()
    _until(lambda: asked("month") == 2, "the second month is paid, when the card is presented again")
    _say("wants plus")
    run.send(wished.create_signal(Upgrade(plan="plus")))
    _until(lambda: asked("upgrade") == 1, "the difference is paid")
    _say("pauses")
    run.pause()
    time.sleep(15 * _DAY)  # what was under way may come to its end
    before = asked("month")
    time.sleep(60 * _DAY)
    paused = asked("month") - before
    _say("comes back")
    run.resume()
    _until(lambda: asked("month") > before, "the month in which the customer has come back is paid")
    _say("says goodbye")
    run.send(wished.create_signal(Goodbye(reason="no time to read")))
    return _report(run, run.wait(timeout=_PATIENCE), cards, paused)


def _report(run: Run, result: RunResult, cards: Cards, paused: int) -> int:
    log = cards.log(CUSTOMER)
    for one in log:
        print(f"    {one.what}: {one.amount / 100:.2f}{'' if one.charged else ', the card is declined'}")
    months = [one for one in log if one.charged and one.what.startswith("month")]
    wrong = [one.what for number, one in enumerate(months, 1) if not one.what.startswith(f"month {number},")]
    wrong += [one.what for one in months if one.amount != PRICES[one.what.split()[-1]]]
    difference = cards.paid(CUSTOMER) - sum(one.amount for one in months)
    if not 0 <= difference <= PRICES["plus"] - PRICES["basic"]:
        wrong.append(f"the upgrade cost {difference / 100:.2f}")
    if paused:
        wrong.append(f"{paused} months were charged while it was paused")
    if result.status != "completed" or len(result.outputs) != 1:
        wrong.append(f"the run is {result.status}: {result.error}")
    print(f"\n  the run is {result.status}: {run.id}")
    print(f"  paid in all: {cards.paid(CUSTOMER) / 100:.2f}, of which for the upgrade {difference / 100:.2f}")
    print("  as it should be" if not wrong else f"  NOT AS IT SHOULD BE: {'; '.join(wrong)}")
    return 1 if wrong else 0


def _say(what: str) -> None:
    print(f"  {CUSTOMER} {what}", flush=True)


def _until(so: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + _PATIENCE
    while not so():
        if time.monotonic() > end:
            raise TimeoutError(f"after {_PATIENCE:.0f} s it is not so that {what}")
        time.sleep(0.05)
