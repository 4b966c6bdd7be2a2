"""What home, the cloud and plex.tv really hold, read by code of its own: never through plexburst or its summary."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from tests import ansible_cache

REPO = Path(__file__).resolve().parents[2]
LIBRARY = "com.plexapp.plugins.library.db"
BLOBS = "com.plexapp.plugins.library.blobs.db"


def connect(path: Path) -> sqlite3.Connection:
    """Open a Plex database read-only; `icu_root` is stood in for, as stock SQLite has no such collation."""
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)
    db.create_collation("icu_root", lambda a, b: (a > b) - (a < b))
    return db


@dataclass(frozen=True)
class HomeState:
    """What a household would notice if it changed."""

    sections: dict[int, tuple[str, str]]
    items: dict[int, tuple[int, str, str]]
    settings: set[tuple[Any, ...]]
    views: set[tuple[Any, ...]]
    accounts: set[tuple[int, str]]
    playlists: dict[int, tuple[str, int]]
    playlist_rows: set[tuple[Any, ...]]
    parts: dict[str, bool]
    tracks: set[int]
    sonic_marks: set[int]
    sonic_blobs: set[int]

    @classmethod
    def read(cls, databases: Path) -> HomeState:
        """Read the pair below `databases`."""
        library, blobs = connect(databases / LIBRARY), connect(databases / BLOBS)
        try:

            def rows(sql: str) -> list[tuple[Any, ...]]:
                return library.execute(sql).fetchall()

            generators = (
                rows("SELECT playlist_id, metadata_item_id FROM play_queue_generators")
                if library.execute("SELECT 1 FROM sqlite_master WHERE name='play_queue_generators'").fetchone()
                else []
            )
            return cls(
                sections={i: (name, uuid) for i, name, uuid in rows("SELECT id, name, uuid FROM library_sections")},
                items={
                    i: (t, guid, title)
                    for i, t, guid, title in rows(
                        "SELECT id, metadata_type, guid, title FROM metadata_items WHERE deleted_at IS NULL"
                    )
                },
                settings=set(
                    rows(
                        "SELECT account_id, guid, rating, view_offset, view_count, last_viewed_at, skip_count"
                        " FROM metadata_item_settings"
                    )
                ),
                views=set(rows("SELECT account_id, guid, metadata_type, title, viewed_at FROM metadata_item_views")),
                accounts=set(rows("SELECT id, name FROM accounts")),
                playlists={
                    i: (title, n)
                    for i, title, n in rows(
                        "SELECT id, title, media_item_count FROM metadata_items WHERE metadata_type = 15"
                    )
                },
                playlist_rows=set(generators),
                parts={
                    file: deleted is not None
                    for file, deleted in rows("SELECT file, deleted_at FROM media_parts WHERE file <> ''")
                },
                tracks={
                    i for (i,) in rows("SELECT id FROM metadata_items WHERE metadata_type = 10 AND deleted_at IS NULL")
                },
                sonic_marks={
                    i
                    for (i,) in rows(
                        "SELECT id FROM metadata_items"
                        " WHERE metadata_type = 10 AND extra_data LIKE '%musicAnalysisVersion%'"
                    )
                },
                sonic_blobs={
                    i
                    for (i,) in blobs.execute(
                        "SELECT linked_id FROM blobs WHERE linked_type = 'metadata_item' AND blob_type = 7"
                    ).fetchall()
                },
            )
        finally:
            library.close()
            blobs.close()


def databases_of(config_dir: str) -> Path:
    """Where a Plex configuration folder keeps its databases."""
    return Path(config_dir) / "Library" / "Application Support" / "Plex Media Server" / "Plug-in Support" / "Databases"


def files_of_remote(state: dict[str, Any]) -> set[str]:
    """Every media file that the S3 server holds, as home's Plex would name it."""
    root = Path(state["home"]["volumes"][0]["host"])
    # Links are what home's merged view adds.
    return {f"/Media/{p.relative_to(root).as_posix()}" for p in root.rglob("*") if p.is_file() and not p.is_symlink()}


def get_json(url: str) -> Any:
    """GET a JSON document of a simulator."""
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310  (a simulator on loopback)
        return json.load(answer)


def ask_home(state: dict[str, Any], path: str, method: str = "GET") -> ElementTree.Element:
    """What home's Plex answers its owner; an empty element where it answers nothing."""
    with urllib.request.urlopen(_request(state, path, method), timeout=10) as answer:  # noqa: S310  (a simulator on loopback)
        return ElementTree.fromstring(answer.read() or b"<nothing/>")  # noqa: S314


