"""A run's story says what its frontier waits for, in every status."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cnstra.cli.story import told
from cnstra.stores.postgres.diagnosing import Story

THEN = datetime(2026, 1, 31, 3, 0, tzinfo=UTC)
RUN = "0192f0c1-2b3c-7d4e-8f5a-6b7c8d9e0f10"


def activation(number: int, status: str, **more: Any) -> dict[str, Any]:
    """A row of ``cnstra.activations``."""
    row: dict[str, Any] = {
        "activation_id": number, "parent_activation_id": None, "neuron": f"n{number}", "collateral": "c",
        "status": status, "tries": 1, "queue": "default", "worker": None, "error": None, "error_type": None,
        "available_at": THEN, "started_at": THEN, "finished_at": None, "context_version_read": 0,
        "context_version_written": None, "undo": False, "group_id": None, "member": None, "gathers_group_id": None,
        "handled": False, "progress": None, "payload": None,
    }  # fmt: skip
    return row | more


def a_try(activation_id: int, number: int, **more: Any) -> dict[str, Any]:
    """A row of ``cnstra.tries``, of a call that has failed."""
    row: dict[str, Any] = {
        "activation_id": activation_id, "try_number": number, "finished_at": THEN + timedelta(seconds=number),
        "error": "refused", "error_type": "ConnectionError", "error_traceback": f"Traceback {number}", "undo": False,
    }  # fmt: skip
    return row | more


def story(
    activations: list[dict[str, Any]],
    tries: list[dict[str, Any]] | None = None,
    *,
    expectations: Sequence[dict[str, Any]] = (),
    scatters: Sequence[dict[str, Any]] = (),
    **more: Any,
) -> Story:
    """A story of a run that was submitted then."""
    run: dict[str, Any] = {
        "run_id": RUN, "graph": "shop", "status": "running", "attempt": 1, "error": None, "error_type": None,
        "entry_collateral": "order", "entry_payload": {"id": 1}, "submitted_at": THEN, "started_at": THEN,
        "finished_at": None, "next_retry_at": None, "deadline_at": None, "blocked": None, "tags": {},
        "idempotency_key": None, "outputs": [], "ending": None, "compensation_error": None,
        "compensation_error_type": None, "cloned_from": None,
    }  # fmt: skip
    context = {"version": 0, "data": None, "local": {}}
    return Story(
        run=run | more,
        activations=activations,
        tries=tries or [],
        context=context,
        expectations=list(expectations),
        scatters=list(scatters),
    )


def test_every_activation_that_is_not_done_is_told_with_what_it_waits_for() -> None:
    """Those that are done are in the table alone."""
    text = told(
        story(
            [
                activation(1, "done"),
                activation(2, "running", worker="w-1"),
                activation(3, "scheduled", error_type="ConnectionError", error="refused\nagain"),
                activation(4, "ready"),
                activation(5, "waiting"),
                activation(6, "failed", tries=3, error_type="ValueError", error=""),
            ]
        )
    )

    assert (
        """not done (5 of 6):
  #2 n2 on c is running by worker w-1 since 2026-01-31 03:00:00Z
  #3 n3 on c is scheduled for 2026-01-31 03:00:00Z: ConnectionError: refused
  #4 n4 on c is ready since 2026-01-31 03:00:00Z, on queue default
  #5 n5 on c is waiting for its signal
  #6 n6 on c is failed after 3 tries: ValueError
