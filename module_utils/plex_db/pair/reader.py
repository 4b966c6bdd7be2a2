"""Read-only access to Plex databases with stock SQLite.

Plex's tokenizer `collating` and collation `icu_root` live only in its own binary (docs/plex-facts.md#database). Stock
SQLite
reads the
ordinary tables, but even `SELECT COUNT(*)` fails when the planner picks the ICU index, so every connection gets a
replacement collation.
It orders differently from ICU, so nothing here may rely on that index being sorted, and nothing here writes through it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..errors import PlexDatabaseError

BUSY_SECONDS = 30.0


def stand_in_collation(left: str, right: str) -> int:
    """Orders case-insensitively; only has to exist, not to agree with ICU."""
    first, second = left.casefold(), right.casefold()
    return (first > second) - (first < second)


def decode_text(raw: bytes) -> str:
    """Text of a column; bytes that are not UTF-8 (file names of old disks) survive as surrogates."""
    return raw.decode("utf-8", "surrogateescape")


def connect_live(path: Path) -> sqlite3.Connection:
    """Open a database that another process may be writing: read-only, sees its -wal."""
    return _connect(path, "mode=ro")


def connect_closed(path: Path) -> sqlite3.Connection:
    """Open a file that no other process uses (a snapshot), without -wal or -shm. Never for a live database."""
    return _connect(path, "mode=ro&immutable=1")


@contextmanager
def open_live(path: Path) -> Iterator[sqlite3.Connection]:
    """`connect_live` as a context that closes."""
    with closing(connect_live(path)) as connection:
        yield connection


@contextmanager
def open_closed(path: Path) -> Iterator[sqlite3.Connection]:
    """`connect_closed` as a context that closes."""
    with closing(connect_closed(path)) as connection:
        yield connection


def rows(connection: sqlite3.Connection, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """All rows of a query. A query that fails is an error with its cause, never an empty answer (invariant 1)."""
    return list(iterate(connection, sql, parameters))


def iterate(connection: sqlite3.Connection, sql: str, parameters: Sequence[Any] = ()) -> Iterator[tuple[Any, ...]]:
    """The rows of a query one by one, for tables too large for memory."""
    try:
        yield from connection.execute(sql, parameters)
    except sqlite3.Error as error:
        raise PlexDatabaseError(f"The query `{sql}` failed on {_name(connection)}: {error}.") from error


def number(connection: sqlite3.Connection, sql: str, parameters: Sequence[Any] = ()) -> int:
    """The one number a query answers with."""
    answer = rows(connection, sql, parameters)
    if len(answer) != 1 or not isinstance(answer[0][0], int):
        raise PlexDatabaseError(
            f"The query `{sql}` on {_name(connection)} should give one number, found {answer[:3]!r}."
        )
    return answer[0][0]


def tables(connection: sqlite3.Connection) -> set[str]:
    """Names of all tables."""
    return {str(row[0]) for row in rows(connection, "SELECT name FROM sqlite_master WHERE type = 'table'")}


def columns(connection: sqlite3.Connection, table: str) -> list[str]:
    """Column names of a table, in order."""
    return [str(row[0]) for row in rows(connection, "SELECT name FROM pragma_table_info(?)", (table,))]


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    if not path.is_file():
        raise PlexDatabaseError(f"Expected a Plex database at {path}, but the file does not exist.")
    try:
        connection = sqlite3.connect(
            f"file:{quote(str(path.absolute()))}?{mode}", uri=True, timeout=BUSY_SECONDS, isolation_level=None
        )
        connection.create_collation("icu_root", stand_in_collation)
        connection.text_factory = decode_text
        connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
    except sqlite3.Error as error:
        raise PlexDatabaseError(
            f"{path} cannot be read as an SQLite database: {error}. "
            "It is damaged or incomplete, or this user may not read its folder."
        ) from error
    return connection


def _name(connection: sqlite3.Connection) -> str:
    for _, name, file in connection.execute("PRAGMA database_list"):
        if name == "main":
            return str(file) or "the database"
    return "the database"
