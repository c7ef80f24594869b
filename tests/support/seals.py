"""Codecs that seal, for tests: keys that are no secret, and what sealed things look like."""

from __future__ import annotations

import os

from cnstra.orchestrator.sealing import Vault
from cnstra.stores import CompressedCodec, EncryptedCodec

KEYS = {"old": b"o" * 32, "new": b"n" * 32}
CODEC = EncryptedCodec(KEYS, inner=CompressedCodec(at_least=100), current="new")
"""The codec of tests that are run sealed; worker processes find it by ``NAMED``."""
NAMED = "support.seals:CODEC"


def is_wanted() -> bool:
    """Whether the tests are to be run sealed."""
    return os.environ.get("CNSTRA_TESTS_CODEC") == "sealed"


def codec() -> EncryptedCodec | None:
    """The codec of tests that are run sealed."""
    return CODEC if is_wanted() else None


def vault() -> Vault | None:
    """The vault of tests that are run sealed."""
    return Vault(CODEC) if is_wanted() else None


def environment() -> dict[str, str]:
    """What tells a command of the codec where tests are run sealed; it has to find ``support``."""
    return {"CNSTRA_CODEC": NAMED} if is_wanted() else {}
