"""Values that take less room."""

from __future__ import annotations

import zlib
from typing import Final

from cnstra.orchestrator.codecs import JSON, Codec, LayeredCodec, checked
from cnstra.orchestrator.errors import ConfigurationError, DataRefused, SealError
from cnstra.orchestrator.values import MAX_VALUE_BYTES

_PLAIN: Final = b"\x00"
_ZLIB: Final = b"\x01"


class CompressedCodec(LayeredCodec):
    """Compresses what ``inner`` writes, JSON by default, from ``at_least`` so many bytes on, where that makes it smaller.

    ``level`` is zlib's, from 1 (fast) to 9 (small). What would come to more than a value may be, 4 MiB, is not read, and so not
    written either, however small it gets.

    Raises ``ConfigurationError`` for an inner codec, a size or a level that cannot be used.
    """

    def __init__(self, inner: Codec = JSON, *, at_least: int = 512, level: int = 6) -> None:
        if isinstance(inner, LayeredCodec) and any(inner.labels):
            raise ConfigurationError(
                f"CompressedCodec around {type(inner).__name__}: what is encrypted does not get smaller; the other way "
                "round: EncryptedCodec(..., inner=CompressedCodec())"
            )
        if type(at_least) is not int or at_least < 0:
            raise ConfigurationError(f"CompressedCodec: at_least={at_least!r} is no number of bytes")
        if type(level) is not int or not 1 <= level <= 9:
            raise ConfigurationError(f"CompressedCodec: level={level!r} is none from 1 to 9")
        self.inner = checked(inner)
        self._at_least = at_least
        self._level = level

    def wrap(self, data: bytes, bound: bytes) -> bytes:
        del bound
        if len(data) > MAX_VALUE_BYTES:  # what a codec within made of it: nobody could read it again
            raise DataRefused(f"it comes to {len(data):,} bytes, above the limit of {MAX_VALUE_BYTES:,}")
        if len(data) >= self._at_least:
            smaller = zlib.compress(data, self._level)
            if len(smaller) < len(data):
                return _ZLIB + smaller
        return _PLAIN + data

    def unwrap(self, data: bytes, bound: bytes) -> bytes:
        del bound
        kind, rest = data[:1], data[1:]
        if kind == _PLAIN:
            return rest
        if kind != _ZLIB:
            raise SealError("it was not written by a CompressedCodec")
        return _inflated(rest)

    def __repr__(self) -> str:
        return f"CompressedCodec({self.inner!r})"


def _inflated(data: bytes) -> bytes:
    """What was compressed, as far as it may go: a few bytes can stand for gigabytes."""
    inflating = zlib.decompressobj()
    try:
        found = inflating.decompress(data, MAX_VALUE_BYTES + 1)
    except zlib.error:
        raise SealError("its compressed bytes are broken") from None
    if len(found) > MAX_VALUE_BYTES:
        raise SealError(f"it would come to more than {MAX_VALUE_BYTES:,} bytes, and no value that is kept does")
    if not inflating.eof or inflating.unused_data:
        raise SealError("its compressed bytes are broken")
    return found
