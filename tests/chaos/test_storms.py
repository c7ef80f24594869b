"""Everything dies all the time, and every run comes to exactly what it would have come to in calm weather.

``make chaos`` runs the long ones. ``CNSTRA_CHAOS_SEED`` is the first seed (a new one each time by default; a test that
fails names its own), ``CNSTRA_CHAOS_STORMS`` how many storms there are, ``CNSTRA_CHAOS_RUNS`` how many runs in each.
"""

from __future__ import annotations

import os

import pytest

from cnstra.servers import HeldServers
from support.graphs import contexts
from support.soundness import assert_sound
from support.stage import Stage
from support.storm import Storm
from support.wire import Wire

_STORMS = int(os.environ.get("CNSTRA_CHAOS_STORMS", "5"))
_RUNS = int(os.environ.get("CNSTRA_CHAOS_RUNS", "400"))


def _storm(stage: Stage, servers: HeldServers, seed: int, *, runs: int, at_once: int, look_closely_at: int) -> None:
    print(f"storm: CNSTRA_CHAOS_SEED={seed} CNSTRA_CHAOS_STORMS=1 CNSTRA_CHAOS_RUNS={runs}")
    with Wire(stage.database_url) as database, Wire(stage.broker_url) as broker:
        storm = Storm(stage, servers, database, broker, seed)
        try:
            storm.rage(runs, at_once=at_once)
            storm.assert_calm(look_closely_at=look_closely_at)
        except BaseException as error:
            error.add_note(f"in the storm of seed {seed} over {runs} runs, after: {', '.join(storm.blows)}")
            raise


@pytest.mark.parametrize("seed", [1, 2])
def test_g1_to_g7_hold_in_a_short_storm(stormy_stage: Stage, own_servers: HeldServers, seed: int) -> None:
    """Workers, servers and wires die while dozens of runs fan out, fail, and join: results are exact."""
    _storm(stormy_stage, own_servers, seed, runs=30, at_once=10, look_closely_at=30)


@pytest.mark.chaos
@pytest.mark.parametrize("number", range(_STORMS))
def test_g1_to_g7_hold_in_a_long_storm(
    stormy_stage: Stage, own_servers: HeldServers, number: int, chaos_seed: int
) -> None:
    """The same with hundreds of runs in each storm, and another seed each time."""
    _storm(stormy_stage, own_servers, chaos_seed + number, runs=_RUNS, at_once=10, look_closely_at=100)


@pytest.mark.chaos
def test_g5_g6_g7_hold_over_many_thousands_of_writes(stormy_stage: Stage) -> None:
    """Eight lanes on two workers, thousands of hops that write the same keys of one run: no lost update, no gap."""
    lanes, hops = 8, 1_000
    stormy_stage.start(contexts.relay, queues=("fork",))
    for queue in ("left", "right"):
        stormy_stage.start(contexts.relay, queues=(queue,), threads=8)
    client = stormy_stage.client(contexts.relay)
    run = client.submit(contexts.start_relay.create_signal({"lanes": lanes, "hops": hops}))

    while run.status() == "running":
        try:
            run.wait(60)
        except TimeoutError:
            version = stormy_stage.row("select context_version from cnstra.run")["context_version"]
            print(f"{version} of {lanes * hops} hops")

    result = stormy_stage.completed(run)
    assert result.context["updates"] == lanes * hops
    assert result.context["writes"] == lanes * hops // contexts.EVERY
    assert_sound(stormy_stage, run.id)
