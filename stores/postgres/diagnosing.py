"""Answers for people: everything about one run, and how the whole is doing. Nothing in here writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from cnstra.stores.postgres.transactions import Ask, Replica, Steps, operation, reading

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """One run: its rows of the views ``runs``, ``activations``, ``tries``, ``context``, ``expectations`` and ``scatters``."""

    run: Row
    activations: list[Row]
    tries: list[Row]
    context: Row
    expectations: list[Row]
    scatters: list[Row]


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How the whole is doing, each a list of rows. ``supervisor_age`` is in seconds: negative while somebody supervises,
    and counted from the coming of the first worker where none had the time yet."""

    workers: list[Row]
    backlog: list[Row]
    unknown_work: list[Row]
    stranded_claims: list[Row]
    overdue_timers: list[Row]
    overdue_attempts: list[Row]
    overdue_deadlines: list[Row]
    poisoned_work: list[Row]
    context_litter: list[Row]
    supervisor_age: float | None


class Diagnosing:
    """The operations of somebody who looks for what is wrong."""

    @reading(Replica.IF_FOUND)
    def story(self, _repeated: bool, run_id: UUID) -> Steps[Story | None]:
        """None when the run does not exist."""
        one = {"run_id": run_id}
        rows = yield Ask("run_row", one, as_dicts=True)
        if not rows:
            return None
        activations = yield Ask("activation_rows", one, as_dicts=True)
        tries = yield Ask("tries_of_run", one, as_dicts=True)
        expectations = yield Ask("expectations_of_run", one, as_dicts=True)
        scatters = yield Ask("scatters_of_run", one, as_dicts=True)
        contexts = yield Ask("context_of_run", one, as_dicts=True)  # last: none, and the run was pruned meanwhile
        if not contexts:
            return None
        return Story(
            run=rows[0],
            activations=activations,
            tries=tries,
            context=contexts[0],
            expectations=expectations,
            scatters=scatters,
        )

    @operation
    def server_facts(self, _repeated: bool) -> Steps[Row]:
        rows: list[Row] = yield Ask("server_facts", {}, as_dicts=True)
        return rows[0]

    @operation
    def own_role(self, _repeated: bool) -> Steps[Row]:
        rows: list[Row] = yield Ask("own_role", {}, as_dicts=True)
        return rows[0]

    @operation
    def health(self, _repeated: bool, overdue: timedelta) -> Steps[Health]:
        late = {"overdue": overdue}
        ages = yield Ask("supervisor_age", {})
        return Health(
            workers=(yield Ask("workers_by_graph", {}, as_dicts=True)),
            backlog=(yield Ask("backlog", {}, as_dicts=True)),
            unknown_work=(yield Ask("unknown_work", {}, as_dicts=True)),
            stranded_claims=(yield Ask("stranded_claims", late, as_dicts=True)),
            overdue_timers=(yield Ask("overdue_timers", late, as_dicts=True)),
            overdue_attempts=(yield Ask("overdue_attempts", late, as_dicts=True)),
            overdue_deadlines=(yield Ask("overdue_deadlines", late, as_dicts=True)),
            poisoned_work=(yield Ask("poisoned_work", {}, as_dicts=True)),
            context_litter=(yield Ask("context_litter", {}, as_dicts=True)),
            supervisor_age=ages[0][0] if ages else None,
        )
