"""A Sonic analysis that hangs, and media that die while Plex works, on an instance of the cloud, a whole run each: the
right verdict, no loss, nothing left behind.

The sandbox has no FUSE, so its media are a copy. What dies is that copy: every folder lists all names and no file
opens, as on a dead rclone mount; making it again has to bring every file from the remote once more.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox.control import Sandbox
from sandbox.media import Sizes
from tests.playbooks.evidence import (
    HomeState,
    Meanwhile,
    Outcome,
    Step,
    alive,
    databases_of,
    entries,
    files_of_remote,
    home_preferences,
    run_playbook,
    told,
    verdicts,
)

pytestmark = pytest.mark.playbook

SMALL = Sizes(tracks=12, films=6, shows=1, episodes=2, photos=2)
HANGING: dict[str, float] = {"named_after": 1, "stall_after": 2, "restarts": 1, "start_within": 3}
DYING: dict[str, float] = {"quiet_for": 6, "mount_dead_after": 0.5, "stall_after": 60, "start_within": 60}


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """Small, with a Plex that is slow enough to be watched."""
    box = Sandbox(tmp_path_factory.mktemp("watching") / "sandbox", sizes=SMALL, speed=0.1)
    box.up()
    try:
        yield box
    finally:
        box.reset()


def run(sandbox: Sandbox, runs: Path, given: dict[str, Any], *steps: Step) -> Outcome:
    """A delta sync in the middle of which something happens; whatever it is, nothing stays in the cloud."""
    try:
        with Meanwhile(runs, steps) as meanwhile:
            outcome = run_playbook(sandbox.ansible_env(), runs, "-e", json.dumps(given))
    finally:
        sandbox.set_faults("plex-indexer", {})
        sandbox.set_faults("machine", {})
    assert meanwhile.done == len(steps), outcome.output[-3000:]
    assert alive(sandbox.ledger()) == []
    return outcome


def fail(sandbox: Sandbox, runs: Path, given: dict[str, Any], *steps: Step) -> Outcome:
    """A run that fails: home, its preferences and the account's devices are as they were."""
    databases = databases_of(sandbox.state["home"]["config_dir"])
    before, devices, prefs = HomeState.read(databases), sandbox.devices(), home_preferences(sandbox.state)
    outcome = run(sandbox, runs, given, *steps)
    assert outcome.rc != 0
    assert outcome.summary["status"] == "failed"
    assert sandbox.devices() == devices
    assert HomeState.read(databases) == before
    assert home_preferences(sandbox.state) == prefs  # asked of home's Plex, so it runs
    return outcome


