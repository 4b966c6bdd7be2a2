"""The process that is the sandbox: it starts every part, holds the block of addresses, ends every part when told to.

`python -m sandbox.supervisor DIR`, started by `sandbox.control`. SIGTERM ends it; SIGUSR1 asks it to start home's
Plex if that does not run.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from dataclasses import asdict
from pathlib import Path
from typing import Any

import asyncssh

from sandbox import addresses, home, media, processes, s3
from sandbox.addresses import SSH_PORT
from sandbox.files import tail, write, write_json, write_secret
from sandbox.layout import FAULT_NAMES, Layout
from sandbox.machines import Machine
from sandbox.options import Options
from sandbox.scaleway import settings as scaleway

REPO = Path(__file__).resolve().parent.parent
ZONE = "fr-par-1"
_START_SECONDS = 20.0
_PROGRAMS = {
    "Plex Media Server": "server",
    "Plex Media Scanner": "scanner",
    "Plex Transcoder": "transcoder",
    "Plex Music Analyzer": "analyzer",
    "Plex SQLite": "sqlite",
    "restart-on-failure": "restarting",
}


class StartError(RuntimeError):
    """A part of the sandbox did not start."""


class Supervisor:
    """Starts and ends the parts of one sandbox."""

    def __init__(self, directory: Path) -> None:
        self.layout = Layout(directory)
        self.options = Options.load(self.layout.options)
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._machine: Machine | None = None
        self._wake = threading.Event()
        self._stop = False
        self._revive = False

    def run(self) -> None:
        """Start everything, say so, and wait for SIGTERM. Whatever happens, nothing is left running."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            signal.signal(number, self._signalled)
        try:
            self._start()
            while not self._stop:
                self._wake.wait(1.0)
                self._wake.clear()
                self._look_after()
        finally:
            self._end()

    def _signalled(self, number: int, _frame: object) -> None:
        if number == signal.SIGUSR1:
            self._revive = True
        else:
            self._stop = True
        self._wake.set()

    def _start(self) -> None:
        layout = self.layout
        write(layout.supervisor_pid, f"{os.getpid()}\n")
        for folder in (layout.log, layout.faults, layout.machines):
            folder.mkdir(exist_ok=True)
        for name in FAULT_NAMES:
            if not (layout.faults / f"{name}.json").exists():
                write_json(layout.faults / f"{name}.json", {})
        self.block, self._block_lock = addresses.claim(self._known_block())
        self._write_programs()
        self._write_keys()
        cloud = scaleway.load(layout.dir, block=self.block.prefix, ssh_port=SSH_PORT)
        keys = s3.read_keys(layout.rclone_config) or s3.Keys.new()
        self.urls = {
            "scaleway": f"http://127.0.0.1:{self.block.scaleway_port}",
            "plextv": f"http://127.0.0.1:{self.block.plextv_port}",
            "s3": f"http://127.0.0.1:{self.block.s3_port}",
        }
        (layout.s3 / s3.BUCKET).mkdir(parents=True, exist_ok=True)
        s3.write_config(layout.rclone_config, self.urls["s3"], keys)
        self._write_cloud_config(cloud)
        self._children["scaleway"] = self._module("scaleway", self.block.scaleway_port)
        self._children["s3"] = s3.start(layout.s3, "127.0.0.1", self.block.s3_port, keys, layout.log / "s3.log")
        self._start_machine()
        if not layout.seeded.is_file():
            self._remove_half_made()
            catalogue = media.catalogue(self.options.sizes)
            media.make(layout.s3 / s3.BUCKET, catalogue.old())
            home.seed(layout, catalogue)
            home.register(layout)
            media.move_on(layout.s3 / s3.BUCKET, catalogue)
            write_json(layout.seeded, {"sizes": asdict(self.options.sizes)})
        self._children["plextv"] = self._module("plextv", self.block.plextv_port)
        for name in ("scaleway", "plextv"):
            self._wait_for(name)
        self._start_plex()
        layout.write_state(self._state(cloud))
        write(layout.ready, str(os.getpid()))
        print(f"supervisor: up on block {self.block.prefix}", flush=True)

    def _remove_half_made(self) -> None:
        """What an interrupted first `up` left: a home that is half there would be taken for a whole one."""
        for folder in (self.layout.s3 / s3.BUCKET, home.config_dir(self.layout)):
            if folder.is_dir():
                shutil.rmtree(folder)
            folder.mkdir(parents=True)
        (self.layout.dir / "plextv-state.json").unlink(missing_ok=True)

    def _known_block(self) -> int | None:
        """The block of the last `up`."""
        if not self.layout.state.is_file():
            return None
        return int(str(json.loads(self.layout.state.read_text(encoding="utf-8"))["block"]).partition(".")[2])

    def _module(self, name: str, port: int) -> subprocess.Popen[bytes]:
        """Start a simulator that is a module of this package."""
        with (self.layout.log / f"{name}.log").open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "-P", "-m", f"sandbox.{name}", "--dir", str(self.layout.dir), "--port", str(port)],
                cwd=self.layout.dir,
                env={
                    "PATH": os.environ["PATH"],
                    "HOME": str(self.layout.dir),
                    "LANG": "C.UTF-8",
                    "PYTHONPATH": str(REPO),
                    "PYTHONUNBUFFERED": "1",
                },
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def _wait_for(self, name: str) -> None:
        """Wait until a simulator answers. Raises StartError with the end of its log."""
        log = self.layout.log / f"{name}.log"
        deadline = time.monotonic() + _START_SECONDS
        while not _pings(f"{self.urls[name]}/_sandbox/ping"):
            code = self._children[name].poll()
            if code is not None:
                raise StartError(
                    f"expected {name} to run, found it ended with code {code}; the end of {log}:\n{tail(log)}"
                )
            if time.monotonic() > deadline:
                raise StartError(f"expected {name} to answer at {self.urls[name]}, found silence; {log}:\n{tail(log)}")
            time.sleep(0.03)

    def _start_machine(self) -> None:
        layout = self.layout
        self._machine = Machine(
            layout.machines / home.MACHINE,
            home.MACHINE,
            self.block.home,
            port=SSH_PORT,
            host_key=layout.ssh / "host_home",
            authorized_keys=layout.ssh / "id_home.pub",
        )
        started = self._machine.start()
        if started is None:
            raise StartError(f"expected home's machine not to run, found it with process id {self._machine.pid}")
        self._children["home"] = started
        log, deadline = layout.machines / home.MACHINE / "log" / "machine.log", time.monotonic() + _START_SECONDS
        while not self._machine.is_ready:
            if started.poll() is not None or time.monotonic() > deadline:
                raise StartError(f"expected home's machine to open SSH, found that it did not; {log}:\n{tail(log)}")
            time.sleep(0.02)

    def _start_plex(self) -> None:
        if home.is_running(self.layout):
            return
        process = home.start(self.layout, self.block, self._plex_environment("home"))
        self._children["home-plex"] = process
        log, deadline = home.plex_log(self.layout), time.monotonic() + _START_SECONDS
        while not (home.is_running(self.layout) and _pings(f"{self._plex_url()}/identity")):
            if process.poll() is not None:
                raise StartError(
                    f"expected home's Plex to run, found it ended with code {process.returncode}; "
                    f"the end of {log}:\n{tail(log)}"
                )
            if time.monotonic() > deadline:
                raise StartError(
                    f"expected home's Plex to answer at {self._plex_url()}, found silence; {log}:\n{tail(log)}"
                )
            time.sleep(0.03)

    def _plex_url(self) -> str:
        return f"http://127.0.0.1:{self.block.home_plex_port}"

    def _plex_environment(self, role: str) -> dict[str, str]:
        return home.environment(self.layout, self.urls["plextv"], self.options.speed, role)

    def _write_programs(self) -> None:
        """Executables with the names that the real package installs."""
        for name, module in _PROGRAMS.items():
            # -P: a folder named `sandbox` in the caller's working directory must not be found first.
            text = f"#!/bin/sh\nPYTHONPATH='{REPO}' exec '{sys.executable}' -P -m sandbox.plex.{module} \"$@\"\n"
            write(self.layout.programs / name, text, 0o755)

    def _write_keys(self) -> None:
        """Home's host key, the key its user logs in with, and known_hosts for home's present address."""
        ssh = self.layout.ssh
        ssh.mkdir(mode=0o700, exist_ok=True)
        for name in ("host_home", "id_home"):
            if not (ssh / name).is_file():
                key = asyncssh.generate_private_key("ssh-ed25519", comment=f"sandbox {name}")
                write_secret(ssh / name, key.export_private_key().decode())
                write(ssh / f"{name}.pub", key.export_public_key().decode())
        public = (ssh / "host_home.pub").read_text(encoding="utf-8").split()
        write(ssh / "known_hosts", f"[{self.block.home}]:{SSH_PORT} {public[0]} {public[1]}\n")

    def _write_cloud_config(self, cloud: scaleway.Settings) -> None:
        """The Scaleway SDK's configuration file; JSON strings are YAML strings."""
        values = {
            "access_key": cloud.access_key,
            "secret_key": cloud.secret_key,
            "api_url": self.urls["scaleway"],
            "default_organization_id": cloud.organization_id,
            "default_project_id": cloud.project_id,
            "default_region": ZONE.rpartition("-")[0],
            "default_zone": ZONE,
        }
        text = "".join(f"{name}: {json.dumps(value)}\n" for name, value in values.items())
        write_secret(self.layout.scaleway_config, text)

    def _state(self, cloud: scaleway.Settings) -> dict[str, Any]:
        layout = self.layout
        plex = home.running_pid(layout)
        return {
            "dir": str(layout.dir),
            "repo": str(REPO),
            "python": sys.executable,
            "block": self.block.prefix,
            "scaleway": {
                "url": self.urls["scaleway"],
                "config_file": str(layout.scaleway_config),
                "access_key": cloud.access_key,
                "secret_key": cloud.secret_key,
                "project_id": cloud.project_id,
                "organization_id": cloud.organization_id,
                "zone": ZONE,
            },
            "plextv": {"url": self.urls["plextv"], "token_file": str(layout.account_token)},
            "s3": {
                "endpoint": self.urls["s3"],
                "rclone_config": str(layout.rclone_config),
                "remote": s3.REMOTE,
                "bucket": s3.BUCKET,
            },
            "home": home.describe(layout, self.block, self._plex_environment("home")),
            "indexer": {
                "ssh_port": SSH_PORT,
                "plex_port": self.block.indexer_plex_port,
                "plex_command": [str(layout.programs / "Plex Media Server")],
                "plex_supervised": [
                    str(layout.programs / "restart-on-failure"),
                    str(layout.programs / "Plex Media Server"),
                ],
                "plex_sqlite": [str(layout.programs / "Plex SQLite")],
                "environment": self._plex_environment("indexer"),
            },
            "pids": {
                "supervisor": os.getpid(),
                **{name: process.pid for name, process in self._children.items()},
                **({"home-plex": plex} if plex is not None else {}),
            },
        }

    def _look_after(self) -> None:
        """Collect ended children; start home's Plex again when asked to."""
        for process in self._children.values():
            process.poll()
        if self._revive and not self._stop:
            self._revive = False
            try:
                self._start_plex()
            except StartError as error:
                # Whoever asked waits for an answer from Plex and reports its log; the other parts go on.
                print(f"supervisor: {error}", flush=True)

    def _end(self) -> None:
        self.layout.ready.unlink(missing_ok=True)
        home.stop(self.layout)
        if self._machine is not None:
            self._machine.stop()
        processes.end([child.pid for child in self._children.values() if child.poll() is None], patience=15.0)
        processes.end(set(processes.of_sandbox(self.layout.dir)) - _ancestors(), patience=5.0)
        self.layout.supervisor_pid.unlink(missing_ok=True)


def _ancestors() -> set[int]:
    return {os.getpid(), os.getppid()}


def _pings(url: str) -> bool:
    """Whether an HTTP server answers there, with whatever status."""
    try:
        with urllib.request.urlopen(url, timeout=5):  # noqa: S310 - loopback
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


def main() -> int:
    """Run until SIGTERM; 1 if a part did not start (the reason is in the log)."""
    try:
        Supervisor(Path(sys.argv[1])).run()
    except (StartError, addresses.BlockError, s3.S3Error) as error:
        print(f"supervisor: {error}", flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
