"""Two stores as one: everything that is asked of it is asked of both, and both must answer, and then hold, the same.

``TwinWorld`` is a world as any other, so that whatever plays on one store can play on two that are held against each other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, cast
from uuid import UUID

import psycopg
from msgspec import Struct
from psycopg.rows import dict_row

from cnstra.orchestrator.machine.records import Activation, Path, Run
from cnstra.orchestrator.ports import Ring
from cnstra.orchestrator.store import HeldClaim, LostClaim, Store, Work
from cnstra.stores.memory import MemoryStore
from cnstra.stores.memory.state import ActivationRow, State
from cnstra.stores.postgres import PostgresStore
from support.clocks import DATABASE_CLOCK, DatabaseClock
from support.worlds import World, all_applied

Asked = tuple[str, tuple[Any, ...]]


class TwinStore:
    """Any operation, on each of the stores; the first one's answer: that in Postgres, which gives footholds."""

    def __init__(self, *stores: Store) -> None:
        self._stores = stores

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: (name, arguments)

    def run(self, operation: Asked) -> Any:
        name, arguments = operation
        answers = [
            all_applied(store, *arguments) if name == "apply" else store.run(getattr(store, name)(*arguments))
            for store in self._stores
        ]
        first, *others = map(plain, answers)
        for other in others:
            assert other == first, f"{name}: two stores give different answers\n{first}\n{other}"
        return answers[0]


class TwinWorld(World):
    """The store in memory and the one in Postgres, under one clock."""

    def __init__(self, database_url: str) -> None:
        self.database_url = database_url
        self.database_clock = DatabaseClock(database_url)
        self.memory = MemoryStore(self.database_clock.now)
        self.postgres = PostgresStore(database_url, clock=DATABASE_CLOCK)
        self._connection = psycopg.connect(database_url, autocommit=True, row_factory=dict_row)
        super().__init__(cast("Store", TwinStore(self.postgres, self.memory)), self.database_clock)

    def assert_alike(self) -> None:
        """Both hold the same rows."""
        mine, theirs = stored_in_memory(self.memory._state), stored_in_postgres(self._connection)
        for table, rows in mine.items():
            for key in sorted({*rows, *theirs[table]}, key=repr):
                one, other = rows.get(key, {}), theirs[table].get(key, {})
                unlike = {
                    name: (one.get(name), other.get(name))
                    for name in {*one, *other}
                    if one.get(name) != other.get(name)
                }
                assert not unlike, f"{table} {key}: in memory and in Postgres differ {unlike}"

    def forget(self) -> None:
        """Begin anew, with empty stores."""
        self._connection.execute(
            f"truncate {', '.join(f'cnstra.{table}' for table in _POSTGRES)}, cnstra.worker".encode()
        )
        self._connection.execute("update cnstra.supervisor set worker = null, until = '-infinity'")
        self.memory._state = State(now=self.database_clock.now)

    def close(self) -> None:
        self._connection.close()
        self.postgres.close()
        self.database_clock.close()


# -- answers -------------------------------------------------------------------------------------------------------


