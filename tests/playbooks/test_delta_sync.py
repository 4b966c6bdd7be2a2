"""A whole delta sync in the sandbox, judged by what home, the ledger and plex.tv hold afterwards."""

from __future__ import annotations

import json
import shutil
import socket
import stat
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from sandbox.control import Sandbox
from tests.playbooks.evidence import (
    LIBRARY,
    REPO,
    HomeState,
    Outcome,
    alive,
    ask_home,
    ask_home_for_bytes,
    connect,
    databases_of,
    files_of_remote,
    home_preferences,
    run_playbook,
)

pytestmark = pytest.mark.playbook


@dataclass(frozen=True)
class Story:
    """One sandbox, its home before, and the runs that were made on it."""

    sandbox: Sandbox
    before: HomeState
    devices_before: list[dict[str, Any]]
    prefs_before: dict[str, Any]
    first: Outcome
    after: HomeState
    ledger: list[dict[str, Any]]
    again: Outcome
    after_again: HomeState
    ledger_again: list[dict[str, Any]]
    knocks: set[tuple[str, int]]
    near: dict[int, set[int]]
    marks: dict[int, tuple[Any, ...]]
    scanned: HomeState
    marks_scanned: dict[int, tuple[Any, ...]]
    said: list[str]
    uploads: dict[str, bytes]
    uploads_after: dict[str, bytes]
    bundles: dict[str, tuple[int, int]]
    artwork_after: dict[str, tuple[int, int]]
    covers: dict[int, bytes]
    local: dict[str, list[tuple[Any, ...]]]
    local_after: dict[str, list[tuple[Any, ...]]]
    prefs_after: dict[str, Any]
    uploaded: Outcome
    prefs_uploaded: dict[str, Any]


class Knocker(threading.Thread):
    """Knocks at every living indexer's public address, from outside, while a run is going."""

    def __init__(self, sandbox: Sandbox) -> None:
        super().__init__(daemon=True)
        self.sandbox = sandbox
        self.open: set[tuple[str, int]] = set()
        self.over = threading.Event()

    def run(self) -> None:
        ports = [22, 80, 443, 5572, 8080, 8324, 32400, 32469]
        ports += [self.sandbox.state["indexer"][key] for key in ("ssh_port", "plex_port")]
        while not self.over.wait(1.0):
            for row in alive(self.sandbox.ledger()):
                for port in ports if row["kind"] == "ip" else []:
                    with socket.socket() as probe:
                        probe.settimeout(0.5)
                        if probe.connect_ex((row["name"], port)) == 0:
                            self.open.add((row["name"], port))


def marks(databases: Path) -> dict[int, tuple[Any, ...]]:
    """By item outside the trash: when it was changed and refreshed last, and how its media were analysed."""
    library = connect(databases / LIBRARY)
    try:
        return {
            row[0]: row[1:]
            for row in library.execute(
                "SELECT i.id, i.changed_at, i.refreshed_at, i.updated_at, "
                "max(m.media_analysis_version), max(m.updated_at) "
                "FROM metadata_items i LEFT JOIN media_items m ON m.metadata_item_id = i.id AND m.deleted_at IS NULL "
                "WHERE i.deleted_at IS NULL GROUP BY i.id"
            )
        }
    finally:
        library.close()


def rows_of(databases: Path, files: list[str]) -> dict[str, list[tuple[Any, ...]]]:
    """By file, its part and what that belongs to, up to the show or artist: id, whether in the trash, title or file."""
    library = connect(databases / LIBRARY)
    try:
        found = {}
        for file in files:
            part, media, deleted = library.execute(
                "SELECT id, media_item_id, deleted_at FROM media_parts WHERE file = ?", (file,)
            ).fetchone()
            item, gone = library.execute(
                "SELECT metadata_item_id, deleted_at FROM media_items WHERE id = ?", (media,)
            ).fetchone()
            rows: list[tuple[Any, ...]] = [("part", part, deleted), ("media", media, gone)]
            while item is not None:
                above, trashed, title = library.execute(
                    "SELECT parent_id, deleted_at, title FROM metadata_items WHERE id = ?", (item,)
                ).fetchone()
                rows.append((title, item, trashed))
                item = above
            found[file] = rows
        return found
    finally:
        library.close()


