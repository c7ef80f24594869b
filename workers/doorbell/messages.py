"""What a doorbell looks like: packed for the broker, and read back with distrust.

Anybody who can reach the broker can put anything into its queues. So ``unpack`` takes over, field by field,
what it has checked, and refuses the rest: a message with another actor's name, another queue's, or ids that
are none never reaches Dramatiq's threads, some of which would die of it. Options are dropped: a delay in them
would keep the message in memory.

The format only grows: an older worker ignores what it does not know.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID, uuid4

import msgspec
from dramatiq import DecodeError, JSONEncoder, Message

from cnstra.orchestrator.ports import Ring

RING_ACTOR = "cnstra_ring"
"""The one actor there is. Fixed for ever: in a deploy, older workers would drop what has a newer name."""

Hints = tuple[tuple[UUID, int], ...]

_LARGEST_ID = 2**63 - 1  # what an id can be in Postgres

# Not dramatiq.get_encoder(): an application may have set that to pickle, which would run what it reads.
_JSON = JSONEncoder()


class NotADoorbell(ValueError):
    """What was found in a queue is no doorbell of that queue; the message says why."""


class _Doorbell(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A ``dramatiq.Message``, by the names of its fields, that is made and written in C."""

    queue_name: str
    actor_name: str = RING_ACTOR
    args: tuple[()] = ()
    kwargs: Mapping[str, Sequence[tuple[UUID, int]]]
    options: Mapping[str, Any] = {}
    message_id: UUID
    message_timestamp: int


def pack(rings: Sequence[Ring], *, ids_per_message: int, messages_per_queue: int) -> dict[str, list[bytes]]:
    """The messages for these rings, by queue: as few as hold the ids, and no more than a queue may hold.

    Each is as Dramatiq writes it in JSON. Rings of one queue share messages. A ring without ids gives none.
    """
    by_queue: dict[str, list[tuple[UUID, int]]] = {}
    for ring in rings:
        by_queue.setdefault(ring.door, []).extend(ring.activations)
    return {
        queue: [
            _message(queue, ids[start : start + ids_per_message])
            for start in range(0, min(len(ids), ids_per_message * messages_per_queue), ids_per_message)
        ]
        for queue, ids in by_queue.items()
        if ids
    }


def unpack(body: bytes, queue: str) -> Message[None]:
    """The doorbell in ``body``, ready to be given to the actor.

    Raises:
        NotADoorbell: for anything that ``pack`` would not have made for this queue.
    """
    try:
        fields: Any = _JSON.decode(body)
    except (DecodeError, ValueError, RecursionError):
        raise NotADoorbell("it is not JSON") from None
    match fields:
        case {
            "actor_name": str(actor),
            "queue_name": str(named),
            "kwargs": {"activations": list(pairs)},
            "message_id": str(message_id),
            "message_timestamp": int(timestamp),
        }:
            if actor != RING_ACTOR:
                raise NotADoorbell(f"it is for the actor {actor[:40]!r}, and there is only {RING_ACTOR!r}")
            if named != queue:
                raise NotADoorbell(f"it is for the queue {named[:40]!r}")
            return Message(
                queue_name=queue,
                actor_name=RING_ACTOR,
                args=(),
                kwargs={"queue": queue, "activations": tuple(_hint(pair) for pair in pairs)},
                options={},
                message_id=message_id,
                message_timestamp=timestamp,
            )
        case _:
            raise NotADoorbell("its fields are not those of a doorbell")


def _message(queue: str, ids: Sequence[tuple[UUID, int]]) -> bytes:
    return msgspec.json.encode(
        _Doorbell(
            queue_name=queue,
            kwargs={"activations": ids},
            message_id=uuid4(),
            message_timestamp=time.time_ns() // 1_000_000,
        )
    )


def _hint(pair: object) -> tuple[UUID, int]:
    match pair:
        case [str(run), int(activation)] if activation is not True and 0 <= activation <= _LARGEST_ID:
            try:
                return UUID(run), activation
            except ValueError:
                pass
    raise NotADoorbell("one of its hints is no pair of a run's and an activation's id")
