"""What counts against the life of a worker, and what against its taking work."""

from __future__ import annotations

import pytest

from cnstra.orchestrator.errors import ConfigurationError
from cnstra.running.endpoint import address_of
from cnstra.running.health import Process, Pulse, against_life, against_work, bound, interval

LEASE = 15.0
WELL = Pulse(state="ready", renewed=0.0)


def process(pulse: Pulse | None = WELL, *, number: int = 1) -> Process:
    """One that told this at the moment 0."""
    return Process(number=number, pulse=pulse)


def test_a_process_that_tells_of_itself_lives_and_takes_work() -> None:
    """Nothing is against it."""
    assert against_life([process()], lease=LEASE, now=1.0) == []
    assert against_work([process()], lease=LEASE, now=1.0) == []


def test_a_process_that_loads_its_graph_lives_however_long_that_takes() -> None:
    """It has told nothing yet, and takes no work."""
    assert against_life([process(None)], lease=LEASE, now=1e6) == []
    assert against_work([process(None)], lease=LEASE, now=1e6) == ["process 1 does not take work yet"]


def test_a_process_that_waits_for_postgres_at_its_start_lives() -> None:
    """Its main thread turns; it has no lease."""
    starting = process(Pulse(state="starting"))

    assert against_life([starting], lease=LEASE, now=1.0) == []
    assert against_work([starting], lease=LEASE, now=1.0) == ["process 1 does not take work yet"]


def test_silence_counts_after_three_leases() -> None:
    """After one of them nothing that the process does counts any more; the rest is patience."""
    silent = [process(number=1), process(number=2)]

    assert against_life(silent, lease=LEASE, now=45.0) == []
    assert against_life(silent, lease=LEASE, now=45.6) == [
        "process 1 has not turned for 46 s",
        "process 2 has not turned for 46 s",
    ]


def test_a_short_lease_does_not_make_anybody_nervous() -> None:
    """A machine that is busy for a moment is no reason to start workers again; a lease that is short is told of often."""
    assert bound(0.1) == 5.0
    assert interval(0.3) == pytest.approx(0.1)
    assert interval(60.0) == 1.0


def test_a_lease_that_is_not_renewed_is_against_work_and_not_against_life() -> None:
    """So it is while Postgres is away: a restart would mend nothing."""
    behind = process(Pulse(state="ready", renewed=12.0))

    assert against_work([behind], lease=LEASE, now=3.0) == []
    assert against_work([behind], lease=LEASE, now=4.0) == ["process 1 has not renewed its lease for 16 s"]
    assert against_life([behind], lease=LEASE, now=4.0) == []


def test_a_thread_that_ended_is_against_life() -> None:
    """Such a process turns, and does none of its work."""
    broken = process(Pulse(state="ready", renewed=0.0, lost=("cnstra-claimer", "cnstra-lease")))

    assert against_life([broken], lease=LEASE, now=1.0) == ["process 1 has lost cnstra-claimer, cnstra-lease"]


def test_a_process_that_drains_lives_and_takes_no_work() -> None:
    """Whoever told it to stop waits for its end."""
    draining = [process(Pulse(state="draining", renewed=0.0)), process(number=2)]

    assert against_life(draining, lease=LEASE, now=1.0) == []
    assert against_work(draining, lease=LEASE, now=1.0) == ["process 1 drains"]


def test_what_a_process_tells_comes_through_a_pipe_as_it_was() -> None:
    """JSON knows no tuples."""
    told = Pulse(state="ready", renewed=0.25, lost=("cnstra-lease",))

    assert Pulse.unpacked(told.packed()) == told


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("8080", "127.0.0.1", 8080),
        (" 0.0.0.0:8080 ", "0.0.0.0", 8080),
        ("[::]:8080", "::", 8080),
        ("worker.local:1", "worker.local", 1),
    ],
)
def test_an_address_is_a_port_or_a_host_and_a_port(text: str, host: str, port: int) -> None:
    """A port alone lets nobody in from outside."""
    assert address_of(text) == (host, port)


@pytest.mark.parametrize(
    "text", ["", "abc", ":8080", "[]:8080", "::1:8080", "host:", "host:1x", "0", "65536", "-1", "1:²"]
)
def test_anything_else_is_refused_and_named(text: str) -> None:
    """One line says what an address looks like."""
    with pytest.raises(ConfigurationError, match="is no address for probes"):
        address_of(text)
