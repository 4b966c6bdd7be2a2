"""Simulated machines: an SSH server of its own on loopback, with a folder and a process group of its own.

`python -m sandbox.machines --dir FOLDER --address 127.77.1.1 --port 2222 --id ID …` runs one machine in the foreground.
`Machine` starts and ends one from Python: the Scaleway simulator for instances, the sandbox's supervisor for home.

    FOLDER/home/      HOME and working directory of every command; .cloud-init-done when the first boot is through
    FOLDER/bin/       first in PATH: rclone, a stub of cloud-init
    FOLDER/log/       cloud-init.json (what cloud-init was told), ssh-host-fingerprints, machine.log
    FOLDER/etc/       host key made by the machine itself when cloud-init brought none
    FOLDER/machine.pid, machine.ready (written when sshd listens)

SFTP is not chrooted: a machine is a place to run things, not a jail.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from sandbox import processes

REPO = Path(__file__).resolve().parent.parent.parent
STANDARD_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine, known by its folder. Making the object starts nothing.

    `user_data` is a file of cloud-init user data (instances); `host_key` and `authorized_keys` are files (home, which
    no cloud-init ever set up). `boot_seconds` pass before sshd listens, `cloud_init_seconds` more until cloud-init is
    done.
    """

    folder: Path
    machine_id: str
    address: str
    port: int = 2222
    user_data: Path | None = None
    host_key: Path | None = None
    authorized_keys: Path | None = None
    faults: Path | None = None
    boot_seconds: float = 0.0
    cloud_init_seconds: float = 0.0

    @property
    def pid(self) -> int | None:
        """Process id of the running machine, or None."""
        try:
            pid = int((self.folder / "machine.pid").read_text(encoding="ascii"))
        except (FileNotFoundError, ValueError):
            return None
        # In the instant of its exec a process has no command line yet; a number given to another has another's.
        command = processes.command(pid)
        return pid if str(self.folder) in command or (command in ([], [""]) and processes.is_alive(pid)) else None

    @property
    def is_ready(self) -> bool:
        """Whether its SSH server listens."""
        return (self.folder / "machine.ready").is_file() and self.pid is not None

    def command(self) -> list[str]:
        """The command line that runs this machine in the foreground."""
        arguments = [sys.executable, "-P", "-m", "sandbox.machines", "--dir", str(self.folder), "--id", self.machine_id]
        arguments += ["--address", self.address, "--port", str(self.port)]
        arguments += ["--boot-seconds", str(self.boot_seconds), "--cloud-init-seconds", str(self.cloud_init_seconds)]
        for option, path in (
            ("--user-data", self.user_data),
            ("--host-key", self.host_key),
            ("--authorized-keys", self.authorized_keys),
            ("--faults", self.faults),
        ):
            if path is not None:
                arguments += [option, str(path)]
        return arguments

    def environment(self) -> dict[str, str]:
        """What the machine's own process gets: nothing of the user's environment. HOME marks whose sandbox it is."""
        return {"PATH": os.environ.get("PATH", STANDARD_PATH), "PYTHONPATH": str(REPO), "HOME": str(self.folder)}

    def start(self) -> subprocess.Popen[bytes] | None:
        """Start it unless it runs already; returns at once, `is_ready` says when SSH answers."""
        if self.pid is not None:
            return None
        for name in ("home", "bin", "log", "etc"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "machine.ready").unlink(missing_ok=True)
        with (self.folder / "log" / "machine.log").open("ab") as log:
            process = subprocess.Popen(
                self.command(),
                cwd=self.folder,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        (self.folder / "machine.pid").write_text(f"{process.pid}\n", encoding="ascii")
        return process

    def wait_ready(self, timeout: float = 10.0) -> None:
        """Wait until SSH answers; raises TimeoutError with the end of the machine's log."""
        deadline = time.monotonic() + timeout
        while not self.is_ready:
            if time.monotonic() > deadline or self.pid is None:
                log = (self.folder / "log" / "machine.log").read_text(encoding="utf-8", errors="replace")
                raise TimeoutError(f"The machine in {self.folder} did not open SSH in {timeout:g} s: {log[-2000:]}")
            time.sleep(0.02)

    def stop(self, patience: float = 15.0) -> None:
        """Shut down: the machine ends everything that runs on it, then itself."""
        pid = self.pid
        if pid is not None:
            processes.end([pid], patience=patience)
        # What a killed machine left behind, if anything.
        processes.end(processes.of_sandbox(self.folder), patience=2.0)
        (self.folder / "machine.ready").unlink(missing_ok=True)
        (self.folder / "machine.pid").unlink(missing_ok=True)
