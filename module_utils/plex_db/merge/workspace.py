"""Three pairs and a scratch file on one connection, so that the merge is set SQL and memory stays bounded.

The scratch file is `main`. Attached read-only: base, ours, theirs (library.db) and base_b, ours_b, theirs_b (blobs.db).
"""

# ruff: noqa: S608 - statements are built from names of the schema; values are parameters
from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote

from ..errors import PlexDatabaseError
from ..pair.pair import BLOBS, LIBRARY
from ..pair.reader import decode_text, number, rows, stand_in_collation
from . import policy

SIDES = ("base", "ours", "theirs")
_SUFFIX = {LIBRARY: "", BLOBS: "_b"}
# Pages of each attached file that may be held in memory, in KiB (negative: SQLite's own unit for KiB).
_CACHE = -16_000


@dataclass(frozen=True)
class Table:
    """One table of one of the two databases."""

    file: str
    name: str
    columns: tuple[str, ...]

    def at(self, side: str) -> str:
        """Its name in SQL at `base`, `ours` or `theirs`."""
        return f'{side}{_SUFFIX[self.file]}."{self.name}"'

    def staged(self, what: str) -> str:
        """The scratch table for it: `put` (whole rows), `drop` (ids), `delta`, `same`, `outside`, `remap`."""
        return f'main."{what}_{"blobs" if self.file == BLOBS else "library"}_{self.name}"'

    def list_of(self, prefix: str = "") -> str:
        """Its columns, each with a prefix such as `o.`."""
        return ", ".join(f'{prefix}"{name}"' for name in self.columns)

    def differ(self, one: str, other: str, leave_out: Sequence[str] = ("id",)) -> str:
        """SQL: any column differs between two rows. Byte by byte: some columns are declared NOCASE."""
        tests = [
            f'{one}."{name}" COLLATE BINARY IS NOT {other}."{name}"' for name in self.columns if name not in leave_out
        ]
        return f"({' OR '.join(tests) or '0'})"


