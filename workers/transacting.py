"""A hop whose handler has the transaction of its own settlement: ``transaction=True``.

Its way is straight: begin a transaction, call the handler with its connection, settle in it, commit. The handler's
statements are committed with a settlement that was applied, and never otherwise. What else comes of it, a failed try or
another go, goes to the group commit as a settlement without them. Refuses to know which database it is, and whether the
handler is sync or async: on a thread, nothing in here ever suspends (``carried_out``).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Protocol, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from cnstra.orchestrator.context import ABOUT
from cnstra.orchestrator.errors import (
    CnstraError,
    ConfigurationError,
    ContextConflict,
    DataRefused,
    KeyMissing,
    StoreUnavailable,
    TransactionError,
)
from cnstra.orchestrator.graph import CNS
from cnstra.orchestrator.machine.events import FailedTry, GaveWay, Returned, Succeeded
from cnstra.orchestrator.machine.plans import Verdict
from cnstra.orchestrator.machine.records import BlobRef, Compensable, Failure
from cnstra.orchestrator.ports import Entropy
from cnstra.orchestrator.run_context import lend_connection
from cnstra.orchestrator.slots import Slot
from cnstra.orchestrator.store import Applied, RunEvent, Step, Store, Transactional, Transactions, Work
from cnstra.workers.calling import Call, failure_of
from cnstra.workers.committing import Rings, Settlement

_log = logging.getLogger("cnstra.worker")

T = TypeVar("T")

_SHORTEST_BACKOFF = 0.05  # seconds before a handler whose transaction was undone is called again; doubled each time
_LONGEST_BACKOFF = 5.0
_PAUSE = 0.1  # seconds before the next try at a connection
_LONGEST_FAREWELL = 2.0  # seconds for connections of async handlers to be closed


class Ended(Struct, frozen=True, kw_only=True):
    """How such a hop ended, with nothing left to settle: what its settlement was answered, and whom to ring."""

    settlement: Settlement
    applied: Applied
    rings: Rings = ()


class TooLate(Exception):
    """The handler came back after its ``max_duration``: its claim was given up, and what it did is undone."""


class Ways(Protocol):
    """What a hop does alike in its own transaction and in a group commit. ``Hops`` knows how."""

    asynchronous: bool

    async def invoke(self, call: Call) -> Any:
        """Call the handler, all of a generator; what it returned. Raises ``TooLate``."""
        ...

    def returned(self, call: Call, returned: Any) -> Settlement:
        """How a handler that returned is to be settled."""
        ...

    def failed(self, call: Call, error: BaseException) -> Settlement:
        """How one that raised is."""
        ...

    def failed_for_good(self, work: Work, error: Exception) -> Settlement:
        """How one is whose policies are not asked."""
        ...

    def refused(self, settlement: Settlement, call: Call, error: DataRefused) -> Settlement:
        """How one is whose data the store cannot hold."""
        ...

    def keep(self, settlement: Settlement) -> Future[Settlement]:
        """The settlement to send; where the run's context is kept elsewhere, when that has what it refers to."""
        ...

    def newest(self, settlement: Settlement, applied: Applied) -> Future[Mapping[str, Slot]]:
        """The values that others wrote meanwhile."""
        ...

    def take_in(self, settlement: Settlement, newest: Mapping[str, Slot]) -> Settlement:
        """The settlement on top of these."""
        ...


