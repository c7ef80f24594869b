"""When a process runs a poison suspect alone, as a matter of times and counts."""

from __future__ import annotations

from cnstra.workers.quarantine import PATIENCE, REST, Quarantine


def test_it_opens_when_it_is_asked_and_ends_when_no_suspect_is_left() -> None:
    """Each suspect that comes occupies it; the claim that finds none ends it."""
    quarantine = Quarantine()
    assert not quarantine.open
    assert quarantine.ask(now=10.0)
    quarantine.claimed(1)
    assert quarantine.open
    quarantine.claimed(0)
    assert not quarantine.open


def test_it_waits_for_running_handlers_only_for_a_while() -> None:
    """A process must not stand idle for an hour because one of its handlers takes that long."""
    quarantine = Quarantine()
    quarantine.ask(now=10.0)
    assert quarantine.patience(now=10.0) == PATIENCE
    assert not quarantine.overdue(now=10.0 + PATIENCE / 2)
    assert quarantine.overdue(now=10.0 + PATIENCE)
    assert not quarantine.open


def test_it_rests_after_it_was_given_up() -> None:
    """Else it would begin again at once, and claim nothing most of the time."""
    quarantine = Quarantine()
    quarantine.ask(now=0.0)
    quarantine.overdue(now=PATIENCE)
    assert not quarantine.ask(now=PATIENCE + REST - 1)
    assert quarantine.ask(now=PATIENCE + REST)


def test_a_suspect_that_runs_is_given_all_the_time_it_takes() -> None:
    """Patience is for emptying; once the suspect is here, others wait for its end, and asking again changes nothing."""
    quarantine = Quarantine()
    quarantine.ask(now=0.0)
    quarantine.claimed(1)
    quarantine.ask(now=1.0)
    assert quarantine.patience(now=1.0) is None
    assert not quarantine.overdue(now=100 * PATIENCE)
    assert quarantine.open
