"""What may be said of a stimulation when it starts, checked before anything runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from inspect import iscoroutinefunction
from typing import Any, TypedDict

import msgspec

from cnstra.orchestrator.context import AbortSignal
from cnstra.orchestrator.contexts import ContextStore
from cnstra.orchestrator.errors import StimulationError
from cnstra.orchestrator.graph import AfferentPath, Expectation, Modality, Scatter, Signal, TimedSignal
from cnstra.orchestrator.stimulation.records import Drain, Response

OnResponse = Callable[[Response], Awaitable[None] | None]
OnDrain = Callable[[Drain], None]


class StimulateOptions(TypedDict, total=False):
    """The options of ``stimulate``, ``run`` and ``activate``.

    ``on_response`` is told of each response, before the listeners of the CNS; one that is async holds back what the
    signal starts until it has ended. ``on_drain`` is told of the end of each synchronous turn. ``concurrency`` bounds
    the handlers of this stimulation that have suspended at once, ``max_neuron_hops`` the visits of each neuron.
    ``abort_signal`` is anything with ``is_set()``: from then on nothing more starts. ``ctx`` is a context store to go
    on with, ``create_context_store`` makes one; without either it is in memory. ``stimulation_context`` is whatever
    handlers and listeners are to find there. ``modality`` and ``afferent_path`` choose the handlers of modality
    dendrites.
    """

    on_response: OnResponse | None
    on_drain: OnDrain | None
    concurrency: int | None
    max_neuron_hops: int | None
    abort_signal: AbortSignal | None
    ctx: ContextStore | None
    create_context_store: Callable[[], ContextStore] | None
    stimulation_context: Any
    modality: Modality | None
    afferent_path: AfferentPath | None


class Options(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """The options of one stimulation, checked."""

    on_response: OnResponse | None = None
    on_drain: OnDrain | None = None
    concurrency: int | None = None
    max_neuron_hops: int | None = None
    abort_signal: AbortSignal | None = None
    ctx: Any = None
    stimulation_context: Any = None
    modality: Modality | None = None
    afferent_path: AfferentPath | None = None


_DEFAULT = Options()


def checked(given: StimulateOptions) -> Options:
    """The options. Raises StimulationError for one that cannot be, TypeError for one that there is not."""
    if not given:
        return _DEFAULT
    named: dict[str, Any] = dict(given)
    create = named.pop("create_context_store", None)
    options = Options(**named)
    for name in ("on_response", "on_drain"):
        _check(name, named.get(name), callable, "a function")
    if iscoroutinefunction(options.on_drain):
        raise StimulationError("on_drain= must be a plain function: nothing waits for it; use on_response=")
    for name in ("concurrency", "max_neuron_hops"):
        _check(name, named.get(name), _is_count, "an int from 1, or None for no limit")
    _check("abort_signal", options.abort_signal, _can_abort, "an object with is_set(), such as threading.Event()")
    _check("modality", options.modality, lambda given: isinstance(given, Modality), "a modality")
    _check("afferent_path", options.afferent_path, lambda given: isinstance(given, AfferentPath), "an afferent path")
    _check("create_context_store", create, callable, "a function without arguments that makes a context store")
    if create is not None:
        if options.ctx is not None:
            raise StimulationError(
                "ctx= and create_context_store= were both given; a stimulation has one context store"
            )
        options = msgspec.structs.replace(options, ctx=create())
        if not _is_store(options.ctx):
            raise StimulationError(
                "create_context_store= must give a context store, an object with get() and set(value); it gave "
                f"{options.ctx!r}"
            )
    _check("ctx", options.ctx, _is_store, "a context store: an object with get() and set(value)")
    return options


def _check(name: str, given: Any, is_right: Callable[[Any], bool], wanted: str) -> None:
    if given is not None and not is_right(given):
        raise StimulationError(f"{name}= must be {wanted}; got {given!r}")


def _is_count(given: Any) -> bool:
    return type(given) is int and given >= 1


def _can_abort(given: Any) -> bool:
    return callable(getattr(given, "is_set", None))


def _is_store(given: Any) -> bool:
    return callable(getattr(given, "get", None)) and callable(getattr(given, "set", None))


def initial(signals: Any) -> list[Signal[Any]]:
    """The signals that a stimulation starts with. Raises StimulationError."""
    if isinstance(signals, Signal):
        return [momentary(signals)]
    found = list(signals) if isinstance(signals, Iterable) else [signals]
    for each in found:
        if not isinstance(momentary(each), Signal):
            raise StimulationError(
                f"a stimulation starts with signals, got {type(each).__name__}; make one with "
                "collateral.create_signal(payload)"
            )
    return found


def momentary(emission: Any) -> Any:
    """The emission itself. Raises StimulationError for a signal that is to wait, a scatter or an expectation: only a
    durable run can carry them out.
    """
    if isinstance(emission, TimedSignal):
        raise StimulationError(
            f"the signal on {emission.collateral.name!r} has a delay, and within one process nothing waits; submit it to "
            "a durable run, or emit it without delay= and at="
        )
    if isinstance(emission, Scatter):
        raise StimulationError(
            f"a scatter on {emission.collateral.name!r} is for durable runs, and within one process nothing gathers; "
            "submit to one, or emit a list of signals"
        )
    if isinstance(emission, Expectation):
        raise StimulationError(
            f"an expectation of {emission.collateral.name!r} is for durable runs, and within one process nothing waits; "
            "submit to one"
        )
    return emission
