"""What ``cnstra worker`` does once its command line is understood."""

from __future__ import annotations

import sys
from contextlib import suppress

from cnstra.exits import Exit, code_of
from cnstra.loading import load
from cnstra.running import logs
from cnstra.running.endpoint import Endpoint
from cnstra.running.life import Life
from cnstra.running.orders import Orders
from cnstra.running.parent import Parent
from cnstra.running.process import Process, insist_on_ending
from cnstra.running.service import tell_ready
from cnstra.running.signals import end_quietly_on_sigterm


def run(orders: Orders) -> Exit:
    """Serve, in this process or by children, until told to stop. Prints the line ``ready`` when work is taken, and tells systemd.

    Raises ``ConfigurationError``, ``GraphError``, ``SchemaError``, ``StoreUnavailable`` or ``EndedWith`` when it cannot
    start. Does not return when it was cut short: then the process has ended.
    """
    orders.settings()
    end_quietly_on_sigterm()
    logs.set_up(orders.log_level, urls=orders.urls, form=orders.log_format)
    if orders.health is not None:  # whoever answers must not be where handlers run
        return Parent(orders, ready=_say_ready, endpoint=Endpoint(orders.health)).run()
    if orders.processes > 1:
        return Parent(orders, ready=_say_ready).run()
    try:
        code = _serve(orders)
    except Exception as error:
        insist_on_ending(code_of(error))
        raise
    insist_on_ending(code)
    return code


def _serve(orders: Orders) -> Exit:
    cns = load(orders.app)
    logs.let_be_heard()
    return Process(Life(cns, orders, ready=_say_ready), drain=orders.drain).run()


def _say_ready() -> None:
    tell_ready()
    with suppress(OSError, ValueError):  # nobody listens
        sys.stdout.write("ready\n")
        sys.stdout.flush()
