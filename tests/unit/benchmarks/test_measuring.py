"""Figures: who takes turns with whom, what a ratio is, and what is refused."""

from __future__ import annotations

import pytest

from benchmarks.measuring import Beside, Contestant, Effort, Goal, Race, Spread, WrongResult, run


def contestant(name: str, figures: list[float], turns: list[str], *, beside: str | None = None) -> Contestant:
    """One that says when it is its turn, and gives the figures one after the other."""
    left = iter(figures)

    def take() -> float:
        turns.append(name)
        return next(left)

    others = () if beside is None else (Beside(other=beside),)
    return Contestant(name=name, says="a test", take=take, beside=others)


def test_contestants_take_turns_and_warm_ups_do_not_count() -> None:
    """Whatever slows the machine for a while slows all of them, and first times are nobody's figure."""
    turns: list[str] = []
    race = Race(name="r", unit="u", contestants=(contestant("a", [9, 1, 2], turns), contestant("b", [9, 3, 4], turns)))

    outcome = run(race, rounds=2)

    assert turns == ["a", "b", "a", "b", "a", "b"]
    assert outcome.figures == {"a": Spread(samples=(1, 2)), "b": Spread(samples=(3, 4))}


def test_a_ratio_is_taken_within_each_round() -> None:
    """The machine was half as fast in the second round; the ratio of medians would be another."""
    turns: list[str] = []
    bare, engine = contestant("bare", [100, 50, 90], turns), contestant("engine", [50, 25, 30], turns, beside="bare")

    outcome = run(Race(name="r", unit="u", contestants=(bare, engine), warm_ups=0), rounds=3)

    ratio = outcome.ratio("engine", "bare")
    assert ratio.samples == (0.5, 0.5, 30 / 90)
    assert (ratio.median, ratio.least, ratio.most) == (0.5, 30 / 90, 0.5)


def test_a_race_may_need_fewer_rounds() -> None:
    """What hardly varies is not measured fifteen times."""
    turns: list[str] = []
    race = Race(name="r", unit="u", contestants=(contestant("a", [1, 1], turns),), warm_ups=0, most_rounds=2)

    assert len(run(race, rounds=15).figures["a"].samples) == 2


def test_a_wrong_result_ends_the_race() -> None:
    """There is no outcome with a hole in it."""

    def take() -> float:
        raise WrongResult("half of it is missing")

    race = Race(name="r", unit="u", contestants=(Contestant(name="a", says="a test", take=take),))

    with pytest.raises(WrongResult, match="half of it"):
        run(race, rounds=1)


def test_goals_are_met_at_their_bound() -> None:
    """At least and at most include what they name."""
    assert Goal(at_least=5).is_met_by(5)
    assert not Goal(at_least=5).is_met_by(4.9)
    assert Goal(at_most=5).is_met_by(5)
    assert not Goal(at_most=5).is_met_by(5.1)


@pytest.mark.parametrize("bounds", [{}, {"at_least": 1, "at_most": 2}])
def test_a_goal_has_one_bound(bounds: dict[str, float]) -> None:
    """None would always be met, two would need two verdicts."""
    with pytest.raises(ValueError, match="either"):
        Goal(**bounds)


def test_a_race_refuses_namesakes_and_strangers() -> None:
    """Ratios are by name, so each name is there, and once."""
    turns: list[str] = []
    one = contestant("a", [], turns)

    with pytest.raises(ValueError, match="names of their own"):
        Race(name="r", unit="u", contestants=(one, one))
    with pytest.raises(ValueError, match="no other contestant"):
        Race(name="r", unit="u", contestants=(one, contestant("b", [], turns, beside="c")))


@pytest.mark.parametrize(("rounds", "scale"), [(0, 1.0), (1, 0.0), (1, float("nan"))])
def test_efforts_that_measure_nothing_are_refused(rounds: int, scale: float) -> None:
    """No median of nothing."""
    with pytest.raises(ValueError, match="is"):
        Effort(rounds=rounds, scale=scale)


def test_a_scaled_size_is_never_nothing() -> None:
    """The smallest work is one hop."""
    assert Effort(rounds=1, scale=0.001).size(10) == 1
    assert Effort(rounds=1, scale=0.25).size(1000) == 250
