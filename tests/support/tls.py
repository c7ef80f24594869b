"""TLS in front of a server that speaks none, with certificates made here: the servers of the wheels are built without it.

A client cannot tell: it does the whole handshake, and what it checks is what it would check of any server.
"""

from __future__ import annotations

import datetime
import ipaddress
import select
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_NOW = datetime.datetime.now(datetime.UTC)
_DAY = datetime.timedelta(days=1)
_SSL_REQUEST = (8).to_bytes(4, "big") + (80877103).to_bytes(4, "big")
"""How a client of Postgres asks for TLS, in the clear."""


class Authority:
    """Signs certificates; ``file`` is its own."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(f"{name} authority")
        self.file = folder / f"{name}.pem"
        built = _builder(self._name, self._name, self._key, _NOW + _DAY)
        built = built.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self.file.write_bytes(built.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def sign(self, subject: str, *, address: str | None = None, expired: bool = False) -> tuple[Path, Path]:
        """A certificate and its key; ``address`` is where the server is."""
        key = ec.generate_private_key(ec.SECP256R1())
        built = _builder(_name(subject), self._name, key, _NOW - _DAY if expired else _NOW + _DAY)
        if address is not None:
            names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
            built = built.add_extension(names, critical=False)
        certificate, secret = self._folder / f"{subject}.crt", self._folder / f"{subject}.key"
        certificate.write_bytes(built.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        secret.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        secret.chmod(0o600)
        return certificate, secret


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, until: datetime.datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_NOW - 2 * _DAY)
        .not_valid_after(until)
    )


@contextmanager
def behind_tls(
    port: int, certificate: tuple[Path, Path], *, clients_of: Authority | None = None, postgres: bool = False
) -> Iterator[int]:
    """A port of 127.0.0.1 that speaks TLS, and passes on what comes to another. ``clients_of`` has to have signed the clients'
    certificates; ``postgres``: they ask for TLS first.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    if clients_of is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(clients_of.file)
    with socket.create_server(("127.0.0.1", 0)) as door:
        threading.Thread(target=_accept, args=(door, context, port, postgres), daemon=True).start()
        try:
            yield door.getsockname()[1]
        finally:
            with suppress(OSError):
                door.shutdown(socket.SHUT_RDWR)


def _accept(door: socket.socket, context: ssl.SSLContext, port: int, postgres: bool) -> None:
    with suppress(OSError):
        while True:
            client, _ = door.accept()
            threading.Thread(target=_serve, args=(client, context, port, postgres), daemon=True).start()


def _serve(client: socket.socket, context: ssl.SSLContext, port: int, postgres: bool) -> None:
    """Pumped by one thread: an SSL socket is not for two."""
    with suppress(OSError), client:
        if postgres:
            assert client.recv(8, socket.MSG_WAITALL) == _SSL_REQUEST
            client.sendall(b"S")
        with (
            context.wrap_socket(client, server_side=True) as inside,
            socket.create_connection(("127.0.0.1", port)) as server,
        ):
            inside.setblocking(False)
            server.setblocking(False)
            _pump(inside, server)


def _pump(inside: ssl.SSLSocket, server: socket.socket) -> None:
    while True:
        select.select([inside, server], [], [], 0.5 if not inside.pending() else 0)
        for source, target in ((inside, server), (server, inside)):
            try:
                data = source.recv(65_536)
            except (ssl.SSLWantReadError, BlockingIOError):
                continue
            if not data:
                return
            target.setblocking(True)
            target.sendall(data)
            target.setblocking(False)
