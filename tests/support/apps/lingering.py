"""A module whose leftovers would keep its process from ending: a thread that never does, and a finalizer."""

import atexit
import importlib
import os
import threading
from pathlib import Path

from cnstra import CNS

never = threading.Event()


class Pool:
    """As a pool of connections that nobody closed."""

    def __del__(self) -> None:
        never.wait()


pool = Pool()
if os.environ["LINGERS_BY"] == "thread":
    threading.Thread(target=never.wait).start()
atexit.register(Path(os.environ["LINGERING_SAYS_GOODBYE_IN"]).touch)
sagas = importlib.import_module("sagas")
cns = CNS([sagas.first, sagas.second], name="sagas")
