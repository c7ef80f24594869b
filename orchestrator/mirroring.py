"""Mirrors: a collection is kept in step with the contexts of many runs, look by look, by version.

A mirror knows the version of each run that it has handed on, and asks what is newer. So nothing is missed, and nothing comes
twice or backwards, however often the connection breaks. Owns which runs are followed, what is known of them, and the pace of
looks. Where the contexts go is the ``Sink``'s business; who looks, on which thread, and what an outage means, the client's.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, Protocol, TypedDict, TypeVar
from uuid import UUID

from msgspec.structs import replace

from cnstra.orchestrator.errors import CnstraError, ConfigurationError, ReactiveError, RunStateError, StoreUnavailable
from cnstra.orchestrator.flows import Flow, Flows, World, not_found
from cnstra.orchestrator.store import Look, RunChoice, Search, Sighting, Sightings
from cnstra.orchestrator.submitting import aware, graph_name, refuse_unknown, run_status, run_uuid, tag_filter

T = TypeVar("T")

_log = logging.getLogger("cnstra.mirror")

QUICKEST = 0.02
SLOWEST = 0.5
_SHARE = 4.0
"""A pause is at least so many times as long as the look before it: what a look costs bounds how often there is one."""

_RUNS_AT_ONCE = 1_000
_CONTEXTS_AT_ONCE = 100

_WHOLE_EVERY = 10.0
_WHOLE_SHARE = 20.0
_YOUNG = timedelta(minutes=1)
"""Ids carry the time of their making. A usual look passes over live runs whose ids are older than this; a whole one, every ten
seconds, finds those whose submit took longer to commit, whose client's clock is behind, and who were retried."""

_OVERLAP = timedelta(seconds=5)
"""How far the database's clock may jump back, at a failover say, so that still no end of a run is passed over."""


class MirrorOptions(TypedDict, total=False):
    """Which runs a mirror follows, and what becomes of them.

    ``runs``: ids; only these. Otherwise all that have not ended and fit what is given, now and as they are submitted:
    ``graph``: its name. ``tag``: ``"key"``, ``"key=value"`` or a pair. ``since``: an aware datetime; submitted then or later.
    ``status``: who has it at a look is taken up, and followed from then on; of ``"failed"`` and other ends, who come to it
    after the mirror's beginning. ``keep_ended``: whether the records of runs that have ended stay, True by default.
    """

    runs: Iterable[UUID | str] | None
    graph: str | None
    tag: str | tuple[str, str] | None
    since: datetime | None
    status: str | None
    keep_ended: bool


class Sink(Protocol):
    """Where a mirror hands contexts on to."""

    def known(self) -> Mapping[UUID, int]:
        """The versions that are there already, by run."""
        ...

    def version(self, run_id: UUID, /) -> int:
        """The version of one run that is there; 0 where there is none."""
        ...

    def take(self, contexts: Mapping[UUID, tuple[int, Any]], /) -> None:
        """Newer versions, with their shared values. What is not newer than what is there changes nothing."""
        ...

    def remove(self, run_ids: Sequence[UUID], /) -> None:
        """Forget these runs."""
        ...


