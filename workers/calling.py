"""One call of a handler, or of a compensation: from claimed work to the event that its settlement is.

Owns the decoding of the payload, the context that the handler sees, the judging of what it raised while that is live, and
the encoding of what it emitted. Refuses to know the store, the broker, threads and loops: ``begin`` and ``conclude`` stand
on the two sides of the call itself, which the engine makes in a thread or on the event loop.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace
from tenacity import BaseRetrying

from cnstra.orchestrator import slots, values
from cnstra.orchestrator.emission import Emitter, compensable
from cnstra.orchestrator.errors import ContextConflict, OutputError, PayloadError, Poisoned, PolicyError
from cnstra.orchestrator.graph import CNS, Collateral, Compensation, MemberFailure, Signal, normalise_outputs
from cnstra.orchestrator.graph.dendrites import Emission
from cnstra.orchestrator.graph.network import AnyDendrite
from cnstra.orchestrator.machine.events import FailedTry, Scattered, Succeeded
from cnstra.orchestrator.machine.records import Compensable, Failure, Output, Target
from cnstra.orchestrator.retry import (
    DEFAULT_POLICY,
    GiveUp,
    RetryAfter,
    Returned,
    Tried,
    announce,
    announces,
    from_data,
    judge,
    takes_any_result,
)
from cnstra.orchestrator.retry import Failure as Raised
from cnstra.orchestrator.run_context import Identity, RunContext, view_of
from cnstra.orchestrator.sealing import NOTE
from cnstra.orchestrator.slots import NO_CHANGES, OnStale, Slot
from cnstra.orchestrator.store import Work

_ON_STALE = {"retry": OnStale.CONFLICT, "overwrite": OnStale.OVERWRITE}
LONGEST_ERROR = 10_000
LONGEST_TRACEBACK = 100_000
MOST_PER_HOP = 64 * 1024 * 1024
"""Characters that one hop may write: a statement far larger cuts its connection, and would hold up a batch for ever."""


Stay = Callable[[Target, int], int]
"""How many activations of so many, for a target, may stay in this worker."""


class Call(Struct):
    """A call under way: its work, the dendrite, and what the handler is given. ``emitted`` is what a compensation undoes;
    ``size`` is about how many characters it emits and writes, once it has ended.
    """

    work: Work
    dendrite: AnyDendrite
    payload: Any
    context: RunContext[Any, Any]
    emitted: list[Signal[Any]] = field(default_factory=list)
    emissions: list[Emission] | None = None
    size: int = 0

    @property
    def callee(self) -> AnyDendrite | Compensation:
        """What is called: the dendrite, or its compensation."""
        return callee_of(self.work, self.dendrite)

    def begin(self) -> Any:
        """Call it; what it returns, or an awaitable of that."""
        callee = self.callee
        if isinstance(callee, Compensation):
            return callee.call(self.payload, self.context, self.emitted)
        return callee.call(self.payload, self.dendrite.neuron.axon, self.context)


def callee_of(work: Work, dendrite: AnyDendrite) -> AnyDendrite | Compensation:
    """What is called for claimed work. Raises ``LookupError`` for a compensation that the graph does not have."""
    if not work.undo:
        return dendrite
    if dendrite.compensation is None:
        raise LookupError(f"{work}: claimed, and not in the graph")
    return dendrite.compensation


class Caller:
    """Makes events of calls, for one graph."""

    def __init__(self, cns: CNS, *, queues: frozenset[str], poison_limit: int) -> None:
        self._cns = cns
        self._emitter = Emitter(cns)
        self._queues = queues
        self._poison_limit = poison_limit

    # -- before the call ---------------------------------------------------------------------------------------

    def begin(self, work: Work) -> Call | FailedTry:
        """What the handler is to be called with; or, where that cannot be, the failure."""
        dendrite = self._cns.dendrite(work.neuron, work.collateral)
        if dendrite is None:
            raise LookupError(f"{work}: claimed, and not in the graph")
        if work.unopened is not None:
            return self.given_up(work, work.unopened)
        if work.crashes >= self._poison_limit:
            return self.failed(
                work,
                Poisoned(f"{work}: {work.crashes} workers were lost with it; it is not called again in this attempt"),
                for_good=True,
            )
        try:
            payload = self.payload_of(work, dendrite)
            emitted = [self._signal(output) for output in work.emitted]
            call = Call(work, dendrite, payload, self._context(work, dendrite), emitted)
            policy = self._policy(work, dendrite)
            if announces(policy):
                announce(policy, self._tried(work, 0.0, dendrite))
        except (PayloadError, PolicyError) as error:
            return self.failed(work, error, dendrite=dendrite)
        return call

    def payload_of(self, work: Work, dendrite: AnyDendrite) -> Any:
        """What the handler is called with: the signal's payload; or the results of a group, in the order of its members."""
        given, decode = values.load(work.payload), dendrite.collateral.payload.decode
        if dendrite.gathering is None:
            return decode(given)
        if not dendrite.gathering.return_failures:
            return [decode(result) for result in given]
        return [self._failure(one["failure"]) if "failure" in one else decode(one["result"]) for one in given]

    def _failure(self, failure: Mapping[str, Any]) -> MemberFailure:
        scattered = self._cns.collateral(failure["collateral"])
        payload = failure["payload"]
        return MemberFailure(
            index=failure["index"],
            payload=payload if scattered is None else scattered.payload.decode(payload),
            error=failure["error"],
            error_type=failure["error_type"],
        )

    def _signal(self, output: Output) -> Signal[Any]:
        """What was emitted, as the handler made it; by a name that the graph has no more, as plain JSON."""
        collateral, payload = self._cns.collateral(output.collateral), values.load(output.payload)
        if collateral is None:
            return Signal(Collateral(output.collateral, Any), payload)
        return Signal(collateral, collateral.payload.decode(payload))

    def _context(self, work: Work, dendrite: AnyDendrite) -> RunContext[Any, Any]:
        return RunContext(
            work.snapshot,
            Identity(
                run_id=work.run_id,
                activation_id=work.activation_id,
                neuron=work.neuron,
                attempt=work.attempt,
                try_number=work.try_number,
                undo=work.undo,
            ),
            services=self._cns.services,
            context_type=self._cns.context_payload,
            local_type=dendrite.neuron.local_payload,
            deadline=work.deadline,
            progress=work.progress,
        )

    # -- after the call ----------------------------------------------------------------------------------------

    def conclude(self, call: Call, returned: Any, *, seconds: float, stay: Stay | None) -> Succeeded | FailedTry:
        """The event of a handler that returned. With ``stay`` a single successor is to be kept in this worker, and as many
        members of a scatter as that allows."""
        try:
            call.emissions = self._emissions(call, returned)
            policy = self._policy(call.work, call.dendrite)
            if takes_any_result(policy):
                return self._succeeded(call, stay=stay)
            verdict = judge(policy, self._tried(call.work, seconds, call.dendrite), Returned(returned))
            if isinstance(verdict, RetryAfter):
                problem = PolicyError(f"{call.work}: the policy retries what the handler returned")
                return self._failed_try(call.work, problem, verdict.seconds)
            if isinstance(verdict, GiveUp):
                return self.failed(call.work, verdict.error, for_good=True)
            return self._succeeded(call, stay=stay)
        except BaseException as error:  # a generator is the handler's own code, and may raise anything
            return self.failed(call.work, error, dendrite=call.dendrite, seconds=seconds)

    def _emissions(self, call: Call, returned: Any) -> list[Emission]:
        if not call.work.undo:
            return normalise_outputs(call.dendrite, returned)
        if returned is not None:
            raise OutputError(f"{call.work}: it returned a {type(returned).__name__}; a compensation emits nothing")
        return []

    def _succeeded(self, call: Call, *, stay: Stay | None) -> Succeeded:
        view = view_of(call.context)
        view.close()
        emitted = self._emitter.emitted(call.emissions or (), call.work)
        if stay is not None:
            _keep_one(emitted.targets, self._queues)
            emitted.scattered = [_keep_members(one, self._queues, stay) for one in emitted.scattered]
        event = Succeeded(
            fence=call.work.fence,
            targets=tuple(emitted.targets),
            outputs=tuple(emitted.outputs),
            expected=tuple(emitted.expected),
            scattered=tuple(emitted.scattered),
            results=tuple(emitted.results),
            changes=view.changes(_on_stale(call)) if view.held else NO_CHANGES,
            version_read=call.work.snapshot.version,
            compensable=compensable(call.dendrite),
        )
        call.size = size_of(event)
        if call.size > MOST_PER_HOP:
            raise PayloadError(
                f"{call.work}: what it emits and writes comes to {call.size:,} characters of JSON, above the limit of "
                f"{MOST_PER_HOP:,} a hop; store it elsewhere and pass references, or emit it in several hops"
            )
        return event

    def take_in(
        self, call: Call, newest: Mapping[str, Slot], *, seconds: float, stay: Stay | None
    ) -> Succeeded | FailedTry:
        """The event again, after others wrote what this hop also wrote: by its updates, or by the dendrite's policy."""
        try:
            view = view_of(call.context)
            others = view.rebase(newest)
            if others and call.dendrite.merge is None:
                keys = ", ".join(sorted(others))
                raise ContextConflict(
                    f"{call.work}: another activation wrote {keys} meanwhile, and on_conflict is 'fail'"
                )
            if others and call.dendrite.merge is not None:
                view.merge(others, call.dendrite.merge, call.work.snapshot, self._fits)
            return self._succeeded(call, stay=stay)
        except ContextConflict as error:
            return self.failed(call.work, error, for_good=True)
        except BaseException as error:  # updates and merges may raise anything, too
            return self.failed(call.work, error, dendrite=call.dendrite, seconds=seconds)

    def _fits(self, slot: str, value: Any) -> None:
        key, declared = slots.shared_key(slot), self._cns.context_payload
        if key is not None and declared is not None:
            declared.check_key(key, value)

    # -- failures ----------------------------------------------------------------------------------------------

    def failed(
        self,
        work: Work,
        error: BaseException,
        *,
        dendrite: AnyDendrite | None = None,
        seconds: float = 0.0,
        for_good: bool = False,
    ) -> FailedTry:
        """The event of a try that failed, judged by the dendrite's policy and, for good, by the run's.

        Raises nothing, whatever the policies and the error itself do: a try that has ended must be settled.
        """
        try:
            return self._judged(work, error, dendrite, seconds, for_good=for_good)
        except BaseException as broken:
            problem = PolicyError(f"{work}: its {type(error).__name__} could not be judged: {type(broken).__name__}")
            return self._failed_try(work, problem, None)

    def given_up(self, work: Work, error: Exception) -> FailedTry:
        """The event of a try that failed for good, at once: neither policy is asked."""
        return self._failed_try(work, error, None)

    def _judged(
        self, work: Work, error: BaseException, dendrite: AnyDendrite | None, seconds: float, *, for_good: bool
    ) -> FailedTry:
        for_good = for_good or isinstance(error, PolicyError)
        if not for_good and dendrite is not None and isinstance(error, Exception):
            try:
                verdict = judge(self._policy(work, dendrite), self._tried(work, seconds, dendrite), Raised(error))
            except PolicyError as broken:
                broken.__context__ = error
                error, verdict = broken, GiveUp(broken)
            if isinstance(verdict, RetryAfter):
                return self._failed_try(work, error, verdict.seconds)
        return self._failed_try(work, error, None, None if work.undo else self._revival(work, error, seconds))

    def _failed_try(
        self, work: Work, error: BaseException, retry_after: float | None, revive_after: float | None = None
    ) -> FailedTry:
        dendrite = self._cns.dendrite(work.neuron, work.collateral)
        return FailedTry(
            fence=work.fence,
            failure=failure_of(error),
            retry_after=retry_after,
            revive_after=revive_after,
            compensable=Compensable.NO if dendrite is None else compensable(dendrite),
        )

    def _revival(self, work: Work, error: BaseException, seconds: float) -> float | None:
        """Seconds after which the run's policy wants the next attempt; None when it has none, or gives up."""
        try:
            policy = self._cns.retry if work.policy is None else from_data(work.policy, where=f"run {work.run_id}")
            if policy is None or not isinstance(error, Exception):
                return None
            tried = Tried(
                attempt_number=work.attempt,
                started=max(work.run_elapsed + seconds, 0.0),
                idle_for=work.run_idled,
            )
            verdict = judge(policy, tried, Raised(error))
        except PolicyError as broken:
            with suppress(Exception):  # errors are users' code, too
                error.add_note(f"and the run's policy could not be asked: {broken}")
            return None
        return verdict.seconds if isinstance(verdict, RetryAfter) else None

    def _policy(self, work: Work, dendrite: AnyDendrite) -> BaseRetrying:
        return callee_of(work, dendrite).retry or DEFAULT_POLICY

    def _tried(self, work: Work, seconds: float, dendrite: AnyDendrite) -> Tried:
        return Tried(
            attempt_number=work.failures + 1,
            started=max(work.elapsed + seconds, 0.0),
            idle_for=work.idled,
            fn=callee_of(work, dendrite).handler,
        )


