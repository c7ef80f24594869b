"""What the fields of a class are declared as, once quotes and type variables are resolved.

Refused: names that cannot be found, because a field of unknown type cannot be checked.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Generic, Protocol, get_args, get_origin

from typing_extensions import NoDefault, TypeVar, get_original_bases, get_type_hints, is_typeddict

from cnstra.orchestrator.graph.payload.coder import Unsupported, class_name


def field_types(cls: type, arguments: tuple[Any, ...]) -> dict[str, Any]:
    """The annotation of each field of ``cls[arguments]``, inherited ones included, free of type variables."""
    bound = dict(zip(getattr(cls, "__parameters__", ()), arguments, strict=False))
    return _types(cls, bound, _hints(cls))


def substitute(annotation: Any, bound: Mapping[Any, Any]) -> Any:
    """``annotation`` with its type variables replaced: by what is bound, else their default, their bound, or
    Any.
    """
    if isinstance(annotation, TypeVar):
        return _value_of(annotation, bound)
    parameters = getattr(annotation, "__parameters__", ())
    if not parameters or isinstance(annotation, type):
        return annotation
    return annotation[tuple(_value_of(parameter, bound) for parameter in parameters)]


def _value_of(variable: Any, bound: Mapping[Any, Any]) -> Any:
    if variable in bound:
        return bound[variable]
    default = getattr(variable, "__default__", NoDefault)
    if default is not NoDefault and default is not None:
        return default
    return getattr(variable, "__bound__", None) or Any


def _types(cls: type, bound: Mapping[Any, Any], hints: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for base in reversed(_original_bases(cls)):
        origin = get_origin(base) or base
        if isinstance(origin, type) and origin not in (object, Generic, Protocol):
            arguments = tuple(substitute(argument, bound) for argument in get_args(base))
            inner = dict(zip(getattr(origin, "__parameters__", ()), arguments, strict=False))
            found.update(_types(origin, inner, _hints(origin) if inner else hints))
    # A TypedDict lists its bases' keys among its own, with the bases' type variables.
    own = _own_names(cls) - found.keys() if is_typeddict(cls) else _own_names(cls)
    found.update({name: substitute(hint, bound) for name, hint in hints.items() if name in own})
    return found


def _original_bases(cls: type) -> tuple[Any, ...]:
    try:
        return get_original_bases(cls)
    except TypeError:
        return cls.__bases__


def _own_names(cls: type) -> set[str]:
    try:
        return set(inspect.get_annotations(cls))
    except NameError:
        return set(_hints(cls))


def _hints(cls: type) -> dict[str, Any]:
    try:
        return get_type_hints(cls, localns={cls.__name__: cls}, include_extras=True)
    except NameError as error:
        raise Unsupported(
            f"the annotations of {class_name(cls)} cannot be resolved ({error}); define the types that it "
            "names at the top level of a module, and import them outside of TYPE_CHECKING"
        ) from None
    except TypeError as error:
        raise Unsupported(f"the annotations of {class_name(cls)} cannot be resolved ({error})") from None
