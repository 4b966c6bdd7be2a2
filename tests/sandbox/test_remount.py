"""A mount that dies while Plex works is made again and the work repeated, a whole playbook run each.

The sandbox has no FUSE, so its media are a copy, and what dies is that copy: every file becomes a link to itself.
Folders still list all names and no file opens, as on a dead rclone mount; making it again has to bring every file from
the remote once more.
"""

from __future__ import annotations

import json
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox.control import Sandbox
from sandbox.media import Sizes
from tests.sandbox.evidence import (
    HomeState,
    Outcome,
    alive,
    databases_of,
    files_of_remote,
    home_preferences,
    run_playbook,
)

pytestmark = pytest.mark.playbook

SMALL = Sizes(tracks=12, films=6, shows=1, episodes=2, photos=2)
PATIENCE = {"quiet_for": 6, "mount_dead_after": 0.5, "stall_after": 60, "start_within": 60}
A_SECOND_EACH = 20.0
"""With this speed the simulated scanner takes a second for each new file, so that a mount dies in the middle of it."""


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    box = Sandbox(tmp_path_factory.mktemp("remount") / "sandbox", sizes=SMALL, speed=A_SECOND_EACH)
    box.up()
    try:
        yield box
    finally:
        box.reset()


class Killer(threading.Thread):
    """Kills the copy as soon as the run has recorded a sample of `task`, and does `then`."""

    def __init__(self, sandbox: Sandbox, runs: Path, task: str, then: Callable[[Path], None]) -> None:
        super().__init__(daemon=True)
        self.machines, self.runs, self.task, self.then = Path(sandbox.dir) / "machines", runs, task, then
        self.older = set(self.machines.glob("*/home/plexburst/media/0"))
        self.killed = 0
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.05):
            samples = self.runs / "latest" / "samples.jsonl"
            if samples.exists() and f'"task":"{self.task}"' in samples.read_text(encoding="utf-8"):
                (media,) = set(self.machines.glob("*/home/plexburst/media/0")) - self.older
                self.kill(media)
                self.then(media.parents[1])
                return

    def kill(self, media: Path) -> None:
        """As root the folders' modes do not matter; as an ordinary user they must let names be replaced."""
        for path in sorted(media.rglob("*")):
            if path.is_dir():
                path.chmod(0o755)
        for path in [path for path in media.rglob("*") if path.is_file()]:
            path.unlink()
            path.symlink_to(path.name)
            self.killed += 1


def run_and_kill(
    sandbox: Sandbox, runs: Path, task: str, settings: dict[str, Any], then: Callable[[Path], None] = lambda home: None
) -> Outcome:
    killer = Killer(sandbox, runs, task, then)
    killer.start()
    try:
        # On rclone every folder shows the same date for ever, so Plex does not look into it again by itself.
        environment = {**sandbox.state["indexer"]["environment"], "PLEX_SIM_FOLDER_MTIMES": "constant"}
        given = {
            "plex_index_profile_overrides": PATIENCE,
            "plexburst_indexer_plex_environment": environment,
            "plexburst_quick_test": True,
            **settings,
        }
        outcome = run_playbook(sandbox.ansible_env(), runs, "-e", json.dumps(given), seconds=1000)
    finally:
        killer.over.set()
        killer.join(30)
    assert killer.killed > 0, outcome.output[-3000:]
    assert alive(sandbox.ledger()) == []
    return outcome


def samples_of(outcome: Outcome) -> list[dict[str, Any]]:
    lines = (outcome.run_dir / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_a_mount_that_cannot_be_made_again_fails_with_words_and_nothing_is_lost(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    databases = databases_of(sandbox.state["home"]["config_dir"])
    before, devices, prefs = HomeState.read(databases), sandbox.devices(), home_preferences(sandbox.state)

    def lock_out(home: Path) -> None:
        """The remote lets the indexer in no more."""
        config = home / "rclone" / "rclone.conf"
        lines = config.read_text(encoding="utf-8").splitlines()
        config.write_text(
            "".join(
                "secret_access_key = withdrawn\n" if line.startswith("secret_access_key") else f"{line}\n"
                for line in lines
            )
        )

    outcome = run_and_kill(sandbox, tmp_path / "runs", "scan", {"plexburst_sections": ["Music"]}, lock_out)
    failure = outcome.summary["failure"]
    told = json.dumps(failure)
    assert outcome.rc != 0
    assert outcome.summary["status"] == "failed"
    assert "The mount died in the scan of Music and could not be made again" in told, told
    assert "SignatureDoesNotMatch" in told, told
    assert "withdrawn" not in told
    assert failure["advice"]
    assert HomeState.read(databases) == before
    assert sandbox.devices() == devices
    assert home_preferences(sandbox.state) == prefs
    logs = outcome.run_dir / "logs"
    with tarfile.open(logs / "indexer.tar.gz") as packed:
        names = {Path(member.name).name: member.size for member in packed if member.isfile()}
    assert names["Plex Media Server.log"] > 0
    assert names["plexmediaserver.out"] >= 0
    assert names["rclone.log"] > 0
    assert "Remount" in (logs / "console.log").read_text(encoding="utf-8")


def test_a_mount_that_dies_in_a_scan_is_made_again_and_the_run_succeeds(sandbox: Sandbox, tmp_path: Path) -> None:
    databases = databases_of(sandbox.state["home"]["config_dir"])
    before = HomeState.read(databases)
    outcome = run_and_kill(sandbox, tmp_path / "runs", "scan", {"plexburst_sections": ["Music", "Movies"]})
    assert outcome.rc == 0, outcome.output[-4000:]
    assert outcome.summary["status"] == "succeeded"
    scans = [entry for entry in samples_of(outcome) if entry["task"] == "scan"]
    assert any(entry.get("verdict", {}).get("reason") == "mount_dead" for entry in scans)
    after = HomeState.read(databases)
    of_these = ("/Media/Music/", "/Media/Movies/")
    on_the_remote = {file for file in files_of_remote(sandbox.state) if file.startswith(of_these)}
    trashed = {file for file, gone in after.parts.items() if gone}
    assert trashed & on_the_remote == set()
    assert {f for f in on_the_remote if not f.endswith((".nfo", ".txt"))} - after.parts.keys() == set()
    assert after.settings == before.settings
    assert after.views == before.views
