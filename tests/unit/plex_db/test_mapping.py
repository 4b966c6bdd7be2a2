"""Path mappings: at boundaries, all at once, reversible, in one transaction, or refused in words."""

from __future__ import annotations

import shutil
import sqlite3
import sys
import unicodedata
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pytest
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.errors import PlexDatabaseError
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.pair import pair, reader
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.path_mapping import apply, mapping, plan
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.plex_db import building

PLEX_SQLITE = [sys.executable, "-m", "sandbox.plex.sqlite"]
ENGINE = apply.Engine(PLEX_SQLITE)


def to(*pairs: tuple[str, str]) -> mapping.Mappings:
    return mapping.Mappings.parse([{"from": old, "to": new} for old, new in pairs])


# -- pure


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/Media/TV", "/Media/Series"),
        ("/Media/TV/", "/Media/Series/"),
        ("/Media/TV/Show/a.mkv", "/Media/Series/Show/a.mkv"),
        ("/Media/TV/Show/TV/a.mkv", "/Media/Series/Show/TV/a.mkv"),  # once, and at the front only
        ("/Media/TV2/a.mkv", "/Media/TV2/a.mkv"),
        ("/Media/TVShows/a.mkv", "/Media/TVShows/a.mkv"),
        ("/Other/Media/TV/a.mkv", "/Other/Media/TV/a.mkv"),
        ("/Media/tv/a.mkv", "/Media/tv/a.mkv"),
        ("Media/TV/a.mkv", "Media/TV/a.mkv"),
        ("", ""),
    ],
)
def test_a_mapping_is_for_a_path_and_what_is_below_it(path: str, expected: str) -> None:
    assert to(("/Media/TV", "/Media/Series")).apply(path) == expected


def test_the_longest_mapping_wins_and_all_apply_at_once() -> None:
    found = to(("/A", "/B"), ("/B", "/A"), ("/A/x", "/C/y"), ("/A/keep", "/A/keep"))
    assert [found.apply(path) for path in ("/A/1", "/B/1", "/A/x/1", "/A/keep/1")] == [
        "/B/1",
        "/A/1",
        "/C/y/1",
        "/A/keep/1",
    ]


def test_the_unicode_form_does_not_matter_and_the_rest_is_not_touched() -> None:
    composed, decomposed = "/Media/Été", unicodedata.normalize("NFD", "/Media/Été")
    assert composed != decomposed
    rest = unicodedata.normalize("NFD", "/Noël.mkv")
    for written in (composed, decomposed):
        assert to((written, "/Media/E")).apply(decomposed + rest) == "/Media/E" + rest
        assert to((written, "/Media/E")).apply(composed + rest) == "/Media/E" + rest


@pytest.mark.parametrize("wrong", ["Media", "", "/", "//", "/a//b", "/a/./b", "/a/../b", "/a\nb", "/a\0b", "C:\\Media"])
def test_what_is_no_path_is_refused(wrong: str) -> None:
    with pytest.raises(PlexDatabaseError, match="pairs of absolute paths"):
        to((wrong, "/b"))
    with pytest.raises(PlexDatabaseError, match="pairs of absolute paths"):
        to(("/b", wrong))


def test_two_mappings_of_one_path_are_refused_in_either_unicode_form() -> None:
    with pytest.raises(PlexDatabaseError, match="mapped twice"):
        to(("/é", "/a"), (unicodedata.normalize("NFD", "/é"), "/b"))


def test_a_url_keeps_its_own_way_of_encoding() -> None:
    found = to(("/Media/TV (old)", "/Media/TV [new] 100%"))
    assert found.apply_url("file:///Media/TV%20(old)/a%20b.srt") == "file:///Media/TV%20%5Bnew%5D%20100%25/a%20b.srt"
    assert found.apply_url("file:///Media/TV%20%28old%29/a.srt") == "file:///Media/TV%20%5Bnew%5D%20100%25/a.srt"
    for other in ("file:///Media/TV%20%28older%29/a", "blob://1", "/Media/TV (old)/a", "https://x/Media/TV"):
        assert found.apply_url(other) == other


