"""The CNS: neurons put together into one graph, checked as a whole, and fixed from then on.

Refused when it is built: two neurons or two collaterals of one name, parts of the wrong kind, and, in a graph
with a name (which runs durably), neurons that hear nothing: a run would end early there, without an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from tenacity import BaseRetrying

from cnstra.orchestrator.errors import GraphError
from cnstra.orchestrator.graph.collaterals import Collateral
from cnstra.orchestrator.graph.fingerprint import fingerprint
from cnstra.orchestrator.graph.fixed import Fixed, calling_place
from cnstra.orchestrator.graph.names import check_name
from cnstra.orchestrator.graph.network import AnyDendrite, AnyNeuron, Network
from cnstra.orchestrator.graph.neurons import Neuron, seal
from cnstra.orchestrator.graph.options import check_retry
from cnstra.orchestrator.graph.payload import PayloadType


class CNS(Fixed):
    """A graph of neurons.

    ``name`` is needed to run it durably; ``version`` pins its runs to workers that have this version, and
    defaults to the graph's fingerprint, which pins nothing. ``services`` is handed to handlers as
    ``ctx.services``. ``retry`` is the policy of its runs, ``context`` the declared type of the state that a
    run's neurons share. ``auto_cleanup_contexts`` has local contexts deleted, within one process, as soon as no signal
    under way can reach their neuron again.
    """

    __slots__ = (
        "auto_cleanup_contexts",
        "context_payload",
        "context_type",
        "defined_at",
        "name",
        "network",
        "neurons",
        "pinned",
        "queues",
        "retry",
        "services",
        "version",
    )

    name: str | None
    version: str
    pinned: bool
    """Whether the version was given."""
    neurons: Mapping[str, AnyNeuron]
    network: Network
    services: Any
    retry: BaseRetrying | None
    context_type: Any
    """The declared type of the shared context; None when none is declared."""
    context_payload: PayloadType | None
    """Writes and reads values of ``context_type``."""
    queues: tuple[str, ...]
    """The queues of its neurons, sorted."""
    auto_cleanup_contexts: bool
    defined_at: str

    def __init__(
        self,
        neurons: Iterable[AnyNeuron],
        *,
        name: str | None = None,
        version: str | None = None,
        services: Any = None,
        retry: BaseRetrying | None = None,
        context: Any = None,
        auto_cleanup_contexts: bool = False,
    ) -> None:
        if name is not None:
            name = check_name(name, "CNS")
        title = "a CNS without a name" if name is None else f"CNS {name!r}"
        if not isinstance(auto_cleanup_contexts, bool):
            raise GraphError(f"{title}: auto_cleanup_contexts= must be True or False, got {auto_cleanup_contexts!r}")
        by_name = _by_name(neurons, title)
        if name is not None:
            _refuse_deaf(by_name, title)
        network = Network(by_name)
        context_payload = None if context is None else PayloadType(context, f"the context of {title}")
        self._build(
            name=name,
            neurons=MappingProxyType(by_name),
            network=network,
            services=services,
            retry=check_retry(retry, title),
            context_type=context,
            context_payload=context_payload,
            queues=tuple(sorted({neuron.queue for neuron in by_name.values()})),
            auto_cleanup_contexts=auto_cleanup_contexts,
            pinned=version is not None,
            version=(
                fingerprint(by_name, network.collaterals, context_payload)
                if version is None
                else check_name(version, "version")
            ),
            defined_at=calling_place(),
        )
        for neuron in by_name.values():
            seal(neuron, f"{title}, built at {self.defined_at}")

    @property
    def durable_name(self) -> str:
        """Its name; raises GraphError where it has none, as durable runs are kept under it."""
        if self.name is None:
            raise GraphError("a CNS without a name cannot run durably; give it one: CNS([...], name='shop')")
        return self.name

    @property
    def collaterals(self) -> Mapping[str, Collateral[Any]]:
        """Every collateral that a neuron emits, hears or gathers, by name."""
        return self.network.collaterals

    def subscribers(self, collateral_name: str) -> tuple[AnyDendrite, ...]:
        """The dendrites that hear a collateral, in the order of registration; no gathers."""
        return self.network.subscribers(collateral_name)

    def dendrite(self, neuron_name: str, collateral_name: str) -> AnyDendrite | None:
        """The dendrite, or the gather, of one neuron on one collateral, or None."""
        neuron = self.neurons.get(neuron_name)
        return None if neuron is None else neuron.dendrites.get(collateral_name)

    def collateral(self, name: str) -> Collateral[Any] | None:
        """The collateral of this name, or None."""
        return self.network.collaterals.get(name)

    def __repr__(self) -> str:
        return f"<CNS {self.name!r} version {self.version!r} of {len(self.neurons)} neurons>"


def _by_name(neurons: object, title: str) -> dict[str, AnyNeuron]:
    if isinstance(neurons, (str, bytes, Mapping)) or not isinstance(neurons, Iterable):
        raise GraphError(f"{title}: the first argument must be a list of neurons, got {type(neurons).__name__}")
    found: dict[str, AnyNeuron] = {}
    for given in neurons:
        if not isinstance(given, Neuron):
            raise GraphError(f"{title}: every member must be a neuron, got {type(given).__name__}")
        if given in found.values():
            raise GraphError(f"{title}: neuron {given.name!r} stands twice in the list; keep one")
        first = found.setdefault(given.name, given)
        if first is not given:
            raise GraphError(
                f"{title}: two neurons are named {given.name!r}, made at {first.defined_at} and at "
                f"{given.defined_at}; rename one"
            )
    return found


def _refuse_deaf(neurons: Mapping[str, AnyNeuron], title: str) -> None:
    if not neurons:
        raise GraphError(f"{title} has no neurons, so it can run nothing; give it some")
    for neuron in neurons.values():
        if not neuron.dendrites:
            raise GraphError(
                f"{title}: neuron {neuron.name!r}, made at {neuron.defined_at}, has no dendrites, so no "
                "signal can reach it; import the module that registers them before the CNS is built"
            )
