"""The machine that `make e2e` runs on: what it must have, and what it knows about package sources.

Nothing here is a constant of one machine: package sources, proxies and certificates are asked of apt and pip.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PACKAGES = (
    *("containerd", "runc", "docker.io", "debootstrap", "docker-registry", "fuse3"),
    *("iproute2", "iptables", "openssh-client", "openssl", "procps"),
)
_POLICY = Path("/usr/sbin/policy-rc.d")
# Of apt's configuration only what says how to reach a source; folders and formats are each machine's own.
_ACQUIRE = ("acquire::http", "acquire::https", "acquire::retries", "acquire::check-", "acquire::forceipv")


class E2EError(RuntimeError):
    """Something the tier needs is not there or failed; the message says what to do."""


def run(*command: str, timeout: float = 600, env: dict[str, str] | None = None, data: bytes | None = None) -> str:
    """Run a command; its standard output. Raises E2EError with what it said."""
    done = subprocess.run(
        list(command),
        input=data,
        stdin=subprocess.DEVNULL if data is None else None,
        capture_output=True,
        check=False,
        timeout=timeout,
        env=env,
    )
    if done.returncode:
        said = (done.stderr + done.stdout).decode(errors="replace").strip()[-3000:]
        raise E2EError(f"expected `{' '.join(command[:6])}` to succeed, found code {done.returncode}: {said}")
    return done.stdout.decode(errors="replace")


def release() -> str:
    """Code name of the Debian this runs on. Raises E2EError on anything else, or without root."""
    values = dict(
        line.split("=", 1) for line in Path("/etc/os-release").read_text(encoding="utf-8").splitlines() if "=" in line
    )
    if values.get("ID", "").strip('"') != "debian" or os.geteuid() != 0:
        raise E2EError(
            f"expected root on Debian, found user {os.geteuid()} on {values.get('PRETTY_NAME', 'an unknown system')}; "
            "run `sudo make e2e` on Debian, or in a virtual machine"
        )
    return values["VERSION_CODENAME"].strip('"')


def install() -> list[str]:
    """Install what is missing from the machine's own sources, without starting any service; the names installed."""
    missing = [name for name in PACKAGES if not _is_installed(name)]
    if missing:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        run("apt-get", "update", "--quiet", env=environment)
        with _no_services():
            run("apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *missing, env=environment)
    return missing


def docker_client() -> str:
    """Path of the client that came with the engine's package: another one in PATH may refuse an engine of this age."""
    listed = subprocess.run(["dpkg", "-L", "docker.io", "docker-cli"], capture_output=True, text=True, check=False)
    for line in listed.stdout.splitlines():
        if line.endswith("/bin/docker") and os.access(line, os.X_OK):
            return line
    found = shutil.which("docker")
    if found is None:
        raise E2EError("expected a docker client beside docker.io, found none; install the package docker-cli")
    return found


def sources() -> list[str]:
    """The machine's Debian sources, as lines of a sources.list: exactly what apt itself would use here."""
    fields = "$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(ORIGIN)"
    listed = run("apt-get", "indextargets", "--format", fields, "Created-By: Packages")
    found: dict[tuple[str, str], list[str]] = {}
    for line in sorted(set(listed.splitlines())):
        uri, suite, component, origin = line.split("|")
        if origin == "Debian":
            found.setdefault((uri, suite), []).append(component)
    if not found:
        raise E2EError("expected Debian's package lists on this machine, found none; run `apt-get update`")
    return [f"deb {uri} {suite} {' '.join(components)}" for (uri, suite), components in sorted(found.items())]


def mirror(suite: str) -> str:
    """Where this machine gets Debian's `suite` itself from."""
    for line in sources():
        _, uri, name, *_ = line.split()
        if name == suite:
            return uri
    raise E2EError(f"expected a source of Debian {suite} in this machine's apt configuration, found {sources()}")


def acquire() -> list[str]:
    """The lines of apt's configuration that say how to reach a source (proxies, certificates, retries)."""
    dumped = run("apt-config", "dump", "--format", '%f "%v";%n').splitlines()
    return [line for line in dumped if line.lower().startswith(_ACQUIRE) and not line.endswith('"";')]


def certificates() -> bytes:
    """The certificates this machine trusts."""
    return Path(os.environ.get("SSL_CERT_FILE") or "/etc/ssl/certs/ca-certificates.crt").read_bytes()


def wheels(requirements: list[str], folder: Path) -> None:
    """Download wheels with this machine's own pip configuration into `folder`; what is there already is kept."""
    stamp, wanted = folder / "requirements.txt", "\n".join(requirements) + "\n"
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    run(sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:", "--dest", str(folder), *requirements)
    stamp.write_text(wanted, encoding="utf-8")


def versions() -> list[str]:
    """Name and version of each real part, one a line, as its own program says them."""
    asked = {
        "Docker Engine": ("dockerd", "--version"),
        "containerd": ("containerd", "--version"),
        "runc": ("runc", "--version"),
        "debootstrap": ("debootstrap", "--version"),
        "registry": ("docker-registry", "--version"),
        "S3 server (rclone)": (str(Path(sys.executable).with_name("rclone")), "version"),
        "OpenSSH": ("ssh", "-V"),
        "Ansible": (str(Path(sys.executable).with_name("ansible-playbook")), "--version"),
        "FUSE": ("fusermount3", "--version"),
        "kernel": ("uname", "-r"),
    }
    lines = []
    for name, command in asked.items():
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        lines.append(f"{name}: {(done.stdout.strip().splitlines() or ['unknown'])[0]}")
    return lines


def _is_installed(name: str) -> bool:
    done = subprocess.run(
        ["dpkg-query", "--show", "--showformat=${db:Status-Status}", name], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() == "installed"


@contextmanager
def _no_services() -> Iterator[None]:
    """What Debian's maintainer scripts ask before they start a service: for this moment, no."""
    if _POLICY.exists():
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n", encoding="utf-8")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink()
