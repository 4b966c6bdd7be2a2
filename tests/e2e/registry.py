"""A registry of the tier's own: Debian's docker-registry behind TLS, its certificate authority made for this one run.

Machines trust it as a household trusts a private registry: `ca` is put at /etc/docker/certs.d/HOST:PORT/ca.crt.
"""

from __future__ import annotations

import datetime
import ipaddress
import json
import shutil
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

PORT = 5000
_START_SECONDS = 15.0
_MANIFESTS = ", ".join(
    (
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.oci.image.index.v1+json",
    )
)


class RegistryError(RuntimeError):
    """The registry could not be started, or said something else than was asked."""


class Engine(Protocol):
    """What is needed of the tier's engine: the host's address on the machines' bridge, the folder kept between runs."""

    @property
    def gateway(self) -> str: ...

    @property
    def cache(self) -> Path: ...


@dataclass(slots=True)
class Registry:
    """A running registry."""

    address: str
    """HOST:PORT, the first part of an image's name."""

    ca: Path
    """Certificate of the authority that signed the registry's."""

    log: Path
    process: subprocess.Popen[bytes] = field(repr=False)

    @property
    def pid(self) -> int:
        """Its process."""
        return self.process.pid

    def stop(self) -> None:
        """End it; its folder stays with whoever made it."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def digest(self, repository: str, tag: str) -> str:
        """``sha256:…`` of a tag. Raises RegistryError."""
        return digest(self.address, self.ca, repository, tag)

    def _context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.ca))

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"https://{self.address}/v2/", timeout=2, context=self._context()):
                return True
        except OSError:
            return False


def start(engine: Engine, folder: Path, port: int = PORT) -> Registry:
    """Start a registry; it answers when this returns. Raises RegistryError.

    Its own files are in ``folder``; the layers are in the engine's cache, so that a second run pushes nothing again.
    """
    program = shutil.which("docker-registry")
    if program is None:
        raise RegistryError("Expected docker-registry on this machine; install Debian's package docker-registry.")
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    _make_certificates(folder, engine.gateway)
    address = f"{engine.gateway}:{port}"
    config = {
        "version": "0.1",
        "log": {"level": "info", "accesslog": {"disabled": False}},
        "storage": {
            "filesystem": {"rootdirectory": str(engine.cache / "registry")},
            "cache": {"blobdescriptor": "inmemory"},
        },
        "http": {
            "addr": address,
            "tls": {"certificate": str(folder / "registry.crt"), "key": str(folder / "registry.key")},
        },
    }
    # JSON is YAML, which is what the registry reads.
    (folder / "config.yml").write_text(json.dumps(config, indent=2), encoding="utf-8")
    log = folder / "registry.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [program, "serve", str(folder / "config.yml")],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    registry = Registry(address, folder / "ca.crt", log, process)
    deadline = time.monotonic() + _START_SECONDS
    while not registry._answers():
        if process.poll() is not None or time.monotonic() > deadline:
            registry.stop()
            said = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-10:])
            raise RegistryError(
                f"Expected the registry to answer at https://{address}, found silence. Its log:\n{said}"
            )
        time.sleep(0.05)
    return registry


def digest(address: str, ca: Path, repository: str, tag: str) -> str:
    """``sha256:…`` of a tag, by the question that a client asks before it pulls. Raises RegistryError."""
    url = f"https://{address}/v2/{repository}/manifests/{tag}"
    request = urllib.request.Request(url, method="HEAD", headers={"Accept": _MANIFESTS})
    context = ssl.create_default_context(cafile=str(ca))
    try:
        with urllib.request.urlopen(request, timeout=10, context=context) as answer:  # noqa: S310
            return str(answer.headers["Docker-Content-Digest"])
    except urllib.error.HTTPError as error:
        raise RegistryError(f"{address} answered {error.code} for {repository}:{tag}") from error


def _make_certificates(folder: Path, address: str) -> None:
    """ca.crt, registry.crt and registry.key, good for this run only: the authority's key is never written."""
    authority = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "plexburst e2e")])
    ca = _certificate(name, name, authority.public_key()).add_extension(
        x509.BasicConstraints(ca=True, path_length=0), critical=True
    )
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, address)])
    server = _certificate(subject, name, key.public_key()).add_extension(
        x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), critical=False
    )
    for file, builder in (("ca.crt", ca), ("registry.crt", server)):
        signed = builder.sign(authority, hashes.SHA256())
        (folder / file).write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "registry.key").touch(mode=0o600)
    (folder / "registry.key").write_bytes(pem)


def _certificate(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        # An hour back: a machine whose clock runs behind must not refuse it.
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=2))
    )
