"""The three-way merge, rule by rule: what people did at home stays, what the indexer found comes along."""

# ruff: noqa: S608 - statements are built from names of the schema; values are parameters
from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.errors import PlexDatabaseError
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.merge import id_gap, plan, policy, run, workspace
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.pair import pair, reader

from sandbox.plex import database
from tests.unit.plex_db import building, full_schema

Statement = tuple[Any, ...]
NEW = id_gap.GAP + 1000
EPISODE = (
    "INSERT INTO metadata_items(id, library_section_id, parent_id, metadata_type, guid, title) VALUES(?,?,?,?,?,?)"
)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library with every table, a playlist, a collection, and a chosen stream."""
    home = building.make_library(tmp_path_factory.mktemp("template") / "home")
    full_schema.complete(home)
    building.write(
        home / building.LIBRARY,
        (
            (
                "INSERT INTO play_queue_generators(id, playlist_id, metadata_item_id, created_at, updated_at) "
                "VALUES(1, "
                "900, 2, 1, 1)"
            ),
        ),
        (EPISODE, 901, 1, None, 18, "collection://1", "Best"),
        ("INSERT INTO tags(id, metadata_item_id, tag, tag_type) VALUES(50, 901, 'Best', 2)",),
        ("INSERT INTO tags(id, tag, tag_type) VALUES(51, 'Rock', 1)",),
        ("INSERT INTO taggings(id, metadata_item_id, tag_id) VALUES(60, 2, 50), (61, 3, 50), (62, 3, 51)",),
        (
            (
                'INSERT INTO media_streams(id, stream_type_id, media_item_id, media_part_id, "index", language, codec) '
                "VALUES(70, 2, 5000, 5000, 1, 'fra', 'aac'), (71, 2, 5000, 5000, 2, 'eng', 'aac')"
            ),
        ),
        (
            (
                "INSERT INTO media_part_settings(id, account_id, media_part_id, selected_audio_stream_id) "
                "VALUES(80, 1, "
                "5000, 71)"
            ),
        ),
        ("INSERT INTO devices(id, identifier) VALUES(1, 'tv')",),
    )
    return home


class Case:
    """Base, ours and theirs from one template, each changed by statements, merged into theirs."""

    def __init__(self, template: Path, root: Path) -> None:
        self.base, self.ours, self.theirs = root / "base", root / "ours", root / "theirs"
        for directory in (self.base, self.ours, self.theirs):
            shutil.copytree(template, directory)
        id_gap.raise_pair(self.theirs)
        self.file = root / "conflicts.jsonl"

    def at_home(self, *statements: Statement, file: str = building.LIBRARY) -> None:
        building.write(self.ours / file, *statements)

    def at_the_indexer(self, *statements: Statement, file: str = building.LIBRARY) -> None:
        building.write(self.theirs / file, *statements)

    def merge(self, **options: Any) -> run.Merged:
        options = {"plex_sqlite": building.plex_sqlite(), "conflicts_file": self.file, **options}
        done = run.merge(self.base, self.ours, self.theirs, **options)
        if not options.get("dry_run"):
            again = run.merge(self.base, self.ours, self.theirs, **{**options, "conflicts_file": None})
            assert not again.changed, (again.put, again.drop, again.whole)
            check_search(self.theirs)
        return done

    def rows(self, sql: str, file: str = building.LIBRARY) -> list[tuple[Any, ...]]:
        with reader.open_closed(self.theirs / file) as connection:
            return reader.rows(connection, sql)

    def conflicts(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.file.read_text().splitlines()]


def check_search(directory: Path) -> None:
    """The search indexes fit their tables, says Plex's own SQLite."""
    connection = database.connect(directory / building.LIBRARY)
    for name in ("fts4_metadata_titles_icu", "fts4_tag_titles_icu"):
        connection.execute(f"INSERT INTO {name}({name}) VALUES('integrity-check')")
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    database.close(connection)


@pytest.fixture
def case(template: Path, tmp_path: Path) -> Case:
    return Case(template, tmp_path)


def table_names(directory: Path) -> set[str]:
    with reader.open_closed(directory / pair.LIBRARY) as library:
        return reader.tables(library)


def test_every_table_of_a_plex_database_has_a_rule(template: Path) -> None:
    without = {name for name in (*full_schema.ALL, *table_names(template)) if policy.rule_of(name) is None}
    assert without == set()
    assert set(policy.RULES) <= set(full_schema.ALL), "a rule for a table that no Plex database has"
    assert all(rule.why for rule in policy.RULES.values())


