"""Going on after an error: the store is kept from the response that tells of it, and given to another stimulation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cnstra import Response, StimulationFailed
from context_stores.checkout import bank, cart_sent, charge_again, cns


def check_out(cart: str, create_context_store: Callable[[], Any]) -> Any:
    """Send a cart while the bank is away, and charge it again when the bank is back. Gives what the context knows."""
    saved: list[Any] = []

    def keep(response: Response) -> None:
        if response.error is not None:
            saved.append(response.context_store)

    bank.is_away = True
    try:
        cns.run(cart_sent.create_signal(cart), create_context_store=create_context_store, on_response=keep)
    except StimulationFailed:
        bank.is_away = False
        cns.run(charge_again.create_signal(cart), ctx=saved[0])
    return saved[0].get()
