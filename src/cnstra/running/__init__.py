"""Worker processes: starting them, watching them, ending them.

``command.run`` is the command ``cnstra worker``. One process serves by itself (`process`); for several there is a parent
(`parent`) that starts as many fresh interpreters (`child`), replaces those that die, and passes on when to stop. Parent and
children are one process group. ``dramatiq_broker`` lets dramatiq's command line start processes instead (`under_dramatiq`); it is
loaded when it is asked for, as all other commands pass by here. What a worker does with its work is the business of
``cnstra.workers``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnstra.running.under_dramatiq import dramatiq_broker as dramatiq_broker

__all__ = ["dramatiq_broker"]


def __getattr__(name: str) -> Any:
    if name != "dramatiq_broker":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from cnstra.running import under_dramatiq

    return under_dramatiq.dramatiq_broker
