"""An async handler that takes longer than its ``max_duration`` is a failed try, and its worker stays healthy."""

from __future__ import annotations

from support import graphs
from support.soundness import assert_sound
from support.stage import Stage


def test_an_async_handler_that_takes_too_long_is_a_failed_try(stage: Stage) -> None:
    """Its policy is asked, the next try comes, and the error in the tries names the limit and the activation."""
    stage.start(graphs.endless)
    run = stage.client(graphs.endless).submit(graphs.wait_for_ever.create_signal(1))

    result = stage.ended(run)

    assert (result.status, [signal.payload for signal in result.outputs]) == ("completed", [2])
    [ended] = stage.rows("select error_type, error from cnstra.tries where run_id = %s and error is not null", run.id)
    assert ended["error_type"] == "cnstra.MaxDurationExceeded"
    assert "0:00:00.300000" in ended["error"]
    assert str(run.id) in ended["error"]
    assert_sound(stage, run.id)


def test_a_handler_that_takes_too_long_every_time_has_failed(stage: Stage) -> None:
    """When its policy gives up the run has failed; the worker goes on with others."""
    stage.start(graphs.endless)
    client = stage.client(graphs.endless)
    run = client.submit(graphs.wait_for_ever.create_signal(9))

    assert stage.ended(run).status == "failed"

    assert stage.row("select error_type from cnstra.runs where run_id = %s", run.id)["error_type"] == (
        "cnstra.MaxDurationExceeded"
    )
    assert stage.ended(client.submit(graphs.wait_for_ever.create_signal(0))).status == "completed"


def test_a_handler_that_will_not_be_cancelled_has_failed_all_the_same(stage: Stage) -> None:
    """What it returns after its time is not taken, and what it wrote is not committed."""
    stage.start(graphs.endless)
    run = stage.client(graphs.endless).submit(graphs.cling.create_signal(0))

    result = stage.ended(run)

    assert (result.status, result.outputs, result.context) == ("failed", (), None)
    assert stage.ledger.calls(run.id) == {1: 2}
