"""What is lost is found, named per section, and refused; what a healthy run does is not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.checks import check, loss
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.pair import manifest, pair, snapshot
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.path_mapping import remote_listing

from tests.unit.plex_db import building

CHAPTERS = json.dumps(
    {"pv:chapters": '{"Chapters":{"Chapter":[{"start":0}]}}', "url": "pv%3Achapters=%7B%22Chapters%22"}
)
NO_CHAPTERS = json.dumps({"pv:chapters": '{"Chapters":{}}', "url": "pv%3Achapters=%7B%22Chapters%22%3A%7B%7D%7D"})
PEOPLE: list[tuple[Any, ...]] = [
    ("UPDATE metadata_items SET user_fields = 'lockedFields=1|9', user_thumb_url = 'upload://a' WHERE id = 5",),
    ("INSERT INTO tags(id, tag, tag_type) VALUES(50, 'Summer', 2)",),
    ("INSERT INTO tags(id, tag, tag_type) VALUES(51, '', 12)",),
    ("INSERT INTO taggings(metadata_item_id, tag_id) VALUES(6, 50)",),
    ("INSERT INTO taggings(metadata_item_id, tag_id, text, time_offset) VALUES(5000, 51, 'intro', 1000)",),
    ("UPDATE media_parts SET extra_data = ? WHERE id = 5000", CHAPTERS),
    (
        (
            "INSERT INTO play_queue_generators(id, playlist_id, metadata_item_id, created_at, updated_at) "
            "VALUES(70, 900, 7, 1, 1)"
        ),
    ),
    ("UPDATE metadata_item_settings SET rating = 8.0, view_offset = 5 WHERE id = 1",),
    ("INSERT INTO metadata_items(id, library_section_id, metadata_type, title) VALUES(950, 2, 12, 'Trailer')",),
]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    home = building.make_library(tmp_path / "home")
    building.write(home / pair.LIBRARY, *PEOPLE)
    snapshot.take(home, tmp_path / "base", "home", "1.43.4.100-abc")
    return tmp_path / "base"


def come_back(base: Path, *statements: tuple[Any, ...]) -> Path:
    target = base.parent / "back"
    target.mkdir()
    for name in pair.NAMES:
        shutil.copy(base / name, target / name)
    building.write(target / pair.LIBRARY, *statements)
    (target / pair.MANIFEST).write_text(json.dumps(manifest.build(target, "indexer", "1.43.4.100-abc")))
    return target


def judge(base: Path, came_back: Path, **options: Any) -> check.Report:
    return check.check(
        came_back,
        manifest.load(came_back / pair.MANIFEST),
        base=manifest.load(base / pair.MANIFEST),
        base_directory=base,
        **options,
    )


def everything(base: Path) -> remote_listing.Listing:
    files = {f"/Media/Music/A/B/{number:04d}.flac": 1 for number in range(1, 11)}
    return remote_listing.Listing(("/Media",), files, frozenset(files))


def test_a_healthy_run_is_accepted(base: Path) -> None:
    came_back = come_back(
        base,
        *building.track(20, "/Media/Music/new.flac", building.SONIC),
        ("UPDATE metadata_items SET extra_data = ?, changed_at = changed_at + 1 WHERE id = 9", building.SONIC),
        ("UPDATE media_parts SET file = '/Media/Music/A/C/0004.flac' WHERE id = 4",),
        ("UPDATE metadata_items SET deleted_at = 5 WHERE id = 3",),
        ("UPDATE metadata_items SET user_fields = 'lockedFields=1|2|9' WHERE id = 5",),
        ("UPDATE metadata_item_settings SET view_count = 2 WHERE id = 1",),
        ("DELETE FROM metadata_items WHERE id = 950",),
    )
    report = judge(base, came_back, limits=check.Limits(trashed_percent=10))
    assert report.problems == []
    assert "1 extras" in report.warnings[0]


@pytest.mark.parametrize(
    ("code", "words", "sql"),
    [
        ("items_gone", "2 of 10 tracks of section 'Music'", ("DELETE FROM metadata_items WHERE id IN (4, 5)",)),
        ("items_gone", "playlists of no section are gone: Party", ("DELETE FROM metadata_items WHERE id = 900",)),
        (
            "items_trashed",
            "10 of 10 tracks",
            ("UPDATE metadata_items SET deleted_at = 5 WHERE library_section_id = 1",),
        ),
        ("parts_gone", "1 of 10 files of section 'Music'", ("DELETE FROM media_parts WHERE id = 4",)),
        ("ids_changed", "another section or type", ("UPDATE metadata_items SET metadata_type = 9 WHERE id = 4",)),
        ("watch_gone", "views, ratings", ("UPDATE metadata_item_settings SET view_count = 0 WHERE id = 1",)),
        ("watch_gone", "views, ratings", ("UPDATE metadata_item_settings SET rating = NULL WHERE id = 1",)),
        ("watch_gone", "viewing history", ("DELETE FROM metadata_item_views",)),
        ("watch_gone", "accounts are gone", ("DELETE FROM accounts",)),
        ("locks_gone", "Title 5 (id 5)", ("UPDATE metadata_items SET user_fields = 'lockedFields=9' WHERE id = 5",)),
        (
            "posters_gone",
            "uploaded posters",
            ("UPDATE metadata_items SET user_thumb_url = 'metadata://x' WHERE id = 5",),
        ),
        ("members_gone", "Party (entry 70)", ("DELETE FROM play_queue_generators",)),
        ("members_gone", "Summer: item 6", ("DELETE FROM taggings WHERE tag_id = 50",)),
        ("markers_gone", "markers (intro, credits)", ("DELETE FROM taggings WHERE tag_id = 51",)),
        ("markers_gone", "chapters", ("UPDATE media_parts SET extra_data = ? WHERE id = 5000", NO_CHAPTERS)),
        (
            "markers_gone",
            "3 of 3 tracks of section 'Music' have lost their Sonic data",
            ("UPDATE metadata_items SET extra_data = NULL WHERE id < 4",),
        ),
        ("sections_gone", "'Movies' (id 2) is gone", ("DELETE FROM library_sections WHERE id = 2",)),
        ("older", "counters are lower", ("UPDATE sqlite_sequence SET seq = 3 WHERE name = 'metadata_items'",)),
    ],
)
def test_a_loss_is_refused_and_named(base: Path, code: str, words: str, sql: tuple[Any, ...]) -> None:
    problems = judge(base, come_back(base, sql)).problems
    assert [problem.code for problem in problems] == [code], problems
    assert words in problems[0].message


def test_an_item_made_anew_is_a_changed_id_and_not_only_gone(base: Path) -> None:
    anew = building.track(400, "/Media/Music/A/B/0004.flac")
    came_back = come_back(
        base,
        ("DELETE FROM metadata_items WHERE id = 4",),
        ("DELETE FROM media_items WHERE id = 4",),
        ("DELETE FROM media_parts WHERE id = 4",),
        *anew,
    )
    (problem,) = judge(base, came_back).problems
    assert "1 of them have another id now" in problem.message
    assert (problem.section, problem.count, problem.examples) == (1, 1, ("Title 4 (id 4)",))


def test_a_section_emptied_by_a_dead_mount_is_refused_by_the_section(base: Path) -> None:
    came_back = come_back(
        base,
        ("UPDATE media_parts SET deleted_at = 5 WHERE id <= 10",),
        ("UPDATE metadata_items SET deleted_at = 5 WHERE id <= 10",),
    )
    (problem,) = judge(base, came_back, listing=everything(base)).problems
    assert (problem.code, problem.section, problem.count) == ("trashed_present", 1, 10)
    assert "the mount was sick" in problem.message


def test_a_section_emptied_for_good_names_a_bounded_list(base: Path) -> None:
    came_back = come_back(
        base, ("DELETE FROM metadata_items WHERE id <= 10",), ("DELETE FROM media_parts WHERE id <= 10",)
    )
    found = {problem.code: problem for problem in judge(base, came_back).problems}
    assert found["items_gone"].count == 10
    assert found["items_gone"].message.endswith("Title 5 (id 5) and 5 more.")
    assert len(found["parts_gone"].examples) == 10


def test_an_older_database_of_home_is_not_taken_for_the_result(base: Path, tmp_path: Path) -> None:
    older = tmp_path / "back"
    shutil.copytree(base, older)
    later = tmp_path / "later"
    later.mkdir()
    for name in pair.NAMES:
        shutil.copy(base / name, later / name)
    building.write(later / pair.LIBRARY, ("UPDATE metadata_items SET changed_at = 77 WHERE id = 4",))
    (later / pair.MANIFEST).write_text(json.dumps(manifest.build(later, "home", "1.43.4.100-abc")))
    assert [problem.code for problem in judge(later, older).problems] == ["older"]


def test_a_newer_schema_says_which_plex_it_needs(base: Path) -> None:
    sql = "INSERT INTO schema_migrations(version, min_version) VALUES('999', '1.99.0.1-x')"
    (problem,) = judge(base, come_back(base, (sql,))).problems
    assert problem.code == "schema_newer"
    assert "needs Plex 1.99.0.1-x or newer, home runs 1.43.4.100-abc" in problem.message


def test_limits_let_through_what_somebody_allowed(base: Path) -> None:
    came_back = come_back(
        base,
        ("DELETE FROM metadata_items WHERE id IN (4, 6)",),
        ("DELETE FROM accounts",),
        ("DELETE FROM taggings WHERE tag_id = 51",),
    )
    assert len(judge(base, came_back).problems) == 3
    allowed = check.Limits(items_gone=2, user_data_gone=1, markers_gone_percent=100)
    report = judge(base, came_back, limits=allowed)
    assert report.problems == []
    assert "as many as allowed" in report.warnings[0]


def test_findings_are_written_with_their_examples(base: Path, tmp_path: Path) -> None:
    report = judge(base, come_back(base, ("DELETE FROM metadata_items WHERE id IN (4, 5)",)))
    check.write_findings(tmp_path / "findings.json", report)
    written = json.loads((tmp_path / "findings.json").read_text())
    assert written["problems"][0]["examples"] == ["Title 4 (id 4)", "Title 5 (id 5)"]
    assert (tmp_path / "findings.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("text", "locked"),
    [
        (None, set()),
        ("lockedFields=1|9", {"1", "9"}),
        ("a=1&lockedFields=1%7C9&b=2", {"1", "9"}),
        ('{"lockedFields":"1|9","url":"lockedFields=1%7C9"}', {"1", "9"}),
        ("something else", {"something else"}),
    ],
)
def test_locked_fields_are_read_in_both_shapes(text: str | None, locked: set[str]) -> None:
    assert loss.locked_fields(text) == locked


def test_a_section_that_lost_a_folder_is_refused_and_one_under_another_name_is_told(base: Path) -> None:
    report = judge(base, come_back(base, ("DELETE FROM section_locations WHERE root_path = '/Media/Movies'",)))
    (problem,) = [entry for entry in report.problems if entry.code == "folders_gone"]
    assert problem.examples == ("/Media/Movies",)
    assert "would put all that lies there into the trash" in problem.message
    shutil.rmtree(base.parent / "back")
    renamed = ("UPDATE section_locations SET root_path = '/Media/Films' WHERE root_path = '/Media/Movies'",)
    report = judge(base, come_back(base, renamed))
    assert report.problems == []
    assert any("'Movies' names other folders" in words and "/Media/Films" in words for words in report.warnings)
