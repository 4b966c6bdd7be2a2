"""A snapshot is whole, and a pair that is not what it should be is refused with the right words."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.checks import check
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.errors import PlexDatabaseError
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.pair import manifest, pair, snapshot
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.pair.files import SPARE_BYTES
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.path_mapping import remote_listing

from tests.unit.plex_db import building

VECTOR = "INSERT OR REPLACE INTO blobs(blob, linked_type, linked_id, blob_type) VALUES(x'00', 'metadata_item', 9, 7)"

MARK = f"UPDATE metadata_items SET extra_data = '{building.SONIC}' WHERE id = 9"  # noqa: S608


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return building.make_library(tmp_path / "home")


@pytest.fixture
def base(home: Path, tmp_path: Path) -> Path:
    snapshot.take(home, tmp_path / "base", "home", "1.43.4")
    return tmp_path / "base"


def codes(directory: Path, **options: Any) -> list[str]:
    described = manifest.load(directory / pair.MANIFEST)
    return [problem.code for problem in check.check(directory, described, **options).problems]


def changed(base: Path, target: Path, *statements: tuple[Any, ...]) -> Path:
    """The base after something happened to it, with a manifest of its own, as it comes back."""
    target.mkdir()
    for name in pair.NAMES:
        shutil.copy(base / name, target / name)
    building.write(target / pair.LIBRARY, *statements)
    described = manifest.build(target, "indexer", "1.43.4")
    (target / pair.MANIFEST).write_text(json.dumps(described))
    return target


def against(base: Path, came_back: Path, **options: Any) -> list[str]:
    return codes(came_back, base=manifest.load(base / pair.MANIFEST), **options)


def test_a_home_without_room_for_the_installation_is_told_before_anything_is_paid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = building.make_library(tmp_path / "home")
    size = snapshot.size_of(home)
    assert snapshot.require_room(home, 3) == size * 3 * 11 // 10
    free = size * 3 + SPARE_BYTES
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(free, 0, free))  # type: ignore[attr-defined]
    with pytest.raises(PlexDatabaseError, match=r"3 more copies .* Free disk space there"):
        snapshot.require_room(home, 3)
    assert snapshot.require_room(home, 1) > 0
    assert snapshot.require_room(home, 0) == 0


def test_a_snapshot_holds_what_home_holds_and_passes_its_own_check(home: Path, base: Path) -> None:
    described = manifest.load(base / pair.MANIFEST)
    assert codes(base) == []
    assert described["counts"] == {"1": {"10": 10}, "2": {"1": 1}}
    assert described["sonic"] == {"1": {"total": 10, "done": 3}}
    assert described["sonic_blobs"] == 3
    assert described["watch"] == {"settings": 1, "views": 1, "accounts": 1, "playlists": 1, "collections": 0}
    assert described["sections"][0]["locations"] == ["/Media/Music"]
    assert described["page_size"] == 1024
    assert {path.name for path in base.iterdir()} == {*pair.NAMES, pair.MANIFEST}
    assert {path.name for path in home.iterdir()} == set(pair.NAMES)


def test_a_snapshot_of_a_running_plex_sees_what_is_only_in_its_wal(home: Path, tmp_path: Path) -> None:
    process = building.open_elsewhere(home, "INSERT INTO accounts(id, name) VALUES(77, 'guest')")
    try:
        assert (home / f"{pair.LIBRARY}-wal").stat().st_size > 0
        described = snapshot.take(home, tmp_path / "copy", "home", "")
    finally:
        building.end(process)
    assert described["watch"]["accounts"] == 2
    assert pair.side_files(tmp_path / "copy") == []


def test_a_snapshot_needs_both_files(home: Path, tmp_path: Path) -> None:
    (home / pair.BLOBS).unlink()
    with pytest.raises(PlexDatabaseError, match=r"but it does not exist. Check the path"):
        snapshot.take(home, tmp_path / "copy", "home", "")


def test_a_snapshot_is_refused_when_the_disk_is_too_small(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 0))  # type: ignore[attr-defined]
    with pytest.raises(PlexDatabaseError, match="free some space"):
        snapshot.take(home, tmp_path / "copy", "home", "")


@pytest.mark.parametrize("without_vector", [False, True])
def test_a_blobs_db_that_never_rests_is_accepted_only_with_every_vector(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without_vector: bool
) -> None:
    monkeypatch.setattr(snapshot, "PAUSE_SECONDS", 0.0)
    versions = iter(range(100))
    monkeypatch.setattr(snapshot, "_data_version", lambda _: next(versions))
    if without_vector:
        building.write(home / pair.LIBRARY, ("UPDATE metadata_items SET extra_data = ? WHERE id = 9", building.SONIC))
        with pytest.raises(PlexDatabaseError, match="do not match"):
            snapshot.take(home, tmp_path / "copy", "indexer", "")
    else:
        assert snapshot.take(home, tmp_path / "copy", "indexer", "")["copy"]["attempts"] == snapshot.ATTEMPTS


def test_a_failed_query_is_never_a_zero(home: Path) -> None:
    building.write(home / pair.LIBRARY, ("DROP TABLE media_parts",))
    with pytest.raises(PlexDatabaseError, match="lacks the tables media_parts"):
        manifest.contents(home)


def test_a_truncated_file_is_called_truncated(base: Path) -> None:
    with (base / pair.LIBRARY).open("r+b") as stream:
        stream.truncate(100_000)
    described = manifest.load(base / pair.MANIFEST)
    problems = check.check(base, described).problems
    assert [problem.code for problem in problems] == ["truncated"]
    assert "truncated" in problems[0].message
    assert "found 100000" in problems[0].message


def test_a_missing_blobs_db_is_refused(base: Path) -> None:
    (base / pair.BLOBS).unlink()
    assert codes(base) == ["missing"]


@pytest.mark.parametrize("suffix", ["-wal", "-shm"])
def test_a_stale_side_file_is_refused(base: Path, suffix: str) -> None:
    (base / f"{pair.LIBRARY}{suffix}").write_bytes(b"stale")
    assert codes(base) == ["side_files"]


def test_a_pair_of_two_moments_is_refused(home: Path, base: Path, tmp_path: Path) -> None:
    building.write(home / pair.BLOBS, building.vector(9))
    snapshot.take(home, tmp_path / "later", "home", "")
    shutil.copy(tmp_path / "later" / pair.BLOBS, base / pair.BLOBS)
    assert codes(base) == ["mixed"]


def test_a_flipped_byte_is_refused(base: Path) -> None:
    with (base / pair.LIBRARY).open("r+b") as stream:
        stream.seek(5000)
        stream.write(b"\xff")
    assert codes(base) == ["mixed"]


def test_a_manifest_cut_short_is_refused(base: Path) -> None:
    text = (base / pair.MANIFEST).read_text()
    (base / pair.MANIFEST).write_text(text[: len(text) // 2])
    with pytest.raises(PlexDatabaseError, match="cannot be read"):
        manifest.load(base / pair.MANIFEST)


def test_an_addition_passes_the_guard(base: Path, tmp_path: Path) -> None:
    came_back = changed(base, tmp_path / "back", *building.track(20, "/Media/Music/new.flac", building.SONIC))
    assert against(base, came_back, base_directory=base) == []


@pytest.mark.parametrize(
    ("code", "sql"),
    [
        ("sections_gone", "DELETE FROM library_sections WHERE id = 2"),
        ("ids_changed", "UPDATE library_sections SET uuid = 'other' WHERE id = 2"),
        ("items_gone", "DELETE FROM metadata_items WHERE id < 6"),
        ("items_trashed", "UPDATE metadata_items SET deleted_at = 5 WHERE id < 6"),
        ("parts_gone", "DELETE FROM media_parts WHERE id < 6"),
        ("watch_fewer", "DELETE FROM metadata_item_settings"),
        ("watch_fewer", "DELETE FROM accounts"),
        ("schema_newer", "INSERT INTO schema_migrations(version) VALUES('999999999999')"),
        ("schema_older", "DELETE FROM schema_migrations WHERE rowid = 1"),
    ],
)
def test_a_loss_is_refused(base: Path, tmp_path: Path, code: str, sql: str) -> None:
    assert code in against(base, changed(base, tmp_path / "back", (sql,)))


def test_an_id_that_means_another_item_is_refused(base: Path, tmp_path: Path) -> None:
    came_back = changed(base, tmp_path / "back", ("UPDATE metadata_items SET metadata_type = 9 WHERE id = 4",))
    assert "ids_changed" in against(base, came_back, base_directory=base)


def test_a_shrunken_file_is_refused(base: Path, tmp_path: Path) -> None:
    came_back = changed(base, tmp_path / "back")
    described = manifest.load(base / pair.MANIFEST)
    described["files"][pair.LIBRARY]["size"] *= 3
    assert codes(came_back, base=described) == ["size"]


@pytest.mark.parametrize(("held", "expected"), [([4], ["trashed_present"]), ([], [])])
def test_trash_that_the_remote_still_has_is_proof_of_a_sick_mount(
    base: Path, tmp_path: Path, held: list[int], expected: list[str]
) -> None:
    sql = "UPDATE media_parts SET deleted_at = 5 WHERE id = 4"
    came_back = changed(base, tmp_path / "back", (sql,), ("UPDATE metadata_items SET deleted_at = 5 WHERE id = 4",))
    files = {f"/Media/Music/A/B/{number:04d}.flac": 1 for number in held}
    remote = remote_listing.Listing(("/Media",), files, frozenset(files))
    assert against(base, came_back, listing=remote) == expected


def plex_sqlite(tmp_path: Path, says: str, code: int = 0) -> list[str]:
    script = tmp_path / "plex_sqlite.py"
    script.write_text(f"import sys\nprint({says!r})\nsys.exit({code})\n")
    return [sys.executable, str(script)]


def test_a_complaint_about_search_is_a_warning_with_the_cure(base: Path, tmp_path: Path) -> None:
    words = "malformed inverted index for FTS4 table main.fts4_metadata_titles_icu"
    described = manifest.load(base / pair.MANIFEST)
    report = check.check(base, described, depth="full", plex_sqlite=plex_sqlite(tmp_path, words))
    assert report.problems == []
    assert "rebuild" in report.warnings[0]


@pytest.mark.parametrize(("says", "code"), [("row 3 missing from index index_x", 0), ("", 1), ("", 0)])
def test_damage_or_a_check_that_did_not_run_is_a_problem(base: Path, tmp_path: Path, says: str, code: int) -> None:
    assert codes(base, depth="full", plex_sqlite=plex_sqlite(tmp_path, says, code)) == ["integrity", "integrity"]


def test_a_full_check_without_plex_sqlite_is_refused(base: Path) -> None:
    assert codes(base, depth="full") == ["integrity"]


def test_stock_sqlite_could_not_read_this_library_without_the_stand_in(base: Path) -> None:
    """Shows that the fixture has the real trap: otherwise the other tests would prove nothing."""
    connection = sqlite3.connect(f"file:{base / pair.LIBRARY}?mode=ro&immutable=1", uri=True)
    with pytest.raises(sqlite3.OperationalError, match=r"icu_root|collating"):
        connection.execute("SELECT title FROM metadata_items ORDER BY title_sort COLLATE icu_root").fetchall()
    connection.close()


def test_the_database_code_runs_without_anything_but_the_standard_library() -> None:
    folder = building.REPO
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); "
        "import module_utils.plex_db.install, module_utils.plex_db.pair.snapshot, module_utils.plex_db.checks.check; "
        "import module_utils.plex_db.checks.repair, module_utils.plex_db.path_mapping.audit"
    )
    subprocess.run([sys.executable, "-S", "-I", "-c", code, str(folder)], check=True)


def test_both_copies_are_of_one_moment_although_the_source_goes_on(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A track gets its mark and its vector while library.db is being copied: neither copy has them."""
    real = snapshot._backup

    def slow(source: sqlite3.Connection, target: Path) -> None:
        if pair.LIBRARY in target.name:
            building.write_elsewhere(home / pair.BLOBS, VECTOR)
            building.write_elsewhere(home / pair.LIBRARY, MARK)
        real(source, target)

    monkeypatch.setattr(snapshot, "_backup", slow)
    described = snapshot.take(home, tmp_path / "copy", "indexer", "")
    assert described["copy"]["gap"] == "none"
    assert (described["sonic"]["1"]["done"], described["sonic_blobs"]) == (3, 3)
    later = snapshot.take(home, tmp_path / "later", "indexer", "")
    assert (later["sonic"]["1"]["done"], later["sonic_blobs"]) == (4, 4)


