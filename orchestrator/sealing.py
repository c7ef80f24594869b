"""Sealed texts: what a codec makes of a JSON text of a durable run, and the way back.

In the place of a value stands an envelope, ``{"$sealed": "LABEL:BASE64"}``, which is JSON like any other: the machine and the
stores move it, and never look inside. In the place of a message stands ``$sealed:LABEL:BASE64``. The label says who can open it:
of encrypted ones it is the key's id. What a text belongs to is said to the codec, and authenticated where that can: a run, and
there a collateral, a slot of the context, or a report. Owns no keys, and knows no rows.
"""

from __future__ import annotations

import binascii
import re
from typing import Any, Final, NamedTuple
from uuid import UUID

from cnstra.orchestrator import values
from cnstra.orchestrator.codecs import Codec, JsonCodec, LayeredCodec, checked
from cnstra.orchestrator.errors import ConfigurationError, DataRefused, KeyMissing, SealError
from cnstra.orchestrator.values import MAX_VALUE_BYTES, SEALED

ENVELOPE: Final = f'{{"{SEALED}":'
"""How the text of an envelope begins, as it is written here and as Postgres writes it."""
NOTE: Final = f"{SEALED}:"
"""How a sealed message begins."""

_LABEL = r"[A-Za-z0-9._-]{0,64}"
_WHOLE = re.compile(rf'\{{"{re.escape(SEALED)}": ?"({_LABEL}):([A-Za-z0-9+/=]+)"\}}')
_NOTE = re.compile(rf"{re.escape(NOTE)}({_LABEL}):([A-Za-z0-9+/=]+)")


class Bound(NamedTuple):
    """What a text belongs to: a run, or None of what is sent to no run yet; what kind of text it is, and which of them."""

    run_id: UUID | None
    kind: str
    name: str = ""

    def __bytes__(self) -> bytes:
        return f"{self.run_id or 'posted'} {self.kind} {self.name}".encode()

    def __str__(self) -> str:
        of_run = "a signal that was sent by key" if self.run_id is None else f"run {self.run_id}"
        return f"{of_run}, {self.kind}{f' {self.name!r}' if self.name else ''}"


def payload(run_id: UUID | None, collateral: str) -> Bound:
    """The payload of a signal on a collateral."""
    return Bound(run_id, "payload of", collateral)


def context(run_id: UUID, slot: str) -> Bound:
    """The value of a context's slot."""
    return Bound(run_id, "context slot", slot)


def progress(run_id: UUID, activation_id: int) -> Bound:
    """What a handler reported."""
    return Bound(run_id, "progress of activation", str(activation_id))


def message(run_id: UUID) -> Bound:
    """The message of an error."""
    return Bound(run_id, "error")


def traceback(run_id: UUID) -> Bound:
    """The traceback of an error."""
    return Bound(run_id, "traceback")


class Vault:
    """Seals with a codec, and opens. Raises ``ConfigurationError`` for what is no codec."""

    def __init__(self, codec: Any) -> None:
        self.codec: Codec = checked(codec)
        layered = self.codec if isinstance(self.codec, LayeredCodec) else None
        self._layered = layered
        self.labels = ("",) if layered is None else layered.labels
        """The labels of what it can open."""
        if not all(re.fullmatch(_LABEL, label) for label in self.labels):
            raise ConfigurationError(
                f"codec={type(codec).__qualname__}: its labels are up to 64 letters, digits, dots, dashes and underscores"
            )

    def seal(self, text: str, bound: Bound) -> str:
        """The envelope of a JSON text. Raises ``DataRefused`` for one that comes to too much, or that the codec refuses."""
        label, sealed = self._sealed(text, bound, as_json=True)
        return self._fitting(f'{{"{SEALED}":"{label}:{sealed}"}}', bound)

    def seal_note(self, text: str, bound: Bound) -> str:
        """The same of a message, which is any text."""
        label, sealed = self._sealed(text, bound, as_json=False)
        return self._fitting(f"{NOTE}{label}:{sealed}", bound)

    def open(self, text: str, bound: Bound) -> str:
        """The JSON text of an envelope; what is none is itself. Raises ``SealError``, or ``KeyMissing``."""
        found = _WHOLE.fullmatch(text) if text.startswith(ENVELOPE) else None
        return text if found is None else self._opened(found[1], found[2], bound, as_json=True)

    def open_note(self, text: str, bound: Bound) -> str:
        """The same of a message."""
        found = _NOTE.fullmatch(text) if text.startswith(NOTE) else None
        return text if found is None else self._opened(found[1], found[2], bound, as_json=False)

    def open_value(self, value: Any, bound: Bound) -> Any:
        """The same of what is parsed already."""
        found = envelope_of(value)
        return value if found is None else values.load(self._opened(*found, bound, as_json=True))

    def _sealed(self, text: str, bound: Bound, *, as_json: bool) -> tuple[str, str]:
        try:
            data = _encode(self.codec, text, bytes(bound), as_json=as_json)
        except Exception as error:  # a codec is the user's own code, and its message may quote the value
            raise DataRefused(
                f"{bound}: the codec {type(self.codec).__qualname__} refused it, with {type(error).__name__}"
            ) from error
        label = "" if self._layered is None else self._layered.label_of(data)
        return label, binascii.b2a_base64(data, newline=False).decode("ascii")

    def _fitting(self, sealed: str, bound: Bound) -> str:
        if len(sealed) > MAX_VALUE_BYTES:
            raise DataRefused(
                f"{bound}: comes to {len(sealed):,} bytes, sealed, above the limit of {MAX_VALUE_BYTES:,}; store it "
                "elsewhere and keep a reference to it"
            )
        return sealed

    def _at_hand(self) -> str:
        return ", ".join(map(repr, filter(None, self.labels))) or f"{type(self.codec).__qualname__}, which has no keys"

    def _opened(self, label: str, sealed: str, bound: Bound, *, as_json: bool) -> str:
        if label not in self.labels:  # another codec, which would take it for broken
            raise KeyMissing(f"{bound}: it is sealed {_how(label)}, and at hand is {self._at_hand()}; {_wanted(label)}")
        try:
            data = binascii.a2b_base64(sealed, strict_mode=True)
            return _decode(self.codec, data, bytes(bound), as_json=as_json)
        except SealError as error:
            raise error.at(str(bound)) from error
        except Exception as error:
            raise SealError(
                f"{bound}: the codec {type(self.codec).__qualname__} cannot open it ({type(error).__name__}); was it sealed "
                f"with another one{f', or with key {label!r}' if label else ''}?"
            ) from error


