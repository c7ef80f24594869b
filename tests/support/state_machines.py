"""The page about the state machines, drawn from the tables that the engine moves along.

``python -m support.state_machines``, in the folder ``tests``, writes it anew; a test holds the page against it.
"""

from __future__ import annotations

from pathlib import Path

from cnstra.orchestrator.machine.states import (
    ACTIVATION_MOVES,
    ACTIVATION_STARTS,
    RUN_MOVES,
    RUN_STARTS,
    ActivationStatus,
    RunStatus,
    diagram,
)

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "state-machines.md"

_PAGE = """\
# The state machines

A run and its activations move along two tables, which stand in `orchestrator/machine/states.py`. Nothing moves otherwise.
This page is drawn from them: `cd tests && python -m support.state_machines`.

## A run

```mermaid
{run}```

A `failed` run can be left by a retry; `completed` is final. Reserved, and not reached yet: {run_reserved}.

## An activation

```mermaid
{activation}```

A `done` activation never runs again. Reserved, and not reached yet: {activation_reserved}.
"""


def generated() -> str:
    """The whole page."""
    run_reached = {*RUN_STARTS, *RUN_MOVES.values()}
    activation_reached = {*ACTIVATION_STARTS, *ACTIVATION_MOVES.values()}
    return _PAGE.format(
        run=diagram(RUN_STARTS, RUN_MOVES),
        activation=diagram(ACTIVATION_STARTS, ACTIVATION_MOVES),
        run_reserved=", ".join(f"`{status}`" for status in RunStatus if status not in run_reached),
        activation_reserved=", ".join(f"`{status}`" for status in ActivationStatus if status not in activation_reached),
    )


if __name__ == "__main__":
    PAGE.write_text(generated())
