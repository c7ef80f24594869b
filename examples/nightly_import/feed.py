"""The feed: a file that a supplier sends every night, one delivered item a line, with mistakes in it.

``SKU;name;pieces;price``, such as ``SKU-00017;lamp;12;4.90``. About one line in sixty is broken. The supplier is this module,
too: the same size and seed give the same file.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path

_BROKEN = 1 / 60
_NAMES = ("lamp", "chair", "kettle", "shelf", "clock", "basket", "mirror", "rug")


class BrokenLine(Exception):
    """The line says nothing that could be imported, and will not when it is read again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of the feed as it came; ``number`` counts from 1."""

    number: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """What a line says was delivered."""

    sku: str
    name: str
    pieces: int
    price: Decimal


def lines(path: str | Path) -> Iterator[Line]:
    """The lines of a feed, in their order."""
    with Path(path).open() as file:
        for number, text in enumerate(file, start=1):
            yield Line(number=number, text=text.rstrip("\n"))


def parse(line: Line) -> Item:
    """The item of a line. Raises ``BrokenLine`` with what is wrong."""
    try:
        sku, name, pieces, price = line.text.split(";")
    except ValueError:
        raise BrokenLine(f"line {line.number} has {line.text.count(';') + 1} fields, not 4") from None
    try:
        item = Item(sku=sku, name=name, pieces=int(pieces), price=Decimal(price))
    except (ValueError, InvalidOperation):
        raise BrokenLine(f"line {line.number}: {pieces!r} pieces at {price!r} are no numbers") from None
    if item.pieces < 1 or not item.price.is_finite() or item.price <= 0:
        raise BrokenLine(f"line {line.number}: {pieces} pieces at {price} were never delivered")
    return item


def write(path: Path, *, size: int, seed: int) -> None:
    """Be the supplier: write a feed of so many lines."""
    dice = random.Random(seed)  # noqa: S311 - the same feed every time is the point
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{_line(number, dice)}\n" for number in range(1, size + 1)))


def _line(number: int, dice: random.Random) -> str:
    pieces, price = dice.randint(1, 40), dice.randint(100, 20_000)
    good = f"SKU-{number:05};{dice.choice(_NAMES)};{pieces};{price // 100}.{price % 100:02}"
    if dice.random() >= _BROKEN:
        return good
    return dice.choice((good.replace(";", ",", 1), good.replace(f";{pieces};", ";several;"), good + ";?", "", "-- EOF"))
