"""The payment provider, as the shop sees it: a company elsewhere, which charges cards and refunds.

It does a thing once by key. A refund is asked for by the order: it gives back what was charged, if anything was, and takes no
charge for that order any more. Two cards are for trying out what goes wrong.
"""

from __future__ import annotations

import sqlite3

from order_approval.books import Book, close, is_closed, post, standing

DECLINED = "4000-declined"
SILENT = "4000-silent"
"""It is charged, and the answer is lost, every time."""

book = Book("provider")


class CardDeclined(Exception):
    """The card was not charged, and calling again will not change that."""


def charge(order_id: str, card: str, amount: int, *, key: str) -> str:
    """Charge a card, once by ``key``; the charge's id.

    Raises ``CardDeclined``, and ``ConnectionError`` when nobody knows whether the card was charged.
    """

    def do(connection: sqlite3.Connection) -> str:
        if card == DECLINED or is_closed(connection, order_id):
            raise CardDeclined(f"the card of order {order_id} is declined")
        post(connection, "till", order_id, "charge", amount)
        return f"charge-of-{order_id}"

    answer = book.once(key, f"charge {order_id}", do)
    if card == SILENT:
        raise ConnectionError("the provider's answer was lost, as always with this card")
    return answer


def refund(order_id: str, *, key: str) -> None:
    """Give back what was charged for an order, if anything was; once by ``key``. Raises ``ConnectionError``."""

    def do(connection: sqlite3.Connection) -> str:
        close(connection, order_id)
        charged = standing(connection, "till", order_id)
        if charged:
            post(connection, "till", order_id, "refund", -charged)
        return "refunded" if charged else "nothing to refund"

    book.once(key, f"refund {order_id}", do)
