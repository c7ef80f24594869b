"""The names that a graph gives out, and what a name may look like.

Names travel into SQL, logs, metrics, command lines and broker queues, so they are checked once, here, when a
part of the graph is made. Refused: anything but a string, an empty one, one of more than 200 characters,
control characters and others that cannot be printed, spaces at either end; and for queues, what the broker
would refuse later or take for one of its own queues.
"""

from __future__ import annotations

import re

from cnstra.orchestrator.errors import GraphError

LONGEST_NAME = 200
_QUEUE = re.compile(r"[a-zA-Z_][a-zA-Z0-9._-]*")
_BROKERS_OWN_SUFFIXES = (".DQ", ".XQ")


def check_name(name: object, what: str) -> str:
    """Give ``name`` back if it can be the name of a ``what`` ("collateral", "neuron" …), else raise
    GraphError.
    """
    if not isinstance(name, str):
        raise GraphError(f"the name of a {what} must be a string, got {type(name).__name__}: {_cut(name)}")
    if not name:
        raise GraphError(f"the name of a {what} is empty; give it a name of 1 to {LONGEST_NAME} characters")
    if len(name) > LONGEST_NAME:
        raise GraphError(
            f"the name of {what} {_cut(name)} has {len(name)} characters; shorten it to {LONGEST_NAME} or fewer"
        )
    if name != name.strip():
        raise GraphError(f"the name of {what} {name!r} begins or ends with a space; remove it")
    if not name.isprintable():
        raise GraphError(f"the name of {what} {name!r} holds a character that cannot be printed; remove it")
    return str(name)


def check_queue(name: object, where: str) -> str:
    """Give ``name`` back if the broker takes it as the name of a queue, else raise GraphError naming
    ``where``.
    """
    if not isinstance(name, str):
        raise GraphError(f"{where}: queue= must be a string, got {type(name).__name__}: {_cut(name)}")
    if not _QUEUE.fullmatch(name) or len(name) > LONGEST_NAME:
        raise GraphError(
            f"{where}: queue={_cut(name)} is no name that the broker takes; begin with a letter or _, go on "
            f"with letters, digits, dots, _ and -, at most {LONGEST_NAME} characters"
        )
    if name.endswith(_BROKERS_OWN_SUFFIXES):
        raise GraphError(f"{where}: queue={name!r} ends as the broker's own queues do (.DQ, .XQ); rename it")
    return str(name)


def _cut(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
