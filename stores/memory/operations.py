"""Operations as functions of the store's state, to be carried out under its lock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Concatenate, Generic, ParamSpec, TypeVar, cast

from cnstra.stores.memory.state import State

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
P = ParamSpec("P")
S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class MemoryOperation(Generic[T_co]):
    """One operation that has not begun yet."""

    name: str
    carry_out: Callable[[State], T_co]

    def result_type(self) -> T_co:
        raise NotImplementedError("an operation is given to a runner")


def operation(method: Callable[Concatenate[S, State, P], T]) -> Callable[Concatenate[S, P], MemoryOperation[T]]:
    """Makes a method, whose first argument is the state that it works on, into one that gives the operation.

    The method decides everything before it changes anything, so that an error leaves the state as it was.
    """

    @wraps(method)
    def prepare(self: S, *args: P.args, **kwargs: P.kwargs) -> MemoryOperation[T]:
        return MemoryOperation(method.__name__, lambda state: method(self, state, *args, **kwargs))

    return cast("Callable[Concatenate[S, P], MemoryOperation[T]]", prepare)
