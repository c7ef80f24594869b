"""Lists of parameters as the texts of arrays: one column of a batch each, written without asking an adapter for each element.

A statement says what its arrays are of (``%(numbers)s::int[]``), so the text needs no type, and one prepared statement
serves whatever the elements are. Owns the quoting; refuses elements of a kind that no statement takes, and what Postgres
cannot hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg

_DAY = 86_400
_MICROSECONDS = 1_000_000


def texts_of(parameters: Mapping[str, Any]) -> Mapping[str, Any]:
    """Parameters, with each list as the text of an array."""
    return {name: array_of(value) if type(value) is list else value for name, value in parameters.items()}


def texts_by(names: Iterable[str], parameters: Mapping[str, Any]) -> list[Any]:
    """The same, in the order of these names. Raises ``KeyError`` where one is missing."""
    values = [parameters[name] for name in names]
    return [array_of(value) if type(value) is list else value for value in values]


def array_of(elements: list[Any]) -> str:
    """The text of an array. Its elements are of one kind; None is null.

    Raises ``psycopg.DataError`` for text with a null character, ``TypeError`` for a kind that is not known here.
    """
    for element in elements:
        if element is not None:
            kind = type(element)
            break
    else:
        return "{" + ",".join(["NULL"] * len(elements)) + "}"
    whole = _WHOLE.get(kind)
    return _one_by_one(kind, elements) if whole is None else whole(elements)


def _one_by_one(kind: type[Any], elements: Sequence[Any]) -> str:
    write = _WRITERS.get(kind) or _writer_of(kind)
    return "{" + ",".join(["NULL" if element is None else write(element) for element in elements]) + "}"


def _numbers(numbers: list[Any]) -> str:
    """Numbers, or truth values, as Python writes a list of them: Postgres reads them so, too, but for null."""
    text = str(numbers)[1:-1]
    return "{" + (text.replace("None", "NULL") if "None" in text else text) + "}"


def _texts(texts: Sequence[str | None]) -> str:
    """Most have nothing that needs a backslash: they are looked at all together."""
    try:
        together = '","'.join(texts)  # type: ignore[arg-type]  # null among them
    except TypeError:
        return _one_by_one(str, texts)
    if together.count('"') == 2 * (len(texts) - 1) and "\\" not in together and "\0" not in together:
        return '{"' + together + '"}'
    return _one_by_one(str, texts)


def _writer_of(kind: type[Any]) -> Callable[[Any], str]:
    """That of a class which one of the known ones is a base of, such as an enumeration of texts."""
    for known, write in _WRITERS.items():
        if issubclass(kind, known):
            return write
    raise TypeError(f"an array of {kind.__qualname__} is no parameter of a statement")


def _text(text: str) -> str:
    if "\0" in text:
        raise psycopg.DataError("text fields cannot contain the null character")
    if "\\" in text:
        text = text.replace("\\", "\\\\")
    if '"' in text:
        text = text.replace('"', '\\"')
    return f'"{text}"'


def _uuids(uuids: Sequence[UUID | None]) -> str:
    """Without hyphens, which take three times as long; and without a call for each."""
    return "{" + ",".join(["NULL" if uuid is None else format(uuid.int, "032x") for uuid in uuids]) + "}"


def _moment(moment: datetime) -> str:
    return f'"{moment.isoformat()}"'


def _moments(moments: Sequence[datetime | None]) -> str:
    """Much of a batch happens at the very same moment, which is written once."""
    written: dict[int, str] = {id(None): "NULL"}
    texts = []
    for moment in moments:
        text = written.get(id(moment))
        if text is None:
            assert moment is not None, "null is written already"
            text = written[id(moment)] = _moment(moment)
        texts.append(text)
    return "{" + ",".join(texts) + "}"


def _interval(length: timedelta) -> str:
    return f'"{interval_of(length)}"'


def interval_of(length: timedelta) -> str:
    """A length of time as the text of an interval, which has no days: one of those may have 23 hours, or 25."""
    seconds = length.days * _DAY + length.seconds
    return f"{seconds * _MICROSECONDS + length.microseconds} microseconds"


_WRITERS: Mapping[type[Any], Callable[[Any], str]] = {
    str: _text,
    int: str,
    datetime: _moment,
    timedelta: _interval,
}

_WHOLE: Mapping[type[Any], Callable[[list[Any]], str]] = {
    str: _texts,
    bool: _numbers,
    int: _numbers,
    float: _numbers,
    datetime: _moments,
    UUID: _uuids,
}
