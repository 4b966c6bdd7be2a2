"""A machine that is a container: a Debian with systemd, sshd, real cloud-init and an address of its own (the e2e tier).

The engine that runs it is somebody else's (tests/e2e/engine.py); here it is only an argv prefix. cloud-init reads its
user data from a NoCloud seed, as it would from Scaleway's metadata, and does everything itself: host key, authorised
keys, the run's script.
"""

from __future__ import annotations

import io
import json
import socket
import subprocess
import tarfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

# Known to work as root in a VM without CAP_SYS_RESOURCE, where --privileged fails.
_FLAGS = (
    *("--cap-add", "SYS_ADMIN", "--cap-add", "NET_ADMIN", "--cap-add", "MKNOD", "--cap-add", "SYS_PTRACE"),
    *("--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined"),
    *("--device", "/dev/fuse", "--cgroupns=host", "--tmpfs", "/run", "--tmpfs", "/run/lock", "--tmpfs", "/tmp:exec"),  # noqa: S108 - inside
    # An engine inside needs a file system under its data that is not overlay itself.
    *("--volume", "/var/lib/docker", "--volume", "/sys/fs/cgroup:/sys/fs/cgroup:rw"),
    # What systemd takes as "power off".
    *("--stop-signal", "SIGRTMIN+3"),
)
_SEED = "var/lib/cloud/seed/nocloud"


class ContainerError(RuntimeError):
    """The engine refused, or something inside a machine failed; the message holds what was said."""


@dataclass(frozen=True, slots=True)
class Platform:
    """Where machines are made: the engine's command line, a network, an image, and what every machine is given.

    `files` maps absolute paths inside the machine to files outside; `mounts` maps paths inside to files outside that
    are shown there read-only (/proc/meminfo, so that a machine believes in its own size). `memory_mb` 0: no limit.
    """

    docker: tuple[str, ...]
    network: str
    image: str
    prefix: str = "plexburst-e2e"
    label: str = "plexburst.e2e"
    files: dict[str, str] = field(default_factory=dict)
    mounts: dict[str, str] = field(default_factory=dict)
    memory_mb: int = 0

    @classmethod
    def load(cls, path: Path) -> Platform:
        """Read what `write` wrote."""
        values = json.loads(path.read_text(encoding="utf-8"))
        return cls(**{**values, "docker": tuple(values["docker"])})

    def write(self, path: Path) -> None:
        """Keep it for another process."""
        path.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")

    def call(self, *arguments: str, data: bytes | None = None, timeout: float = 300) -> str:
        """Run the engine's client; its standard output. Raises ContainerError with what it said."""
        command = [*self.docker, *arguments]
        done = subprocess.run(command, input=data, capture_output=True, check=False, timeout=timeout)
        if done.returncode:
            said = (done.stderr + done.stdout).decode(errors="replace").strip()
            raise ContainerError(f"expected `docker {' '.join(arguments[:4])} …` to succeed, found: {said[-2000:]}")
        return done.stdout.decode(errors="replace")


