"""A signal from the words of a command line: a collateral's name, and its payload as JSON."""

from __future__ import annotations

import difflib
import json
import sys
from typing import Any, NoReturn

from cnstra.orchestrator.errors import CnstraError
from cnstra.orchestrator.graph import CNS, Signal, collateral


def signal_of(cns: CNS, name: str, text: str, refuse: type[CnstraError]) -> Signal[Any]:
    """A signal on a collateral that somebody hears, its payload checked. Raises ``refuse``, or ``PayloadError``."""
    known = cns.collateral(name)
    if known is None or not cns.subscribers(name):
        heard = sorted(found for found in cns.collaterals if cns.subscribers(found))
        likely = difflib.get_close_matches(name, heard, n=1)
        raise refuse(
            f"nobody in CNS {cns.name!r} hears a collateral {name!r}; "
            + (f"did you mean {likely[0]!r}?" if likely else f"heard are {', '.join(heard)}")
        )
    return known.create_signal(known.payload.decode(_value(text, refuse)))


def unchecked_signal_of(name: str, text: str, refuse: type[CnstraError]) -> Signal[Any]:
    """A signal on a collateral that is known by its name alone. Raises ``refuse``, or ``GraphError`` for what is no name."""
    anything: Any = collateral(name, Any)
    return anything.create_signal(_value(text, refuse))  # type: ignore[no-any-return]


def _value(text: str, refuse: type[CnstraError]) -> Any:
    text = sys.stdin.read() if text == "-" else text
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except ValueError as error:
        raise refuse(f"the payload is no JSON: {error}; strings need double quotes, as in '\"o-17\"'") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is none of its values")
