"""Stores of the user's own for the contexts of durable runs, ready made."""

from __future__ import annotations

from cnstra.orchestrator.blobs import BlobStore
from cnstra.stores.blobs.redis import RedisBlobStore

__all__ = ["BlobStore", "RedisBlobStore"]
