"""How runs stand, and how they end."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from cnstra.orchestrator import sealing
from cnstra.orchestrator.errors import ConfigurationError, ContextExpired, ContextLost, PayloadError
from cnstra.orchestrator.flows.contexts import Contexts
from cnstra.orchestrator.flows.worlds import FIRST_PAUSE, LONGEST_PAUSE, Flow, not_found
from cnstra.orchestrator.graph import Collateral, PayloadType, Signal
from cnstra.orchestrator.machine.states import ENDED, RunStatus
from cnstra.orchestrator.submitting import ListOptions, filter_of, refuse_unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """How a run stands at its end.

    ``outputs`` are the signals that no neuron listens to, in the order of finishing; ``context`` is the shared value, None
    also where the retention has taken it, and where a run has failed and a part of its context is lost. What does not fit its
    declared type is the JSON that is stored. ``error`` and ``error_type`` say why a failed run failed.
    """

    status: str
    outputs: tuple[Signal[Any], ...]
    context: Any
    error: str | None
    error_type: str | None = None


class Looking(Contexts):
    """The flows of who looks at runs."""

    def list_rows(self, options: ListOptions) -> Flow[list[Mapping[str, Any]]]:
        """The rows of ``cnstra.runs`` that fit, newest first."""
        refuse_unknown("list_runs", options, ListOptions)
        return cast("list[Mapping[str, Any]]", (yield from self._run(self._operations.run_rows(filter_of(options)))))

    def describe(self, run_id: uuid.UUID) -> Flow[dict[str, Any]]:
        """The run's row of ``cnstra.runs``, and its activations as a list."""
        row = yield from self.row(run_id)
        activations = yield from self._run(self._operations.activation_rows(run_id))
        if not activations:  # every run has some: it was pruned in between
            raise not_found(run_id)
        return {**row, "activations": [dict(activation) for activation in activations]}

    def status(self, run_id: uuid.UUID) -> Flow[str]:
        found = yield from self._run(self._operations.run_status(run_id))
        if found is None:
            raise not_found(run_id)
        return cast("str", found)

    def wait(self, run_id: uuid.UUID, timeout: float | None) -> Flow[RunResult]:
        """The run's result, once it has ended. Raises ``TimeoutError`` when it has not within ``timeout`` seconds."""
        yield from self.ended(run_id, timeout)
        return (yield from self.result(run_id))

    def ended(self, run_id: uuid.UUID, timeout: float | None) -> Flow[None]:
        """Return when the run has ended, without a look at its context. Raises ``TimeoutError`` likewise."""
        if timeout is not None and not (isinstance(timeout, int | float) and timeout == timeout):
            raise ConfigurationError(f"timeout={timeout!r} must be a number of seconds, or None to wait without end")
        until = None if timeout is None else self._world.monotonic() + timeout
        pause = FIRST_PAUSE
        while True:
            status = yield from self._run(self._operations.current_status(run_id))
            if status is None:
                raise not_found(run_id)
            if RunStatus(status) in ENDED:
                return
            left = None if until is None else until - self._world.monotonic()
            if left is not None and left <= 0:
                raise TimeoutError(f"run {run_id} is {status} after {timeout} seconds; it goes on")
            yield self._world.sleep(pause if left is None else min(pause, left))
            pause = min(pause * 1.5, LONGEST_PAUSE)

    def result(self, run_id: uuid.UUID) -> Flow[RunResult]:
        row = yield from self._run(self._operations.run_outcome(run_id))
        if row is None:
            raise not_found(run_id)
        try:
            context = yield from self._stored_context(run_id, None)
            if context is not None and self._declared is not None:
                context = _decoded(self._declared, context)
        except ContextExpired:
            context = None
        except ContextLost:  # it may have failed for that: then this is its error, and not the waiting's
            if row["status"] == RunStatus.COMPLETED:
                raise
            context = None
        return RunResult(
            status=row["status"],
            outputs=tuple(
                self._signal(f"run {run_id}", output["collateral"], output["payload"]) for output in row["outputs"]
            ),
            context=context,
            error=row["error"],
            error_type=row["error_type"],
        )

    def _signal(self, run: str, name: str, payload: Any) -> Signal[Any]:
        known = self._cns.collateral(name) if self._cns is not None else None
        sealing.refuse_sealed(payload, f"{run}, an output on {name!r}")
        if known is None:
            return Signal(Collateral(name, Any), payload)
        return Signal(known, _decoded(known.payload, payload))


def _decoded(declared: PayloadType, value: Any) -> Any:
    """A value as its declared type; as it is stored, where it does not fit that any more: how a run ended raises nothing."""
    try:
        return declared.decode(value)
    except PayloadError:
        return value
