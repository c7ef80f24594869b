"""The endpoint for probes, in a loop of its owner's: what it answers, and that no client can hold it up."""

from __future__ import annotations

import json
import selectors
import socket
import threading
from collections.abc import Iterator
from http.client import HTTPConnection

import pytest

from cnstra.orchestrator.errors import ConfigurationError
from cnstra.running.endpoint import Endpoint
from support.doors import free_port


class Owner:
    """A loop that serves an endpoint, on a thread; ``against`` is what counts against life."""

    def __init__(self) -> None:
        self.port = free_port()
        self.against: list[str] = []
        self._endpoint = Endpoint(str(self.port))
        self._ends, self._end = socket.socketpair()
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._thread.start()

    def _loop(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._ends, selectors.EVENT_READ)
            self._endpoint.serve(
                selector, {"/live": ("live", lambda: self.against), "/ready": ("ready", lambda: ["it drains"])}
            )
            while True:
                for key, _ in selector.select():
                    if key.data is None:
                        self._endpoint.close()
                        return
                    key.data()

    def ask(self, method: str, path: str) -> tuple[int, bytes]:
        """One request; status and body."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def connect(self, said: bytes = b"") -> socket.socket:
        """A client that says this, and waits."""
        client = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        client.sendall(said)
        return client

    def close(self) -> None:
        self._end.send(b".")
        self._thread.join(60)
        self._ends.close()
        self._end.close()


@pytest.fixture
def owner() -> Iterator[Owner]:
    owner = Owner()
    yield owner
    owner.close()


def test_yes_is_200_and_no_is_503_with_the_reasons(owner: Owner) -> None:
    """An HTTP probe looks at the status, a person at the reasons."""
    assert owner.ask("GET", "/live") == (200, b'{"live": true, "reasons": []}\n')
    status, body = owner.ask("GET", "/ready?verbose")
    assert (status, json.loads(body)) == (503, {"ready": False, "reasons": ["it drains"]})

    owner.against = ["process 1 has not turned for 46 s"]

    assert owner.ask("GET", "/live")[0] == 503


def test_head_has_the_status_and_no_body(owner: Owner) -> None:
    """Some probes ask so."""
    assert owner.ask("HEAD", "/live") == (200, b"")
    assert owner.ask("HEAD", "/ready") == (503, b"")
    with owner.connect(b"HEAD /live HTTP/1.1\r\n\r\n") as client, client.makefile("rb") as answer:
        assert answer.read().endswith(b"Connection: close\r\n\r\n")


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/", 404), ("GET", "/metrics", 404), ("POST", "/live", 405)]
)
def test_nothing_else_is_answered(owner: Owner, method: str, path: str, status: int) -> None:
    """There is nothing to see, and nothing to do."""
    assert owner.ask(method, path)[0] == status


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"\xff\x00\r\n\r\n", b"400"),
        (b"GET /live HTTP/1.1\r\nX: " + 9000 * b"x", b"431"),
    ],
)
def test_what_is_no_request_is_refused(owner: Owner, said: bytes, status: bytes) -> None:
    """It is read no further."""
    with owner.connect(said) as client:
        assert client.recv(4096).split()[1] == status


def test_clients_that_say_nothing_hold_nobody_up(owner: Owner) -> None:
    """More than may be there at the same time: the oldest ones are dropped, and a probe is answered."""
    silent = [owner.connect(b"GET /li") for _ in range(40)]

    assert owner.ask("GET", "/live")[0] == 200

    assert silent[0].recv(1) == b""
    for client in silent:
        client.close()


def test_clients_that_go_away_leave_nothing_behind(owner: Owner) -> None:
    """Before their request, in the middle of it, and with a reset."""
    for said in (b"", b"GET /live", b"GET /live HTTP/1.1\r\n\r\n"):
        client = owner.connect(said)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        client.close()

    assert owner.ask("GET", "/live")[0] == 200


def test_a_port_that_is_taken_is_named(owner: Owner) -> None:
    """So is a host that is not this machine's."""
    with pytest.raises(ConfigurationError, match=rf"cannot answer probes at {owner.port}: Address already in use"):
        Endpoint(str(owner.port))
    with pytest.raises(ConfigurationError, match=r"cannot answer probes at 192.0.2.1:8080: "):
        Endpoint("192.0.2.1:8080")
    with pytest.raises(ConfigurationError, match=r"cannot answer probes at nowhere.invalid:8080: "):
        Endpoint("nowhere.invalid:8080")