def test_every_unique_key_is_looked_at_and_of_those_the_merge_settles_no_row_is_referred_to(template: Path) -> None:
    assert set(policy.UNIQUE) == set(database.UNIQUE)
    sql = (
        "SELECT m.name, l.name, i.name FROM sqlite_master m, pragma_index_list(m.name) l, pragma_index_info(l.name) i "
        "WHERE m.type = 'table' AND l.\"unique\" AND l.origin = 'c' ORDER BY l.name, i.seqno"
    )
    found: dict[tuple[str, str], tuple[str, ...]] = {}
    with reader.open_closed(template / pair.LIBRARY) as library:
        for table, index, column in reader.rows(library, sql):
            found[table, index] = (*found.get((table, index), ()), column)
    assert sorted((table, columns) for (table, _), columns in found.items()) == sorted(policy.UNIQUE)
    merged = {table for table, _ in policy.UNIQUE if policy.RULES[table].kind == policy.MERGE}
    assert merged == {"blobs"}
    assert not [rule for rule in policy.RULES.values() if merged & set(rule.references.values())]


def test_homes_rows_take_keys_that_the_indexer_gave_to_others(case: Case) -> None:
    named = "INSERT INTO preferences(id, name, value) VALUES(?, ?, ?)"
    case.at_home((named, 1, "x", "home"), (named, 2, "y", "home"), (named, 3, "z", "home"))
    case.at_the_indexer((named, 1, "y", "i"), (named, 2, "z", "i"), (named, 3, "w", "i"), (named, 4, "x", "i"))
    case.merge()
    assert case.rows("SELECT id, name, value FROM preferences ORDER BY id") == [
        (number, name, "home") for number, name in enumerate("xyz", 1)
    ]


def test_titles_of_rows_that_are_written_anew_are_found_and_their_children_stay(case: Case) -> None:
    activity = "INSERT INTO activities(id, parent_id, title) VALUES(?, ?, ?)"
    for change in (case.at_home, case.at_the_indexer):
        change((activity, 1, None, "old"), (activity, 2, 1, "child"))
    case.at_home(
        ("UPDATE activities SET title = 'new' WHERE id = 1",),
        ("UPDATE metadata_items SET title = 'Zebra', title_sort = 'Zebra' WHERE id = 3",),
        ("UPDATE tags SET tag = 'Polka' WHERE id = 51",),
    )
    case.merge()
    assert case.rows("SELECT id, title FROM activities ORDER BY id") == [(1, "new"), (2, "child")]
    connection = database.connect(case.theirs / building.LIBRARY)
    for table, old, new, number in (("metadata_titles", "3", "zebra", 3), ("tag_titles", "rock", "polka", 51)):
        sql = f"SELECT docid FROM fts4_{table}_icu WHERE fts4_{table}_icu MATCH ?"
        assert connection.execute(sql, (new,)).fetchall() == [(number,)]
        assert connection.execute(sql, (old,)).fetchall() == []
    database.close(connection)


BLOB = (
    "INSERT INTO blobs(id, blob, linked_id, linked_guid, linked_type, blob_type) VALUES(?, ?, ?, ?, 'metadata_item', 7)"
)
ALL_BLOBS = "SELECT id, linked_id, linked_guid FROM blobs ORDER BY id"


def test_two_tracks_of_one_guid_both_have_their_vector_and_homes_has_the_guid(case: Case) -> None:
    case.at_home((BLOB, 20, b"home", 5, "plex://track/a"), file=building.BLOBS)
    case.at_the_indexer(
        (BLOB, NEW, b"i", 6, "plex://track/a"), (BLOB, NEW + 1, b"i", 7, "plex://track/b"), file=building.BLOBS
    )
    case.merge()
    assert case.rows(ALL_BLOBS, building.BLOBS)[3:] == [
        (20, 5, "plex://track/a"),
        (NEW, 6, None),
        (NEW + 1, 7, "plex://track/b"),
    ]
    (told,) = case.conflicts()
    assert (told["table"], told["id"]) == ("blobs", NEW)
    assert "linked_guid" in told["what"]


def test_a_blob_that_the_indexer_gave_to_a_track_of_homes_own_blob_stays_as_home_has_it(case: Case) -> None:
    case.at_home(
        ("DELETE FROM blobs WHERE linked_id = 1",), (BLOB, 20, b"home", 1, "plex://track/a"), file=building.BLOBS
    )
    case.at_the_indexer(
        ("DELETE FROM blobs WHERE linked_id = 1",),
        ("UPDATE blobs SET linked_id = 1, blob = x'11' WHERE linked_id = 2",),
        file=building.BLOBS,
    )
    case.merge()
    assert case.rows("SELECT id, linked_id, blob FROM blobs WHERE linked_id < 3 ORDER BY id", building.BLOBS) == [
        (2, 2, b"\0"),
        (20, 1, b"home"),
    ]
    assert [entry["id"] for entry in case.conflicts() if "as it is there" in entry["what"]] == [2]


