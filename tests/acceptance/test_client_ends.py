"""A program that used a client ends, also when it did not close it."""

from __future__ import annotations

import subprocess
import sys

from support.commands import Servers, environment_of

PROGRAM = """
import atexit, threading

def look():
    print([thread.name for thread in threading.enumerate() if thread.name.startswith("cnstra")])

atexit.register(look)  # the first to be registered is the last to be called

from cnstra import Orchestrator

orchestrator = Orchestrator()
assert orchestrator.list_runs() == []
assert any(thread.name.startswith("cnstra") for thread in threading.enumerate())
"""


def test_the_threads_of_a_client_that_was_left_open_end_before_the_interpreter_does(both: Servers) -> None:
    """Later their pool would wait for them in vain, for seconds each."""
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment_of(both), capture_output=True, text=True, check=True
    )

    assert ended.stdout == "[]\n"
