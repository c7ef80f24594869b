"""Hosts vanish without a word, as when the power goes: Postgres learns of it, and keeps neither their locks nor sessions."""

from __future__ import annotations

import subprocess
import sys

import psycopg

from cnstra.stores.postgres import migrate
from support.apps import on_hosts
from support.apps.on_hosts import posted
from support.commands import MODULES, WorkerCommand, command_line, environment_of
from support.hosts import Host
from support.hosts.outpost import Outpost
from support.stage import PATIENCE
from support.waiting import eventually

_SESSIONS = "select wait_event from pg_stat_activity where client_addr = %s::inet and datname = current_database()"


def _vanish(outpost: Outpost, host: Host, process: subprocess.Popen[str] | WorkerCommand) -> None:
    """The host is gone: nothing of what its kernel says when the process ends arrives anywhere."""
    host.cut_off_from(outpost.database, outpost.broker)
    process.kill()
    if isinstance(process, subprocess.Popen):
        process.communicate()


def _run_there(outpost: Outpost, host: Host, *command: str) -> subprocess.Popen[str]:
    environment = environment_of(outpost.servers, MODULES)
    return subprocess.Popen(host.command(command), env=environment, stdout=subprocess.PIPE, text=True)


def _waits_for(outpost: Outpost, host: Host, event: str) -> bool:
    """Whether a session of this host waits for something."""
    return event in [row["wait_event"] for row in outpost.stage.rows(_SESSIONS, host.address)]


def test_the_sessions_of_a_worker_whose_host_vanished_end(outpost: Outpost) -> None:
    """Each would take the place of another, and a host that comes and goes would use all of them up."""
    far = outpost.host()
    worker = outpost.start(far, "letters")
    client = outpost.stage.client(on_hosts.letters)
    outpost.stage.all_completed(client.submit_many([posted.create_signal({"number": n}) for n in range(20)]))
    assert outpost.stage.rows(_SESSIONS, far.address)

    _vanish(outpost, far, worker)

    eventually(lambda: not outpost.stage.rows(_SESSIONS, far.address), PATIENCE, what="Postgres has noticed")


def test_g1_a_host_that_vanishes_while_it_is_sent_a_large_answer_keeps_no_lock(outpost: Outpost) -> None:
    """The server stands in the middle of a word, where none of its own limits ends it; the run goes on all the same."""
    far = outpost.host()
    run = outpost.stage.client(on_hosts.letters).submit(posted.create_signal({"number": 1}))
    reader = _run_there(outpost, far, sys.executable, "-m", "support.hosts.reader", str(run.id))
    assert reader.stdout is not None
    assert reader.stdout.readline() == "asked\n"
    eventually(lambda: _waits_for(outpost, far, "ClientWrite"), PATIENCE, what="the server cannot write on")

    _vanish(outpost, far, reader)

    outpost.start(outpost.host(), "letters", lease=60.0)
    outpost.stage.completed(run)


def test_a_migration_whose_host_vanished_does_not_hold_up_the_next_one(outpost: Outpost) -> None:
    """Its transaction would keep its locks, and everybody who reads through the views would wait for them."""
    far = outpost.host()
    with psycopg.connect(outpost.stage.database_url) as somebody:
        somebody.execute("select pg_advisory_xact_lock(x'636E73747261'::bigint)")  # as a migration does
        migrating = _run_there(outpost, far, *command_line(["migrate"]))
        eventually(lambda: _waits_for(outpost, far, "advisory"), PATIENCE, what="the migration waits for its turn")
        _vanish(outpost, far, migrating)
    eventually(lambda: not _waits_for(outpost, far, "advisory"), PATIENCE, what="the turn of who is gone")

    impatient = f"{outpost.stage.database_url}?options=-c%20lock_timeout%3D{PATIENCE:.0f}s"
    assert migrate(impatient) == []
