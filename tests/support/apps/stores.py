"""Stores of contexts that the tests of the command line name."""

from __future__ import annotations

from collections.abc import Iterable


class Dict:
    """Blobs in this process."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}

    def put(self, key: str, data: bytes) -> None:
        self.blobs[key] = data

    def get(self, key: str) -> bytes | None:
        return self.blobs.get(key)

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            self.blobs.pop(key, None)


memory = Dict()
a_class = Dict
nothing = object()
