"""A storm out of a seed: workers die and stall, hops meet in any order, and a sound saga comes to the same end."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from cnstra import CNS, Context, collateral, neuron
from cnstra.testing import Lab, LabError, LabRun, UnassignedChange
from support.shop import Bank, Order, cns, order_placed

START = datetime(2030, 1, 1, 12, tzinfo=UTC)
ORDERS = [Order("1", 10), Order("2", 20, ("pen",)), Order("3", 30)]


def weathered(seed: int, bank: Bank, **chances: float) -> tuple[Lab, list[LabRun]]:
    """A lab in which three orders have come through a storm."""
    with Lab(cns, services=bank, start=START, seed=0) as lab:
        lab.storm(seed, **chances)
        runs = lab.submit_many([order_placed.create_signal(order) for order in ORDERS])
        for run in runs:
            assert run.wait().status == "completed"
    return lab, runs


@pytest.mark.parametrize("seed", range(20))
def test_a_sound_saga_comes_through_any_storm(seed: int) -> None:
    """What was done more than once was done under the same key; what was committed, once."""
    bank = Bank()
    _, runs = weathered(seed, bank, crash=0.4, stall=0.2)

    assert sorted(bank.charged.values()) == [10, 20, 30]
    for run, order in zip(runs, ORDERS, strict=True):
        assert run.context() == {
            "reserved": list(order.items),
            "charge": f"charge of {order.amount}",
            "parcel": [*order.items, f"charge of {order.amount}"],
            "reminders": 1,
        }
        committed = Counter(call.activation_id for call in run.calls() if call.outcome == "committed")
        assert committed == {1: 1, 2: 1, 3: 1, 4: 1}
        assert {call.outcome for call in run.calls()} <= {"committed", "lost", "refused", "conflicted"}


def test_storms_bring_everything_that_they_say() -> None:
    """Workers die at each point and stall, and hops of different runs are under way at the same time."""
    blows: Counter[str] = Counter()
    outcomes: Counter[str] = Counter()
    turns = 0
    for seed in range(20):
        lab, _ = weathered(seed, Bank())
        blows.update(blow.split()[0] for blow in lab._bench.blows)
        outcomes.update(call.outcome for call in lab.calls())
        order = [call.run_id for call in lab.calls()]
        turns += sum(one != other for one, other in pairwise(order))

    assert set(blows) == {"before_call", "after_call", "after_commit", "stall"}
    assert {"committed", "lost", "refused"} <= set(outcomes)
    assert turns > 100


def test_in_a_storm_successors_go_to_other_workers_too() -> None:
    """Some stay, and some are claimed by whoever comes first; where it is calm, all stay."""
    workers = []
    for seed in range(10):
        _, [run, *_] = weathered(seed, Bank(), crash=0, stall=0)
        workers.append([row["worker"] for row in run.activations()])
    with Lab(cns, services=Bank()) as lab:
        calm = lab.submit(order_placed.create_signal(ORDERS[0]))
        calm.wait()

    pairs = [pair for chain in workers for pair in pairwise(chain[:3])]
    assert {one == other for one, other in pairs} == {True, False}
    assert len({row["worker"] for row in calm.activations()}) == 1


def test_a_storm_that_ends_while_much_is_under_way_leaves_nothing_behind() -> None:
    """An error of the lab cuts a drive off in the middle; what other workers hold goes on, and may still be lost."""
    changer, start = neuron("changer"), collateral("start", int)

    @changer.dendrite(start)
    def change(number: int, axon: Any, ctx: Context) -> None:
        ctx["list"] = [number]
        if number == 5 and ctx.try_number == 1:
            ctx["list"].append(1)

    for seed in range(10):
        with Lab(CNS([changer], name="changer")) as lab:
            lab.storm(seed, crash=0, stall=0)
            runs = lab.submit_many([start.create_signal(number) for number in range(10)])
            with pytest.raises(UnassignedChange):
                lab.run_until_idle()
            lab.calm()
            lab.crash(changer, times=4)
            lab.fail(changer, ValueError(), nth=5)
            for number, run in enumerate(runs):
                assert run.wait().context == {"list": [number]}


def test_the_same_seed_is_the_same_storm() -> None:
    """Call by call, and moment by moment; another seed is another storm."""

    def story(seed: int) -> list[Any]:
        lab, _ = weathered(seed, Bank())
        return [*lab.calls(), *lab._bench.blows]

    stories = [story(seed) for seed in range(5)]

    assert [story(seed) for seed in range(5)] == stories
    assert len({repr(one) for one in stories}) == 5


def test_without_a_seed_ids_are_new_and_all_else_is_the_same() -> None:
    """What keeps idempotency keys, such as a database, can be shared by labs; and a storm is still the same storm."""

    def told(seed: int | None) -> tuple[list[Any], set[Any]]:
        with Lab(cns, services=Bank(), start=START, seed=seed) as lab:
            lab.storm(3)
            runs = lab.submit_many([order_placed.create_signal(order) for order in ORDERS])
            for run in runs:
                run.wait()
        calls = [(call.payload.id, call.neuron, call.try_number, call.at, call.outcome) for call in lab.calls()]
        return calls, {run.id for run in runs}

    (calls, ids), (calls_again, others) = told(None), told(None)

    assert calls == calls_again
    assert not ids & others
    assert told(5) == told(5) != told(6)


def test_a_storm_finds_the_step_that_is_not_safe_to_repeat() -> None:
    """What a user wants of it: a handler that charges without the key is found out within a few seeds."""
    careless = neuron("careless")

    @careless.dendrite(order_placed)
    def charge_without_a_key(order: Order, axon: Any, ctx: Context) -> None:
        ctx.services.append(order.id)

    found = 0
    for seed in range(20):
        charged: list[str] = []
        with Lab(CNS([careless], name="careless"), services=charged) as lab:
            lab.storm(seed)
            lab.submit(order_placed.create_signal(ORDERS[0])).wait()
        found += len(charged) > 1

    assert 0 < found < 20


def test_no_storm_is_so_heavy_that_a_step_is_given_up() -> None:
    """Each call kills its worker, until the next one would be too many."""
    for seed in range(20):
        with Lab(cns, services=Bank()) as lab:
            began = lab.now
            lab.storm(seed, crash=1.0, stall=0.0)
            runs = lab.submit_many([order_placed.create_signal(order) for order in ORDERS])

            while {run.status() for run in runs} != {"completed"}:
                lab.advance(timedelta(seconds=1) if lab.now < began + timedelta(minutes=3) else timedelta(days=30))
                assert "ready" not in {row["status"] for run in runs for row in run.activations()}
            assert max(call.try_number for call in lab.calls()) == 5


def test_an_error_that_leaves_the_lab_names_the_storm() -> None:
    """So that it can be made to blow again."""
    with pytest.raises(ValueError, match="found") as found, Lab(cns, services=Bank()) as lab:
        lab.storm(7, crash=0.5)
        lab.submit(order_placed.create_signal(ORDERS[0])).wait()
        raise ValueError("found")

    [note] = found.value.__notes__
    assert note.startswith("in lab.storm(seed=7, crash=0.5, stall=0.1), which does the same again; its blows:\n  ")
    assert len(note.splitlines()) == 1 + len(lab._bench.blows) > 1


def test_a_storm_without_a_seed_draws_one() -> None:
    """And names it, too."""
    seeds = set()
    for _ in range(2):
        with pytest.raises(ValueError, match="found") as found, Lab(cns) as lab:
            lab.storm()
            raise ValueError("found")
        seeds.add(found.value.__notes__[0])
    assert len(seeds) == 2


def test_after_the_storm_it_is_calm() -> None:
    """One hop at a time, nobody dies; and no error is explained by a storm that is over."""
    with pytest.raises(ValueError, match="calm") as error, Lab(cns, services=Bank()) as lab:
        lab.storm(1, crash=1.0, stall=0.0)
        lab.submit(order_placed.create_signal(ORDERS[0])).wait()
        lab.calm()
        run = lab.submit(order_placed.create_signal(ORDERS[1]))
        run.wait()
        assert [call.outcome for call in run.calls()] == ["committed"] * 4
        raise ValueError("calm")
    assert not hasattr(error.value, "__notes__")


@pytest.mark.parametrize("chances", [{"crash": 1.1}, {"stall": -0.1}, {"crash": 0.6, "stall": 0.6}])
def test_chances_are_from_0_to_1(chances: dict[str, float]) -> None:
    """Both together, too."""
    with Lab(cns) as lab, pytest.raises(LabError, match=r"is no chance|come to more than 1"):
        lab.storm(1, **chances)


def test_a_fan_out_that_joins_by_updates_is_exact_in_any_storm() -> None:
    """No lost update, however the branches meet, and whoever dies."""
    item = collateral("item", int)
    fan, add = neuron("fan", {"item": item}), neuron("add")
    start = collateral("start", int)
    fan.dendrite(start)(lambda count, axon: [axon.item.create_signal(number) for number in range(count)])
    add.dendrite(item)(lambda number, axon, ctx: ctx.update("sum", lambda total: (total or 0) + number))
    for seed in range(20):
        with Lab(CNS([fan, add], name="fan")) as lab:
            lab.storm(seed)
            result = lab.submit(start.create_signal(8)).wait()
            assert (result.status, result.context) == ("completed", {"sum": 28})