def test_blobs_that_have_nothing_but_their_guid_are_told_by_it(case: Case) -> None:
    case.at_home((BLOB, 20, b"home", None, "a"), (BLOB, 21, b"home", None, "b"), file=building.BLOBS)
    case.at_the_indexer((BLOB, NEW, b"i", None, "b"), (BLOB, NEW + 1, b"i", None, "c"), file=building.BLOBS)
    case.merge()
    assert case.rows("SELECT linked_guid, blob FROM blobs WHERE linked_id IS NULL ORDER BY 1", building.BLOBS) == [
        ("a", b"home"),
        ("b", b"home"),
        ("c", b"i"),
    ]


def test_a_home_whose_own_rows_share_a_key_is_called_damaged(case: Case) -> None:
    sql = "SELECT name FROM sqlite_master WHERE name LIKE 'index_blobs_on_linked_type_and_linked_id%'"
    with reader.open_closed(case.ours / building.BLOBS) as blobs:
        ((name,),) = reader.rows(blobs, sql)
    case.at_home((f'DROP INDEX "{name}"',), (BLOB, 20, b"", 5, None), (BLOB, 21, b"", 5, None), file=building.BLOBS)
    with pytest.raises(PlexDatabaseError, match=r"rows 21 of blobs .* damaged"):
        case.merge()


def test_the_columns_that_rules_name_exist(template: Path) -> None:
    for rule in policy.RULES.values():
        with reader.open_closed(template / pair.LIBRARY) as library:
            known = set(reader.columns(library, rule.table))
        named = {
            *rule.references,
            *rule.identity,
            *rule.newest,
            *rule.indexers,
            *filter(None, (rule.owner, rule.set_of)),
        }
        assert named <= known or not known, f"{rule.table}: {sorted(named - known)}"


@pytest.mark.parametrize("table", sorted(name for name, rule in policy.RULES.items() if rule.kind == policy.HOME))
def test_home_wins_whole_in_every_table_of_people(template: Path, tmp_path: Path, table: str) -> None:
    case = Case(template, tmp_path)
    with reader.open_closed(case.base / pair.LIBRARY) as library:
        keyed = "id" in reader.columns(library, table) and table != "external_metadata_items"
        last = reader.columns(library, table)[-1]
        needed = reader.rows(library, 'SELECT name FROM pragma_table_info(?) WHERE "notnull" AND pk = 0', (table,))
    extra = {str(row[0]): 1 for row in needed if row[0] != last}
    names = ", ".join(f'"{name}"' for name in ("id", *extra, last) if keyed or name != "id")

    def row(number: int, value: int) -> Statement:
        values = [number, *extra.values(), value] if keyed else [*extra.values(), value]
        return (f'INSERT INTO "{table}"({names}) VALUES({", ".join("?" * len(values))})', *values)

    case.at_home(row(4711, 7))
    case.at_the_indexer(row(NEW, 9), row(NEW + 1, 10))
    case.merge(plex_sqlite=())
    found = case.rows(f'SELECT "{last}" FROM "{table}"')
    assert (7,) in found or ("7",) in found
    assert (9,) not in found


def test_the_indexers_new_items_and_analyses_come_along(case: Case) -> None:
    case.at_the_indexer(*building.track(NEW, "/Media/Music/new.flac", building.SONIC))
    case.at_the_indexer(building.vector(NEW), file=building.BLOBS)
    done = case.merge()
    assert not done.changed
    assert case.rows(f"SELECT file FROM media_parts WHERE id = {NEW}") == [("/Media/Music/new.flac",)]
    assert case.rows(f"SELECT COUNT(*) FROM blobs WHERE linked_id = {NEW}", building.BLOBS) == [(1,)]


def test_items_that_home_added_meanwhile_stay_and_can_be_found(case: Case) -> None:
    case.at_home(*building.track(9000, "/Media/Music/home.flac"), *building.film(9001, "/Media/Movies/x.mkv"))
    case.at_home(building.vector(9000), file=building.BLOBS)
    case.at_the_indexer(*building.track(NEW, "/Media/Music/new.flac"))
    case.merge()
    assert case.rows("SELECT id FROM metadata_items WHERE id >= 9000 ORDER BY id") == [(9000,), (9001,), (NEW,)]
    assert case.rows("SELECT linked_id FROM blobs WHERE linked_id = 9000", building.BLOBS) == [(9000,)]


