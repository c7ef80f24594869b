"""``cnstra doctor``: what is there, and what is wrong with it."""

from __future__ import annotations

from cnstra.cli import places
from cnstra.cli.examining import examine
from cnstra.cli.options import AsJson, BrokerUrl, DatabaseUrl, ReplicaUrls
from cnstra.cli.printing import say, say_json
from cnstra.exits import Exit


def doctor(
    as_json: AsJson = False,
    database_url: DatabaseUrl = None,
    broker_url: BrokerUrl = None,
    replica_url: ReplicaUrls = None,
) -> Exit:
    """Look for what is wrong with servers and runs.

    Each line is ok, a warning, or a problem; with a problem the exit code is 1. --json gives healthy and a list checks.
    """
    findings = examine(places.database(database_url), places.broker(broker_url), places.replicas(replica_url))
    healthy = all(finding.level != "problem" for finding in findings)
    if as_json:
        checks = [{"check": found.check, "level": found.level, "message": found.message} for found in findings]
        say_json({"healthy": healthy, "checks": checks})
    else:
        for found in findings:
            say(f"{found.level:<8} {found.check + ':':<12} {found.message}")
    return Exit.DONE if healthy else Exit.FAILED