def upload(state: dict[str, Any], files: list[str]) -> None:
    """What only home had is on the remote now: the links of home's merged view become files of the bucket."""
    for file in files:
        link = Path(state["home"]["volumes"][0]["host"]) / file.removeprefix("/Media/")
        target = link.resolve()
        link.unlink()
        shutil.copy2(target, link)


def uploads(databases: Path) -> dict[str, bytes]:
    """What people have uploaded, by its path."""
    return {str(path): path.read_bytes() for path in databases.parents[1].glob("Metadata/*/*/*/Uploads/*/*")}


def bundles(databases: Path) -> dict[str, tuple[int, int]]:
    """Size and modification time of the files of all bundles."""
    found = {}
    for name in ("Metadata", "Media"):
        found |= {f"{name}/{path}": value for path, value in tree(databases.parents[1] / name).items()}
    return found


def covers(state: dict[str, Any], before: HomeState, after: HomeState) -> dict[int, bytes]:
    """The picture of each new film, show, episode, artist and album, as home's Plex gives it to a client; nothing
    where it answers 404."""
    found = {}
    for item in sorted(after.items.keys() - before.items.keys()):
        if after.items[item][0] in (1, 2, 4, 8, 9):
            address = ask_home(state, f"/library/metadata/{item}")[0].attrib.get("thumb", "")
            found[item] = ask_home_for_bytes(state, address) if address else b""
    return found


def first_scan(state: dict[str, Any]) -> list[str]:
    """Let home's Plex scan all its sections, and wait for the end; what its log says of it."""
    log = databases_of(state["home"]["config_dir"]).parents[1] / "Logs" / "Plex Media Server.log"
    begun = log.stat().st_size
    sections = len(ask_home(state, "/library/sections"))
    ask_home(state, "/library/sections/all/refresh", "POST")
    end = time.monotonic() + 300
    said: list[str] = []
    while len(said) < sections and time.monotonic() < end:
        time.sleep(0.5)
        lines = log.read_bytes()[begun:].decode().splitlines()
        said = [line.partition("was updated: ")[2] for line in lines if "was updated: " in line]
    return said


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    root = tmp_path_factory.mktemp("story")
    sandbox = Sandbox(root / "sandbox")
    sandbox.up()
    try:
        databases = databases_of(sandbox.state["home"]["config_dir"])
        env = sandbox.ansible_env()
        runs = root / "runs"
        local = sandbox.merge_home()
        rows = rows_of(databases, local)
        before, devices, prefs = HomeState.read(databases), sandbox.devices(), home_preferences(sandbox.state)
        uploaded, pictures = uploads(databases), bundles(databases)
        knocker = Knocker(sandbox)
        knocker.start()
        first = run_playbook(env, runs)
        knocker.over.set()
        knocker.join(30)
        after, ledger = HomeState.read(databases), sandbox.ledger()
        uploaded_after, pictures_after = uploads(databases), bundles(databases)
        shown = covers(sandbox.state, before, after)
        rows_after = rows_of(databases, local)
        again = run_playbook(env, runs)
        after_again, ledger_again, marked = HomeState.read(databases), sandbox.ledger(), marks(databases)
        near = {
            track: {
                int(entry.attrib["ratingKey"])
                for entry in ask_home(sandbox.state, f"/library/metadata/{track}/nearest")
            }
            for track in sorted(after.tracks - before.tracks)[:3]
        }
        said = first_scan(sandbox.state)
        scanned, marked_scanned, prefs_after = (
            HomeState.read(databases),
            marks(databases),
            home_preferences(sandbox.state),
        )
        upload(sandbox.state, local)
        later = run_playbook(env, root / "later", playbook="plan.yml")
        yield Story(
            sandbox,
            before,
            devices,
            prefs,
            first,
            after,
            ledger,
            again,
            after_again,
            ledger_again,
            knocker.open,
            near,
            marked,
            scanned,
            marked_scanned,
            said,
            uploaded,
            uploaded_after,
            pictures,
            pictures_after,
            shown,
            rows,
            rows_after,
            prefs_after,
            later,
            home_preferences(sandbox.state),
        )
    finally:
        sandbox.down()


