"""TLS to the database and to the broker, told of in their URLs: who is trusted, who is refused, and what is said then."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from cnstra import AsyncOrchestrator, Orchestrator, StoreUnavailable
from cnstra.orchestrator.errors import BrokerAway
from cnstra.stores.postgres.reaching import reach
from cnstra.workers.doorbell.brokers import open_broker
from support.graphs import routes
from support.rabbitmq_server import RabbitMQ
from support.serving import serving
from support.tls import Authority, behind_tls

HERE = "127.0.0.1"


@dataclass(frozen=True, kw_only=True)
class Certificates:
    """Of the servers' authority: a good one, one that is over, one of somewhere else; a client's; and another authority."""

    ours: Authority
    theirs: Authority
    good: tuple[Path, Path]
    expired: tuple[Path, Path]
    elsewhere: tuple[Path, Path]
    client: tuple[Path, Path]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    folder = tmp_path_factory.mktemp("certificates")
    ours, theirs = Authority(folder, "ours"), Authority(folder, "theirs")
    return Certificates(
        ours=ours,
        theirs=theirs,
        good=ours.sign("server", address=HERE),
        expired=ours.sign("expired", address=HERE, expired=True),
        elsewhere=ours.sign("elsewhere", address="192.0.2.7"),
        client=ours.sign("client"),
    )


def _at(url: str, port: int, scheme: str, **options: object) -> str:
    parts = urlsplit(url)
    place = f"{parts.netloc.rpartition('@')[0]}@{HERE}:{port}" if "@" in parts.netloc else f"{HERE}:{port}"
    joined = "&".join(
        [*([parts.query] if parts.query else []), *(f"{name}={value}" for name, value in options.items())]
    )
    return parts._replace(scheme=scheme, netloc=place, query=joined).geturl()


def _database(url: str, port: int, authority: Authority, **options: object) -> str:
    return _at(url, port, "postgresql", sslmode="verify-full", sslrootcert=authority.file, **options)


def _files(certificate: tuple[Path, Path], *names: str) -> dict[str, object]:
    return dict(zip(names, certificate, strict=True))


@pytest.fixture
def postgres_port(database_url: str) -> int:
    return urlsplit(database_url).port or 5432


def test_a_run_goes_through_tls_on_both_ways(
    database_url: str, broker_url: str, postgres_port: int, certificates: Certificates
) -> None:
    """Both servers show a certificate of an authority that the URLs name, and want one of the client."""
    database_files = _files(certificates.client, "sslcert", "sslkey")
    broker_files = _files(certificates.client, "ssl_certfile", "ssl_keyfile")
    with (
        behind_tls(postgres_port, certificates.good, clients_of=certificates.ours, postgres=True) as database_port,
        behind_tls(urlsplit(broker_url).port or 6379, certificates.good, clients_of=certificates.ours) as broker_port,
    ):
        database = _database(database_url, database_port, certificates.ours, **database_files)
        broker = _at(broker_url, broker_port, "rediss", ssl_ca_certs=certificates.ours.file, **broker_files)

        async def submit() -> str:
            async with AsyncOrchestrator(routes.chain, database=database, broker=broker) as client:
                return (await (await client.submit(routes.set_out.create_signal(2))).wait(60)).status

        with (
            serving(routes.chain, database, broker),
            Orchestrator(routes.chain, database=database, broker=broker) as client,
        ):
            assert client.submit(routes.set_out.create_signal(1)).wait(60).status == "completed"
            assert asyncio.run(submit()) == "completed"
        doorbells = open_broker(broker, client_name="test")
        assert doorbells.facts().kind in ("Redis", "Valkey")
        doorbells.close()


WRONG = ["another authority", "an expired certificate", "another host", "no certificate of a client"]
_SERVERS = {"an expired certificate": "expired", "another host": "elsewhere"}


@pytest.fixture(params=WRONG)
def wrong(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_database_that_cannot_be_trusted_is_not_talked_to(
    database_url: str, postgres_port: int, certificates: Certificates, wrong: str
) -> None:
    """One line says why, without the password."""
    server = getattr(certificates, _SERVERS.get(wrong, "good"))
    demands = certificates.ours if wrong.startswith("no certificate") else None
    authority = certificates.theirs if wrong == "another authority" else certificates.ours
    with (
        behind_tls(postgres_port, server, clients_of=demands, postgres=True) as port,
        pytest.raises(StoreUnavailable, match=_SAID_BY_LIBPQ[wrong]) as refused,
    ):
        reach(_database(database_url, port, authority))

    assert "\n" not in str(refused.value)
    assert str(urlsplit(database_url).password) not in str(refused.value)


_SAID_BY_LIBPQ = {
    "another authority": "certificate verify failed",
    "an expired certificate": "certificate (has )?expired|certificate verify failed",
    "another host": "does not match host name",
    "no certificate of a client": "certificate required|SSL error|closed the connection",
}
_SAID_BY_PYTHON = {
    "another authority": "CERTIFICATE_VERIFY_FAILED",
    "an expired certificate": "certificate has expired",
    "another host": "certificate is not valid for",
    "no certificate of a client": "CERTIFICATE_REQUIRED|Connection closed|reset|does not (answer|serve)",
}


def _assert_broker_refused(url: str, wrong: str) -> None:
    doorbells = open_broker(url, client_name="test")
    try:
        with pytest.raises(BrokerAway, match=_SAID_BY_PYTHON[wrong]) as refused:
            doorbells.facts()
    finally:
        doorbells.close()
    assert "\n" not in str(refused.value)
    assert str(urlsplit(url).password) not in str(refused.value)


def _wrong_broker(url: str, scheme: str, certificates: Certificates, wrong: str) -> Iterator[str]:
    server = getattr(certificates, _SERVERS.get(wrong, "good"))
    demands = certificates.ours if wrong.startswith("no certificate") else None
    authority = certificates.theirs if wrong == "another authority" else certificates.ours
    with behind_tls(urlsplit(url).port or 0, server, clients_of=demands) as port:
        yield _at(url, port, scheme, ssl_ca_certs=authority.file)


def test_a_redis_that_cannot_be_trusted_is_not_talked_to(
    broker_url: str, certificates: Certificates, wrong: str
) -> None:
    """The same."""
    for url in _wrong_broker(broker_url, "rediss", certificates, wrong):
        _assert_broker_refused(url, wrong)


def test_a_rabbitmq_is_talked_to_by_tls_with_the_same_options(
    rabbitmq_node: RabbitMQ, certificates: Certificates
) -> None:
    """With an authority, and a certificate of the client."""
    rabbitmq_node.begin()
    files = _files(certificates.client, "ssl_certfile", "ssl_keyfile")
    with behind_tls(rabbitmq_node.port, certificates.good, clients_of=certificates.ours) as port:
        doorbells = open_broker(
            _at(rabbitmq_node.url, port, "amqps", ssl_ca_certs=certificates.ours.file, **files), client_name="test"
        )
        assert doorbells.facts().kind == "RabbitMQ"
        doorbells.close()


def test_a_rabbitmq_that_cannot_be_trusted_is_not_talked_to(
    rabbitmq_node: RabbitMQ, certificates: Certificates, wrong: str
) -> None:
    """The same as of Redis."""
    rabbitmq_node.begin()
    for url in _wrong_broker(rabbitmq_node.url, "amqps", certificates, wrong):
        _assert_broker_refused(url, wrong)
