"""The warehouse, as the shop sees it: shelves of goods, reservations and parcels.

It does a thing once by key. What is undone is asked for by the order: there may be nothing to undo. An account is a shelf, or
the road, where parcels are.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from order_approval.books import Book, close, is_closed, post, standing

NOWHERE = "Nowhere 1"
"""An address to which nothing can be sent."""

book = Book("warehouse")


class SoldOut(Exception):
    """There is not enough on the shelf."""


class CannotShip(Exception):
    """The parcel cannot be sent to where it is to go."""


def stock_up(goods: Mapping[str, int]) -> None:
    """Fill the shelves: item to quantity."""
    with book.transaction() as connection:
        for item, quantity in goods.items():
            post(connection, f"shelf of {item}", "delivery", "delivery", quantity)


def reserve(order_id: str, item: str, quantity: int, *, key: str) -> None:
    """Take goods off their shelf, once by ``key``. Raises ``SoldOut``, and ``ConnectionError`` when nobody knows."""

    def do(connection: sqlite3.Connection) -> str:
        row = connection.execute(
            "select coalesce(sum(amount), 0) from entry where account = ?", [f"shelf of {item}"]
        ).fetchone()
        if row[0] < quantity or is_closed(connection, order_id):
            raise SoldOut(f"{row[0]} of {item} are there, and order {order_id} needs {quantity}")
        post(connection, f"shelf of {item}", order_id, "reservation", -quantity)
        post(connection, "reserved", order_id, "reservation", quantity)
        return item

    book.once(key, f"reserve {order_id}", do)


def release(order_id: str, *, key: str) -> None:
    """Put back what was taken for an order, if anything was; once by ``key``. Raises ``ConnectionError``."""

    def do(connection: sqlite3.Connection) -> str:
        close(connection, order_id)
        taken = connection.execute(
            "select account, -sum(amount) from entry where order_id = ? and account like 'shelf of %' group by account",
            [order_id],
        ).fetchall()
        for shelf, quantity in taken:
            post(connection, shelf, order_id, "release", quantity)
            post(connection, "reserved", order_id, "release", -quantity)
        return "released"

    book.once(key, f"release {order_id}", do)


def ship(order_id: str, address: str, *, key: str) -> str:
    """Send what was reserved for an order, once by ``key``; the parcel's id. Raises ``CannotShip``, ``ConnectionError``."""

    def do(connection: sqlite3.Connection) -> str:
        quantity = standing(connection, "reserved", order_id)
        if address == NOWHERE or not quantity or is_closed(connection, order_id):
            raise CannotShip(f"order {order_id} cannot be sent to {address}")
        post(connection, "reserved", order_id, "parcel", -quantity)
        post(connection, "road", order_id, "parcel", quantity)
        return f"parcel-of-{order_id}"

    return book.once(key, f"ship {order_id}", do)


def call_back(order_id: str, *, key: str) -> None:
    """Have the parcel of an order come back, if one has left; once by ``key``. Raises ``ConnectionError``."""

    def do(connection: sqlite3.Connection) -> str:
        close(connection, order_id)
        quantity = standing(connection, "road", order_id)
        if quantity:
            post(connection, "road", order_id, "return", -quantity)
            post(connection, "reserved", order_id, "return", quantity)
        return "called back" if quantity else "nothing to call back"

    book.once(key, f"call_back {order_id}", do)
