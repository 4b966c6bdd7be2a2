"""Keep the ids of both sides apart: the pair that goes out gives its next rows ids beyond a gap.

Plex's tables number their rows by AUTOINCREMENT: the next id is one more than `sqlite_sequence` says, which stock
SQLite may write (https://sqlite.org/autoinc.html). Home goes on below the gap, the indexer above it.
"""

# ruff: noqa: S608 - statements are built from names of the schema; values are parameters
from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from ..errors import PlexDatabaseError
from ..pair.files import FileOperations, read_json_object
from ..pair.pair import NAMES
from ..pair.reader import number, rows, tables
from . import policy

# More rows than home adds to a table of its library while an indexer works; ids stay below 2^31 for 8,000 runs.
GAP = 250_000
RECORD = "plexburst-gap.json"
# Clients hold ids in signed 32-bit numbers.
HIGHEST_ID = 2**31 - 1


@dataclass(frozen=True)
class Raised:
    """What became of the counters: table -> highest number given out before, and now. `changed`: False the second
    time."""

    changed: bool
    before: dict[str, int]
    after: dict[str, int]


def raise_sequences(library: Path, gap: int = GAP, *, dry_run: bool = False) -> Raised:
    """Raise the counters of the merged tables of one database by `gap` ids. Nobody else may have it open.

    Twice is once: what was done is noted beside the database, and holds for this file as long as its counters say so.
    (On an existing server the next run's database takes its place, and the counters that it brought along are higher.)

    :param library: library.db or blobs.db of the pair that goes out; its rows stay as they are.
    :raises PlexDatabaseError: it cannot be written, or the ids would leave the range that clients can hold.
    """
    record = library.with_name(f"{library.name}-{RECORD}")
    noted = read_json_object(record, "the note of raised counters") if record.exists() else {"after": {}}
    try:
        with closing(_connect(library)) as connection:
            before = sequences(connection)
            wanted = {table: before.get(table, 0) + gap for table in policy.MERGED if table in _numbered(connection)}
            done = noted["after"] if noted.get("inode") == library.stat().st_ino else {}
            if done and all(before.get(table, 0) >= number for table, number in done.items()):
                return Raised(False, noted["before"], done)
            too_high = sorted(table for table, value in wanted.items() if value > HIGHEST_ID)
            if too_high:
                raise PlexDatabaseError(
                    f"Raising the ids of {', '.join(too_high)} in {library} by {gap} would leave the range that Plex's "
                    f"clients can hold ({HIGHEST_ID}). Choose a smaller gap."
                )
            if not dry_run:
                connection.execute("BEGIN IMMEDIATE")
                for table, value in wanted.items():
                    set_sequence(connection, table, value)
                connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise PlexDatabaseError(
            f"Raising the ids in {library} failed: {error}. Nothing was changed; is a Plex running on it?"
        ) from error
    known = {table: before.get(table, 0) for table in wanted}
    if not dry_run:
        FileOperations().write_text(
            record, json.dumps({"gap": gap, "inode": library.stat().st_ino, "before": known, "after": wanted}) + "\n"
        )
    return Raised(True, known, wanted)


def raise_pair(directory: Path, gap: int = GAP, *, dry_run: bool = False) -> bool:
    """`raise_sequences` for both databases of the pair in `directory`; returns whether anything changed."""
    return sum(raise_sequences(directory / name, gap, dry_run=dry_run).changed for name in NAMES) > 0


def sequences(connection: sqlite3.Connection, schema: str = "main") -> dict[str, int]:
    """The highest id given out, per table."""
    found = rows(connection, f"SELECT name, MAX(seq) FROM {schema}.sqlite_sequence GROUP BY name")
    return {str(name): int(value or 0) for name, value in found}


def set_sequence(connection: sqlite3.Connection, table: str, value: int) -> None:
    """Set one counter; a table that never had a row has none yet."""
    if number(connection, "SELECT COUNT(*) FROM main.sqlite_sequence WHERE name = ?", (table,)):
        connection.execute("UPDATE main.sqlite_sequence SET seq = ? WHERE name = ?", (value, table))
    else:
        connection.execute("INSERT INTO main.sqlite_sequence(name, seq) VALUES(?, ?)", (table, value))


def _numbered(connection: sqlite3.Connection) -> set[str]:
    sql = "SELECT name FROM sqlite_master WHERE type = 'table' AND sql LIKE '%AUTOINCREMENT%'"
    return {str(row[0]) for row in rows(connection, sql)} & tables(connection)


def _connect(path: Path) -> sqlite3.Connection:
    if not path.is_file():
        raise PlexDatabaseError(f"Expected a Plex database at {path}, found no such file.")
    return sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=rw", uri=True, isolation_level=None, timeout=30)
