"""Hosts are cut off and come back all the time, in ways that a seed decides, and every run comes to what it has to.

``make chaos`` runs it, where there can be hosts: on Linux, as root. ``CNSTRA_CHAOS_SEED`` is the first seed (a new one each time
by default; a test that fails names its own), ``CNSTRA_CHAOS_STORMS`` how many storms there are, ``CNSTRA_CHAOS_CUTS`` how often
something happens in each.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from typing import get_args

import pytest

from support.commands import WorkerCommand
from support.hosts import Host, Way
from support.hosts.bookings import Bookings
from support.hosts.outpost import Outpost
from support.hosts.voyages import Voyages
from support.stage import PATIENCE
from support.waiting import eventually

_STORMS = int(os.environ.get("CNSTRA_CHAOS_STORMS", "3"))
_CUTS = int(os.environ.get("CNSTRA_CHAOS_CUTS", "60"))
_HOSTS = 4


_Crew = tuple[WorkerCommand, WorkerCommand]
"""Of one host: who carries voyages out, and who books."""


class CutStorm:
    """One storm over the workers of some hosts, two on each."""

    def __init__(self, outpost: Outpost, seed: int) -> None:
        self.blows: list[str] = []
        self._outpost = outpost
        self._random = random.Random(seed)
        self._voyages = Voyages(outpost, seed)
        self._bookings = Bookings(outpost, seed)
        self._crew: dict[Host, _Crew] = {}

    def rage(self, cuts: int) -> None:
        """Let something happen so often, each time when more runs have ended; then let all of them end."""
        for _ in range(_HOSTS):
            self._hire(self._outpost.host())
        with self._voyages.coming(), self._bookings.coming():
            for _ in range(cuts):
                self._strike()
                self._voyages.move_on(self._random.randint(1, 15))
                self._bookings.move_on(self._random.randint(1, 5))
            for host in self._crew:
                host.heal()
            with self._outpost.telling():
                eventually(self._all_serve, PATIENCE, what="all of them serve again")
            for crew in self._crew.values():
                for worker in crew:
                    self._voyages.worked_by(worker)
        self._voyages.assert_all_arrived()
        self._bookings.assert_all_booked_once()
        for crew in self._crew.values():
            for worker in crew:
                worker.send(signal.SIGTERM)
                assert worker.ended() == 0, worker.log

    def _strike(self) -> None:
        blows: dict[Callable[[Host], None], int] = {self._cut: 6, self._heal: 4, self._replace: 1}
        (blow,) = self._random.choices(list(blows), weights=list(blows.values()))
        host = self._random.choice(list(self._crew))
        self.blows.append(f"{blow.__name__.strip('_')} {host.name}")
        blow(host)

    def _cut(self, host: Host) -> None:
        """Unless it is the last one that the database hears."""
        if sum(not other.is_cut_off for other in self._crew if other is not host):
            places = [self._outpost.database, self._outpost.broker]
            chosen = self._random.choice([places, places[:1], places[1:]])
            way: Way = self._random.choice(get_args(Way))
            self.blows[-1] += f" from {len(chosen)}, {way}"
            host.cut_off_from(*chosen, way=way)

    def _heal(self, host: Host) -> None:
        host.heal()

    def _replace(self, host: Host) -> None:
        """A deploy, which asks nobody whether the host is cut off."""
        for worker in self._crew[host]:
            worker.send(signal.SIGTERM)
        for worker in self._crew[host]:
            assert worker.ended() in (0, 8), worker.log
        host.heal()
        self._hire(host)

    def _hire(self, host: Host) -> None:
        voyages, bookings = (
            self._outpost.launch(host, app, "--drain", "3", "--threads", "3") for app in ("voyage", "bank")
        )
        self._crew[host] = voyages.ready(), bookings.ready()

    def _all_serve(self) -> bool:
        pids = {row["pid"] for row in self._outpost.stage.rows("select pid from cnstra.workers")}
        return all(worker.pid in pids for crew in self._crew.values() for worker in crew)


@pytest.mark.chaos
@pytest.mark.parametrize("number", range(_STORMS))
@pytest.mark.parametrize("broker_of_hosts", ["redis", "rabbitmq"])
def test_g1_to_g7_hold_while_hosts_are_cut_off_all_the_time(outpost: Outpost, number: int, chaos_seed: int) -> None:
    """From Postgres, from the broker, from both, in one direction or in both; some are replaced meanwhile."""
    seed = chaos_seed + number
    print(f"storm: CNSTRA_CHAOS_SEED={seed} CNSTRA_CHAOS_STORMS=1 CNSTRA_CHAOS_CUTS={_CUTS}")
    storm = CutStorm(outpost, seed)
    try:
        storm.rage(_CUTS)
    except BaseException as error:
        error.add_note(f"in the storm of seed {seed}, after: {', '.join(storm.blows)}")
        raise
