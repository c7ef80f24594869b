"""Blobs in stores of the user's own that no run refers to: what is to be deleted there, kept until that is done."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from cnstra.stores.postgres.transactions import Ask, Steps, operation


def note_litter_of_runs(run_ids: Sequence[UUID]) -> Steps[None]:
    """The blobs of runs become litter; a part of the transaction that forgets the runs, before it does."""
    yield Ask("note_litter_of_runs", {"run_ids": list(run_ids)})


class Littering:
    """The operations of a worker that tidies a store of contexts."""

    @operation
    def litter(self, _repeated: bool, place: str, after: timedelta, limit: int) -> Steps[list[str]]:
        rows = yield Ask("litter", {"place": place, "after": after, "limit": limit})
        keys = [key for (key,) in rows]
        if not keys:
            return []
        referred = {key for (key,) in (yield Ask("referred_litter", {"keys": keys}))}
        if referred:
            yield Ask("litter_gone", {"place": place, "keys": sorted(referred)})
        return [key for key in keys if key not in referred]

    @operation
    def litter_gone(self, _repeated: bool, place: str, keys: Sequence[str]) -> Steps[None]:
        yield Ask("litter_gone", {"place": place, "keys": list(keys)})
