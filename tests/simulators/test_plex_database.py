"""The database pair behaves like the real one.

For Plex's own SQLite, and for a stock sqlite3 that must not touch it.
"""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sandbox.plex import database as db
from sandbox.plex import items, synthetic
from sandbox.plex.library import Library

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def library_db(tmp_path: Path) -> Path:
    path, _blobs = db.create_pair(tmp_path)
    connection = db.connect(path)
    connection.execute("INSERT INTO metadata_items(title, title_sort, metadata_type) VALUES('Été', 'Été', 10)")
    db.close(connection)
    return path


def plex_sqlite(*arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sandbox.plex.sqlite", *arguments],
        cwd=REPOSITORY,
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_fresh_pair_is_closed_whole_with_small_pages_and_nothing_beside_it(tmp_path: Path) -> None:
    paths = db.create_pair(tmp_path)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted(path.name for path in paths)
    for path in paths:
        stock = sqlite3.connect(path)
        assert stock.execute("PRAGMA page_size").fetchone() == (1024,)
        assert stock.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        stock.close()


def test_the_eight_icu_triggers_and_the_icu_index_are_there(library_db: Path) -> None:
    stock = sqlite3.connect(library_db)
    triggers = {row[0] for row in stock.execute("SELECT name FROM sqlite_master WHERE type='trigger'")}
    moments = ("after_insert", "after_update", "before_delete", "before_update")
    assert triggers == {f"fts4_{what}_titles_{moment}_icu" for what in ("metadata", "tag") for moment in moments}
    index = stock.execute("SELECT sql FROM sqlite_master WHERE name='index_title_sort_icu'").fetchone()[0]
    assert "COLLATE icu_root" in index
    stock.close()


def test_what_stands_once_in_a_real_database_stands_once_here(library_db: Path) -> None:
    stock = sqlite3.connect(library_db)
    found = {}
    for (index,) in stock.execute("SELECT name FROM sqlite_master WHERE sql LIKE 'CREATE UNIQUE%'").fetchall():
        table = stock.execute("SELECT tbl_name FROM sqlite_master WHERE name = ?", (index,)).fetchone()[0]
        found[index] = table, tuple(row[2] for row in stock.execute(f'PRAGMA index_info("{index}")'))
    made = {row[0] for row in stock.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    stock.close()
    assert len(db.UNIQUE) == 13
    assert sorted(found.values()) == sorted(key for key in db.UNIQUE if key[0] in made)
    assert ("blobs", ("linked_type", "linked_guid", "blob_type")) in found.values()


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("UPDATE metadata_items SET summary='x'", "unknown tokenizer: collating"),
        ("DELETE FROM metadata_items", "no such collation sequence: icu_root"),
        ("INSERT INTO tags(tag, tag_type) VALUES('a', 0)", "unknown tokenizer: collating"),
        ("SELECT id FROM metadata_items ORDER BY title_sort COLLATE icu_root", "no such collation sequence: icu_root"),
        ("PRAGMA integrity_check", "no such collation sequence: icu_root"),
        ("SELECT * FROM spellfix_tag_titles", "no such module: spellfix1"),
    ],
)
def test_stock_sqlite_fails_where_people_report_it(library_db: Path, statement: str, message: str) -> None:
    stock = sqlite3.connect(library_db)
    with pytest.raises(sqlite3.OperationalError, match=message):
        stock.execute(statement).fetchall()
    stock.close()


@pytest.mark.parametrize("table", ["section_locations", "media_parts", "metadata_item_settings", "metadata_item_views"])
def test_stock_sqlite_may_write_the_tables_without_triggers(library_db: Path, table: str) -> None:
    stock = sqlite3.connect(library_db)
    with stock:
        stock.execute(f"UPDATE {table} SET id=id")  # noqa: S608
    stock.close()


def test_plex_sqlite_answers_like_the_shell(library_db: Path) -> None:
    answer = plex_sqlite(str(library_db), "SELECT id, title, NULL FROM metadata_items; PRAGMA integrity_check")
    assert (answer.returncode, answer.stdout) == (0, "1|Été|\nok\n")
    assert plex_sqlite(str(library_db), text="SELECT 1, 2;\nSELECT 3").stdout == "1|2\n3\n"
    update = plex_sqlite(str(library_db), "UPDATE metadata_items SET title='Sommer'; SELECT title FROM metadata_items")
    assert update.stdout == "Sommer\n"
    found = "SELECT docid FROM fts4_metadata_titles_icu WHERE title MATCH 'sommer'"
    assert plex_sqlite(str(library_db), found).stdout == "1\n"


def test_plex_sqlite_says_what_is_wrong_and_exits_1(library_db: Path) -> None:
    answer = plex_sqlite(str(library_db), "SELECT 1; SELECT * FROM missing")
    assert answer.returncode == 1
    assert answer.stdout == "1\n"
    assert "no such table: missing" in answer.stderr
    assert plex_sqlite(str(library_db.parent / "no" / "such.db"), "SELECT 1").returncode == 1


def test_change_numbers_only_grow_and_writers_of_two_threads_wait_for_each_other(tmp_path: Path) -> None:
    with Library(tmp_path) as library:
        section = library.add_section("Music", "artist", "a", "s", ["/Media"])

        def write() -> None:
            for number in range(40):
                library.add_collection(section, f"{threading.get_ident()} {number}", [])
            library.pair.close_thread()

        threads = [threading.Thread(target=write) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        changes = [row[0] for row in library.library.execute("SELECT changed_at FROM metadata_items ORDER BY id")]
    assert len(changes) == 80
    assert changes == sorted(set(changes))


def test_a_large_library_is_read_in_pages(tmp_path: Path) -> None:
    tracks = 12_000
    section = synthetic.fill(tmp_path, tracks=tracks, sonic=0.25)
    with Library(tmp_path) as library:
        sql = library.library
        steps: list[int] = []
        # The progress handler counts virtual machine steps: a measure of work that a busy machine does not change.
        sql.set_progress_handler(lambda: bool(steps.append(1)), 1000)
        total, rows = items.listing(sql, section, db.TRACK, items.Page(0, 50))
        pending = library.sonic_pending([section], 0, 10)
        found = items.search(sql, "Amber Coa", 10)
        sql.set_progress_handler(None)
        assert (total, len(rows), len(pending), len(found)) == (tracks, 50, 10, 10)
        assert len(steps) < 300, len(steps)
        titles = [row[6] for row in rows]
        assert titles == sorted(titles)
        assert pending[0][1].startswith("/Media/Music/")
        marked = sql.execute(
            "SELECT count(*) FROM metadata_items WHERE metadata_type=10 AND extra_data LIKE '%musicAnalysisVersion%'"
        ).fetchone()[0]
        blobs = library.pair.blobs.execute("SELECT count(*) FROM blobs WHERE blob_type=7").fetchone()[0]
        assert marked == blobs == tracks // 4
        assert sql.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
