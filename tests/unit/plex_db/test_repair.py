"""A damaged pair is recovered page by page into a new one, and no id is ever used twice."""

from __future__ import annotations

import contextlib
import sqlite3
import stat
import sys
from pathlib import Path

import pytest
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.checks import check, repair
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.errors import PlexDatabaseError
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.pair import manifest, pair, reader, snapshot
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.sqlite_pages import pages

from tests.unit.plex_db import building

TRACKS = 400


@pytest.fixture
def plex_sqlite(tmp_path: Path) -> list[str]:
    """The simulator's `Plex SQLite`."""
    script = tmp_path / "Plex SQLite"
    script.write_text(
        f'#!/bin/sh\nexec env PYTHONPATH="{building.REPO}" "{sys.executable}" -m sandbox.plex.sqlite "$@"\n'
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return [str(script)]


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    home = building.make_library(tmp_path / "home", tracks=TRACKS)
    building.write(
        home / pair.LIBRARY,
        ("DELETE FROM metadata_items WHERE id = 5000",),
        ("INSERT INTO locations VALUES(7, 1.0, 1.0, 2.0, 2.0)",),
        ("UPDATE metadata_items SET summary = ? WHERE id = 3", "long " * 2000),
    )
    snapshot.take(home, tmp_path / "whole", "home", "1.43.4")
    return tmp_path / "whole"


def spoil(directory: Path, page: int, name: str = pair.LIBRARY) -> None:
    with (directory / name).open("r+b") as stream:
        stream.seek((page - 1) * 1024)
        stream.write(b"\xee" * 1024)


def pages_of(directory: Path, table: str, kind: str) -> list[int]:
    with reader.open_closed(directory / pair.LIBRARY) as library:
        sql = "SELECT pageno FROM dbstat WHERE name = ? AND pagetype = ? ORDER BY path"
        return [row[0] for row in reader.rows(library, sql, (table, kind))]


def damaged(whole: Path, page: int, name: str = pair.LIBRARY) -> Path:
    """The whole pair with one page destroyed, as a disk hands it out: no manifest fits it any more."""
    target = whole.parent / "damaged"
    target.mkdir()
    for each in pair.NAMES:
        (target / each).write_bytes((whole / each).read_bytes())
    spoil(target, page, name)
    return target


def all_rows(directory: Path, name: str = pair.LIBRARY) -> dict[str, list[tuple[object, ...]]]:
    with reader.open_closed(directory / name) as connection:
        return {
            table: reader.rows(connection, f'SELECT rowid, * FROM "{table}" ORDER BY rowid')  # noqa: S608
            for table in manifest.ordinary_tables(connection)
        }


def test_every_row_of_a_healthy_file_is_read_as_sqlite_reads_it(whole: Path) -> None:
    expected = all_rows(whole)
    with contextlib.closing(pages.PageReader(whole / pair.LIBRARY)) as found:
        roots = {name: root for kind, name, root, _ in found.schema() if kind == "table"}
        for table, rows in expected.items():
            # The alias of the rowid is NULL in the file.
            read = [(row.rowid, *row.values) for row in found.table(roots[table])]
            assert [(row[0], *row[2:]) for row in read] == [(row[0], *row[2:]) for row in rows], table
        assert found.damage.pages == []
        assert found.damage.rows == 0


def test_a_destroyed_leaf_costs_its_own_rows_and_nothing_else(whole: Path, plex_sqlite: list[str]) -> None:
    broken = damaged(whole, pages_of(whole, "media_parts", "leaf")[5])
    before = {name: (broken / name).read_bytes() for name in pair.NAMES}
    target = whole.parent / "repaired"
    done = repair.repair(broken, target, plex_sqlite, base=whole)
    assert set(done) == {pair.LIBRARY}
    lost = done[pair.LIBRARY].lost()
    assert set(lost) == {"media_parts"}
    assert 0 < lost["media_parts"] < 40
    assert f"{lost['media_parts']} of media_parts lost" in repair.words(done)
    expected, found = all_rows(whole), all_rows(target)
    assert {table for table in expected if expected[table] != found[table]} == {"media_parts"}
    assert set(found["media_parts"]) < set(expected["media_parts"])
    assert {name: (broken / name).read_bytes() for name in pair.NAMES} == before
    assert (
        check.check(target, manifest.load(target / pair.MANIFEST), depth="full", plex_sqlite=plex_sqlite).problems == []
    )


def test_leaves_that_nothing_leads_to_any_more_find_their_table(whole: Path, plex_sqlite: list[str]) -> None:
    inner = pages_of(whole, "media_parts", "internal")
    broken = damaged(whole, inner[0])
    done = repair.repair(broken, whole.parent / "repaired", plex_sqlite, base=whole)
    assert done[pair.LIBRARY].stray_rows > 0
    assert done[pair.LIBRARY].lost() == {}
    assert all_rows(whole.parent / "repaired") == all_rows(whole)


def test_no_id_is_used_twice_after_a_repair(whole: Path, plex_sqlite: list[str]) -> None:
    """The highest id of metadata_items belongs to a film that was deleted: nothing but the counter knows of it."""
    with reader.open_closed(whole / pair.LIBRARY) as library:
        root = reader.number(library, "SELECT rootpage FROM sqlite_master WHERE name = 'sqlite_sequence'")
    broken = damaged(whole, root)
    done = repair.repair(broken, whole.parent / "repaired", plex_sqlite, base=whole)
    assert done[pair.LIBRARY].raised["metadata_items"] == 5000
    library = whole.parent / "repaired" / pair.LIBRARY
    building.write(library, ("INSERT INTO metadata_items(metadata_type, title) VALUES(1, 'New')",))
    with reader.open_closed(library) as connection:
        assert reader.number(connection, "SELECT id FROM metadata_items WHERE title = 'New'") == 5001


def test_the_search_and_the_places_of_photos_work_after_a_repair(whole: Path, plex_sqlite: list[str]) -> None:
    broken = damaged(whole, pages_of(whole, "fts4_metadata_titles_icu_segdir", "leaf")[0])
    target = whole.parent / "repaired"
    repair.repair(broken, target, plex_sqlite)
    connection = building.database.connect(target / pair.LIBRARY)
    found = connection.execute("SELECT COUNT(*) FROM fts4_metadata_titles_icu WHERE title MATCH 'Title'").fetchone()
    assert found == (TRACKS,)
    assert connection.execute("SELECT id, lat_min FROM locations").fetchall() == [(7, 1.0)]
    building.database.close(connection)


@pytest.mark.parametrize("with_base", [False, True])
def test_without_its_first_page_there_is_no_guessing(whole: Path, plex_sqlite: list[str], with_base: bool) -> None:
    broken = damaged(whole, 1)
    target = whole.parent / "repaired"
    with pytest.raises(PlexDatabaseError, match="Restore a backup" if with_base else "no healthy pair"):
        repair.repair(broken, target, plex_sqlite, base=whole if with_base else None)
    assert list(target.iterdir()) == []


def test_a_repair_that_fails_leaves_nothing(
    whole: Path, plex_sqlite: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = damaged(whole, pages_of(whole, "media_parts", "leaf")[5])

    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(repair, "_fill", full)
    with pytest.raises(PlexDatabaseError, match="disk is full"):
        repair.repair(broken, whole.parent / "repaired", plex_sqlite, base=whole)
    assert list((whole.parent / "repaired").iterdir()) == []