def plain(value: Any) -> Any:
    """An answer, for comparing: texts of JSON as what they mean, and what has no order without one."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError:
            return value
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, Struct):
        kept = [name for name in value.__struct_fields__ if name != "foothold"]  # that is a store's own
        return {"": type(value).__name__} | {name: plain(getattr(value, name)) for name in kept}
    if isinstance(value, Mapping):
        return {key: plain(held) for key, held in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return _listed(value)
    return value


def _listed(value: Sequence[Any]) -> Any:
    if value and isinstance(value[0], Work | HeldClaim | LostClaim):
        return sorted(map(plain, value), key=repr)
    if value and isinstance(value[0], Ring):
        return {ring.door: sorted(ring.activations) for ring in value}
    listed = [plain(held) for held in value]
    return sorted(listed, key=repr) if listed and isinstance(listed[0], UUID | list) else listed


# -- rows ----------------------------------------------------------------------------------------------------------

Tables = dict[str, dict[Any, dict[str, Any]]]

_RUN = tuple(name for name in Run.__struct_fields__ if name not in {"run_id", "failure", "undo_failure"})
_ACTIVATION = tuple(
    name for name in Activation.__struct_fields__ if name not in {"activation_id", "failure", "outputs", "path"}
)
_GROUP = ("parent", "ordinal", "collateral", "size", "started", "running", "ended", "closed")
_POSTGRES = {
    "run": ("run_id", f"{', '.join(_RUN)}, error, error_type, undo_error, undo_error_type, submitted_at"),
    "activation": (
        "run_id, activation_id",
        f"{', '.join(_ACTIVATION)}, coalesce(path, '{{}}') as path, error, error_type, "
        "parent_activation_id as parent, ordinal, neuron, collateral, payload, created_at, first_try_at, done_at, "
        "coalesce(outputs, '[]') as outputs",
    ),
    "try": (
        "run_id, activation_id, try_number",
        "worker, started_at, finished_at, error, error_type, error_traceback as traceback, undo",
    ),
    "context_entry": ("run_id, version, slot", "activation_id, value"),
    "context_head": ("run_id", "heads"),
    "expectation": ("run_id, expectation_id", "collateral, key, activations, expires_at"),
    "letter": ("run_id, number", "collateral, payload, idempotency_key, taken_by"),
    "posted": ("graph, key, idempotency_key", "collateral, payload, run_id, sent_at"),
    "scatter": ("run_id, group_id", f"{', '.join(_GROUP)}, most as limit, coalesce(path, '{{}}') as path"),
    "member": (
        "run_id, group_id, member",
        "outstanding, failed, ended, payload, coalesce(results, '{}') as results, failure",
    ),
}
"""Of each table its key, and what is compared of it."""


def stored_in_postgres(connection: psycopg.Connection[Any]) -> Tables:
    """All that Postgres keeps of runs."""
    found: Tables = {}
    for table, (key, columns) in _POSTGRES.items():
        names = key.split(", ")
        rows = connection.execute(f"select {key}, {columns} from cnstra.{table}".encode()).fetchall()
        found[table] = {tuple(row.pop(name) for name in names): plain(row) for row in rows}
    return found


def stored_in_memory(state: State) -> Tables:
    """All that the store in memory keeps of runs, named as in Postgres."""
    found: Tables = {table: {} for table in _POSTGRES}
    for run_id, kept in state.runs.items():
        run = {name: getattr(kept.run, name) for name in _RUN} | {"submitted_at": kept.submitted_at}
        run |= _failure("", kept.run.failure) | _failure("undo_", kept.run.undo_failure)
        found["run"][run_id,] = plain(run)
        for row in state.of_run(run_id):
            found["activation"][row.key] = plain(_activation(row))
        for noted in state.tries.get(run_id, []):
            ended = noted.ended
            found["try"][run_id, ended.activation_id, ended.try_number] = plain(
                _failure("", ended.failure)
                | {
                    "worker": ended.worker,
                    "started_at": ended.started_at,
                    "finished_at": noted.finished_at,
                    "traceback": ended.failure.traceback if ended.failure else None,
                    "undo": ended.undo,
                }
            )
        for (version, slot), entry in state.entries.get(run_id, {}).items():
            found["context_entry"][run_id, version, slot] = plain(
                {"activation_id": entry.activation_id, "value": entry.text}
            )
        if heads := state.heads.get(run_id):
            found["context_head"][run_id,] = plain({"heads": heads})
        _waits_and_groups(state, run_id, found)
    for posted in state.posted.values():
        found["posted"][posted.graph, posted.key, posted.idempotency_key] = plain(
            {name: getattr(posted, name) for name in ("collateral", "payload", "run_id", "sent_at")}
        )
    return found


def _waits_and_groups(state: State, run_id: UUID, found: Tables) -> None:
    for number, one in state.expectations.get(run_id, {}).items():
        found["expectation"][run_id, number] = plain(
            {name: getattr(one, name) for name in ("collateral", "key", "activations", "expires_at")}
        )
    for row in state.letters.get(run_id, []):
        sent = row.letter.sent
        found["letter"][run_id, row.letter.number] = plain(
            {"taken_by": row.taken_by, "idempotency_key": sent.idempotency_key}
            | {"collateral": sent.collateral, "payload": sent.payload}
        )
    for number, group in state.groups.get(run_id, {}).items():
        found["scatter"][run_id, number] = plain(
            {name: getattr(group, name) for name in (*_GROUP, "limit")} | {"path": flat(group.path)}
        )
    for (group_id, number), kept in state.members.get(run_id, {}).items():
        failure = kept.failure and {"error": kept.failure.error, "error_type": kept.failure.error_type}
        found["member"][run_id, group_id, number] = plain(
            {name: getattr(kept.member, name) for name in ("outstanding", "failed", "ended")}
            | {"payload": kept.payload, "results": dict(kept.results), "failure": failure}
        )


def flat(path: Path) -> list[int]:
    """A path as the database keeps it."""
    return [number for place in path for number in place]


def _activation(row: ActivationRow) -> dict[str, Any]:
    activation = row.activation
    return (
        {name: getattr(activation, name) for name in _ACTIVATION}
        | {"path": flat(activation.path)}
        | _failure("", activation.failure)
        | {
            "parent": row.parent,
            "ordinal": row.target.ordinal,
            "neuron": row.target.neuron,
            "collateral": row.target.collateral,
            "payload": row.target.payload,
            "created_at": row.created_at,
            "first_try_at": row.first_try_at,
            "done_at": row.done_at,
            "outputs": [
                {"ordinal": one.ordinal, "collateral": one.collateral, "payload": one.payload}
                | ({"collected": True} if one.collected else {})
                for one in activation.outputs
            ],
        }
    )


def _failure(prefix: str, failure: Any) -> dict[str, Any]:
    return {
        f"{prefix}error": failure.error if failure else None,
        f"{prefix}error_type": failure.error_type if failure else None,
    }