def test_a_commit_between_the_two_moments_is_noticed_and_another_moment_is_taken(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "PAUSE_SECONDS", 0.0)
    real, pinned = snapshot._pin, []

    def pin(connection: sqlite3.Connection) -> None:
        real(connection)
        pinned.append(connection)
        if len(pinned) == 1:
            building.write_elsewhere(home / pair.BLOBS, VECTOR)

    monkeypatch.setattr(snapshot, "_pin", pin)
    described = snapshot.take(home, tmp_path / "copy", "indexer", "")
    assert (described["copy"]["attempts"], described["copy"]["gap"]) == (2, "none")


def test_statistics_are_left_out_only_when_asked_and_never_at_home(home: Path, tmp_path: Path) -> None:
    row = (
        "INSERT INTO statistics_bandwidth(account_id, device_id, timespan, at, lan, bytes) VALUES(1, 1, 6, ?, 1, 4711)"
    )
    building.write(home / pair.LIBRARY, *[(row, moment) for moment in range(500)])
    before = (home / pair.LIBRARY).read_bytes()
    whole = snapshot.take(home, tmp_path / "whole", "home", "")
    assert whole["statistics"]["statistics_bandwidth"]["rows"] == 500
    assert whole["statistics"]["statistics_bandwidth"]["bytes"] > 5000
    lean = snapshot.take(home, tmp_path / "lean", "home", "", drop_statistics=True)
    assert lean["copy"]["dropped_statistics"]["statistics_bandwidth"] == 500
    assert lean["statistics"]["statistics_bandwidth"]["rows"] == 0
    assert lean["sequences"] == whole["sequences"]
    assert codes(tmp_path / "lean") == []
    sizes = [len(zlib.compress((tmp_path / name / pair.LIBRARY).read_bytes())) for name in ("lean", "whole")]
    assert sizes[0] < sizes[1] - 3000
    header = (tmp_path / "lean" / pair.LIBRARY).read_bytes()[18:20]
    assert header == before[18:20], "the journal mode that Plex expects"
    assert (home / pair.LIBRARY).read_bytes() == before


