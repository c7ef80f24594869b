"""Deleting what has ended and is not kept any longer, in short transactions; the rules of that.

Every run is locked before anything of it is deleted, and goes whole or not at all. What somebody else has locked is passed
over. Nothing that has not ended is touched: the statements themselves ask for the end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import cast
from uuid import UUID

from cnstra.orchestrator.retention import CONTEXT, ENDED_STATUSES, FINAL_STATUSES, SENT, Rules
from cnstra.orchestrator.store import Expired, Portion, Pruned
from cnstra.stores.postgres.littering import note_litter_of_runs
from cnstra.stores.postgres.transactions import Ask, InterferenceError, Steps, operation

_ANY_CONTEXT = [True, False]
_KEPT_CONTEXT = [True]


class Retaining:
    """The operations by which things leave the store."""

    @operation
    def now(self, _repeated: bool) -> Steps[datetime]:
        [(now,)] = yield Ask("clock", {})
        return cast("datetime", now)

    @operation
    def retention(self, _repeated: bool) -> Steps[Rules]:
        return dict((yield Ask("retention", {})))

    @operation
    def set_retention(self, _repeated: bool, rules: Rules) -> Steps[None]:
        yield Ask("set_retention", {"whats": list(rules), "keeps": list(rules.values())})

    @operation
    def count_ended(self, _repeated: bool, statuses: Sequence[str], before: datetime) -> Steps[Mapping[str, int]]:
        counts: dict[str, int] = {}
        for status in statuses:
            [(counts[status],)] = yield Ask("count_ended", {"status": status, "before": before, "kept": _ANY_CONTEXT})
        return counts

    @operation
    def prune(self, _repeated: bool, statuses: Sequence[str], before: datetime, portion: Portion) -> Steps[Pruned]:
        taken = _Taken(portion)
        runs = yield from taken.take(dict.fromkeys(statuses, before), _ANY_CONTEXT)
        yield from _forget("forget_runs", list(runs))
        return Pruned(runs=tuple(runs.items()), more=taken.more)

    @operation
    def expire(self, _repeated: bool, portion: Portion) -> Steps[Expired]:
        since = {what: before for what, before in (yield Ask("lock_retention", {})) if before is not None}
        taken = _Taken(portion)
        runs = yield from taken.take({what: since[what] for what in ENDED_STATUSES if what in since}, _ANY_CONTEXT)
        yield from _forget("forget_runs", list(runs))
        contexts: dict[UUID, str] = {}
        if CONTEXT in since:
            contexts = yield from taken.take(dict.fromkeys(FINAL_STATUSES, since[CONTEXT]), _KEPT_CONTEXT)
            yield from _forget("forget_contexts", list(contexts))
        free = len((yield Ask("sweep_free_contexts", {"limit": portion.runs})))
        sent = 0
        if SENT in since:
            sent = len((yield Ask("sweep_posted", {"before": since[SENT], "limit": portion.runs})))
        return Expired(
            runs=tuple(runs),
            contexts=tuple(contexts),
            free_contexts=free,
            sent=sent,
            more=taken.more or portion.runs in (free, sent),
        )


class _Taken:
    """What a transaction takes on, within its portion."""

    def __init__(self, portion: Portion) -> None:
        self._runs, self._rows = portion.runs, portion.rows
        self.more = False

    def take(self, since: Mapping[str, datetime], kept: list[bool]) -> Steps[dict[UUID, str]]:
        """Lock runs that ended in these statuses before these moments, as many as the portion has left."""
        found: dict[UUID, str] = {}
        for status, before in since.items():
            if self._runs < 1 or self._rows < 1:
                self.more = True
                break
            limit = self._runs
            locked = yield Ask("lock_ended", {"status": status, "before": before, "kept": kept, "limit": limit})
            self.more = self.more or len(locked) == limit
            for run_id, size in locked:
                if self._rows < 1:  # the first run goes whole, however large it is
                    self.more = True
                    break
                self._runs, self._rows = self._runs - 1, self._rows - 1 - size
                found[run_id] = status
        return found


def _forget(statement: str, run_ids: list[UUID]) -> Steps[None]:
    if not run_ids:
        return
    yield from note_litter_of_runs(run_ids)
    rows = yield Ask(statement, {"run_ids": run_ids})
    if len(rows) != len(run_ids):
        raise InterferenceError(f"{len(run_ids) - len(rows)} of {len(run_ids)} runs changed under their lock")
