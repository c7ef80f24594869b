"""A stage whose workers are real ``cnstra worker`` processes on hosts of their own, each of which can be cut off.

What a test asks of the database and of the broker goes over this machine's own addresses, and is never lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from cnstra.servers import HeldServers
from cnstra.stores.postgres import migrate
from support import seals
from support.apps.on_hosts import LEDGER
from support.brokers import RabbitMQBroker, RedisBroker, fresh_broker
from support.commands import MODULES, Servers, WorkerCommand, command_line
from support.databases import fresh_database
from support.hosts.network import Host, Network
from support.hosts.places import Place, place_of
from support.rabbitmq_server import RabbitMQ
from support.stage import Stage, on_stage


class Outpost:
    """One test's hosts and workers, and where they find the ``database`` and the ``broker``; ``stage`` is this machine's side."""

    def __init__(self, network: Network, stage: Stage, folder: Path, workers: ExitStack) -> None:
        self.stage = stage
        self.database: Place = place_of(stage.database_url, network.address)
        self.broker: Place = place_of(stage.broker_url, network.address)
        self.workers: list[WorkerCommand] = []
        self._network = network
        self._folder = folder
        self._at_the_end = workers

    def host(self) -> Host:
        """A host that nothing runs on."""
        return self._network.host()

    @property
    def servers(self) -> Servers:
        """As hosts see them."""
        return Servers(database_url=self.database.url, broker_url=self.broker.url)

    def launch(self, host: Host, app: str, *arguments: str, lease: float = 2.0) -> WorkerCommand:
        """A worker of ``on_hosts:APP`` on this host, with a lease of so many seconds; it is not waited for."""
        worker = WorkerCommand(
            self._folder / f"far-worker-{len(self.workers) + 1}.log",
            f"on_hosts:{app}",
            "--lease",
            str(lease),
            *arguments,
            servers=self.servers,
            environment=MODULES | seals.environment() | {LEDGER: str(self.stage.ledger.path)},
            command=host.command(command_line(["worker"])),
        )
        self.workers.append(self._at_the_end.enter_context(worker))
        return worker

    def start(self, host: Host, app: str, *arguments: str, lease: float = 2.0) -> WorkerCommand:
        """The same; it takes work."""
        return self.launch(host, app, *arguments, lease=lease).ready()

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Where something within is not as it has to be, say what all workers have logged."""
        try:
            yield
        except AssertionError as error:
            logs = "\n".join(f"log of {worker.pid}:\n{worker.log[-6000:]}" for worker in self.workers)
            raise AssertionError(f"{error}\n{logs}") from None


@contextmanager
def outpost_on(network: Network, servers: HeldServers, folder: Path, node: RabbitMQ | None = None) -> Iterator[Outpost]:
    """An outpost for the length of a block, with an empty database and an empty broker on these servers, or at a RabbitMQ."""
    with (
        fresh_database(servers.database_url) as database_url,
        fresh_broker(servers.broker_url, folder) as redis_url,
        on_stage(
            database_url, RedisBroker(redis_url) if node is None else RabbitMQBroker(node), folder, redis_url
        ) as stage,
        ExitStack() as workers,
    ):
        migrate(database_url)
        workers.callback(network.clear)  # when the workers have ended
        yield Outpost(network, stage, folder, workers)
