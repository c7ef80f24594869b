"""Worker processes: starting them, watching them, ending them.

``run`` is the command ``cnstra worker``. One process serves by itself (`process`); for several there is a parent
(`parent`) that starts as many fresh interpreters (`child`), replaces those that die, and passes on when to stop. Parent and
children are one process group. ``dramatiq_broker`` lets dramatiq's command line start processes instead (`under_dramatiq`).
What a worker does with its work is the business of ``cnstra.workers``.
"""

from __future__ import annotations

from cnstra.running.command import run
from cnstra.running.orders import Orders
from cnstra.running.under_dramatiq import dramatiq_broker

__all__ = ["Orders", "dramatiq_broker", "run"]
