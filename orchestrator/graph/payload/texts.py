"""Types that JSON writes as strings: datetime, date, timedelta, UUID, Decimal, bytes.

The forms are those that Postgres reads too (``payload ->> 'due'`` casts to timestamptz, date, interval, uuid,
numeric). Refused: datetimes without a zone, which mean another moment on every machine, and Decimals that are
no number.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Callable
from datetime import date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID

from cnstra.orchestrator.graph.payload.coder import STRING, Misfit, kind_of, show, type_name

_DURATION = re.compile(
    r"(?P<sign>[+-]?)P(?:(?P<weeks>[+-]?\d+)W)?(?:(?P<days>[+-]?\d+)D)?"
    r"(?:T(?:(?P<hours>[+-]?\d+)H)?(?:(?P<minutes>[+-]?\d+)M)?(?:(?P<seconds>[+-]?\d+(?:\.\d{1,6})?)S)?)?"
)


class AsText:
    """One type with a textual form: its class, how to write it, how to read it."""

    kinds = frozenset({STRING})

    def __init__(
        self,
        cls: type,
        write: Callable[[Any], str],
        read: Callable[[str], Any],
        *,
        form: str,
        never: type | None = None,
    ) -> None:
        self.cls = self.exact_class = cls
        self.expected = cls.__name__
        self._write = write
        self._read = read
        self._form = form
        self._never = never

    def fits(self, value: Any, /) -> bool:
        # datetime is a subclass of date: where a date is declared it would lose its time.
        return isinstance(value, self.cls) and not (self._never and isinstance(value, self._never))

    def encode(self, value: Any) -> Any:
        if not self.fits(value):
            raise Misfit(f"must be {self.expected}, got {type_name(value)}")
        return self._write(value)

    def decode(self, value: Any) -> Any:
        if type(value) is not str:
            raise Misfit(f"must be {self._form}, got {kind_of(value)}")
        try:
            return self._read(value)
        except (ValueError, OverflowError, InvalidOperation):
            raise Misfit(f"must be {self._form}, got {show(value)}") from None

    def describe(self, _seen: set[int], /) -> str:
        return self.expected.lower()


def _write_datetime(value: datetime) -> str:
    if value.utcoffset() is None:
        raise Misfit("is a datetime without a time zone; make it aware, for example datetime.now(timezone.utc)")
    return datetime.isoformat(value)


def _read_datetime(value: str) -> datetime:
    moment = datetime.fromisoformat(value)
    if moment.utcoffset() is None:
        raise ValueError(value)
    return moment


def _write_timedelta(value: timedelta) -> str:
    fraction = f".{value.microseconds:06d}" if value.microseconds else ""
    return f"P{value.days}DT{value.seconds}{fraction}S"


def _read_timedelta(value: str) -> timedelta:
    match = _DURATION.fullmatch(value)
    parts = {} if match is None else {name: part for name, part in match.groupdict().items() if part is not None}
    sign = parts.pop("sign", "")
    if not parts:
        raise ValueError(value)
    # Seconds by integers: a float would round the microseconds of long durations.
    seconds = Decimal(parts.pop("seconds", "0"))
    whole = timedelta(**{name: int(part) for name, part in parts.items()})
    whole += timedelta(microseconds=int(seconds * 1_000_000))
    return -whole if sign == "-" else whole


def _write_decimal(value: Decimal) -> str:
    if not value.is_finite():
        raise Misfit(f"is Decimal({str(value)!r}), which is no number; use None for it")
    return Decimal.__str__(value)


def _read_decimal(value: str) -> Decimal:
    number = Decimal(value)
    if not number.is_finite():
        raise ValueError(value)
    return number


def _write_bytes(value: bytes) -> str:
    return b64encode(value).decode("ascii")


def _read_bytes(value: str) -> bytes:
    return b64decode(value, validate=True)


DATETIME = AsText(datetime, _write_datetime, _read_datetime, form="an ISO 8601 date and time with its offset from UTC")
DATE = AsText(date, date.isoformat, date.fromisoformat, form="an ISO 8601 date", never=datetime)
TIMEDELTA = AsText(timedelta, _write_timedelta, _read_timedelta, form="an ISO 8601 duration such as P1DT30S")
UUID_TEXT = AsText(UUID, UUID.__str__, UUID, form="a UUID")
DECIMAL = AsText(Decimal, _write_decimal, _read_decimal, form="a decimal number in a string")
BYTES = AsText(bytes, _write_bytes, _read_bytes, form="base64")