class Mirroring:
    """One mirror: ``begin``, then one ``look`` after another, each by one caller at a time.

    Raises ``ConfigurationError`` for options that do not go together, or that no run can fit.
    """

    def __init__(self, flows: Flows, world: World, sink: Sink, options: MirrorOptions) -> None:
        refuse_unknown("mirror", options, MirrorOptions)
        self._flows, self._world, self._sink = flows, world, sink
        self._named = _named(options)
        self._search = None if self._named is not None else _search(options)
        self._keep_ended = options.get("keep_ended", True)
        self._versions: dict[UUID, int] = {}
        self._left: dict[UUID, tuple[int, datetime]] = {}  # who was let go of lately: the version, and when
        self._problems: dict[UUID, CnstraError] = {}
        self._away: StoreUnavailable | None = None
        self._pause = QUICKEST
        self._begun_at: datetime | None = None
        self._seen_at: datetime | None = None
        self._whole_due = 0.0
        self._ticketing = threading.Lock()
        self._tickets = 0  # of those who wait for a whole look; and the last that was served
        self._served = 0
        self._gate = threading.RLock()
        self._open = True

    # -- looks -------------------------------------------------------------------------------------------------

    def begin(self) -> Flow[None]:
        """The first look: when it is over the sink has what was committed before.

        Raises ``RunNotFound`` for a named run that there is not, ``StoreUnavailable``.
        """
        there = self._sink.known()
        self._versions = dict(there) if self._named is None else {one: there.get(one, 0) for one in self._named}
        yield from self.look()

    def look(self) -> Flow[float]:
        """Hand on what is new; the seconds to pause before the next look. Raises ``StoreUnavailable``, having lost nothing."""
        began, tickets, first = self._world.monotonic(), self._tickets, self._begun_at is None
        whole = first or began >= self._whole_due or tickets > self._served
        search = self._next_search(whole)
        among = None if self._search is None or not first else self._search.which
        at: datetime | None = None
        moved, self._away = False, None
        for versions in _portions(sorted(self._versions.items()), _RUNS_AT_ONCE) or [[]]:
            seen = yield from self._flows.sighted(Look(versions=dict(versions), among=among, search=search))
            at = at or seen.at
            moved |= yield from self._hand_on(seen, first)
            while search is not None and len(seen.found) == search.limit:
                search = replace(search, after=seen.found[-1].run_id)
                seen = yield from self._flows.sighted(Look(search=search))
                moved |= yield from self._hand_on(seen, first)
            search = None
        if self._away is not None:
            raise self._away
        assert at is not None
        self._looked(at)
        now = self._world.monotonic()
        if whole:
            self._whole_due = now + max(_WHOLE_EVERY, (now - began) * _WHOLE_SHARE)
            self._served = tickets
        self._pause = QUICKEST if moved else min(self._pause * 1.5, SLOWEST)
        return max(self._pause, (now - began) * _SHARE)

    def _next_search(self, whole: bool) -> Search | None:
        if self._search is None or self._begun_at is None or self._seen_at is None:
            return self._search
        young = None if whole else _first_id(self._seen_at - _YOUNG)
        since = max(self._begun_at, self._seen_at - _OVERLAP)
        return replace(self._search, ended_since=since, from_id=young)

    def _looked(self, at: datetime) -> None:
        """A look is over that saw what had been committed at a time."""
        self._begun_at = self._begun_at or at
        self._seen_at = at
        self._left = {run_id: left for run_id, left in self._left.items() if left[1] > at - 2 * _OVERLAP}
        self._problems = {
            run_id: problem
            for run_id, problem in self._problems.items()
            if run_id in self._versions or run_id in self._left
        }

    def _hand_on(self, seen: Sightings, first: bool) -> Flow[bool]:
        """Hand on what was seen, and let go of who has ended; whether there was anything."""
        if first:
            if self._named is not None and seen.gone:
                raise not_found(seen.gone[0])
            for run_id in seen.gone:  # the collection has them, and they are not among those that are followed
                del self._versions[run_id]
        found = [one for one in seen.found if one.run_id not in self._versions and not self._is_left(one)]
        self._versions.update((one.run_id, self._sink.version(one.run_id)) for one in found)
        sighted = [*seen.moved, *found]
        newer = [one for one in sighted if one.version > self._versions[one.run_id]]
        for some in _portions(newer, _CONTEXTS_AT_ONCE):
            yield from self._take(some)
        over = [one.run_id for one in sighted if one.ended and self._versions[one.run_id] >= one.version]
        over += [] if first else seen.gone
        if over and not self._keep_ended:
            yield self._world.sleep(0)  # subscribers who are told once a turn of a loop see the last version first
        self._let_go(over, seen.at)
        return bool(newer or over or found)

    def _take(self, sighted: Sequence[Sighting]) -> Flow[None]:
        """Hand on the newest contexts of some runs. A store of some that is away is said when the look is over."""
        newest = yield from self._flows.newest({one.run_id: one.place for one in sighted})
        taken: dict[UUID, tuple[int, Any]] = {}
        for one in sighted:
            found = newest.get(one.run_id)
            if isinstance(found, StoreUnavailable):
                self._away = found
            elif isinstance(found, CnstraError):
                self._pass_over(one, found)
            elif found is None:  # the retention has taken it
                self._versions[one.run_id] = one.version
            else:
                taken[one.run_id] = found
        with self._gate:
            if self._open and taken:
                self._sink.take(taken)
                for run_id, (version, _) in taken.items():
                    self._versions[run_id] = version
                    self._problems.pop(run_id, None)

    def _pass_over(self, one: Sighting, problem: CnstraError) -> None:
        """A version that cannot be read, however often it is asked for; a later one may."""
        if one.run_id not in self._problems:
            _log.warning("A mirror passes over versions of a run that it cannot read: %s", problem)
        self._problems[one.run_id] = problem
        self._versions[one.run_id] = one.version

    def _let_go(self, over: Sequence[UUID], at: datetime) -> None:
        for run_id in over:
            self._left[run_id] = (self._versions[run_id], at)
            del self._versions[run_id]
        with self._gate:
            if self._open and over and not self._keep_ended:
                self._sink.remove(over)

    def _is_left(self, one: Sighting) -> bool:
        return one.ended and one.run_id in self._left and self._left[one.run_id][0] >= one.version

    # -- who waits ---------------------------------------------------------------------------------------------

    def ask(self) -> int:
        """Let the next look be a whole one, that finds all runs; a ticket for ``is_served``."""
        with self._ticketing:
            self._tickets += 1
            return self._tickets

    def is_served(self, ticket: int) -> bool:
        """Whether all that had been committed when the ticket was drawn has been handed on."""
        return self._served >= ticket

    def has(self, run_id: UUID, version: int, ticket: int) -> bool:
        """Whether this version of a run, or a later one, has been handed on.

        Raises what keeps it from ever being so: ``RunStateError`` for a run that has ended before, ``ReactiveError`` for one that
        is not followed, and what went wrong with its context.
        """
        problem, left = self._problems.get(run_id), self._left.get(run_id)
        if problem is not None:
            raise problem
        known = self._versions.get(run_id)
        if max(self._sink.version(run_id), known or 0, left[0] if left else 0) >= version:
            return True
        if known is not None:
            return False
        if left is not None:
            raise RunStateError(
                f"run {run_id} has ended, or is gone, at version {left[0]}; version {version} will not come"
            )
        if self.is_served(ticket):
            raise ReactiveError(
                f"run {run_id} is not, or not any more, among those that this mirror follows, and no version {version} of it came"
            )
        return False

    def end(self) -> None:
        """Hand on nothing more, from now on."""
        with self._gate:
            self._open = False


def _named(options: MirrorOptions) -> list[UUID] | None:
    """The runs that are named; None where they are selected."""
    runs = options.get("runs")
    if runs is None:
        return None
    beside = [name for name in ("graph", "tag", "since", "status") if options.get(name) is not None]
    if beside:
        raise ConfigurationError(f"runs= names the runs that the mirror follows; leave out {', '.join(beside)}")
    if isinstance(runs, str):
        raise ConfigurationError(f"runs={runs!r} must be several ids: [run.id]")
    return list(dict.fromkeys(run_uuid(run_id) for run_id in runs))


def _search(options: MirrorOptions) -> Search:
    which = RunChoice(
        graph=graph_name(options.get("graph")), tag=tag_filter(options.get("tag")), since=aware(options.get("since"))
    )
    return Search(which=which, status=run_status(options.get("status")), limit=_RUNS_AT_ONCE)


def _portions(items: Iterable[T], size: int) -> list[list[T]]:
    rest: Iterator[T] = iter(items)
    return list(iter(lambda: list(islice(rest, size)), []))


def _first_id(moment: datetime) -> UUID:
    """The smallest UUIDv7 of a moment."""
    return UUID(int=max(int(moment.timestamp() * 1000), 0) << 80)