def test_the_run_succeeds_and_its_summary_is_valid(story: Story) -> None:
    assert story.first.rc == 0, story.first.output[-4000:]
    runs = sorted(p.name for p in story.first.runs.iterdir() if p.is_dir() and not p.is_symlink())
    summary = json.loads((story.first.runs / runs[0] / "summary.json").read_text())
    jsonschema.validate(summary, json.loads((REPO / "docs" / "summary.schema.json").read_text()))
    assert summary["status"] == "succeeded"
    assert summary["cloud"]["leftovers"] == []
    assert summary["home"]["installed"] is True


def test_every_new_file_is_in_homes_database_with_a_title(story: Story) -> None:
    present = {file for file, trashed in story.after.parts.items() if not trashed}
    media = {f for f in files_of_remote(story.sandbox.state) if not f.endswith((".nfo", ".txt"))}
    assert media - present == set()
    assert all(title for _, _, title in story.after.items.values())


def test_the_odd_names_and_the_new_track_in_an_old_folder_are_there(story: Story) -> None:
    new = story.after.parts.keys() - story.before.parts.keys()
    assert any("'" in file for file in new)
    assert any(not file.isascii() for file in new)
    old_folders = {str(Path(file).parent) for file in story.before.parts if file.startswith("/Media/Music/")}
    assert any(str(Path(file).parent) in old_folders for file in new if file.startswith("/Media/Music/"))


def test_removed_media_are_in_the_trash_and_not_deleted(story: Story) -> None:
    gone = story.before.parts.keys() - files_of_remote(story.sandbox.state) - story.local.keys()
    assert gone
    assert gone <= story.after.parts.keys()
    assert all(story.after.parts[file] for file in gone)


def test_every_track_has_sonic_data_by_two_measures(story: Story) -> None:
    assert story.before.sonic_marks < story.before.tracks
    # A track that only home has cannot be analysed elsewhere.
    tracks = story.after.tracks - {rows[2][1] for rows in story.local.values()}
    assert tracks < story.after.tracks
    assert tracks <= story.after.sonic_marks
    assert tracks <= story.after.sonic_blobs


def test_home_answers_nearest_for_the_new_tracks(story: Story) -> None:
    assert len(story.near) == 3
    for track, found in story.near.items():
        assert found, f"nothing sounds like {track}"
        assert found <= story.after.tracks - {track}


def test_a_new_album_has_its_cover_at_home_and_so_has_every_new_item(story: Story) -> None:
    kinds = {story.after.items[item][0] for item in story.covers}
    assert {1, 8, 9} <= kinds
    assert {item: story.after.items[item] for item, cover in story.covers.items() if not cover} == {}
    (run, *_) = sorted(path for path in story.first.runs.iterdir() if path.is_dir() and not path.is_symlink())
    told = json.loads((run / "summary.json").read_text())["home"]["artwork"]
    assert told["added"] == len(story.artwork_after) - len(story.bundles) > 0
    assert (told["replaced"], told["kept"], told["refused"], told["unresolved"]) == (0, 0, 0, 0)
    assert not (run / "snapshots" / "artwork").exists()
    assert not list(Path(story.sandbox.state["home"]["dir"]).glob("plexburst/artwork/*"))


def test_an_uploaded_poster_and_every_picture_that_home_had_are_untouched(story: Story) -> None:
    assert story.uploads
    assert story.uploads_after == story.uploads
    assert {path: story.artwork_after[path] for path in story.bundles} == story.bundles


def test_homes_first_scan_afterwards_adds_changes_and_analyses_nothing(story: Story) -> None:
    assert len(story.said) == len(story.after.sections)
    for words in story.said:
        assert words.startswith("0 added, 0 trashed"), story.said
    assert story.marks_scanned == story.marks
    assert (story.scanned.items, story.scanned.sonic_marks & story.scanned.tracks) == (
        story.after.items,
        story.after.sonic_marks & story.after.tracks,
    )
    present = {file for file, trashed in story.after.parts.items() if not trashed}
    assert {file for file, trashed in story.scanned.parts.items() if not trashed} == present


def test_watch_state_playlists_and_accounts_are_as_before(story: Story) -> None:
    assert story.before.settings
    assert story.before.views
    assert len(story.before.accounts) >= 2
    assert story.before.playlists
    assert story.after.settings == story.before.settings
    assert story.after.views == story.before.views
    assert story.after.accounts == story.before.accounts
    assert story.after.playlists == story.before.playlists
    assert story.after.playlist_rows == story.before.playlist_rows


