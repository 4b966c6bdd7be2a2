"""An indexer that is lost for good in the middle of Sonic, and the run that goes on from its newest checkpoint."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.plexburst.core.plugins.module_utils.checkpoint import format as checkpoint_format
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.delta import chain

from sandbox.control import Sandbox
from sandbox.media import Sizes
from tests.playbooks.evidence import (
    BLOBS,
    LIBRARY,
    HomeState,
    Outcome,
    alive,
    connect,
    databases_of,
    files_of_remote,
    home_preferences,
    run_playbook,
)

pytestmark = pytest.mark.playbook

SMALL = Sizes(tracks=40, films=6, shows=1, episodes=2, photos=2)
EVERY = 4
SETTINGS = {
    "plexburst_sections": ["Music"],
    "plexburst_skip_analysis": True,
    "plexburst_checkpoint_minutes": 0,
    "plexburst_checkpoint_tracks": EVERY,
}

Blob = tuple[int, int, bytes]


def vectors(databases: Path) -> dict[int, Blob]:
    """Track → the row of its Sonic vector: id, time, content. A track that is analysed again gets another row."""
    with contextlib.closing(connect(databases / BLOBS)) as blobs:
        found = blobs.execute("SELECT linked_id, id, created_at, blob FROM blobs WHERE blob_type = 7").fetchall()
    return {track: (row, at, bytes(blob)) for track, row, at, blob in found}


class Loss(threading.Thread):
    """Ends the indexer's machine for good as soon as a checkpoint holds tracks that the run has analysed."""

    def __init__(self, sandbox: Sandbox, runs: Path) -> None:
        super().__init__(daemon=True)
        self.sandbox, self.place = sandbox, runs / "latest" / "snapshots" / "checkpoint"
        self.over = threading.Event()
        self.done = False

    def run(self) -> None:
        """Look until it is time."""
        while not self.over.wait(0.05):
            there = checkpoint_format.folders(self.place)
            if there and self._analysed(there[-1]):
                self.sandbox.set_faults("machine", {"vanish_after": 0.01})
                self.done = True
                return

    def _analysed(self, folder: Path) -> bool:
        base = json.loads((self.place.parent / "base" / "manifest.json").read_text())
        now = checkpoint_format.load(folder).delta.manifest
        return checkpoint_format.reached(now)["sonic_done"] > checkpoint_format.reached(base)["sonic_done"]


@dataclass(frozen=True)
class Story:
    """Two runs on one home; the first one's indexer is lost."""

    sandbox: Sandbox
    before: HomeState
    prefs: dict[str, Any]
    devices: list[dict[str, Any]]
    lost: Outcome
    lost_dir: Path
    lost_summary: dict[str, Any]
    between: HomeState
    between_prefs: dict[str, Any]
    between_ledger: list[dict[str, Any]]
    saved: dict[int, Blob]
    had: dict[int, Blob]
    again: Outcome
    after: HomeState
    has: dict[int, Blob]


def play(sandbox: Sandbox, runs: Path) -> Outcome:
    return run_playbook(sandbox.ansible_env(), runs, "-e", json.dumps(SETTINGS))


def watch_and_rate(databases: Path) -> None:
    """What a household does between two runs."""
    with contextlib.closing(sqlite3.connect(databases / LIBRARY, timeout=30)) as library:
        library.execute(
            "INSERT INTO metadata_item_views(account_id, guid, metadata_type, title, viewed_at) "
            "VALUES(1, 'seen-between-the-runs', 10, 'Seen', 1790000000)"
        )
        library.execute(
            "INSERT INTO metadata_item_settings(account_id, guid, rating, view_count, updated_at) "
            "VALUES(1, 'rated-between-the-runs', 8.0, 1, 1790000000)"
        )
        library.commit()


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    root = tmp_path_factory.mktemp("checkpoints")
    sandbox = Sandbox(root / "sandbox", sizes=SMALL, speed=0.25)
    sandbox.up()
    try:
        databases = databases_of(sandbox.state["home"]["config_dir"])
        runs = root / "runs"
        before, prefs, devices = HomeState.read(databases), home_preferences(sandbox.state), sandbox.devices()
        had = vectors(databases)
        loss = Loss(sandbox, runs)
        loss.start()
        lost = play(sandbox, runs)
        loss.over.set()
        loss.join(30)
        assert loss.done, lost.output[-4000:]
        sandbox.set_faults("machine", {})
        between, between_prefs, ledger = HomeState.read(databases), home_preferences(sandbox.state), sandbox.ledger()
        lost_dir = lost.run_dir
        made = [
            checkpoint_format.load(folder)
            for folder in checkpoint_format.folders(lost_dir / "snapshots" / "checkpoint")
        ]
        base = lost_dir / "snapshots" / "base"
        files = json.loads((base / "manifest.json").read_text())["files"]
        chain.apply(checkpoint_format.chain(made, made[-1], files), root / "saved", base)
        lost_summary = lost.summary
        watch_and_rate(databases)
        again = play(sandbox, runs)
        yield Story(
            sandbox,
            before,
            prefs,
            devices,
            lost,
            lost_dir,
            lost_summary,
            between,
            between_prefs,
            ledger,
            vectors(root / "saved"),
            had,
            again,
            HomeState.read(databases),
            vectors(databases),
        )
    finally:
        sandbox.reset()


