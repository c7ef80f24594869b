"""A server that ends with the process that wanted it, however that one ends: run as a script, between the two.

It starts what its arguments say, and waits for the end of its standard input, which the kernel brings about when the other
process is gone. Then it stops the server by SIGQUIT, and what does not listen by SIGKILL.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

_PATIENCE = 20.0  # seconds for a server to stop


def main() -> None:
    """``guarded.py USER GROUP COMMAND…``; a user of -1 is that of this process. Ends with the server."""
    user, group, *command = sys.argv[1:]
    others = {} if user == "-1" else {"user": int(user), "group": int(group), "extra_groups": ()}
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, cwd="/", **others)  # type: ignore[call-overload]
    print(server.pid, flush=True)
    threading.Thread(target=_stop_at_the_end_of_input, args=(server,), daemon=True).start()
    server.wait()


def _stop_at_the_end_of_input(server: subprocess.Popen[bytes]) -> None:
    while os.read(0, 1024):
        pass
    for number in (signal.SIGQUIT, signal.SIGKILL):
        server.send_signal(number)
        try:
            server.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            continue
        return


if __name__ == "__main__":
    main()
