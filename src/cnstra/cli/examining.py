"""The doctor's examination: each finding names what was looked at, how it is, and what to do.

Owns what counts as a problem (somebody has to act, or runs do not end) and as a warning (it costs time, or safety on the
day when something else fails, too). Changes nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from typing import Any, Literal

from cnstra.cli.printing import duration
from cnstra.cli.replicas import examined
from cnstra.exits import line_of
from cnstra.orchestrator.errors import AccessRefused, BrokerAway, ConfigurationError, SchemaError, StoreUnavailable
from cnstra.orchestrator.sealing import needed
from cnstra.stores.postgres import PostgresStore
from cnstra.stores.postgres.addresses import DECLARE, address_of
from cnstra.stores.postgres.diagnosing import Diagnosing, Health
from cnstra.stores.postgres.reaching import passes_a_pooler, reach
from cnstra.workers.doorbell.brokers import open_broker
from cnstra.workers.doorbell.doorbells import Keeping

OVERDUE = timedelta(seconds=30)
"""What should have happened so long ago, and has not, is a problem."""
_PATIENCE = 60.0  # seconds that work may be ready before it is worth a line
_UNTIDY = 3600.0  # seconds that a blob which nobody refers to may stay before it is worth a line
_SKEW = 2.0  # seconds
_LAG = 16 * 2**20  # bytes of the log, which is one file of it
_PACKAGES = ("cnstra", "dramatiq", "redis", "psycopg", "tenacity", "msgspec", "typer")
_OLDEST_POSTGRES = 150000


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    check: str
    level: Literal["ok", "warning", "problem"]
    message: str


def examine(database_url: str, broker_url: str, replica_urls: Sequence[str] = ()) -> list[Finding]:
    """Everything, in order; what rests on something that is broken is left out."""
    return [_versions(), *_broker(broker_url), *_database(database_url), *_replicas(database_url, replica_urls)]


def _versions() -> Finding:
    packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    return _ok("packages", f"Python {sys.version.split()[0]}, {packages}")


# -- the broker ----------------------------------------------------------------------------------------------------


def _broker(url: str) -> Iterator[Finding]:
    try:
        broker = open_broker(url, client_name="cnstra-doctor")
        try:
            facts = broker.facts()
        finally:
            broker.close()
    except (BrokerAway, ConfigurationError) as error:
        yield _problem("broker", f"{line_of(error)}; runs go on, but only as fast as sweeps find the work")
        return
    yield _ok("broker", f"{facts.kind} {facts.version}")
    keeping = facts.keeping
    if keeping is None:
        yield _ok("persistence", "the broker keeps its queues on disk; lost doorbells are rung again from Postgres")
        return
    yield _eviction(keeping)
    kept = "an append-only file" if keeping.append_only else "snapshots" if keeping.snapshots else "nothing"
    yield _ok("persistence", f"the broker keeps {kept}; none is needed, lost doorbells are rung again from Postgres")


def _eviction(keeping: Keeping) -> Finding:
    if keeping.eviction is None:
        return _warning("eviction", "the broker does not say what it does when its memory is full")
    if keeping.memory_limit and keeping.eviction != "noeviction":
        limit = f"{keeping.memory_limit / 2**20:.0f} MiB"
        return _warning(
            "eviction",
            f"above {limit} the broker throws keys away ({keeping.eviction}), doorbells among them, and runs wait for "
            "a sweep; set maxmemory-policy noeviction",
        )
    return _ok("eviction", f"{keeping.eviction}, {'a limit' if keeping.memory_limit else 'no limit'} of memory")


# -- the database --------------------------------------------------------------------------------------------------


def _database(url: str) -> Iterator[Finding]:
    try:
        reach(url)
        store = PostgresStore(url, connections=1)
    except (StoreUnavailable, ConfigurationError) as error:
        yield _problem("database", f"{line_of(error)}; nothing can be submitted, and nothing runs")
        return
    try:
        before = datetime.now(UTC)
        facts = store.run(Diagnosing().server_facts())
        yield from _server(facts, before, datetime.now(UTC))
        yield from _pooler(url)
        try:
            store.run(store.check_schema())
        except SchemaError as error:
            yield _problem("schema", line_of(error))
            return
        yield _ok("schema", "fits this release")
        role = store.run(Diagnosing().own_role())
        yield _role(role)
        try:
            health = store.run(Diagnosing().health(OVERDUE))
        except AccessRefused:
            yield _warning(
                "runs", f"not looked at: {role['name']} sees no tables; ask as a client, a worker or the owner"
            )
            return
        yield from _health(health)
    except AccessRefused as error:
        yield _problem("role", line_of(error))
    except StoreUnavailable as error:
        yield _problem("database", line_of(error))
    finally:
        store.close()


def _server(facts: Mapping[str, Any], before: datetime, after: datetime) -> Iterator[Finding]:
    if facts["replica"]:
        yield _problem("database", f"Postgres {facts['version']} is a replica and takes no writes; name its primary")
    elif facts["number"] < _OLDEST_POSTGRES:
        yield _problem("database", f"Postgres {facts['version']}; 15 is the oldest that works")
    else:
        yield _ok("database", f"Postgres {facts['version']}")
    unsafe = [name for name in ("fsync", "synchronous_commit", "full_page_writes") if facts[name] == "off"]
    if unsafe:
        yield _warning("durability", f"{' and '.join(unsafe)} off: a loss of power loses or breaks what was accepted")
    else:
        yield _ok("durability", "a commit is on disk when it is answered")
    middle = before + (after - before) / 2
    skew = (middle - facts["now"]).total_seconds()
    clocks = f"this machine's clock is {abs(skew):.3f} s {'ahead of' if skew > 0 else 'behind'} the database's"
    if abs(skew) > _SKEW + (after - before).total_seconds() / 2:
        yield _warning("clocks", f"{clocks}; run ids made here sort by it, so synchronise both")
    else:
        yield _ok("clocks", clocks)


def _role(role: Mapping[str, Any]) -> Finding:
    if role["owner"]:
        return _ok("role", f"{role['name']} owns the schema, and may do everything there")
    return _ok("role", f"{role['name']}, {' and '.join(role['groups']) or 'with rights of its own'}")


def _pooler(url: str) -> Iterator[Finding]:
    declared, found = address_of(url).pooled, passes_a_pooler(url)
    if declared and found:
        yield _ok("pooler", "one is in between; nothing rests on a session")
    elif declared:
        yield _ok("pooler", "the URL names one, and none is in between; without pooler=transaction it is faster")
    elif found:
        yield _warning(
            "pooler",
            "one is in between that the URL does not tell of: in session mode statements are planned worse than they could be, "
            f"in transaction mode they fail; {DECLARE}",
        )


def _replicas(database_url: str, urls: Sequence[str]) -> Iterator[Finding]:
    for found in examined(database_url, urls):
        if found.problem is not None:
            yield _warning("replica", f"{found.name} is not read: {found.problem}; the primary is, in its place")
        elif found.behind is None:
            yield _warning(
                "replica", f"{found.name} can be read; how far it is behind is not known without the primary"
            )
        elif found.behind > _LAG:
            yield _warning(
                "replica",
                f"{found.name} is {found.behind / 2**20:.1f} MiB of the log behind; the primary is read by who has seen more",
            )
        else:
            yield _ok("replica", f"{found.name} is {found.behind} bytes of the log behind")


# -- workers and runs ----------------------------------------------------------------------------------------------


def _health(health: Health) -> Iterator[Finding]:
    alive = {row["graph"]: row["alive"] for row in health.workers if row["alive"]}
    if alive:
        counted = ", ".join(f"{count} of {graph}" for graph, count in alive.items())
        yield _ok("workers", f"{counted} alive")
    else:
        yield _warning("workers", "none is alive; start one: cnstra worker APP")
    if alive and (health.supervisor_age is None or health.supervisor_age > OVERDUE.total_seconds()):
        yield _problem("supervisor", "no worker has looked for lost work for a while, though some are alive")
    stuck = list(_stuck(health, alive))
    yield from stuck or [_ok("runs", "none is stuck")]
    yield from _given_up(health)
    for row in health.context_litter:
        if row["oldest"] > _UNTIDY:
            yield _warning(
                "contexts",
                f"blobs of no run wait in the store {row['place']!r} to be deleted: {row['blobs']}, the oldest for "
                f"{duration(row['oldest'])}; start a worker that has the store (--context)",
            )


def _stuck(health: Health, alive: Mapping[str, int]) -> Iterator[Finding]:
    for row in health.unknown_work:
        pinned = f" in version {row['pin']}" if row["pin"] else ""
        place, label = needed(row["place"])
        reach = f" and the store of contexts {place!r} (--context)" if place else ""
        reach += "" if label is None else f" and a codec{f' with key {label!r}' if label else ''} (--codec)"
        yield _problem(
            "runs",
            f"{row['activations']} of neuron {row['neuron']} on {row['collateral']} of graph {row['graph']}{pinned} are "
            f"blocked, unknown: no worker has the code{reach}; start one that does. {_such_as(row)}",
        )
    for row in health.stranded_claims:
        yield _problem(
            "runs",
            f"{row['activations']} of graph {row['graph']} run by workers whose lease has run out, and no worker takes "
            f"them back; start one. {_such_as(row)}",
        )
    for row in health.overdue_timers:
        yield _problem(
            "runs",
            f"{row['activations']} of graph {row['graph']} should have begun long ago, and no worker fires their "
            f"timers; start one. {_such_as(row)}",
        )
    for row in health.overdue_attempts:
        yield _problem(
            "runs",
            f"{row['runs_overdue']} of graph {row['graph']} should have begun their next attempt long ago; "
            f"start a worker. {_such_as(row)}",
        )
    for row in health.overdue_deadlines:
        yield _problem(
            "runs",
            f"{row['runs_overdue']} of graph {row['graph']} have passed their deadline long ago, and no worker ends them; "
            f"start one. {_such_as(row)}",
        )
    for row in health.backlog:
        if row["oldest"] < _PATIENCE:
            continue
        waits = (
            f"{row['ready']} of graph {row['graph']} on queue {row['queue']}, the oldest for {duration(row['oldest'])}"
        )
        if row["graph"] in alive:
            yield _warning("runs", f"ready and not claimed: {waits}; start more workers")
        else:
            yield _problem("runs", f"ready, and no worker of their graph is alive: {waits}; start one")


def _given_up(health: Health) -> Iterator[Finding]:
    for row in health.poisoned_work:
        what = f"{'the compensation of ' if row['undo'] else ''}neuron {row['neuron']} on {row['collateral']}"
        yield _warning(
            "poison",
            f"{row['activations']} of {what} of graph {row['graph']} failed, Poisoned: {row['lost']} workers were lost with one; "
            f"cnstra show says which. Mend what kills them, then cnstra retry. {_such_as(row)}",
        )


def _such_as(row: Mapping[str, Any]) -> str:
    return f"Such as: {', '.join(str(run_id) for run_id in row['runs'])}"


def _ok(check: str, message: str) -> Finding:
    return Finding(check=check, level="ok", message=message)


def _warning(check: str, message: str) -> Finding:
    return Finding(check=check, level="warning", message=message)


def _problem(check: str, message: str) -> Finding:
    return Finding(check=check, level="problem", message=message)
