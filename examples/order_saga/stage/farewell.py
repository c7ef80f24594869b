"""How to go on from where the demo ends: commands that can be pasted, with the real folder and the id of a run."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

import psycopg
from psycopg.types.json import Jsonb

from order_saga.stage.options import Options
from order_saga.stage.screen import Screen
from order_saga.stage.servers import named_by_user

_INTERESTING = "select run_id from cnstra.runs where tags @> %s order by attempt desc, submitted_at limit 1"
_BUSIEST = (
    "select neuron, status, count(*), max(tries) as most_tries from cnstra.activations group by 1, 2 order by 1, 2"
)


def say_farewell(connection: psycopg.Connection, batch: str, given: Options, screen: Screen) -> None:
    """Tell where everything is, and what to look at."""
    row = connection.execute(_INTERESTING, [Jsonb({"batch": batch})]).fetchone()
    commands = [["sql", _BUSIEST], ["runs", "--status", "completed"], ["show", str(row[0])] if row else ["runs"]]
    if not named_by_user():
        commands = [*([] if given.keep else [["up"]]), *commands, ["down"]]
    screen.say(f"\n  Go on from here. {_where(given)}\n")
    if not named_by_user() and given.home != Path.cwd() / ".cnstra":
        screen.say(f"    export CNSTRA_HOME={shlex.quote(str(given.home))}")
    for command in commands:
        screen.say("    " + shlex.join([_program(), *command]))


def _where(given: Options) -> str:
    if named_by_user():
        return "Everything is in the database of CNSTRA_DATABASE_URL."
    if given.keep:
        return f"The servers run on, with everything in {given.home}, until you stop them with `cnstra down`."
    return f"The servers stop with the demo; `cnstra up` starts them again, with all that is in {given.home}."


def _program() -> str:
    """``cnstra`` where the shell finds this Python's, else its path."""
    script = Path(sys.executable).with_name("cnstra")
    found = shutil.which("cnstra")
    if found is not None and Path(found).resolve() == script.resolve():
        return "cnstra"
    here = Path.cwd()
    return str(script.relative_to(here) if script.is_relative_to(here) else script)