def test_ids_of_old_items_and_sections_never_change(story: Story) -> None:
    assert story.after.sections == story.before.sections
    kept = {i: v for i, v in story.before.items.items() if i in story.after.items}
    assert kept == {i: story.after.items[i] for i in kept}
    assert len(kept) > len(story.before.items) * 0.9


def test_only_what_changed_travels_from_the_indexer(story: Story) -> None:
    (delta,) = story.first.runs.glob("*/snapshots/delta/delta.json")
    run = delta.parents[2]
    described = json.loads(delta.read_text())
    pair = sum(entry["result"]["size"] for entry in described["files"].values())
    base = json.loads((run / "snapshots" / "base" / "manifest.json").read_text())["files"]
    assert {name: entry["base"] for name, entry in described["files"].items()} == base
    travelled = json.loads((run / "summary.json").read_text())["cost"]["egress_bytes"]
    assert sum(part["size"] for part in described["parts"]) < travelled < pair / 4
    assert sorted(path.name for path in delta.parent.iterdir()) == sorted(
        ["delta.json", *(part["name"] for part in described["parts"])]
    )
    # One difference for both ends: what the controller made its pair from is what home made its own from.
    assert story.first.output.count("the delta, ") == 2
    assert "the whole pair" not in story.first.output
    home = Path(story.sandbox.state["home"]["dir"]) / "plexburst"
    assert not [name for name in ("base", "delta", "snapshot") if (home / name).exists()]


def test_nothing_stays_behind_in_the_cloud_or_at_plex_tv(story: Story) -> None:
    kinds = {row["kind"] for row in story.ledger}
    assert kinds == {"server", "ip", "volume"}
    assert alive(story.ledger) == []
    assert story.sandbox.devices() == story.devices_before


def run_folders(outcome: Outcome) -> list[Path]:
    return sorted(path for path in outcome.runs.iterdir() if path.is_dir() and not path.is_symlink())


def test_what_only_home_has_comes_home_as_it_was_and_is_named_in_the_plan(story: Story) -> None:
    """A merged view (mergerfs), or files that are not uploaded yet: not on the remote is not gone."""
    assert len(story.local) == 2
    assert all(row[-1] is None for rows in story.local.values() for row in rows)
    assert story.local_after == story.local
    for file in story.local:
        assert file in story.first.output
    assert "Movies: 2 new, 2 missing from the remote (1 of them at home)" in story.first.output
    summary = json.loads((run_folders(story.first)[0] / "summary.json").read_text())
    planned, kept = summary["plan"]["home_only"], summary["home"]["at_home"]
    assert (planned["at_home"], planned["unknown"], sorted(planned["examples"])) == (2, 0, sorted(story.local))
    assert (kept["present"], kept["unknown"], kept["sections"]) == (2, 0, {"Movies": 1, "Music": 1})
    assert kept["absent"] > 0


def test_homes_preferences_are_as_before_but_its_trash_is_not_emptied_while_a_file_is_only_there(story: Story) -> None:
    changed = {key for key in story.prefs_before if story.prefs_after.get(key) != story.prefs_before[key]}
    assert changed == {"autoEmptyTrash"}
    assert story.prefs_before["autoEmptyTrash"] in ("1", "true")
    for folder in run_folders(story.first)[:2]:
        summary = json.loads((folder / "summary.json").read_text())
        trash = summary["home"]["trash"]
        assert trash["kept_off"] is True
        assert all(file in trash["why"] for file in story.local)
        assert "Upload these files" in trash["next"]
        assert "autoEmptyTrash stays off" in (folder / "report.html").read_text()
    assert "2 file(s) are at home and not on the remote" in story.first.output


def test_once_the_remote_has_these_files_too_home_empties_its_trash_again(story: Story) -> None:
    assert story.uploaded.rc == 0, story.uploaded.output[-4000:]
    assert story.prefs_uploaded == story.prefs_before
    assert "trash" not in story.uploaded.summary["home"]


