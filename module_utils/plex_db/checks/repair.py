"""A damaged pair recovered into a new one beside it; the damaged one stays as it is.

Per damaged file: a new database gets the tables of a healthy schema (the base's, or the file's own where that is still
readable) through Plex's own SQLite, for only that knows Plex's tokenizer and collation; the rows that can still be read
page by page (`pages`) go in with stock SQLite while there is neither a trigger nor an index; then Plex's SQLite makes
indexes and triggers and builds the search indexes anew. The counters of ids never fall below what was ever given away,
so no id is used twice. Rows are counted before and after, and the new pair must pass Plex SQLite's integrity check.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import PlexDatabaseError
from ..pair import manifest as manifests
from ..pair.files import FileOperations, require_space
from ..pair.pair import LIBRARY, MANIFEST, NAMES, SIDE_SUFFIXES, require_pair
from ..pair.reader import columns, number, open_closed, rows, stand_in_collation, tables
from ..sqlite_pages.pages import PageReader, RawText, Row
from . import check
from .loss import Report, sentences

COMMAND_SECONDS = 4 * 3600
# Built anew from what they index.
_SEARCH_MODULES = ("fts3", "fts4", "fts5")


@dataclass
class Recovered:
    """The result for one file.

    :param rows: `{table: {expected, recovered}}`; expected is None where nothing says how many there were.
    :param raised: counters of ids that the damaged file had lost.
    """

    rows: dict[str, dict[str, int | None]] = field(default_factory=dict)
    raised: dict[str, int] = field(default_factory=dict)
    damaged_pages: int = 0
    damaged_rows: int = 0
    unclaimed_rows: int = 0
    stray_rows: int = 0

    def lost(self) -> dict[str, int]:
        """Rows that are missing, by table."""
        found: dict[str, int] = {}
        for table, entry in self.rows.items():
            expected, recovered = entry["expected"], entry["recovered"]
            if expected is not None and recovered is not None and recovered < expected:
                found[table] = expected - recovered
        return found


@dataclass(frozen=True)
class _Schema:
    """What a library or blobs file is made of: (name, SQL) each."""

    tables: list[tuple[str, str]]
    virtual: list[tuple[str, str]]
    indexes: list[tuple[str, str]]
    triggers: list[tuple[str, str]]

    def searches(self) -> list[str]:
        return [name for name, sql in self.virtual if _module(sql) in _SEARCH_MODULES]

    def shadows(self) -> list[str]:
        """Beginnings of the names of the tables that virtual tables which are no search index keep their rows in."""
        return [f"{name}_" for name, sql in self.virtual if _module(sql) not in _SEARCH_MODULES]


def repair(
    directory: Path,
    destination: Path,
    plex_sqlite: Sequence[str],
    *,
    base: Path | None = None,
    manifest: Mapping[str, Any] | None = None,
    source: str = "home",
) -> dict[str, Recovered]:
    """Recover the pair in `directory` into `destination`, with a manifest; what came of each damaged file.

    :param plex_sqlite: argv of Plex SQLite; it must reach `destination` under the same path.
    :param base: a healthy pair: its schema is used, and its counters of ids are the least.
    :param manifest: what the damaged pair held when it was whole; else the base's says how many rows there were.
    :raises PlexDatabaseError: no schema to be had, no space, Plex SQLite failed, or the new pair is not sound either.
        Nothing is left in `destination` then, and `directory` is never written.
    """
    require_pair(directory)
    if destination.exists() and any((destination / name).exists() for name in NAMES):
        raise PlexDatabaseError(f"{destination} already contains a pair. Choose another folder for the repaired one.")
    destination.mkdir(mode=0o700, parents=True, exist_ok=True)
    require_space(destination, sum((directory / name).stat().st_size for name in NAMES), "The repair")
    known = dict(manifest or {})
    if not known and base is not None:
        known = manifests.load(base / MANIFEST)
    done: dict[str, Recovered] = {}
    try:
        for name in NAMES:
            report = Report()
            check.integrity(directory, plex_sqlite, "", report, only=(name,))
            if report.problems:
                done[name] = _recover(
                    directory / name, destination / name, plex_sqlite, base / name if base else None, known
                )
            else:
                shutil.copyfile(directory / name, destination / name)
            FileOperations().sync_file(destination / name)
        _require_sound(destination, plex_sqlite)
        told = {name: {"rows": entry.rows, "lost": entry.lost()} for name, entry in done.items()}
        described = manifests.build(destination, source, str(known.get("plex_version", "")), {"repaired": told})
    except BaseException:
        for name in NAMES:
            for suffix in ("", *SIDE_SUFFIXES):
                (destination / f"{name}{suffix}").unlink(missing_ok=True)
        raise
    FileOperations().write_text(destination / MANIFEST, json.dumps(described, indent=1) + "\n")
    return done


def words(done: Mapping[str, Recovered]) -> str:
    """Return the result of a repair as text."""
    if not done:
        return "Nothing was damaged."
    parts = []
    for name, entry in done.items():
        lost = entry.lost()
        text = ", ".join(f"{count} of {table}" for table, count in sorted(lost.items()))
        total = sum(value["recovered"] or 0 for value in entry.rows.values())
        parts.append(
            f"{name}: {total} rows recovered, {text or 'none'} lost; {entry.damaged_pages} damaged pages, "
            f"{entry.stray_rows} rows found on stray pages, {entry.unclaimed_rows} rows on pages that fit no table."
        )
    return " ".join(parts)


def _require_sound(directory: Path, plex_sqlite: Sequence[str]) -> None:
    report = Report()
    check.integrity(directory, plex_sqlite, "", report)
    if report.problems:
        raise PlexDatabaseError(f"The recovered pair is damaged, too: {sentences(report.problems)}")


def _recover(
    damaged: Path, target: Path, plex_sqlite: Sequence[str], base: Path | None, known: Mapping[str, Any]
) -> Recovered:
    schema, page_size = _healthy_schema(damaged, base)
    _plex(
        plex_sqlite,
        target,
        [
            f"PRAGMA page_size = {page_size}",
            "PRAGMA journal_mode = DELETE",
            *(sql for _, sql in schema.tables),
            *(sql for _, sql in schema.virtual),
        ],
    )
    result = Recovered()
    if damaged.name != LIBRARY:
        known = {}  # a manifest's rows and counters are library.db's
    with closing(sqlite3.connect(target, isolation_level=None)) as connection:
        connection.create_collation("icu_root", stand_in_collation)
        try:
            # A recovery that fails half-way is thrown away: no journal, no waiting for the disk.
            for pragma in ("journal_mode = OFF", "synchronous = OFF"):
                connection.execute(f"PRAGMA {pragma}").fetchall()
            connection.execute("BEGIN")
            sequences = _fill(connection, damaged, page_size, schema, result)
            result.raised = _raise_counters(connection, sequences, base, known)
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise PlexDatabaseError(f"Writing the recovered rows to {target} failed: {error}.") from error
        result.rows = _count(connection, schema, damaged, base, known)
    _plex(
        plex_sqlite,
        target,
        [
            *(sql for _, sql in schema.indexes),
            *(f"INSERT INTO {name}({name}) VALUES('rebuild')" for name in schema.searches()),
            *(sql for _, sql in schema.triggers),
            "PRAGMA journal_mode = WAL",
        ],
    )
    return result


def _healthy_schema(damaged: Path, base: Path | None) -> tuple[_Schema, int]:
    if base is not None:
        with open_closed(base) as connection:
            found = [
                (str(kind), str(name), str(sql))
                for kind, name, sql in rows(connection, "SELECT type, name, sql FROM sqlite_master WHERE sql NOT NULL")
            ]
            page_size = number(connection, "PRAGMA page_size")
    else:
        with closing(PageReader(damaged)) as reader:
            page_size = reader.page_size
            found = [(kind, name, sql) for kind, name, _, sql in reader.schema() if sql] if page_size else []
        if not any(name == "schema_migrations" for _, name, _ in found):
            raise PlexDatabaseError(
                f"The schema of {damaged} cannot be read, and there is no healthy pair to take it from. Set "
                "one (base_dir), a backup for example."
            )
    virtual = [(name, sql) for kind, name, sql in found if kind == "table" and _module(sql)]
    plain = [
        (name, sql)
        for kind, name, sql in found
        if kind == "table"
        and not _module(sql)
        and not name.startswith("sqlite_")
        and not any(name.startswith(f"{parent}_") for parent, _ in virtual)
    ]
    return (
        _Schema(
            plain,
            virtual,
            [(name, sql) for kind, name, sql in found if kind == "index"],
            [(name, sql) for kind, name, sql in found if kind == "trigger"],
        ),
        page_size,
    )


def _module(sql: str) -> str:
    """The module of a virtual table, in small letters; empty for an ordinary table."""
    words_of = sql.replace("(", " ").split()
    if [word.upper() for word in words_of[:3]] != ["CREATE", "VIRTUAL", "TABLE"]:
        return ""
    upper = [word.upper() for word in words_of]
    return words_of[upper.index("USING") + 1].lower() if "USING" in upper[:-1] else ""


def _fill(
    connection: sqlite3.Connection, damaged: Path, page_size: int, schema: _Schema, result: Recovered
) -> dict[str, int]:
    """Put every row in that can be read; the counters of ids that the damaged file still holds."""
    sequences: dict[str, int] = {}
    shadows = tuple(schema.shadows())
    wanted = {name for name, _ in schema.tables}
    wanted |= {name for name in tables(connection) if shadows and name.startswith(shadows)}
    with closing(PageReader(damaged, page_size)) as reader:
        if not reader.header_is_whole:
            raise PlexDatabaseError(
                f"The first page of {damaged} is destroyed, and with it the way to every table and to the pages that "
                "are free, so deleted rows could come back. It cannot be repaired. Restore a backup."
            )
        if not reader.is_utf8:
            raise PlexDatabaseError(f"{damaged} is not in UTF-8 like other Plex databases, so it cannot be recovered.")
        held = reader.schema()
        # Only a table whose tree was cut somewhere can have leaves that nothing leads to.
        cut = {name for name, _ in schema.tables} - {name for _, name, _, _ in held}
        for kind, name, root, _ in held:
            if kind != "table" or root == 0:
                continue
            bad_pages = len(reader.damage.pages)
            found = reader.table(root)
            if name == "sqlite_sequence":
                sequences = _sequences(found)
            elif name in wanted:
                if name.startswith(shadows) and shadows:
                    connection.execute(f'DELETE FROM "{name}"')  # noqa: S608 - a name of the schema
                _insert(connection, name, found)
            else:
                for _row in found:  # read, so that its pages count as known
                    pass
            if len(reader.damage.pages) > bad_pages:
                cut.add(name)
        shapes = {name: _shape(connection, name) for name, _ in schema.tables if name in cut}
        for name, row in reader.unclaimed(shapes):
            result.stray_rows += _insert(connection, name, [row])
        result.damaged_pages = len(reader.damage.pages)
        result.damaged_rows = reader.damage.rows
        result.unclaimed_rows = reader.damage.unclaimed_rows
    return sequences


def _sequences(found: Iterable[Row]) -> dict[str, int]:
    kept: dict[str, int] = {}
    for row in found:
        if len(row.values) == 2 and isinstance(row.values[0], str) and isinstance(row.values[1], int):
            kept[row.values[0]] = row.values[1]
    return kept


def _shape(connection: sqlite3.Connection, table: str) -> list[str]:
    described = rows(connection, "SELECT type, pk FROM pragma_table_info(?)", (table,))
    return ["PRIMARY KEY" if key == 1 and str(kind).upper() == "INTEGER" else str(kind) for kind, key in described]


def _insert(connection: sqlite3.Connection, table: str, found: Iterable[Row]) -> int:
    """Put rows in, each under its rowid; a rowid that is there already stays as it is. Returns how many went in."""
    names = columns(connection, table)
    key = next((index for index, kind in enumerate(_shape(connection, table)) if kind == "PRIMARY KEY"), None)
    before = connection.total_changes
    statements: dict[tuple[int, tuple[int, ...]], str] = {}
    for row in found:
        values: list[Any] = list(row.values[: len(names)])
        raw = tuple(index for index, value in enumerate(values) if isinstance(value, RawText))
        for index in raw:
            values[index] = values[index].data
        shape = (len(values), raw)
        if shape not in statements:
            marks = ["CAST(? AS TEXT)" if index in raw else "?" for index in range(len(values))]
            listed = [f'"{name}"' for name in names[: len(values)]]
            if key is None:
                listed.append("rowid")
                marks.append("?")
            statements[shape] = f'INSERT OR IGNORE INTO "{table}"({", ".join(listed)}) VALUES({", ".join(marks)})'
        if key is None:
            values.append(row.rowid)
        elif key < len(values):
            values[key] = row.rowid
        connection.execute(statements[shape], values)
    return connection.total_changes - before


def _raise_counters(
    connection: sqlite3.Connection,
    sequences: Mapping[str, int],
    base: Path | None,
    known: Mapping[str, Any],
) -> dict[str, int]:
    """Set each id counter to the highest known value, so that no id is used twice."""
    least = dict(sequences)
    sources: list[Mapping[str, int]] = [known.get("sequences", {})]
    if base is not None:
        with open_closed(base) as healthy:
            sources.append(manifests.sequences(healthy))
    for source in sources:
        for table, top in source.items():
            least[table] = max(least.get(table, 0), top)
    autoincrement = rows(
        connection, "SELECT name FROM sqlite_master WHERE type = 'table' AND sql LIKE '%AUTOINCREMENT%'"
    )
    raised: dict[str, int] = {}
    connection.execute("DELETE FROM sqlite_sequence")
    for (table,) in autoincrement:
        highest = number(connection, f'SELECT COALESCE(MAX(rowid), 0) FROM "{table}"')  # noqa: S608 - a name of the schema
        top = max(highest, least.get(table, 0))
        if top:
            connection.execute("INSERT INTO sqlite_sequence(name, seq) VALUES(?, ?)", (table, top))
        if top > sequences.get(table, 0):
            raised[str(table)] = top
    return raised


def _count(
    connection: sqlite3.Connection,
    schema: _Schema,
    damaged: Path,
    base: Path | None,
    known: Mapping[str, Any],
) -> dict[str, dict[str, int | None]]:
    """Rows now, and rows as there were: by the manifest, else as SQLite still counts them in the damaged file."""
    expected: dict[str, int] = {str(table): int(count) for table, count in known.get("rows", {}).items()}
    if not expected and base is not None:
        with open_closed(base) as healthy:
            expected = manifests.row_counts(healthy)
    return {
        table: {
            "expected": expected.get(table, _countable(damaged, table)),
            "recovered": number(connection, f'SELECT COUNT(*) FROM "{table}"'),  # noqa: S608 - a name of the schema
        }
        for table, _ in schema.tables
    }


def _countable(damaged: Path, table: str) -> int | None:
    """Rows that SQLite counts in the damaged file; None where it cannot: unknown is not 0."""
    try:
        with open_closed(damaged) as connection:
            return number(connection, f'SELECT COUNT(*) FROM "{table}"')  # noqa: S608 - a name of the schema
    except PlexDatabaseError:
        return None


def _plex(plex_sqlite: Sequence[str], database: Path, statements: Sequence[str]) -> None:
    if not plex_sqlite:
        raise PlexDatabaseError(
            "A repair needs the command of Plex's own SQLite (plex_sqlite): only that can make Plex's search indexes."
        )
    try:
        done = subprocess.run(
            [*plex_sqlite, str(database), ";\n".join(statement.rstrip().rstrip(";") for statement in statements) + ";"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=COMMAND_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PlexDatabaseError(f"Plex SQLite could not work on {database}: {error}.") from error
    if done.returncode != 0:
        raise PlexDatabaseError(f"Plex SQLite could not work on {database}: {done.stderr.strip() or 'no message'}.")