# Letters that hurt: SQL's wildcards and quotes, URL's and YAML's own, both Unicode forms, a blank, a backslash.
PART = st.sampled_from(
    ["a", "b", "TV", "TV2", "100%", "_", "l'été", unicodedata.normalize("NFD", "l'été"), "x;y", "\\", " ", '"']
)
FOLDER = st.lists(PART, min_size=1, max_size=3).map(lambda parts: "/" + "/".join(parts))
PAIRS = st.lists(st.tuples(FOLDER, FOLDER), min_size=1, max_size=4)


@settings(max_examples=400, deadline=None)
@given(PAIRS, st.lists(FOLDER, max_size=20))
def test_a_mapping_with_a_way_back_brings_every_path_back(pairs: list[tuple[str, str]], paths: list[str]) -> None:
    try:
        there = to(*pairs)
        back = there.inverse()
    except PlexDatabaseError:
        return
    for path in paths:
        matched, returned = there.match(path), back.match(there.apply(path))
        if matched is None:
            assert there.apply(path) is path
        elif returned is not None and returned[0].target == matched[0].source:
            assert unicodedata.normalize("NFC", back.apply(there.apply(path))) == unicodedata.normalize("NFC", path)
        assert unquote(there.apply_url("file://" + quote(path))) == "file://" + there.apply(path)
        assert mapping.Mappings.parse(there.as_list()).apply(path) == there.apply(path)


# -- in a library


def everything(directory: Path) -> dict[str, list[Any]]:
    """Every row of every ordinary table, bytes as they are."""
    with reader.open_closed(directory / pair.LIBRARY) as library:
        names = [
            name for name in reader.tables(library) if not name.startswith(("fts4", "spellfix", "sqlite_", "locations"))
        ]
        return {name: sorted(map(repr, reader.rows(library, f"SELECT * FROM {name}"))) for name in names}  # noqa: S608


def files(directory: Path) -> dict[int, str]:
    with reader.open_closed(directory / pair.LIBRARY) as library:
        return dict(reader.rows(library, "SELECT id, file FROM media_parts"))


def folder(row: int, parent: int | None, path: str, section: int = 1) -> tuple[Any, ...]:
    columns = "id, library_section_id, parent_directory_id, path, updated_at"
    return (f"INSERT INTO directories({columns}) VALUES(?,?,?,?,77)", row, section, parent, path)


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """Ten tracks below A/B with folder rows as Plex keeps them, a film with a subtitle beside it, in /Media."""
    directory = building.make_library(tmp_path / "pair")
    film = quote("/Media/Movies/L'été (2020)/L'été (2020).fr.srt")
    building.write(
        directory / building.LIBRARY,
        *[folder(1, None, ""), folder(2, 1, "A"), folder(3, 2, "A/B"), folder(4, 1, "A'2"), folder(5, None, "", 2)],
        folder(6, 5, "L'été (2020)", 2),
        ("UPDATE media_parts SET directory_id = 3 WHERE id <= 10",),
        ("UPDATE media_parts SET directory_id = 6 WHERE id = 5000",),
        *building.track(11, "/Media/Music/A'2/11.flac"),
        ("UPDATE media_parts SET directory_id = 4 WHERE id = 11",),
        (
            "INSERT INTO media_streams(id, stream_type_id, media_part_id, url) VALUES(1, 3, 5000, ?)",
            f"file://{film}",
        ),
    )
    return directory


def applied(directory: Path, *pairs: tuple[str, str], **more: Any) -> apply.Outcome:
    return apply.apply(directory, to(*pairs), journal=directory.parent / "journal", **more)


def reverted(directory: Path, **more: Any) -> apply.Outcome:
    return apply.revert(directory, journal=directory.parent / "journal", **more)


def rows(directory: Path, sql: str) -> list[tuple[Any, ...]]:
    with reader.open_closed(directory / pair.LIBRARY) as library:
        return reader.rows(library, sql)


