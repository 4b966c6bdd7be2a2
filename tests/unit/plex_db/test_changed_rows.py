"""What changed since a snapshot, told by pages: no row that differs is missed, and few are named that do not."""

from __future__ import annotations

import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.pair.pair import BLOBS, LIBRARY, NAMES
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.sqlite_pages import changed_rows

ROWS = 3000
# Of some thousand bytes, so that it goes on in overflow pages; what stands after it changes there alone.
LONG = 3500
Row = tuple[int, str, str, int]


def write(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def contents(path: Path, table: str = "items") -> dict[int, Row]:
    with closing(sqlite3.connect(path)) as connection:
        return {row[0]: row for row in connection.execute(f"SELECT * FROM {table}")}  # noqa: S608 - a name from here


def snapshot(source: Path, target: Path) -> Path:
    """As the product makes it: by online backup, then what `since` needs is noted."""
    target.mkdir()
    for name in NAMES:
        with closing(sqlite3.connect(source / name)) as old, closing(sqlite3.connect(target / name)) as new:
            old.backup(new)
    changed_rows.remember(target)
    return target


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pair with small pages: a large table with short and long rows, and one of few rows, without an index."""
    folder = tmp_path_factory.mktemp("touched")
    numbers = random.Random(1)  # noqa: S311 - no secrets
    for name in NAMES:
        with closing(sqlite3.connect(folder / name)) as connection:
            connection.execute("PRAGMA page_size = 1024")
            connection.execute("CREATE TABLE items(id INTEGER PRIMARY KEY AUTOINCREMENT, a TEXT, b TEXT, n INTEGER)")
            connection.execute("CREATE TABLE few(id INTEGER PRIMARY KEY, a TEXT)")
            connection.execute("CREATE INDEX by_a ON items(a)")
            connection.executemany(
                "INSERT INTO items(a, b, n) VALUES(?, ?, ?)",
                [(f"{numbers.random()}", "x" * numbers.choice((10, 400, LONG)), 5) for _ in range(ROWS)],
            )
            connection.executemany("INSERT INTO few(a) VALUES(?)", [("one",), ("two",)])
            connection.execute("DELETE FROM items WHERE id BETWEEN 900 AND 1000")  # free pages that still hold rows
            connection.commit()
    return folder


@pytest.fixture
def living(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "living"))


def live(path: Path, numbers: random.Random, most: int) -> None:
    """Some of everything that moves rows and pages."""
    with closing(sqlite3.connect(path)) as connection:
        for _ in range(numbers.randint(1, most)):
            first = numbers.randint(1, ROWS)
            some = f"id BETWEEN {first} AND {first + numbers.choice((0, 0, 3, 60))}"
            choice = numbers.randint(0, 6)
            if choice == 0:
                connection.execute(f"UPDATE items SET n = n + 1 WHERE {some}")  # noqa: S608 - numbers from here
            elif choice == 1:
                connection.execute(f"UPDATE items SET b = 'y' || b WHERE {some}")  # noqa: S608
            elif choice == 2:
                connection.execute(f"UPDATE items SET b = 'short' WHERE {some}")  # noqa: S608
            elif choice == 3:
                connection.execute(f"DELETE FROM items WHERE {some}")  # noqa: S608
            elif choice == 4:
                connection.executemany(
                    "INSERT INTO items(a, b, n) VALUES(?, ?, 7)",
                    [("new", "z" * numbers.choice((5, LONG)))] * numbers.choice((1, 80)),
                )
            elif choice == 5:
                connection.execute(f"INSERT OR IGNORE INTO items(id, a, b, n) VALUES({first}, 'again', 'b', 1)")
            else:
                connection.execute(f"UPDATE items SET b = replace(b, 'x', 'v') WHERE {some}")  # noqa: S608
        connection.commit()


def differing(one: Path, other: Path, table: str = "items") -> set[int]:
    old, new = contents(one, table), contents(other, table)
    return {number for number in old.keys() | new.keys() if old.get(number) != new.get(number)}


def named(ranges: changed_rows.Ranges, among: set[int]) -> set[int]:
    return {number for number in among if any(low <= number <= high for low, high in ranges)}


@pytest.mark.parametrize("seed", range(25))
def test_every_row_that_differs_is_in_a_range(living: Path, tmp_path: Path, seed: int) -> None:
    numbers = random.Random(seed)  # noqa: S311
    live(living / LIBRARY, numbers, most=12)
    base = snapshot(living, tmp_path / "base")
    live(living / LIBRARY, numbers, most=numbers.choice((1, 1, 8)))
    near = changed_rows.since(base, living)
    changed = differing(base / LIBRARY, living / LIBRARY)
    if (LIBRARY, "items") in near:
        assert changed == named(near[LIBRARY, "items"], changed)
        assert near[LIBRARY, "few"] == []
    else:
        assert len(changed) > ROWS / 100, "so little should not be given up"
    assert near[BLOBS, "items"] == []


def test_few_rows_are_named_beside_those_that_differ(living: Path, tmp_path: Path) -> None:
    base = snapshot(living, tmp_path / "base")
    write(living / LIBRARY, "UPDATE items SET a = 'other' WHERE id = 1500", "INSERT INTO items(a) VALUES('new')")
    near = changed_rows.since(base, living)
    rows = set(contents(living / LIBRARY))
    assert differing(base / LIBRARY, living / LIBRARY) <= named(near[LIBRARY, "items"], rows)
    assert len(named(near[LIBRARY, "items"], rows)) < ROWS / 20


def test_a_change_in_an_overflow_page_alone_is_found(living: Path, tmp_path: Path) -> None:
    base = snapshot(living, tmp_path / "base")
    long = next(number for number, row in contents(living / LIBRARY).items() if len(row[2]) == LONG and number > 1000)
    write(living / LIBRARY, f"UPDATE items SET n = 6 WHERE id = {long}")  # noqa: S608 - a number
    near = changed_rows.since(base, living)
    assert any(low <= long <= high for low, high in near[LIBRARY, "items"])
    assert len(named(near[LIBRARY, "items"], set(contents(living / LIBRARY)))) < 10


def test_nothing_changed_is_no_range_at_all(living: Path, tmp_path: Path) -> None:
    near = changed_rows.since(snapshot(living, tmp_path / "base"), living)
    assert set(near) >= {(name, table) for name in NAMES for table in ("items", "few")}
    assert not any(near.values())


@pytest.mark.parametrize(
    ("what", "statements"),
    [
        ("another schema", ["CREATE TABLE more(id INTEGER PRIMARY KEY)"]),
        ("rebuilt, so that it became shorter", ["DELETE FROM items WHERE id < 500", "VACUUM"]),
        ("more than a moment", [f"UPDATE items SET b = b || 'x' WHERE id < {ROWS // 2}"]),  # noqa: S608
    ],
)
def test_where_pages_cannot_tell_nothing_is_said(
    living: Path, tmp_path: Path, what: str, statements: list[str]
) -> None:
    base = snapshot(living, tmp_path / "base")
    for statement in statements:
        write(living / LIBRARY, statement)
    assert not [table for name, table in changed_rows.since(base, living) if name == LIBRARY], what


def test_notes_that_are_missing_or_damaged_or_of_another_file_say_nothing(living: Path, tmp_path: Path) -> None:
    base = snapshot(living, tmp_path / "base")
    note = base / (LIBRARY + changed_rows.SUFFIX)
    good = note.read_bytes()

    def said() -> bool:
        return any(name == LIBRARY for name, _ in changed_rows.since(base, living))

    assert said()
    note.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    assert not said()
    note.write_bytes(b"")
    assert not said()
    note.write_bytes(good)
    write(base / LIBRARY, "UPDATE items SET n = 3 WHERE id = 5")
    assert not said(), "the snapshot is not the one that was looked at"
    note.unlink()
    assert not said()
