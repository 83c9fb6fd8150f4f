"""Certificates that are made on the spot: an authority, servers, clients."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate and its key, in PEM."""

    certificate: str
    key: str

    def server_context(self, folder: Path, *, clients_of: Authority | None = None) -> ssl.SSLContext:
        """A server that shows this certificate and, with an authority, asks for one of its clients'."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        path = folder / "server.pem"
        path.write_text(self.certificate + self.key)
        context.load_cert_chain(path)
        if clients_of is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(cadata=clients_of.certificate)
        return context


class Authority:
    """Signs whatever is asked for."""

    def __init__(self, name: str = "Test Authority") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = self._builder(self._name, self._key.public_key(), timedelta(days=1))
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self.certificate = builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()

    def itself(self) -> Identity:
        """Its own certificate with its key: what a server shows that signed for itself."""
        key = self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return Identity(self.certificate, key.decode())

    def issue(
        self, *names: str, address: str | None = "127.0.0.1", life: timedelta = timedelta(days=1)
    ) -> Identity:
        """A certificate for these names and this address; with a negative life it has expired."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0] if names else "test")])
        alternatives: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
        if address:
            alternatives.append(x509.IPAddress(ip_address(address)))
        builder = self._builder(subject, key.public_key(), life)
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        return Identity(
            certificate.public_bytes(Encoding.PEM).decode(),
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
        )

    def _builder(
        self, subject: x509.Name, public_key: ec.EllipticCurvePublicKey, life: timedelta
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=30))
            .not_valid_after(now + life)
        )
