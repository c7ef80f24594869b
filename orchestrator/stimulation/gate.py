"""A gate before a graph: many triggers, one stimulation at a time.

For a timer, a webhook and a person who may all ask for the same work at once: whoever asks while it runs waits for what
runs, and whoever asks after it has ended starts it anew. The idea is CNStra's (TypeScript).
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from threading import Event, Lock
from typing import Any

from typing_extensions import Unpack

from cnstra.orchestrator.errors import StimulationError
from cnstra.orchestrator.graph import Signal
from cnstra.orchestrator.stimulation.cns import CNS
from cnstra.orchestrator.stimulation.options import StimulateOptions, checked, initial
from cnstra.orchestrator.stimulation.stimulation import Stimulation


class Draining:
    """One stimulation behind a gate; any number of callers may await it."""

    __slots__ = ("abort", "stimulation")

    stimulation: Stimulation
    abort: Event
    """The abort signal of this stimulation, unless another one was given."""

    def __init__(self, stimulation: Stimulation, abort: Event) -> None:
        self.stimulation, self.abort = stimulation, abort

    @property
    def is_over(self) -> bool:
        """Whether its stimulation has ended."""
        return self.stimulation.is_complete

    def __await__(self) -> Generator[Any, None, None]:
        """Wait for the end; raises what ``wait_until_complete`` raises."""
        return self.stimulation.wait_until_complete().__await__()


class StimulationGate:
    """Stimulates ``cns`` with ``signal`` and ``options``, never twice at once. Threads may share it."""

    __slots__ = ("_cns", "_current", "_lock", "_options", "_signal")

    def __init__(
        self, cns: CNS, signal: Signal[Any] | Iterable[Signal[Any]], **options: Unpack[StimulateOptions]
    ) -> None:
        if not isinstance(cns, CNS):
            raise StimulationError(f"a gate stands before a graph, CNS([...]), got {type(cns).__name__}")
        checked({**options, "create_context_store": None})
        self._cns = cns
        self._signal = initial(signal)
        self._options = options
        self._lock = Lock()
        self._current: Draining | None = None

    def drain(self) -> Draining:
        """Start the stimulation, or join the one that runs: the same object, to be awaited, as long as it runs."""
        with self._lock:
            if self._current is not None and not self._current.is_over:
                return self._current
            abort = Event()
            options: StimulateOptions = {**self._options}
            if options.get("abort_signal") is None:
                options["abort_signal"] = abort
            draining = self._current = Draining(self._cns._stimulation(self._signal, options), abort)
        try:
            draining.stimulation._begin(self._signal)
        except BaseException:
            self._current = None
            raise
        return draining

    def is_draining(self) -> bool:
        """Whether a stimulation runs."""
        current = self._current
        return current is not None and not current.is_over

    @property
    def current_stimulation(self) -> Stimulation | None:
        """The stimulation that runs, or None."""
        current = self._current
        return None if current is None or current.is_over else current.stimulation

    def abort(self) -> bool:
        """Have the stimulation that runs start nothing more. False when there is none, when it was aborted already, or
        when ``abort_signal=`` was given: then that decides.
        """
        current = self._current
        if current is None or current.is_over or self._options.get("abort_signal") is not None:
            return False
        if current.abort.is_set():
            return False
        current.abort.set()
        current.stimulation._notice_abort()
        return True