"""
        in text
    )


def test_a_run_that_no_worker_knows_is_told_what_helps() -> None:
    """It has not failed, and will not: it waits for code."""
    text = told(story([activation(1, "ready")], blocked="unknown"))

    assert "unknown: no worker is up that has the code for what comes next" in text
    assert text.endswith("it goes on as soon as a worker is up with shop: cnstra worker APP")


def test_each_activation_has_one_traceback_and_every_try_a_line() -> None:
    """The newest traceback is the one that helps."""
    tries = [a_try(1, 1), a_try(1, 2)]

    text = told(story([activation(1, "failed", tries=2)], tries, status="failed"))

    assert "  #1 n1 on c, try 1, 2026-01-31 03:00:01Z: ConnectionError: refused\n" in text
    assert "  #1 n1 on c, try 2, 2026-01-31 03:00:02Z: ConnectionError: refused\n      Traceback 2" in text
    assert "Traceback 1" not in text


def test_the_tracebacks_of_many_do_not_hide_the_rest() -> None:
    """Every failed try has its line; a few have tracebacks, those first that nobody has handled."""
    rows = [activation(number, "failed", handled=number < 20) for number in range(1, 21)]

    text = told(story(rows, [a_try(number, number) for number in range(1, 21)], status="failed"))

    assert text.count("ConnectionError: refused\n") == 20
    assert [number for number in range(1, 21) if f"Traceback {number}\n" in text] == [1, 2, 3, 4, 20]
    assert "the tracebacks of 15 more are in error_traceback of cnstra.tries" in text


def test_what_a_gather_has_taken_is_not_left_to_do() -> None:
    """It has failed, and the run goes on, or has completed, all the same."""
    text = told(story([activation(1, "failed", handled=True), activation(2, "done")], status="completed"))

    assert "not done" not in text
    assert "failed, and taken by a gather (1): #1\n" in text
    assert "failed (handled)" in text


def test_a_huge_payload_does_not_hide_the_rest() -> None:
    """The whole of it is in the view."""
    text = told(story([activation(1, "done")], status="completed", entry_payload="x" * 100_000))

    assert "… (100002 characters)" in text
    assert len(text) < 5_000


# -- what it waits for ---------------------------------------------------------------------------------------------


def waited_for(story: Story) -> list[str]:
    """The lines about what the run waits for."""
    found = [part for part in told(story).split("\n\n") if part.startswith("it waits for:")]
    return [line.strip() for part in found for line in part.splitlines()[1:]]


LATER = THEN + timedelta(hours=1)


@pytest.mark.parametrize(
    ("told_of", "lines"),
    [
        (story([activation(1, "ready")]), ["a worker that is free, for #1 n1 on c on queue default"]),
        (story([activation(1, "running")]), ["#1 n1 on c, which runs since 2026-01-31 03:00:00Z"]),
        (
            story([activation(2, "scheduled", available_at=LATER), activation(1, "scheduled")], status="waiting"),
            ["the timer of #1 n1 on c, 2026-01-31 03:00:00Z, and 1 more"],
        ),
        (
            story([activation(1, "scheduled", error_type="ValueError", error="no")], status="waiting"),
            ["the next try of #1 n1 on c, 2026-01-31 03:00:00Z"],
        ),
        (
            story([activation(1, "failed")], status="waiting", next_retry_at=THEN, deadline_at=LATER),
            ["its next attempt, 2026-01-31 03:00:00Z", "or its deadline, 2026-01-31 04:00:00Z"],
        ),
        (
            story([activation(1, "ready")], status="paused", deadline_at=LATER),
            ["somebody to resume it: it is paused, and none of its handlers is called"],
        ),
        (
            story([activation(1, "running")], ending="cancelled", deadline_at=LATER),
            [
                "the end of what runs: it is being cancelled, and nothing follows",
                "#1 n1 on c, which runs since 2026-01-31 03:00:00Z",
            ],
        ),
        (
            story([activation(1, "ready", undo=True)], status="compensating", ending="failed", blocked="unknown"),
            ["a worker that has the code for what comes next, and the store of its context"],
        ),
        (
            story([activation(1, "scheduled", undo=True, error_type="E", error="")], status="compensating", ending="failed"),
            ["the next try of the compensation of #1 n1 on c, 2026-01-31 03:00:00Z"],
        ),
        (story([activation(1, "waiting")], status="waiting"), ["its signal, for #1 n1 on c"]),
        (
            story([activation(1, "ready"), activation(2, "waiting", gathers_group_id=7)]),
            ["a worker that is free, for #1 n1 on c on queue default", "the end of scatter 7, for #2 n2 on c"],
        ),
        (story([activation(1, "failed")], status="failed", deadline_at=LATER), []),
        (story([activation(1, "done")], status="completed"), []),
    ],
)  # fmt: skip
def test_a_run_that_does_not_move_is_told_what_it_waits_for(told_of: Story, lines: list[str]) -> None:
    """Each kind in a line, the first of it by name; nothing of a run that has ended."""
    assert waited_for(told_of) == lines


# -- what was undone -----------------------------------------------------------------------------------------------


def compensated() -> Story:
    """A run that has charged and reserved, and undid both, as it could not ship; the bank at the second call."""
    return story(
        [
            activation(1, "compensated", undo=True, tries=2, finished_at=THEN + timedelta(seconds=9)),
            activation(2, "compensated", undo=True, tries=3, finished_at=THEN + timedelta(seconds=7)),
            activation(3, "failed", error_type="ValueError", error="no car"),
            activation(4, "cancelled"),
        ],
        [
            a_try(1, 1, error_type=None, error=None), a_try(1, 2, undo=True, error_type=None, error=None),
            a_try(2, 1, error_type=None, error=None), a_try(2, 2, undo=True, error="bank closed"),
            a_try(2, 3, undo=True, error_type=None, error=None),
            a_try(3, 1, error_type="ValueError", error="no car"),
        ],
        status="compensated", ending="failed", error_type="ValueError", error="no car",
    )  # fmt: skip


def test_a_compensated_run_is_told_what_was_undone_and_in_which_order() -> None:
    """By when it was undone, and after how many calls; tries of compensations are told apart from those of handlers."""
    text = told(compensated())

    assert (
        """undone, in this order:
  1. #2 n2 on c, 2026-01-31 03:00:07Z, by 2 calls of its compensation
  2. #1 n1 on c, 2026-01-31 03:00:09Z, by 1 call of its compensation

