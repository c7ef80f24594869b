"""What the machine needs to decide on a run's events, from the rows in memory."""

from __future__ import annotations

from collections.abc import Set
from uuid import UUID

from cnstra.orchestrator.batches import same_payload
from cnstra.orchestrator.machine.plans import Loaded
from cnstra.orchestrator.machine.records import Letter
from cnstra.orchestrator.machine.states import OUTSTANDING
from cnstra.orchestrator.needs import Needs, may_begin, may_fire, places_of
from cnstra.stores.memory.state import State


def load(state: State, run_id: UUID, needs: Needs, posted: Set[int]) -> Loaded:
    """What the events of a run need; without signals that were sent by key and that are ``posted`` elsewhere already."""
    loaded = Loaded(heads=dict(state.heads.get(run_id, {})))
    _load_waits(state, run_id, needs, loaded, posted)
    numbers = needs.activations | {number for one in loaded.expectations for number in one.activations}
    rows = [row for number in sorted(numbers) if (row := state.activation((run_id, number))) is not None]
    if needs.everything_open:
        rows += [row for row in state.of_run(run_id) if row.activation.status in OUTSTANDING]
    loaded.activations = {row.activation.activation_id: row.activation for row in rows}
    _load_groups(state, run_id, needs, loaded)
    return loaded


def _load_waits(state: State, run_id: UUID, needs: Needs, loaded: Loaded, posted: Set[int]) -> None:
    wanted = {collateral for collateral, _ in needs.wanted}
    loaded.expectations = [
        one
        for number, one in sorted(state.expectations.get(run_id, {}).items())
        if one.collateral in wanted or number in needs.expectations
    ]
    letters = state.letters.get(run_id, [])
    loaded.letters = [
        Letter(number=row.letter.number, collateral=row.letter.sent.collateral, payload=row.letter.sent.payload)
        for row in letters
        if row.taken_by is None and row.letter.sent.collateral in needs.letters
    ]
    graph = state.runs[run_id].submission.graph
    loaded.letters += [
        Letter(number=number, collateral=row.collateral, payload=row.payload, key=row.key)
        for number, row in state.posted.items()
        if number not in posted
        and row.graph == graph
        and row.run_id is None
        and (row.key, row.collateral) in needs.posted
    ]
    loaded.sent = {
        row.letter.sent.idempotency_key: row.letter.sent.collateral == one.collateral
        and same_payload(row.letter.sent.payload, one.payload)
        for one in needs.sent
        for row in letters
        if row.letter.sent.idempotency_key == one.idempotency_key
    }


def _load_groups(state: State, run_id: UUID, needs: Needs, loaded: Loaded) -> None:
    groups, members = state.groups.get(run_id, {}), state.members.get(run_id, {})
    places = places_of(activation.path for activation in loaded.activations.values())
    loaded.groups = {group_id: groups[group_id] for group_id, _ in places}
    loaded.members = {place: members[place].as_loaded() for place in places}
    for number in may_fire(loaded.groups.values(), needs):
        row = state.activation((run_id, number))
        if row is not None:
            loaded.activations.setdefault(number, row.activation)
    for group_id, first, many in may_begin(loaded.groups.values(), needs):
        for number in range(first, first + many):
            loaded.pending[group_id, number] = members[group_id, number].payload or "null"
