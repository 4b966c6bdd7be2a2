"""The machines behind the servers: started, ended and looked after without holding up the API."""

from __future__ import annotations

import shutil
import subprocess
import threading
from pathlib import Path

from sandbox.machines import Machine
from sandbox.scaleway.settings import Settings, write_private


class Hosts:
    """One SSH server process per running server, in FOLDER/machines/<server id>/."""

    def __init__(self, directory: Path, settings: Settings) -> None:
        self._directory = directory
        self._settings = settings
        self._running: dict[str, subprocess.Popen[bytes] | None] = {}
        self._stopping: dict[str, threading.Thread] = {}

    def _machine(self, server_id: str, address: str = "127.0.0.1") -> Machine:
        folder = self._directory / "machines" / server_id
        return Machine(
            folder=folder,
            machine_id=server_id,
            address=address,
            port=self._settings.ssh_port,
            user_data=folder / "etc" / "user-data",
            faults=self._directory / "faults" / "machine.json",
            boot_seconds=self._settings.delay("boot"),
            cloud_init_seconds=self._settings.delay("cloud_init"),
        )

    def start(self, server_id: str, address: str, user_data: bytes) -> None:
        """Switch a machine on; does nothing if it runs."""
        machine = self._machine(server_id, address)
        machine.user_data.parent.mkdir(parents=True, exist_ok=True)  # type: ignore[union-attr]  # set just above
        write_private(machine.folder / "etc" / "user-data", user_data.decode("utf-8", errors="replace"))
        self._running[server_id] = machine.start()

    def stop(self, server_id: str) -> None:
        """Switch a machine off in the background; `is_down` says when it is."""
        if server_id not in self._stopping:
            thread = threading.Thread(target=self._stop, args=(server_id,), name=f"stop {server_id}")
            self._stopping[server_id] = thread
            thread.start()

    def is_down(self, server_id: str) -> bool:
        """Whether the last `stop` is through; forgets it then."""
        thread = self._stopping.get(server_id)
        if thread is not None:
            if thread.is_alive():
                return False
            del self._stopping[server_id]
        return True

    def is_ready(self, server_id: str) -> bool:
        """Whether SSH answers there."""
        return self._machine(server_id).is_ready

    def fingerprints(self, server_id: str) -> bytes | None:
        """What the image has published about its host keys, once it has booted."""
        path = self._directory / "machines" / server_id / "log" / "ssh-host-fingerprints"
        return path.read_bytes() if path.is_file() else None

    def forget(self, server_id: str) -> None:
        """The disk of a deleted server: everything but the logs goes."""
        folder = self._directory / "machines" / server_id
        for name in ("home", "bin", "etc"):
            if (folder / name).is_dir():
                shutil.rmtree(folder / name)

    def reap(self) -> None:
        """Collect machines that have ended, so that they do not stay zombies."""
        for process in list(self._running.values()):
            if process is not None:
                process.poll()

    def stop_all(self) -> None:
        """The simulator ends: so does everything it started. The servers go on existing (and costing)."""
        for server_id in list(self._running):
            self.stop(server_id)
        for thread in list(self._stopping.values()):
            thread.join()

    def _stop(self, server_id: str) -> None:
        self._machine(server_id).stop()
        process = self._running.pop(server_id, None)
        if process is not None:
            process.wait()
