"""A run's story says what its frontier waits for, in every status."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

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
        "context_version_written": None,
    }  # fmt: skip
    return row | more


def story(activations: list[dict[str, Any]], tries: list[dict[str, Any]] | None = None, **more: Any) -> Story:
    """A story of a run that was submitted then."""
    run: dict[str, Any] = {
        "run_id": RUN, "graph": "shop", "status": "running", "attempt": 1, "error": None, "error_type": None,
        "entry_collateral": "order", "entry_payload": {"id": 1}, "submitted_at": THEN, "started_at": THEN,
        "finished_at": None, "next_retry_at": None, "deadline_at": None, "blocked": None, "tags": {},
        "idempotency_key": None, "outputs": [],
    }  # fmt: skip
    context = {"version": 0, "data": None, "local": {}}
    return Story(run=run | more, activations=activations, tries=tries or [], context=context)


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
  #5 n5 on c is waiting
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
    tries = [
        {
            "activation_id": 1,
            "try_number": number,
            "finished_at": THEN + timedelta(seconds=number),
            "error": "refused",
            "error_type": "ConnectionError",
            "error_traceback": f"Traceback {number}",
        }
        for number in (1, 2)
    ]

    text = told(story([activation(1, "failed", tries=2)], tries, status="failed"))

    assert "  #1 n1 on c, try 1, 2026-01-31 03:00:01Z: ConnectionError: refused\n" in text
    assert "  #1 n1 on c, try 2, 2026-01-31 03:00:02Z: ConnectionError: refused\n      Traceback 2" in text
    assert "Traceback 1" not in text


def test_a_huge_payload_does_not_hide_the_rest() -> None:
    """The whole of it is in the view."""
    text = told(story([activation(1, "done")], status="completed", entry_payload="x" * 100_000))

    assert "… (100002 characters)" in text
    assert len(text) < 5_000