def test_a_lost_indexer_fails_the_run_and_leaves_home_as_it_was(story: Story) -> None:
    assert story.lost.rc != 0
    assert story.lost_summary["status"] == "failed"
    assert story.between == story.before
    assert story.between_prefs == story.prefs
    assert alive(story.between_ledger) == []


def test_its_newest_checkpoint_is_kept_and_the_advice_says_so(story: Story) -> None:
    told = story.lost_summary["checkpoint"]
    assert told["kept"] is True
    assert told["made"] >= 2, "one after the scan, one within Sonic"
    assert f"Checkpoint {told['made']} of " in story.lost_summary["failure"]["advice"]
    assert "delta_sync.yml goes on from it" in story.lost_summary["failure"]["advice"]
    assert "downloaded to the controller" in story.lost.output
    assert story.saved.keys() > story.had.keys()


def test_the_next_run_goes_on_from_it_and_says_so_before_it_begins(story: Story) -> None:
    assert story.again.rc == 0, story.again.output[-4000:]
    summary = story.again.summary
    gained = len(story.saved) - len(story.had)
    said = f"Resumes from the checkpoint of run {story.lost_dir.name} of "
    assert said in story.again.output
    assert story.again.output.index(said) < story.again.output.index("provision")
    assert f"{gained} of " in story.again.output.partition(said)[2][:200]
    assert summary["plan"]["resume"]["tracks"] == gained
    assert summary["checkpoint"]["resumed_from"] == story.lost_dir.name
    assert summary["sonic"]["before"] == len(story.saved), "what was safe is not counted as this run's work"


def test_no_track_is_analysed_twice(story: Story) -> None:
    """A second analysis would leave another row, with another id, in blobs.db."""
    assert {track: story.has[track] for track in story.saved} == story.saved
    assert story.has.keys() > story.saved.keys(), "the rest was analysed by the second run"


def test_home_has_everything_and_what_it_did_between_the_runs(story: Story) -> None:
    music = {file for file in files_of_remote(story.sandbox.state) if file.startswith("/Media/Music/")}
    assert music <= {file for file, trashed in story.after.parts.items() if not trashed}
    assert story.after.tracks <= story.after.sonic_marks & story.after.sonic_blobs
    assert {row[1] for row in story.after.views - story.before.views} == {"seen-between-the-runs"}
    assert {row[1:3] for row in story.after.settings - story.before.settings} == {("rated-between-the-runs", 8.0)}
    assert story.before.views <= story.after.views
    assert story.before.settings <= story.after.settings
    assert story.after.sections == story.before.sections
    kept = {number: item for number, item in story.before.items.items() if number in story.after.items}
    assert kept == {number: story.after.items[number] for number in kept}
    assert len(kept) > len(story.before.items) * 0.9


def test_nothing_stays_behind(story: Story) -> None:
    assert alive(story.sandbox.ledger()) == []
    assert story.sandbox.devices() == story.devices
    assert home_preferences(story.sandbox.state) == story.prefs
    for run, names in ((story.lost_dir, ("checkpoint", "base")), (story.again.run_dir, ("checkpoint", "resume"))):
        assert not [name for name in names if (run / "snapshots" / name).exists()]
    told = json.loads((story.lost_dir / "summary.json").read_text())["checkpoint"]
    assert (told["kept"], told["resumed_by"]) == (False, [story.again.run_dir.name])
    assert story.again.summary["checkpoint"]["kept"] is False