def _how(label: str) -> str:
    return f"with key {label!r}" if label else "by a codec without keys"


def _wanted(label: str) -> str:
    return "add that key" if label else "give that codec"


def _encode(codec: Codec, text: str, bound: bytes, *, as_json: bool) -> bytes:
    """A text as bytes, layer by layer; only a codec of the user's own is given the value itself."""
    if isinstance(codec, LayeredCodec):
        return codec.wrap(_encode(codec.inner, text, bound, as_json=as_json), bound)
    if type(codec) is JsonCodec:
        return text.encode()
    return codec.encode(values.load(text) if as_json else text)


def _decode(codec: Codec, data: bytes, bound: bytes, *, as_json: bool) -> str:
    if isinstance(codec, LayeredCodec):
        return _decode(codec.inner, codec.unwrap(data, bound), bound, as_json=as_json)
    if type(codec) is JsonCodec:
        return data.decode()
    value = codec.decode(data)
    return values.dump(value, where="what the codec gave", error=SealError) if as_json else str(value)


# -- without a vault -----------------------------------------------------------------------------------------------


def is_sealed(text: str) -> bool:
    """Whether a JSON text is an envelope."""
    return text.startswith(ENVELOPE) and _WHOLE.fullmatch(text) is not None


def may_hold_one(text: str) -> bool:
    """Whether an envelope may stand somewhere in a JSON text: a cheap look, for nearly none has one."""
    return "$" in text and SEALED in text  # one character is found many times faster


def label_of(text: str) -> str | None:
    """The label of an envelope, or of the first envelope in a list of results; None where there is none."""
    found = _WHOLE.search(text) if may_hold_one(text) else None
    return None if found is None else found[1]


def envelope_of(value: Any) -> tuple[str, str] | None:
    """The label, and what is sealed, of what is parsed already; None for what is no envelope."""
    if not isinstance(value, dict) or len(value) != 1:
        return None
    text = value.get(SEALED)
    if not isinstance(text, str):
        return None
    label, colon, sealed = text.partition(":")
    return (label, sealed) if colon else None


def refuse_sealed(value: Any, where: str) -> None:
    """Raise ``KeyMissing`` where a value is one that nobody has opened; ``where`` names it."""
    found = envelope_of(value)
    if found is not None:
        raise not_opened(found[0], where)


def not_opened(label: str, where: str) -> KeyMissing:
    """What is said of something sealed, where it cannot be opened."""
    key = f" with key {label!r}" if label else ""
    return KeyMissing(
        f"{where}: it is sealed{key}, and was not opened; give the codec that has the key: codec=, or --codec"
    )


# -- who can open what ---------------------------------------------------------------------------------------------

_NEEDS: Final = "\x1f"


def place_of(place: str, text: str) -> str:
    """What an activation needs of a worker: the place of its run's context, and a codec for its payload. Stores compare it."""
    label = label_of(text)
    return place if label is None else f"{place}{_NEEDS}{label}"


def places_with(places: tuple[str, ...], labels: tuple[str, ...]) -> tuple[str, ...]:
    """The places that a worker reaches who can open what has these labels, besides that of the store of runs itself."""
    sealed = [f"{place}{_NEEDS}{label}" for place in ("", *places) for label in labels]
    return (*places, *sealed)


def needed(place: str) -> tuple[str, str | None]:
    """The place of a context, and the label, that something needs."""
    where, needs, label = place.partition(_NEEDS)
    return where, label if needs else None