def test_no_plex_pass_is_said_before_an_instance_is_paid_for(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.set_faults("plex-home", {"no_plex_pass": True})
    before = sandbox.ledger()
    try:
        outcome = fail(sandbox, tmp_path / "runs", {"plexburst_sections": ["Music"]})
    finally:
        sandbox.set_faults("plex-home", {})
    assert outcome.summary["failure"]["phase"] == "plan"
    assert "Plex Pass is off" in told(outcome)
    assert "plexburst_skip_sonic=true" in outcome.summary["failure"]["advice"]
    assert sandbox.ledger() == before


def media(sandbox: Sandbox) -> Path:
    """The copy on the instance that lives."""
    (found,) = (Path(sandbox.dir) / "machines").glob("*/home/plexburst/media/0")
    return found


def test_a_sonic_analysis_that_hangs_is_named_after_every_way_was_tried(sandbox: Sandbox, tmp_path: Path) -> None:
    seen: list[Outcome] = []
    sandbox.set_faults("plex-indexer", {"sonic_stuck": True})

    def look() -> None:
        # From the machine of the run, and with no folder of the run: then the host key is known by Scaleway alone. (No
        # key of this user's own is let in, so the second gets further only over the connection that is still open.)
        seen.extend(
            run_playbook(sandbox.ansible_env(), tmp_path / runs, playbook="status.yml", seconds=60)
            for runs in ("runs", "elsewhere")
        )

    given = {
        "plexburst_sections": ["Music"],
        "plexburst_skip_analysis": True,
        "plexburst_profile_overrides": HANGING,
    }
    outcome = fail(sandbox, tmp_path / "runs", given, Step.at("sonic", look))
    assert "No track got Sonic data" in told(outcome)
    assert "butler, asap, section, albums" in told(outcome)
    assert ("sonic", "no_progress") in verdicts(outcome)
    status, elsewhere = seen
    assert status.rc == 0, status.output
    assert "sonic Music" in status.output
    assert "readable" in status.output
    assert "sonic Music" in elsewhere.output or "Permission denied" in elsewhere.output, elsewhere.output
    assert "could not be verified" not in elsewhere.output
    assert "Host key verification failed" not in elsewhere.output


def test_a_mount_that_dies_after_it_was_slow_and_cannot_be_made_again_fails_with_words_and_nothing_is_lost(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    """221 of 224 films were lost this way: the directory cache lived on, and Plex took every file for deleted."""

    def die() -> None:
        """Folders list, no file opens, and the remote lets the indexer in no more."""
        config = media(sandbox).parents[1] / "rclone" / "rclone.conf"
        lines = config.read_text(encoding="utf-8").splitlines()
        config.write_text(
            "".join(
                "secret_access_key = withdrawn\n" if line.startswith("secret_access_key") else f"{line}\n"
                for line in lines
            )
        )
        sandbox.set_faults("machine", {"mount_unreadable": True})
        sandbox.set_faults("plex-indexer", {"mount_dead": True})

    # Slow from the first moment, in every file that the scan takes in: that alone stops nothing.
    sandbox.set_faults("machine", {"mount_slow": 0.3})
    sandbox.set_faults("plex-indexer", {"mount_slow": 1.5})
    given = {
        "plexburst_sections": ["Music"],
        "plexburst_quick_test": True,
        "plex_indexing_probe_count": 4,
        "plexburst_profile_overrides": {**DYING, "slow_read": 0.3},
    }
    outcome = fail(sandbox, tmp_path / "runs", given, Step.at("scan", die))
    samples = [entry["sample"] for entry in entries(outcome) if "sample" in entry]
    probes = [sample["mount"] for sample in samples if sample["mount"]]
    assert probes[0]["ok"]
    assert probes[0]["seconds"] >= 0.3
    assert "EIO" in probes[-1]["problem"], probes[-1]
    assert ("scan", "mount_dead") in verdicts(outcome)
    assert ("scan", "mount_slow") not in verdicts(outcome)
    assert "no worker of Plex runs any more; the mount can be touched" in outcome.output
    failure = outcome.summary["failure"]
    assert "The mount failed during the scan of Music and could not be mounted again" in failure["message"]
    assert "SignatureDoesNotMatch" in failure["message"]
    assert "withdrawn" not in told(outcome)
    assert failure["advice"]
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
    killed: list[Path] = []

    def die() -> None:
        """Every file becomes a link to itself. (An ordinary user must be let into the folders for that.)"""
        folder = media(sandbox)
        for path in sorted(folder.rglob("*")):
            if path.is_dir():
                path.chmod(0o755)
        for path in [path for path in folder.rglob("*") if path.is_file()]:
            path.unlink()
            path.symlink_to(path.name)
            killed.append(path)
        sandbox.set_faults("plex-indexer", {})

    # A second for each new file, so that the mount dies in the middle of the scan.
    sandbox.set_faults("plex-indexer", {"mount_slow": 1})
    given = {
        "plexburst_sections": ["Music", "Movies"],
        "plexburst_quick_test": True,
        "plexburst_profile_overrides": DYING,
        # On rclone every folder shows the same date for ever, so Plex does not look into it again by itself.
        "plexburst_indexer_plex_environment": {
            **sandbox.state["indexer"]["environment"],
            "PLEX_SIM_FOLDER_MTIMES": "constant",
        },
    }
    outcome = run(sandbox, tmp_path / "runs", given, Step.at("scan", die))
    assert killed
    assert outcome.rc == 0, outcome.output[-4000:]
    assert outcome.summary["status"] == "succeeded"
    assert ("scan", "mount_dead") in verdicts(outcome)
    after = HomeState.read(databases)
    of_these = ("/Media/Music/", "/Media/Movies/")
    on_the_remote = {file for file in files_of_remote(sandbox.state) if file.startswith(of_these)}
    trashed = {file for file, gone in after.parts.items() if gone}
    assert trashed & on_the_remote == set()
    assert {f for f in on_the_remote if not f.endswith((".nfo", ".txt"))} - after.parts.keys() == set()
    assert after.settings == before.settings
    assert after.views == before.views
