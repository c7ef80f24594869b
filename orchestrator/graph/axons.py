"""Axons: the collaterals that a neuron may emit, as attributes with names.

An ``Axon`` class has collaterals as its class attributes; ``StockAxon.reserved`` is the collateral itself,
and so is the attribute of an instance. Everything that would surface later as a missing attribute is refused
when the class is made: an annotation without a value, a value that is no collateral, two attributes whose
collaterals have one name.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from keyword import iskeyword
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from cnstra.orchestrator.errors import GraphError
from cnstra.orchestrator.graph.collaterals import Collateral
from cnstra.orchestrator.graph.fixed import Fixed

_HELPERS = (property, classmethod, staticmethod)


class Axon(Fixed):
    """What a neuron may emit; subclass it with collaterals as class attributes."""

    __slots__ = ()

    _collaterals: ClassVar[Mapping[str, Collateral[Any]]] = MappingProxyType({})
    """Attribute name to collateral, inherited ones included."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        _refuse_what_is_no_collateral(cls)
        cls._collaterals = MappingProxyType(_collect(cls))

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            known = ", ".join(self._collaterals) or "none"
            raise AttributeError(
                f"{type(self).__name__} has no collateral {name!r}; it has: {known}", name=name, obj=self
            )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self._collaterals)})"


def axon_collaterals(axon: Axon | type[Axon]) -> Mapping[str, Collateral[Any]]:
    """Attribute name to collateral, in the order of definition."""
    return axon._collaterals


def make_axon(given: object, neuron: str) -> Axon:
    """The axon of the neuron called ``neuron``, from an Axon class, a dict, or nothing."""
    if given is None:
        return Axon()
    if isinstance(given, type) and issubclass(given, Axon):
        try:
            made: Axon = given()
        except TypeError as error:
            raise GraphError(
                f"neuron {neuron!r}: {given.__name__} cannot be made without arguments ({error}); an axon "
                "has no __init__ of its own"
            ) from error
        return made
    if isinstance(given, Mapping):
        return _from_mapping(given, neuron)
    if isinstance(given, Axon):
        raise GraphError(f"neuron {neuron!r}: axon= is an instance of {type(given).__name__}; give the class itself")
    raise GraphError(
        f"neuron {neuron!r}: axon= must be a subclass of Axon or a dict of name to collateral, got "
        f"{type(given).__name__}"
    )


def _from_mapping(given: Mapping[Any, Any], neuron: str) -> Axon:
    for key in given:
        if not isinstance(key, str) or not key.isidentifier() or iskeyword(key) or key.startswith("_"):
            raise GraphError(
                f"neuron {neuron!r}: the axon's key {key!r} cannot be written as axon.<name>; use a Python "
                "name that does not begin with _"
            )
        if not isinstance(given[key], Collateral):
            raise GraphError(
                f"neuron {neuron!r}: the axon's value for {key!r} must be a collateral, got "
                f"{type(given[key]).__name__}; make one with collateral(name, type)"
            )
    try:
        cls = type("DictAxon", (DictAxon,), {"__slots__": (), **given})
    except GraphError as error:
        raise GraphError(f"neuron {neuron!r}: {error}") from None
    made: Axon = cls()
    return made


def _collect(cls: type[Axon]) -> dict[str, Collateral[Any]]:
    found: dict[str, Collateral[Any]] = {}
    for base in reversed(cls.__mro__):
        for name in vars(base):
            if not name.startswith("_"):
                found.pop(name, None)
                if isinstance(value := getattr(cls, name), Collateral):
                    found[name] = value
    by_name: dict[str, str] = {}
    for attribute, value in found.items():
        if value.name in by_name:
            raise GraphError(
                f"{cls.__name__}.{by_name[value.name]} and {cls.__name__}.{attribute} are both named "
                f"{value.name!r}; an axon has each collateral once"
            )
        by_name[value.name] = attribute
    return found


def _refuse_what_is_no_collateral(cls: type[Axon]) -> None:
    for name, value in vars(cls).items():
        if isinstance(value, Collateral):
            if name.startswith("_"):
                raise GraphError(f"{cls.__name__}.{name}: a collateral's attribute must not begin with _; rename it")
        elif not name.startswith("_") and not inspect.isfunction(value) and not isinstance(value, _HELPERS):
            raise GraphError(
                f"{cls.__name__}.{name} must be a collateral, got {_shown(value)}; write "
                f"{name} = collateral('some.name', PayloadType)"
            )
    for name in _annotated(cls):
        if not name.startswith("_") and not hasattr(cls, name):
            raise GraphError(
                f"{cls.__name__}.{name} is annotated and has no value; write "
                f"{name} = collateral('some.name', PayloadType)"
            )


def _annotated(cls: type) -> list[str]:
    try:
        return list(inspect.get_annotations(cls))
    except NameError:  # annotations are evaluated late from Python 3.14 on
        return []


def _shown(value: object) -> str:
    if isinstance(value, tuple) and len(value) == 1 and isinstance(value[0], Collateral):
        return "a tuple of one collateral (is there a comma at the end of the line?)"
    return type(value).__name__


# Below the checks, which run as soon as a subclass is made.
class DictAxon(Axon):
    """An axon that was given as a dict. Type checkers cannot know its attributes."""

    __slots__ = ()

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Collateral[Any]: ...
