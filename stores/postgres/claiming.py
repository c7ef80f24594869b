"""Handing out work: claims, and the leases under which workers hold them."""

from __future__ import annotations

import json
from collections.abc import Sequence, Set
from typing import Any
from uuid import UUID

from msgspec.structs import replace

from cnstra.orchestrator.machine.records import Claimed
from cnstra.orchestrator.store import READMITTED_AT_ONCE, ClaimRequest, Claims, HeldClaim, Report, Work, WorkerInfo
from cnstra.stores.postgres.rows import OF_CLAIM, works_of
from cnstra.stores.postgres.transactions import Ask, PostgresOperation, Replica, Rows, Steps, operation, reading


class Claiming:
    """The operations by which workers come, take work, and go."""

    @operation
    def register(self, _repeated: bool, worker: WorkerInfo, limit: int = READMITTED_AT_ONCE) -> Steps[bool]:
        known = _able(worker)
        yield Ask("keep_aside_closed", {})
        yield Ask(
            "register",
            known
            | {"worker": worker.worker, "host": worker.host, "pid": worker.pid, "lease": worker.lease}
            | {"limits": json.dumps(dict(worker.limits))},
        )
        return (yield from _readmit(worker, limit))

    @operation
    def readmit(self, _repeated: bool, worker: WorkerInfo, limit: int = READMITTED_AT_ONCE) -> Steps[bool]:
        return (yield from _readmit(worker, limit))

    def renew(self, worker: UUID) -> PostgresOperation[list[HeldClaim] | None]:
        return PostgresOperation("renew", lambda _repeated: _renew(worker), at_once=True)

    @operation
    def leave(self, _repeated: bool, worker: UUID) -> Steps[None]:
        yield Ask("leave", {"worker": worker})
        yield Ask("forget_lost", {})

    def claim(self, request: ClaimRequest) -> PostgresOperation[Claims]:
        plain = not request.limits and not request.suspects
        return PostgresOperation("claim", lambda repeated: _claims(repeated, request, plain=plain), at_once=plain)

    @operation
    def report(self, _repeated: bool, reports: Sequence[Report]) -> Steps[list[Report]]:
        rows = yield Ask(
            "report_progress",
            {
                "run_ids": [one.run_id for one in reports],
                "activation_ids": [one.fence.activation_id for one in reports],
                "epochs": [one.fence.epoch for one in reports],
                "nonces": [one.fence.nonce for one in reports],
                "progress": [one.progress for one in reports],
            },
        )
        kept = set(rows)
        return [one for one in reports if (one.run_id, one.fence.activation_id) not in kept]

    @reading(Replica.NEVER)
    def suspects_wait(self, _repeated: bool, request: ClaimRequest) -> Steps[bool]:
        [(waits,)] = yield Ask("suspects_wait", _able(request) | _limits(request))
        return bool(waits)


def _renew(worker: UUID) -> Steps[list[HeldClaim] | None]:
    rows = yield Ask("renew", {"worker": worker})
    if not rows:
        return None
    return [
        HeldClaim(run_id=run_id, fence=Claimed(activation_id=activation_id, epoch=epoch, nonce=nonce), ending=ending)
        for run_id, activation_id, epoch, nonce, ending in rows
        if run_id is not None
    ]


def _claims(repeated: bool, request: ClaimRequest, *, plain: bool) -> Steps[Claims]:
    """What a request is given. A plain one is a statement, which commits by itself; what is read for it comes after."""
    if repeated:  # the reply of an earlier claim under this nonce may have been lost, but not the claim
        before = yield Ask("claims_of_nonce", {"worker": request.worker, "nonce": request.nonce})
        if before:
            return Claims((yield from load_works(before, known_before=True)))
    if plain:
        return Claims((yield from load_works((yield Ask("claim", _asked(request))))))
    if not (yield Ask("hold_lease", {"worker": request.worker})):
        return Claims()
    claimed, missed = yield from _claim(request)
    claims = Claims((yield from load_works(claimed)))
    claims.missed = missed
    return claims


def _asked(request: ClaimRequest) -> dict[str, Any]:
    return {"worker": request.worker, "nonce": request.nonce, "limit": request.limit} | _able(request)


