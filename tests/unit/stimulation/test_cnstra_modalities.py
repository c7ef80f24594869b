"""Modalities: dendrites that choose their handler by the scenario of the stimulation."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cnstra import (
    CNS,
    AfferentPath,
    Axon,
    Context,
    GraphError,
    Modality,
    StimulationFailed,
    afferent_path,
    collateral,
    modality,
    neuron,
)
from support.stimulating import Told, end_of, ended_well, in_a_loop


class Cards(Axon):
    made = collateral("card.made", str)


make = collateral("card.make", str)
button, onboarding = afferent_path(), afferent_path()
cards = modality(button=button, onboarding=onboarding)
from_api = afferent_path()
decks = modality(api=from_api)


def send(card: str, axon: Cards) -> Any:
    return axon.made.create_signal(card)


def cards_by(**options: Any) -> CNS:
    """A graph of one neuron that makes cards, by modality; ``output=send`` unless the test says otherwise."""
    made = neuron("cards", Cards)
    made.modality_dendrite(make, **{"modality": cards, "output": send, **options})
    return CNS([made])


def made_by(cns: CNS, **options: Any) -> list[str]:
    told = Told()
    ended_well(cns.stimulate(make.create_signal("x"), on_response=told, **options))
    return told.payloads("card.made")


# -- afferent paths and modalities -----------------------------------------------------------------------------------


def test_an_afferent_path_is_known_by_its_object() -> None:
    """Two of them are two; each may have a parent, and the parent's is not its own."""
    root = afferent_path()
    child = afferent_path(root)
    grandchild = afferent_path(parent=child)

    assert root.parent is None
    assert child.parent is root
    assert grandchild.parent is child
    assert afferent_path() != afferent_path()
    assert len({root, child, grandchild}) == 3
    with pytest.raises(GraphError, match="parent"):
        afferent_path(cards)  # type: ignore[arg-type]


def test_a_modality_has_its_paths_by_key() -> None:
    """As attributes, as items, and as a mapping; a key that it does not have is an AttributeError that says what there is."""
    assert isinstance(cards, Modality)
    assert cards.button is button
    assert cards["onboarding"] is onboarding
    assert dict(cards.afferent_paths) == {"button": button, "onboarding": onboarding}
    with pytest.raises(AttributeError, match="button, onboarding"):
        _ = cards.missing


def test_a_modality_may_be_of_one_path_of_none_or_of_a_family() -> None:
    """Parents and children may stand side by side."""
    root = afferent_path()
    child = afferent_path(root)

    assert dict(modality(main=root).afferent_paths) == {"main": root}
    assert dict(modality({}).afferent_paths) == {}
    family = modality(root=root, child=child)
    assert family.child.parent is family.root


def test_a_modality_may_have_keys_that_are_no_names() -> None:
    """Numbers, say, from a dict."""
    first, second = afferent_path(), afferent_path()
    numbered = modality({0: first, 1: second})

    assert (numbered[0], numbered[1]) == (first, second)
    with pytest.raises(GraphError, match="afferent path"):
        modality({0: "no path"})  # type: ignore[dict-item]


def test_a_modality_does_not_change() -> None:
    """Its mapping is read-only, and what it was made of may change without it."""
    given: dict[Any, AfferentPath] = {"a": afferent_path()}
    made = modality(given)
    given["b"] = afferent_path()

    assert list(made.afferent_paths) == ["a"]
    with pytest.raises(TypeError):
        made.afferent_paths["c"] = afferent_path()  # type: ignore[index]


# -- which handler answers -------------------------------------------------------------------------------------------


def test_the_handler_of_the_afferent_path_answers() -> None:
    """Each path has its own, and what it returns goes through the one output function."""
    cns = cards_by(paths={button: lambda text: f"real {text}", onboarding: lambda text: f"tutorial {text}"})

    assert made_by(cns, modality=cards, afferent_path=button) == ["real x"]
    assert made_by(cns, modality=cards, afferent_path=cards.onboarding) == ["tutorial x"]


