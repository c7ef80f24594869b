"""``python -m nightly_import.cron DATE FEED``: what the cron does every night. It says which run it is, and ends."""

from __future__ import annotations

import sys
from datetime import date

from cnstra import Orchestrator, Run
from nightly_import.graph import Night, cns, night_begun


def begin(orchestrator: Orchestrator, night: Night) -> Run:
    """Submit a night, under a key of that night: whoever comes second gets the run that there is."""
    return orchestrator.submit(night_begun.create_signal(night), idempotency_key=f"import-{night.date}")


if __name__ == "__main__":
    day, path = sys.argv[1:]
    with Orchestrator(cns) as orchestrator:
        sys.stdout.write(f"{begin(orchestrator, Night(date=date.fromisoformat(day), feed=path)).id}\n")
