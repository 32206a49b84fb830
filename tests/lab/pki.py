"""A certificate authority for one control plane: its files, and the credentials (kubeconfigs) of those who ask it. Knows no process."""

__all__ = ["Authority", "kubeconfig"]

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

VALID = timedelta(days=2)
"""Longer than any test run."""
CLOCK_TOLERANCE = timedelta(hours=1)


class Authority:
    """Writes PEM files into one folder: ca.crt, and NAME.crt with NAME.key for everyone who gets a certificate.

    ``identifiers``: of keys, as certificates have them today. An old cluster has none.
    """

    def __init__(self, directory: Path, *, identifiers: bool = True) -> None:
        self._directory = directory
        self._identifiers = identifiers
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _subject("kubecarp-lab")
        self._subject_key = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        builder = self._builder(self._name, self._key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        builder = builder.add_extension(_usage(signs_certificates=True), critical=True)
        self.certificate = directory / "ca.crt"
        self.certificate.write_bytes(_pem(builder.sign(self._key, hashes.SHA256())))

    def issue(self, name: str, common_name: str, organization: str = "", hosts: Sequence[str] = ("localhost",)) -> tuple[Path, Path]:
        """A certificate for both ends of a connection, and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(_subject(common_name, organization), key.public_key())
        builder = builder.add_extension(x509.SubjectAlternativeName([_host(host) for host in hosts]), critical=False)
        builder = builder.add_extension(_usage(signs_certificates=False), critical=True)
        purposes = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        certificate = self._directory / f"{name}.crt"
        certificate.write_bytes(_pem(builder.add_extension(purposes, critical=False).sign(self._key, hashes.SHA256())))
        return certificate, write_key(self._directory / f"{name}.key", key)

    def _builder(self, subject: x509.Name, public_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self._name).public_key(public_key)
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - CLOCK_TOLERANCE).not_valid_after(now + VALID)
        if not self._identifiers:
            return builder
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(self._subject_key)
        return builder.add_extension(issuer, critical=False)


def write_key(path: Path, key: ec.EllipticCurvePrivateKey | None = None) -> Path:
    """A private key (a new one when none is given) as a file of its owner."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    path.touch(mode=0o600)
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
    )
    return path


def kubeconfig(path: Path, server: str, ca: Path, user: Mapping[str, str]) -> Path:
    """A kubeconfig for one user: ``client-certificate`` with ``client-key``, or ``token``. JSON, which is YAML."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "lab", "cluster": {"server": server, "certificate-authority": str(ca)}}],
        "users": [{"name": "user", "user": dict(user)}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "user"}}],
        "current-context": "lab",
    }
    path.touch(mode=0o600)
    path.write_text(json.dumps(document, indent=1))
    return path


def _subject(common_name: str, organization: str = "") -> x509.Name:
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization)] if organization else []
    return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    """What Python's strict verification asks for: a CA says that it signs certificates."""
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