def ask_home_for_bytes(state: dict[str, Any], path: str) -> bytes:
    """A file that home's Plex gives its owner; nothing where it says 404."""
    try:
        with urllib.request.urlopen(_request(state, path, "GET"), timeout=10) as answer:  # noqa: S310  (see above)
            return bytes(answer.read())
    except urllib.error.HTTPError as error:
        if error.code != 404:
            raise
        return b""


def _request(state: dict[str, Any], path: str, method: str) -> urllib.request.Request:
    home = state["home"]
    support = databases_of(home["config_dir"]).parents[1]
    token = ElementTree.parse(support / "Preferences.xml").getroot().attrib["PlexOnlineToken"]  # noqa: S314  (our own file)
    return urllib.request.Request(
        f"http://127.0.0.1:{home['plex_port']}{path}", headers={"X-Plex-Token": token}, method=method
    )


def home_preferences(state: dict[str, Any]) -> dict[str, str]:
    """Every preference of home's Plex, as its own API gives it."""
    return {setting.attrib["id"]: setting.attrib["value"] for setting in ask_home(state, "/:/prefs")}


def alive(ledger: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the cloud would still bill."""
    return [row for row in ledger if row["ended_at"] is None]


@dataclass(frozen=True)
class Outcome:
    """A finished playbook."""

    rc: int
    output: str
    runs: Path

    @property
    def run_dir(self) -> Path:
        """The newest run's folder."""
        return (self.runs / "latest").resolve()

    @property
    def summary(self) -> dict[str, Any]:
        """The newest run's summary.json."""
        return json.loads((self.run_dir / "summary.json").read_text())


def run_playbook(
    env: dict[str, str],
    runs: Path,
    *arguments: str,
    playbook: str = "delta_sync.yml",
    inventory: Path = REPO / "inventory" / "sandbox",
    seconds: float = 900,
) -> Outcome:
    """Run a top-level playbook from `/`, without the project's ansible.cfg; on inventory/sandbox unless told."""
    command = [
        str(Path(sys.executable).parent / "ansible-playbook"),
        str(REPO / playbook),
        "-i",
        str(inventory),
        "-e",
        f"plexburst_runs_dir={runs}",
        *arguments,
    ]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("ANSIBLE_", "SCW_"))}
    environment |= {**ansible_cache.environment(), **env}
    done = subprocess.run(
        command,
        cwd="/",
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds,
        check=False,
    )
    return Outcome(done.returncode, done.stdout, runs)


def entries(outcome: Outcome) -> list[dict[str, Any]]:
    """What the run recorded while it watched: samples, verdicts and missed samples, in order."""
    lines = (outcome.run_dir / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def verdicts(outcome: Outcome) -> set[tuple[str, str]]:
    """(task, reason) of every verdict in the run's samples."""
    return {(entry["task"], entry["verdict"].get("reason", "")) for entry in entries(outcome) if "verdict" in entry}


def told(outcome: Outcome) -> str:
    """What the user reads about the failure."""
    return json.dumps(outcome.summary["failure"])


@dataclass(frozen=True)
class Step:
    """Something that happens in the middle of a run: once a line of its samples holds every one of `words`."""

    words: tuple[str, ...]
    act: Callable[[], None]

    @classmethod
    def at(cls, task: str, act: Callable[[], None]) -> Step:
        """With the first sample of a task."""
        return cls((f'"task":"{task}"', '"sample":'), act)

    @classmethod
    def named(cls, reason: str, act: Callable[[], None]) -> Step:
        """With the verdict of that reason."""
        return cls((f'"reason":"{reason}"', '"verdict":'), act)


class Meanwhile(threading.Thread):
    """Does one step after the other while a run goes on; `done` is how many were done."""

    def __init__(self, runs: Path, steps: tuple[Step, ...]) -> None:
        super().__init__(daemon=True)
        self.runs, self.steps = runs, steps
        self.done = 0
        self.over = threading.Event()

    def run(self) -> None:
        """Wait for each step's words in turn."""
        for step in self.steps:
            while not self._seen(step):
                if self.over.wait(0.1):
                    return
            step.act()
            self.done += 1

    def _seen(self, step: Step) -> bool:
        samples = self.runs / "latest" / "samples.jsonl"
        if not samples.exists():
            return False
        return any(
            all(word in line for word in step.words) for line in samples.read_text(encoding="utf-8").splitlines()
        )

    def __enter__(self) -> Meanwhile:
        if self.steps:
            self.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.over.set()
        if self.steps:
            self.join(timeout=120)
