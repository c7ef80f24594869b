"""Keys by their ids, as files and variables hold them: a line each, ``ID BASE64``.

Owns what may be a key, and that none is ever shown: errors name ids and lines, and nothing that stands in them.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from cnstra.orchestrator.errors import ConfigurationError

KEY_BYTES: Final = 32
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_MAKE = "make one with: openssl rand -base64 32"


def checked_keys(keys: Any) -> dict[str, bytes]:
    """The keys, if they can be some. Raises ``ConfigurationError``, naming the id."""
    if not isinstance(keys, Mapping) or not keys:
        raise ConfigurationError(
            f"EncryptedCodec: keys are a mapping of ids to keys of {KEY_BYTES} bytes, at least one"
        )
    for key_id, key in keys.items():
        if not isinstance(key_id, str) or not _ID.fullmatch(key_id):
            raise ConfigurationError(
                "EncryptedCodec: a key's id is 1 to 64 letters, digits, dots, dashes and underscores, such as 2026-11; one of "
                f"those given is not ({type(key_id).__name__})"
            )
        if not isinstance(key, bytes) or len(key) != KEY_BYTES:
            size = f"{len(key)} bytes" if isinstance(key, bytes) else f"a {type(key).__name__}"
            raise ConfigurationError(
                f"EncryptedCodec: key {key_id!r} is {size}, and has to be {KEY_BYTES} bytes; {_MAKE}"
            )
    return dict(keys)


def keys_of_file(path: str | os.PathLike[str]) -> dict[str, bytes]:
    """The keys of a file. Raises ``ConfigurationError`` where it cannot be read."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ConfigurationError(f"the file of keys {os.fspath(path)!r} cannot be read: {why}") from None
    return _keys_of_text(text, f"the file of keys {os.fspath(path)!r}")


def keys_of_environment(variable: str) -> dict[str, bytes]:
    """The keys of a variable of the environment. Raises ``ConfigurationError`` where it is not set."""
    text = os.environ.get(variable)
    if not text:
        raise ConfigurationError(f"the variable {variable} is not set; it holds keys, a line each: ID BASE64")
    return _keys_of_text(text, f"the variable {variable}")


def _keys_of_text(text: str, where: str) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split("#", 1)[0].split()
        if not words:
            continue
        if len(words) != 2:
            raise ConfigurationError(f"{where}, line {number}: has {len(words)} words; a line is ID BASE64")
        key_id, key = words
        if not _ID.fullmatch(key_id):
            raise ConfigurationError(
                f"{where}, line {number}: an id is 1 to 64 letters, digits, dots, dashes and underscores; are id and key in "
                "this order?"
            )
        if key_id in found:
            raise ConfigurationError(f"{where}, line {number}: key {key_id!r} stands there twice")
        try:
            found[key_id] = base64.b64decode(key, validate=True)
        except (binascii.Error, ValueError):
            raise ConfigurationError(f"{where}, line {number}: key {key_id!r} is no base64; {_MAKE}") from None
    if not found:
        raise ConfigurationError(f"{where} holds no key; a line is ID BASE64, and {_MAKE}")
    return checked_keys(found)
