"""The suite of the in-process engine notices when a run did not do its work.

The engine is spoiled in ways that raise no error; whoever races with it must refuse to give a figure. (What has a ratio is
the engine; what has none are the bare loops.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from benchmarks.measuring import Contestant, Effort, WrongResult
from benchmarks.suites.in_process import races
from cnstra import CNS

EFFORT = Effort(rounds=1, scale=0.001)
Start = Callable[..., Any]


def all_contestants() -> list[tuple[str, Contestant]]:
    """Each contestant of each race, at the smallest size."""
    return [
        (f"{race.name}: {contestant.name}", contestant) for race in races(EFFORT) for contestant in race.contestants
    ]


CONTESTANTS = all_contestants()
OF_THE_ENGINE = [named for named in CONTESTANTS if named[1].beside]


def ids(given: list[tuple[str, Contestant]]) -> Iterator[str]:
    return (name for name, _ in given)


@pytest.mark.parametrize(("name", "contestant"), CONTESTANTS, ids=ids(CONTESTANTS))
def test_every_contestant_gives_a_figure(name: str, contestant: Contestant) -> None:
    """Each one does its work as it is."""
    assert contestant.take() > 0
    assert contestant.says


def nothing_is_begun(start: Start) -> Start:
    """An engine that loses the first signal, and ends well."""
    return lambda cns, signal, **options: start(cns, [], **options)


def everything_is_done_twice(start: Start) -> Start:
    """An engine that doubles the first signal."""
    return lambda cns, signal, **options: start(cns, [signal, signal], **options)


@pytest.mark.parametrize("spoil", [nothing_is_begun, everything_is_done_twice])
@pytest.mark.parametrize(("name", "contestant"), OF_THE_ENGINE, ids=ids(OF_THE_ENGINE))
def test_a_run_that_did_other_work_has_no_figure(
    name: str, contestant: Contestant, spoil: Callable[[Start], Start], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Less work, or more, raises no error in the engine; the suite sees it all the same."""
    for start in ("run", "stimulate"):
        monkeypatch.setattr(CNS, start, spoil(getattr(CNS, start)))

    with pytest.raises(WrongResult):
        contestant.take()


def test_a_listener_that_is_not_told_has_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    """To forget listeners would be the quickest way to tell them."""
    [listened] = [contestant for name, contestant in CONTESTANTS if name.endswith("cns.run, one listener")]
    run: Start = CNS.run
    monkeypatch.setattr(CNS, "run", lambda cns, signal, **_: run(cns, signal))

    with pytest.raises(WrongResult, match="was told of 0 responses"):
        listened.take()


def test_a_context_that_is_not_written_has_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the handlers wrote is looked for in the store that they were given."""
    [writing] = [contestant for name, contestant in CONTESTANTS if name.endswith("ctx[key] = value")]
    run: Start = CNS.run
    monkeypatch.setattr(CNS, "run", lambda cns, signal, **_: run(cns, signal))

    with pytest.raises(WrongResult, match="version 0"):
        writing.take()