def test_a_renamed_folder_moves_its_files_and_keeps_its_folder_rows(library: Path) -> None:
    outcome = applied(library, ("/Media/Music/A", "/Media/Music/A_100%'"))
    assert outcome.counts == {"directories": 2, "media_parts": 10}
    assert outcome.engine == "stock SQLite"
    assert files(library)[1] == "/Media/Music/A_100%'/B/0001.flac"
    assert files(library)[11] == "/Media/Music/A'2/11.flac"
    assert rows(library, "SELECT id, parent_directory_id, path, updated_at FROM directories WHERE id IN (2, 3)") == [
        (2, 1, "A_100%'", 77),
        (3, 2, "A_100%'/B", 77),
    ]
    assert pair.side_files(library) == []


def test_a_renamed_section_moves_its_location_and_no_folder_row(library: Path) -> None:
    outcome = applied(library, ("/Media/Movies", "/Media/Films"))
    assert outcome.counts == {"media_parts": 1, "media_streams": 1, "section_locations": 1}
    assert rows(library, "SELECT root_path FROM section_locations ORDER BY id") == [
        ("/Media/Music",),
        ("/Media/Films",),
    ]
    assert rows(library, "SELECT url FROM media_streams") == [
        ("file:///Media/Films/L%27%C3%A9t%C3%A9%20%282020%29/L%27%C3%A9t%C3%A9%20%282020%29.fr.srt",)
    ]


def test_a_folder_that_moves_deeper_gets_the_folder_rows_above_it(library: Path) -> None:
    applied(library, ("/Media/Music/A/B", "/Media/Music/New/Deep/B"))
    made = rows(library, "SELECT id, parent_directory_id, path FROM directories WHERE path LIKE 'New%' ORDER BY path")
    assert [(path, parent) for _, parent, path in made] == [
        ("New", 1),
        ("New/Deep", made[0][0]),
        ("New/Deep/B", made[1][0]),
    ]
    assert made[2][0] == 3


def test_a_folder_that_joins_another_gives_its_files_to_that_row(library: Path) -> None:
    applied(library, ("/Media/Music/A/B", "/Media/Music/A'2"))
    assert {row for (row,) in rows(library, "SELECT directory_id FROM media_parts WHERE id <= 11")} == {4}


def test_single_files_move_to_the_row_of_their_new_folder(library: Path) -> None:
    applied(library, ("/Media/Music/A/B/0001.flac", "/Media/Music/A'2/one.flac"))
    assert rows(library, "SELECT file, directory_id FROM media_parts WHERE id = 1") == [
        ("/Media/Music/A'2/one.flac", 4)
    ]


def test_folders_kept_in_an_unknown_way_are_left_alone_and_told(library: Path) -> None:
    building.write(library / building.LIBRARY, ("UPDATE directories SET path = 'hashed' WHERE id = 3",))
    before = rows(library, "SELECT * FROM directories")
    outcome = applied(library, ("/Media/Music/A", "/Media/Music/Z"))
    assert "in a way that plexburst does not know" in outcome.notes[0]
    assert rows(library, "SELECT * FROM directories") == before


def test_absolute_folder_rows_are_mapped_as_they_are(library: Path) -> None:
    building.write(
        library / building.LIBRARY, ("UPDATE directories SET path = '/Media/Music/' || path WHERE path != ''",)
    )
    applied(library, ("/Media/Music/A", "/Media/Music/Z"))
    assert rows(library, "SELECT path FROM directories WHERE id IN (2, 3)") == [
        ("/Media/Music/Z",),
        ("/Media/Music/Z/B",),
    ]