def test_what_home_deleted_stays_deleted_with_what_the_indexer_added_to_it(case: Case) -> None:
    case.at_home(*[(f"DELETE FROM {name} WHERE id = 4",) for name in ("media_parts", "media_items", "metadata_items")])
    case.at_the_indexer(
        ("UPDATE metadata_items SET extra_data = ? WHERE id = 4", building.SONIC),
        ("INSERT INTO taggings(id, metadata_item_id, tag_id) VALUES(?, 4, 51)", NEW),
        ("INSERT INTO media_streams(id, media_part_id, media_item_id) VALUES(?, 4, 4)", NEW),
    )
    case.at_the_indexer(building.vector(4), file=building.BLOBS)
    done = case.merge()
    for name in ("metadata_items", "media_items", "media_parts"):
        assert case.rows(f"SELECT COUNT(*) FROM {name} WHERE id = 4") == [(0,)]
    assert case.rows(f"SELECT COUNT(*) FROM taggings WHERE id = {NEW}") == [(0,)]
    assert case.rows(f"SELECT COUNT(*) FROM media_streams WHERE id = {NEW}") == [(0,)]
    assert case.rows("SELECT COUNT(*) FROM blobs WHERE linked_id = 4", building.BLOBS) == [(0,)]
    assert done.conflicts
    assert {
        "table": "metadata_items",
        "id": 4,
        "what": "deleted at home, changed by the indexer",
        "kept": "home's",
    } in (case.conflicts())


def test_home_wins_column_by_column_and_the_rest_is_the_indexers(case: Case) -> None:
    case.at_home(
        ("UPDATE metadata_items SET title = 'Mine', user_fields = 'lockedFields=1', updated_at = 50 WHERE id = 3",)
    )
    case.at_the_indexer(
        (
            "UPDATE metadata_items SET title = 'Theirs', summary = 'New', extra_data = ?, updated_at = 70 WHERE id = 3",
            building.SONIC,
        )
    )
    case.merge()
    sql = "SELECT title, user_fields, summary, extra_data, updated_at FROM metadata_items WHERE id = 3"
    assert case.rows(sql) == [("Mine", "lockedFields=1", "New", building.SONIC, 70)]
    assert [entry["what"] for entry in case.conflicts()] == ["changed on both sides: title"]


def test_a_change_of_case_alone_is_a_change(case: Case) -> None:
    case.at_home(("UPDATE metadata_items SET title_sort = 'TITLE 3' WHERE id = 3",))
    case.merge()
    assert case.rows("SELECT title_sort FROM metadata_items WHERE id = 3") == [("TITLE 3",)]


@pytest.mark.parametrize(
    ("base", "ours", "theirs", "merged"),
    [
        ('{"a":"1","url":"a=1"}', '{"a":"2","url":"a=2"}', '{"a":"1","b":"3","url":"a=1&b=3"}', {"a": "2", "b": "3"}),
        ('{"a":"1"}', "{}", '{"a":"1","b":"3"}', {"b": "3"}),
        (None, '{"pv:x":"1"}', building.SONIC, {"pv:x": "1", "ms:musicAnalysisVersion": "1"}),
        ("a=1", "a=2", "a=1&ms%3AmusicAnalysisVersion=1", "a=2&ms%3AmusicAnalysisVersion=1"),
        ("not a pair", "mine", "theirs", "mine"),
    ],
)
def test_extra_data_is_merged_key_by_key(base: str | None, ours: str, theirs: str, merged: object) -> None:
    found = workspace.merged_extra(base, ours, theirs)
    assert found is not None
    if isinstance(merged, str):
        assert found == merged
    else:
        values = json.loads(found)
        assert "=" in values.pop("url")
        assert values == merged


def test_a_member_that_home_took_out_of_a_collection_does_not_come_back(case: Case) -> None:
    case.at_home(("DELETE FROM taggings WHERE id = 61",))
    case.at_the_indexer(
        ("DELETE FROM taggings WHERE metadata_item_id = 3",),
        ("INSERT INTO taggings(id, metadata_item_id, tag_id) VALUES(?, 3, 50), (?, 3, 51)", NEW, NEW + 1),
    )
    case.merge()
    assert case.rows("SELECT metadata_item_id, tag_id FROM taggings ORDER BY 1, 2") == [(2, 50), (3, 51)]


def test_a_collection_edited_at_home_is_as_home_left_it(case: Case) -> None:
    case.at_home(
        ("UPDATE metadata_items SET title = 'The Best' WHERE id = 901",),
        ("UPDATE tags SET tag = 'The Best' WHERE id = 50",),
        ("INSERT INTO taggings(id, metadata_item_id, tag_id) VALUES(65, 5, 50)",),
        (EPISODE, 902, 1, None, 18, "collection://2", "Mine"),
        ("INSERT INTO tags(id, metadata_item_id, tag, tag_type) VALUES(55, 902, 'Mine', 2)",),
    )
    case.at_the_indexer(("INSERT INTO taggings(id, metadata_item_id, tag_id) VALUES(?, 6, 50)", NEW))
    case.merge()
    assert case.rows("SELECT tag FROM tags WHERE id IN (50, 55) ORDER BY id") == [("The Best",), ("Mine",)]
    members = "SELECT metadata_item_id FROM taggings WHERE tag_id = 50 ORDER BY 1"
    assert case.rows(members) == [(2,), (3,), (5,), (6,)]


