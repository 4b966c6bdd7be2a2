"""The Plex images behave as pms-docker and linuxserver's where plexburst depends on it: start, owners, stop, SQLite."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from sandbox import plextv, processes
from sandbox.plex.runtime import VERSION
from tests.e2e import images, registry
from tests.e2e.engine import NETWORK, Engine
from tests.e2e.host import E2EError

pytestmark = pytest.mark.e2e

REPO = Path(__file__).resolve().parents[2]
SUPPORT = "Library/Application Support/Plex Media Server"
DATABASES = f"{SUPPORT}/Plug-in Support/Databases"
LIBRARY = "com.plexapp.plugins.library.db"
SQLITE = "/usr/lib/plexmediaserver/Plex SQLite"
INSERT = "INSERT INTO metadata_items (metadata_type, title, title_sort) VALUES (1, 'Ærø', 'Ærø')"


class Container:
    """One container of an image, with folders of its own on this machine."""

    def __init__(self, engine: Engine, folder: Path, layout: str) -> None:
        self.engine, self.folder = engine, folder
        self.image = f"{images.REPOSITORIES[layout]}:{VERSION}"
        self.name = f"pbe2e-image-{secrets.token_hex(4)}"
        for name in ("config", "transcode"):
            (folder / name).mkdir(parents=True)

    @property
    def support(self) -> Path:
        return self.folder / "config" / SUPPORT

    @property
    def databases(self) -> Path:
        return self.folder / "config" / DATABASES

    @property
    def preferences(self) -> dict[str, str]:
        return dict(ET.parse(self.support / "Preferences.xml").getroot().attrib)  # noqa: S314 - the image's own

    def run(self, *options: str, network: str = "none", **environment: str) -> Container:
        """Start it with the faults file that a test may write before."""
        given = {"PLEX_SIM_FAULTS": "/faults.json", **environment}
        variables = [part for name, value in given.items() for part in ("--env", f"{name}={value}")]
        faults = self.folder / "faults.json"
        if not faults.exists():
            self.faults()
        mounts = {"config": "/config", "transcode": "/transcode", "faults.json": "/faults.json"}
        volumes = [part for name, path in mounts.items() for part in ("--volume", f"{self.folder / name}:{path}")]
        self.docker("run", "--detach", "--name", self.name, "--network", network, *variables, *volumes, *options)
        return self

    def docker(self, *arguments: str, image: bool = True) -> str:
        return self.engine.docker(*arguments, *([self.image] if arguments[0] == "run" and image else []))

    def faults(self, **values: Any) -> None:
        (self.folder / "faults.json").write_text(json.dumps(values))

    def exec(self, *command: str, user: str = "root") -> str:
        return self.engine.docker("exec", "--user", user, self.name, *command)

    def sqlite(self, sql: str) -> str:
        return self.exec(SQLITE, f"/config/{DATABASES}/{LIBRARY}", sql).strip()

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = json.loads(self.engine.docker("inspect", self.name))[0]["State"]
        return state

    def log(self) -> str:
        done = subprocess.run([*self.engine.command, "logs", self.name], capture_output=True, text=True, check=True)
        return done.stdout + done.stderr

    def plex_runs(self) -> bool:
        return "/Plex Media Server" in self.engine.docker("top", self.name, "-eo", "pid,args")

    def until(self, what: Callable[[], bool], seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < deadline, f"not within {seconds} s; log:\n{self.log()}\nstate: {self.state()}"
            time.sleep(0.2)

    def answers(self) -> bool:
        try:
            return f'version="{VERSION}"' in self.exec("curl", "-sf", "http://localhost:32400/identity")
        except E2EError:
            return False

    def ready(self) -> Container:
        self.until(self.answers)
        return self

    def stop(self, patience: int) -> float:
        began = time.monotonic()
        self.engine.docker("stop", "-t", str(patience), self.name)
        return time.monotonic() - began

    def logs_that_hold_writes(self) -> list[str]:
        return [path.name for path in self.databases.glob("*-wal") if path.stat().st_size]


@pytest.fixture
def make(engine: Engine) -> Iterator[Callable[..., Container]]:
    made: list[Container] = []

    def new(layout: str = "official") -> Container:
        made.append(Container(engine, engine.run_dir / "images" / secrets.token_hex(4), layout))
        return made[-1]

    yield new
    for container in made:
        subprocess.run(
            [*engine.command, "rm", "--force", "--volumes", container.name], capture_output=True, check=False
        )
        shutil.rmtree(container.folder)


def test_a_first_start_makes_an_identity_and_becomes_healthy(make: Callable[..., Container]) -> None:
    plex = make().run(PLEX_UID="1234", PLEX_GID="1235").ready()
    preferences = plex.preferences
    named = f"{preferences['MachineIdentifier']}- Plex Media Server".encode()
    assert preferences["ProcessedMachineIdentifier"] == hashlib.sha1(named, usedforsecurity=False).hexdigest()
    assert preferences["TranscoderTempDirectory"] == "/transcode"
    assert "PlexOnlineToken" not in preferences
    file = (plex.databases / LIBRARY).stat()
    assert (file.st_uid, file.st_gid) == (1234, 1235)
    plex.until(lambda: plex.state()["Health"]["Status"] == "healthy")
    plex.engine.docker("restart", "-t", "30", plex.name)
    plex.ready()
    assert plex.preferences["MachineIdentifier"] == preferences["MachineIdentifier"]
    assert plex.log().count("first run setup complete") == 1


def test_owners_are_corrected_only_beside_foreign_or_missing_preferences(make: Callable[..., Container]) -> None:
    plex = make().run().ready()
    plex.stop(30)
    database = plex.databases / LIBRARY
    os.chown(database, 0, 0)
    plex.engine.docker("rm", plex.name)
    plex.run()
    plex.until(lambda: "Starting Plex Media Server" in plex.log())
    assert database.stat().st_uid == 0, "beside Preferences.xml of the right owner a foreign database stays foreign"
    plex.engine.docker("rm", "--force", plex.name)
    os.chown(plex.support / "Preferences.xml", 0, 0)
    plex.run().ready()
    assert database.stat().st_uid == 1000


def test_docker_stop_gives_plex_six_seconds_whatever_it_is_told(make: Callable[..., Container]) -> None:
    plex = make()
    plex.faults(slow_stop=30)
    plex.run().ready()
    plex.sqlite(INSERT)
    seconds = plex.stop(60)
    assert 5.5 < seconds < 20
    assert plex.state()["ExitCode"] == 0, "s6 kills by itself: the exit code does not tell"
    assert plex.logs_that_hold_writes() == [f"{LIBRARY}-wal"]


def test_a_longer_grace_time_lets_plex_end_by_itself(make: Callable[..., Container]) -> None:
    plex = make()
    plex.faults(slow_stop=8)
    plex.run(S6_SERVICES_GRACETIME="60000").ready()
    plex.sqlite(INSERT)
    assert 10 < plex.stop(60) < 40
    assert plex.logs_that_hold_writes() == []
    assert plex.state()["ExitCode"] == 0


def test_a_stop_without_patience_is_told_by_the_exit_code(make: Callable[..., Container]) -> None:
    plex = make()
    plex.faults(slow_stop=30)
    plex.run(S6_SERVICES_GRACETIME="60000").ready()
    plex.stop(2)
    assert plex.state()["ExitCode"] == 137


@pytest.mark.parametrize(
    ("layout", "down", "up"),
    [
        ("official", ["/plex_service.sh", "-d"], ["/plex_service.sh", "-u"]),
        (
            "linuxserver",
            ["/command/s6-svc", "-d", "/run/service/svc-plex"],
            ["/command/s6-svc", "-u", "/run/service/svc-plex"],
        ),
    ],
)
def test_a_service_taken_down_ends_cleanly_and_stays_down(
    make: Callable[..., Container], layout: str, down: list[str], up: list[str]
) -> None:
    plex = make(layout)
    plex.faults(slow_stop=8)
    plex.run().ready()
    plex.sqlite(INSERT)
    began = time.monotonic()
    plex.exec(*down)
    assert time.monotonic() - began < 5, "it only asks, and waits for nothing"
    plex.until(lambda: not plex.plex_runs())
    assert time.monotonic() - began > 8, "no deadline"
    assert plex.logs_that_hold_writes() == []
    plex.engine.docker("start", plex.name)
    time.sleep(2)
    assert plex.state()["Running"]
    assert not plex.plex_runs(), "docker start does nothing to a container that runs"
    plex.exec(*up)
    plex.ready()
    plex.faults()
    plex.exec(*down)
    plex.until(lambda: not plex.plex_runs())
    plex.stop(30)
    assert plex.state()["ExitCode"] == 0


def test_a_plex_that_crashes_is_started_again_by_its_init(make: Callable[..., Container]) -> None:
    plex = make().run().ready()
    started = plex.state()["StartedAt"]
    pid = next(
        line.split()[0]
        for line in plex.engine.docker("top", plex.name, "-eo", "pid,args").splitlines()
        if line.endswith("/Plex Media Server")
    )
    os.kill(int(pid), 9)
    plex.until(lambda: plex.log().count("Starting Plex Media Server") == 2)
    plex.ready()
    assert plex.state()["StartedAt"] == started


def test_plex_sqlite_knows_the_tokenizer_and_the_collation(make: Callable[..., Container]) -> None:
    plex = make().run().ready()
    plex.sqlite(INSERT)
    assert plex.sqlite("SELECT title FROM metadata_items ORDER BY title_sort COLLATE icu_root") == "Ærø"
    assert plex.sqlite("SELECT count(*) FROM fts4_metadata_titles_icu WHERE title MATCH 'Ærø'") == "1"
    assert plex.sqlite("PRAGMA integrity_check") == "ok"
    stock = sqlite3.connect(f"file:{plex.databases / LIBRARY}?mode=ro", uri=True)
    with pytest.raises(sqlite3.OperationalError, match="icu_root"):
        stock.execute("SELECT title FROM metadata_items ORDER BY title_sort COLLATE icu_root").fetchall()
    stock.close()
    plex.stop(30)
    at = "/elsewhere"
    said = plex.docker(
        *("run", "--rm", "--network", "none", "--user", "1000:1000", "--entrypoint", SQLITE),
        *("--volume", f"{plex.databases}:{at}", plex.image, f"{at}/{LIBRARY}", "SELECT count(*) FROM metadata_items"),
        image=False,
    )
    assert said.strip() == "1"
    assert sorted(path.name for path in plex.databases.glob(f"{LIBRARY}*")) == [LIBRARY]


def test_the_scanner_lists_sections_by_hand(make: Callable[..., Container]) -> None:
    plex = make().run().ready()
    plex.sqlite("INSERT INTO library_sections (name, section_type) VALUES ('Music', 8)")
    support = "PLEX_MEDIA_SERVER_APPLICATION_SUPPORT_DIR=/config/Library/Application Support"
    said = plex.exec("env", support, "/usr/lib/plexmediaserver/Plex Media Scanner", "--list", user="plex")
    assert said.split() == ["1:", "Music"]


def test_a_database_migration_is_unhealthy_and_no_failure(make: Callable[..., Container]) -> None:
    plex = make()
    plex.faults(maintenance="forever")
    plex.run()
    plex.until(plex.plex_runs)
    plex.until(lambda: "503" in plex.exec("sh", "-c", "/healthcheck.sh 2>&1; true"))
    plex.faults()
    plex.ready()
    plex.exec("/healthcheck.sh")


def test_a_claim_is_exchanged_once_and_its_failure_says_nothing(
    make: Callable[..., Container], engine: Engine, tmp_path: Path
) -> None:
    plextv.seed(tmp_path, devices=[])
    address, port = engine.gateway, 21_990
    url = f"http://{address}:{port}"
    simulator = subprocess.Popen(
        [sys.executable, "-P", "-m", "sandbox.plextv", "--dir", str(tmp_path), "--port", str(port), "--host", address],
        env={**os.environ, "PYTHONPATH": str(REPO), "SANDBOX_BIND": address},
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
    )
    try:
        owner = (tmp_path / "plex-account-token").read_text().strip()
        asked = ["curl", "-sf", "--retry", "20", "--retry-connrefused", "--retry-delay", "1"]
        asked += ["-H", f"X-Plex-Token: {owner}"]
        said = subprocess.run([*asked, f"{url}/api/claim/token.json"], capture_output=True, text=True, check=True)
        token = json.loads(said.stdout)["token"]
        plex = make().run(network=NETWORK, PLEX_TV_URL=url, PLEX_CLAIM=token).ready()
        assert "Token obtained successfully" in plex.log()
        assert plex.preferences["PlexOnlineToken"]
        again = make().run(network=NETWORK, PLEX_TV_URL=url, PLEX_CLAIM=token).ready()
        assert "Attempting to obtain server token" in again.log()
        assert "Token obtained" not in again.log()
        assert "PlexOnlineToken" not in again.preferences
    finally:
        processes.end([simulator.pid], patience=10)
        simulator.wait()


def test_linuxserver_waits_for_plex_and_knows_puid(make: Callable[..., Container]) -> None:
    plex = make("linuxserver")
    plex.faults(slow_stop=9)
    plex.run(PUID="1500", PGID="1501").ready()
    assert (plex.databases / LIBRARY).stat().st_uid == 1500
    plex.sqlite(INSERT)
    assert plex.stop(60) > 9
    assert plex.state()["ExitCode"] == 0
    assert plex.logs_that_hold_writes() == []


def test_the_registry_knows_the_images_by_the_digest_that_was_pushed(engine: Engine) -> None:
    known = json.loads((engine.run_dir / "registry.json").read_text())
    for layout, repository in images.REPOSITORIES.items():
        pushed = images.repo_digest(engine, known["images"][layout])
        assert registry.digest(known["address"], Path(known["ca"]), repository, VERSION) == pushed
