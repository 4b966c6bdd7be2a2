"""What can happen while Plex indexes, a whole playbook run each: the right verdict, no loss, nothing left behind."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox.control import Sandbox
from sandbox.media import Sizes
from tests.sandbox.evidence import HomeState, Outcome, alive, databases_of, home_preferences, run_playbook

pytestmark = pytest.mark.playbook

SMALL = Sizes(tracks=12, films=6, shows=1, episodes=2, photos=2)
HASTY: dict[str, float] = {"named_after": 2, "stall_after": 4, "restarts": 1, "start_within": 4, "silent_after": 5}
SLOW_END = {**HASTY, "quiet_for": 6, "mount_dead_after": 0.5}
"""The scan of a small library is over in a moment: what happens then must fall into the time it is watched."""


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """Small, with a Plex that is slow enough to be watched."""
    box = Sandbox(tmp_path_factory.mktemp("watching") / "sandbox", sizes=SMALL, speed=0.1)
    box.up()
    try:
        yield box
    finally:
        box.reset()


class When(threading.Thread):
    """Does something once, as soon as the run has recorded a sample of a task."""

    def __init__(self, runs: Path, task: str, act: Callable[[], None]) -> None:
        super().__init__(daemon=True)
        self.runs, self.task, self.act = runs, task, act
        self.done = False
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.1):
            samples = self.runs / "latest" / "samples.jsonl"
            if samples.exists() and f'"task":"{self.task}"' in samples.read_text(encoding="utf-8"):
                self.act()
                self.done = True
                return


def judge(
    sandbox: Sandbox, runs: Path, patience: dict[str, float], task: str = "", act: Callable[[], None] = lambda: None
) -> Outcome:
    """Run, act in the middle of it, and check what must hold after every failure."""
    databases = databases_of(sandbox.state["home"]["config_dir"])
    before, devices, prefs = HomeState.read(databases), sandbox.devices(), home_preferences(sandbox.state)
    when = When(runs, task, act)
    quick = {"plexburst_sections": ["Music"], "plexburst_skip_analysis": True, "plex_index_profile_overrides": patience}
    if task:
        when.start()
    try:
        outcome = run_playbook(sandbox.ansible_env(), runs, "-e", json.dumps(quick))
    finally:
        when.over.set()
        if task:
            when.join(timeout=120)
        sandbox.set_faults("plex-indexer", {})
    assert when.done or not task, outcome.output[-3000:]
    assert outcome.rc != 0
    assert outcome.summary["status"] == "failed"
    assert alive(sandbox.ledger()) == []
    assert sandbox.devices() == devices
    assert HomeState.read(databases) == before
    assert home_preferences(sandbox.state) == prefs
    with urllib.request.urlopen(
        f"http://127.0.0.1:{sandbox.state['home']['plex_port']}/identity", timeout=10
    ) as answer:
        assert b'claimed="1"' in answer.read()
    return outcome


def told(outcome: Outcome) -> str:
    """What the user reads about the failure."""
    return json.dumps(outcome.summary["failure"])


def verdicts(outcome: Outcome) -> set[tuple[str, str]]:
    """(task, reason) of every verdict in the run's samples."""
    lines = (outcome.run_dir / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    entries: list[dict[str, Any]] = [json.loads(line) for line in lines]
    return {(entry["task"], entry["verdict"].get("reason", "")) for entry in entries if "verdict" in entry}


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

    outcome = judge(sandbox, tmp_path / "runs", HASTY, "sonic", look)
    assert "No track got Sonic data" in told(outcome)
    assert "butler, asap, section, albums" in told(outcome)
    assert ("sonic", "no_progress") in verdicts(outcome)
    status, elsewhere = seen
    assert status.rc == 0, status.output
    assert "sonic Music" in status.output
    assert "readable" in status.output
    assert "sonic Music" in elsewhere.output or "Permission denied" in elsewhere.output, elsewhere.output
    assert "is not among those" not in elsewhere.output
    assert "Host key verification failed" not in elsewhere.output


def test_a_mount_that_dies_while_scanning_stops_the_scan(sandbox: Sandbox, tmp_path: Path) -> None:
    def die() -> None:
        sandbox.set_faults("plex-indexer", {"mount_dead": True})
        (media,) = (Path(sandbox.dir) / "machines").glob("*/home/plexburst/media/0")
        media.rename(media.with_name("gone"))

    outcome = judge(sandbox, tmp_path / "runs", SLOW_END, "scan", die)
    assert "mount dead" in told(outcome), told(outcome)
    assert ("scan", "mount_dead") in verdicts(outcome)
    assert "No worker of Plex runs any more" in told(outcome)


def test_a_plex_that_crashes_is_named(sandbox: Sandbox, tmp_path: Path) -> None:
    outcome = judge(
        sandbox, tmp_path / "runs", SLOW_END, "scan", lambda: sandbox.set_faults("plex-indexer", {"crash_after": 0})
    )
    assert "has not answered" in told(outcome), told(outcome)
    assert ("scan", "plex_silent") in verdicts(outcome)


def test_no_plex_pass_is_said_before_anything_is_scanned(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.set_faults("plex-indexer", {"no_plex_pass": True})
    began = time.monotonic()
    outcome = judge(sandbox, tmp_path / "runs", HASTY)
    assert "Plex Pass is off" in told(outcome)
    assert "plexburst_skip_sonic=true" in told(outcome)
    assert not (outcome.run_dir / "samples.jsonl").exists()
    assert time.monotonic() - began < 180