def test_the_same_tag_made_on_both_sides_is_one(case: Case) -> None:
    case.at_home(
        ("INSERT INTO tags(id, tag, tag_type) VALUES(52, 'Jazz', 1)",),
        ("INSERT INTO taggings(id, metadata_item_id, tag_id) VALUES(66, 2, 52)",),
    )
    case.at_the_indexer(
        ("INSERT INTO tags(id, tag, tag_type) VALUES(?, 'Jazz', 1)", NEW),
        ("INSERT INTO taggings(id, metadata_item_id, tag_id) VALUES(?, 2, ?), (?, 3, ?)", NEW, NEW, NEW + 1, NEW),
    )
    case.merge()
    assert case.rows("SELECT id FROM tags WHERE tag = 'Jazz'") == [(52,)]
    assert case.rows("SELECT metadata_item_id FROM taggings WHERE tag_id = 52 ORDER BY 1") == [(2,), (3,)]
    assert case.rows(f"SELECT COUNT(*) FROM taggings WHERE tag_id = {NEW}") == [(0,)]


def grown(first: int, guid: str, file: str) -> list[Statement]:
    """A show, a season and an episode with a file, ids from `first` on."""
    return [
        (EPISODE, first, 2, None, 2, f"plex://show/{guid}", "Show"),
        (EPISODE, first + 1, 2, first, 3, f"plex://season/{guid}", "Season 1"),
        (EPISODE, first + 2, 2, first + 1, 4, f"plex://episode/{guid}", "Pilot"),
        ("INSERT INTO media_items(id, library_section_id, metadata_item_id) VALUES(?, 2, ?)", first, first + 2),
        ("INSERT INTO media_parts(id, media_item_id, file) VALUES(?, ?, ?)", first, first, file),
    ]


def test_the_same_file_found_on_both_sides_is_one_item_with_home_ids(case: Case) -> None:
    case.at_home(*grown(7000, "a", "/Media/TV/a/1.mkv"))
    case.at_the_indexer(
        *grown(NEW, "a", "/Media/TV/a/1.mkv"),
        (EPISODE, NEW + 9, 2, NEW + 1, 4, "plex://episode/a2", "Second"),
        ("INSERT INTO media_items(id, library_section_id, metadata_item_id) VALUES(?, 2, ?)", NEW + 9, NEW + 9),
        ("INSERT INTO media_parts(id, media_item_id, file) VALUES(?, ?, '/Media/TV/a/2.mkv')", NEW + 9, NEW + 9),
    )
    case.merge()
    assert case.rows("SELECT id, parent_id FROM metadata_items WHERE metadata_type IN (2, 3, 4) ORDER BY id") == [
        (7000, None),
        (7001, 7000),
        (7002, 7001),
        (NEW + 9, 7001),
    ]
    assert case.rows("SELECT file, COUNT(*) FROM media_parts WHERE file LIKE '%/TV/%' GROUP BY 1") == [
        ("/Media/TV/a/1.mkv", 1),
        ("/Media/TV/a/2.mkv", 1),
    ]


def work_of(theirs: Path, ours: Path, base: Path) -> int:
    """How many thousands of SQLite's instructions the plan of a merge takes: a measure that no other load changes."""
    count = 0

    def step() -> None:
        nonlocal count
        count += 1

    with workspace.opened(theirs / "scratch.db", base, ours, theirs) as work:
        work.connection.set_progress_handler(step, 1000)
        plan.make(work)
        work.connection.set_progress_handler(None, 0)
    return count


def test_a_track_that_home_added_costs_no_look_at_every_track(template: Path, tmp_path: Path) -> None:
    def cost(added: int) -> int:
        case = Case(base, tmp_path / f"with-{added}")
        new = [
            statement
            for number in range(added)
            for statement in building.track(20_000 + number, f"/Media/Music/new/{number}.flac")
        ]
        case.at_home(*new)
        case.at_the_indexer(
            *[(sql, *(NEW + value if value == values[0] else value for value in values)) for sql, *values in new]
        )
        return work_of(case.theirs, case.ours, case.base)

    base = tmp_path / "large"
    shutil.copytree(template, base)
    tracks = 1_500
    old = [building.track(10_000 + number, f"/Media/Music/old/{number}.flac") for number in range(tracks)]
    building.write(base / building.LIBRARY, *[statement for track in old for statement in track])
    # Thousands of instructions a track, if each were compared with all the others.
    assert cost(210) - cost(10) < tracks