def test_guids_that_are_paths_need_plex_sqlite_and_take_plays_and_ratings_along(library: Path) -> None:
    guid = "file:///Media/Movies/L%27%C3%A9t%C3%A9%20%282020%29/a.mkv"
    building.write(
        library / building.LIBRARY,
        ("UPDATE metadata_items SET guid = ? WHERE id = 5000", guid),
        ("UPDATE metadata_item_settings SET guid = ?", guid),
        ("UPDATE metadata_item_views SET guid = ?", guid),
    )
    before = everything(library)
    with pytest.raises(PlexDatabaseError, match=r"1 items have their path as guid.*plex_sqlite"):
        applied(library, ("/Media/Movies", "/Media/Films"))
    assert everything(library) == before
    outcome = applied(library, ("/Media/Movies", "/Media/Films"), engine=ENGINE)
    assert outcome.engine == "Plex SQLite"
    for table in ("metadata_items WHERE id = 5000", "metadata_item_settings", "metadata_item_views"):
        assert rows(library, f"SELECT guid FROM {table}") == [(guid.replace("Movies", "Films"),)]  # noqa: S608
    reverted(library, engine=ENGINE)
    assert everything(library) == before


def test_blobs_of_an_item_whose_guid_is_a_path_follow_it_and_come_back_with_it(library: Path) -> None:
    guid = "file:///Media/Movies/a.mkv"
    columns = "blob, linked_type, linked_id, linked_guid, blob_type"
    blob = f"INSERT INTO blobs({columns}) VALUES(x'00', 'metadata_item', ?, ?, 5)"
    building.write(library / building.LIBRARY, ("UPDATE metadata_items SET guid = ? WHERE id = 5000", guid))
    building.write(library / building.BLOBS, (blob, 5000, guid), (blob, 1, "g-1"))

    def linked() -> list[Any]:
        with reader.open_closed(library / pair.BLOBS) as blobs:
            return reader.rows(blobs, "SELECT linked_id, linked_guid FROM blobs WHERE blob_type = 5 ORDER BY linked_id")

    applied(library, ("/Media/Movies", "/Media/Films"), engine=ENGINE, way_back=True)
    assert linked() == [(1, "g-1"), (5000, "file:///Media/Films/a.mkv")]
    assert pair.side_files(library) == []
    # Power was lost between the two files: the second call lets the blobs follow.
    building.write(library / building.BLOBS, ("UPDATE blobs SET linked_guid = ? WHERE linked_id = 5000", guid))
    applied(library, ("/Media/Movies", "/Media/Films"), engine=ENGINE, way_back=True)
    assert linked() == [(1, "g-1"), (5000, "file:///Media/Films/a.mkv")]
    reverted(library, engine=ENGINE)
    assert linked() == [(1, "g-1"), (5000, guid)]


def test_blobs_follow_guids_that_take_each_others_place_and_stay_where_another_has_the_new_one(library: Path) -> None:
    films = "/Media/Movies"
    columns = "id, linked_id, linked_guid, linked_type, blob_type"
    blob = f"INSERT INTO blobs({columns}) VALUES(?, ?, ?, 'metadata_item', 5)"
    names = {1: f"file://{films}/A/A/1.mkv", 2: f"file://{films}/A/1.mkv", 3: f"file://{films}/A/2.mkv"}
    for number, guid in names.items():
        building.write(library / building.LIBRARY, ("UPDATE metadata_items SET guid = ? WHERE id = ?", guid, number))
        building.write(library / building.BLOBS, (blob, number + 10, number, guid))
    # A blob of an item that is gone has the guid that an item takes.
    building.write(library / building.BLOBS, (blob, 20, 9999, f"file://{films}/2.mkv"))

    def linked() -> list[Any]:
        with reader.open_closed(library / pair.BLOBS) as blobs:
            return reader.rows(blobs, "SELECT linked_id, linked_guid FROM blobs WHERE blob_type = 5 ORDER BY linked_id")

    before = linked()
    with reader.open_closed(library / pair.LIBRARY) as items:
        guids = dict(reader.rows(items, "SELECT id, guid FROM metadata_items WHERE id < 4"))
    cells = [
        plan.Cell("metadata_items", "guid", number, guid, guid.replace(f"{films}/A/", f"{films}/"))
        for number, guid in guids.items()
    ]
    (remark,) = apply._follow_in_blobs(library, cells)
    assert remark.startswith("1 blobs")
    assert linked() == [
        (1, f"file://{films}/A/1.mkv"),
        (2, f"file://{films}/1.mkv"),
        (3, names[3]),
        (9999, f"file://{films}/2.mkv"),
    ]
    apply._follow_in_blobs(
        library, [plan.Cell(cell.table, cell.column, cell.row, cell.new, cell.old) for cell in cells]
    )
    assert linked() == before


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        (
            [("/Media/Music/A/B", "/Media/Music/C"), ("/Media/Music/A'2/11.flac", "/Media/Music/C/0001.flac")],
            "same path|path of another",
        ),
        ([("/Media/Music/A'2/11.flac", "/Media/Music/A/B/0001.flac")], "path of another file"),
        ([("/Media/Music/A", "/Media/Elsewhere/A")], "would leave their section"),
        (
            [("/Media/Music/A", "/Media/Music/A'2"), ("/Media/Music/A'2", "/Media/Music/A")],
            "cannot stay in the settings",
        ),
        ([("/Media/Music/A", "/Media/Music/A/A")], "cannot stay in the settings"),
    ],
)
def test_what_would_lose_or_mix_files_is_refused_and_nothing_is_changed(
    library: Path, pairs: list[tuple[str, str]], words: str
) -> None:
    before = everything(library)
    with pytest.raises(PlexDatabaseError, match=words):
        applied(library, *pairs)
    assert everything(library) == before
    assert not (library.parent / "journal").exists()


