"""Counting in a real SQLite pair with the real columns."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.plexburst.core.plugins.module_utils.plex.errors import CountersBusy, CountersError
from ansible_collections.plexburst.core.plugins.module_utils.plex.observe import counter_cache, counters
from ansible_collections.plexburst.core.plugins.module_utils.plex.observe.sample import Counters
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandbox.plex import database as plex_database

JSON = '{"ms:musicAnalysisVersion":"1","url":"ms%3AmusicAnalysisVersion=1"}'
URL = "at%3Ax=1&ms%3AmusicAnalysisVersion=1"


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


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


class Plex:
    """A writer that holds both databases open in WAL mode, as Plex does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cache = folder / "cache"
        self.library = sqlite3.connect(folder / counters.LIBRARY, isolation_level=None)
        self.blobs = sqlite3.connect(folder / counters.BLOBS, isolation_level=None)
        for connection in (self.library, self.blobs):
            connection.execute("PRAGMA journal_mode=WAL")
        self.library.execute("CREATE INDEX index_metadata_items_on_changed_at ON metadata_items(changed_at)")
        self.blobs.execute("INSERT INTO blobs VALUES (NULL, 'other', 0, 1)")
        self.now = 1000.0

    def change(self, sql: str, *values: Any, moves: bool = True) -> None:
        """An UPDATE of metadata_items' other columns; `moves` says whether changed_at goes up with it."""
        newest = self.library.execute("SELECT MAX(changed_at) FROM metadata_items").fetchone()[0]
        self.library.execute("BEGIN")
        where = sql[sql.index("WHERE") :]
        self.library.execute(f"UPDATE metadata_items SET {sql}", values)  # noqa: S608 the tests' own words
        if moves:
            self.library.execute(f"UPDATE metadata_items SET changed_at = {newest + 1} {where}")  # noqa: S608 the same
        self.library.execute("COMMIT")

    def sonic(self, item: int, *, moves: bool = True) -> None:
        """Sonic data for a track."""
        self.change(f"extra_data = ? WHERE id = {item}", JSON, moves=moves)
        self.blobs.execute("INSERT INTO blobs VALUES (NULL, 'metadata_item', ?, 7)", (item,))

    def look(self, cursor: Counters | None = None, seconds: float = 1.0) -> Counters:
        """One look, `seconds` after the one before."""
        self.now += seconds
        return counters.read(self.folder, [1], previous=cursor, cache=self.cache, clock=lambda: self.now)

    def begun(self) -> Counters:
        """A first look, and a second one that fills the memory."""
        first = self.look()
        self.change("title = 'x' WHERE id = 1")
        return self.look(first)

    def close(self) -> None:
        self.library.close()
        self.blobs.close()


@pytest.fixture
def plex(pair: Path) -> Iterator[Plex]:
    made = Plex(pair)
    yield made
    made.close()


def numbers(seen: Counters) -> dict[str, Any]:
    return {key: value for key, value in asdict(seen).items() if key not in ("signature", "seconds", "full", "drift")}


def test_nothing_is_read_again_when_nothing_was_written(plex: Plex, monkeypatch: pytest.MonkeyPatch) -> None:
    first = plex.look(plex.begun())
    with monkeypatch.context() as patched:

        def refuse(*_: Any, **__: Any) -> None:
            raise AssertionError("the database was opened")

        patched.setattr(counters, "connect", refuse)
        assert numbers(plex.look(first)) == numbers(first)
    plex.sonic(12)
    assert plex.look(first).sonic_done == first.sonic_done + 1


def test_every_single_write_changes_the_signature_however_fast(plex: Plex) -> None:
    plex.begun()
    seen = set()
    for number in range(200):
        plex.library.execute("UPDATE media_parts SET file = ? WHERE id = 10", (f"/{number}",))
        seen.add(counters.signature(plex.folder))
    assert len(seen) == 200


def test_without_a_wal_index_a_fresh_write_is_never_skipped(pair: Path) -> None:
    first = counters.read(pair, [1])
    with sqlite3.connect(pair / counters.LIBRARY) as db:
        db.execute("UPDATE metadata_items SET extra_data = ? WHERE id = 12", (URL,))
    assert counters.read(pair, [1], previous=first).sonic_done == 3
    time.sleep(0.06)
    assert counters.signature(pair) == counters.signature(pair) != ""


