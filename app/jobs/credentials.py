"""The certificate by which the machines of a cluster know each other.

Whoever reaches a scheduler or a worker runs code there, so both sides of every connection show it:
one that was signed by `ca.pem`, whatever name it bears. All machines may share one.
"""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from app.settings import Settings

DAYS = 3650
KEY_MODE = 0o600


class Credentials(NamedTuple):
    """Paths of PEM files."""

    ca: Path
    cert: Path
    key: Path


def files_in(folder: Path) -> Credentials:
    return Credentials(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")


def credentials_of(settings: Settings) -> Credentials | None:
    """Those that every connection of the cluster needs, None if it needs none.

    Raises FileNotFoundError if one of the files is not there.
    """
    if not settings.tls_dir:
        return None
    files = files_in(Path(settings.tls_dir).resolve())
    for file in files:
        file.stat()
    return files


def make_credentials(folder: Path) -> datetime:
    """Makes the three files, and tells when they expire. Raises FileExistsError if one is there.

    The key that signs is thrown away: nobody can add a certificate later, only make all anew.
    """
    files = files_in(folder)
    folder.mkdir(parents=True, exist_ok=True)
    authority, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    expires = datetime.now(UTC) + timedelta(days=DAYS)
    ca = signed("Backsolve cluster authority", authority, authority, expires, signs=True)
    cert = signed("Backsolve cluster", key, authority, expires, signs=False)
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    # Nobody else can read it, not even for a moment.
    handle = os.open(files.key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, KEY_MODE)
    with os.fdopen(handle, "wb") as file:
        file.write(secret)
    for path, certificate in ((files.ca, ca), (files.cert, cert)):
        with path.open("xb") as file:
            file.write(certificate.public_bytes(serialization.Encoding.PEM))
    return expires


def signed(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    authority: ec.EllipticCurvePrivateKey,
    expires: datetime,
    *,
    signs: bool,
) -> x509.Certificate:
    """A certificate of `key` by `authority`, which may sign others if it is the authority's own."""
    names = [
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
        for text in (name, "Backsolve cluster authority")
    ]
    return (
        x509.CertificateBuilder()
        .subject_name(names[0])
        .issuer_name(names[1])
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # Clocks of machines differ.
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(expires)
        .add_extension(
            x509.BasicConstraints(ca=signs, path_length=0 if signs else None), critical=True
        )
        .sign(authority, hashes.SHA256())
    )
