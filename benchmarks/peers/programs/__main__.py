"""``python -m benchmarks.peers.programs <peer> ...``: run a peer's program.

The program is imported under its own name, never as ``__main__``, since its tasks are found by that name in the workers.
"""

from __future__ import annotations

import signal
import sys
from importlib import import_module

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # workers are stopped on the way out
    program = import_module(f"benchmarks.peers.programs.{sys.argv.pop(1)}")
    sys.exit(program.main())