class Workspace:
    """The connection of a merge and what it knows about the schema."""

    def __init__(self, connection: sqlite3.Connection, scratch: Path) -> None:
        self.connection = connection
        self.scratch = scratch

    def run(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """Run a statement; returns how many rows it wrote."""
        try:
            return max(self.connection.execute(sql, parameters).rowcount, 0)
        except sqlite3.Error as error:
            raise PlexDatabaseError(f"The merge's statement `{sql[:500]}` failed: {error}.") from error

    def count(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """The one number a query answers with."""
        return number(self.connection, sql, parameters)

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query that gives few."""
        return rows(self.connection, sql, parameters)

    def exists(self, sql: str, parameters: Sequence[Any] = ()) -> bool:
        """Whether a query gives a row."""
        return bool(self.count(f"SELECT EXISTS ({sql})", parameters))

    def unique_keys(self, table: Table) -> list[tuple[str, ...]]:
        """Return the columns of each unique index of a table."""
        schema = table.at("theirs").partition(".")[0]
        sql = (
            "SELECT l.name, i.name FROM pragma_index_list(?1, ?2) l CROSS JOIN pragma_index_info(l.name, ?2) i "
            "WHERE l.\"unique\" AND l.origin <> 'pk' AND NOT l.partial AND i.name NOT NULL ORDER BY l.name, i.seqno"
        )
        keys: dict[str, tuple[str, ...]] = {}
        for index, column in self.rows(sql, (table.name, schema)):
            keys[index] = (*keys.get(index, ()), str(column))
        return list(keys.values())

    def tables(self, file: str) -> dict[str, Table]:
        """The ordinary tables of one database, which must look alike on all three sides.

        :raises PlexDatabaseError: a table or a column is missing somewhere: the sides are of different Plex versions.
        """
        found: dict[str, dict[str, tuple[str, ...]]] = {}
        for side in SIDES:
            schema = f"{side}{_SUFFIX[file]}"
            sql = (
                f"SELECT m.name, c.name FROM {schema}.sqlite_master m CROSS JOIN pragma_table_info(m.name, ?) c "
                "WHERE m.type = 'table' AND m.sql NOT LIKE 'CREATE VIRTUAL%' ORDER BY m.name, c.cid"
            )
            for name, column in self.rows(sql, (schema,)):
                rule = policy.rule_of(str(name))
                if not (rule and rule.kind == policy.DERIVED):
                    sides = found.setdefault(str(name), {})
                    sides[side] = (*sides.get(side, ()), str(column))
        result = {}
        for name, sides in sorted(found.items()):
            if len({sides.get(side) for side in SIDES}) != 1:
                says = "; ".join(f"{side}: {', '.join(sides.get(side, ())) or 'no such table'}" for side in SIDES)
                raise PlexDatabaseError(
                    f"The table {name} of {file} does not look alike on all sides ({says}): they are of different Plex "
                    "versions. The indexer must run exactly home's version, and home must not be updated meanwhile."
                )
            result[name] = Table(file, name, sides["base"])
        return result


@contextmanager
def opened(scratch: Path, base: Path, ours: Path, theirs: Path) -> Iterator[Workspace]:
    """Open three closed pairs and a fresh scratch file.

    :param base, ours, theirs: folders of closed pairs; nothing in them is written here.
    :raises PlexDatabaseError: one of them cannot be read.
    """
    remove(scratch)
    connection = sqlite3.connect(str(scratch), uri=True, isolation_level=None)
    try:
        scratch.chmod(0o600)
        connection.create_collation("icu_root", stand_in_collation)
        connection.text_factory = decode_text
        connection.create_function("merged_extra", 3, merged_extra, deterministic=True)
        # A lost scratch file costs nothing: the merge is begun again.
        for pragma in ("journal_mode = OFF", "synchronous = OFF", "temp_store = FILE", f"cache_size = {_CACHE}"):
            connection.execute(f"PRAGMA {pragma}").fetchall()
        for side, directory in {SIDES[0]: base, SIDES[1]: ours, SIDES[2]: theirs}.items():
            for name, suffix in _SUFFIX.items():
                path = (directory / name).absolute()
                if not path.is_file():
                    raise PlexDatabaseError(f"Expected {name} in {directory}, found no such file.")
                connection.execute(
                    f"ATTACH DATABASE ? AS {side}{suffix}", (f"file:{quote(str(path))}?mode=ro&immutable=1",)
                )
                connection.execute(f"PRAGMA {side}{suffix}.cache_size = {_CACHE}").fetchall()
        yield Workspace(connection, scratch)
    except sqlite3.Error as error:
        raise PlexDatabaseError(f"The pairs {base}, {ours} and {theirs} cannot be merged: {error}.") from error
    finally:
        connection.close()


def remove(scratch: Path) -> None:
    """Remove a scratch file and what SQLite may have left beside it."""
    for suffix in ("", "-journal", "-wal", "-shm"):
        scratch.with_name(scratch.name + suffix).unlink(missing_ok=True)


def merged_extra(base: str | None, ours: str | None, theirs: str | None) -> str | None:
    """`extra_data` of which both sides changed something: key by key, home's where home changed it.

    Two shapes: JSON with a `url` key that repeats it all URL-encoded (PMS 1.40 and later), or that encoding alone.
    What is neither is taken from home whole.
    """
    before, mine, other = _pairs(base), _pairs(ours), _pairs(theirs)
    if before is None or mine is None or other is None:
        return ours
    merged = dict(other)
    for key in {**before, **mine}:
        if before.get(key) != mine.get(key):
            if key in mine:
                merged[key] = mine[key]
            else:
                merged.pop(key, None)
    if not merged:
        return ours
    return write_extra(merged, like=ours or theirs or "{}")


def write_extra(values: dict[str, Any], like: str) -> str:
    """Keys and values as `extra_data` of the shape that `like` has."""
    encoded = "&".join(f"{quote(key, safe='')}={quote(str(value), safe='')}" for key, value in values.items())
    if not like.startswith("{"):
        return encoded
    return json.dumps({**values, "url": encoded}, separators=(",", ":"), ensure_ascii=False)


def read_extra(text: str | None) -> dict[str, Any] | None:
    """Keys and values of an `extra_data`, without `url`; None when it is of no known shape."""
    return _pairs(text)


def _pairs(text: str | None) -> dict[str, Any] | None:
    if not text:
        return {}
    if text.startswith("{"):
        try:
            values = json.loads(text)
        except ValueError:
            return None
        if not isinstance(values, dict) or any(isinstance(value, (dict, list)) for value in values.values()):
            return None
        values.pop("url", None)
        return values
    if "=" not in text:
        return None
    return dict(parse_qsl(text, keep_blank_values=True))
