"""The nightly import: read the feed, take every line in on its own, report on all of them.

A line that fails does not hold up the others, and does not fail the night: the report says which failed, and why. Each step
may be called again, when its worker died before the step was committed, so what changes something outside gets
``ctx.idempotency_key``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential, wait_random

from cnstra import CNS, Axon, Context, MaxDurationExceeded, MemberFailure, Scatter, Signal, collateral, neuron
from nightly_import import catalogue, feed
from nightly_import.feed import Line

AT_ONCE = 200
"""How many lines are under way at once. It bounds what the catalogue has to bear, whatever the number of workers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Night:
    """What is to be imported: the file ``feed`` of a night."""

    date: date
    feed: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What became of a good line."""

    number: int
    pieces: int
    value: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """What became of another line."""

    number: int
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A night in numbers: ``lines`` is how many the feed has, and so many were imported, or are among the failed."""

    date: date
    lines: int
    imported: int
    pieces: int
    value: Decimal
    failed: list[Failed]


night_begun = collateral("night.begun", Night)


class FeedAxon(Axon):
    """What reading the feed brings about."""

    line = collateral("feed.line", Line)


class ImportAxon(Axon):
    """What becomes of a line. A line that fails is no signal: the report gets its failure."""

    imported = collateral("line.imported", Imported)


class ReportAxon(Axon):
    """The end of the night."""

    reported = collateral("night.reported", Report)


# Asked again is only what may come right by itself: a broken line stays broken.
patient = Retrying(
    stop=stop_after_attempt(4),
    wait=wait_exponential(multiplier=0.2, max=2) + wait_random(0, 0.2),
    retry=retry_if_exception_type((ConnectionError, MaxDurationExceeded)),
)

reader = neuron("reader", FeedAxon, max_duration=timedelta(seconds=30))
importer = neuron("importer", ImportAxon, retry=patient, max_duration=timedelta(seconds=10))
reporter = neuron("reporter", ReportAxon)


@reader.dendrite(night_begun)
def read(night: Night, axon: FeedAxon, ctx: Context) -> Scatter[Line]:
    """Read the feed, and send all of its lines on their way, as one group."""
    lines = []
    for line in feed.lines(night.feed):
        lines.append(line)
        if line.number % 500 == 0:  # a feed may be long: as long as it goes on, its time is not over
            ctx.heartbeat({"lines": line.number})
    ctx.heartbeat({"lines": len(lines), "all of them": True})
    ctx["night"] = night.date.isoformat()
    return axon.line.scatter(lines, limit=AT_ONCE)


@importer.dendrite(FeedAxon.line)
async def take_in(line: Line, axon: ImportAxon, ctx: Context) -> Signal[Imported]:
    """Check one line, and book what it says was delivered."""
    item = feed.parse(line)
    await catalogue.book(item, night=date.fromisoformat(ctx["night"]), key=ctx.idempotency_key)
    return axon.imported.create_signal(Imported(number=line.number, pieces=item.pieces, value=item.pieces * item.price))


@reporter.gather(ImportAxon.imported, return_failures=True)
def report(results: list[Imported | MemberFailure], axon: ReportAxon, ctx: Context) -> Signal[Report]:
    """Sum the night up, once all lines have come to an end. The results are in the order of the feed."""
    imported = [result for result in results if isinstance(result, Imported)]
    return axon.reported.create_signal(
        Report(
            date=date.fromisoformat(ctx["night"]),
            lines=len(results),
            imported=len(imported),
            pieces=sum(one.pieces for one in imported),
            value=sum((one.value for one in imported), Decimal()),
            failed=list(_failed(results)),
        )
    )


def _failed(results: Iterable[Imported | MemberFailure]) -> Iterable[Failed]:
    for result in results:
        if isinstance(result, MemberFailure):
            line: Line = result.payload
            yield Failed(number=line.number, why=result.error)


cns = CNS([reader, importer, reporter], name="nightly_import")
