"""Codecs that the tests of the command line name."""

from __future__ import annotations

from cnstra.stores import EncryptedCodec

codec = EncryptedCodec({"k1": b"o" * 32})
other = EncryptedCodec({"k2": b"n" * 32})
a_class = EncryptedCodec
nothing = object()
