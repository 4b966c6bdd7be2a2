"""Sonic data alone, into a living library: vectors and marks, nothing else, and never against what home does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.errors import PlexDatabaseError
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.merge import apply, sonic
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.pair import pair, reader
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.pair.files import sha256_of

from sandbox.plex import database
from tests.unit.plex_db import building

TRACKS = 450  # more than two batches


@pytest.fixture
def sides(tmp_path: Path) -> tuple[Path, Path]:
    """Home with 3 of its tracks analysed, and the indexer's pair with all of them, another title, and a new track."""
    home = building.make_library(tmp_path / "home", tracks=TRACKS)
    theirs = tmp_path / "theirs"
    shutil.copytree(home, theirs)
    building.write(
        theirs / building.LIBRARY,
        ("UPDATE metadata_items SET extra_data = ?, title = 'Agent' WHERE metadata_type = 10", building.SONIC),
        ("INSERT INTO metadata_items(id, metadata_type, guid, extra_data) VALUES(9000, 10, 'new', ?)", building.SONIC),
    )
    building.write(theirs / building.BLOBS, *[building.vector(number) for number in range(4, TRACKS + 1)])
    return home, theirs


def rows(directory: Path, sql: str, file: str = building.LIBRARY) -> list[tuple[Any, ...]]:
    with reader.open_live(directory / file) as connection:
        return reader.rows(connection, sql)


MARKED = "SELECT COUNT(*) FROM metadata_items WHERE extra_data LIKE '%musicAnalysisVersion%'"
VECTORS = "SELECT COUNT(DISTINCT linked_id), COUNT(*) FROM blobs WHERE blob_type = 7"


def test_vectors_and_marks_come_home_and_nothing_else(sides: tuple[Path, Path]) -> None:
    home, theirs = sides
    before = rows(home, "SELECT id, title, guid, changed_at > 0 FROM metadata_items ORDER BY id")
    incoming = [sha256_of(theirs / name) for name in pair.NAMES]
    done = sonic.bring(theirs, home, plex_sqlite=building.plex_sqlite())
    assert (done.vectors, done.marks, done.skipped) == (TRACKS - 3, TRACKS - 3, 1)
    assert rows(home, MARKED) == [(TRACKS,)]
    assert rows(home, VECTORS, building.BLOBS) == [(TRACKS, TRACKS)]
    assert [row[:3] for row in rows(home, "SELECT id, title, guid FROM metadata_items ORDER BY id")] == [
        row[:3] for row in before
    ]
    assert [sha256_of(theirs / name) for name in pair.NAMES] == incoming
    assert not sonic.bring(theirs, home, plex_sqlite=building.plex_sqlite()).changed


def test_a_running_plex_goes_on_and_search_stays_whole(sides: tuple[Path, Path]) -> None:
    home, theirs = sides
    process = building.open_elsewhere(home, "UPDATE accounts SET name = 'meanwhile'")
    try:
        sonic.bring(theirs, home, plex_sqlite=building.plex_sqlite())
    finally:
        building.end(process)
    connection = database.connect(home / building.LIBRARY)
    connection.execute("INSERT INTO fts4_metadata_titles_icu(fts4_metadata_titles_icu) VALUES('integrity-check')")
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    database.close(connection)
    assert rows(home, MARKED) == [(TRACKS,)]
    assert rows(home, "SELECT name FROM accounts") == [("meanwhile",)]


