"""Where a server is, as a network sees it."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A server's place: its URL as other hosts have it, and its port."""

    url: str
    port: int


def place_of(url: str, address: str) -> Place:
    """The place of a server that listens on ``address``, too, given its URL on this machine."""
    parts = urlsplit(url)
    assert parts.port is not None
    account, at, _ = parts.netloc.rpartition("@")
    return Place(url=parts._replace(netloc=f"{account}{at}{address}:{parts.port}").geturl(), port=parts.port)
