"""The service on its bad days: an HTTP server on this machine that answers, fails, or lets its callers wait.

It bills each answer once by the caller's idempotency key. What happens to a call is settled by a seed, by what is asked, and
by how often it was asked under that key: three times something may go wrong, the fourth call is answered.
"""

from __future__ import annotations

import json
import random
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from agent_flow import brain

_BAD_CALLS = 3
_FAILS = 0.25
_STALLS = 0.08
_STALL = 60.0  # seconds: longer than anybody waits


class Service:
    """Serves for the length of a block. ``url`` is where; ``billed`` are the keys of what was answered."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._lock = threading.Lock()
        self._calls = Counter[str]()
        self._closing = threading.Event()
        self.billed: set[str] = set()
        self.troubles = Counter[str]()
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = self.rfile.read(int(self.headers["Content-Length"]))
                status, said = service.called(self.path, asked.decode(), self.headers["Idempotency-Key"])
                content = json.dumps(said).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Nobody reads it."""

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None:
                """Callers that have gone away are no news here."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, name="agent_flow-service", daemon=True)

    def called(self, path: str, asked: str, key: str) -> tuple[int, dict[str, Any]]:
        """What becomes of one call: a status, and an answer or what went wrong."""
        with self._lock:
            self._calls[key] += 1
            number = self._calls[key]
        chance = random.Random(f"{self._seed}/{path}/{asked}/{number}").random()  # noqa: S311 - to be repeated
        if number <= _BAD_CALLS and chance < _STALLS:
            self._note("stalled")
            self._closing.wait(_STALL)
        elif number <= _BAD_CALLS and chance < _STALLS + _FAILS:
            self._note("failed")
            return 503, {"error": "too busy"}
        try:
            said = brain.answer(path, json.loads(asked))
        except brain.BadRequest as error:
            return 422, {"error": str(error)}
        with self._lock:
            self.billed.add(key)
        return 200, said

    def _note(self, trouble: str) -> None:
        with self._lock:
            self.troubles[trouble] += 1

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
