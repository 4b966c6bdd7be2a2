"""What the indexer did not see and home's Plex does: it comes home as home has it, never in the trash."""

# ruff: noqa: S608 - statements are built from names of the schema
from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.merge import id_gap, run
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.pair import reader
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.path_mapping import presence

from tests.unit.plex_db import building

FILM = "/Media/Movies/L'été (2020)/L'été (2020).mkv"
LATIN = "/Media/Music/A/B/caf\udce9.flac"
TRASHED = 1_790_000_000
LEVELS = ("metadata_items", "media_items", "media_parts")


class Sides:
    """Base, home and the indexer of one library: an artist (100) with album (101) and the tracks, and a film."""

    def __init__(self, root: Path) -> None:
        self.base, self.ours, self.theirs = root / "base", root / "ours", root / "theirs"
        building.make_library(self.base)
        columns = "id, library_section_id, parent_id, metadata_type, guid, title"
        building.write(
            self.base / building.LIBRARY,
            (
                (
                    f"INSERT INTO metadata_items({columns}) "
                    "VALUES(100, 1, NULL, 8, 'g-a', 'A'), (101, 1, 100, 9, 'g-b', 'B')"
                ),
            ),
            ("UPDATE metadata_items SET parent_id = 101 WHERE metadata_type = 10",),
            ("INSERT INTO directories(id, library_section_id, path) VALUES(1, 1, ''), (2, 1, 'A'), (3, 1, 'A/B')",),
            ("UPDATE directories SET parent_directory_id = id - 1 WHERE id > 1",),
            ("UPDATE media_parts SET directory_id = 3 WHERE id <= 10",),
            (
                "UPDATE media_parts SET file = CAST(x'"
                + LATIN.encode("utf-8", "surrogateescape").hex()
                + "' AS TEXT) WHERE id = 3",
            ),
        )
        for directory in (self.ours, self.theirs):
            shutil.copytree(self.base, directory)
        id_gap.raise_pair(self.theirs)
        self.asked: list[str] = []

    def trash(self, *numbers: int, levels: Sequence[str] = LEVELS) -> None:
        """The indexer's Plex does not see the files of these items."""
        for table in levels:
            listed = ", ".join(str(number) for number in numbers)
            building.write(
                self.theirs / building.LIBRARY, (f"UPDATE {table} SET deleted_at = {TRASHED} WHERE id IN ({listed})",)
            )

    def merge(self, there: Sequence[str] = (), unknown: Sequence[str] = (), **options: Any) -> run.Merged:
        def look(paths: Sequence[str], roots: Sequence[str]) -> presence.Presence:
            assert sorted(roots) == ["/Media/Movies", "/Media/Music"]
            self.asked = list(paths)
            states = dict.fromkeys(paths, presence.ABSENT)
            states |= dict.fromkeys(there, presence.PRESENT) | dict.fromkeys(unknown, presence.UNKNOWN)
            return presence.Presence(states, dict.fromkeys(unknown, presence.HANGS))

        return run.merge(self.base, self.ours, self.theirs, plex_sqlite=building.plex_sqlite(), look=look, **options)

    def rows(self, directory: Path, table: str) -> list[tuple[Any, ...]]:
        with reader.open_closed(directory / building.LIBRARY) as library:
            return reader.rows(library, f"SELECT * FROM {table} ORDER BY id")

    def trashed(self, table: str) -> list[int]:
        with reader.open_closed(self.theirs / building.LIBRARY) as library:
            sql = f"SELECT id FROM {table} WHERE deleted_at IS NOT NULL ORDER BY id"
            return [row[0] for row in reader.rows(library, sql)]


@pytest.fixture
def sides(tmp_path: Path) -> Sides:
    return Sides(tmp_path)


def track(number: int) -> str:
    return LATIN if number == 3 else f"/Media/Music/A/B/{number:04d}.flac"


def test_without_a_look_the_indexers_trash_comes_home(sides: Sides) -> None:
    """As it was: what shows that the tests below can fail."""
    sides.trash(5000)
    done = run.merge(sides.base, sides.ours, sides.theirs, plex_sqlite=building.plex_sqlite())
    assert (done.at_home, sides.trashed("media_parts")) == ({}, [5000])