def test_bloat_is_told_with_the_setting_that_helps(base: Path) -> None:
    described = manifest.load(base / pair.MANIFEST)
    assert snapshot.statistics_words(described) == ""
    described["files"][pair.LIBRARY]["size"] = 15_000_000_000
    described["statistics"]["statistics_bandwidth"] = {"rows": 90_000_000, "bytes": 12_700_000_000}
    words = snapshot.statistics_words(described)
    assert "12700.0 MB of the 15000.0 MB" in words
    assert "plexburst_drop_statistics" in words
    described["statistics"]["statistics_bandwidth"]["bytes"] = None
    assert snapshot.statistics_words(described) == ""


def test_a_sick_search_index_is_found_where_integrity_check_says_nothing(base: Path, tmp_path: Path) -> None:
    """SQLite before 3.44 leaves search indexes out of integrity_check: they are asked one by one."""
    script = tmp_path / "plex_sqlite.py"
    script.write_text(
        "import sys\nsql = sys.argv[2]\nprint('ok' if 'integrity_check' in sql else '')\n"
        "bad = 'integrity-check' in sql and 'tag_titles' in sql\n"
        "sys.exit('Error: database disk image is malformed' if bad else 0)\n"
    )
    report = check.check(
        base, manifest.load(base / pair.MANIFEST), depth="full", plex_sqlite=[sys.executable, str(script)]
    )
    assert report.problems == []
    assert len(report.warnings) == 2
    assert "INSERT INTO fts4_tag_titles_icu(fts4_tag_titles_icu) VALUES('rebuild')" in report.warnings[0]
