"""What a broker is, and how it keeps its data: asked by a doctor, never by a worker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import redis

from cnstra.orchestrator.errors import BrokerAway
from cnstra.workers.doorbell.brokers import open_broker, shown

_ANSWER_WITHIN = 5.0  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerFacts:
    """A Redis, or one of its kin. ``eviction`` and ``append_only`` are None where the server does not say.

    ``memory_limit`` is in bytes, 0 for none; ``snapshots`` says whether any was ever taken or is pending.
    """

    kind: str
    version: str
    memory_limit: int
    eviction: str | None
    append_only: bool | None
    snapshots: bool


def examine(broker_url: str) -> BrokerFacts:
    """Ask the broker. Raises ``BrokerAway`` with the reason, ``ConfigurationError`` for a URL that cannot be used."""
    open_broker(broker_url, namespace="cnstra", client_name="cnstra-doctor", wait=0.0).close()  # refuses what it would
    try:
        with redis.Redis.from_url(
            broker_url,
            decode_responses=True,
            socket_connect_timeout=_ANSWER_WITHIN,
            socket_timeout=_ANSWER_WITHIN,
        ) as client:
            client.ping()
            info: dict[str, Any] = client.info("everything")
    except redis.RedisError as error:
        text = " ".join(str(error).split())
        raise BrokerAway(f"the broker {shown(broker_url)} cannot be reached: {text}") from error
    valkey = info.get("valkey_version")
    append_only = info.get("aof_enabled")
    return BrokerFacts(
        kind="Valkey" if valkey else "Redis",
        version=str(valkey or info.get("redis_version", "of unknown version")),
        memory_limit=int(info.get("maxmemory", 0)),
        eviction=info.get("maxmemory_policy"),
        append_only=None if append_only is None else bool(append_only),
        snapshots=bool(info.get("rdb_saves", 0)) or bool(info.get("rdb_bgsave_in_progress", 0)),
    )
