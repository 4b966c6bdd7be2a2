"""A whole delta sync by way of the relay while home goes on living: judged by bucket, ledger and home.

And recover.yml going on from it.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.plexburst.core.plugins.module_utils.transfer import relay_config
from ansible_collections.plexburst.core.plugins.module_utils.transfer.relay import Line, Relay

from sandbox import s3
from sandbox.control import Sandbox
from sandbox.media import Sizes
from tests.playbooks.evidence import (
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
from tests.playbooks.household import GRANDMOTHER, Household

pytestmark = pytest.mark.playbook

SMALL = Sizes(tracks=12, films=6, shows=1, episodes=2, photos=2)
PASSPHRASE = "correct horse battery staple"
BUCKET = "plexburst-relay"


class Onlooker(threading.Thread):
    """Somebody who sees the bucket's objects while a run goes on: `seen` holds each one's name and content."""

    def __init__(self, bucket: Path) -> None:
        super().__init__(daemon=True)
        self.bucket = bucket
        self.seen: dict[str, bytes] = {}
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.05):
            for path in self.bucket.rglob("*"):
                try:
                    content = path.read_bytes() if path.is_file() else b""
                except FileNotFoundError:
                    continue  # removed in the meantime
                name = str(path.relative_to(self.bucket))
                if len(content) > len(self.seen.get(name, b"")):
                    self.seen[name] = content


@dataclass(frozen=True)
class Story:
    """One sandbox and the run that was made on it."""

    sandbox: Sandbox
    settings: dict[str, Any]
    household: Household
    before: HomeState
    preferences: dict[str, str]
    run: Outcome
    after: HomeState
    seen: dict[str, bytes]
    left: list[Path]

    @property
    def bucket(self) -> Path:
        return bucket_of(self.sandbox)


def bucket_of(sandbox: Sandbox) -> Path:
    media = Path(sandbox.state["home"]["volumes"][0]["host"])
    return media.parent / BUCKET


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    root = tmp_path_factory.mktemp("relay")
    password = root / "passphrase"
    password.write_text(f"{PASSPHRASE}\n")
    password.chmod(0o600)
    settings = {
        "plexburst_skip_analysis": True,
        "plexburst_transfer": "s3",
        "plexburst_transfer_remote": f"{s3.REMOTE}:{BUCKET}",
        "plexburst_transfer_password_file": str(password),
    }
    sandbox = Sandbox(root / "sandbox", sizes=SMALL, speed=0.02)
    sandbox.up()
    try:
        databases = databases_of(sandbox.state["home"]["config_dir"])
        before, preferences = HomeState.read(databases), home_preferences(sandbox.state)
        onlooker, household = Onlooker(bucket_of(sandbox)), Household(sandbox, root / "runs")
        onlooker.start()
        household.start()
        run = run_playbook(sandbox.ansible_env(), root / "runs", "-e", json.dumps(settings))
        for watcher in (onlooker, household):
            watcher.over.set()
            watcher.join(30)
        assert household.done, run.output[-4000:]
        after, left = HomeState.read(databases), files(bucket_of(sandbox))
        yield Story(sandbox, settings, household, before, preferences, run, after, onlooker.seen, left)
    finally:
        sandbox.reset()


def test_the_run_succeeds_and_home_has_the_new_database(story: Story) -> None:
    assert story.run.rc == 0, story.run.output[-4000:]
    summary = story.run.summary
    assert summary["status"] == "succeeded"
    assert summary["home"]["installed"] is True
    assert summary["cloud"]["leftovers"] == []
    assert alive(story.sandbox.ledger()) == []
    assert (story.run.run_dir / "logs" / "indexer.tar.gz").stat().st_size > 0
    told = {phase["name"]: phase["status"] for phase in summary["phases"]}
    assert (told["upload_to_relay"], told["download_from_relay"]) == ("succeeded", "succeeded")


def test_what_the_household_did_is_there_and_home_is_resumed(story: Story) -> None:
    before, after = story.before, story.after
    guids = {item: guid for item, (_, guid, _) in before.items.items()}
    first, second, third = story.household.tracks
    assert len(after.views) == len(before.views) + 1
    assert any(row[1] == guids[first] and (row[4] or 0) >= 1 for row in after.settings)
    assert any(row[1] == guids[second] and row[2] == 9 for row in after.settings)
    playlist = min(before.playlists)
    assert after.playlists[playlist][0] == "Renamed at home"
    assert (playlist, third) in after.playlist_rows
    assert before.playlist_rows <= after.playlist_rows
    assert after.accounts == before.accounts | {GRANDMOTHER}
    assert story.run.summary["home"]["watch_state"]["kept"] >= 2
    assert home_preferences(story.sandbox.state) == story.preferences


def test_what_the_household_deleted_does_not_come_back_by_the_merge(story: Story) -> None:
    assert len(story.household.deleted) == 2
    assert story.household.deleted & story.after.items.keys() == set()


def test_the_indexers_new_items_are_there_too(story: Story) -> None:
    before, after = story.before, story.after
    gone = {file for file in before.parts if file not in after.parts}
    media = {file for file in files_of_remote(story.sandbox.state) if not file.endswith((".nfo", ".txt"))}
    assert media - after.parts.keys() == gone & media
    assert after.tracks <= after.sonic_marks
    # Some of the remote's files are gone: their items are in the trash, and under their old ids.
    kept = {item: row for item, row in before.items.items() if item in after.items and row[0] != 15}
    assert kept == {item: after.items[item] for item in kept}
    with contextlib.closing(connect(databases_of(story.sandbox.state["home"]["config_dir"]) / LIBRARY)) as library:
        trash = {row[0] for row in library.execute("SELECT id FROM metadata_items WHERE deleted_at IS NOT NULL")}
    assert before.items.keys() - after.items.keys() - trash == story.household.deleted
    assert any(item > 250_000 for item in after.items), "the indexer numbered its items below the gap"


def test_every_conflict_is_listed_in_a_private_file(story: Story) -> None:
    listed = story.run.run_dir / "conflicts.jsonl"
    assert listed.stat().st_mode & 0o777 == 0o600
    entries: list[dict[str, Any]] = [json.loads(line) for line in listed.read_text().splitlines()]
    assert len(entries) == story.run.summary["home"]["watch_state"]["conflicts"]
    (track,) = story.household.deleted - {item for item, row in story.before.items.items() if row[0] == 1}
    of_track = [entry for entry in entries if (entry["table"], entry["id"]) == ("metadata_items", track)]
    assert [(entry["what"], entry["kept"]) for entry in of_track] == [
        ("deleted at home, changed by the indexer", "home's")
    ]


def test_the_instance_was_paid_for_neither_the_way_out_nor_the_way_home(story: Story) -> None:
    server = next(row for row in story.sandbox.ledger() if row["kind"] == "server")
    times = {phase["name"]: datetime.fromisoformat(phase["started_at"]) for phase in story.run.summary["phases"]}
    born, gone = (datetime.fromisoformat(server[key]) for key in ("created_at", "ended_at"))
    assert times["upload_to_relay"] < born
    assert gone < times["download_from_relay"]
    snapshots = story.run.run_dir / "snapshots"
    arrived = [path.stat().st_ctime for path in (snapshots / "result").iterdir()]
    arrived += [path.stat().st_ctime for path in files(snapshots / "delta")]
    assert len(arrived) > 3
    assert min(arrived) > gone.timestamp(), "nothing of the result was on the controller while the instance lived"


def test_the_bucket_held_nothing_but_ciphertext_and_holds_nothing(story: Story) -> None:
    whole = {name: content for name, content in story.seen.items() if content}
    # A description and at least a part of each database, out and home; and the probe of the preflight, if it was seen.
    assert len(whole) >= 5
    titles = {title.encode() for _type, _guid, title in story.before.items.values() if len(title) > 5}
    plain = (b"SQLite format 3", b"sha256", b"library_sections", b"metadata_items", PASSPHRASE.encode(), *titles)
    for name, content in whole.items():
        assert content.startswith(b"RCLONE\x00\x00"[: len(content)]), name
        assert not any(words in content for words in plain), name
        assert not any(words in name for words in ("delta", "library", "result", "base", story.run.summary["run_id"]))
    assert story.left == []


def test_neither_console_nor_run_folder_nor_argv_nor_disk_of_anybody_has_the_passphrase(story: Story) -> None:
    assert PASSPHRASE not in story.run.output
    for path in files(story.run.run_dir):
        content = path.read_bytes()
        assert PASSPHRASE.encode() not in content, path
        assert b"plexburst-relay-crypt]" not in content, path
    machines = story.sandbox.dir / "machines"
    assert not [path for path in files(machines) if path.suffix == ".conf" and b"relay-crypt" in path.read_bytes()]


def test_recover_goes_on_from_the_relay_without_an_indexer(story: Story) -> None:
    """As after a run whose controller could not fetch: the result waits in the bucket, nothing of it is here."""
    snapshots, env = story.run.run_dir / "snapshots", story.sandbox.ansible_env()
    run_id = story.run.summary["run_id"]
    nothing = run_playbook(env, story.run.runs, "-e", json.dumps(story.settings), playbook="recover.yml")
    assert nothing.rc != 0
    assert f"The indexer of run {run_id} was not found" in nothing.output

    put_back(story, snapshots / "delta", run_id)
    shutil.rmtree(snapshots / "result")
    shutil.rmtree(snapshots / "delta")
    assert len(files(story.bucket)) >= 3
    count = len(story.sandbox.ledger())
    more = {**story.settings, "plexburst_run": run_id, "plexburst_install": "false"}
    recovered = run_playbook(env, story.run.runs, "-e", json.dumps(more), playbook="recover.yml")
    assert recovered.rc == 0, recovered.output[-4000:]
    assert (snapshots / "result" / "manifest.json").is_file()
    assert files(story.bucket) == []
    assert len(story.sandbox.ledger()) == count, "no indexer was made"


def put_back(story: Story, delta: Path, run_id: str) -> None:
    """Put the run's result into the relay again, as the indexer did."""
    remote = story.settings["plexburst_transfer_remote"]
    text = Path(story.sandbox.state["s3"]["rclone_config"]).read_text()
    rclone = str(s3.rclone_binary())
    config = story.sandbox.dir / "relay.conf"
    sections = relay_config.relay_sections(text, remote)
    config.write_text(relay_config.relay_config(sections, remote, relay_config.obscured(rclone, PASSPHRASE)))
    Relay(rclone, config).put(Line(print), delta, run_id, "result")