activations:"""
        in text
    )
    assert "not done (1 of 4):\n  #3 n3 on c is failed" in text
    assert "  the compensation of #2 n2 on c, try 2, 2026-01-31 03:00:02Z: ConnectionError: bank closed\n" in text
    assert "  #3 n3 on c, try 1, 2026-01-31 03:00:01Z: ValueError: no car\n      Traceback 1" in text
    assert text.endswith(f"to do all of it again, as a new run: cnstra clone APP {RUN}")


def test_a_compensation_that_failed_has_its_error_beside_the_runs_own() -> None:
    """Both are told apart, and what a retry does."""
    text = told(
        story(
            [
                activation(1, "done"),
                activation(2, "failed", undo=True, error_type="bank.Closed", error="cannot pay back"),
                activation(3, "failed", error_type="ValueError", error="no car"),
            ],
            [a_try(2, 2, undo=True), a_try(2, 3, undo=True, error_type="bank.Closed", error="cannot pay back")],
            status="failed",
            ending="failed",
            error_type="ValueError",
            error="no car",
            compensation_error_type="bank.Closed",
            compensation_error="cannot pay back",
        )
    )

    assert (
        "  error:      ValueError: no car\n  undoing:    failed for good, with bank.Closed: cannot pay back\n" in text
    )
    assert "not done (1 of 3):\n  #3 n3 on c is failed" in text
    assert (
        "  #2 n2 on c is not: its compensation has failed for good, after 2 calls of its compensation: "
        "bank.Closed: cannot pay back\n"
    ) in text
    assert "n2      c           failed (undo)" in text
    assert text.endswith(f"to call the compensation that failed again, and undo the rest: cnstra retry {RUN}")


def test_a_run_that_is_being_undone_is_told_how_far_it_is() -> None:
    """What is undone, what is being undone, and that the rest follows."""
    text = told(
        story(
            [activation(1, "done"), activation(2, "running", undo=True), activation(3, "failed")],
            status="compensating",
            ending="failed",
        )
    )

    assert (
        """undone, in this order:
  #2 n2 on c is not: its compensation runs since 2026-01-31 03:00:00Z
  then what else is done and has a compensation
"""
        in text
    )


def test_a_run_that_was_too_late_is_told_that_it_cannot_be_retried() -> None:
    """Only a clone does it again."""
    late = {"error_type": "cnstra.DeadlineExceeded", "error": "the run had not ended at its deadline"}
    text = told(story([activation(1, "cancelled")], status="failed", ending="failed", **late))

    assert "its deadline has passed, so that it cannot be retried" in text
    assert text.endswith(f"cnstra clone APP {RUN}")
    assert told(story([activation(1, "failed")], status="failed")).endswith(f"on this context: cnstra retry {RUN}")


def test_a_clone_names_its_original_and_a_paused_run_its_resume() -> None:
    """What to type stands at the end."""
    text = told(story([activation(1, "ready")], status="paused", cloned_from=RUN.replace("0192", "0191")))

    assert f"  clone of:   {RUN.replace('0192', '0191')}\n" in text
    assert text.endswith(f"to let it go on: cnstra resume {RUN}; to end it: cnstra cancel {RUN}")


@pytest.mark.parametrize("undo", [False, True])
def test_one_that_was_given_up_is_told_with_the_workers_that_it_cost(undo: bool) -> None:
    """How many, and which: of the handler or of its compensation, not of both."""
    lost = [
        a_try(1, n, undo=undo, error_type="cnstra.WorkerLost", error=f"worker w-{n} (host, pid {n}) died")
        for n in (2, 3)
    ]
    other = a_try(1, 1, undo=not undo, error_type="cnstra.WorkerLost", error="worker w-1 (host, pid 1) died")
    poisoned = activation(1, "failed", undo=undo, error_type="cnstra.Poisoned", error="2 workers were lost with it")

    text = told(story([poisoned], [other, *lost], status="failed"))

    what = "the compensation of " if undo else ""
    assert (
        f"""given up, for the workers that were lost with it:
  {what}#1 n1 on c: 2 workers
    2026-01-31 03:00:02Z: worker w-2 (host, pid 2) died
    2026-01-31 03:00:03Z: worker w-3 (host, pid 3) died
"""
        in text
    )
