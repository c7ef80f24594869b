"""What a handler returned, as a list of signals, scatters and expectations that its neuron may emit.

Refused: anything else, and signals and scatters on collaterals that are not in the neuron's axon. What an expectation
awaits need not be there, because it comes from outside; the signal that it emits when nothing came must.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from cnstra.orchestrator.errors import OutputError
from cnstra.orchestrator.graph.axons import axon_collaterals
from cnstra.orchestrator.graph.collaterals import Collateral, Signal
from cnstra.orchestrator.graph.dendrites import Dendrite, Emission
from cnstra.orchestrator.graph.expectations import Expectation
from cnstra.orchestrator.graph.scatters import Scatter

# Iterables that a handler never means as several signals.
_NEVER_SEVERAL = (str, bytes, bytearray, Mapping)


def normalise_outputs(dendrite: Dendrite[Any, Any, Any, ..., Any], returned: object) -> list[Emission]:
    """What ``returned`` stands for: nothing for None, itself for one emission, all of an iterable.

    A generator is run to its end, and raises here what it raises. Raises OutputError.
    """
    if returned is None:
        return []
    if isinstance(returned, _EMISSIONS):
        return [_allowed(dendrite, returned)]
    if inspect.isawaitable(returned):
        raise OutputError(f"{_who(dendrite)} returned an awaitable that was not awaited; make the handler async def")
    if isinstance(returned, _NEVER_SEVERAL) or not isinstance(returned, Iterable):
        raise OutputError(f"{_who(dendrite)} returned {_shown(returned)}; {_ADVICE}")
    return [_item(dendrite, index, item) for index, item in enumerate(returned)]


_EMISSIONS = (Signal, Scatter, Expectation)
_ADVICE = "return a signal (axon.<name>.create_signal(payload)), a scatter, what ctx.expect() gives, several of these, or None"


def _item(dendrite: Dendrite[Any, Any, Any, ..., Any], index: int, item: object) -> Emission:
    if not isinstance(item, _EMISSIONS):
        raise OutputError(f"{_who(dendrite)} returned {_shown(item)} as item {index} of what it returned; {_ADVICE}")
    return _allowed(dendrite, item)


def _allowed(dendrite: Dendrite[Any, Any, Any, ..., Any], emission: Emission) -> Emission:
    if isinstance(emission, Expectation):
        if emission.on_timeout is not None:
            what = f"an expectation of {emission.collateral.name!r} whose on_timeout= is a signal"
            _check_axon(dendrite, emission.on_timeout.collateral, what)
    else:
        _check_axon(dendrite, emission.collateral, "a scatter" if isinstance(emission, Scatter) else "a signal")
    return emission


def _check_axon(dendrite: Dendrite[Any, Any, Any, ..., Any], wanted: Collateral[Any], what: str) -> None:
    emits = axon_collaterals(dendrite.neuron.axon)
    for collateral in emits.values():
        if collateral is wanted:
            return
    name = wanted.name
    if any(collateral.name == name for collateral in emits.values()):
        raise OutputError(
            f"{_who(dendrite)} returned {what} on another collateral that is named {name!r} too, made at "
            f"{wanted.defined_at}; use the one of its axon"
        )
    raise OutputError(
        f"{_who(dendrite)} returned {what} on {name!r}, which is not in the neuron's axon "
        f"({', '.join(repr(collateral.name) for collateral in emits.values()) or 'it has none'}); add it to "
        "the axon"
    )


def _who(dendrite: Dendrite[Any, Any, Any, ..., Any]) -> str:
    kind = "dendrite" if dendrite.gathering is None else "gather"
    return f"neuron {dendrite.neuron.name!r}, {kind} {dendrite.name} on {dendrite.collateral.name!r}"


def _shown(value: object) -> str:
    if isinstance(value, Collateral):
        return f"the collateral {value.name!r} itself"
    return f"a value of type {type(value).__name__}"
