"""``python -m agent_flow``: some questions at once, workers that die on the way, a human who reviews, and the proof."""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

import psycopg
import redis
from order_saga.stage import commands, servers, signals
from order_saga.stage.commands import DemoError
from order_saga.stage.crew import Crew
from order_saga.stage.screen import Screen

from agent_flow import proof
from agent_flow.client import URL
from agent_flow.graph import Question, Review, cns, draft_reviewed, question_asked, review_of
from agent_flow.service import Service
from cnstra import CnstraError, Orchestrator, Run

WORKER = ("worker", "agent_flow.graph:cns", "--lease", "3")
_WORKERS = 2
_PATIENCE = 180.0
_PAUSE = 0.1
_DAYS = timedelta(days=3)
_MOMENT = timedelta(seconds=2)
_DONE = "select count(*) from cnstra.activations where status = 'done' and run_id = any(%s)"
_WATCHED = "select count(*) from cnstra.activations where run_id = %s and progress is not null"
_STEPS = 12  # about so many a question


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A question, what the human does about it, and how the transcript should tell of that."""

    question: Question
    verdict: bool | None
    review: str


CASES = tuple(
    Case(
        question=Question(
            ticket=f"T-{number}", text=text, rounds=rounds, patience=_MOMENT if verdict is None else _DAYS
        ),
        verdict=verdict,
        review={True: "approved by Ada", False: "rejected by Ada", None: "nobody came"}[verdict],
    )
    for number, (text, rounds, verdict) in enumerate(
        (
            ("Can we have a picnic in Lisbon on Sunday?", 5, True),
            ("Is the museum open, and how do I get there?", 5, True),
            ("Which train is cheapest next week?", 5, False),
            ("Where do the locals eat?", 2, True),
            ("Is there a quiet beach nearby?", 5, None),
            ("May I bring a dog?", 1, True),
        ),
        start=1,
    )
)
WATCH = Question(ticket="T-watch", text="Please watch the harbour.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Let the agent work: 0 when all is proved, else 1. By default as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m agent_flow", description="An agent on a bad day, and the proof.")
    parser.add_argument("--seed", type=int, default=5, metavar="S", help="which calls fail, and when workers die")
    parser.add_argument("--kills", type=int, default=2, metavar="N", help="how many workers die; without it, 2")
    given = parser.parse_args(arguments)
    home = Path(os.environ.get("CNSTRA_HOME") or ".cnstra").resolve()
    try:
        with signals.as_exits(), servers.running(home, keep=False) as urls, Service(given.seed) as service:
            return 0 if _play(urls, home / "agent_flow", service, given.seed, given.kills, Screen()) else 1
    except (CnstraError, DemoError, psycopg.Error, redis.RedisError) as error:
        sys.stderr.write(f"agent_flow: {error}\n")
        return 1


def _play(urls: servers.Urls, folder: Path, service: Service, seed: int, kills: int, screen: Screen) -> bool:
    commands.run(["migrate"], urls.environment)
    screen.step("service", f"{service.url}, on a bad day")
    with (
        psycopg.connect(urls.database, autocommit=True) as connection,
        Crew(urls.environment | {URL: service.url}, folder, WORKER) as crew,
        Orchestrator(cns, database=urls.database, broker=urls.broker) as orchestrator,
    ):
        for _ in range(_WORKERS):
            screen.step("worker", f"process {crew.start()} is ready")
        runs = [orchestrator.submit(question_asked.create_signal(case.question)) for case in CASES]
        watched = orchestrator.submit(question_asked.create_signal(WATCH))
        human = Human(orchestrator)
        for done in sorted(random.Random(seed).sample(range(1, _STEPS * len(CASES) // 2), kills)):  # noqa: S311
            _until(partial(_done, connection, runs, done), human, runs, crew)
            screen.step("accident", f"SIGKILL to worker {crew.kill_one()}, after {done} steps")
            screen.step("worker", f"process {crew.start()} is ready")
        _until(lambda: _count(connection, _WATCHED, watched.id) > 0, human, runs, crew)
        watched.cancel()
        screen.step("cancel", f"{WATCH.ticket} is watching, without end; nobody wants to know any more")
        _until(lambda: all(run.status() == "completed" for run in runs), human, runs, crew)
        _until(lambda: watched.status() == "cancelled", human, runs, crew)
        screen.step("service", f"went wrong: {dict(service.troubles)}")
        for case, run in zip(CASES, runs, strict=True):
            screen.step(case.question.ticket, case.question.text)
            for entry in run.context()["transcript"]:
                screen.step("", f"{entry['round']} {entry['step']:<14} {entry['said'][:80]}")
        wrong = [one for case, run in zip(CASES, runs, strict=True) for one in _wrong(case, run, service)]
        for one in wrong[:10]:
            screen.step("differs", one)
        screen.say("PROVED: each step once, each answer paid for once." if not wrong else "NOT PROVED.")
        return not wrong


class Human:
    """Reads drafts, and says what the cases say. Once each: a review is sent under a key, and could be sent again."""

    def __init__(self, orchestrator: Orchestrator) -> None:
        self._orchestrator = orchestrator
        self._seen: set[str] = set()

    def review(self, runs: Sequence[Run]) -> None:
        """Look whether there are new drafts."""
        for case, run in zip(CASES, runs, strict=True):
            ticket = case.question.ticket
            if case.verdict is None or ticket in self._seen or "draft" not in (run.context() or {}):
                continue
            review = draft_reviewed.create_signal(Review(approved=case.verdict, by="Ada"))
            self._orchestrator.send(review, key=review_of(ticket), idempotency_key=f"Ada-{run.id}")
            self._seen.add(ticket)


def _wrong(case: Case, run: Run, service: Service) -> list[str]:
    transcript = run.context()["transcript"]
    wrong = list(proof.differences(case.question, case.review, transcript))
    billed = sum(key.startswith(str(run.id)) for key in service.billed)
    if billed != (owed := proof.bill(transcript)):
        wrong.append(f"{case.question.ticket}: {billed} answers were billed, and {owed} stand in the transcript")
    return wrong


def _done(connection: psycopg.Connection, runs: Sequence[Run], steps: int) -> bool:
    return _count(connection, _DONE, [run.id for run in runs]) >= steps


def _count(connection: psycopg.Connection, query: str, value: object) -> int:
    [(number,)] = connection.execute(query.encode(), [value]).fetchall()
    return int(number)


def _until(true: Callable[[], bool], human: Human, runs: Sequence[Run], crew: Crew) -> None:
    """Wait, while the human does their work. Raises ``DemoError`` when it takes too long."""
    end = time.monotonic() + _PATIENCE
    while not true():
        human.review(runs)
        crew.check()
        if time.monotonic() > end:
            raise DemoError(
                f"after {_PATIENCE:.0f} s the runs are {[run.status() for run in runs]}; see `cnstra doctor`"
            )
        time.sleep(_PAUSE)


if __name__ == "__main__":
    sys.exit(main())