@dataclass(frozen=True, slots=True)
class ContainerMachine:
    """One machine, known by its id. Making the object starts nothing."""

    platform: Platform
    machine_id: str
    address: str
    hostname: str = "machine"

    @property
    def name(self) -> str:
        """The container's name."""
        return f"{self.platform.prefix}-{self.machine_id}"

    @property
    def exists(self) -> bool:
        """Whether it has been made (its disk is there), running or not."""
        listed = self.platform.call("ps", "--all", "--quiet", "--filter", f"name=^{self.name}$")
        return bool(listed.strip())

    @property
    def is_running(self) -> bool:
        """Whether it is switched on."""
        return bool(self.platform.call("ps", "--quiet", "--filter", f"name=^{self.name}$").strip())

    def create(self, user_data: bytes = b"#cloud-config\n") -> None:
        """Make it with a disk of its own, switched off."""
        platform = self.platform
        size = ("--memory", f"{platform.memory_mb}m") if platform.memory_mb else ()
        shown = [part for inside, outside in platform.mounts.items() for part in ("--volume", f"{outside}:{inside}:ro")]
        platform.call(
            *("create", "--name", self.name, "--hostname", self.hostname, "--label", platform.label),
            *("--network", platform.network, "--ip", self.address),
            *_FLAGS,
            *size,
            *shown,
            platform.image,
        )
        metadata = f"instance-id: {self.machine_id}\nlocal-hostname: {self.hostname}\n".encode()
        seed = {f"{_SEED}/user-data": user_data, f"{_SEED}/meta-data": metadata}
        given = {inside.lstrip("/"): Path(outside).read_bytes() for inside, outside in platform.files.items()}
        self._unpack({**seed, **given})

    def start(self) -> None:
        """Switch it on; `ssh_answers` says when SSH does."""
        self.platform.call("start", self.name)
        # systemd shares its mounts with containers on a machine, but not when it is in a container itself.
        self.platform.call("exec", self.name, "mount", "--make-rshared", "/")

    def stop(self, patience: int = 20) -> None:
        """Shut it down; what does not end within `patience` seconds is killed."""
        self.platform.call("stop", "--time", str(patience), self.name, timeout=patience + 60)

    def remove(self) -> None:
        """Switch it off hard and delete its disk."""
        self.platform.call("rm", "--force", "--volumes", self.name)

    def ssh_answers(self, port: int = 22) -> bool:
        """Whether an SSH server greets there now."""
        try:
            with socket.create_connection((self.address, port), timeout=0.5) as connection:
                connection.settimeout(2)
                return connection.recv(4) == b"SSH-"
        except OSError:
            return False

    def wait_for_ssh(self, timeout: float = 240) -> None:
        """Wait until SSH answers; raises ContainerError with the machine's own words."""
        deadline = time.monotonic() + timeout
        while not self.ssh_answers():
            if time.monotonic() > deadline:
                said = self.run("systemctl --failed --no-pager; journalctl --no-pager -n 40", check=False)
                raise ContainerError(
                    f"expected SSH to answer at {self.address} in {timeout:g} s, found silence: {said}"
                )
            time.sleep(0.2)

    def run(self, script: str, *, user: str = "root", check: bool = True, timeout: float = 300) -> str:
        """Run a shell script inside, from outside of SSH; its output (both streams)."""
        command = [*self.platform.docker, "exec", "--user", user, "--interactive", self.name, "sh", "-s"]
        done = subprocess.run(
            command,
            input=script,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
            timeout=timeout,
        )
        if check and done.returncode:
            raise ContainerError(
                f"expected a script inside {self.name} to succeed, found code {done.returncode}: {done.stdout[-3000:]}"
            )
        return done.stdout

    def put(self, source: Path, destination: str, *, owner: str = "0:0") -> None:
        """Copy a file or a whole folder into it. `owner` is uid:gid of everything copied."""
        uid, gid = (int(part) for part in owner.split(":"))

        def owned(member: tarfile.TarInfo) -> tarfile.TarInfo:
            member.uid, member.gid, member.uname, member.gname = uid, gid, "", ""
            return member

        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            archive.add(source, arcname=destination.lstrip("/"), filter=owned)
        self.platform.call("cp", "-", f"{self.name}:/", data=packed.getvalue())

    def fetch(self, source: str) -> bytes:
        """The bytes of one file inside."""
        done = subprocess.run(
            [*self.platform.docker, "exec", self.name, "cat", source], capture_output=True, check=False, timeout=120
        )
        if done.returncode:
            raise ContainerError(f"expected {source} inside {self.name}, found: {done.stderr.decode(errors='replace')}")
        return done.stdout

    def cut(self) -> None:
        """Take its network cable out: packets are lost both ways, nobody is told, connections hang."""
        self._link("down")

    def mend(self) -> None:
        """Plug it in again."""
        self._link("up")

    def _link(self, state: str) -> None:
        """The outer end of its cable is an interface of ours; inside it is known by that one's number."""
        number = self.run("cat /sys/class/net/eth0/iflink").strip()
        for name in Path("/sys/class/net").iterdir():
            if (name / "ifindex").read_text(encoding="ascii").strip() == number:
                command = ["ip", "link", "set", name.name, state]
                subprocess.run(command, check=True, capture_output=True, timeout=30)
                return
        raise ContainerError(f"expected an interface number {number} on this machine for {self.name}, found none")

    def fingerprints(self) -> bytes:
        """What Scaleway's images publish at boot about their host keys: the lines of `ssh-keygen -l`."""
        script = 'for key in /etc/ssh/ssh_host_*_key.pub; do ssh-keygen -lf "$key"; done'
        return self.run(script).encode()

    def facts(self) -> dict[str, Any]:
        """What the engine knows about it (`docker inspect`)."""
        inspected: list[dict[str, Any]] = json.loads(self.platform.call("inspect", self.name))
        return inspected[0]

    def _unpack(self, files: dict[str, bytes]) -> None:
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            for path, content in files.items():
                member = tarfile.TarInfo(path)
                member.size, member.mode, member.mtime = len(content), 0o644, int(time.time())
                archive.addfile(member, io.BytesIO(content))
        self.platform.call("cp", "-", f"{self.name}:/", data=packed.getvalue())