def test_two_episodes_of_one_file_go_on_sharing_it(library: Path) -> None:
    building.write(
        library / building.LIBRARY, ("UPDATE media_parts SET file = '/Media/Music/A/B/0001.flac' WHERE id = 2",)
    )
    applied(library, ("/Media/Music/A", "/Media/Music/Z"))
    assert files(library)[1] == files(library)[2] == "/Media/Music/Z/B/0001.flac"


def test_a_library_that_somebody_has_open_is_refused(library: Path) -> None:
    process = building.open_elsewhere(library)
    try:
        with pytest.raises(PlexDatabaseError, match=r"stop Plex|beside it"):
            applied(library, ("/Media/Music/A", "/Media/Music/Z"))
    finally:
        building.end(process)


def test_applying_again_changes_nothing(library: Path) -> None:
    applied(library, ("/Media/Music/A", "/Media/Music/Z"))
    again = applied(library, ("/Media/Music/A", "/Media/Music/Z"))
    assert not again.changed


def test_a_dry_run_tells_the_same_and_changes_nothing(library: Path) -> None:
    before = everything(library)
    told = applied(library, ("/Media/Music/A", "/Media/Music/Z"), dry_run=True)
    assert everything(library) == before
    assert sorted(path.name for path in library.parent.iterdir()) == ["pair"]
    assert told == applied(library, ("/Media/Music/A", "/Media/Music/Z"))


def test_a_copy_is_kept_when_asked_for(library: Path) -> None:
    before = (library / pair.LIBRARY).read_bytes()
    applied(library, ("/Media/Music/A", "/Media/Music/Z"), backup=library.parent / "before.db")
    assert (library.parent / "before.db").read_bytes() == before


def test_a_transaction_that_fails_leaves_everything_as_it_was(library: Path) -> None:
    """A trigger of the test's own makes the second of two statements fail."""
    building.write(
        library / building.LIBRARY,
        (("CREATE TRIGGER no BEFORE UPDATE ON section_locations BEGIN SELECT RAISE(ABORT, 'not today'); END"),),
    )
    before = everything(library)
    with pytest.raises(PlexDatabaseError, match=r"not today.*nothing was changed"):
        applied(library, ("/Media/Movies", "/Media/Films"))
    assert everything(library) == before
    assert not (library / apply.CHANGES).exists()


