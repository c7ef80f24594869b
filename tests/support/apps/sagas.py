"""The graph that the tests of the command line run. A payload says what its handler does."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import threading
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from tenacity import Retrying, stop_after_attempt

from cnstra import CNS, Axon, Context, collateral, neuron


@dataclass(frozen=True)
class Job:
    """``do`` is the name of what the first handler does; ``gate`` is a named pipe at which some of these stop."""

    do: str = "pass"
    gate: str = ""


class Stop(BaseException):
    """Of no kind that a careful ``except Exception`` would see."""


class FirstAxon(Axon):
    """What the first step says."""

    done = collateral("first.done", Job)


class SecondAxon(Axon):
    """What comes out."""

    finished = collateral("finished", str)


begin = collateral("begin", Job)
begin_async = collateral("begin.async", Job)
first = neuron("first", FirstAxon, retry=Retrying(stop=stop_after_attempt(1)), concurrency=2)
second = neuron("second", SecondAxon, queue="slow", max_duration=timedelta(seconds=30))


@first.dendrite(begin)
def work(job: Job, axon: FirstAxon, ctx: Context[Any]) -> Any:
    """Do what the job says."""
    ctx["done by"] = os.getpid()
    DEEDS[job.do](job, ctx)
    return axon.done.create_signal(job)


@first.dendrite(begin_async)
async def work_async(job: Job, axon: FirstAxon, ctx: Context[Any]) -> Any:
    """The same, on the event loop."""
    DEEDS[job.do](job, ctx)
    return axon.done.create_signal(job)


@second.dendrite(FirstAxon.done)
def finish(job: Job, axon: SecondAxon) -> Any:
    """Say so."""
    return axon.finished.create_signal(job.do)


def stop_at(gate: str) -> None:
    """Stand still until somebody has opened the other end and closed it again."""
    with open(gate, "rb") as file:
        file.read()


def wait(job: Job, ctx: Context[Any]) -> None:
    stop_at(job.gate)


def fail_once(job: Job, ctx: Context[Any]) -> None:
    if ctx.attempt == 1:
        raise ValueError("card declined")


def exit_process(job: Job, ctx: Context[Any]) -> None:
    raise SystemExit(3)


def interrupt(job: Job, ctx: Context[Any]) -> None:
    raise KeyboardInterrupt


def raise_base(job: Job, ctx: Context[Any]) -> None:
    raise Stop("of no ordinary kind")


def stick_in_c(job: Job, ctx: Context[Any]) -> None:
    with open(job.gate, "rb"):
        ctypes.CDLL(None).sleep(100_000)


def stick_with_the_gil(job: Job, ctx: Context[Any]) -> None:
    with open(job.gate, "rb"):
        ctypes.PyDLL(None).sleep(100_000)


def fail_with(job: Job, ctx: Context[Any]) -> None:
    ctx.log.info("about to fail")
    raise ValueError(f"the card {job.gate} was declined")


def leave_broken_things(job: Job, ctx: Context[Any]) -> None:
    async def broken() -> None:
        raise ValueError(f"the card {job.gate} was declined")

    def also() -> None:
        raise ValueError(f"the card {job.gate} was declined, too")

    def finalised() -> Any:
        try:
            yield
        finally:
            raise ValueError(f"the card {job.gate} was declined, at last")

    next(finalised())
    asyncio.get_running_loop().create_task(broken())  # nobody waits for it: that is the point
    thread = threading.Thread(target=also)
    thread.start()
    thread.join()


def kill(job: Job, ctx: Context[Any]) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def end_the_claimer(job: Job, ctx: Context[Any]) -> None:
    [claimer] = [thread for thread in threading.enumerate() if thread.name == "cnstra-claimer"]
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(claimer.ident or 0), ctypes.py_object(SystemExit))


DEEDS = {
    "pass": lambda job, ctx: None,
    "wait": wait,
    "fail once": fail_once,
    "exit": exit_process,
    "interrupt": interrupt,
    "raise base": raise_base,
    "stick in C": stick_in_c,
    "stick with the GIL": stick_with_the_gil,
    "fail with": fail_with,
    "kill": kill,
    "leave broken things": leave_broken_things,
    "end the claimer": end_the_claimer,
}

cns = CNS([first, second], name="sagas")
nameless = CNS([first, second])
something_else = 17
