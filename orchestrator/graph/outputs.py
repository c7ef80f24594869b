"""What a handler returned, as a list of signals that its neuron may emit.

Refused: anything that is no signal, and signals on collaterals that are not in the neuron's axon.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from cnstra.orchestrator.errors import OutputError
from cnstra.orchestrator.graph.axons import axon_collaterals
from cnstra.orchestrator.graph.collaterals import Collateral, Signal
from cnstra.orchestrator.graph.dendrites import Dendrite

# Iterables that a handler never means as several signals.
_NEVER_SEVERAL = (str, bytes, bytearray, Mapping)


def normalise_outputs(dendrite: Dendrite[Any, Any, Any, ..., Any], returned: object) -> list[Signal[Any]]:
    """The signals that ``returned`` stands for: none for None, itself for one, all of an iterable.

    A generator is run to its end, and raises here what it raises. Raises OutputError.
    """
    if returned is None:
        return []
    if isinstance(returned, Signal):
        return [_allowed(dendrite, returned)]
    if inspect.isawaitable(returned):
        raise OutputError(f"{_who(dendrite)} returned an awaitable that was not awaited; make the handler async def")
    if isinstance(returned, _NEVER_SEVERAL) or not isinstance(returned, Iterable):
        raise OutputError(f"{_who(dendrite)} returned {_shown(returned)}; {_ADVICE}")
    return [_item(dendrite, index, item) for index, item in enumerate(returned)]


_ADVICE = "return a signal (axon.<name>.create_signal(payload)), several of them, or None"


def _item(dendrite: Dendrite[Any, Any, Any, ..., Any], index: int, item: object) -> Signal[Any]:
    if not isinstance(item, Signal):
        raise OutputError(f"{_who(dendrite)} returned {_shown(item)} as item {index} of what it returned; {_ADVICE}")
    return _allowed(dendrite, item)


def _allowed(dendrite: Dendrite[Any, Any, Any, ..., Any], signal: Signal[Any]) -> Signal[Any]:
    emits = axon_collaterals(dendrite.neuron.axon)
    for collateral in emits.values():
        if collateral is signal.collateral:
            return signal
    name = signal.collateral.name
    if any(collateral.name == name for collateral in emits.values()):
        raise OutputError(
            f"{_who(dendrite)} returned a signal on another collateral that is named {name!r} too, made at "
            f"{signal.collateral.defined_at}; use the one of its axon"
        )
    raise OutputError(
        f"{_who(dendrite)} returned a signal on {name!r}, which is not in the neuron's axon "
        f"({', '.join(repr(collateral.name) for collateral in emits.values()) or 'it has none'}); add it to "
        "the axon"
    )


def _who(dendrite: Dendrite[Any, Any, Any, ..., Any]) -> str:
    return f"neuron {dendrite.neuron.name!r}, dendrite {dendrite.name} on {dendrite.collateral.name!r}"


def _shown(value: object) -> str:
    if isinstance(value, Collateral):
        return f"the collateral {value.name!r} itself"
    return f"a value of type {type(value).__name__}"
