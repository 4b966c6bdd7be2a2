"""A `Plex Media Server` process of the simulator for tests and benchmarks: start it, talk to it, end it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from xml.etree import ElementTree as ET

from sandbox.plex.children import DATABASES_ENV, FAULTS_ENV, JOB_ENV, SPEED_ENV
from sandbox.plex.preferences import Preferences
from sandbox.plex.runtime import SUPPORT
from sandbox.plex.server import STARTUP_ENV
from sandbox.plex.volumes import Volume

_REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said."""

    status: int
    content_type: str
    text: str

    @property
    def xml(self) -> ET.Element:
        """The body as an element."""
        return ET.fromstring(self.text)  # noqa: S314 - the simulator's own answer

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.text)


class NotInTime(Exception):
    """Something expected did not happen in time."""


def wait_for(condition: Callable[[], Any], seconds: float = 20.0, what: str = "the condition") -> Any:
    """Poll until the condition is true; return its value. Raises NotInTime."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > end:
            raise NotInTime(f"{what} did not come true within {seconds:g} s")
        time.sleep(0.03)
    return value


class ServerProcess:
    """One server process on a free port of 127.0.0.1, with a config folder of its own."""

    def __init__(
        self,
        folder: Path,
        volumes: Sequence[Volume] = (),
        *,
        speed: float = 0.01,
        plex_tv_url: str = "",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.config = folder / "config"
        self.faults_file = folder / "faults.json"
        self.output = folder / "server.out"
        self.support = self.config / SUPPORT
        self.databases = self.support / "Plug-in Support" / "Databases"
        self.token = ""
        self._volumes = volumes
        own = {name: value for name, value in os.environ.items() if name not in (JOB_ENV, DATABASES_ENV)}
        self._environment = {
            **own,
            "PYTHONPATH": str(_REPOSITORY),
            "PLEX_TV_URL": plex_tv_url,
            FAULTS_ENV: str(self.faults_file),
            SPEED_ENV: str(speed),
            STARTUP_ENV: "0",
            **(environment or {}),
        }
        self.process: subprocess.Popen[bytes] | None = None
        self.port = 0

    def sign_in(self, username: str = "sandbox") -> None:
        """Make it a claimed server before it starts, without plex.tv."""
        token = "the-servers-token"
        Preferences(self.support / "Preferences.xml").update({"PlexOnlineToken": token, "PlexOnlineUsername": username})
        self.token = token

    def start(self, *, wait: bool = True) -> ServerProcess:
        """Start it; ``wait`` until /identity answers 200."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        command = [
            sys.executable,
            "-P",
            "-m",
            "sandbox.plex.server",
            "--config",
            str(self.config),
            "--port",
            str(self.port),
        ]
        for volume in self._volumes:
            command += ["--volume", f"{volume.host}:{volume.path}:ro"]
        self.output.parent.mkdir(parents=True, exist_ok=True)
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(command, env=self._environment, stdout=output, stderr=output, cwd="/")
        if wait:
            wait_for(lambda: self.ended() or self.status("/identity") == 200, what="/identity")
        return self

    def ended(self) -> bool:
        """Whether the process is gone."""
        return self.process is not None and self.process.poll() is not None

    @property
    def pid(self) -> int:
        """Its process id."""
        if self.process is None:
            raise RuntimeError("The server was not started.")
        return self.process.pid

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it and wait; returns its exit code."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(20)

    def __enter__(self) -> ServerProcess:
        return self if self.process is not None else self.start()

    def __exit__(self, *_exception: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.stop()

    def call(
        self,
        method: str,
        path: str,
        *,
        json_form: bool = False,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request. Raises OSError when nobody listens."""
        sent = {"X-Plex-Token": self.token if token is None else token, **(headers or {})}
        if json_form:
            sent["Accept"] = "application/json"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, headers=sent)
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers.get("Content-Type", ""), answer.read().decode(errors="replace"))
        finally:
            connection.close()

    def get(self, path: str, **options: Any) -> Answer:
        """GET."""
        return self.call("GET", path, **options)

    def status(self, path: str) -> int:
        """The status of a GET; 0 when nobody listens."""
        try:
            return self.get(path).status
        except OSError:
            return 0

    def set_faults(self, **faults: Any) -> None:
        """Switch faults on (and all others off), whether it runs or not."""
        temporary = self.faults_file.with_suffix(".tmp")
        temporary.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(faults), encoding="utf-8")
        temporary.replace(self.faults_file)

    def idle(self, seconds: float = 30.0) -> None:
        """Wait until no activity is left and no section refreshes."""
        wait_for(lambda: self.get("/activities").xml.get("size") == "0", seconds, "an idle server")

    def scan(self, section: int, **parameters: str | int) -> None:
        """Scan a section and wait until it is done."""
        query = "&".join(f"{name}={value}" for name, value in parameters.items())
        answer = self.get(f"/library/sections/{section}/refresh?{query}")
        if answer.status != 200:
            raise NotInTime(f"the refresh was refused: {answer.status} {urlsplit(answer.text).path}")
        self.idle()

    def log(self) -> str:
        """The server's log."""
        return (self.support / "Logs" / "Plex Media Server.log").read_text(encoding="utf-8", errors="replace")
