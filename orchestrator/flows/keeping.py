"""How long what has ended is kept, and its end by hand."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from datetime import timedelta

from cnstra.orchestrator.errors import ConfigurationError
from cnstra.orchestrator.flows.worlds import Flow, Flowing
from cnstra.orchestrator.retention import RULES, KeepOptions, age, prunable, rules_of
from cnstra.orchestrator.store import Portion

_BREATH = 0.01


class Keeping(Flowing):
    """The flows of who decides what is kept."""

    def retention(self) -> Flow[dict[str, timedelta | None]]:
        """How long what has ended is kept, by rule; None is for ever."""
        kept = yield from self._run(self._operations.retention())
        return {what: kept[what] for what in RULES}

    def set_retention(self, options: KeepOptions) -> Flow[None]:
        """Change rules. Raises ``ConfigurationError`` for rules that there are not."""
        rules = rules_of(options)
        if rules:
            yield from self._run(self._operations.set_retention(rules))

    def prune(
        self, older_than: timedelta, statuses: Sequence[str] | None, dry_run: bool, limit: int | None
    ) -> Flow[dict[str, int]]:
        """Delete runs that ended longer ago than that, in short transactions; how many, by status."""
        wanted, long = prunable(statuses), age(older_than)
        if limit is not None and limit < 0:
            raise ConfigurationError(f"limit={limit} is less than nothing")
        before = (yield from self._run(self._operations.now())) - long
        left = limit
        if dry_run:
            counts = yield from self._run(self._operations.count_ended(wanted, before))
            return dict(_first_of(counts, left))
        pruned = dict.fromkeys(wanted, 0)
        portion = Portion()
        while left is None or left > 0:
            runs = portion.runs if left is None else min(left, portion.runs)
            batch = yield from self._run(self._operations.prune(wanted, before, Portion(runs=runs, rows=portion.rows)))
            for _, status in batch.runs:
                pruned[status] += 1
            if not batch.more:
                break
            left = None if left is None else left - len(batch.runs)
            yield self._world.sleep(_BREATH)
        return pruned


def _first_of(counts: Mapping[str, int], limit: int | None) -> Generator[tuple[str, int]]:
    """So many of what was counted, status by status, as they would go."""
    for status, count in counts.items():
        taken = count if limit is None else min(count, limit)
        limit = None if limit is None else limit - taken
        yield status, taken
