"""Load whose steps are in the database: bookings that come one after the other, of which each is to be there once."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

from cnstra import Run
from support import bank
from support.customers import Customers
from support.hosts.outpost import Outpost
from support.soundness import assert_sound
from support.stage import PATIENCE

_AMOUNT = 3
_CLOSELY = 100


class Bookings:
    """Submitted from this machine without a pause, as long as ``coming`` lasts; a seed decides of which colour they are."""

    def __init__(self, outpost: Outpost, seed: int) -> None:
        self._outpost = outpost
        self._stage = outpost.stage
        self._random = random.Random(seed)
        self._client = outpost.stage.client(bank.bank)
        self._customers = Customers(outpost.stage.database_url, self._ask)
        bank.tables(outpost.stage.database_url)

    @contextmanager
    def coming(self) -> Iterator[None]:
        """Let them come while the block lasts."""
        with self._customers.coming(), self._outpost.telling():
            yield

    def move_on(self, bookings: int) -> None:
        """Wait until so many more are done."""
        self._customers.move_on(bookings, PATIENCE)

    def assert_all_booked_once(self) -> None:
        """Wait for all of them. Each is booked once, and the account has the sum."""
        runs = self._customers.runs
        with self._outpost.telling():
            self._stage.all_completed(runs)
        booked = [(row["key"], row["amount"]) for row in self._stage.rows("select key, amount from booking")]
        assert sorted(booked) == sorted((f"{run.id}:2:do", _AMOUNT) for run in runs)
        assert self._stage.row("select balance from account")["balance"] == _AMOUNT * len(runs)
        for run in self._random.sample(runs, min(_CLOSELY, len(runs))):
            assert_sound(self._stage, run.id)

    def _ask(self, number: int) -> Run:
        colour = self._random.choice(["sync", "async"])
        order: bank.Order = {"amount": _AMOUNT, "colour": colour}
        return self._client.submit(bank.asked.create_signal(order), idempotency_key=f"booking {number}")
