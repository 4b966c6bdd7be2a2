"""Troubles that pass or that a run can end by itself: it goes on to success, and says what happened."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.control import Sandbox
from sandbox.media import Sizes
from tests.sandbox.evidence import (
    HomeState,
    Meanwhile,
    Step,
    alive,
    databases_of,
    entries,
    files_of_remote,
    home_preferences,
    run_playbook,
    verdicts,
)

pytestmark = pytest.mark.playbook

LOCKED_SECONDS = 5.0
TRANSCODER_SECONDS = 20.0
STALL_SECONDS = 4.0


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    """A small one."""
    box = Sandbox(tmp_path / "sandbox", sizes=Sizes(tracks=12, films=6, shows=1, episodes=2, photos=2), speed=0.1)
    box.up()
    try:
        yield box
    finally:
        box.reset()


def test_what_passes_or_can_be_ended_ends_in_success(sandbox: Sandbox, tmp_path: Path) -> None:
    """Four of them in one run.

    While it scans, the database is locked for seconds and a scheduled task of ten minutes comes along; the analysis
    shows nothing but a transcoder for longer than silence is borne; Sonic begins with a refresh of all metadata (the
    81,035 incident).
    """
    state = sandbox.state
    databases = databases_of(state["home"]["config_dir"])
    before, devices, prefs = HomeState.read(databases), sandbox.devices(), home_preferences(state)
    sandbox.set_faults("plex-indexer", {"analysis_in_transcoder": TRANSCODER_SECONDS, "refresh_before_sonic": 200})

    def come() -> None:
        faults = sandbox.faults()["plex-indexer"]
        sandbox.set_faults("plex-indexer", {**faults, "butler_due": {"DeepMediaAnalysis": 600}})
        sandbox.set_faults("machine", {"database_locked": True})
        time.sleep(LOCKED_SECONDS)
        sandbox.set_faults("machine", {})

    given = {
        "plexburst_sections": ["Music"],
        "plex_index_profile_overrides": {"named_after": 2, "stall_after": STALL_SECONDS, "quiet_for": 2},
    }
    with Meanwhile(tmp_path / "runs", (Step.at("scan", come),)) as meanwhile:
        outcome = run_playbook(sandbox.ansible_env(), tmp_path / "runs", "-e", json.dumps(given))
    assert outcome.rc == 0, outcome.output[-5000:]
    assert meanwhile.done == 1
    assert outcome.summary["status"] == "succeeded"
    seen = verdicts(outcome)
    assert ("stabilise", "butler_interference") in seen
    assert ("sonic", "refresh_instead_of_sonic") in seen
    assert not {reason for _, reason in seen} & {"plex_busy_db", "timeout", "plex_silent", "counters_failed"}, seen
    assert ("analyse", "no_progress") not in seen
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
    after = HomeState.read(databases)
    assert after.tracks == after.sonic_marks == after.sonic_blobs & after.tracks
    assert {file for file in files_of_remote(state) if "/Music/" in file} <= after.parts.keys()
    assert before.settings <= after.settings
    assert before.playlist_rows == after.playlist_rows
    assert home_preferences(state) == prefs
    assert alive(sandbox.ledger()) == []
    assert sandbox.devices() == devices