def _claim(request: ClaimRequest) -> Steps[tuple[Rows, bool]]:
    """What the request is given; and whether it was worth asking again, as a limit was held by somebody else."""
    asked, limits = _asked(request), _limits(request)
    if not request.limits:
        return (yield Ask("claim_suspects", asked | limits)), False
    if request.suspects:
        held = {neuron for neuron, got in (yield Ask("lock_all_limits", asked | limits)) if got}
        limits["most"] = [most if neuron in held else 0 for neuron, most in request.limits.items()]
        return (yield Ask("claim_suspects", asked | limits | {"limit": 1})), False
    limits |= _limited_skills(request)
    locks = yield Ask("lock_limits", asked | limits)
    held = {neuron for neuron, got in locks if got}
    missed = len(held) < len(locks)
    if not held:
        return (yield Ask("claim", asked)), missed
    limits |= _limits(request, held)
    return (yield Ask("claim_with_limits", asked | limits)), missed


def _limits(request: ClaimRequest, held: Set[str] | None = None) -> dict[str, Any]:
    """The limits of a request, or those of them that are held, as the SQL takes them."""
    limits = {neuron: most for neuron, most in request.limits.items() if held is None or neuron in held}
    return {"neurons": list(limits), "most": list(limits.values())}


def _limited_skills(request: ClaimRequest) -> dict[str, Any]:
    """What the worker knows of neurons with a limit, each with its neuron: the SQL looks for it piece by piece."""
    dendrites = tuple(one for one in request.dendrites if one[0] in request.limits)
    compensations = tuple(one for one in request.compensations if one[0] in request.limits)
    return {
        "skills": dendrite_keys(dendrites, compensations),
        "skill_neurons": [neuron for neuron, _ in (*dendrites, *compensations)],
    }


def _readmit(worker: WorkerInfo, limit: int) -> Steps[bool]:
    """Those that others look for at the same time come in the same order: sorted, whatever the graphs' order is."""
    able = _able(worker)
    sorted_able = able | {"queues": sorted(able["queues"]), "dendrites": sorted(able["dendrites"])}
    sorted_able["places"] = sorted(able["places"])
    readmitted = yield Ask("readmit_known", sorted_able | {"limit": limit})
    return len(readmitted) == limit


def _able(worker: WorkerInfo | ClaimRequest) -> dict[str, Any]:
    """What a worker can run, as the SQL asks for it."""
    return {
        "graph": worker.graph,
        "graph_version": worker.graph_version,
        "queues": list(worker.queues),
        "dendrites": dendrite_keys(worker.dendrites, worker.compensations),
        "places": ["", *worker.places],
    }


def dendrite_keys(dendrites: tuple[tuple[str, str], ...], compensations: tuple[tuple[str, str], ...] = ()) -> list[str]:
    """What a worker can run, as the SQL compares it: see ``SKILL`` there."""
    return [f"{neuron}\x1f{collateral}" for neuron, collateral in dendrites] + [
        f"{neuron}\x1f{collateral}\x1fundo" for neuron, collateral in compensations
    ]


def load_works(claimed: Rows, *, known_before: bool = False) -> Steps[list[Work]]:
    """Claims with the context and the facts that their calls need: read after the claims were made, or with them, where nobody
    else can have had them before. Those that were made earlier have no footholds: a mark is to be no newer than the claim."""
    facts = [row[OF_CLAIM:] for row in claimed if _brought_facts(row)]
    asked = sorted({row[0] for row in claimed if not _brought_facts(row)})
    if asked:
        facts += yield Ask("run_facts", {"run_ids": asked})
    written = sorted({row[0] for row in facts if row[6]})
    contexts: Rows = []
    if written:
        contexts = yield Ask("load_contexts", {"run_ids": written})
    undone = [(row[0], row[1]) for row in claimed if row[14]]
    emitted: Rows = []
    if undone:
        keys = {"run_ids": [run_id for run_id, _ in undone], "activation_ids": [number for _, number in undone]}
        emitted = yield Ask("emitted", keys)
    works = works_of(claimed, facts, contexts, emitted)
    return [replace(work, foothold=None) for work in works] if known_before else works


def _brought_facts(claim: Sequence[Any]) -> bool:
    """Whether a claim brought the facts of its run, and they are no older than it: it is the first of the activation."""
    return len(claim) > OF_CLAIM and claim[2] == 1
