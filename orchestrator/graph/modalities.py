"""Modalities: one flow, many scenarios. A stimulation names a scenario, and dendrites choose their handler by it.

An afferent path is one way into a flow, and a modality is a family of such ways. Both are known by their object, never
by a name, so that two libraries cannot mean different things by one word. The idea is CNStra's (TypeScript); there as
here a path's parent is for people to read: a handler answers to the very path that it was given for.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from cnstra.orchestrator.errors import GraphError
from cnstra.orchestrator.graph.fixed import Fixed
from cnstra.orchestrator.graph.handlers import Handler, inspect_handler

if TYPE_CHECKING:
    from cnstra.orchestrator.context import Context


class AfferentPath(Fixed):
    """One way into a flow. Made by ``afferent_path()``."""

    __slots__ = ("parent",)

    parent: AfferentPath | None

    def __init__(self, parent: AfferentPath | None = None) -> None:
        if parent is not None and not isinstance(parent, AfferentPath):
            raise GraphError(f"afferent_path() takes another afferent path as its parent, got {type(parent).__name__}")
        self._build(parent=parent)


def afferent_path(parent: AfferentPath | None = None) -> AfferentPath:
    """Make a way into a flow, below ``parent`` or by itself. Raises GraphError for a parent that is none."""
    return AfferentPath(parent)


class Modality(Fixed):
    """A family of afferent paths, by key. Made by ``modality()``; ``m["ui"]`` and ``m.ui`` are one path."""

    __slots__ = ("afferent_paths",)

    afferent_paths: Mapping[Any, AfferentPath]

    def __init__(self, paths: Mapping[Any, AfferentPath]) -> None:
        for key, path in paths.items():
            if not isinstance(path, AfferentPath):
                raise GraphError(
                    f"modality(): {key!r} must be an afferent path, got {type(path).__name__}; make one with "
                    "afferent_path()"
                )
        self._build(afferent_paths=MappingProxyType(dict(paths)))

    def __getitem__(self, key: Any) -> AfferentPath:
        return self.afferent_paths[key]

    def __getattr__(self, name: str) -> AfferentPath:
        if name in self.__slots__:  # not built yet: a copy under way
            raise AttributeError(name, name=name, obj=self)
        try:
            return self.afferent_paths[name]
        except KeyError:
            known = ", ".join(map(str, self.afferent_paths)) or "none"
            raise AttributeError(
                f"the modality has no afferent path {name!r}; it has: {known}", name=name, obj=self
            ) from None

    def __repr__(self) -> str:
        return f"modality({', '.join(map(str, self.afferent_paths))})"


def modality(mapping: Mapping[Any, AfferentPath] | None = None, /, **paths: AfferentPath) -> Modality:
    """Group afferent paths: ``modality(ui=ui, api=api)``, or a dict where keys are no Python names. Raises GraphError."""
    return Modality({**(mapping or {}), **paths})


def by_modality(
    modality: object, paths: object, default: object, output: object, where: str
) -> Callable[[Any, Any, Context[Any, Any]], Any]:
    """One handler that chooses among several, by the modality and the afferent path that ``ctx`` tells."""
    known = _modalities(modality, where)
    if not isinstance(paths, Mapping):
        raise GraphError(f"{where}: paths= takes a dict of afferent path to handler, got {type(paths).__name__}")
    ways = {id(path) for each in known for path in each.afferent_paths.values()}
    for path in paths:
        if not isinstance(path, AfferentPath):
            raise GraphError(f"{where}: paths= has a key of type {type(path).__name__}; its keys are afferent paths")
        if id(path) not in ways:
            raise GraphError(f"{where}: paths= has an afferent path that is in none of the modalities; add it to one")
    handlers = {path: inspect_handler(given, f"{where}, handler of a path") for path, given in paths.items()}
    defaults = _defaults(default, known, where)
    finish = inspect_handler(output, f"{where}, output")

    def respond(payload: Any, axon: Any, ctx: Context[Any, Any]) -> Any:
        modality = ctx.modality if ctx.modality in known else None
        chosen = _chosen(modality, ctx.afferent_path, handlers, defaults, where)
        result = chosen.call(payload, axon, ctx)
        if inspect.isawaitable(result):
            return _finish_later(result, finish, axon, ctx)
        return finish.call(result, axon, ctx)

    return respond


async def _finish_later(result: Any, finish: Handler, axon: Any, ctx: Any) -> Any:
    finished = finish.call(await result, axon, ctx)
    return await finished if inspect.isawaitable(finished) else finished


def _modalities(given: object, where: str) -> tuple[Modality, ...]:
    known = (given,) if isinstance(given, Modality) else tuple(given) if isinstance(given, Iterable) else ()
    if not known or not all(isinstance(each, Modality) for each in known):
        raise GraphError(f"{where}: modality= takes a modality, or a list of them, got {given!r}")
    return known


def _defaults(given: object, known: tuple[Modality, ...], where: str) -> dict[Modality | None, Handler]:
    by_key = given if isinstance(given, Mapping) else {} if given is None else {None: given}
    for key in by_key:
        if key is not None and key not in known:
            raise GraphError(f"{where}: default= has a key that is none of its modalities; use one of them, or None")
    return {key: inspect_handler(handler, f"{where}, default") for key, handler in by_key.items()}


def _chosen(
    modality: Modality | None,
    path: AfferentPath | None,
    handlers: Mapping[AfferentPath, Handler],
    defaults: Mapping[Modality | None, Handler],
    where: str,
) -> Handler:
    handler = None
    if modality is not None:
        known = path is not None and any(path is each for each in modality.afferent_paths.values())
        handler = handlers.get(path) if path is not None and known else None
        handler = handler or defaults.get(modality)
    if (handler := handler or defaults.get(None)) is None:
        raise GraphError(
            f"{where}: no handler found for the {'afferent path' if modality else 'modality'} of this stimulation, and "
            "no default; give one: modality_dendrite(..., default=fn)"
        )
    return handler
