"""Runs in the memory of this process: the same rules and answers as in Postgres, gone when the process ends.

For tests and simulations. Time comes in through a clock that they may move. What it does not do is to refuse data that only
Postgres cannot hold: any text fits here.
"""

from __future__ import annotations

from cnstra.stores.memory.store import AsyncMemoryStore, MemoryOperations, MemoryStore

__all__ = ["AsyncMemoryStore", "MemoryOperations", "MemoryStore"]