def test_the_indexers_own_names_are_taken_back_also_from_what_it_added(library: Path) -> None:
    before = everything(library)
    swap = [("/Media/Music", "/Media/Movies"), ("/Media/Movies", "/Media/Music")]
    applied(library, *swap, way_back=True)
    assert files(library)[1].startswith("/Media/Movies/A")
    assert not applied(library, *swap, way_back=True).changed
    building.write(library / building.LIBRARY, *building.track(99, "/Media/Movies/New/n.flac"))
    reverted(library)
    assert files(library)[99] == "/Media/Music/New/n.flac"
    building.write(
        library / building.LIBRARY,
        *[(f"DELETE FROM {table} WHERE id = 99",) for table in ("media_parts", "media_items", "metadata_items")],  # noqa: S608
    )
    assert everything(library) == before
    assert not reverted(library).changed
    assert everything(library) == before


def test_power_lost_before_the_journal_says_that_all_is_back_changes_nothing_twice(library: Path) -> None:
    before = everything(library)
    swap = [("/Media/Music", "/Media/Movies"), ("/Media/Movies", "/Media/Music")]
    applied(library, *swap, way_back=True)
    reverted(library)
    (library.parent / f"journal{apply.DONE}").rename(library.parent / "journal")
    assert not reverted(library).changed
    assert everything(library) == before


def test_without_a_journal_nothing_is_guessed(library: Path) -> None:
    with pytest.raises(PlexDatabaseError, match="but it does not exist"):
        reverted(library)


@pytest.mark.parametrize(
    "pairs",
    [
        [("/Media/Music/A", "/srv/A")],
        [("/Media/Music", "/srv"), ("/Media/Movies", "/srv")],
        [("/Media/Music", "/Media/Movies")],
    ],
)
def test_names_for_the_indexer_without_an_exact_way_back_are_refused(
    library: Path, pairs: list[tuple[str, str]]
) -> None:
    before = everything(library)
    with pytest.raises(PlexDatabaseError, match=r"be reverted|would both be"):
        applied(library, *pairs, way_back=True)
    assert everything(library) == before


def test_a_journal_that_was_cut_short_is_refused(library: Path) -> None:
    applied(library, ("/Media/Music/A", "/Media/Music/Z"))
    journal = library.parent / "journal"
    journal.write_text(journal.read_text()[:-10])
    before = everything(library)
    with pytest.raises(PlexDatabaseError, match=r"incomplete|cannot be read"):
        reverted(library)
    assert everything(library) == before


def test_names_that_are_no_utf8_survive(library: Path) -> None:
    raw = b"/Media/Music/A/B/caf\xe9.flac"
    building.write(library / building.LIBRARY, ("UPDATE media_parts SET file = CAST(? AS TEXT) WHERE id = 1", raw))
    before = everything(library)
    applied(library, ("/Media/Music/A", "/Media/Music/Z"))
    connection = sqlite3.connect(library / pair.LIBRARY)
    connection.text_factory = bytes
    assert connection.execute("SELECT file FROM media_parts WHERE id = 1").fetchone()[0] == raw.replace(b"/A/", b"/Z/")
    connection.close()
    reverted(library)
    assert everything(library) == before


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                ["/Media/Music/A", "/Media/Music/A/B", "/Media/Music/A'2", "/Media/Movies", "/Media/Music", "/Media"]
            ),
            st.one_of(
                FOLDER.map(lambda path: "/Media/Music" + path),
                FOLDER.map(lambda path: "/Media" + path),
                FOLDER,
                st.sampled_from(["/Media/Music", "/Media/Movies", "/Media/Music/A'2"]),
            ),
        ),
        min_size=1,
        max_size=3,
        unique_by=lambda pair: pair[0],
    ),
    st.booleans(),
)
def test_what_was_applied_is_taken_back_to_the_letter(
    library: Path, tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[str, str]], way_back: bool
) -> None:
    directory = tmp_path_factory.mktemp("case") / "pair"
    shutil.copytree(library, directory)
    before = everything(directory)
    try:
        outcome = applied(directory, *pairs, way_back=way_back)
    except PlexDatabaseError:
        assert everything(directory) == before
        return
    assert outcome.changed == (everything(directory) != before)
    places = list(files(directory).values())
    assert len(set(places)) == len(places)
    if outcome.changed or way_back:
        reverted(directory)
    assert everything(directory) == before
    shutil.rmtree(directory.parent)
