"""A private RabbitMQ that a test may kill, stop and start again, and what can be asked of it.

There is none in a wheel, so it is the system's (Debian: ``apt-get install rabbitmq-server``). The node, its port mapper and all
that they write are this module's own; a node that the system runs is not touched.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pika
import psutil
import pytest
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ChannelClosedByBroker

from cnstra.orchestrator.ports import Ring
from cnstra.workers.doorbell import DramatiqBell
from support.doors import free_port, turn_away
from support.folders import delete_home, new_home
from support.reaping import reap
from support.waiting import eventually

PASSWORD = "open-sesame"

_PLACES = ("/usr/lib/rabbitmq/bin", "/opt/homebrew/sbin", "/usr/local/sbin")
"""Where the plain scripts are; those of Debian on PATH run the system's node, as the account that owns it."""

_MISSING = (
    "no RabbitMQ on this machine (Debian: apt-get install rabbitmq-server): what is promised of it goes untested here"
)


class RabbitMQ:
    """One node at a time, always on the same port, which keeps its queues when it ends. It listens on ``address``, too."""

    def __init__(self, scripts: Path, address: str | None = None) -> None:
        self._scripts = scripts
        self._folder = new_home()
        self.port = free_port()
        self._namespace = "cnstra"
        self._process: subprocess.Popen[bytes] | None = None
        mapper = free_port()
        (self._folder / "plugins").write_text("[].\n")
        reachable = "" if address is None else f"listeners.tcp.hosts = {address}:{self.port}\n"
        (self._folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.default = 127.0.0.1:{self.port}\n{reachable}"
            f"default_user = cnstra\ndefault_pass = {PASSWORD}\n"
            "log.console = true\nlog.console.level = info\nlog.file = false\n"
        )
        self._environment = {
            **os.environ,
            "HOME": str(self._folder),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(mapper),
            "RABBITMQ_CONFIG_FILE": str(self._folder / "rabbitmq.conf"),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._folder / "plugins"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_LOG_BASE": str(self._folder / "log"),
            "RABBITMQ_MNESIA_BASE": str(self._folder / "mnesia"),
            "RABBITMQ_NODENAME": f"cnstra-{self.port}@localhost",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none",
        }
        # Else the node would start one that outlives it.
        self._mapper = subprocess.Popen(["epmd", "-port", str(mapper), "-address", "127.0.0.1"], env=self._environment)
        reap(self._mapper.pid)

    @property
    def url(self) -> str:
        """Where it is; what is rung there is heard by nobody who has another namespace."""
        return f"amqp://cnstra:{PASSWORD}@127.0.0.1:{self.port}/?namespace={self._namespace}"

    @property
    def shown(self) -> str:
        """How the URL is shown to people."""
        return f"amqp://127.0.0.1:{self.port}/"

    def start(self) -> None:
        """Start, if it does not run, and return when connections are accepted."""
        if self._process is not None:
            return
        log = self._folder / "node.log"
        with log.open("w") as output:
            self._process = process = subprocess.Popen(
                [str(self._scripts / "rabbitmq-server")],
                env=self._environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=self._folder,
            )
        reap(process.pid)

        def up() -> bool:
            if process.poll() is not None:
                self._process = None
                raise RuntimeError(log.read_text())
            return "Server startup complete" in log.read_text()

        eventually(up, what="RabbitMQ takes connections")

    def begin(self) -> None:
        """For the next test: it runs, and has none of the queues of those before."""
        self.start()
        self._namespace = f"test-{uuid.uuid4().hex}"

    def kill(self) -> None:
        """SIGKILL, if it runs; but not in the second after a queue was made, until which it has not written down everything
        about it. Such a queue is broken for good (3.10.8), and no test of ours.
        """
        if self._process is not None:
            self.control("eval", "[dets:sync(Table) || Table <- dets:all()].")
            self._kill(self._process)
            self._process = None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the server."""
        assert self._process is not None
        os.killpg(self._process.pid, number)

    def turn_away(self, connections: int) -> None:
        """Stand in the dead server's place until so many have tried to connect; close on each of them."""
        turn_away(self.port, connections)

    def end(self) -> None:
        """Leave nothing behind."""
        if self._process is not None:
            self._kill(self._process)
        self._mapper.kill()
        self._mapper.wait()
        delete_home(self._folder)

    # What bell and listener leave there, the same of every broker.

    def listening(self, *queues: str) -> bool:
        """Whether these are waited for; one that is named twice, by two."""
        return all((self._consumers(queue) or 0) == queues.count(queue) for queue in set(queues))

    def put(self, queue: str, body: bytes) -> None:
        """Put anything into a queue."""
        self.declare(queue)
        with self.channel() as channel:
            channel.confirm_delivery()
            channel.basic_publish("", self.name(queue), body, mandatory=True)

    def take(self, queue: str) -> bytes | None:
        """The next message of a queue, which leaves it."""
        with self.channel() as channel:
            _, _, body = channel.basic_get(self.name(queue), auto_ack=True)
            return body

    def forget(self, *queues: str) -> None:
        """Lose all doorbells: these queues are gone."""
        with self.channel() as channel:
            for queue in queues:
                channel.queue_delete(self.name(queue))

    def cut(self) -> None:
        """Cut all connections."""
        self.control("close_all_connections", "the test says so")

    # What only this one can be asked.

    def name(self, queue: str) -> str:
        """What a queue is called there."""
        return f"{self._namespace}:doorbells:{queue}"

    def declare(self, queue: str) -> None:
        """Make a queue as the bell makes it, unless it is there; again, where the node was too slow for the bell to connect."""
        if self._consumers(queue) is not None:
            return
        bell = DramatiqBell(self.url)

        def made() -> bool:
            bell.ring([Ring(door=queue, activations=((uuid.uuid4(), 1),))])
            return self._consumers(queue) is not None

        eventually(made, what="the queue")
        bell.close()
        assert eventually(lambda: self.take(queue), what="what was rung to make the queue")

    @contextmanager
    def channel(self) -> Iterator[BlockingChannel]:
        """For the test's own questions, on a connection of its own."""
        with pika.BlockingConnection(pika.URLParameters(self.url.partition("?")[0])) as connection:
            yield connection.channel()

    def control(self, *command: str) -> str:
        """What ``rabbitmqctl`` says."""
        done = subprocess.run(
            [str(self._scripts / "rabbitmqctl"), "--quiet", *command],
            env=self._environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    def _kill(self, process: subprocess.Popen[bytes]) -> None:
        """Returns when the port is free: the node is a child of the process, which may be gone before it."""
        all_of_it = psutil.Process(process.pid).children(recursive=True)
        self.signal(signal.SIGKILL)
        process.wait()
        psutil.wait_procs(all_of_it)

    def _consumers(self, queue: str) -> int | None:
        """How many there are; None where there is no such queue."""
        with self.channel() as channel:
            try:
                declared = channel.queue_declare(self.name(queue), passive=True)
            except ChannelClosedByBroker:
                return None
            count: int = declared.method.consumer_count
            return count


@contextmanager
def running_rabbitmq(address: str | None = None) -> Iterator[RabbitMQ]:
    """A node for many tests; the test is skipped, and says why, where there is no RabbitMQ."""
    scripts = _scripts()
    if scripts is None:
        pytest.skip(_MISSING)
    node = _started(scripts, address)
    try:
        yield node
    finally:
        node.end()


def _started(scripts: Path, address: str | None) -> RabbitMQ:
    """Another process of the tests may have taken one of its ports meanwhile: then others are."""
    for attempt in range(3):
        node = RabbitMQ(scripts, address)
        try:
            node.start()
        except RuntimeError:
            node.end()
            if attempt == 2:
                raise
        else:
            return node
    raise AssertionError


def _scripts() -> Path | None:
    found = [Path(place) for place in _PLACES if (Path(place) / "rabbitmq-server").is_file()]
    return found[0] if found and shutil.which("epmd") else None
