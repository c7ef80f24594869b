"""How runs begin: submits, one by one and by the batch, and clones."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from msgspec.structs import replace

from cnstra.orchestrator.cloning import CloneOptions, clone_of
from cnstra.orchestrator.flows.worlds import Flow, Flowing, not_found
from cnstra.orchestrator.graph import Signal
from cnstra.orchestrator.ports import Ring
from cnstra.orchestrator.store import Submission
from cnstra.orchestrator.submitting import ManyOptions, SubmitOptions, refuse_unknown, submission_of, submissions_of


class Kept(NamedTuple):
    """A run that is kept, and the doorbells that are still to be rung for it."""

    run_id: uuid.UUID
    rings: tuple[Ring, ...] = ()


def rings_within(rings: Iterable[Ring], run_id: uuid.UUID) -> tuple[Ring, ...]:
    """The part of doorbells that is for one run."""
    found = []
    for ring in rings:
        activations = tuple(one for one in ring.activations if one[0] == run_id)
        if activations:
            found.append(Ring(door=ring.door, activations=activations))
    return tuple(found)


class Starting(Flowing):
    """The flows of who starts runs."""

    def submit(self, signal: Signal[Any], options: SubmitOptions) -> Flow[Kept]:
        """Keep a run."""
        refuse_unknown("submit", options, SubmitOptions)
        submission = submission_of(self._graph(), signal, options, self._entropy)
        [kept] = yield from self._keep(self._placed([submission]), options.get("connection"))
        return kept

    def submit_many(self, signals: Iterable[Signal[Any]], options: ManyOptions) -> Flow[list[Kept]]:
        """Keep a run for each signal: all of them, or none."""
        refuse_unknown("submit_many", options, ManyOptions)
        submissions = submissions_of(self._graph(), signals, options, self._entropy)
        return (yield from self._keep(self._placed(submissions), options.get("connection")))

    def clone(self, run_id: uuid.UUID, options: CloneOptions) -> Flow[Kept]:
        """Keep a clone of a run, whose context is kept where the original's is. Raises ``RunNotFound`` and ``SubmitError``."""
        refuse_unknown("clone", options, CloneOptions)
        cns = self._graph("cloning")
        original = yield from self._run(self._operations.original(run_id))
        if original is None:
            raise not_found(run_id)
        [kept] = yield from self._keep([clone_of(cns, run_id, original, options, self._entropy)], None)
        return kept

    def _placed(self, submissions: list[Submission]) -> list[Submission]:
        """Runs that are submitted here keep their contexts in the store of contexts that was given here."""
        if self._blobs is None:
            return submissions
        return [replace(submission, place=self._blobs.place) for submission in submissions]

    def _keep(self, submissions: list[Submission], connection: Any) -> Flow[list[Kept]]:
        """Keep runs. In a transaction of the user's nobody would find them yet, so that the doorbells are for later."""
        if not submissions:
            return []
        if connection is not None:
            accepted, rings = yield self._world.run_in(connection, self._operations.submit(submissions))
            return [Kept(answer.run_id, rings_within(rings, answer.run_id)) for answer in accepted]
        accepted, rings = yield from self._run(self._operations.submit(submissions, self._foresee))
        if rings:
            yield self._world.ring(rings)
        return [Kept(answer.run_id) for answer in accepted]

    def ring(self, rings: Sequence[Ring]) -> Flow[None]:
        """Ring doorbells."""
        if rings:
            yield self._world.ring(rings)
