"""Values that are sealed: AES-256 in GCM, from the package ``cryptography``, with keys that can be changed.

What is kept of a value is: the version of this form (a byte), the length of the key's id (a byte), the id, a nonce of 12 random
bytes, and the ciphertext with its tag. All that stands before the nonce, and what the value belongs to, is authenticated: none
of it can be changed, and nothing be put in another's place. The id of a key is no secret; the keys appear nowhere.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

from cnstra.orchestrator.codecs import JSON, Codec, LayeredCodec, checked
from cnstra.orchestrator.errors import ConfigurationError, KeyMissing, SealError
from cnstra.stores.codecs.keys import checked_keys, keys_of_environment, keys_of_file

_FORM: Final = 1
_NONCE: Final = 12
_TAG: Final = 16


class EncryptedCodec(LayeredCodec):
    """Encrypts what ``inner`` writes, JSON by default.

    ``keys`` are keys of 32 bytes by their ids. New values are sealed with the key ``current``, by default the first one; each
    of them opens what it sealed. So a key is changed in two steps: add the new one everywhere, then make it current. An old
    one may go when nothing that it sealed is kept any more.

    Needs the package cryptography: ``pip install 'cnstra[sealed]'``.

    Raises ``ConfigurationError`` for keys that cannot be used, naming their id, and where the package is missing.
    """

    def __init__(self, keys: Mapping[str, bytes], *, inner: Codec = JSON, current: str | None = None) -> None:
        given = checked_keys(keys)
        if current is not None and current not in given:
            raise ConfigurationError(
                f"EncryptedCodec: current={current!r} is none of its keys, which are {', '.join(map(repr, given))}"
            )
        if isinstance(inner, EncryptedCodec):
            raise ConfigurationError("EncryptedCodec around EncryptedCodec: give one of them all keys")
        self.inner = checked(inner)
        self._current = next(iter(given)) if current is None else current
        cipher, self._invalid = _aes_gcm()
        self._ciphers = {key_id: cipher(key) for key_id, key in given.items()}
        self._head = _head(self._current)

    @classmethod
    def from_file(
        cls, path: str | os.PathLike[str], *, inner: Codec = JSON, current: str | None = None
    ) -> EncryptedCodec:
        """With the keys of a file: a line each, ``ID BASE64``; ``#`` begins a comment. The first one is current, unless said."""
        return cls(keys_of_file(path), inner=inner, current=current)

    @classmethod
    def from_environment(
        cls, variable: str = "CNSTRA_KEYS", *, inner: Codec = JSON, current: str | None = None
    ) -> EncryptedCodec:
        """With the keys of a variable of the environment, written as in a file."""
        return cls(keys_of_environment(variable), inner=inner, current=current)

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(self._ciphers)

    def label_of(self, data: bytes) -> str:
        key_id, _ = _split(data)
        return key_id

    def wrap(self, data: bytes, bound: bytes) -> bytes:
        nonce = os.urandom(_NONCE)
        sealed: bytes = self._ciphers[self._current].encrypt(nonce, data, self._head + bound)
        return self._head + nonce + sealed

    def unwrap(self, data: bytes, bound: bytes) -> bytes:
        key_id, at = _split(data)
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise KeyMissing(
                f"it is sealed with key {key_id!r}, and at hand is {', '.join(map(repr, self._ciphers))}; add that key"
            )
        try:
            found: bytes = cipher.decrypt(data[at : at + _NONCE], data[at + _NONCE :], data[:at] + bound)
        except self._invalid:
            raise SealError(
                f"it cannot be opened: it was changed, or belongs elsewhere, or key {key_id!r} is not the one that sealed it"
            ) from None
        return found

    def __repr__(self) -> str:
        return f"EncryptedCodec({self.inner!r}, keys {', '.join(self._ciphers)}, current {self._current})"


def _head(key_id: str) -> bytes:
    name = key_id.encode()
    return bytes((_FORM, len(name))) + name


def _split(data: bytes) -> tuple[str, int]:
    """The id of the key that sealed data, and where the nonce begins. Raises ``SealError`` for what is not sealed."""
    if len(data) < 2 or data[0] != _FORM or len(data) < 2 + data[1] + _NONCE + _TAG:
        raise SealError("it was not sealed by an EncryptedCodec")
    at = 2 + data[1]
    return data[2:at].decode("ascii", "replace"), at


def _aes_gcm() -> tuple[Any, type[Exception]]:
    """The cipher, and what it raises. The package is an extra: nobody else pays for it."""
    try:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError as error:
        raise ConfigurationError(
            "EncryptedCodec needs the package cryptography, which is not installed: pip install 'cnstra[sealed]'"
        ) from error
    return AESGCM, InvalidTag
