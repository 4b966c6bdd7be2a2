"""A household that goes on living while the indexer works: everything it did is there afterwards, with the new
items."""

from __future__ import annotations

import contextlib
import json
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from sandbox.control import Sandbox
from sandbox.plex import database
from tests.sandbox.evidence import LIBRARY, HomeState, Outcome, databases_of, files_of_remote, run_playbook

pytestmark = pytest.mark.playbook
# Home's Plex is stopped for the exchange only.
DOWN_SECONDS = 15.0


class Household(threading.Thread):
    """Watches, rates, edits a playlist, makes another one, and deletes a film, while the indexer works."""

    def __init__(self, sandbox: Sandbox, runs: Path) -> None:
        super().__init__(daemon=True)
        home = sandbox.state["home"]
        self.databases, self.runs, self.over = databases_of(home["config_dir"]), runs, threading.Event()
        self.url = f"http://127.0.0.1:{home['plex_port']}"
        preferences = self.databases.parents[1] / "Preferences.xml"
        self.token = ElementTree.parse(preferences).getroot().attrib["PlexOnlineToken"]  # noqa: S314  (our own file)
        self.done = False
        self.tracks: list[int] = []
        self.deleted = 0

    def run(self) -> None:
        while not self.over.wait(0.3):
            events = self.runs / "latest" / "events.jsonl"
            if events.exists() and '"index"' in events.read_text():
                self.live()
                self.done = True
                return

    def ask(self, path: str, method: str = "GET") -> None:
        headers = {"X-Plex-Token": self.token}
        request = urllib.request.Request(self.url + path, headers=headers, method=method)  # noqa: S310
        with urllib.request.urlopen(request, timeout=30):  # noqa: S310  (see above)
            pass

    def live(self) -> None:
        state = HomeState.read(self.databases)
        self.tracks = sorted(state.tracks)[:3]
        first, second, third = self.tracks
        self.ask(f"/:/scrobble?key={first}&identifier=com.plexapp.plugins.library")
        self.ask(f"/:/rate?key={second}&rating=9&identifier=com.plexapp.plugins.library")
        playlist = min(state.playlists)
        # A film whose files stay: only its owner's wish takes it away.
        self.deleted = next(item for item, (kind, _, _) in sorted(state.items.items()) if kind == 1)
        changes: list[tuple[str, tuple[Any, ...]]] = [
            (
                (
                    "INSERT INTO play_queue_generators(playlist_id, metadata_item_id, created_at, updated_at)"
                    " VALUES(?, ?, 1, 1)"
                ),
                (playlist, third),
            ),
            ("UPDATE metadata_items SET title='Renamed at home' WHERE id=?", (playlist,)),
            (
                "DELETE FROM media_parts WHERE media_item_id IN (SELECT id FROM media_items WHERE metadata_item_id=?)",
                (self.deleted,),
            ),
            ("DELETE FROM media_items WHERE metadata_item_id=?", (self.deleted,)),
            ("DELETE FROM metadata_items WHERE id=?", (self.deleted,)),
        ]
        with contextlib.closing(database.connect(self.databases / LIBRARY, set_up=False)) as library:
            library.execute("BEGIN IMMEDIATE")
            for sql, values in changes:
                library.execute(sql, values)
            library.execute("COMMIT")


@pytest.fixture(scope="module")
def story(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Sandbox, Household, HomeState, HomeState, Outcome]]:
    root = tmp_path_factory.mktemp("household")
    sandbox = Sandbox(root / "sandbox")
    sandbox.up()
    try:
        databases = databases_of(sandbox.state["home"]["config_dir"])
        before = HomeState.read(databases)
        household = Household(sandbox, root / "runs")
        household.start()
        outcome = run_playbook(sandbox.ansible_env(), root / "runs", seconds=1500)
        household.over.set()
        household.join(30)
        assert household.done, outcome.output[-4000:]
        yield sandbox, household, before, HomeState.read(databases), outcome
    finally:
        sandbox.down()


Story = tuple[Sandbox, Household, HomeState, HomeState, Outcome]


def test_the_run_succeeds_although_home_changed(story: Story) -> None:
    *_, outcome = story
    assert outcome.rc == 0, outcome.output[-4000:]
    assert outcome.summary["home"]["installed"] is True
    assert outcome.summary["home"]["watch_state"]["kept"] >= 2


def test_what_the_household_did_is_there(story: Story) -> None:
    _, household, before, after, _ = story
    guids = {item: guid for item, (_, guid, _) in before.items.items()}
    first, second, third = household.tracks
    assert len(after.views) == len(before.views) + 1
    assert any(row[1] == guids[first] and (row[4] or 0) >= 1 for row in after.settings)
    assert any(row[1] == guids[second] and row[2] == 9 for row in after.settings)
    playlist = min(before.playlists)
    assert after.playlists[playlist][0] == "Renamed at home"
    assert (playlist, third) in after.playlist_rows
    assert before.playlist_rows <= after.playlist_rows


def test_what_the_household_deleted_does_not_come_back_by_the_merge(story: Story) -> None:
    _, household, _, after, _ = story
    assert household.deleted not in after.items


def test_the_indexers_new_items_are_there_too(story: Story) -> None:
    sandbox, _, before, after, _ = story
    gone = {file for file in before.parts if file not in after.parts}
    media = {file for file in files_of_remote(sandbox.state) if not file.endswith((".nfo", ".txt"))}
    assert media - after.parts.keys() == gone & media
    assert after.tracks <= after.sonic_marks
    # Some of the remote's files are gone: their items are in the trash, and under their old ids.
    kept = {item: row for item, row in before.items.items() if item in after.items and row[0] != 15}
    assert kept == {item: after.items[item] for item in kept}
    assert len(kept) > len(before.items) * 0.9
    assert any(item > 250_000 for item in after.items), "the indexer numbered its items below the gap"


def test_every_conflict_is_listed_in_a_private_file(story: Story) -> None:
    *_, outcome = story
    listed = outcome.run_dir / "conflicts.jsonl"
    assert listed.stat().st_mode & 0o777 == 0o600
    entries: list[dict[str, Any]] = [json.loads(line) for line in listed.read_text().splitlines()]
    assert all(entry["table"] and entry["kept"] for entry in entries)