def test_local_items_are_told_by_their_files(case: Case) -> None:
    local = [(sql.replace("plex://", "local://"), *values) for sql, *values in grown(7000, "7000", "/Media/TV/l.mkv")]
    other = [(sql, *values) for sql, *values in grown(NEW, str(NEW), "/Media/TV/l.mkv")]
    case.at_home(
        *[
            (sql, *[str(v).replace("plex://", "local://") if isinstance(v, str) else v for v in values])
            for sql, *values in local
        ]
    )
    case.at_the_indexer(
        *[
            (sql, *[str(v).replace("plex://", "local://") if isinstance(v, str) else v for v in values])
            for sql, *values in other
        ]
    )
    case.merge()
    assert case.rows("SELECT id FROM metadata_items WHERE metadata_type IN (2, 3, 4) ORDER BY id") == [
        (7000,),
        (7001,),
        (7002,),
    ]
    assert case.rows("SELECT COUNT(*) FROM media_parts WHERE file = '/Media/TV/l.mkv'") == [(1,)]


def test_sections_that_were_not_in_the_run_stay_homes(case: Case) -> None:
    case.at_the_indexer(
        ("UPDATE metadata_items SET summary = 'x', updated_at = 99 WHERE id IN (3, 5000)",),
        ("UPDATE library_sections SET scanned_at = 5 WHERE id IN (1, 2)",),
        *building.film(NEW, "/Media/Movies/new.mkv"),
        *building.track(NEW + 1, "/Media/Music/new.flac"),
        ("DELETE FROM media_streams WHERE id = 70",),
    )
    case.at_the_indexer(building.vector(5000), file=building.BLOBS)
    case.merge(sections=[1])
    assert case.rows("SELECT id FROM metadata_items WHERE summary = 'x'") == [(3,)]
    assert case.rows("SELECT id, scanned_at FROM library_sections ORDER BY id") == [(1, 5), (2, None)]
    assert case.rows(f"SELECT id FROM media_parts WHERE id >= {NEW}") == [(NEW + 1,)]
    assert case.rows("SELECT COUNT(*) FROM media_streams") == [(2,)]
    assert case.rows("SELECT COUNT(*) FROM blobs WHERE linked_id = 5000", building.BLOBS) == [(0,)]


def test_plays_follow_an_item_whose_guid_changed(case: Case) -> None:
    case.at_home(("UPDATE metadata_item_settings SET view_count = 9 WHERE guid = 'g-1'",))
    case.at_the_indexer(("UPDATE metadata_items SET guid = 'plex://track/new' WHERE id = 1",))
    case.merge()
    assert case.rows("SELECT id, guid, view_count FROM metadata_item_settings") == [(1, "plex://track/new", 9)]
    assert case.rows("SELECT guid FROM metadata_item_views") == [("plex://track/new",)]


def test_where_another_item_still_has_the_old_guid_both_are_watched(case: Case) -> None:
    for side in (case.base, case.ours, case.theirs):
        building.write(side / building.LIBRARY, ("UPDATE metadata_items SET guid = 'g-1' WHERE id = 2",))
    case.at_the_indexer(("UPDATE metadata_items SET guid = 'plex://track/new' WHERE id = 1",))
    case.merge()
    assert case.rows("SELECT guid, view_count FROM metadata_item_settings ORDER BY guid") == [
        ("g-1", 1),
        ("plex://track/new", 1),
    ]
    assert case.rows("SELECT guid FROM metadata_item_views") == [("g-1",)]


def test_an_account_that_has_a_row_for_the_new_guid_keeps_both(case: Case) -> None:
    case.at_home(("INSERT INTO metadata_item_settings(account_id, guid, view_count) VALUES(1, 'plex://track/new', 4)",))
    case.at_the_indexer(("UPDATE metadata_items SET guid = 'plex://track/new' WHERE id = 1",))
    case.merge()
    assert case.rows("SELECT guid, view_count FROM metadata_item_settings ORDER BY guid") == [
        ("g-1", 1),
        ("plex://track/new", 4),
    ]
    assert any("plex://track/new" in entry["what"] for entry in case.conflicts())


def test_a_guid_that_home_changed_itself_is_homes(case: Case) -> None:
    case.at_home(("UPDATE metadata_items SET guid = 'plex://track/home' WHERE id = 1",))
    case.at_the_indexer(("UPDATE metadata_items SET guid = 'plex://track/new' WHERE id = 1",))
    case.merge()
    assert case.rows("SELECT guid FROM metadata_items WHERE id = 1") == [("plex://track/home",)]
    assert case.rows("SELECT guid FROM metadata_item_settings") == [("g-1",)]


