"""Where runs and contexts are kept: adapters that carry out what the orchestrator decided.

The context stores and the codecs are imported from here. Each is loaded when it is first asked for, so that nobody pays for a
driver that he does not use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

# The folder lies at the top of the repository, where a test run or a shell can find it under its bare name.
if __name__ != "cnstra.stores":
    raise ImportError(f"this package is cnstra.stores; {__name__!r} would be a second copy, with classes of its own")

if TYPE_CHECKING:
    from cnstra.orchestrator.contexts import InMemoryContextStore as InMemoryContextStore
    from cnstra.stores.codecs.compressed import CompressedCodec as CompressedCodec
    from cnstra.stores.codecs.encrypted import EncryptedCodec as EncryptedCodec
    from cnstra.stores.contexts.in_postgres import PostgresContextStore as PostgresContextStore
    from cnstra.stores.contexts.in_redis import RedisContextStore as RedisContextStore
    from cnstra.stores.reactive.contexts import ReactiveContextStore as ReactiveContextStore

_PLACES = {
    "CompressedCodec": "cnstra.stores.codecs.compressed",
    "EncryptedCodec": "cnstra.stores.codecs.encrypted",
    "InMemoryContextStore": "cnstra.orchestrator.contexts",
    "PostgresContextStore": "cnstra.stores.contexts.in_postgres",
    "ReactiveContextStore": "cnstra.stores.reactive.contexts",
    "RedisContextStore": "cnstra.stores.contexts.in_redis",
}

__all__ = [
    "CompressedCodec",
    "EncryptedCodec",
    "InMemoryContextStore",
    "PostgresContextStore",
    "ReactiveContextStore",
    "RedisContextStore",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_PLACES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PLACES})
