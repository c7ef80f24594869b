"""A checkout in two steps: stock is set aside, then the card is charged, by a bank that may be away."""

from __future__ import annotations

from cnstra import CNS, Axon, Context, Signal, collateral, neuron

cart_sent = collateral("cart.sent", str)
charge_again = collateral("charge.again", str)


class StockAxon(Axon):
    set_aside = collateral("stock.set_aside", str)


class Bank:
    """A bank that can be away."""

    def __init__(self) -> None:
        self.is_away = False
        self.charged: list[str] = []

    def charge(self, cart: str) -> None:
        if self.is_away:
            raise ConnectionError("the bank does not answer")
        self.charged.append(cart)


stock = neuron("stock", StockAxon)
card = neuron("card")


@stock.dendrite(cart_sent)
def set_aside(cart: str, axon: StockAxon, ctx: Context) -> Signal[str]:
    ctx["shelf"] = f"shelf 12, for {cart}"
    return axon.set_aside.create_signal(cart)


# The second way in is for whoever goes on after an error: stock was set aside already, and the context knows where.
@card.dendrite(StockAxon.set_aside, charge_again)
def charge(cart: str, _axon: Axon, ctx: Context) -> None:
    bank: Bank = ctx.services
    bank.charge(cart)
    ctx["receipt"] = f"paid, to be fetched at {ctx['shelf']}"


bank = Bank()
cns = CNS([stock, card], services=bank)
