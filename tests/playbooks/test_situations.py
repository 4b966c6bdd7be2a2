"""What can happen while Plex indexes, on an existing server, a playbook run each: the right verdict, the right advice,
no
loss; and in the end, after all of it, everything comes home and the server is as its owner left it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sandbox.control import Sandbox
from sandbox.media import Sizes
from tests.playbooks.evidence import (
    HomeState,
    Outcome,
    Step,
    databases_of,
    entries,
    files_of_remote,
    home_preferences,
    told,
    verdicts,
)
from tests.playbooks.existing_host import ExistingHost, existing_host

pytestmark = pytest.mark.playbook

SMALL = Sizes(tracks=12, films=6, shows=1, episodes=2, photos=2)
HASTY: dict[str, float] = {"named_after": 2, "stall_after": 120, "restarts": 1, "start_within": 4, "silent_after": 120}
SLOW_END = {**HASTY, "quiet_for": 6}
"""The scan of a small library is over in a moment: what happens then must fall into the time it is watched."""
MEBIBYTE = 1024**2
LOCKED_SECONDS = 5.0
TRANSCODER_SECONDS = 8.0
STALL_SECONDS = 4.0
PHOTO_SECONDS = 4.0
BROKEN = "Music/Aalto/Broken/01 - noise.mp3"


@dataclass(frozen=True)
class Before:
    """What must be as it was: home, its preferences, the account's devices, the existing server's preferences."""

    home: HomeState
    preferences: dict[str, str]
    devices: list[dict[str, str]]
    owners: dict[str, str]

    @classmethod
    def of(cls, existing: ExistingHost) -> Before:
        state = existing.sandbox.state
        home = HomeState.read(databases_of(state["home"]["config_dir"]))
        return cls(home, home_preferences(state), existing.sandbox.devices(), existing.preferences())


@pytest.fixture(scope="module")
def existing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExistingHost]:
    folder = tmp_path_factory.mktemp("existing")
    box = Sandbox(folder / "sandbox", sizes=SMALL, speed=0.1)
    state = box.up()
    # Named after no section of the bucket's generations: what no decoder takes is taken in as a track all the same.
    noise = Path(state["home"]["volumes"][0]["host"]) / BROKEN
    noise.parent.mkdir(parents=True)
    noise.write_bytes(bytes(range(1, 250)) * 80)
    try:
        with existing_host(box, folder) as server:
            yield server
    finally:
        box.reset()


@pytest.fixture(scope="module")
def before(existing: ExistingHost) -> Before:
    """How everything was before a run came."""
    return Before.of(existing)


@pytest.fixture(scope="module")
def begun(existing: ExistingHost, before: Before) -> ExistingHost:
    """The existing server of a run that has come as far as a quiet, claimed Plex."""
    del before  # read first
    existing.begin({"plexburst_indexer_plex_command": existing.sandbox.state["indexer"]["plex_supervised"]})
    return existing


def index(
    begun: ExistingHost, patience: dict[str, float], *steps: Step, faults: dict[str, Any] | None = None, **given: Any
) -> Outcome:
    """Index the music, act in the middle of it, and check what must hold after every failure."""
    databases = databases_of(begun.sandbox.state["home"]["config_dir"])
    home = HomeState.read(databases)
    quick = {"plexburst_sections": ["Music"], "plexburst_skip_analysis": True, "plex_indexing_remount_tasks": ""}
    outcome = begun.index({**quick, "plexburst_profile_overrides": patience, **given}, *steps, faults=faults)
    assert outcome.rc != 0
    assert outcome.summary["status"] == "failed"
    assert outcome.summary["failure"]["phase"] == "index", told(outcome)
    assert (outcome.run_dir / "logs" / "indexer.tar.gz").stat().st_size > 0
    assert HomeState.read(databases) == home
    return outcome


def test_marks_without_vectors_are_no_complete_sonic_and_the_existing_host_is_as_it_was(
    existing: ExistingHost, before: Before, tmp_path: Path
) -> None:
    existing.sandbox.set_faults("plex-indexer", {"sonic_writes_only": "marks"})
    outcome = existing.run(
        tmp_path / "runs",
        {"plexburst_skip_analysis": True, "plexburst_profile_overrides": {"restarts": 0}},
    )
    assert outcome.rc != 0
    assert outcome.summary["status"] == "failed"
    assert ("sonic", "counter_mismatch") in verdicts(outcome)
    assert "blobs.db gained 0 vectors" in told(outcome), told(outcome)
    assert "plexburst_skip_sonic=true" in outcome.summary["failure"]["advice"]
    assert Before.of(existing) == before
    assert existing.sandbox.ledger() == []


def test_no_plex_pass_is_said_before_anything_is_scanned(begun: ExistingHost) -> None:
    outcome = index(begun, HASTY, faults={"no_plex_pass": True})
    assert "Plex Pass is off" in told(outcome)
    assert "plexburst_skip_sonic=true" in told(outcome)
    assert not (outcome.run_dir / "samples.jsonl").exists()


def test_a_disk_that_fills_up_stops_the_scan_and_names_the_setting(begun: ExistingHost) -> None:
    def fill() -> None:
        begun.sandbox.set_faults("machine", {"disk_free": 20 * MEBIBYTE})

    outcome = index(begun, SLOW_END, Step.at("scan", fill))
    free = [entry["sample"]["disk_free_bytes"] for entry in entries(outcome) if "sample" in entry]
    assert free[0] > 32 * MEBIBYTE
    assert free[-1] <= 20 * MEBIBYTE
    assert ("scan", "disk_full") in verdicts(outcome)
    assert "The disk of the database has only 20 MiB free" in told(outcome), told(outcome)
    assert "plexburst_volume_size_gb" in outcome.summary["failure"]["advice"]


def test_a_mount_that_is_gone_while_scanning_stops_the_scan(begun: ExistingHost) -> None:
    media = begun.machine.folder / "home" / "plexburst" / "media" / "0"
    gone = media.with_name("gone")

    def die() -> None:
        begun.sandbox.set_faults("plex-indexer", {"mount_dead": True})
        media.rename(gone)

    # Named, not healed: what is done about a dead mount is shown in test_watching.py.
    outcome = index(begun, {**SLOW_END, "mount_dead_after": 0.5}, Step.at("scan", die))
    gone.rename(media)
    assert "mount dead" in told(outcome), told(outcome)
    assert ("scan", "mount_dead") in verdicts(outcome)
    assert "No worker of Plex runs any more" in told(outcome)


def test_a_mount_that_is_too_slow_is_named(begun: ExistingHost) -> None:
    def slow() -> None:
        # Opening takes two seconds; what a transcoder has to read whole does not come at all.
        begun.sandbox.set_faults("plex-indexer", {"mount_slow": 3600})
        begun.sandbox.set_faults("machine", {"mount_slow": 2})

    outcome = index(
        begun,
        {**HASTY, "named_after": 3, "slow_read": 2},
        Step.at("sonic", slow),
        Step.named("mount_slow", lambda: begun.sandbox.set_faults("machine", {})),
        plex_indexing_probe_count=2,
    )
    assert ("sonic", "mount_slow") in verdicts(outcome)
    assert "The remote throttles or the connection is saturated" in told(outcome), told(outcome)


def test_a_database_that_stays_locked_is_named(begun: ExistingHost) -> None:
    outcome = index(
        begun,
        {**HASTY, "busy_after": 3},
        Step.at("sonic", lambda: begun.sandbox.set_faults("machine", {"database_locked": True})),
        Step.named("plex_busy_db", lambda: begun.sandbox.set_faults("machine", {})),
        # Each track takes a while, so that there is something to count whenever the database is locked.
        faults={"mount_slow": 2},
    )
    assert "plex busy db" in told(outcome), told(outcome)
    assert "second Plex or a backup" in told(outcome)
    counted = [entry["sample"]["counters"] for entry in entries(outcome) if "sample" in entry]
    assert any(counters is None for counters in counted)
    assert all(counters["items"] > 0 for counters in counted if counters is not None)


def test_a_plex_in_a_restart_loop_is_named(begun: ExistingHost) -> None:
    outcome = index(
        begun,
        {**SLOW_END, "restarts": 2},
        Step.at("scan", lambda: begun.sandbox.set_faults("plex-indexer", {"crash_after": 6})),
    )
    begun.wait_for_plex()
    assert "plex restarting" in told(outcome), told(outcome)
    assert "log" in outcome.summary["failure"]["advice"]
    assert "plex_restarting" in {reason for _, reason in verdicts(outcome)}
    pids = {entry["sample"]["server_pid"] for entry in entries(outcome) if "sample" in entry} - {None}
    assert len(pids) >= 3


def test_a_plex_that_ends_is_named(begun: ExistingHost) -> None:
    outcome = index(begun, {**SLOW_END, "silent_after": 5}, Step.at("scan", begun.end_plex))
    assert "has not answered" in told(outcome), told(outcome)
    assert ("scan", "plex_silent") in verdicts(outcome)


def test_what_passes_can_be_ended_or_can_only_be_listed_keeps_nothing_from_coming_home(
    begun: ExistingHost, before: Before
) -> None:
    """Six of them in one run, the run that met all the others.

    While it scans the music, the database is locked for seconds and a scheduled task of ten minutes comes along; the
    analysis shows nothing but a transcoder for longer than silence is borne; each photo takes longer than that too;
    Sonic begins with a refresh of all metadata (the 81,035 incident); and one track cannot be decoded at all.
    """
    box, state = begun.sandbox, begun.sandbox.state
    faults = {
        "analysis_in_transcoder": TRANSCODER_SECONDS,
        "photo_seconds": PHOTO_SECONDS,
        "refresh_before_sonic": 200,
    }

    def come() -> None:
        box.set_faults("plex-indexer", {**faults, "butler_due": {"DeepMediaAnalysis": 600}})
        box.set_faults("machine", {"database_locked": True})
        time.sleep(LOCKED_SECONDS)
        box.set_faults("machine", {})

    patience = {"named_after": 2, "stall_after": STALL_SECONDS, "quiet_for": 2, "max_failed_percent": 10, "restarts": 1}
    outcome = begun.index(
        {"plexburst_sections": ["Music", "Photos"], "plexburst_profile_overrides": patience},
        Step.at("scan", come),
        faults=faults,
    )
    assert outcome.rc == 0, outcome.output[-5000:]
    seen = verdicts(outcome)
    assert ("stabilise", "butler_interference") in seen
    assert ("sonic", "refresh_instead_of_sonic") in seen
    assert not {reason for _, reason in seen} & {"plex_busy_db", "timeout", "plex_silent", "counters_failed"}, seen
    assert "no_progress" not in {reason for _, reason in seen}
    assert "DeepMediaAnalysis" in outcome.output
    watched = [entry for entry in entries(outcome) if "sample" in entry]
    assert all(entry["sample"]["counters"]["items"] > 0 for entry in watched if entry["sample"]["counters"])
    # The transcoder worked alone for longer than silence would have been borne, and was left alone.
    alone = [
        entry["at"]
        for entry in watched
        if entry["task"] == "analyse"
        and {process["kind"] for process in entry["sample"]["processes"]} & {"scanner", "transcoder"} == {"transcoder"}
        and not entry["sample"]["activities"]
    ]
    assert alone[-1] - alone[0] > STALL_SECONDS
    # So did the scanner on the photos, all of one folder before any of them counts.
    scanning = [
        (entry["at"], entry["sample"]["counters"]["items"])
        for entry in watched
        if (entry["task"], entry["title"]) == ("scan", "Photos") and entry["sample"]["sections"]
    ]
    as_before = [at for at, items in scanning if items == scanning[0][1]]
    assert as_before[-1] - as_before[0] > STALL_SECONDS
    left = json.loads((outcome.run_dir / "sonic_left.json").read_text())["tracks"]
    assert [(track["file"], track["cause"]) for track in left] == [(f"/Media/{BROKEN}", "failed")]

    outcome = begun.recover()
    assert outcome.rc == 0, outcome.output[-5000:]
    summary = outcome.summary
    assert (summary["sonic"]["verdict"], summary["sonic"]["failed"]) == ("tracks_failing", 1)
    assert summary["sonic"]["after"] == summary["sonic"]["total"] - 1
    assert summary["status"] == "partial"
    after = HomeState.read(databases_of(state["home"]["config_dir"]))
    assert len(after.tracks - after.sonic_marks) == 1
    assert after.sonic_marks == after.sonic_blobs & after.tracks
    wanted = {file for file in files_of_remote(state) if file.split("/")[2] in ("Music", "Photos")}
    assert {file for file in wanted if not file.endswith((".nfo", ".txt"))} <= after.parts.keys()
    photos = next(section for section in summary["sections"] if section["title"] == "Photos")
    assert photos["analysed_after"] == photos["items_after"] > photos["items_before"]
    assert before.home.settings <= after.settings
    assert before.home.playlist_rows == after.playlist_rows
    assert home_preferences(state) == before.preferences
    assert begun.preferences() == before.owners
    assert box.devices() == before.devices
    assert box.ledger() == []