def test_the_default_answers_where_the_path_has_no_handler() -> None:
    """The path is one of the modality's, and was given none."""
    cns = cards_by(paths={button: lambda text: "never"}, default=lambda text: f"default {text}")

    assert made_by(cns, modality=cards, afferent_path=onboarding) == ["default x"]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"modality": cards, "afferent_path": onboarding}, "no handler found for the afferent path"),
        ({"modality": decks, "afferent_path": from_api}, "no handler found for the modality"),
        ({}, "no handler found for the modality"),
    ],
    ids=["path without handler", "other modality", "no modality"],
)
@in_a_loop
async def test_without_handler_and_default_the_task_fails(options: Any, problem: str) -> None:
    """Nothing is guessed: the failed task says what was not found."""
    cns = cards_by(paths={button: lambda text: "never"})

    stimulation = cns.stimulate(make.create_signal("x"), **options)

    assert isinstance(await end_of(stimulation), StimulationFailed)
    [failure] = stimulation.failed_tasks
    assert problem in str(failure.error)
    assert failure.aborted is False


@pytest.mark.parametrize("options", [{"modality": decks, "afferent_path": from_api}, {}], ids=["other", "none"])
def test_the_default_answers_where_the_modality_is_another_or_none(options: Any) -> None:
    """A dendrite need not know every scenario of the flow that it is part of."""
    cns = cards_by(paths={button: lambda text: "never"}, default=lambda text: f"default {text}")

    assert made_by(cns, **options) == ["default x"]


@in_a_loop
async def test_handlers_of_paths_may_be_async() -> None:
    """The output function gets what was awaited, and may be async itself."""

    async def answer(text: str) -> str:
        await asyncio.sleep(0)
        return f"async {text}"

    async def output(card: str, axon: Cards, ctx: Context) -> Any:
        await asyncio.sleep(0)
        assert ctx.afferent_path is button
        return axon.made.create_signal(card)

    told = Told()
    stimulation = cards_by(paths={button: answer}, output=output).stimulate(
        make.create_signal("x"), modality=cards, afferent_path=button, on_response=told
    )
    await stimulation.wait_until_complete()

    assert told.payloads("card.made") == ["async x"]


def test_one_dendrite_may_know_several_modalities() -> None:
    """Each with its own paths."""
    cns = cards_by(modality=[cards, decks], paths={button: lambda _: "by button", from_api: lambda _: "by api"})

    assert made_by(cns, modality=cards, afferent_path=button) == ["by button"]
    assert made_by(cns, modality=decks, afferent_path=from_api) == ["by api"]


def test_each_modality_may_have_a_default_of_its_own() -> None:
    """It goes before the common one, for paths without a handler and for paths that are none of the modality's."""
    cns = cards_by(
        modality=[cards, decks],
        paths={button: lambda _: "by button"},
        default={cards: lambda _: "some card", decks: lambda _: "some deck", None: lambda _: "anything"},
    )

    assert made_by(cns, modality=cards, afferent_path=afferent_path()) == ["some card"]
    assert made_by(cns, modality=decks, afferent_path=from_api) == ["some deck"]
    assert made_by(cns, modality=modality(a=afferent_path())) == ["anything"]
    assert made_by(cns) == ["anything"]


def test_a_parent_does_not_answer_for_its_child() -> None:
    """Handlers are found by the very path; a parent says where a path belongs, to people."""
    child = afferent_path(button)
    family = modality(button=button, child=child)
    cns = cards_by(modality=family, paths={button: lambda _: "parent"}, default=lambda _: "default")

    assert made_by(cns, modality=family, afferent_path=child) == ["default"]


def test_handlers_see_their_modality_and_path() -> None:
    """In any handler, of modality dendrites and of others; None where the stimulation has none."""
    seen: list[Any] = []
    plain = neuron("plain", Cards)
    plain.dendrite(make)(lambda _, axon, ctx: seen.append((ctx.modality, ctx.afferent_path)))
    cns = CNS([plain])

    cns.stimulate(make.create_signal("x"), modality=cards, afferent_path=button)
    cns.stimulate(make.create_signal("x"))

    assert seen == [(cards, button), (None, None)]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"modality": []}, "modality="),
        ({"modality": "cards"}, "modality="),
        ({"paths": {from_api: send}}, "none of the modalities"),
        ({"paths": {"button": send}}, "keys are afferent paths"),
        ({"paths": [button]}, "takes a dict"),
        ({"default": {decks: send}}, "none of its modalities"),
        ({"output": None}, "output"),
    ],
)
def test_a_modality_dendrite_that_could_not_answer_is_refused_when_it_is_made(options: Any, problem: str) -> None:
    """A path of a modality that the dendrite does not know would never be asked for."""
    with pytest.raises(GraphError, match=problem):
        cards_by(**options)
