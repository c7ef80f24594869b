"""One connection to RabbitMQ, and the one thread that touches it.

Owns what ``pika`` leaves to its users: a connection belongs to a single thread, which has to serve it all the time, or the
server cuts it for missed heartbeats. So jobs are handed to that thread, and who needs an answer waits for it, for a bounded
time. An idle line costs the heartbeats. It connects for the first job, and for the next one after it was cut; a forked child
needs a line of its own. Knows nothing of doorbells.
"""

from __future__ import annotations

import logging
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar
from urllib.parse import unquote, urlsplit

from pika import BlockingConnection, SSLOptions, URLParameters
from pika.exceptions import AMQPError

from cnstra.orchestrator.errors import BrokerAway

T = TypeVar("T")

ANSWER_WITHIN = 3.0
"""Seconds that the server has to take a connection, and to answer. A connection takes some round trips, and a new queue disks."""

_TAKEN_WITHIN = 2.0
"""Seconds of these that a connection may take, from its socket to its end."""

_HEARTBEAT = 15
"""Seconds after which a line that says nothing is looked at, unless the URL says otherwise."""

_FAREWELL = 0.5
"""Seconds that the end of a line may take. A server that has fallen silent says no goodbye, and who stops has little time."""

_SILENCE = 5
"""Seconds after which a server that does not answer packets is taken for gone: heartbeats take up to 40 to find that out, while
nobody hears what rings here."""

_NETWORK = {
    name: value
    for name, value in {
        "TCP_KEEPIDLE": _SILENCE - 2,
        "TCP_KEEPINTVL": 1,
        "TCP_KEEPCNT": 2,
        "TCP_USER_TIMEOUT": _SILENCE * 1_000,
    }.items()
    if hasattr(socket, name)
}

_TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")

_THREAD = "cnstra-rabbitmq"

_log = logging.getLogger("cnstra.listener")


def servers_of(urls: Sequence[str], *, client_name: str) -> list[URLParameters]:
    """Where these URLs lead. Options in them that would change how long calls take are overruled.

    Raises ``ValueError`` or ``TypeError`` for what ``pika`` refuses.
    """
    servers = []
    for one in urls:
        server = _server_of(one)
        if "heartbeat=" not in urlsplit(one).query:
            server.heartbeat = _HEARTBEAT
        if "tcp_options=" not in urlsplit(one).query:
            server.tcp_options = _NETWORK
        server.client_properties = {"connection_name": client_name}
        server.connection_attempts = 1
        server.socket_timeout = server.stack_timeout = _TAKEN_WITHIN
        server.blocked_connection_timeout = ANSWER_WITHIN
        servers.append(server)
    return servers


def _server_of(url: str) -> URLParameters:
    """With the files of TLS by the names that redis-py has for them; pika knows a dict of Python's in their place."""
    place, _, options = url.partition("?")
    files: dict[str, str] = {}
    others: list[str] = []
    for option in options.split("&") if options else []:
        name, _, value = option.partition("=")
        if name in _TLS_FILES:
            files[name] = unquote(value)
        else:
            others.append(option)
    server = URLParameters("?".join([place, "&".join(others)] if others else [place]))
    if files:
        if not place.startswith("amqps:") or ("ssl_keyfile" in files and "ssl_certfile" not in files):
            raise ValueError("files of TLS that nothing is done with")
        context = ssl.create_default_context(cafile=files.get("ssl_ca_certs"))
        if "ssl_certfile" in files:
            context.load_cert_chain(files["ssl_certfile"], files.get("ssl_keyfile"))
        server.ssl_options = SSLOptions(context, server.host)
    return server


