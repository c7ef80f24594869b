"""What cannot be kept is refused where it comes in, or is its own hop's failed try; nobody else suffers by it."""

from __future__ import annotations

from typing import Any

import pytest

from cnstra import PayloadError, Run
from support.graphs import bad_values
from support.points import Fault
from support.soundness import assert_sound
from support.stage import PATIENCE, Stage
from support.waiting import eventually

_UNFIT = list(bad_values.SPOILED)
_MANY = 199


@pytest.mark.parametrize("how", _UNFIT)
def test_g15_a_payload_that_cannot_be_kept_is_refused_at_submit(stage: Stage, how: str) -> None:
    """The error names the collateral; neither it nor what came with it in one submit is stored."""
    client = stage.client(bad_values.spoiled)
    signals: list[Any] = [bad_values.typed.create_signal(1)]

    with pytest.raises(PayloadError, match=r"spoiled\.(un)?typed") as refused:
        spoiled: Any = bad_values.typed if how == "of the wrong type" else bad_values.untyped
        client.submit_many([*signals, spoiled.create_signal(bad_values.SPOILED[how])])

    assert len(str(refused.value)) < 2_000
    for table in ("run", "activation", "submission_key"):
        assert stage.rows(f"select * from cnstra.{table}") == []


@pytest.fixture(scope="module")
def cases() -> dict[str, dict[str, Any]]:
    """What handlers do wrong, by collateral."""
    return {
        "emit_spoiled": dict.fromkeys(bad_values.SPOILED),
        "keep_spoiled": dict.fromkeys(how for how in bad_values.SPOILED if how != "of the wrong type"),
        "keep_own_spoiled": dict.fromkeys(how for how in bad_values.SPOILED if how != "of the wrong type"),
        "fail_spoiled": dict.fromkeys(bad_values.ERRORS),
        "change_in_place": {"": None},
    }


def test_g15_what_a_handler_gives_that_cannot_be_kept_is_its_own_failed_try(
    stage: Stage, cases: dict[str, dict[str, Any]]
) -> None:
    """Payloads, values of the context and of its own, and errors: each try is on record with a clear error, nothing of
    the hop is kept, and the worker goes on.
    """
    worker = stage.start(bad_values.spoiled)
    client = stage.client(bad_values.spoiled)
    submitted: dict[tuple[str, str], Run] = {
        (collateral, how): client.submit(getattr(bad_values, collateral).create_signal(how))
        for collateral, hows in cases.items()
        for how in hows
    }

    for (collateral, how), run in submitted.items():
        result = stage.ended(run)
        described = f"{collateral} {how}: {str(result)[:500]}"
        if collateral == "change_in_place":  # not assigned, so it is no write
            assert result.status == "completed", described
            assert result.context == {"list": [1]}
            continue
        assert result.status == "failed", described
        assert result.context is None, described
        tries = stage.rows("select * from cnstra.tries where run_id = %s order by try_number", run.id)
        expected = 1 if "would end" in how else 2  # interrupts are not retried
        assert len(tries) == expected, described
        assert all(one["error"] is not None and one["error_traceback"] for one in tries), described
        assert result.error is not None
        assert len(result.error) < 20_000, described
        if collateral != "fail_spoiled":
            assert result.error_type == ("cnstra.PayloadError" if "emit" in collateral else "cnstra.ContextError"), (
                described
            )
        assert_sound(stage, run.id)
    assert worker.alive
    assert stage.completed(client.submit(bad_values.typed.create_signal(1))).status == "completed"


@pytest.mark.beneath_the_seal
@pytest.mark.parametrize("how", ["as an output", "as half a character", "in the context"])
def test_g15_one_bad_row_among_two_hundred_is_found_and_the_others_commit(stage: Stage, how: str) -> None:
    """Were the door not there, Postgres would refuse the whole batch: it is halved until the culprit stands alone."""
    if how == "in the context" and stage.contexts_url is not None:
        pytest.skip("a store of contexts takes text that Postgres refuses")
    settling = Fault(point="settle.begin", action="block")
    tricks = ["support.tricks:open_the_door", "support.tricks:one_commit_at_a_time"]
    worker = stage.start(bad_values.spoiled, settling, coroutines=500, tricks=tricks)
    client = stage.client(bad_values.spoiled)
    client.submit(bad_values.slip_through.create_signal("first"))
    worker.reached("settle.begin")  # while it waits, the others gather for one batch
    texts = [str(number) for number in range(_MANY)]
    texts.insert(77, how)
    runs = client.submit_many([bad_values.slip_through.create_signal(text) for text in texts])
    eventually(lambda: len(stage.ledger.entries()) == 1 + len(texts), PATIENCE, what="all handlers were called")
    worker.arm(settling)
    worker.release("settle.begin")
    assert len(worker.reached("settle.begin")) > _MANY // 2
    worker.release("settle.begin")

    for text, run in zip(texts, runs, strict=True):
        result = stage.ended(run)
        if text == how:
            assert (result.status, result.error_type, result.context) == ("failed", "cnstra.DataRefused", None)
            assert stage.ledger.calls(run.id) == {1: 2}  # its policy allows a second try
            assert len(stage.rows("select * from cnstra.try where run_id = %s", run.id)) == 2
        else:
            assert [signal.payload for signal in result.outputs] == [text]
            assert stage.ledger.calls(run.id) == {1: 1}
    assert stage.row("select count(*) as number from cnstra.try")["number"] == 2
    assert_sound(stage, runs[77].id)
