"""One graph as workers of different releases have it: the shop, older and newer under one name, and its two editions, each of
which has a version.
"""

from __future__ import annotations

from typing import Any

from cnstra import CNS, Axon, Context, Signal, collateral, neuron
from support.handlers import enter

# -- shop: of two ages, and of two versions ----------------------------------------------------------------------------


class SellAxon(Axon):
    sold = collateral("shop.sold", int)


sell_it = collateral("shop.sell", int)
wrap_it = collateral("shop.wrap", int)
seller = neuron("seller", SellAxon)
wrapper = neuron("wrapper", {"wrapped": collateral("shop.wrapped", int)})


@seller.dendrite(sell_it)
def sell(number: int, axon: SellAxon, ctx: Context) -> Signal[int]:
    enter(ctx)
    return axon.sold.create_signal(number)


@wrapper.dendrite(wrap_it)
def wrap(number: int, axon: Any, ctx: Context) -> Signal[int]:
    enter(ctx)
    return axon.wrapped.create_signal(number)


old_shop = CNS([seller], name="shop")
new_shop = CNS([seller, wrapper], name="shop")
first_edition = CNS([seller], name="editions", version="1")
second_edition = CNS([seller, wrapper], name="editions", version="2")