class Line:
    """Runs jobs on a connection, one after another, in the order in which they were given.

    Args:
        servers: where to connect: to the first that takes the connection.
        shown: the URL without secrets, for messages.
        cut: called, in the line's thread, when a connection is gone.
    """

    def __init__(self, servers: Sequence[URLParameters], *, shown: str, cut: Callable[[], None]) -> None:
        self._servers = servers
        self._shown = shown
        self._cut = cut
        self._jobs: SimpleQueue[_Job[Any] | None] = SimpleQueue()
        self._connection: BlockingConnection | None = None
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False
        _keep_pika_quiet()

    def call(self, do: Callable[[BlockingConnection], T]) -> T:
        """What ``do`` comes to.

        Raises:
            BrokerAway: the server could not be reached, did not answer in time, or refused; or the line is closed.
        """
        if self._closed:
            raise BrokerAway(f"The line to the broker {self._shown} is closed.")
        job = _Job(do)
        self._give(job)
        try:
            return job.ended.result(timeout=ANSWER_WITHIN)
        except TimeoutError:
            job.ended.cancel()
            raise BrokerAway(f"The broker {self._shown} does not answer.") from None
        except Exception as error:  # pika raises what it likes
            raise BrokerAway(f"The broker {self._shown} does not serve ({_told(error)}).") from error

    def post(self, do: Callable[[BlockingConnection], object]) -> None:
        """Have this done if the connection lasts so long; nobody waits for it. Never raises."""
        if not self._closed:
            self._give(_Job(do, worth_connecting=False))

    def close(self) -> None:
        """Let what was given be done, and the connection be closed. Idempotent, never raises, takes a bounded time."""
        with self._starting:
            self._closed = True
            thread = self._thread
        if thread is not None:
            self._give(None)
            thread.join(_FAREWELL)

    def _give(self, job: _Job[Any] | None) -> None:
        self._jobs.put(job)
        with self._starting:
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name=_THREAD, daemon=True)
                self._thread.start()
        connection = self._connection
        if connection is not None:
            with suppress(AMQPError):  # cut meanwhile: the thread comes by for the job
                connection.add_callback_threadsafe(_wake)

    # In the thread.

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            if not job.is_worth_connecting:
                continue
            try:
                connection = BlockingConnection(_resolved(self._servers))
            except Exception as error:
                job.fail(error)
                continue
            with self._serving(connection):
                job.run(connection)
                while self._runs_all_jobs(connection):
                    connection.process_data_events(time_limit=None)
                return

    def _runs_all_jobs(self, connection: BlockingConnection) -> bool:
        """Whether there are to be more."""
        with suppress(Empty):
            while (job := self._jobs.get_nowait()) is not None:
                job.run(connection)
            return False
        return True

    @contextmanager
    def _serving(self, connection: BlockingConnection) -> Iterator[None]:
        self._connection = connection
        try:
            yield
        except Exception as error:  # the next job connects anew, or finds out why not
            _log.debug("The connection to the broker %s was cut: %s", self._shown, _told(error))
        finally:
            self._connection = None
            self._cut()
            with suppress(Exception):
                connection.close()


class _Job(Generic[T]):
    def __init__(self, do: Callable[[BlockingConnection], T], *, worth_connecting: bool = True) -> None:
        self.ended: Future[T] = Future()
        self._do = do
        self._worth_connecting = worth_connecting

    @property
    def is_worth_connecting(self) -> bool:
        """Not if nobody waits for it, or no more: what piled up while a server hung is no reason to try it again and again."""
        return self._worth_connecting and not self.ended.cancelled()

    def run(self, connection: BlockingConnection) -> None:
        if self._still_wanted():
            try:
                self.ended.set_result(self._do(connection))
            except BaseException as error:
                self.ended.set_exception(error)

    def fail(self, error: Exception) -> None:
        if self._still_wanted():
            self.ended.set_exception(error)

    def _still_wanted(self) -> bool:
        """Not if who asked for it has given up."""
        return self.ended.set_running_or_notify_cancel()


def _resolved(servers: Sequence[URLParameters]) -> Sequence[URLParameters]:
    """Those whose names can be resolved. Left to itself, pika resolves on a thread of its own, and logs each failure.

    Raises ``OSError`` when none can.
    """
    found, failure = [], OSError("no server is named")
    for server in servers:
        try:
            socket.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM)
        except OSError as error:
            failure = error
        else:
            found.append(server)
    if not found:
        raise failure
    return found


def _wake() -> None:
    """A callback makes the connection return from its wait."""


def _told(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")


def _keep_pika_quiet() -> None:
    """It reports each attempt to reach a server that is away, with tracebacks. Bell and listener say so once. What other
    threads do with pika is the application's business.
    """
    for name, logger in list(logging.root.manager.loggerDict.items()):  # others may be adding to it
        if name.split(".")[0] == "pika" and isinstance(logger, logging.Logger) and _not_ours not in logger.filters:
            logger.addFilter(_not_ours)


def _not_ours(record: logging.LogRecord) -> bool:
    return record.threadName != _THREAD
