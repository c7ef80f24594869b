"""Objects that do not change once they are built, and where in the user's code they were built.

Reading an attribute stays a plain slot read, because a graph is read on every hop; only writing is refused.
"""

from __future__ import annotations

import sys
from typing import Any, NoReturn

_OUR_CODE = __name__.rpartition(".")[0]


class Fixed:
    """A base for the graph's parts: ``_build`` fills the slots, assigning to them later raises
    AttributeError.
    """

    __slots__ = ()

    def _build(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{self!r} is fixed: its attribute {name!r} cannot be set")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{self!r} is fixed: its attribute {name!r} cannot be deleted")


def calling_place() -> str:
    """``file:line`` of the nearest caller outside of this package, for messages that say where a thing
    stands.
    """
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(_OUR_CODE):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
