"""A collection, its indexes and its subscribers, held against dicts that are worked out anew after every step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from cnstra import ReactiveError
from cnstra.stores.reactive import (
    Collection,
    Database,
    DerivedOrderedIndex,
    DerivedSetIndex,
    ManualScheduler,
    OrderedIndex,
    SetIndex,
)


@dataclass(frozen=True)
class Card:
    id: int
    deck: str | None
    tags: tuple[str, ...]
    rank: Any


IDS = st.integers(0, 7)
KEYS = st.sampled_from("abc")
CARDS = st.builds(
    Card,
    id=IDS,
    deck=st.none() | KEYS,
    tags=st.lists(KEYS, max_size=3).map(tuple),
    rank=st.integers(0, 3),
)


class CollectionWithIndexes(RuleBasedStateMachine):
    """The model: a dict of cards, two dicts of what was filled in, and when each card came under its deck."""

    def __init__(self) -> None:
        super().__init__()
        self.turn = ManualScheduler()
        self.cards: Collection[int, Card] = Collection("id", database=Database(self.turn))
        self.by_deck: DerivedSetIndex[str, int, Card] = DerivedSetIndex(self.cards, "deck")
        self.by_tag: DerivedSetIndex[str, int, Card] = DerivedSetIndex(self.cards, keys="tags")
        self.up: DerivedOrderedIndex[str, int, Card] = DerivedOrderedIndex(self.cards, "deck", order_by="rank")
        self.down: DerivedOrderedIndex[str, int, Card] = DerivedOrderedIndex(
            self.cards, keys="tags", order_by=lambda card: card.rank, descending=True
        )
        self.shown: SetIndex[str, int, Card] = SetIndex(self.cards)
        self.hand: OrderedIndex[str, int, Card] = OrderedIndex(self.cards)

        self.model: dict[int, Card] = {}
        self.shown_model: dict[str, set[int]] = {}
        self.hand_model: dict[str, list[int]] = {}
        self.came: dict[str, dict[int, None]] = {"up": {}, "down": {}}
        # What a subscriber of everything believes, who reads only what it is told of.
        self.believed: dict[int, Card] = {}
        self.believed_order: dict[str, tuple[int, ...]] = {}
        self.touched: set[int] = set()
        self.told: list[set[int]] = []
        self.removers: list[Callable[[], None]] = []
        self.cards.subscribe(self.hear)
        self.up.subscribe(self.hear_order)

    def hear(self, keys: tuple[int, ...]) -> None:
        assert len(set(keys)) == len(keys)
        self.told.append(set(keys))
        for key in keys:
            self.believed.pop(key, None)
            if (card := self.cards.select_by_primary_key(key)) is not None:
                self.believed[key] = card

    def hear_order(self, decks: tuple[str, ...]) -> None:
        for deck in decks:
            self.believed_order[deck] = self.up.primary_keys(deck)

    # -- what is done ----------------------------------------------------------------------------------------------

    def put(self, cards: list[Card]) -> None:
        for card in {card.id: card for card in cards}.values():
            self.touched.add(card.id)
            self.model[card.id] = card
            self.stands("up", card.id, card.deck is not None)
            self.stands("down", card.id, bool(card.tags))

    def stands(self, index: str, key: int, somewhere: bool) -> None:
        if not somewhere:
            self.came[index].pop(key, None)
        else:
            self.came[index].setdefault(key)

    def take(self, keys: list[int]) -> None:
        for key in keys:
            if self.model.pop(key, None) is not None:
                self.touched.add(key)
                for came in self.came.values():
                    came.pop(key, None)
                for shown in self.shown_model.values():
                    shown.discard(key)
                for hand in self.hand_model.values():
                    if key in hand:
                        hand.remove(key)

    @rule(card=CARDS)
    def upsert_one(self, card: Card) -> None:
        assert self.cards.upsert_one(card) is card
        self.put([card])

    @rule(cards=st.lists(CARDS, max_size=6))
    def upsert_many(self, cards: list[Card]) -> None:
        self.cards.upsert_many(cards)
        self.put(cards)

    @precondition(lambda self: any(card.deck for card in self.model.values()))
    @rule(cards=st.lists(CARDS, max_size=3), key=IDS, data=st.data())
    def upsert_one_that_is_refused(self, cards: list[Card], key: int, data: st.DataObject) -> None:
        """Its rank compares with no other; whatever came before it in the same write is not in, either."""
        decks = sorted({card.deck for card in self.model.values() if card.deck and card.id != key})
        kept = [
            deck
            for deck in decks
            if any(c.deck == deck and c.id not in {key, *(x.id for x in cards)} for c in self.model.values())
        ]
        if not kept:
            return
        odd = Card(key, data.draw(st.sampled_from(kept)), (), "high")
        with pytest.raises(ReactiveError):
            self.cards.upsert_many([*cards, odd])

    @rule(key=IDS)
    def remove(self, key: int) -> None:
        assert self.cards.remove(key) == self.model.get(key)
        self.take([key])

    @rule(keys=st.lists(IDS, max_size=5))
    def remove_many(self, keys: list[int]) -> None:
        assert self.cards.remove_many(keys) == len(set(keys) & set(self.model))
        self.take(keys)

    @rule()
    def clear(self) -> None:
        self.cards.clear()
        self.take(list(self.model))

    @rule(key=KEYS, ids=st.lists(IDS, max_size=4), how=st.sampled_from(["add", "discard", "replace"]))
    def fill_set(self, key: str, ids: list[int], how: str) -> None:
        old = self.shown_model.setdefault(key, set())
        if how == "replace":
            self.shown.replace(key, ids)
            self.shown_model[key] = set(ids)
        elif how == "add":
            self.shown.add(key, *ids)
            old.update(ids)
        else:
            self.shown.discard(key, *ids)
            old.difference_update(ids)

    @rule(key=KEYS, ids=st.lists(IDS, max_size=4, unique=True), how=st.sampled_from(["append", "remove", "replace"]))
    def fill_list(self, key: str, ids: list[int], how: str) -> None:
        old = self.hand_model.setdefault(key, [])
        if how == "replace":
            self.hand.replace(key, ids)
            old[:] = ids
        elif how == "append":
            self.hand.append(key, *ids)
            old += [number for number in ids if number not in old]
        else:
            self.hand.remove(key, *ids)
            old[:] = [number for number in old if number not in ids]

    @rule(key=KEYS, position=st.integers(-6, 6), number=IDS)
    def insert(self, key: str, position: int, number: int) -> None:
        old = self.hand_model.setdefault(key, [])
        self.hand.insert(key, position, number)
        if number in old:
            old.remove(number)
        old.insert(position, number)

    @rule(key=IDS)
    def subscribe(self, key: int) -> None:
        self.removers.append(self.cards.subscribe_key(key, lambda keys: self.expect_alone(keys, key)))

    def expect_alone(self, keys: tuple[int, ...], key: int) -> None:
        assert keys == (key,)

    @precondition(lambda self: self.removers)
    @rule()
    def unsubscribe(self) -> None:
        self.removers.pop(0)()

    @rule()
    def flush(self) -> None:
        self.turn.flush()
        assert self.told == ([self.touched] if self.touched else [])
        assert self.believed == self.model
        ordered = {deck: keys for deck, keys in self.believed_order.items() if keys}
        assert ordered == {deck: self.up.primary_keys(deck) for deck in "abc" if self.up.count(deck)}
        self.told, self.touched = [], set()

    # -- what must hold --------------------------------------------------------------------------------------------

    @invariant()
    def the_entities_are_those_of_the_model(self) -> None:
        assert {card.id: card for card in self.cards} == self.model
        assert len(self.cards) == len(self.model)

    @invariant()
    def derived_sets_are_those_of_the_model(self) -> None:
        decks, tags = dict[str, set[int]](), dict[str, set[int]]()
        for card in self.model.values():
            if card.deck is not None:
                decks.setdefault(card.deck, set()).add(card.id)
            for tag in card.tags:
                tags.setdefault(tag, set()).add(card.id)
        assert {key: set(self.by_deck.primary_keys(key)) for key in self.by_deck.keys()} == decks  # noqa: SIM118
        assert {key: set(self.by_tag.primary_keys(key)) for key in self.by_tag.keys()} == tags  # noqa: SIM118

    @invariant()
    def derived_orders_are_those_of_the_model(self) -> None:
        for key in "abc":
            up = [number for number in self.came["up"] if self.model[number].deck == key]
            down = [number for number in self.came["down"] if key in self.model[number].tags]
            assert self.up.primary_keys(key) == tuple(sorted(up, key=lambda number: self.model[number].rank))
            assert self.down.primary_keys(key) == tuple(sorted(down, key=lambda number: -self.model[number].rank))

    @invariant()
    def filled_indexes_are_those_of_the_model(self) -> None:
        shown = {key: found for key, found in self.shown_model.items() if found}
        hand = {key: tuple(found) for key, found in self.hand_model.items() if found}
        assert {key: self.shown.primary_keys(key) for key in self.shown.keys()} == shown  # noqa: SIM118
        assert {key: self.hand.primary_keys(key) for key in self.hand.keys()} == hand  # noqa: SIM118


CollectionWithIndexes.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
test_indexes_follow_whatever_is_done = CollectionWithIndexes.TestCase
