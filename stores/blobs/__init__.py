"""Stores of the user's own for the contexts of durable runs, ready made."""

from __future__ import annotations

from cnstra.stores.blobs.redis import RedisBlobStore

__all__ = ["RedisBlobStore"]
