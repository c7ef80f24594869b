"""Lock and load: all that the machine needs to decide on a batch of events.

Runs are locked first, in the order of their ids; then the keys by which signals are sent, in theirs. Everything that a decision
rests on is read by later statements, under those locks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from cnstra.orchestrator import batches
from cnstra.orchestrator.machine.events import Event
from cnstra.orchestrator.machine.plans import Loaded, Plan
from cnstra.orchestrator.machine.records import Activation, Letter, Run
from cnstra.orchestrator.needs import Needs, may_begin, may_fire, needs_of, places_of
from cnstra.stores.postgres import rows as shapes
from cnstra.stores.postgres import waits
from cnstra.stores.postgres.transactions import Ask, Steps


@dataclass(slots=True)
class LoadedRuns:
    """What was loaded of locked runs, and ``now``, the time when all were locked. ``posted`` are signals that were sent by key:
    several of the runs may expect one.
    """

    runs: dict[UUID, Loaded] = field(default_factory=dict)
    graphs: dict[UUID, str] = field(default_factory=dict)
    posted: dict[tuple[str, str], list[Letter]] = field(default_factory=dict)
    keys: dict[UUID, set[str]] = field(default_factory=dict)
    now: datetime | None = None

    def of_run(self, run_id: UUID) -> Loaded:
        """What one run's events are decided on, with what was sent by key and not taken by another run of the batch."""
        loaded = self.runs[run_id]
        for key in sorted(self.keys.get(run_id, ())):
            loaded.letters.extend(self.posted.get((self.graphs[run_id], key), ()))
        return loaded

    def take(self, plan: Plan) -> None:
        """What a plan takes is not there for the next one."""
        for letter, _ in plan.taken:
            if letter.key is not None:
                self.posted[self.graphs[plan.run.run_id], letter.key].remove(letter)

    def activation(self, run_id: UUID, number: int) -> Activation:
        """An activation as it was loaded."""
        return self.runs[run_id].activations[number]


def load(by_run: Mapping[UUID, list[Event]]) -> Steps[tuple[dict[UUID, Run], LoadedRuns, datetime]]:
    """Lock the runs, and load what their events need; at the time that is answered."""
    passing = all(map(batches.may_pass, by_run.values()))
    rows = yield Ask("lock_free_runs" if passing else "lock_runs", {"run_ids": sorted(by_run)})
    runs = {row[0]: shapes.run_of(row) for row in rows}
    needs = {run_id: needs_of(by_run[run_id]) for run_id in runs}
    found = LoadedRuns(runs={run_id: Loaded() for run_id in runs})
    yield from _load_posted(needs, found)
    yield from _load_letters(needs, found)
    yield from _load_expectations(needs, found)
    yield from _load_activations(needs, found)
    yield from _load_groups(needs, found)
    writing = [run_id for run_id in runs if needs[run_id].writes]
    if writing:
        for run_id, heads in (yield Ask("load_heads", {"run_ids": writing})):
            found.runs[run_id].heads = heads
    if found.now is None:
        [(found.now,)] = yield Ask("clock", {})
    return runs, found, found.now


# -- activations ---------------------------------------------------------------------------------------------------


def _load_activations(needs: Mapping[UUID, Needs], found: LoadedRuns) -> Steps[None]:
    awaited = {
        run_id: {number for one in loaded.expectations for number in one.activations}
        for run_id, loaded in found.runs.items()
    }
    yield from _load_named(
        sorted((run_id, number) for run_id, need in needs.items() for number in need.activations | awaited[run_id]),
        found,
    )
    ending = [run_id for run_id, need in needs.items() if need.everything_open]
    if ending:
        _keep((yield Ask("load_open", {"run_ids": ending})), found)
        found.now = None  # it may have waited for claims


def _load_named(keys: list[tuple[UUID, int]], found: LoadedRuns) -> Steps[None]:
    if keys:
        named = {"run_ids": [run_id for run_id, _ in keys], "activation_ids": [number for _, number in keys]}
        rows = yield Ask("load_activations", named)
        _keep(rows, found)
        if rows:
            found.now = rows[-1][-1]


def _keep(rows: Iterable[Any], found: LoadedRuns) -> None:
    for row in rows:
        found.runs[row[0]].activations[row[1]] = shapes.activation_of(row)


# -- groups --------------------------------------------------------------------------------------------------------