def size_of(event: Succeeded) -> int:
    """About how many characters a hop writes; a payload counts for each dendrite that hears it."""
    size = 0
    for target in event.targets:
        size += len(target.payload)
    for output in (*event.outputs, *event.results):
        size += len(output.payload)
    for late in (one.late for one in event.expected):
        size += sum(len(target.payload) for target in late.targets)
        size += sum(len(output.payload) for output in (*late.outputs, *late.results))
    for scattered in event.scattered:
        size += len(scattered.targets) * sum(map(len, scattered.payloads))
    for write in event.changes.writes:
        size += len(write.text or "")
    return size


def failure_of(error: BaseException) -> Failure:
    """An exception as it is stored: text that Postgres can hold, and no more than is of use."""
    try:
        lines = traceback.format_exception(error)
    except Exception as broken:
        lines = [f"(its traceback could not be read: {type(broken).__name__})"]
    return Failure(
        error_type=_text(_type_of(error), 1_000),
        error=_text(_message(error), LONGEST_ERROR),
        traceback=_text("".join(lines), LONGEST_TRACEBACK),
    )


def told(error: BaseException) -> str:
    """An exception for the log: its type, and where it was raised. What it says may quote data."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {frames[-1].filename}:{frames[-1].lineno} in {frames[-1].name}" if frames else ""
    return f"{_type_of(error)}{where}"


def _type_of(error: BaseException) -> str:
    kind = type(error)
    return f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException as broken:
        return f"(its message could not be read: {type(broken).__name__})"


def _text(text: str, longest: int) -> str:
    text = text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
    if text.startswith(NOTE):  # it is none that was sealed
        text = f" {text}"
    return text if len(text) <= longest else f"{text[: longest // 2]}\n…\n{text[-longest // 2 :]}"


def _on_stale(call: Call) -> OnStale:
    if call.work.undo:  # it has no policy of its own for that, and is called again
        return OnStale.CONFLICT
    policy = call.dendrite.on_conflict
    return _ON_STALE.get(policy, OnStale.REPORT) if isinstance(policy, str) else OnStale.REPORT


def _keep_one(targets: list[Target], queues: frozenset[str]) -> None:
    """Ask for the first successor that need not wait, nor pass a limit, if this worker serves its queue."""
    for place, target in enumerate(targets):
        if target.delay is None and target.at is None and not target.limited:
            targets[place] = replace(target, here=target.queue in queues)
            return


def _keep_members(scattered: Scattered, queues: frozenset[str], stay: Stay) -> Scattered:
    """Ask for the first members, as far as this worker has room for them: of the first dendrite that hears them, as above."""
    for place, target in enumerate(scattered.targets):
        if not target.limited and target.queue in queues:
            here = stay(target, min(len(scattered.payloads), scattered.limit or len(scattered.payloads)))
            asked = replace(target, here=here > 0)
            return replace(
                scattered, here=here, targets=(*scattered.targets[:place], asked, *scattered.targets[place + 1 :])
            )
    return scattered
