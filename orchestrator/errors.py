"""Every error that CNStra raises, in one tree under ``CnstraError``.

A message says what happened, to which name or id, and what to do about it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnstra.orchestrator.stimulation.records import Failure


class CnstraError(Exception):
    """The root of every error that CNStra raises on purpose."""


class GraphError(CnstraError):
    """A graph, or a part of one, that cannot work; found while it is built."""


class OutputError(GraphError):
    """What a handler emits cannot be: it is no signal, is not in its neuron's axon, or is a scatter with a wrong limit."""


class PayloadError(CnstraError):
    """A payload that does not fit its collateral, or that cannot be stored."""


class ContextError(CnstraError):
    """A context value that is not exactly JSON, or a use of the context that its rules refuse."""


class ContextExpired(ContextError):
    """The retention has taken the run's context, while the run itself is kept."""


class ContextLost(CnstraError):
    """A part of a context is gone from the user's own store that kept it, or is not what was put there."""


class SealError(CnstraError):
    """Something that is sealed cannot be opened: it was changed, belongs elsewhere, or the key under its id is another one."""

    def at(self, where: str) -> SealError:
        """The same, with the place where it was found."""
        return type(self)(f"{where}: {self}")


class KeyMissing(SealError):
    """Something was sealed with a key that is not at hand here."""


class ContextConflict(CnstraError):
    """Somebody else wrote what was read of a context, and was to be written: another activation, or another writer."""


class ReactiveError(CnstraError):
    """A use of the reactive database that its rules refuse; nothing was changed."""


class TimerError(CnstraError):
    """A delay, or a time, that a signal cannot wait for."""


class ExpectationError(CnstraError):
    """A wait for a signal from outside that cannot be: its key, its timeout, or what is to happen then."""


class PolicyError(CnstraError):
    """A retry policy that cannot be persisted or asked."""


class ResultRefused(CnstraError):
    """A retry policy still refused what the handler returned when its tries had run out."""


class SubmitError(CnstraError):
    """A submit that was refused; nothing was stored."""


class SendError(CnstraError):
    """A signal that cannot be sent; nothing was."""


class RunNotFound(CnstraError):
    """No run with this id is stored."""


class RunStateError(CnstraError):
    """The run's status does not allow what was asked of it."""


class TransactionError(CnstraError):
    """A use of ``ctx.connection`` that its rules refuse: its transaction is committed with the hop, and not by hand."""


class StoreUnavailable(CnstraError):
    """A store of runs or contexts cannot be reached, or does not answer in time; what was asked may have happened."""


class AccessRefused(StoreUnavailable):
    """The database's role may not do what was asked; nothing was done. Another try gives the same until somebody gives it the
    right, or its user a role of those that ``cnstra migrate --roles`` makes."""


class DataRefused(CnstraError):
    """The store of runs, or one of contexts, cannot hold what it was given; nothing was stored."""


class QueryError(CnstraError):
    """A query of the user's own that the database refused; nothing was changed."""


class SchemaError(CnstraError):
    """The database's schema does not fit this release; ``cnstra migrate`` mends it."""


class ConfigurationError(CnstraError):
    """A setting that is missing or cannot be used."""


class ServersError(CnstraError):
    """The development servers could not be started, joined or stopped."""


class WorkerLost(CnstraError):
    """The worker that ran an activation died, or stalled past its lease."""


class Poisoned(CnstraError):
    """An activation that took its worker down with it too many times."""


class BrokerAway(CnstraError):
    """The broker does not answer. Runs go on: only the workers' being told at once waits for it."""


class StimulationError(CnstraError):
    """A stimulation that was asked for in a way that cannot be; nothing of it ran."""


class StimulationFailed(CnstraError):
    """A stimulation has ended, and tasks of it failed: ``failures`` has them, ``context_store`` what it knew."""

    def __init__(self, message: str, failures: Sequence[Failure] = (), context_store: Any = None) -> None:
        super().__init__(message)
        self.failures = list(failures)
        self.context_store = context_store


class StimulationAborted(CnstraError):
    """A stimulation was aborted: ``failures`` has the tasks that failed, and those that were not started,
    ``context_store`` what it knew.
    """

    def __init__(self, message: str, failures: Sequence[Failure] = (), context_store: Any = None) -> None:
        super().__init__(message)
        self.failures = list(failures)
        self.context_store = context_store


class HopLimitReached(CnstraError):
    """A stimulation was about to visit a neuron more often than ``max_neuron_hops`` allows."""


class MaxDurationExceeded(CnstraError):
    """A handler took longer than its ``max_duration``: an async one was cancelled, of a sync one nothing is taken any more."""


class DeadlineExceeded(CnstraError):
    """A run had not ended at its deadline."""


class NoEventLoop(CnstraError):
    """Something has to wait, and no event loop runs in this thread that could wake it."""


class UnknownDendrite(CnstraError):
    """A task for a neuron that has no dendrite on the task's collateral."""


# Users import errors from the facade, and read their names in SQL: both are to be the same.
for _error in [found for found in globals().values() if isinstance(found, type)]:
    if issubclass(_error, CnstraError):
        _error.__module__ = "cnstra"
