"""Blobs in stores of the user's own that no run refers to: what is to be deleted there, kept until that is done."""

from __future__ import annotations

from collections.abc import Sequence

from cnstra.stores.postgres.transactions import Ask, Steps, operation


class Littering:
    """The operations of a worker that tidies a store of contexts."""

    @operation
    def litter(self, _repeated: bool, place: str, limit: int) -> Steps[list[str]]:
        yield Ask("spare_litter", {"place": place})
        rows = yield Ask("litter", {"place": place, "limit": limit})
        return [key for (key,) in rows]

    @operation
    def litter_gone(self, _repeated: bool, place: str, keys: Sequence[str]) -> Steps[None]:
        yield Ask("litter_gone", {"place": place, "keys": list(keys)})
