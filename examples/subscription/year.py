"""A year of one customer, in a lab of CNStra's test kit: its clock moves when it is told to, so the year takes a moment."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cnstra.testing import Lab, LabRun
from subscription.graph import cns
from subscription.services import Cards, Services
from subscription.words import Application, Farewell, Goodbye, Upgrade, applied, wished

CUSTOMER = "Ann"
BEGINS = datetime(2026, 1, 1, 9, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Year:
    """What happened: ``calendar`` in order, and how it ended."""

    calendar: list[tuple[datetime, str]]
    paid: int
    status: str
    farewell: Farewell | None


@dataclass(slots=True)
class Diary:
    """What the customer does, with its day."""

    lab: Lab
    lines: list[tuple[datetime, str]] = field(default_factory=list)

    def on(self, month: int, day: int, what: str, deed: Callable[[], object]) -> None:
        """Let the time pass until that day; then do it."""
        self.lab.advance(BEGINS.replace(month=month, day=day) - self.lab.now)
        self.lines.append((self.lab.now, f"{CUSTOMER} {what}"))
        deed()
        self.lab.run_until_idle()


def live(lab: Lab, cards: Cards) -> tuple[LabRun, Diary]:
    """The year, day by day."""
    diary = Diary(lab)
    run = lab.submit(applied.create_signal(Application(customer=CUSTOMER, plan="basic")))
    diary.on(1, 1, "subscribes to basic, two weeks for nothing", lambda: None)
    diary.on(3, 1, "has a card that expires", lambda: cards.expire(CUSTOMER))
    diary.on(3, 18, "has a new card", lambda: cards.replace(CUSTOMER))
    diary.on(5, 1, "wants plus", lambda: run.send(wished.create_signal(Upgrade(plan="plus"))))
    diary.on(7, 1, "pauses", run.pause)
    diary.on(9, 1, "comes back", run.resume)
    diary.on(12, 31, "says goodbye", lambda: run.send(wished.create_signal(Goodbye(reason="no time to read"))))
    return run, diary


def a_year() -> Year:
    """Live it, and tell what happened, from the customer's diary and the card company's log."""
    with closing(Cards()) as cards:
        with Lab(cns, services=Services(cards=cards, now=lambda: lab.now), start=BEGINS) as lab:
            run, diary = live(lab, cards)
            result = run.wait(timeout=timedelta(days=400).total_seconds())
        log, paid = cards.log(CUSTOMER), cards.paid(CUSTOMER)
    asked = [
        (one.at, f"  {one.what}: {one.amount / 100:.2f}{'' if one.charged else ', the card is declined'}")
        for one in log
    ]
    farewells = [signal.payload for signal in result.outputs if isinstance(signal.payload, Farewell)]
    return Year(
        calendar=sorted(diary.lines + asked, key=lambda line: line[0]),
        paid=paid,
        status=result.status,
        farewell=farewells[0] if farewells else None,
    )
