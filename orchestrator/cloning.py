"""A clone: a new run of the same graph, from the same entry signal.

It has the original's entry payload, priority, tags, policy and place of its context, and nothing that the original has done:
it begins with an empty context, calls all handlers anew, under keys of its own, and so repeats their side effects.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, TypedDict

from msgspec.structs import replace

from cnstra.orchestrator import sealing, values
from cnstra.orchestrator.errors import PayloadError, SubmitError
from cnstra.orchestrator.graph import CNS, Signal
from cnstra.orchestrator.ports import Entropy
from cnstra.orchestrator.store import Original, Submission
from cnstra.orchestrator.submitting import SubmitOptions, submission_of


class CloneOptions(TypedDict, total=False):
    """What a clone is to have of its own; what is left out is the original's.

    ``run_id``: a UUIDv7 of your own, as UUID or str; the same one again is the same clone. ``priority``, ``tags`` (all of
    them), ``deadline``: as for a submit. Left out, the clone has the original's deadline where that was given as a timedelta,
    counted from now, and none where it was a datetime.
    """

    run_id: uuid.UUID | str | None
    priority: int
    tags: Mapping[str, str] | None
    deadline: timedelta | datetime | None


def clone_of(cns: CNS, run_id: uuid.UUID, original: Original, options: CloneOptions, entropy: Entropy) -> Submission:
    """The clone of a run, as the store keeps it: for the dendrites that hear the entry collateral now.

    Raises ``SubmitError`` for a run of another graph, for an entry collateral that the graph has no more or that nobody hears,
    and for a payload that does not fit it any more.
    """
    wanted = SubmitOptions(
        run_id=options.get("run_id"),
        priority=options.get("priority", original.priority),
        tags=options.get("tags", original.tags),
        deadline=options.get("deadline", original.deadline),
    )
    submission = submission_of(cns, _signal(cns, run_id, original), wanted, entropy)
    return replace(submission, policy=original.policy, place=original.place, cloned_from=run_id)


def _signal(cns: CNS, run_id: uuid.UUID, original: Original) -> Signal[Any]:
    graph, name = cns.durable_name, original.collateral
    if original.graph != graph:
        raise SubmitError(
            f"run {run_id} is of graph {original.graph!r}, and this Orchestrator has {graph!r}; clone it with its own"
        )
    collateral = cns.collateral(name)
    if collateral is None:
        raise SubmitError(
            f"run {run_id} began with collateral {name!r}, which CNS {graph!r} has no more; submit another"
        )
    try:
        value = values.load(original.payload)
        sealing.refuse_sealed(value, f"run {run_id}, its entry payload")
        return collateral.create_signal(collateral.payload.decode(value))
    except PayloadError as error:
        raise SubmitError(
            f"run {run_id} cannot be cloned: its entry payload does not fit collateral {name!r} any more: {error}"
        ) from error
