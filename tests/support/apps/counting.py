"""A graph whose runs write one version of their context a step, down to none."""

from __future__ import annotations

from typing import Any

from cnstra import CNS, Context, collateral, neuron

begin = collateral("begin", int)
out = {"on": collateral("on", int), "done": collateral("done", int)}
counter = neuron("counter", out)


@counter.dendrite(begin)
@counter.dendrite(out["on"])
def count(number: int, axon: Any, ctx: Context[Any]) -> Any:
    """Write how many steps are left, and go on."""
    ctx["left"] = number
    return axon.on.create_signal(number - 1) if number else axon.done.create_signal(0)


cns = CNS([counter], name="counting")
