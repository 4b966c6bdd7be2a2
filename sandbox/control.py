"""Up, down, reset, status: the sandbox as the command line and the tests use it.

box = Sandbox(tmp_path)          # or Sandbox() for the default one
box.up()
box.set_faults("scaleway", {"out_of_stock": "*"})
box.state["scaleway"]["url"], box.ledger(), box.devices()
box.down()                       # data stays; box.reset() deletes it
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import unicodedata
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from sandbox import home, media, processes, s3
from sandbox.faults import Faults
from sandbox.files import tail
from sandbox.layout import FAULT_NAMES, Layout
from sandbox.machines import compiled
from sandbox.media import Sizes
from sandbox.options import Options

REPO = Path(__file__).resolve().parent.parent
DIR_VARIABLE = "PLEXBURST_SANDBOX_DIR"


class SandboxError(RuntimeError):
    """The sandbox did not start, does not run, or was asked for something it does not have."""


def default_dir() -> Path:
    """Where the sandbox lives unless told: $PLEXBURST_SANDBOX_DIR, else .sandbox in the repository."""
    return Path(os.environ.get(DIR_VARIABLE) or REPO / ".sandbox")


class Sandbox:
    """One sandbox in one folder. Making the object starts nothing."""

    def __init__(
        self, directory: Path | str | None = None, *, sizes: Sizes | None = None, speed: float | None = None
    ) -> None:
        """`sizes` count when the sandbox is made (`reset` starts afresh), `speed` at each start; None keeps them."""
        self.dir = Path(directory or default_dir()).resolve()
        if Path.home().is_relative_to(self.dir):
            raise SandboxError(
                f"expected a folder for a sandbox alone, found {self.dir}, which contains your home folder; "
                "choose another with --dir"
            )
        self.layout = Layout(self.dir)
        self._sizes, self._speed = sizes, speed

    @property
    def state(self) -> dict[str, Any]:
        """state.json as the last `up` wrote it (keys: sandbox/README.md)."""
        if not self.layout.state.is_file():
            raise SandboxError(
                f"expected {self.layout.state}, found nothing; "
                f"start the sandbox with `python -m sandbox up --dir {self.dir}`"
            )
        state: dict[str, Any] = json.loads(self.layout.state.read_text(encoding="utf-8"))
        return state

    @property
    def is_up(self) -> bool:
        """Whether this sandbox's supervisor runs."""
        return self._supervisor() is not None

    def up(self, timeout: float = 180.0) -> dict[str, Any]:
        """Start what does not run, wait until every part answers (at most `timeout` seconds), return the state.

        Raises SandboxError with the end of the log if a part does not start.
        """
        deadline = time.monotonic() + timeout
        if self.dir.is_dir() and any(self.dir.iterdir()) and not self.layout.is_ours():
            raise SandboxError(
                f"expected an empty folder or a sandbox in {self.dir}, found other files; choose another"
            )
        self.dir.mkdir(parents=True, exist_ok=True)
        self.dir.chmod(0o700)
        with self._only_one():
            try:
                options = Options.choose(self.layout.options, sizes=self._sizes, speed=self._speed)
            except ValueError as error:
                raise SandboxError(str(error)) from error
            pid = self._supervisor()
            if pid is None:
                processes.end(processes.of_sandbox(self.dir))
                options.write(self.layout.options)
                self.layout.log.mkdir(exist_ok=True)
                self._start(deadline)
            elif not home.is_running(self.layout):
                os.kill(pid, signal.SIGUSR1)
            self._wait_for_home(deadline)
            state = self.state
            plex = home.running_pid(self.layout)
            if plex is not None and state["pids"].get("home-plex") != plex:
                # A role started it since.
                state["pids"]["home-plex"] = plex
                self.layout.write_state(state)
        return state

    def down(self) -> None:
        """End every process of the sandbox, home's Plex first and cleanly; keep the data."""
        if not self.layout.is_ours():
            return
        with self._only_one():
            home.stop(self.layout)
            pid = self._supervisor()
            if pid is not None:
                processes.end([pid], patience=20.0)
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
            processes.end(processes.of_sandbox(self.dir))
            if self.layout.state.is_file():
                self.layout.write_state({**self.state, "pids": {}})

    def reset(self) -> None:
        """End everything and delete the sandbox's folder."""
        if not self.dir.is_dir():
            return
        if not self.layout.is_ours():
            raise SandboxError(f"expected a sandbox in {self.dir}, found other files; nothing was deleted")
        self.down()
        shutil.rmtree(self.dir)

    def status(self) -> dict[str, Any]:
        """What runs: per part, whether it answers."""
        if not self.layout.state.is_file():
            return {"dir": str(self.dir), "up": False, "parts": {}}
        state = self.state
        up = self.is_up
        parts = {
            "supervisor": up,
            "scaleway": up and _answers(state["scaleway"]["url"]),
            "plextv": up and _answers(state["plextv"]["url"]),
            "s3": up and _answers(state["s3"]["endpoint"]),
            "home-plex": home.is_running(self.layout) and _answers(_plex_url(state)),
        }
        return {"dir": str(self.dir), "up": all(parts.values()), "parts": parts, "faults": self.faults()}

    def set_faults(self, name: str, values: dict[str, Any]) -> None:
        """Replace the faults of one simulator; `{}` switches them all off. Read at once, kept over restarts."""
        self._faults(name).replace(values)

    def faults(self) -> dict[str, dict[str, Any]]:
        """The faults that are on, by simulator; simulators without any are left out."""
        return {name: values for name in FAULT_NAMES if (values := self._faults(name).all())}

    def ledger(self) -> Any:
        """Everything billable that ever existed at the Scaleway simulator since `up`."""
        return _get_json(f"{self.state['scaleway']['url']}/_sandbox/ledger")

    def devices(self) -> list[dict[str, str]]:
        """The account's devices at plex.tv, as their XML attributes."""
        state = self.state["plextv"]
        token = Path(state["token_file"]).read_text(encoding="utf-8").strip()
        request = urllib.request.Request(f"{state['url']}/devices.xml", headers={"X-Plex-Token": token})  # noqa: S310
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - loopback, from our own state
            return [dict(device.attrib) for device in ET.fromstring(answer.read()).iter("Device")]  # noqa: S314

    def merge_home(self, timeout: float = 60.0) -> list[str]:
        """Give home a merged view, as with mergerfs: a film and a track that the bucket lacks, which home's Plex knows.

        Returns their paths as home's Plex names them.
        """
        bucket = self.layout.s3 / s3.BUCKET
        keys = media.merge_view(home.home_dir(self.layout) / "local", bucket, media.home_only())
        volume = self.state["home"]["volumes"][0]
        files = [f"{volume['path']}/{key}" for key in keys]
        connection = self.home_db()
        try:
            rows = connection.execute("SELECT root_path, library_section_id FROM section_locations").fetchall()
        finally:
            connection.close()
        for file in files:
            section = next(number for root, number in rows if file.startswith(f"{root}/"))
            query = urllib.parse.urlencode({"path": file.rpartition("/")[0]})
            self._ask_home(f"/library/sections/{section}/refresh?{query}")
        self._wait_for_parts(files, time.monotonic() + timeout)
        return files

    def _ask_home(self, path: str) -> None:
        """A request to home's Plex as its owner."""
        preferences = ET.parse(home.support_dir(self.layout) / "Preferences.xml").getroot()  # noqa: S314 - our own file
        token = {"X-Plex-Token": preferences.attrib["PlexOnlineToken"]}
        address = f"http://127.0.0.1:{self.state['home']['plex_port']}{path}"
        request = urllib.request.Request(address, headers=token)
        with urllib.request.urlopen(request, timeout=10):  # noqa: S310 - loopback, from our own state
            pass

    def _wait_for_parts(self, files: list[str], deadline: float) -> None:
        while time.monotonic() < deadline:
            connection = self.home_db()
            try:
                known = {row[0] for row in connection.execute("SELECT file FROM media_parts")}
            finally:
                connection.close()
            if known.issuperset(files):
                return
            time.sleep(0.2)
        raise SandboxError(f"expected home's Plex to find {', '.join(files)}; read {self.layout.log}")

    def home_db(self, name: str = "library") -> sqlite3.Connection:
        """Home's `library` or `blobs` database, read only, with a stand-in for Plex's collation; close it."""
        path = (
            home.databases_dir(self.layout) / f"com.plexapp.plugins.library.{'' if name == 'library' else 'blobs.'}db"
        )
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)
        connection.create_collation("icu_root", _fold_compare)
        connection.row_factory = sqlite3.Row
        return connection

    def ansible_env(self) -> dict[str, str]:
        """What to add to the environment so that `ansible-playbook` finds this sandbox and this interpreter's tools."""
        tools = Path(sys.executable).parent
        return {
            DIR_VARIABLE: str(self.dir),
            "PATH": f"{tools}{os.pathsep}{os.environ.get('PATH', '/usr/bin:/bin')}",
            "ANSIBLE_NOCOLOR": "1",
            **compiled.environment(self.layout.machines),
        }

    @contextlib.contextmanager
    def _only_one(self) -> Iterator[None]:
        """One `up`, `down` or `reset` of a sandbox at a time."""
        with self.layout.lock.open("w", encoding="utf-8") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def _supervisor(self) -> int | None:
        if not self.layout.supervisor_pid.is_file():
            return None
        text = self.layout.supervisor_pid.read_text(encoding="utf-8").strip()
        if not text.isdigit():
            return None
        arguments = processes.command(int(text))
        # The number may have been given to another process after a crash: its command line must be ours.
        ours = "sandbox.supervisor" in arguments and str(self.dir) in arguments
        return int(text) if ours and processes.is_alive(int(text)) else None

    def _start(self, deadline: float) -> None:
        log = self.layout.log / "supervisor.log"
        log.unlink(missing_ok=True)
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "sandbox.supervisor", str(self.dir)],
                cwd=self.dir,
                env={
                    "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
                    "HOME": str(self.dir),
                    "LANG": "C.UTF-8",
                    "PYTHONPATH": str(REPO),
                    "PYTHONUNBUFFERED": "1",
                },
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        while not (self.layout.ready.is_file() and self.layout.ready.read_text(encoding="utf-8") == str(process.pid)):
            code = process.poll()
            if code is None and time.monotonic() < deadline:
                time.sleep(0.05)
                continue
            if code is None:
                processes.end([process.pid])
            process.wait()
            processes.end(processes.of_sandbox(self.dir))
            found = f"the supervisor ended with code {code}" if code is not None else "it is still starting"
            raise SandboxError(
                f"expected the sandbox in {self.dir} to start, found that {found}; the end of {log}:\n{tail(log, 40)}"
            )
        # The supervisor outlives this process on purpose; nobody waits for it here.
        process.returncode = 0

    def _wait_for_home(self, deadline: float) -> None:
        url = _plex_url(self.state)
        while not self._home_is_ready(url):
            if time.monotonic() >= deadline:
                log = home.plex_log(self.layout)
                raise SandboxError(
                    f"expected home's Plex to answer at {url}, found silence; the end of {log}:\n{tail(log)}"
                )
            time.sleep(0.05)

    def _home_is_ready(self, url: str) -> bool:
        """Whether home's Plex has left its start-up maintenance (503), or is kept in it by a fault."""
        status = _status(url)
        return status is not None and (status != HTTPStatus.SERVICE_UNAVAILABLE or "plex-home" in self.faults())

    def _faults(self, name: str) -> Faults:
        if name not in FAULT_NAMES:
            raise SandboxError(f"expected one of {', '.join(FAULT_NAMES)}, found {name!r}")
        return Faults(self.layout.faults / f"{name}.json")


def _plex_url(state: dict[str, Any]) -> str:
    return f"http://127.0.0.1:{state['home']['plex_port']}/identity"


def _answers(url: str) -> bool:
    """Whether an HTTP server is there; a refusal or 503 is an answer too."""
    return _status(url) is not None


def _status(url: str) -> int | None:
    """The status that a GET ends with; None if nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - loopback, from our own state
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


def _get_json(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - loopback, from our own state
        return json.load(answer)


def _fold_compare(left: str, right: str) -> int:
    a, b = (
        "".join(c for c in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(c))
        for text in (left, right)
    )
    return (a > b) - (a < b)
