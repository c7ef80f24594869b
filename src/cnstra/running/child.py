"""One of several processes of a worker: ``python -m cnstra.running.child ORDERS REPORT NUMBER``, started by the parent.

ORDERS and REPORT are descriptors of pipes. The first line of the orders says what to do, later ones when to stop; the
reports are one JSON document a line: that it is ready, or why it could not start, and where somebody probes the worker, about
once a second, how it is. NUMBER is for whoever lists processes.
"""

from __future__ import annotations

import json
import os
import select
import sys
import traceback
from typing import Any

from cnstra.exits import Exit, code_of, line_of
from cnstra.loading import load
from cnstra.running import logs
from cnstra.running.health import interval
from cnstra.running.life import Life
from cnstra.running.orders import Orders
from cnstra.running.process import Process, insist_on_ending
from cnstra.running.signals import end_quietly_on_sigterm


def main(arguments: list[str]) -> int:
    """Be a child, until told to stop."""
    end_quietly_on_sigterm()
    told, report = (int(argument) for argument in arguments[:2])
    for descriptor in (told, report):
        os.set_inheritable(descriptor, False)
    orders = Orders.unpacked(_line(told))
    logs.set_up(orders.log_level, urls=orders.urls, form=orders.log_format)

    def say(**what: Any) -> None:
        os.write(report, json.dumps(what).encode() + b"\n")

    code = Exit.FAILED
    try:
        cns = load(orders.app)
        logs.let_be_heard()

        def ready() -> None:
            if orders.health is not None:
                say(pulse=life.pulse().packed())  # before: who was told that it is ready finds it so
            say(ready=True)

        life = Life(cns, orders, ready=ready)

        def tell() -> None:
            if _takes_more(report):
                say(pulse=life.pulse().packed())

        every = None if orders.health is None else (interval(orders.lease), tell)
        code = Process(life, drain=orders.drain, orders=told, every=every).run()
    except Exception as error:
        if orders.debug:
            traceback.print_exc()
        code = code_of(error)
        say(error=line_of(error), code=code)
    except KeyboardInterrupt:
        code = Exit.INTERRUPTED
    insist_on_ending(code)
    return code


def _takes_more(pipe: int) -> bool:
    """Whether its reader is there, and not so far behind that a writer would have to wait."""
    asked = select.poll()
    asked.register(pipe, select.POLLOUT)
    return [event for _, event in asked.poll(0)] == [select.POLLOUT]


def _line(descriptor: int) -> bytes:
    """The first line in the pipe; what follows stays there."""
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = os.read(descriptor, 1)
        if not byte:
            raise SystemExit("the parent is gone")
        line += byte
    return bytes(line)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
