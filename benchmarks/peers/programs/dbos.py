"""DBOS: durable workflows in Postgres, whose steps are written as they end.

A workflow runs in the process that starts it, or, from a queue, in any process; its steps are calls inside it. So the
processes here start and run their share of the runs, unless the way is ``queued``: then the program enqueues and they
run. Each process checks what its runs returned, and the program checks in the database that all have succeeded and that
each step was written.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg
from dbos import DBOS, DBOSClient, DBOSConfig

from benchmarks.peers.programs.crew import crew, wait_until
from benchmarks.peers.programs.speaking import (
    CHAIN,
    DATABASE_URL,
    LINE,
    MEMBERS,
    PAUSE,
    SUM,
    Asked,
    Best,
    answer,
    must_be,
    per_second,
)

WAYS = {
    "threads": "sync workflows, each on a thread, started directly; a fan is child workflows",
    "loop": "async workflows, started directly; a fan is steps under asyncio.gather",
    "queued": "sync workflows, from a queue that is polled each 10 ms; a fan is child workflows",
}
BEST = {
    "chains": Best(way="threads", processes=2, threads=8),
    "fans": Best(way="loop", processes=2, threads=8),
    "line": Best(way="threads", processes=1, threads=8),
    "start": Best(way="threads", processes=1, threads=8),
}
QUEUE = "peer"
