"""Neurons: named units of logic, each with an axon and with dendrites.

Dendrites are registered until the neuron becomes part of a CNS; from then on it is sealed, because a graph
that changed under its workers could not be explained. A registration that is refused leaves the neuron as it
was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Generic, Literal, cast, overload

from tenacity import BaseRetrying
from typing_extensions import TypeVar

from cnstra.orchestrator.errors import GraphError
from cnstra.orchestrator.graph.axons import Axon, DictAxon, axon_collaterals, make_axon
from cnstra.orchestrator.graph.collaterals import Collateral
from cnstra.orchestrator.graph.compensations import Compensation
from cnstra.orchestrator.graph.dendrites import Dendrite, Register, RegisterGather
from cnstra.orchestrator.graph.fixed import Fixed, calling_place
from cnstra.orchestrator.graph.groups import MemberFailure, make_gathering
from cnstra.orchestrator.graph.handlers import inspect_gather, inspect_handler
from cnstra.orchestrator.graph.modalities import AfferentPath, Modality, by_modality
from cnstra.orchestrator.graph.names import check_name, check_queue
from cnstra.orchestrator.graph.options import (
    OnConflict,
    check_concurrency,
    check_max_duration,
    check_on_conflict,
    check_retry,
    check_transaction,
)
from cnstra.orchestrator.graph.payload import PayloadType

A = TypeVar("A", bound=Axon)
L = TypeVar("L", default=Any)
P1 = TypeVar("P1")
P2 = TypeVar("P2")
P3 = TypeVar("P3")

# By the number of arguments, so that strict checkers know those of lambdas. ``bind`` has no payload types.
BoundHandler = Callable[[Any], Any] | Callable[[Any, Any], Any] | Callable[[Any, Any, Any], Any]


class Neuron(Fixed, Generic[A, L]):
    """A named unit of logic. Made by ``neuron()``."""

    __slots__ = (
        "_compensations",
        "_dendrites",
        "_sealed_by",
        "axon",
        "compensations",
        "concurrency",
        "defined_at",
        "dendrites",
        "local",
        "local_payload",
        "max_duration",
        "name",
        "queue",
        "retry",
    )

    name: str
    axon: A
    concurrency: int | None
    """How many of its activations run at once, over all workers; None is no limit."""
    queue: str
    """The broker's queue that its activations are rung on."""
    retry: BaseRetrying | None
    max_duration: timedelta | None
    local: Any
    """The declared type of its local context; None when none is declared."""
    local_payload: PayloadType | None
    """Writes and reads values of ``local``."""
    dendrites: Mapping[str, Dendrite[Any, A, L, ..., Any]]
    """Name of the incoming collateral to dendrite, gathers among them, in the order of registration; a live, read-only
    view.
    """
    compensations: Mapping[str, Compensation]
    """Name of the incoming collateral to what undoes its activations; a live, read-only view."""
    defined_at: str
    _compensations: dict[str, Compensation]
    _dendrites: dict[str, Dendrite[Any, A, L, ..., Any]]
    _sealed_by: str | None

    def __init__(
        self,
        name: str,
        axon: object,
        *,
        concurrency: int | None,
        queue: str,
        retry: BaseRetrying | None,
        max_duration: timedelta | None,
        local: Any,
    ) -> None:
        name = check_name(name, "neuron")
        where = f"neuron {name!r}"
        dendrites: dict[str, Dendrite[Any, A, L, ..., Any]] = {}
        compensations: dict[str, Compensation] = {}
        self._build(
            name=name,
            axon=make_axon(axon, name),
            concurrency=check_concurrency(concurrency, where),
            queue=check_queue(queue, where),
            retry=check_retry(retry, where),
            max_duration=check_max_duration(max_duration, where),
            local=local,
            local_payload=None if local is None else PayloadType(local, f"the local context of {where}"),
            dendrites=MappingProxyType(dendrites),
            compensations=MappingProxyType(compensations),
            defined_at=calling_place(),
            _compensations=compensations,
            _dendrites=dendrites,
            _sealed_by=None,
        )

    @overload
    def dendrite(
        self,
        collateral: Collateral[P1],
        /,
        *,
        retry: BaseRetrying | None = None,
        max_duration: timedelta | None = None,
        on_conflict: OnConflict = "retry",
        transaction: bool = False,
    ) -> Register[P1, A, L]: ...
    @overload
    def dendrite(
        self,
        first: Collateral[P1],
        second: Collateral[P2],
        /,
        *,
        retry: BaseRetrying | None = None,
        max_duration: timedelta | None = None,
        on_conflict: OnConflict = "retry",
        transaction: bool = False,
    ) -> Register[P1 | P2, A, L]: ...
    @overload
    def dendrite(
        self,
        first: Collateral[P1],
        second: Collateral[P2],
        third: Collateral[P3],
        /,
        *,
        retry: BaseRetrying | None = None,
        max_duration: timedelta | None = None,
        on_conflict: OnConflict = "retry",
        transaction: bool = False,
    ) -> Register[P1 | P2 | P3, A, L]: ...
    @overload
    def dendrite(
        self,
        first: Collateral[Any],
        second: Collateral[Any],
        third: Collateral[Any],
        fourth: Collateral[Any],
        /,
        *more: Collateral[Any],
        retry: BaseRetrying | None = None,
        max_duration: timedelta | None = None,
        on_conflict: OnConflict = "retry",
        transaction: bool = False,
    ) -> Register[Any, A, L]: ...
    def dendrite(
        self,
        *collaterals: Collateral[Any],
        retry: BaseRetrying | None = None,
        max_duration: timedelta | None = None,
        on_conflict: OnConflict = "retry",
        transaction: bool = False,
    ) -> Register[Any, A, L]:
        """Decorate a handler, so that it answers to ``collaterals``.

        ``retry`` and ``max_duration`` go before the neuron's own. ``on_conflict`` says what happens when
        another activation wrote what this one read and writes. With ``transaction`` the handler has a psycopg
        connection, ``ctx.connection``, and what it does there commits with the hop, exactly once. The decorator
        gives the Dendrite of the first collateral. Raises GraphError or PolicyError.
        """
        self._refuse_if_sealed()
        if not collaterals:
            raise GraphError(f"neuron {self.name!r}: dendrite() needs the collateral that the handler answers to")
        for given in collaterals:
            self._check_incoming(given)
        where = f"{self._where(collaterals[0])}"
        options: dict[str, Any] = {
            "retry": check_retry(retry, where) or self.retry,
            "max_duration": check_max_duration(max_duration, where) or self.max_duration,
            "on_conflict": on_conflict,
            "merge": check_on_conflict(on_conflict, where),
            "together": tuple(given.name for given in collaterals),
            "transaction": check_transaction(transaction, where),
        }

        def register(handler: Callable[..., Any], /) -> Any:
            made = [self._make(given, handler, options) for given in collaterals]
            self._add(made)
            return made[0]

        return cast("Register[Any, A, L]", register)

    @overload
    def gather(
        self,
        collateral: Collateral[P1],
        /,
        *,
        of: Collateral[Any] | None = None,
        return_failures: Literal[False] = False,
        retry: BaseRetrying | None = None,
        max_duration: timedelta | None = None,
        on_conflict: OnConflict = "retry",
    ) -> RegisterGather[P1, P1, A, L]: ...
    @overload
    def gather(
        self,
        collateral: Collateral[P1],
        /,
        *,
        of: Collateral[Any] | None = None,
        return_failures: bool,
        retry: BaseRetrying | None = None,
        max_duration: timedelta | None = None,
        on_conflict: OnConflict = "retry",
    ) -> RegisterGather[P1, P1 | MemberFailure, A, L]: ...
    def gather(
        self,
        collateral: Collateral[Any],
        /,
        *,
        of: Collateral[Any] | None = None,
        return_failures: bool = False,
        retry: BaseRetrying | None = None,
        max_duration: timedelta | None = None,
        on_conflict: OnConflict = "retry",
    ) -> RegisterGather[Any, Any, A, L]:
        """Decorate a handler that is called once for a scattered group, with the signals' payloads on ``collateral``: at
        most one of each member, in the order of the scatter, when all that the members led to has ended.

        ``of`` is the scattered collateral; without it, it is the one from which ``collateral`` can be reached without
        another gather between. ``return_failures=True`` puts a ``MemberFailure`` in the place of each member that failed.
        The other options are those of ``dendrite``. The decorator gives a Dendrite. Durable runs gather; within one
        process nothing does. Raises GraphError or PolicyError.
        """
        self._refuse_if_sealed()
        self._check_incoming(collateral, "gather")
        where = f"neuron {self.name!r}, gather on {collateral.name!r}"
        options: dict[str, Any] = {
            "retry": check_retry(retry, where) or self.retry,
            "max_duration": check_max_duration(max_duration, where) or self.max_duration,
            "on_conflict": on_conflict,
            "merge": check_on_conflict(on_conflict, where),
            "transaction": False,
            "gathering": make_gathering(of, return_failures, where),
        }

        def register(handler: Callable[..., Any], /) -> Any:
            made = self._make(collateral, handler, options)
            self._add([made])
            return made

        return cast("RegisterGather[Any, Any, A, L]", register)

    def bind(self, axon: type[Axon] | Axon, handlers: Mapping[str, BoundHandler]) -> Neuron[A, L]:
        """Register one handler for each collateral of another neuron's axon; gives the neuron back.

        ``handlers`` has a handler for every attribute of ``axon``, under its name, and nothing else; raises
        GraphError naming what is missing or unknown.
        """
        self._refuse_if_sealed()
        if not (isinstance(axon, Axon) or (isinstance(axon, type) and issubclass(axon, Axon))):
            raise GraphError(
                f"neuron {self.name!r}: bind() takes an Axon class or another neuron's .axon, got {type(axon).__name__}"
            )
        if not isinstance(handlers, Mapping):
            raise GraphError(
                f"neuron {self.name!r}: bind() takes a dict of attribute name to handler, got {type(handlers).__name__}"
            )
        incoming = axon_collaterals(axon)
        self._refuse_inexact(axon, incoming, handlers)
        options = {
            "retry": self.retry,
            "max_duration": self.max_duration,
            "on_conflict": "retry",
            "merge": None,
            "transaction": False,
        }
        self._add([self._make(given, handlers[attribute], options) for attribute, given in incoming.items()])
        return self

    def modality_dendrite(
        self,
        collateral: Collateral[Any],
        /,
        *,
        modality: Modality | Iterable[Modality],
        paths: Mapping[AfferentPath, BoundHandler] | None = None,
        default: BoundHandler | Mapping[Modality | None, BoundHandler] | None = None,
        output: BoundHandler,
        retry: BaseRetrying | None = None,
        max_duration: timedelta | None = None,
        on_conflict: OnConflict = "retry",
        transaction: bool = False,
    ) -> Dendrite[Any, A, L, ..., Any]:
        """Register a dendrite whose handler is chosen by the modality and the afferent path of the stimulation.

        ``paths`` has the handler of each afferent path. ``default`` answers where no path's handler does: one
        function, or a dict of modality to function, in which None stands for every modality, and for none. What the
        chosen handler returns goes through ``output``, which takes ``(result)``, ``(result, axon)`` or ``(result,
        axon, ctx)`` and returns signals. A durable run has no modality, so its default answers. Raises GraphError.
        """
        self._refuse_if_sealed()
        self._check_incoming(collateral)
        where = self._where(collateral)
        options = {
            "retry": check_retry(retry, where) or self.retry,
            "max_duration": check_max_duration(max_duration, where) or self.max_duration,
            "on_conflict": on_conflict,
            "merge": check_on_conflict(on_conflict, where),
            "transaction": check_transaction(transaction, where),
        }
        made = self._make(collateral, by_modality(modality, paths or {}, default, output, where), options)
        self._add([made])
        return made

    def _refuse_inexact(
        self, axon: type[Axon] | Axon, incoming: Mapping[str, Collateral[Any]], handlers: Mapping[str, Any]
    ) -> None:
        name = axon.__name__ if isinstance(axon, type) else type(axon).__name__
        if missing := [attribute for attribute in incoming if attribute not in handlers]:
            raise GraphError(
                f"neuron {self.name!r}: bind({name}) has no handler for {', '.join(map(repr, missing))}; "
                "give one for each collateral of the axon"
            )
        if unknown := [key for key in handlers if key not in incoming]:
            raise GraphError(
                f"neuron {self.name!r}: bind({name}) has a handler for {', '.join(map(repr, unknown))}, "
                f"which the axon does not have; it has: {', '.join(incoming) or 'none'}"
            )
        if not incoming:
            raise GraphError(f"neuron {self.name!r}: bind({name}) binds nothing, because that axon has no collaterals")

    def _make(
        self, collateral: Collateral[Any], handler: Any, options: Mapping[str, Any]
    ) -> Dendrite[Any, A, L, ..., Any]:
        inner = handler.handler if isinstance(handler, Dendrite) else handler
        if options.get("gathering") is None:
            checked = inspect_handler(inner, self._where(collateral))
        else:
            checked = inspect_gather(inner, f"neuron {self.name!r}, gather on {collateral.name!r}")
        return Dendrite(
            neuron=self,
            collateral=collateral,
            name=checked.name,
            handler=inner,
            arity=checked.arity,
            is_async=checked.is_async,
            call=checked.call,
            **{"together": (collateral.name,), **options},
        )

    def _add(self, made: list[Dendrite[Any, A, L, ..., Any]]) -> None:
        self._refuse_if_sealed()
        new: dict[str, Dendrite[Any, A, L, ..., Any]] = {}
        for dendrite in made:
            name = dendrite.collateral.name
            if (first := self._dendrites.get(name) or new.get(name)) is not None:
                raise GraphError(
                    f"neuron {self.name!r} has two dendrites on {name!r}: {first.name} and {dendrite.name}; "
                    "a neuron answers to a collateral once: join the handlers, or make another neuron"
                )
            new[name] = dendrite
        self._dendrites.update(new)

    def add_compensation(self, collaterals: Iterable[str], compensation: Compensation) -> None:
        """Register what undoes the activations of the dendrites on ``collaterals``; for ``Dendrite.compensate``."""
        self._refuse_if_sealed("compensations")
        for name in collaterals:
            if (first := self._compensations.get(name)) is not None:
                raise GraphError(
                    f"neuron {self.name!r} has two compensations of its dendrite on {name!r}: {first.name} and "
                    f"{compensation.name}; a dendrite is undone in one way: join the functions"
                )
        self._compensations.update(dict.fromkeys(collaterals, compensation))

    def _check_incoming(self, given: object, decorator: str = "dendrite") -> None:
        if not isinstance(given, Collateral):
            hint = f"; the decorator is used with parentheses: @n.{decorator}(collateral)" if callable(given) else ""
            takes = "collaterals" if decorator == "dendrite" else "a collateral"
            raise GraphError(f"neuron {self.name!r}: {decorator}() takes {takes}, got {type(given).__name__}{hint}")

    def _where(self, collateral: Collateral[Any]) -> str:
        return f"neuron {self.name!r}, dendrite on {collateral.name!r}"

    def _refuse_if_sealed(self, what: str = "dendrites") -> None:
        if self._sealed_by is not None:
            raise GraphError(
                f"neuron {self.name!r} is part of {self._sealed_by} and takes no more {what}; register "
                "them before the CNS is built"
            )

    def __repr__(self) -> str:
        return f"<neuron {self.name!r} at {self.defined_at}>"