def _load_groups(needs: Mapping[UUID, Needs], found: LoadedRuns) -> Steps[None]:
    """The groups and members that the activations are part of; gathers that may be called, and members that may begin."""
    places = [
        (run_id, *place)
        for run_id, loaded in found.runs.items()
        for place in sorted(places_of(activation.path for activation in loaded.activations.values()))
    ]
    if not places:
        return
    ids = sorted({(run_id, group_id) for run_id, group_id, _ in places})
    rows = yield Ask(
        "load_groups", {"run_ids": [run_id for run_id, _ in ids], "group_ids": [number for _, number in ids]}
    )
    for row in rows:
        found.runs[row[0]].groups[row[1]] = waits.group_of(row)
    rows = yield Ask(
        "load_members",
        {
            "run_ids": [run_id for run_id, _, _ in places],
            "group_ids": [group_id for _, group_id, _ in places],
            "members": [member for _, _, member in places],
        },
    )
    for row in rows:
        found.runs[row[0]].members[row[1], row[2]] = waits.member_of(row)
    yield from _load_named(
        sorted(
            (run_id, number)
            for run_id, loaded in found.runs.items()
            for number in set(may_fire(loaded.groups.values(), needs[run_id])) - loaded.activations.keys()
        ),
        found,
    )
    beginning = [
        (run_id, *one)
        for run_id, loaded in found.runs.items()
        for one in may_begin(loaded.groups.values(), needs[run_id])
    ]
    if beginning:
        rows = yield Ask(
            "load_pending",
            {
                "run_ids": [run_id for run_id, _, _, _ in beginning],
                "group_ids": [group_id for _, group_id, _, _ in beginning],
                "firsts": [first for _, _, first, _ in beginning],
                "limits": [most for _, _, _, most in beginning],
            },
        )
        for run_id, group_id, member, payload in rows:
            found.runs[run_id].pending[group_id, member] = payload


# -- signals from outside ------------------------------------------------------------------------------------------


def _load_posted(needs: Mapping[UUID, Needs], found: LoadedRuns) -> Steps[None]:
    """What was sent by the keys that are expected now. First of all, as keys are locked after runs and before all else."""
    keyed = [run_id for run_id, need in needs.items() if need.posted]
    if not keyed:
        return
    found.graphs = dict((yield Ask("graphs_of_runs", {"run_ids": keyed})))
    wanted = [(found.graphs[run_id], *one, many) for run_id in keyed for one, many in needs[run_id].posted.items()]
    graphs, keys = [graph for graph, _, _, _ in wanted], [key for _, key, _, _ in wanted]
    yield Ask("lock_keys", {"graphs": graphs, "keys": keys})
    rows = yield Ask(
        "load_posted",
        {
            "graphs": graphs,
            "keys": keys,
            "collaterals": [collateral for _, _, collateral, _ in wanted],
            "limits": [sum(many for *_, many in wanted)] * len(wanted),
        },
    )
    seen = set()
    for graph, key, number, collateral, payload in sorted(rows, key=lambda row: row[2]):
        if number not in seen:  # several runs of the batch may expect the same
            seen.add(number)
            letter = Letter(number=number, collateral=collateral, payload=payload, key=key)
            found.posted.setdefault((graph, key), []).append(letter)
    found.keys = {run_id: {key for key, _ in needs[run_id].posted} for run_id in keyed}


def _load_letters(needs: Mapping[UUID, Needs], found: LoadedRuns) -> Steps[None]:
    """What was sent to the runs before, and which signals are sent again."""
    expected = [(run_id, *one) for run_id, need in needs.items() for one in need.letters.items()]
    if expected:
        rows = yield Ask(
            "load_letters",
            {
                "run_ids": [run_id for run_id, _, _ in expected],
                "collaterals": [collateral for _, collateral, _ in expected],
                "limits": [many for _, _, many in expected],
            },
        )
        for run_id, number, collateral, payload in rows:
            found.runs[run_id].letters.append(Letter(number=number, collateral=collateral, payload=payload))
    sent = [(run_id, one) for run_id, need in needs.items() for one in need.sent if one.key is None]
    if sent:
        rows = yield Ask(
            "known_letters",
            {
                "run_ids": [run_id for run_id, _ in sent],
                "idempotency_keys": [one.idempotency_key for _, one in sent],
                "collaterals": [one.collateral for _, one in sent],
                "payloads": [one.payload for _, one in sent],
            },
        )
        for run_id, key, same in rows:
            found.runs[run_id].sent[key] = same


def _load_expectations(needs: Mapping[UUID, Needs], found: LoadedRuns) -> Steps[None]:
    """What signals may feed, and what may have come too late."""
    wanted = [  # of those, some may have come too late by the same batch
        (run_id, *one, many + len(need.expectations))
        for run_id, need in needs.items()
        for one, many in need.wanted.items()
    ]
    rows: list[Any] = []
    if wanted:
        rows += yield Ask(
            "load_expectations",
            {
                "run_ids": [run_id for run_id, _, _, _ in wanted],
                "collaterals": [collateral for _, collateral, _, _ in wanted],
                "keys": [key for _, _, key, _ in wanted],
                "limits": [many for *_, many in wanted],
            },
        )
    due = [(run_id, number) for run_id, need in needs.items() for number in need.expectations]
    if due:
        ids = {"run_ids": [run_id for run_id, _ in due], "expectation_ids": [number for _, number in due]}
        rows += yield Ask("load_expectations_by_id", ids)
    for row in sorted({(row[0], row[1]): row for row in rows}.values(), key=lambda row: (row[0], row[1])):
        found.runs[row[0]].expectations.append(waits.expectation_of(row))
