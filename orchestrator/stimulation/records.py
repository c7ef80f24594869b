"""What a stimulation tells about itself: responses, drains, and the tasks that are left over.

Responses are made once a hop, so they are msgspec's structs, as signals are; what they would have to compute is computed
when somebody asks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from cnstra.orchestrator.graph import Collateral, Neuron, Signal

if TYPE_CHECKING:
    from cnstra.orchestrator.stimulation.stimulation import Stimulation


class Response(msgspec.Struct, frozen=True, eq=False):
    """What became of one activation, as listeners are told: one for each signal that came of it, or one if none did.

    The first responses of a stimulation are those of its initial signals: they have no ``input_signal`` and no
    ``neuron``. ``queue_length`` is zero in the last response, and in no other.
    """

    stimulation: Stimulation
    input_signal: Signal[Any] | None
    output_signal: Signal[Any] | None
    error: BaseException | None
    neuron: Neuron[Any, Any] | None
    pending_activations: int
    """Activations whose handler was not called yet. Those of a signal that is still to come count already."""
    active_activations: int
    """Activations whose handler was called, and has suspended."""
    hops: int | None
    """How often ``neuron`` has been visited; None without ``max_neuron_hops``."""

    @property
    def queue_length(self) -> int:
        """All activations that have not ended."""
        return self.pending_activations + self.active_activations

    @property
    def context_store(self) -> Any:
        """The stimulation's context store: keep it to go on from here in another stimulation."""
        return self.stimulation.context_store

    @property
    def context_value(self) -> Any:
        """What the context store holds now."""
        return self.stimulation.context_store.get()


class Drain(msgspec.Struct, frozen=True, eq=False):
    """The end of a synchronous turn: nothing more can run before something that is awaited ends.

    The counters are those of a response, measured after everything that could run has run. So pending activations are
    held back by a limit, by a listener, or by an abort.
    """

    stimulation: Stimulation
    pending_activations: int
    active_activations: int

    @property
    def queue_length(self) -> int:
        """All activations that have not ended."""
        return self.pending_activations + self.active_activations


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One activation to be: a signal, for a neuron's dendrite on a collateral."""

    neuron: Neuron[Any, Any]
    collateral: Collateral[Any]
    signal: Signal[Any] | None
    """None calls the handler with the payload None."""

    def __repr__(self) -> str:
        return f"<task of neuron {self.neuron.name!r} on {self.collateral.name!r}>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A task that failed, or that an abort kept from starting."""

    task: Task
    error: BaseException
    aborted: bool
    """Whether the stimulation was being aborted when it ended, or was to start."""
