"""What ``dramatiq`` is told to serve: the graph of the tests of the command line, on the servers of the environment."""

from __future__ import annotations

import os
import threading

from cnstra.running import dramatiq_broker
from support.apps.sagas import cns

broker = dramatiq_broker(
    cns,
    threads=2,
    drain=float(os.environ.get("TEST_DRAIN", "25")),
    lease=float(os.environ.get("TEST_LEASE", "15")),
)
if "LINGERS" in os.environ:
    threading.Thread(target=threading.Event().wait).start()