def test_an_increment_reads_only_what_changed_and_is_not_called_full(plex: Plex) -> None:
    cursor = plex.begun()
    assert cursor.full
    plex.sonic(12)
    seen = plex.look(cursor)
    assert not seen.full
    assert (seen.sonic_done, seen.server_sonic_done, seen.server_sonic_blobs) == (3, 4, 4)


def test_a_refresh_of_tracks_that_have_sonic_data_is_no_progress(plex: Plex) -> None:
    # The 81,035 incident: a refresh rewrote the tracks, and changed_at moved with each.
    cursor = plex.begun()
    plex.change("title = 'again' WHERE id IN (10, 11)")
    seen = plex.look(cursor)
    assert not seen.full
    assert seen.sonic_done == cursor.sonic_done


def test_new_trashed_and_restored_items_are_seen_by_increments(plex: Plex) -> None:
    cursor = plex.begun()
    plex.library.execute("INSERT INTO metadata_items VALUES (20, 1, 2, 10, 'New', NULL, NULL, 50)")
    plex.library.execute("INSERT INTO media_items VALUES (20, 1, 20, NULL, 0)")
    plex.library.execute("INSERT INTO media_parts VALUES (20, 20, '/Media/Music/20.flac', NULL)")
    plex.change("deleted_at = 9 WHERE id = 11")
    plex.library.execute("UPDATE media_parts SET deleted_at = 9 WHERE id = 11")
    seen = plex.look(cursor)
    assert not seen.full
    assert (seen.items, seen.items_trashed, seen.parts, seen.parts_trashed, seen.sonic_done) == (5, 2, 6, 1, 1)
    plex.change("deleted_at = NULL WHERE id = 11")
    again = plex.look(seen)
    assert numbers(again) == numbers(plex.look())


def test_every_thirty_minutes_everything_is_counted(plex: Plex) -> None:
    cursor = plex.begun()
    plex.sonic(12)
    assert not plex.look(cursor, seconds=60).full
    plex.sonic(13)
    seen = plex.look(cursor, seconds=1800)
    assert seen.full
    assert (seen.sonic_done, seen.drift) == (4, 0)


def test_writes_that_do_not_move_changed_at_are_found_named_and_then_counted_fully(plex: Plex) -> None:
    cursor = plex.begun()
    plex.sonic(12, moves=False)  # the vector in blobs.db contradicts at once
    seen = plex.look(cursor)
    assert seen.full
    assert (seen.sonic_done, seen.drift) == (3, 1)
    plex.sonic(13, moves=False)
    later = plex.look(seen, seconds=60)
    assert later.full  # increments are not believed any more
    assert (later.sonic_done, later.drift) == (4, 0)


def test_items_deleted_for_good_are_found_without_distrust(plex: Plex) -> None:
    cursor = plex.begun()
    plex.library.execute("DELETE FROM metadata_items WHERE id = 14")
    seen = plex.look(cursor, seconds=300)
    assert seen.full
    assert (seen.items, seen.drift) == (4, 0)
    plex.sonic(12)
    after = plex.look(seen)
    assert not after.full
    assert after.sonic_done == 3


def test_a_full_count_on_demand_checks_the_increments(plex: Plex) -> None:
    cursor = plex.begun()
    plex.change(f"extra_data = '{URL}' WHERE id = 12", moves=False)
    assert plex.look(cursor).sonic_done == 2
    asked = plex.look()
    assert asked.full
    assert (asked.sonic_done, asked.drift) == (3, 1)


@pytest.mark.parametrize("damage", [b"", b"not a database at all, but long enough to be looked at" * 40])
def test_a_damaged_memory_costs_time_and_not_truth(plex: Plex, damage: bytes) -> None:
    cursor = plex.begun()
    (memory,) = plex.cache.glob("counted-*.db")
    memory.write_bytes(damage)
    plex.sonic(12)
    assert plex.look(cursor).sonic_done == 3


