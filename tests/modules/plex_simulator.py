"""A Plex server and a plex.tv for module tests: real processes, real HTTP, real SQLite, real media files."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from sandbox import history, media, plextv
from sandbox.home import SECTIONS
from sandbox.plex.library import Library
from sandbox.plex.volumes import Volume

REPO = Path(__file__).resolve().parents[2]
ROOT = "/Media"
SIZES = media.Sizes(tracks=24, films=4, shows=1, episodes=3, photos=4)
SUPPORT = Path("Library/Application Support/Plex Media Server")


def free_port() -> int:
    """A port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def make_template(folder: Path) -> None:
    """Media in `folder`/bucket and a seeded pair in `folder`/config: what home knew, and what is in the bucket now."""
    bucket, config = folder / "bucket", folder / "config"
    catalogue = media.catalogue(SIZES)
    media.make(bucket, catalogue.old())
    databases = config / SUPPORT / "Plug-in Support/Databases"
    with Library(databases, [Volume(bucket, ROOT, True)], clock=history.Clock()) as library:
        for name, kind, agent, scanner in SECTIONS:
            library.scan(library.add_section(name, kind, agent, scanner, [f"{ROOT}/{name}"]))
        history.write(library, catalogue, config / SUPPORT, ROOT)
    media.move_on(bucket, catalogue)


@dataclass
class Simulator:
    """One Plex with its plex.tv. `folder` holds bucket, config and everything else."""

    folder: Path
    speed: float = 0.02
    environment: dict[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    plextv_port: int = field(default_factory=free_port)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def support(self) -> Path:
        return self.folder / "config" / SUPPORT

    @property
    def databases(self) -> Path:
        return self.support / "Plug-in Support/Databases"

    @property
    def preferences(self) -> Path:
        return self.support / "Preferences.xml"

    @property
    def bucket(self) -> Path:
        return self.folder / "bucket"

    @property
    def pid_file(self) -> Path:
        return self.support / "plexmediaserver.pid"

    @property
    def token_file(self) -> Path:
        return self.folder / "plextv" / "plex-account-token"

    @property
    def plextv_url(self) -> str:
        return f"http://127.0.0.1:{self.plextv_port}"

    @property
    def faults_file(self) -> Path:
        return self.folder / "faults.json"

    def faults(self, **values: Any) -> None:
        """Replace the faults of Plex, as PUT /_sandbox/faults does; works before the start too."""
        temporary = self.faults_file.with_suffix(".new")
        temporary.write_text(json.dumps(values), encoding="utf-8")
        temporary.replace(self.faults_file)
        with contextlib.suppress(requests.ConnectionError):
            requests.put(f"{self.url}/_sandbox/faults", json=values, timeout=10)

    def start_plextv(self) -> None:
        """plex.tv with an account token."""
        plextv.seed(self.folder / "plextv", "account-token-0123456789")
        self._start(["-m", "sandbox.plextv", "--dir", str(self.folder / "plextv"), "--port", str(self.plextv_port)], {})
        self._answers(self.plextv_url)

    def start(self) -> None:
        """Plex itself; returns when it listens, which is before it is ready."""
        arguments = ["-m", "sandbox.plex.server", "--config", str(self.folder / "config"), "--port", str(self.port)]
        self._start(
            [*arguments, "--bind", "127.0.0.1", "--volume", f"{self.bucket}:{ROOT}:ro"],
            {
                "PLEX_TV_URL": self.plextv_url,
                "PLEX_SIM_FAULTS": str(self.faults_file),
                "PLEX_SIM_SPEED": str(self.speed),
                **self.environment,
            },
        )
        self._answers(self.url)

    def ready(self, seconds: float = 30.0) -> None:
        """Wait until Plex serves requests."""
        end = time.monotonic() + seconds
        while requests.get(f"{self.url}/identity", timeout=10).status_code != 200:
            if time.monotonic() > end:
                raise AssertionError(f"Plex is not ready: {(self.folder / 'processes.log').read_text()[-2000:]}")
            time.sleep(0.05)

    def _start(self, arguments: list[str], variables: dict[str, str]) -> None:
        log = (self.folder / "processes.log").open("ab")
        with log:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=REPO,
                env={**os.environ, "PYTHONPATH": str(REPO), **variables},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.processes.append(process)

    def _answers(self, url: str, seconds: float = 20.0) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                requests.get(url, timeout=2)
            except requests.ConnectionError:
                time.sleep(0.05)
            else:
                return
        raise AssertionError(f"{url} did not answer: {(self.folder / 'processes.log').read_text()[-2000:]}")

    def stop(self) -> None:
        """End what was started, by its id."""
        for process in reversed(self.processes):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(timeout=5)
        self.processes.clear()

    def connection(self) -> dict[str, Any]:
        """The common options of the Plex modules."""
        return {"base_url": self.url, "preferences_file": str(self.preferences)}

    def place(self) -> dict[str, Any]:
        """The options about databases, paths and processes."""
        return {
            **self.connection(),
            "database_dir": str(self.databases),
            "path_map": [{"path": ROOT, "host": str(self.bucket)}],
            "scope": {"runtime": "process", "pid_file": str(self.pid_file)},
        }


@contextlib.contextmanager
def simulator(template: Path, folder: Path, **options: Any) -> Iterator[Simulator]:
    """A copy of the template, with plex.tv running and Plex not yet started."""
    shutil.copytree(template, folder, dirs_exist_ok=True)
    made = Simulator(folder, **options)
    made.start_plextv()
    try:
        yield made
    finally:
        made.stop()