def test_a_chosen_stream_follows_the_indexers_new_analysis(case: Case) -> None:
    case.at_the_indexer(
        ("DELETE FROM media_streams",),
        (
            (
                'INSERT INTO media_streams(id, stream_type_id, media_item_id, media_part_id, "index", language, codec) '
                "VALUES(?, 2, 5000, 5000, 1, 'fra', 'aac'), (?, 2, 5000, 5000, 2, 'eng', 'aac')"
            ),
            NEW,
            NEW + 1,
        ),
    )
    case.merge()
    assert case.rows("SELECT selected_audio_stream_id FROM media_part_settings") == [(NEW + 1,)]


def test_a_chosen_stream_without_a_successor_is_listed(case: Case) -> None:
    case.at_the_indexer(("DELETE FROM media_streams WHERE id = 71",))
    case.merge()
    assert case.rows("SELECT selected_audio_stream_id FROM media_part_settings") == [(71,)]
    assert [entry["table"] for entry in case.conflicts()] == ["media_part_settings"]


def test_streams_that_home_analysed_anew_are_homes_alone(case: Case) -> None:
    stream = 'INSERT INTO media_streams(id, media_part_id, media_item_id, "index") VALUES(?, 5000, 5000, 1)'
    case.at_home(("DELETE FROM media_streams",), (stream, 75))
    case.at_the_indexer(("DELETE FROM media_streams",), (stream, NEW))
    case.merge()
    assert case.rows("SELECT id FROM media_streams") == [(75,)]


def test_an_item_that_the_indexer_deleted_and_a_playlist_holds_comes_back(case: Case) -> None:
    case.at_the_indexer(
        *[(f"DELETE FROM {name} WHERE id IN (2, 6)",) for name in ("media_parts", "media_items", "metadata_items")]
    )
    done = case.merge()
    assert case.rows("SELECT id FROM metadata_items WHERE id IN (2, 6)") == [(2,)]
    assert case.rows("SELECT id FROM media_parts WHERE id IN (2, 6)") == [(2,)]
    assert done.conflicts == 1


def test_a_playlist_follows_an_item_that_plex_joined_with_another(case: Case) -> None:
    case.at_the_indexer(
        ("UPDATE media_items SET metadata_item_id = 3 WHERE id = 2",),
        ("DELETE FROM metadata_items WHERE id = 2",),
    )
    case.merge()
    assert case.rows("SELECT metadata_item_id FROM play_queue_generators") == [(3,)]
    assert case.rows("SELECT COUNT(*) FROM metadata_items WHERE id = 2") == [(0,)]


def test_ids_that_met_are_refused(case: Case) -> None:
    case.at_home(*building.track(9000, "/Media/Music/home.flac"))
    case.at_the_indexer(*building.track(9000, "/Media/Music/other.flac"))
    with pytest.raises(PlexDatabaseError, match="both gave the ids 9000 of media_parts"):
        case.merge()


def test_another_version_is_refused(case: Case) -> None:
    case.at_the_indexer(("INSERT INTO schema_migrations(version) VALUES('209901010000')",))
    with pytest.raises(PlexDatabaseError, match="schema_migrations"):
        case.merge()


def test_a_table_that_is_not_alike_is_refused(case: Case) -> None:
    case.at_home(("ALTER TABLE accounts ADD COLUMN more TEXT",))
    with pytest.raises(PlexDatabaseError, match=r"accounts .* does not look alike"):
        case.merge()


UNKNOWN = ("CREATE TABLE IF NOT EXISTS future_things(id INTEGER PRIMARY KEY, value TEXT)",)


@pytest.mark.parametrize(
    ("home", "indexer", "kept"),
    [(("h",), (), [("h",)]), ((), ("i",), [("i",)]), (("s",), ("s",), [("s",)])],
    ids=["home alone", "the indexer alone", "both the same"],
)
def test_a_table_nothing_is_known_about_is_kept_from_who_changed_it(
    case: Case, home: Sequence[str], indexer: Sequence[str], kept: list[tuple[str]]
) -> None:
    for side in (case.base, case.ours, case.theirs):
        building.write(side / building.LIBRARY, UNKNOWN)
    case.at_home(*[("INSERT INTO future_things(value) VALUES(?)", value) for value in home])
    case.at_the_indexer(*[("INSERT INTO future_things(value) VALUES(?)", value) for value in indexer])
    done = case.merge()
    assert case.rows("SELECT value FROM future_things") == kept
    assert bool(done.warnings) == (indexer == ("i",))