def seal(neuron: Neuron[Any, Any], cns: str) -> None:
    """Close a neuron to further dendrites and compensations, because it has become part of ``cns``."""
    if neuron._sealed_by is None:
        neuron._build(_sealed_by=cns)


@overload
def neuron(
    name: str,
    axon: type[A],
    *,
    local: type[L],
    concurrency: int | None = None,
    queue: str = "default",
    retry: BaseRetrying | None = None,
    max_duration: timedelta | None = None,
) -> Neuron[A, L]: ...
@overload
def neuron(
    name: str,
    axon: type[A],
    *,
    concurrency: int | None = None,
    queue: str = "default",
    retry: BaseRetrying | None = None,
    max_duration: timedelta | None = None,
) -> Neuron[A, Any]: ...
@overload
def neuron(
    name: str,
    axon: Mapping[str, Collateral[Any]],
    *,
    local: type[L],
    concurrency: int | None = None,
    queue: str = "default",
    retry: BaseRetrying | None = None,
    max_duration: timedelta | None = None,
) -> Neuron[DictAxon, L]: ...
@overload
def neuron(
    name: str,
    axon: Mapping[str, Collateral[Any]],
    *,
    concurrency: int | None = None,
    queue: str = "default",
    retry: BaseRetrying | None = None,
    max_duration: timedelta | None = None,
) -> Neuron[DictAxon, Any]: ...
@overload
def neuron(
    name: str,
    axon: None = None,
    *,
    local: type[L],
    concurrency: int | None = None,
    queue: str = "default",
    retry: BaseRetrying | None = None,
    max_duration: timedelta | None = None,
) -> Neuron[Axon, L]: ...
@overload
def neuron(
    name: str,
    axon: None = None,
    *,
    concurrency: int | None = None,
    queue: str = "default",
    retry: BaseRetrying | None = None,
    max_duration: timedelta | None = None,
) -> Neuron[Axon, Any]: ...
def neuron(
    name: str,
    axon: Any = None,
    *,
    local: Any = None,
    concurrency: int | None = None,
    queue: str = "default",
    retry: BaseRetrying | None = None,
    max_duration: timedelta | None = None,
) -> Neuron[Any, Any]:
    """Make a neuron called ``name`` that may emit the collaterals of ``axon``: an Axon class, a dict, or
    nothing.

    ``concurrency`` bounds its activations that run at once; ``queue`` is the broker's queue; ``retry`` and
    ``max_duration`` hold for its dendrites that have none of their own; ``local`` declares the type of its
    local context. Raises GraphError or PolicyError.
    """
    return Neuron(
        name,
        axon,
        concurrency=concurrency,
        queue=queue,
        retry=retry,
        max_duration=max_duration,
        local=local,
    )