def test_the_memory_of_another_database_is_not_believed(plex: Plex) -> None:
    cursor = plex.begun()
    path = plex.folder / counters.LIBRARY
    plex.library.close()
    other = plex.folder / "other.db"
    other.write_bytes(path.read_bytes())
    with contextlib.closing(sqlite3.connect(other, isolation_level=None)) as db:
        db.execute("UPDATE metadata_items SET extra_data = NULL")
    other.replace(path)
    seen = plex.look(cursor)
    assert seen.full
    assert (seen.sonic_done, seen.drift) == (0, 0)


def test_without_a_place_for_a_memory_everything_is_counted(plex: Plex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counter_cache, "place", lambda *_: None)
    cursor = plex.begun()
    plex.sonic(12)
    seen = plex.look(cursor)
    assert seen.full
    assert seen.sonic_done == 3


def test_the_memory_is_for_its_owner_only_and_can_be_forgotten(plex: Plex) -> None:
    plex.begun()
    (memory,) = plex.cache.glob("counted-*.db")
    assert memory.stat().st_mode & 0o077 == 0
    assert plex.cache.stat().st_mode & 0o077 == 0
    counters.forget(plex.folder, [1], plex.cache)
    assert not list(plex.cache.iterdir())


CHANGES = st.lists(
    st.tuples(st.sampled_from(["sonic", "clear", "trash", "restore", "retitle", "zero"]), st.integers(10, 15)),
    min_size=1,
    max_size=8,
)


@given(rounds=st.lists(CHANGES, min_size=1, max_size=4))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_increments_give_the_numbers_of_a_full_count(plex: Plex, rounds: list[list[tuple[str, int]]]) -> None:
    counters.forget(plex.folder, [1], plex.cache)
    cursor = plex.begun()
    sql = {
        "sonic": f"extra_data = '{JSON}'",
        "clear": "extra_data = NULL",
        "trash": "deleted_at = 7",
        "restore": "deleted_at = NULL",
        "retitle": "title = 'y'",
        "zero": 'extra_data = \'{"ms:musicAnalysisVersion":"0"}\'',
    }
    for changes in rounds:
        for what, item in changes:
            plex.change(f"{sql[what]} WHERE id = {item}")
        cursor = plex.look(cursor)
        plain = counters.read(plex.folder, [1], cache=plex.folder / "nowhere")
        assert numbers(cursor) == numbers(plain)


def test_a_writer_does_not_disturb_and_a_short_lock_is_waited_for(plex: Plex) -> None:
    cursor = plex.begun()
    plex.library.execute("BEGIN IMMEDIATE")
    plex.library.execute("UPDATE metadata_items SET extra_data = ? WHERE id = 12", (JSON,))
    try:
        assert plex.look(cursor).sonic_done == 2  # what is not committed does not count
    finally:
        plex.library.execute("ROLLBACK")


def test_counting_walks_the_indexes_a_fresh_server_has(tmp_path: Path) -> None:
    # Without sqlite_stat1 the planner takes `deleted_at IS NULL` for rare; the real indexes are all there here.
    plex_database.create_pair(tmp_path)
    queries = (
        "SELECT id FROM media_items WHERE library_section_id = 1 AND +deleted_at IS NULL AND id >= 5 ORDER BY id",
        "SELECT COUNT(*) FROM media_parts p CROSS JOIN media_items i ON i.id = p.media_item_id WHERE p.deleted_at > 0",
        "SELECT COUNT(*) FROM media_items WHERE media_analysis_version <= 0 AND +deleted_at IS NULL",
    )
    with counters.connect(tmp_path) as connection:
        plans = [
            " ".join(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}").fetchall())
            for query in queries
        ]
    assert "index_media_items_on_library_section_id" in plans[0]
    assert "index_media_parts_on_deleted_at" in plans[1]
    assert "index_media_items_on_media_analysis_version" in plans[2]


def test_counting_never_writes(pair: Path) -> None:
    with pytest.raises(CountersError), counters.connect(pair) as connection:
        connection.execute("DELETE FROM metadata_items")


def test_probed_files_change_with_the_seed_and_cover_small_sections(pair: Path) -> None:
    assert len(counters.section_files(pair, 1, limit=12, seed=0)) == 5
    picks = {tuple(counters.section_files(pair, 1, limit=2, seed=seed)) for seed in range(5)}
    assert len(picks) > 1
