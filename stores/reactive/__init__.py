"""A reactive database in memory: collections, indexes that follow them, and subscribers that are told once a turn."""

from __future__ import annotations

from cnstra.stores.reactive.collection import Collection
from cnstra.stores.reactive.contexts import ContextRecord, ReactiveContextStore
from cnstra.stores.reactive.database import Database
from cnstra.stores.reactive.derived import DerivedOrderedIndex, DerivedSetIndex
from cnstra.stores.reactive.indexes import Index, OrderedIndex, SetIndex
from cnstra.stores.reactive.schedulers import AsyncioScheduler, ImmediateScheduler, ManualScheduler, Scheduler

__all__ = [
    "AsyncioScheduler",
    "Collection",
    "ContextRecord",
    "Database",
    "DerivedOrderedIndex",
    "DerivedSetIndex",
    "ImmediateScheduler",
    "Index",
    "ManualScheduler",
    "OrderedIndex",
    "ReactiveContextStore",
    "Scheduler",
    "SetIndex",
]
