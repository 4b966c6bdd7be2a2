"""Counting in a real SQLite pair with the real columns."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.plexburst.core.plugins.module_utils.plex import counters
from ansible_collections.plexburst.core.plugins.module_utils.plex.errors import CountersBusy, CountersError

JSON = '{"ms:musicAnalysisVersion":"1","url":"ms%3AmusicAnalysisVersion=1"}'
URL = "at%3Ax=1&ms%3AmusicAnalysisVersion=1"


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    with sqlite3.connect(tmp_path / counters.LIBRARY) as db:
        db.executescript(
            """
            CREATE TABLE library_sections(id INTEGER PRIMARY KEY, name, section_type);
            CREATE TABLE section_locations(id INTEGER PRIMARY KEY, library_section_id, root_path);
            CREATE TABLE metadata_items(id INTEGER PRIMARY KEY, library_section_id, parent_id, metadata_type, title,
                extra_data, deleted_at, changed_at DEFAULT 0);
            CREATE TABLE media_items(id INTEGER PRIMARY KEY, library_section_id, metadata_item_id, deleted_at,
                media_analysis_version DEFAULT 0);
            CREATE TABLE media_parts(id INTEGER PRIMARY KEY, media_item_id, file, deleted_at);
            INSERT INTO library_sections VALUES (1, 'Music', 8), (2, 'Movies', 1);
            INSERT INTO metadata_items(id, library_section_id, metadata_type, title)
                VALUES (1, 1, 8, 'Artist'), (2, 1, 9, 'Album');
            """
        )
        rows = [(10, JSON), (11, URL), (12, None), (13, '{"ms:musicAnalysisVersion":"0"}'), (14, "x=1")]
        for item, extra in rows:
            db.execute("INSERT INTO metadata_items VALUES (?, 1, 2, 10, 'T', ?, NULL, 5)", (item, extra))
            db.execute("INSERT INTO media_items VALUES (?, 1, ?, NULL, ?)", (item, item, item % 2))
            db.execute("INSERT INTO media_parts VALUES (?, ?, ?, NULL)", (item, item, f"/Media/Music/{item}.flac"))
        db.execute("INSERT INTO metadata_items VALUES (15, 1, 2, 10, 'Gone', ?, 99, 5)", (JSON,))
    with sqlite3.connect(tmp_path / counters.BLOBS) as db:
        db.execute("CREATE TABLE blobs(id INTEGER PRIMARY KEY, linked_type, linked_id, blob_type)")
        db.executemany("INSERT INTO blobs VALUES (NULL, 'metadata_item', ?, ?)", [(10, 7), (11, 7), (15, 7), (12, 3)])
    return tmp_path


def test_both_encodings_count_and_version_zero_does_not(pair: Path) -> None:
    counted = counters.read(pair, [1])
    assert (counted.sonic_total, counted.sonic_done, counted.sonic_pending) == (5, 2, 3)
    assert (counted.items, counted.items_trashed) == (5, 1)
    assert (counted.server_sonic_done, counted.server_sonic_blobs) == (3, 3)
    assert counted.media_analysed == 2
    assert [track.id for track in counters.sonic_left(pair, [1])] == [12, 13, 14]
    assert counters.sonic_ids(pair, [1], done=True, limit=10) == [10, 11]


def test_an_unknown_section_is_an_error_not_a_zero(pair: Path) -> None:
    with pytest.raises(CountersError, match="no section with id"):
        counters.read(pair, [7])


def test_a_missing_database_is_an_error_not_a_zero(tmp_path: Path) -> None:
    with pytest.raises(CountersError, match="does not exist"):
        counters.read(tmp_path, [1])
    assert list(tmp_path.iterdir()) == []  # and none was made by looking


def test_a_damaged_database_is_an_error_not_a_zero(pair: Path) -> None:
    path = pair / counters.LIBRARY
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(CountersError, match="unknown, not zero"):
        counters.read(pair, [1])


def test_without_sqlite_counting_fails_in_words(pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counters, "SQLITE_PROBLEM", "No module named '_sqlite3'")
    with pytest.raises(CountersError, match="no sqlite3"):
        counters.read(pair, [1])


def test_a_locked_database_is_busy_and_nothing_else(pair: Path) -> None:
    writer = sqlite3.connect(pair / counters.LIBRARY, isolation_level=None)
    writer.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(CountersBusy):
            counters.read(pair, [1], busy_seconds=0.05)
    finally:
        writer.execute("ROLLBACK")
        writer.close()
    assert counters.read(pair, [1]).items == 5


def test_nothing_is_counted_twice_and_every_write_is_seen(pair: Path) -> None:
    first = counters.read(pair, [1])
    planted = replace(first, items=12345)
    assert counters.read(pair, [1], previous=planted).items == 12345
    with sqlite3.connect(pair / counters.LIBRARY) as db:
        db.execute("UPDATE metadata_items SET extra_data = ? WHERE id = 12", (URL,))
    assert counters.read(pair, [1], previous=planted).sonic_done == 3


def test_counting_never_writes(pair: Path) -> None:
    with pytest.raises(CountersError), counters.connect(pair) as connection:
        connection.execute("DELETE FROM metadata_items")


def test_probed_files_change_with_the_seed_and_cover_small_sections(pair: Path) -> None:
    assert len(counters.section_files(pair, 1, limit=12, seed=0)) == 5
    picks = {tuple(counters.section_files(pair, 1, limit=2, seed=seed)) for seed in range(5)}
    assert len(picks) > 1
