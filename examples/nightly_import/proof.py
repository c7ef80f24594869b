"""The proof: the feed, read anew, against what stands in the catalogue, in the report and in CNStra's views.

It knows nothing of how the night was carried out. What it finds wrong it says in words; when it says nothing, all is right.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import psycopg

from nightly_import import catalogue, feed
from nightly_import.feed import BrokenLine, Item
from nightly_import.graph import Night

_RUNS = """
select status, outputs::text from cnstra.runs
where graph = 'nightly_import' and entry_payload ->> 'date' = %s
"""


def differences(connection: psycopg.Connection, night: Night) -> Iterator[str]:
    """In what a night's import is not what its feed says."""
    good, bad = expected(Path(night.feed))
    runs = connection.execute(_RUNS, [night.date.isoformat()]).fetchall()
    if [status for status, _ in runs] != ["completed"]:
        yield f"there should be one run of the night, and completed; there are: {[status for status, _ in runs]}"
        return
    yield from _in_catalogue(connection, night, good)
    outputs = json.loads(runs[0][1], parse_float=Decimal)
    reports = [output["payload"] for output in outputs if output["collateral"] == "night.reported"]
    if len(reports) != 1:
        yield f"there should be one report, not {len(reports)}"
        return
    [report] = reports
    yield from _unlike("lines in the report", report["lines"], len(good) + len(bad))
    yield from _unlike("imported lines in the report", report["imported"], len(good))
    yield from _unlike("pieces in the report", report["pieces"], sum(item.pieces for item in good.values()))
    value = sum((item.pieces * item.price for item in good.values()), Decimal())
    yield from _unlike("value in the report", Decimal(report["value"]), value)
    yield from _unlike("what failed", {one["number"]: one["why"] for one in report["failed"]}, bad)


def expected(path: Path) -> tuple[dict[int, Item], dict[int, str]]:
    """What should be imported of a feed, and what should fail, and why, by the numbers of the lines."""
    good: dict[int, Item] = {}
    bad: dict[int, str] = {}
    for line in feed.lines(path):
        try:
            item = feed.parse(line)
        except BrokenLine as broken:
            bad[line.number] = str(broken)
        else:
            if catalogue.refuses(item.sku):
                bad[line.number] = f"the catalogue is busy with {item.sku}"
            else:
                good[line.number] = item
    return good, bad


def _in_catalogue(connection: psycopg.Connection, night: Night, good: dict[int, Item]) -> Iterator[str]:
    """Each item is there, with what was delivered, and was delivered once."""
    wanted = {item.sku: (item.pieces, 1, 0) for item in good.values()}
    found = {sku: tuple(rest) for sku, *rest in catalogue.booked(connection, night.date)}
    for sku in sorted(wanted.keys() | found.keys()):
        what = f"{sku} in the catalogue (pieces of the night, deliveries of the night, pieces too many)"
        yield from _unlike(what, found.get(sku), wanted.get(sku))


def _unlike(what: str, found: object, wanted: object) -> list[str]:
    return [] if found == wanted else [f"{what}: {found}, and it should be {wanted}"]
