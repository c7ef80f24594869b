"""What may be said of a run when it is submitted or looked for, checked at the door.

Whatever is refused here is refused before anything is stored, with an error that names what, and what to do.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from difflib import get_close_matches
from typing import Any, TypedDict

from tenacity import BaseRetrying

from cnstra.orchestrator import values
from cnstra.orchestrator.emission import Emitter, encoded
from cnstra.orchestrator.errors import ConfigurationError, PayloadError, RunNotFound, SubmitError
from cnstra.orchestrator.graph import CNS, Signal, TimedSignal
from cnstra.orchestrator.graph.timers import LONGEST_DELAY
from cnstra.orchestrator.machine.states import RunStatus
from cnstra.orchestrator.ports import Entropy
from cnstra.orchestrator.retry import to_data
from cnstra.orchestrator.store import RunFilter, Submission

_INT4 = 2**31 - 1


class BatchOptions(TypedDict, total=False):
    """What may be said of each run of a batch.

    ``priority``: higher ones are claimed first, 0 is usual. ``delay``: a timedelta after which they begin. ``deadline``: a
    timedelta from the submit, or an aware datetime, by which they are to have ended; else they fail, and are undone.
    ``tags``: strings by strings, to find them by. ``retry``: the run's own policy; when an activation has failed for good, it
    restarts the failed ones with the saved context. ``connection``: your own psycopg connection, of the client's colour:
    what is kept is kept with its transaction, or not at all.
    """

    priority: int
    delay: timedelta | None
    deadline: timedelta | datetime | None
    tags: Mapping[str, str] | None
    retry: BaseRetrying | None
    connection: Any


class ManyOptions(BatchOptions, total=False):
    """What may be said of a batch.

    ``idempotency_keys``: one for each signal, so that a batch whose reply was lost can be submitted again. The others are
    those of ``BatchOptions``.
    """

    idempotency_keys: Sequence[str] | None


class SubmitOptions(BatchOptions, total=False):
    """What may be said of one run.

    ``run_id``: a UUIDv7 of your own, as UUID or str. ``idempotency_key``: a second submit of the same signal under it
    answers the same run, while that is kept. The others are those of ``BatchOptions``.
    """

    run_id: uuid.UUID | str | None
    idempotency_key: str | None


class ListOptions(TypedDict, total=False):
    """Which runs to list. ``tag`` is ``"key"``, ``"key=value"`` or a pair; ``since`` an aware datetime; ``limit`` 100."""

    status: str | None
    tag: str | tuple[str, str] | None
    since: datetime | None
    limit: int


def refuse_unknown(call: str, given: Mapping[str, Any], known: type) -> None:
    """Refuse options that the ``TypedDict`` of a call does not have, by ``TypeError``, as Python does for any keyword.

    A misspelt one would be passed over, and the call would do something else than was asked for.
    """
    options = tuple(known.__annotations__)
    for name in given:
        if name not in options:
            meant = get_close_matches(name, options, n=1)
            hint = f"did you mean {meant[0]}=? " if meant else ""
            raise TypeError(f"{call}() has no option {name}=; {hint}it takes {', '.join(options)}")


class Submitter:
    """Makes the runs of one call: what is the same for all of them is looked at once.

    Raises ``SubmitError``, ``PayloadError``, ``PolicyError``, or ``GraphError`` for a graph without a name.
    """

    def __init__(self, cns: CNS, options: BatchOptions, entropy: Entropy) -> None:
        self._cns = cns
        self._entropy = entropy
        self._emitter = Emitter(cns)
        self._graph = cns.durable_name
        self._where = f"submit to {self._graph!r}"
        self._version, self._pinned = cns.version, cns.pinned
        policy = options.get("retry")
        self._policy = None if policy is None else to_data(policy, where="submit(retry=)")
        self._priority = _priority(options.get("priority", 0))
        self._tags = _tags(options.get("tags"))
        self._delay = _delay(options.get("delay"))
        self._deadline = _deadline(options.get("deadline"))

    def submission(
        self, signal: Signal[Any], own_id: uuid.UUID | str | None = None, idempotency_key: str | None = None
    ) -> Submission:
        """The run that a signal starts, as the store keeps it."""
        if not isinstance(signal, Signal):
            raise SubmitError(
                f"submit takes signals, got {type(signal).__name__}; make one: collateral.create_signal(...)"
            )
        name = signal.collateral.name
        known = self._cns.collateral(name)
        if known is not None and known is not signal.collateral:
            raise SubmitError(
                f"collateral {name!r} of the signal is not the one of that name in CNS {self._graph!r}; "
                "make the signal from the graph's own collateral"
            )
        payload = encoded(signal, self._where)
        delay, at = self._delay, None
        if isinstance(signal, TimedSignal):
            if delay is not None:
                raise SubmitError(
                    f"submit of {name!r}: the signal waits by itself, and delay= was given, too; give one of both"
                )
            delay, at = signal.delay, signal.at
        targets = self._emitter.heard(name, payload)
        if not targets:
            raise SubmitError(
                f"nobody in CNS {self._graph!r} hears {name!r}, so a run of it would do nothing; add a dendrite"
            )
        return Submission(
            run_id=self._entropy.run_id() if own_id is None else run_uuid(own_id, exact=True),
            graph=self._graph,
            graph_version=self._version,
            pinned=self._pinned,
            collateral=name,
            payload=payload,
            targets=tuple(targets),
            priority=self._priority,
            tags=self._tags,
            idempotency_key=_idempotency_key(idempotency_key),
            policy=self._policy,
            delay=delay,
            at=at,
            deadline=self._deadline,
        )


def submission_of(cns: CNS, signal: Signal[Any], options: SubmitOptions, entropy: Entropy) -> Submission:
    """The run that a signal starts. Raises as ``Submitter``."""
    return Submitter(cns, options, entropy).submission(signal, options.get("run_id"), options.get("idempotency_key"))


def submissions_of(
    cns: CNS, signals: Iterable[Signal[Any]], options: ManyOptions, entropy: Entropy
) -> list[Submission]:
    """The runs that signals start. Raises as ``Submitter``, for the first that cannot be kept."""
    if not isinstance(signals, Iterable):
        raise SubmitError(f"submit_many takes several signals, got {type(signals).__name__}; give it a list of them")
    given = list(signals)
    keys = options.get("idempotency_keys")
    if isinstance(keys, str) or not (keys is None or isinstance(keys, Sequence)):
        raise SubmitError(f"idempotency_keys {keys!r} must be a list, with one for each signal, in their order")
    if keys is not None and len(keys) != len(given):
        raise SubmitError(f"{len(keys)} idempotency_keys for {len(given)} signals; give one for each, in their order")
    submitter = Submitter(cns, options, entropy)
    if keys is None:
        return [submitter.submission(signal) for signal in given]
    return [submitter.submission(signal, idempotency_key=key) for signal, key in zip(given, keys, strict=True)]


def filter_of(options: ListOptions) -> RunFilter:
    """Which runs to list. Raises ``ConfigurationError`` for what no run can be."""
    return RunFilter(
        status=run_status(options.get("status")),
        tag=tag_filter(options.get("tag")),
        since=aware(options.get("since")),
        limit=_limit(options.get("limit", 100)),
    )


def run_uuid(given: uuid.UUID | str, *, exact: bool = False) -> uuid.UUID:
    """A run id as a UUID. Raises ``RunNotFound`` for what is none; ``exact`` demands a UUIDv7, for a new run."""
    try:
        value = given if isinstance(given, uuid.UUID) else uuid.UUID(given)
    except (ValueError, TypeError, AttributeError):
        problem = f"{given!r} is no run id; a run id is a UUID such as 0192f0c1-2b3c-7d4e-8f5a-6b7c8d9e0f10"
        raise (SubmitError if exact else RunNotFound)(problem) from None
    if exact and value.version != 7:
        raise SubmitError(
            f"run_id {value} is a UUID of version {value.version}, and run ids are UUIDv7, which sort by time; "
            "leave it out, and give your own id as idempotency_key"
        )
    return value


def tag_filter(tag: str | tuple[str, str] | None) -> tuple[str, str | None] | None:
    """A tag to look for: ``"key"``, ``"key=value"`` or ``(key, value)``. Raises ``ConfigurationError`` for what is none."""
    if tag is None:
        return None
    parts: Any = tag.partition("=")[::2] if isinstance(tag, str) else tag
    if not isinstance(parts, tuple) or len(parts) != 2 or not all(isinstance(part, str) for part in parts):
        raise ConfigurationError(f"tag={tag!r} must be 'key', 'key=value' or a pair of strings: ('key', 'value')")
    values.dump(list(parts), where=f"tag={tag!r}", error=ConfigurationError)
    key, value = parts
    return key, None if isinstance(tag, str) and "=" not in tag else value


def graph_name(graph: str | None) -> str | None:
    """The name of a graph. Raises ``ConfigurationError`` for what cannot be one."""
    if graph is not None and not isinstance(graph, str):
        raise ConfigurationError(f"graph={graph!r} must be the name of a graph")
    values.dump(graph, where=f"graph={graph!r}", error=ConfigurationError)
    return graph


def run_status(status: str | None) -> str | None:
    """A status that runs have. Raises ``ConfigurationError`` for another."""
    if status is not None and not (isinstance(status, str) and status in list(RunStatus)):
        raise ConfigurationError(f"no run has status {status!r}; one of {', '.join(RunStatus)} is")
    return status


def aware(since: datetime | None) -> datetime | None:
    """A time that names a moment. Raises ``ConfigurationError`` for one without a time zone, and for what is no time."""
    if since is not None and not isinstance(since, datetime):
        raise ConfigurationError(f"since={since!r} must be a datetime with a time zone, such as datetime.now(UTC)")
    if since is not None and since.utcoffset() is None:
        raise ConfigurationError(
            f"since={since!r} has no time zone, so it names no moment; give it one: datetime.now(UTC)"
        )
    return since


def _limit(limit: int) -> int:
    if type(limit) is not int or not 0 <= limit <= _INT4:
        raise ConfigurationError(f"limit={limit!r} must be a whole number: the most runs to list")
    return limit


def _priority(priority: int) -> int:
    if type(priority) is not int or not -_INT4 <= priority <= _INT4:
        raise SubmitError(f"priority {priority!r} is no integer of 32 bits; higher ones are claimed first, 0 is usual")
    return priority


def _idempotency_key(key: str | None) -> str | None:
    if key is None:
        return None
    if not isinstance(key, str) or not key or len(key) > 400 or not key.isprintable():
        raise SubmitError(f"idempotency_key {key!r} must be a printable string of 1 to 400 characters")
    return key


def _tags(tags: Mapping[str, str] | None) -> dict[str, str]:
    if tags is None:
        return {}
    if not isinstance(tags, Mapping):
        raise SubmitError(f"tags {tags!r} must be strings by strings, such as {{'customer': 'c-17'}}")
    found = dict(tags)
    for key, value in found.items():
        if not isinstance(key, str) or not isinstance(value, str) or not key:
            raise SubmitError(f"tag {key!r}: {value!r} must be a string for a string, and its key not empty")
    values.dump(found, where="tags", error=PayloadError)
    return found


def _delay(delay: timedelta | None) -> timedelta | None:
    if delay is None:
        return None
    if not isinstance(delay, timedelta) or not timedelta(0) <= delay <= LONGEST_DELAY:
        raise SubmitError(f"delay {delay!r} must be a timedelta from nothing to a century")
    return delay


def _deadline(deadline: timedelta | datetime | None) -> timedelta | datetime | None:
    if isinstance(deadline, timedelta):
        if not timedelta(0) < deadline <= LONGEST_DELAY:
            raise SubmitError(f"deadline {deadline!r} must be longer than nothing, and no longer than a century")
    elif isinstance(deadline, datetime):
        if deadline.utcoffset() is None:
            raise SubmitError(
                f"deadline {deadline!r} has no time zone, so it names no moment; give it one, such as "
                "datetime(..., tzinfo=UTC)"
            )
    elif deadline is not None:
        raise SubmitError(f"deadline {deadline!r} must be a timedelta, or a datetime with a time zone")
    return deadline
