"""Both stores of runs tell the same history: the same answers, and the same rows, whatever happens (differential).

``CNSTRA_CHAOS_SEED`` is the first seed of the long ones (a new one each time by default; one that fails is named).
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest

from support.histories import MOODS, History
from support.twins import TwinWorld

_LONG = int(os.environ.get("CNSTRA_CHAOS_HISTORIES", "300"))


@pytest.fixture
def twins(database_url: str) -> Iterator[TwinWorld]:
    """Two empty stores under one clock."""
    world = TwinWorld(database_url)
    yield world
    world.close()


def _play(twins: TwinWorld, mood: str, seed: int, *, steps: int) -> None:
    """One history, of which every answer and every row is compared; then all of its runs come to an end."""
    twins.forget()
    history = History(twins, random.Random(seed), MOODS[mood])
    try:
        for number in range(steps):
            history.step()
            if number % 5 == 0:
                twins.assert_alike()
        history.come_to_an_end()
        twins.assert_alike()
    except BaseException as error:
        error.add_note(f"mood {mood!r}, seed {seed}, after: {'; '.join(history.told)}")
        raise


@pytest.mark.parametrize("mood", MOODS)
def test_both_stores_tell_the_same_history(twins: TwinWorld, mood: str) -> None:
    """A few histories of each mood, always the same ones."""
    for seed in range(4):
        _play(twins, mood, seed, steps=40)


@pytest.mark.chaos
def test_both_stores_tell_the_same_long_histories(twins: TwinWorld) -> None:
    """Hundreds of others."""
    given = os.environ.get("CNSTRA_CHAOS_SEED")
    first = int(given) if given else random.SystemRandom().randrange(1_000_000)
    print(f"histories: CNSTRA_CHAOS_SEED={first} CNSTRA_CHAOS_HISTORIES={_LONG}")
    for seed in range(first, first + _LONG):
        for mood in MOODS:
            _play(twins, mood, seed, steps=60)
