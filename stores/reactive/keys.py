"""Keys of entities: read from a field, from several, or by a function of the user's.

Owns the way from an entity to its key. Refuses names that cannot be fields, at once, and entities that lack the field, when
they come. Keys of several fields are tuples, and equal by content.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Any, TypeVar

from cnstra.orchestrator.errors import ReactiveError

K = TypeVar("K")


def key_reader(key: Callable[[Any], Any] | str | Sequence[str], source: str) -> Callable[[Any], Any]:
    """The function from an entity to its key. Fields are items of a dict, and attributes of anything else."""
    if isinstance(key, str):
        return _field(key, source)
    if callable(key):
        return key
    if isinstance(key, Sequence) and key and all(isinstance(name, str) for name in key):
        fields = [_field(name, source) for name in key]
        return lambda entity: tuple([read(entity) for read in fields])
    raise ReactiveError(
        f"{source}: a key is the name of a field, a tuple of such names, or a function of the entity; "
        f"not a {type(key).__name__}" + ("" if key else " without names")
    )


def several(keys: Callable[[Any], Iterable[Any]] | str, source: str) -> Callable[[Any], Iterable[Any]]:
    """The function from an entity to its keys, of which there may be many or none."""
    if not isinstance(keys, str) and not callable(keys):
        raise ReactiveError(
            f"{source}: keys= is the name of a field that holds several keys, or a function that gives them; "
            f"not a {type(keys).__name__}"
        )
    read = key_reader(keys, source)

    def read_several(entity: Any) -> Iterable[Any]:
        found = read(entity)
        if isinstance(found, str | bytes) or not isinstance(found, Iterable):
            raise ReactiveError(
                f"{source}: keys= gave a {type(found).__name__} for a {type(entity).__name__}, where an iterable of keys "
                "is wanted; use key= for a single one"
            )
        return found

    return read_several


def checked_key(key: K, source: str) -> K:
    """A key that can be looked up. Raises ``ReactiveError`` for any other."""
    try:
        hash(key)
    except TypeError:
        raise ReactiveError(
            f"{source}: a key of type {type(key).__name__} cannot be hashed; use a str, an int or a tuple of such"
        ) from None
    return key


def listed_keys(keys: Iterable[K], source: str) -> list[K]:
    """Several keys. A lone str, which would be taken for its letters, raises ``ReactiveError``."""
    if isinstance(keys, str | bytes):
        raise ReactiveError(f"{source}: several keys are wanted, in a list or the like, not one {type(keys).__name__}")
    return [checked_key(key, source) for key in keys]


def _field(name: str, source: str) -> Callable[[Any], Any]:
    if not name.isidentifier():
        raise ReactiveError(f"{source}: {name!r} is no name of a field; give a function of the entity instead")
    attribute = attrgetter(name)

    def read(entity: Any) -> Any:
        try:
            return entity[name] if isinstance(entity, dict) else attribute(entity)
        except (AttributeError, KeyError):
            raise ReactiveError(f"{source}: a {type(entity).__name__} has no field {name!r}") from None

    return read
