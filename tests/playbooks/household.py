"""A household that goes on living while the indexer works."""

from __future__ import annotations

import contextlib
import threading
import urllib.request
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from sandbox.control import Sandbox
from sandbox.plex import database
from tests.playbooks.evidence import LIBRARY, HomeState, databases_of

GRANDMOTHER = (4711, "grandmother")


class Household(threading.Thread):
    """Watches, rates, edits a playlist, takes an account in, and deletes a film and a track that waits for Sonic, while
    the indexer works."""

    def __init__(self, sandbox: Sandbox, runs: Path) -> None:
        super().__init__(daemon=True)
        home = sandbox.state["home"]
        self.databases, self.runs, self.over = databases_of(home["config_dir"]), runs, threading.Event()
        self.url = f"http://127.0.0.1:{home['plex_port']}"
        preferences = self.databases.parents[1] / "Preferences.xml"
        self.token = ElementTree.parse(preferences).getroot().attrib["PlexOnlineToken"]  # noqa: S314  (our own file)
        self.done = False
        self.tracks: list[int] = []
        self.deleted: set[int] = set()

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
        # Their files stay: only their owner's wish takes them away. The indexer works on the track meanwhile.
        film = next(item for item, (kind, _, _) in sorted(state.items.items()) if kind == 1)
        self.deleted = {film, max(state.tracks - state.sonic_marks - set(self.tracks))}
        changes: list[tuple[str, tuple[Any, ...]]] = [
            (
                (
                    "INSERT INTO play_queue_generators(playlist_id, metadata_item_id, created_at, updated_at)"
                    " VALUES(?, ?, 1, 1)"
                ),
                (playlist, third),
            ),
            ("UPDATE metadata_items SET title='Renamed at home' WHERE id=?", (playlist,)),
            ("INSERT INTO accounts(id, name) VALUES (?, ?)", GRANDMOTHER),
        ]
        changes += [
            (sql, (item,))
            for item in self.deleted
            for sql in (
                "DELETE FROM media_parts WHERE media_item_id IN (SELECT id FROM media_items WHERE metadata_item_id=?)",
                "DELETE FROM media_items WHERE metadata_item_id=?",
                "DELETE FROM metadata_items WHERE id=?",
            )
        ]
        with contextlib.closing(database.connect(self.databases / LIBRARY, set_up=False)) as library:
            library.execute("BEGIN IMMEDIATE")
            for sql, values in changes:
                library.execute(sql, values)
            library.execute("COMMIT")
