"""How values are written as bytes: the port of a codec, JSON, and codecs around another one.

A codec of the user's own has ``encode`` and ``decode``, and that is all. A ``LayeredCodec`` changes the bytes that another
codec made, and is told what they belong to, so that what was written for one thing cannot be passed off as another's.
Refuses to know where the bytes are kept.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Final, Protocol

from cnstra.orchestrator import values
from cnstra.orchestrator.errors import ConfigurationError, ContextError, SealError
from cnstra.orchestrator.values import MAX_VALUE_BYTES


class Codec(Protocol):
    """Writes values as bytes, and reads them again. It is never given None, which is no value."""

    def encode(self, value: Any, /) -> bytes:
        """The value as bytes. Whatever it raises refuses the value."""
        ...

    def decode(self, data: bytes, /) -> Any:
        """The value of what ``encode`` gave; a new one with every call."""
        ...


class JsonCodec:
    """Exactly JSON, as UTF-8: what every store uses that is given no codec."""

    __slots__ = ()

    def encode(self, value: Any, /) -> bytes:
        """Raises ``ContextError``, naming the path and the type of what is not exactly JSON."""
        return values.dump(value, where="the value", error=ContextError).encode()

    def decode(self, data: bytes, /) -> Any:
        return values.load(data)

    def __repr__(self) -> str:
        return "JsonCodec()"


JSON: Final = JsonCodec()


class LayeredCodec(ABC):
    """A codec that changes the bytes which ``inner`` made, JSON by default: compresses them, encrypts them."""

    inner: Codec

    @abstractmethod
    def wrap(self, data: bytes, bound: bytes) -> bytes:
        """What is kept of ``data``. ``bound`` names what the data belongs to; empty where nobody says."""

    @abstractmethod
    def unwrap(self, data: bytes, bound: bytes) -> bytes:
        """What ``wrap`` was given. Raises ``SealError`` where that cannot be had, or belongs to something else."""

    @property
    def labels(self) -> tuple[str, ...]:
        """What it can open, by the labels of ``label_of``."""
        return ("",)

    def label_of(self, data: bytes) -> str:
        """By what those who can open the data are told from those who cannot, such as a key's id. Never a secret."""
        del data
        return ""

    def encode(self, value: Any, /) -> bytes:
        return encoded(self, value, "the value")

    def decode(self, data: bytes, /) -> Any:
        return decoded(self, data, "the value")


def checked(codec: Any) -> Codec:
    """The codec, if it can be one. Raises ``ConfigurationError``, naming what it lacks."""
    kind = type(codec)
    if isinstance(codec, type):
        raise ConfigurationError(f"codec={codec.__qualname__} is a class; give an object of it")
    for name in ("encode", "decode"):
        if not callable(getattr(codec, name, None)):
            raise ConfigurationError(
                f"codec={kind.__qualname__}: it has no method {name}; a codec has encode(value) and decode(data), as "
                "cnstra.stores.EncryptedCodec"
            )
    return codec  # type: ignore[no-any-return]


def encoded(codec: Codec, value: Any, where: str, bound: bytes = b"") -> bytes:
    """A value as bytes; ``where`` names the store in errors, ``bound`` what the value belongs to.

    Raises ``ContextError`` when the codec refuses the value, and when it comes to more than ``MAX_VALUE_BYTES``.
    """
    if type(codec) is JsonCodec:
        return values.dump(value, where=where, error=ContextError).encode()
    inner = encoded(codec.inner, value, where, bound) if isinstance(codec, LayeredCodec) else None
    try:
        data = codec.encode(value) if inner is None else codec.wrap(inner, bound)  # type: ignore[attr-defined]
    except Exception as error:
        raise ContextError(
            f"{where}: its codec {_name(codec)} refused a {type(value).__name__}, with {type(error).__name__}; "
            "nothing was written"
        ) from error
    if type(data) is not bytes:
        raise ContextError(f"{where}: its codec {_name(codec)} made a {type(data).__name__}; encode is to return bytes")
    if len(data) > MAX_VALUE_BYTES:
        raise ContextError(
            f"{where}: is {len(data):,} bytes, above the limit of {MAX_VALUE_BYTES:,}; "
            "store it elsewhere and keep a reference to it"
        )
    return data


def decoded(codec: Codec, data: bytes, where: str, bound: bytes = b"") -> Any:
    """The value of stored bytes. Raises ``ContextError`` when the codec cannot read them, and ``SealError`` for what is sealed
    and cannot be opened."""
    try:
        if not isinstance(codec, LayeredCodec):
            return codec.decode(data)
        inner = codec.unwrap(data, bound)
    except SealError as error:
        raise error.at(where) from error
    except Exception as error:
        raise ContextError(
            f"{where}: its codec {_name(codec)} cannot read what is stored, {len(data):,} bytes "
            f"({type(error).__name__}); was it written with another codec?"
        ) from error
    return decoded(codec.inner, inner, where, bound)


def _name(codec: Codec) -> str:
    return type(codec).__qualname__
