"""The machines behind the servers when they are containers (the e2e tier): the same duties as `hosts.Hosts`."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import yaml

from sandbox.faults import Faults
from sandbox.machines.container import ContainerError, ContainerMachine, Platform

PLATFORM = "platform.json"
"""In the simulator's folder; where it is, machines are containers."""


class ContainerHosts:
    """One container per server. Whatever takes time happens in a thread of its own, so that the API goes on."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._platform = Platform.load(directory / PLATFORM)
        self._faults = Faults(directory / "faults" / "machine.json")
        self._machines: dict[str, ContainerMachine] = {}
        self._ready: set[str] = set()
        self._fingerprints: dict[str, bytes] = {}
        self._stopping: dict[str, threading.Thread] = {}
        self._starting: dict[str, threading.Thread] = {}

    def start(self, server_id: str, address: str, user_data: bytes) -> None:
        """Switch a machine on; does nothing if it runs or is about to."""
        if (before := self._starting.get(server_id)) is not None and before.is_alive():
            return
        machine = ContainerMachine(self._platform, server_id, address, hostname=f"instance-{server_id[:8]}")
        self._machines[server_id] = machine
        thread = threading.Thread(
            target=self._start, args=(server_id, machine, user_data), name=f"start {server_id}", daemon=True
        )
        self._starting[server_id] = thread
        thread.start()

    def stop(self, server_id: str) -> None:
        """Switch a machine off in the background; `is_down` says when it is."""
        if server_id not in self._stopping:
            self._ready.discard(server_id)
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
        """Whether SSH has answered there since it was switched on."""
        return server_id in self._ready

    def fingerprints(self, server_id: str) -> bytes | None:
        """What the image has published about its host keys, once it has booted."""
        return self._fingerprints.get(server_id)

    def forget(self, server_id: str) -> None:
        """The disk of a deleted server."""
        machine = self._machines.pop(server_id, None)
        if machine is not None and machine.exists:
            machine.remove()

    def reap(self) -> None:
        """Nothing to collect: the engine does."""

    def stop_all(self) -> None:
        """The simulator ends: its machines are removed with it, as nobody could find them any more."""
        for server_id in list(self._machines):
            self.forget(server_id)

    def _start(self, server_id: str, machine: ContainerMachine, user_data: bytes) -> None:
        try:
            if not machine.exists:
                machine.create(self._without_keys(user_data) if self._faults.get("wrong_host_key") else user_data)
            if not machine.is_running:
                machine.start()
            machine.wait_for_ssh()
            self._fingerprints[server_id] = machine.fingerprints()
            self._ready.add(server_id)
        except (ContainerError, subprocess.TimeoutExpired) as error:
            # As with a real machine that does not come up: the API says "running", and nobody answers.
            print(f"scaleway: the machine of {server_id} did not start: {error}", file=sys.stderr, flush=True)

    def _stop(self, server_id: str) -> None:
        if (starting := self._starting.get(server_id)) is not None:
            starting.join()
        machine = self._machines.get(server_id)
        if machine is not None and machine.exists:
            machine.stop()

    @staticmethod
    def _without_keys(user_data: bytes) -> bytes:
        """Fault `wrong_host_key`: another machine answers there, which never got the run's host key."""
        values = yaml.safe_load(user_data)
        values.pop("ssh_keys", None)
        return b"#cloud-config\n" + yaml.safe_dump(values).encode()
