"""What may be sent to runs from outside, checked at the door."""

from __future__ import annotations

from typing import Any

from cnstra.orchestrator.emission import encoded
from cnstra.orchestrator.errors import SendError
from cnstra.orchestrator.graph import CNS, Signal, TimedSignal
from cnstra.orchestrator.graph.expectations import LONGEST_KEY
from cnstra.orchestrator.ports import Entropy


def sendable(cns: CNS | None, signal: Any, where: str) -> str:
    """The text of the payload of a signal that may be sent. Raises ``SendError`` or ``PayloadError``, naming ``where``."""
    if not isinstance(signal, Signal):
        raise SendError(
            f"{where}: send takes a signal, got {type(signal).__name__}; make one: collateral.create_signal(...)"
        )
    name = signal.collateral.name
    if isinstance(signal, TimedSignal):
        raise SendError(f"{where}: a signal on {name!r} that waits cannot be sent; send it when its time has come")
    if cns is not None:
        known = cns.collateral(name)
        if known is None or not cns.subscribers(name):
            raise SendError(
                f"{where}: nobody in CNS {cns.name!r} hears {name!r}, so no run can expect it; add a dendrite"
            )
        if known is not signal.collateral:
            raise SendError(
                f"{where}: collateral {name!r} of the signal is not the one of that name in CNS {cns.name!r}; make the signal "
                "from the graph's own collateral"
            )
    return encoded(signal, where)


def sending_key(given: Any, entropy: Entropy) -> str:
    """An idempotency key as it is given, or a new one. Raises ``SendError``."""
    return str(entropy.run_id()) if given is None else _checked(given, "idempotency_key")


def checked_key(given: Any) -> str:
    """A key by which a signal is sent. Raises ``SendError``."""
    return _checked(given, "key")


def _checked(given: Any, what: str) -> str:
    if not isinstance(given, str) or not given or len(given) > LONGEST_KEY or not given.isprintable():
        raise SendError(f"{what} {given!r} must be a printable string of 1 to {LONGEST_KEY} characters")
    return str.__str__(given)
