"""The example of a subscription: its year in a lab, day by day and in storms; and the same graph on real servers."""

from __future__ import annotations

import logging
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from subscription import graph, pace, year
from subscription.services import Cards, Services
from subscription.words import Application, Farewell, Goodbye, Upgrade, applied, wished

from cnstra.testing import Lab
from support.commands import Servers, cnstra, environment_of

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
BEGINS = datetime(2027, 10, 31, 12, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def cards() -> Iterator[Cards]:
    """A card company, in memory."""
    with closing(Cards()) as found:
        yield found


@pytest.fixture
def lab(cards: Cards) -> Iterator[Lab]:
    """A lab whose handlers are told its time."""
    logging.getLogger("cnstra").setLevel(logging.ERROR)  # each lost worker would be a warning
    with Lab(graph.cns, services=Services(cards=cards, now=lambda: found.now), start=BEGINS) as found:
        yield found
    logging.getLogger("cnstra").setLevel(logging.NOTSET)


def run_example(*arguments: str, both: Servers | None = None) -> subprocess.CompletedProcess[str]:
    """As its README says."""
    return subprocess.run(
        [sys.executable, "-m", "subscription", *arguments],
        cwd=EXAMPLES,
        env=environment_of(both),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_the_year_is_told_as_the_readme_shows_it() -> None:
    """Every line of the calendar, and the sum."""
    told = run_example()

    assert told.returncode == 0, told.stdout + told.stderr
    assert told.stdout in (EXAMPLES / "subscription" / "README.md").read_text()
    assert "15 Jul" not in told.stdout  # it was paused then


def test_the_picture_in_the_readme_is_that_of_the_graph() -> None:
    """As the command draws it."""
    drawn = cnstra("graph", "subscription.graph:cns", folder=EXAMPLES).out

    assert f"```mermaid\n{drawn}```" in (EXAMPLES / "subscription" / "README.md").read_text()


def test_a_year_that_is_charged_otherwise_ends_with_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The example can fail: here the months of the pause are charged."""
    monkeypatch.setattr(graph, "LATE", timedelta(days=1000))

    assert year.a_year().paid > 4 * 1_200 + 840 + 6 * 3_000


@pytest.mark.parametrize("seed", range(10))
def test_in_any_storm_the_year_costs_the_same(cards: Cards, lab: Lab, seed: int) -> None:
    """Workers die and stall at any step: no month is charged twice, none is forgotten, and no delay adds up."""
    chance = random.Random(seed)
    lab.storm(seed, crash=0.3)
    run = lab.submit(applied.create_signal(Application(customer="Ann", plan="basic")))
    lab.advance(200 * DAY)
    run.send(wished.create_signal(Upgrade(plan="plus")))
    lab.advance(chance.randint(1, 200) * DAY)
    run.send(wished.create_signal(Goodbye(reason="moved")))
    result = run.wait()

    [farewell] = [signal.payload for signal in result.outputs]
    months = [asked.what.split(",")[0] for asked in cards.log("Ann") if asked.what.startswith("month")]
    assert months == [f"month {number}" for number in range(1, farewell.months + 1)]
    assert [asked.what for asked in cards.log("Ann") if not asked.what.startswith("month")] == ["upgrade to plus"]
    assert cards.paid("Ann") == sum(asked.amount for asked in cards.log("Ann"))
    [ends] = {call.payload.ends for call in run.calls(graph.begin_month) if call.payload.number == 0}
    for _ in months:
        ends = pace.month_after(ends)
    assert farewell.paid_until == ends


def test_a_card_that_stays_declined_fails_the_run_after_nine_days_and_a_retry_goes_on(cards: Cards, lab: Lab) -> None:
    """The days between the tries stand in the store; a new card and a retry save the subscription, without a gap."""
    cards.expire("Ann")
    run = lab.submit(applied.create_signal(Application(customer="Ann", plan="basic")))
    result = run.wait()

    assert (result.status, result.error_type) == ("failed", "subscription.services.CardDeclined")
    first = BEGINS + 14 * DAY
    assert [asked.at - first for asked in cards.log("Ann")] == [0 * DAY, 1 * DAY, 4 * DAY, 9 * DAY]

    cards.replace("Ann")
    run.retry()
    lab.advance(10 * DAY)
    assert cards.paid("Ann") == 1_200
    lab.advance(30 * DAY)
    assert [asked.at for asked in cards.log("Ann") if asked.charged][1] == datetime(2027, 12, 14, 12, tzinfo=UTC)


def test_a_wish_that_comes_while_a_card_is_dunned_is_heard_afterwards(cards: Cards, lab: Lab) -> None:
    """It is kept until the run waits again."""
    run = lab.submit(applied.create_signal(Application(customer="Ann", plan="basic")))
    cards.expire("Ann")
    lab.advance(14 * DAY)
    run.send(wished.create_signal(Goodbye(reason="no money")))
    lab.run_until_idle()
    assert run.status() == "waiting"

    cards.replace("Ann")
    [goodbye] = run.wait().outputs
    assert goodbye.payload == Farewell(customer="Ann", months=1, paid_until=datetime(2027, 12, 14, 12, tzinfo=UTC))


@pytest.mark.parametrize(
    ("day", "next_one"),
    [
        ("2027-01-31", "2027-02-28"),
        ("2028-01-31", "2028-02-29"),
        ("2027-12-15", "2028-01-15"),
        ("2027-11-30", "2027-12-30"),
    ],
)
def test_the_next_month_begins_on_the_same_day_or_the_last_one(day: str, next_one: str) -> None:
    """Also in February, and over the end of a year."""
    assert pace.month_after(datetime.fromisoformat(day)) == datetime.fromisoformat(next_one)


def test_the_same_graph_runs_on_real_servers(both: Servers) -> None:
    """A worker process, Postgres and a broker; days of a tenth of a second."""
    told = run_example("--on-servers", both=both)

    assert told.returncode == 0, told.stdout + told.stderr
    assert "as it should be" in told.stdout
    assert "the card is declined" in told.stdout
    assert "upgrade to plus" in told.stdout