def test_a_table_nothing_is_known_about_that_both_changed_is_refused(case: Case) -> None:
    for side in (case.base, case.ours, case.theirs):
        building.write(side / building.LIBRARY, UNKNOWN)
    case.at_home(("INSERT INTO future_things(value) VALUES('h')",))
    case.at_the_indexer(("INSERT INTO future_things(value) VALUES('i')",))
    with pytest.raises(PlexDatabaseError, match="future_things"):
        case.merge()


def test_counters_are_never_turned_back(case: Case) -> None:
    case.at_home(("UPDATE sqlite_sequence SET seq = 99000000 WHERE name IN ('media_parts', 'accounts')",))
    case.at_home(("INSERT INTO accounts(id, name) VALUES(5, 'child')",))
    case.merge()
    with reader.open_closed(case.theirs / pair.LIBRARY) as library:
        found = id_gap.sequences(library)
    assert found["media_parts"] == found["accounts"] == 99000000
    assert found["metadata_items"] >= id_gap.GAP


def test_a_gap_is_made_once(tmp_path: Path) -> None:
    home = building.make_library(tmp_path / "home")
    before = id_gap.raise_sequences(home / pair.LIBRARY)
    assert before.changed
    assert not id_gap.raise_sequences(home / pair.LIBRARY).changed
    building.write(home / pair.LIBRARY, ("INSERT INTO metadata_items(metadata_type) VALUES(1)",))
    assert not id_gap.raise_sequences(home / pair.LIBRARY).changed
    with reader.open_closed(home / pair.LIBRARY) as library:
        assert reader.number(library, "SELECT MAX(id) FROM metadata_items") == 5000 + id_gap.GAP + 1
    assert before.before["taggings"] == 0
    assert before.after["taggings"] == id_gap.GAP


def test_a_database_that_takes_the_place_of_a_raised_one_is_raised_too(tmp_path: Path) -> None:
    """An existing server: home has installed what the last run made there, so its counters are above what is noted."""
    home = building.make_library(tmp_path / "home")
    id_gap.raise_pair(home)
    again = tmp_path / "again"
    shutil.copytree(home, again)
    building.write(again / pair.LIBRARY, ("INSERT INTO metadata_items(id, metadata_type) VALUES(800000, 1)",))
    for name in pair.NAMES:
        (again / name).replace(home / name)
    assert id_gap.raise_sequences(home / pair.LIBRARY).before["metadata_items"] == 800_000
    assert not id_gap.raise_sequences(home / pair.LIBRARY).changed


def test_a_gap_beyond_what_clients_can_hold_is_refused(tmp_path: Path) -> None:
    home = building.make_library(tmp_path / "home")
    with pytest.raises(PlexDatabaseError, match="smaller gap"):
        id_gap.raise_sequences(home / pair.LIBRARY, 2**31)


def test_a_dry_run_writes_nothing(case: Case) -> None:
    case.at_home(("INSERT INTO accounts(id, name) VALUES(5, 'child')",))
    before = (case.theirs / pair.LIBRARY).read_bytes()
    assert case.merge(dry_run=True).changed
    assert (case.theirs / pair.LIBRARY).read_bytes() == before
    assert not case.file.exists()


def test_a_second_merge_from_homes_snapshot_adds_only_what_came_since(case: Case, tmp_path: Path) -> None:
    case.at_home(("UPDATE metadata_item_settings SET view_count = 5 WHERE id = 1",))
    case.at_the_indexer(("UPDATE metadata_items SET guid = 'plex://track/new' WHERE id = 1",))
    case.merge()
    shutil.copytree(case.ours, tmp_path / "now")
    case.at_home(
        ("UPDATE metadata_item_settings SET view_count = 6 WHERE id = 1",),
        ("INSERT INTO metadata_item_views(account_id, guid, viewed_at) VALUES(1, 'g-1', 77)",),
        ("UPDATE metadata_items SET title = 'Last' WHERE id = 900",),
    )
    case.base = tmp_path / "now"
    done = case.merge()
    assert done.kept == 2
    assert case.rows("SELECT guid, view_count FROM metadata_item_settings") == [("plex://track/new", 6)]
    assert case.rows("SELECT guid, viewed_at FROM metadata_item_views") == [
        ("plex://track/new", 1000),
        ("plex://track/new", 77),
    ]
    assert case.rows("SELECT title FROM metadata_items WHERE id = 900") == [("Last",)]


def test_sections_are_found_by_title_or_id(case: Case) -> None:
    assert run.section_ids(case.base, []) is None
    assert run.section_ids(case.base, ["Movies", "1"]) == [1, 2]
    with pytest.raises(PlexDatabaseError, match="no section 'Musik'"):
        run.section_ids(case.base, ["Musik"])