@pytest.mark.parametrize("kind", ["there", "unknown"])
def test_a_file_that_home_sees_or_may_see_comes_home_exactly_as_home_has_it(sides: Sides, kind: str) -> None:
    sides.trash(3, 5000)
    sides.trash(7)
    done = sides.merge(**{kind: [FILM, LATIN]})
    assert sorted(sides.asked) == sorted([FILM, LATIN, track(7)])
    for table in LEVELS:
        assert sides.trashed(table) == [7]
        assert [row for row in sides.rows(sides.theirs, table) if row[0] != 7] == [
            row for row in sides.rows(sides.ours, table) if row[0] != 7
        ]
    assert done.at_home["sections"] == {"Movies": 1, "Music": 1}
    assert (done.at_home["present" if kind == "there" else "unknown"], done.at_home["absent"]) == (2, 1)
    assert sorted(done.at_home["examples"]) == [FILM, "/Media/Music/A/B/caf\\xe9.flac"]


def test_a_whole_artist_with_its_folders_comes_back_and_what_is_gone_stays_in_the_trash(sides: Sides) -> None:
    sides.trash(*range(1, 11), 100, 101)
    building.write(sides.theirs / building.LIBRARY, (f"UPDATE directories SET deleted_at = {TRASHED} WHERE id > 1",))
    sides.merge(there=[track(1)])
    assert sides.trashed("media_parts") == list(range(2, 11))
    assert sides.trashed("metadata_items") == list(range(2, 11))
    assert sides.trashed("directories") == []


def test_a_version_alone_and_a_state_on_one_level_alone_are_taken_back_too(sides: Sides) -> None:
    sides.trash(1, levels=("media_parts",))
    sides.trash(2, levels=("metadata_items",))
    sides.merge(there=[track(1), track(2)])
    assert [sides.trashed(table) for table in LEVELS] == [[], [], []]


def test_what_the_indexer_deleted_comes_back_with_its_streams(sides: Sides) -> None:
    for side in (sides.base, sides.ours, sides.theirs):
        building.write(
            side / building.LIBRARY,
            ("INSERT INTO media_streams(id, stream_type_id, media_item_id, media_part_id) VALUES(70, 2, 5000, 5000)",),
        )
    for table in (*LEVELS, "media_streams"):
        building.write(sides.theirs / building.LIBRARY, (f"DELETE FROM {table} WHERE id IN (70, 5000)",))
    sides.merge(there=[FILM])
    for table in (*LEVELS, "media_streams"):
        assert sides.rows(sides.theirs, table) == sides.rows(sides.ours, table)


def test_what_home_has_in_its_trash_or_deleted_meanwhile_is_not_asked_for(sides: Sides) -> None:
    sides.trash(1, 2, 3, 5000)
    building.write(
        sides.ours / building.LIBRARY,
        ("UPDATE media_parts SET deleted_at = 5 WHERE id = 1",),
        *((f"DELETE FROM {table} WHERE id = 2",) for table in LEVELS),
    )
    sides.merge()
    assert sorted(sides.asked) == sorted([LATIN, FILM])
    sides.asked = []
    sides.merge(sections=[2])
    assert sides.asked == [FILM]


def test_a_file_that_plex_gave_another_row_is_not_laid_beside_it(sides: Sides) -> None:
    building.write(
        sides.theirs / building.LIBRARY,
        *((f"DELETE FROM {table} WHERE id = 5000",) for table in LEVELS),
        *building.film(id_gap.GAP + 9000, FILM),
    )
    sides.merge(there=[FILM])
    assert sides.asked == []


def test_nothing_is_looked_for_when_the_indexer_saw_all(sides: Sides) -> None:
    building.write(sides.theirs / building.LIBRARY, *building.film(id_gap.GAP + 9000, "/Media/Movies/New/new.mkv"))
    done = sides.merge()
    assert (sides.asked, done.at_home["present"], done.changed) == ([], 0, False)