class Transacting:
    """Carries such hops out, for one worker process. ``going`` says whether it still calls handlers."""

    def __init__(
        self, transactions: Transactions, entropy: Entropy, worker: Callable[[], Any], going: Callable[[], bool]
    ):
        self._transactions = transactions
        self._entropy = entropy
        self._worker = worker
        self._going = going

    async def hop(self, call: Call, ways: Ways) -> Settlement | Ended | None:
        """Carry a hop out; what is left to be settled without the handler's statements, or how it ended; None where that came
        too late.
        """
        step = await self._begun(call.work, ways)
        if step is None:
            return Settlement(work=call.work, event=Returned(fence=call.work.fence))
        try:
            lend_connection(call.context, step.connection)
            try:
                returned = await ways.invoke(call)
            except TooLate:
                await step.undo()
                return None
            except BaseException as error:  # a handler may raise anything
                if ways.asynchronous and isinstance(
                    error, asyncio.CancelledError
                ):  # the worker stops, and waits no longer
                    await step.discard()
                    raise
                return await self._raised(step, call, ways, error)
            settlement = ways.returned(call, returned)
            if not isinstance(settlement.event, Succeeded):
                await step.undo()
                return self._by_hand(step, call, ways) or settlement
            return await self._settle(step, call, ways, settlement)
        finally:
            lend_connection(call.context, None)

    async def _begun(self, work: Work, ways: Ways) -> Step | None:
        """The transaction; None when the worker stops before there is a connection for it."""
        waited = False
        while self._going():
            try:
                return await self._transactions.begin(work, self._worker(), asynchronous=ways.asynchronous)
            except StoreUnavailable as error:
                if not waited:
                    _log.info("%s: %s; it waits for one", work, error)
                waited = True
                await _pause(ways)
        return None

    def close(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let go of all connections; those of async handlers on their event loop."""
        closing = asyncio.run_coroutine_threadsafe(self._transactions.close_async(), loop)
        with suppress(Exception):  # what a handler still holds is gone with the process
            closing.result(_LONGEST_FAREWELL)
        self._transactions.close()

    # -- the handler raised ------------------------------------------------------------------------------------

    async def _raised(self, step: Step, call: Call, ways: Ways, error: BaseException) -> Settlement:
        await step.undo()
        if (by_hand := self._by_hand(step, call, ways)) is not None:
            return by_hand
        if step.passes(error):
            return self._again(call.work, error)
        return ways.failed(call, error)

    def _by_hand(self, step: Step, call: Call, ways: Ways) -> Settlement | None:
        """Of a handler that ended the transaction itself: it must not be called again."""
        problem = step.ended_by_hand
        if problem is None:
            return None
        _log.error("%s", problem, extra={ABOUT: call.work})
        return ways.failed_for_good(call.work, problem)

    def _again(self, work: Work, error: BaseException, wasted: tuple[BlobRef, ...] = ()) -> Settlement:
        """The handler is called again after a while, and this was no failed try; unless it had been committed after all."""
        failure = failure_of(error)  # its message may quote data, and is stored only
        _log.info("%s: its transaction was undone (%s), and it runs again", work, failure.error_type)
        longest = min(_SHORTEST_BACKOFF * 2.0 ** min(work.try_number, 10), _LONGEST_BACKOFF)
        backoff = longest * (0.5 + self._entropy.nonce() % 1000 / 2000)
        event = GaveWay(fence=work.fence, failure=failure, backoff=backoff, wasted=wasted)
        return Settlement(work=work, event=event)

    # -- it returned -------------------------------------------------------------------------------------------

    async def _settle(self, step: Step, call: Call, ways: Ways, settlement: Settlement) -> Settlement | Ended:
        """Settle in the handler's transaction, on top of what others wrote meanwhile, and commit both."""
        work = call.work
        try:
            while True:
                settlement = await _of(ways.keep(settlement), ways)
                batch = await step.settle(RunEvent(run_id=work.run_id, event=settlement.event))
                (applied,) = batch.answers
                if applied.verdict is Verdict.APPLIED:
                    await step.commit()
                    return Ended(settlement=settlement, applied=applied, rings=batch.rings)
                if applied.verdict is not Verdict.STALE:
                    await step.undo()
                    return self._not_applied(settlement, applied)
                settlement = replace(settlement, wasted=settlement.put_by)
                newest = await _of(ways.newest(settlement, applied), ways)
                settlement = ways.take_in(settlement, newest)
                if not isinstance(settlement.event, Succeeded):
                    await step.undo()
                    return settlement
        except asyncio.CancelledError:
            await step.discard()
            raise
        except Exception as error:
            await step.undo()
            return self._unsettled(step, call, ways, settlement, error)

    def _not_applied(self, settlement: Settlement, applied: Applied) -> Settlement | Ended:
        if applied.verdict is Verdict.REFUSED and applied.problem is not None:
            return self._broke_a_rule(settlement, applied.problem)
        if applied.verdict is not Verdict.CONFLICTED:
            return Ended(settlement=settlement, applied=replace(applied, kept=()))
        said = (
            "another activation wrote meanwhile what this one had read; its transaction was undone, and it runs again"
        )
        failure = replace(failure_of(ContextConflict(said)), traceback=None)
        event = GaveWay(fence=settlement.work.fence, failure=failure, wasted=settlement.put_by)
        return Settlement(work=settlement.work, event=event)

    def _broke_a_rule(self, settlement: Settlement, problem: Failure) -> Settlement:
        """The hop has failed for good; that was undone with the handler's statements, and is settled without them."""
        event = FailedTry(
            fence=settlement.work.fence,
            failure=problem,
            retry_after=None,
            wasted=settlement.put_by,
            compensable=settlement.event.compensable if isinstance(settlement.event, Succeeded) else Compensable.NO,
        )
        _log.warning("%s: what it emitted breaks a rule of its group, so that it has failed for good", settlement.work)
        return Settlement(work=settlement.work, event=event)

    def _unsettled(self, step: Step, call: Call, ways: Ways, settlement: Settlement, error: Exception) -> Settlement:
        """It could not be settled, or not be committed; after a lost reply, nobody knows: the next settlement will."""
        if (by_hand := self._by_hand(step, call, ways)) is not None:
            ended = by_hand
        elif isinstance(error, StoreUnavailable | KeyMissing):
            return self._again(call.work, error, settlement.put_by)
        elif isinstance(error, DataRefused):
            return ways.refused(settlement, call, error)
        elif isinstance(error, CnstraError) and not isinstance(error, TransactionError):
            ended = ways.failed_for_good(call.work, error)  # a part of its context is gone
        else:
            ended = ways.failed(call, error)
        if isinstance(ended.event, FailedTry):
            ended = replace(ended, event=replace(ended.event, wasted=settlement.put_by))
        return ended


async def _pause(ways: Ways) -> None:
    if ways.asynchronous:
        await asyncio.sleep(_PAUSE)
    else:
        time.sleep(_PAUSE)  # noqa: ASYNC251 - on a thread of its own


async def _of(future: Future[T], ways: Ways) -> T:
    """What a future comes to: awaited on the event loop, waited for on a thread."""
    return await asyncio.wrap_future(future) if ways.asynchronous else future.result()


def has_transaction(work: Work, call: Call) -> bool:
    """Whether the handler that is to be called has its own transaction. A compensation has none."""
    return call.dendrite.transaction and not work.undo


def carried_out(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never suspends, as those here on a thread."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    coroutine.close()
    raise RuntimeError("something suspended on a thread, where nothing can wake it")


def transactions_of(cns: CNS, store: Store, dendrites: Sequence[tuple[str, str]], limit: int) -> Transactions | None:
    """The store's transactions, where the graph has a dendrite that wants them.

    Raises ``ConfigurationError`` for a store that has none.
    """
    wanting = [
        f"{neuron!r} on {collateral!r}"
        for neuron, collateral in dendrites
        if (dendrite := cns.dendrite(neuron, collateral)) is not None and dendrite.transaction
    ]
    if not wanting:
        return None
    if not isinstance(store, Transactional):
        raise ConfigurationError(
            f"{cns!r}: transaction=True of neuron {', '.join(wanting)} needs a store of runs in a database, such as "
            f"PostgresStore; {type(store).__name__} has no connection to give to handlers"
        )
    return store.transactions(limit)