def test_no_secret_is_in_the_run_folder(story: Story) -> None:
    state = story.sandbox.state
    secrets = {state["scaleway"]["secret_key"], Path(state["plextv"]["token_file"]).read_text().strip()}
    for line in Path(state["s3"]["rclone_config"]).read_text().splitlines():
        if "secret" in line or "token" in line:
            secrets.add(line.partition("=")[2].strip())
    for path in story.first.runs.rglob("*"):
        if path.is_file() and "keys" not in path.parts and path.suffix not in {".db"}:
            text = path.read_bytes()
            for secret in secrets - {""}:
                assert secret.encode() not in text, f"{path} holds a secret"
            assert not stat.S_IMODE(path.stat().st_mode) & 0o007, f"{path} can be read by everybody"
    assert "private-dropbox" not in story.first.output


def test_a_second_run_finds_nothing_to_do_and_makes_no_instance(story: Story) -> None:
    assert story.again.rc == 0, story.again.output[-4000:]
    assert "Nothing to do" in story.again.output
    assert story.after_again == story.after
    assert len(story.ledger_again) == len(story.ledger)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    sandbox = Sandbox(tmp_path_factory.mktemp("fresh") / "sandbox")
    sandbox.up()
    try:
        yield sandbox
    finally:
        sandbox.down()


def tree(root: Path) -> dict[str, tuple[int, int]]:
    """Size and modification time of every regular file below `root`."""
    return {
        str(p.relative_to(root)): (p.stat().st_size, p.stat().st_mtime_ns)
        for p in root.rglob("*")
        if p.is_file() and not p.is_symlink()
    }


def test_check_mode_changes_nothing_anywhere_and_says_what_it_would_do(fresh: Sandbox, tmp_path: Path) -> None:
    """With the sandbox found beside the inventory, as `make sandbox-up` leaves it: no environment names it."""
    inventory = tmp_path / "project" / "inventory" / "sandbox"
    shutil.copytree(REPO / "inventory" / "sandbox", inventory)
    (tmp_path / "project" / ".sandbox").symlink_to(fresh.state["dir"])
    env = {k: v for k, v in fresh.ansible_env().items() if k != "PLEXBURST_SANDBOX_DIR"}
    databases = databases_of(fresh.state["home"]["config_dir"])
    before, prefs = HomeState.read(databases), home_preferences(fresh.state)
    home_files = set(tree(Path(fresh.state["home"]["dir"])))
    outcome = run_playbook(env, tmp_path / "runs", "--check", inventory=inventory)
    assert outcome.rc == 0, outcome.output[-4000:]
    assert "would be created" in outcome.output
    assert "new" in outcome.output
    assert fresh.ledger() == []
    assert HomeState.read(databases) == before
    assert home_preferences(fresh.state) == prefs
    assert not [p for p in (tmp_path / "runs").rglob("*") if p.is_file()] if (tmp_path / "runs").exists() else True
    new_files = {
        f for f in set(tree(Path(fresh.state["home"]["dir"]))) - home_files if "/Logs/" not in f and "ansible" not in f
    }
    assert {f for f in new_files if not f.startswith(("log/", "home/.ansible"))} == set()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--limit", "plex_cloud"), "--limit"),
        (("--limit", "localhost"), "--limit"),
        (("--tags", "index"), "--tags"),
        (("--skip-tags", "release"), "--skip-tags"),
        (("--start-at-task", "Print the run summary and fail after a failure"), "--start-at-task"),
        (("-e", "plexburst_sectoins=Music"), "plexburst_sections"),
        (("-e", "plexburst_max_hours=lots"), "plexburst_max_hours"),
        (("-e", "plexburst_provider=existing"), "plex_cloud"),
    ],
)
def test_what_would_skip_a_guard_is_refused_with_words(
    fresh: Sandbox, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    outcome = run_playbook(fresh.ansible_env(), tmp_path / "runs", *arguments)
    assert outcome.rc != 0
    assert words in outcome.output
    assert fresh.ledger() == []


def test_an_inventory_that_does_not_parse_is_refused(fresh: Sandbox, tmp_path: Path) -> None:
    broken = tmp_path / "broken.yml"
    broken.write_text("all:\n  children: [this is not an inventory\n")
    outcome = run_playbook(fresh.ansible_env(), tmp_path / "runs", inventory=broken)
    assert outcome.rc != 0
    assert "plex_home" in outcome.output
    assert fresh.ledger() == []


def test_only_ssh_answers_from_outside_while_the_indexer_lives(story: Story) -> None:
    assert story.knocks, "the indexer was never seen alive"
    assert {port for _, port in story.knocks if port} == {story.sandbox.state["indexer"]["ssh_port"]}