def test_what_home_wrote_into_the_same_row_stays(sides: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    home, theirs = sides
    building.write(home / building.LIBRARY, ('UPDATE metadata_items SET extra_data = \'{"pv:x":"1"}\' WHERE id = 9',))
    real, calls = apply.run_plex_sqlite, []

    def beaten(*arguments: Any) -> str:
        if not calls:
            building.write(
                home / building.LIBRARY, ('UPDATE metadata_items SET extra_data = \'{"pv:x":"2"}\' WHERE id = 10',)
            )
        calls.append(arguments)
        return real(*arguments)

    monkeypatch.setattr(sonic, "run_plex_sqlite", beaten)
    sonic.bring(theirs, home, plex_sqlite=building.plex_sqlite())
    for number, value in ((9, "1"), (10, "2")):
        found = json.loads(rows(home, f"SELECT extra_data FROM metadata_items WHERE id = {number:d}")[0][0])  # noqa: S608 - a number
        assert found["pv:x"] == value
        assert found["ms:musicAnalysisVersion"] == "1"
        assert "musicAnalysisVersion" in found["url"]


def test_an_item_that_is_another_at_home_now_is_left_alone(sides: tuple[Path, Path]) -> None:
    home, theirs = sides
    building.write(home / building.LIBRARY, ("UPDATE metadata_items SET guid = 'matched anew' WHERE id = 7",))
    done = sonic.bring(theirs, home, plex_sqlite=building.plex_sqlite())
    assert done.skipped == 2
    assert rows(home, "SELECT extra_data FROM metadata_items WHERE id = 7") == [(None,)]
    assert rows(home, "SELECT COUNT(*) FROM blobs WHERE linked_id = 7", building.BLOBS) == [(0,)]


def test_a_mark_without_a_vector_is_not_brought(sides: tuple[Path, Path]) -> None:
    home, theirs = sides
    building.write(theirs / building.BLOBS, ("DELETE FROM blobs WHERE linked_id = 8",))
    sonic.bring(theirs, home, plex_sqlite=building.plex_sqlite())
    assert rows(home, "SELECT extra_data FROM metadata_items WHERE id = 8") == [(None,)]


def test_two_tracks_of_one_guid_do_not_keep_the_rest_away(sides: tuple[Path, Path]) -> None:
    """What the indexer has as guid comes along; where home has it already, a vector has its track's id alone."""
    home, theirs = sides
    same = "UPDATE metadata_items SET guid = 'plex://track/a' WHERE id IN (3, 5, 6)"
    for side in sides:
        building.write(side / building.LIBRARY, (same,))
    building.write(home / building.BLOBS, ("UPDATE blobs SET linked_guid = 'plex://track/b' WHERE linked_id = 2",))
    building.write(
        theirs / building.BLOBS,
        *[
            ("UPDATE blobs SET linked_guid = ? WHERE linked_id = ?", f"plex://track/{name}", track)
            for track, name in ((5, "a"), (7, "b"), (8, "c"))
        ],
    )
    done = sonic.bring(theirs, home, plex_sqlite=building.plex_sqlite())
    assert (done.vectors, done.marks) == (TRACKS - 3, TRACKS - 3)
    assert rows(home, VECTORS, building.BLOBS) == [(TRACKS, TRACKS)]
    named = "SELECT linked_id, linked_guid FROM blobs WHERE linked_guid NOT NULL ORDER BY 1"
    assert rows(home, named, building.BLOBS) == [(2, "plex://track/b"), (5, "plex://track/a"), (8, "plex://track/c")]
    assert not sonic.bring(theirs, home, plex_sqlite=building.plex_sqlite()).changed


def test_a_network_file_system_is_refused(sides: tuple[Path, Path], tmp_path: Path) -> None:
    home, theirs = sides
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/sda / ext4 rw 0 0\nnas:/plex {tmp_path} nfs4 rw 0 0\n")
    with pytest.raises(PlexDatabaseError, match="nfs4"):
        sonic.bring(theirs, home, plex_sqlite=building.plex_sqlite(), mounts=mounts)


def test_without_plexs_own_sqlite_nothing_is_written(sides: tuple[Path, Path]) -> None:
    home, theirs = sides
    with pytest.raises(PlexDatabaseError, match="Plex's own SQLite"):
        sonic.bring(theirs, home, plex_sqlite=[])
    assert sonic.bring(theirs, home, plex_sqlite=[], dry_run=True).marks == TRACKS - 3
    assert rows(home, MARKED) == [(3,)]
