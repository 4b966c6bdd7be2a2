"""The references to files of bundles that a run has changed: `metadata://…`, `upload://…`, `media://…`.

They stand in the columns `url` and `…_url` of whatever table has them (docs/plex-facts.md#database: `user_thumb_url`,
`user_art_url`, … of items and tags, `thumb_url` of taggings for chapter images, `url` of streams for
subtitles). Not looked at: `metadata_item_views`, a history that repeats what an item named when it was played.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from ..errors import PlexDatabaseError
from ..pair.pair import LIBRARY
from ..pair.reader import columns, iterate, open_closed, open_live, rows
from .layout import SCHEMES

ITEMS = "metadata_items"
HISTORY = frozenset({"metadata_item_views"})


@dataclass(frozen=True)
class Reference:
    """One reference. `row` names where it stands; `hashes` are those of its item, and of what that hangs below."""

    row: str
    url: str
    hashes: tuple[str, ...]


def changed(result: Path, base: Path | None) -> Iterator[Reference]:
    """The references of the closed pair in `result` that the one in `base` does not have in the same row, or has for
    an item of another hash. Without a base it is every reference.

    :raises PlexDatabaseError: a database cannot be read.
    """
    with open_closed(result / LIBRARY) as library:
        known: set[str] = set()
        if base is not None:
            with open_closed(base / LIBRARY) as before:
                known = _tables(before)
            path = quote(str((base / LIBRARY).absolute()))
            rows(library, "ATTACH DATABASE ? AS base", (f"file:{path}?mode=ro&immutable=1",))
        for table in sorted(_tables(library) - HISTORY):
            found = columns(library, table)
            for column in found:
                if "id" in found and (column == "url" or column.endswith("_url")):
                    yield from _of_column(library, table, column, found, compare=table in known)


def _tables(library: sqlite3.Connection) -> set[str]:
    """Names of the ordinary tables: those of the full text search only Plex's own SQLite can open."""
    query = "SELECT name FROM sqlite_master WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL TABLE%'"
    return {str(row[0]) for row in rows(library, query)}


def _of_column(
    library: sqlite3.Connection, table: str, column: str, found: list[str], *, compare: bool
) -> Iterator[Reference]:
    owner = _owner(table, found)
    wanted = " OR ".join(f"t.\"{column}\" LIKE '{scheme}://%'" for scheme in SCHEMES)
    same = f'b.id = t.id AND b."{column}" = t."{column}"' + (" AND b.hash IS t.hash" if table == ITEMS else "")
    unless = f' AND NOT EXISTS (SELECT 1 FROM base."{table}" b WHERE {same})' if compare else ""  # noqa: S608 - same
    query = (
        f'SELECT t.id, t."{column}", i.hash, p.hash, g.hash FROM main."{table}" t'  # noqa: S608 - names of the schema
        f" LEFT JOIN main.{ITEMS} i ON i.id = {owner} LEFT JOIN main.{ITEMS} p ON p.id = i.parent_id"
        f" LEFT JOIN main.{ITEMS} g ON g.id = p.parent_id WHERE ({wanted}){unless} ORDER BY t.id"
    )
    for number, url, *hashes in iterate(library, query):
        yield Reference(f"{table} {number}, {column}", str(url), tuple(str(name) for name in hashes if name))


def _owner(table: str, found: list[str]) -> str:
    """The id of the item that a row of the table belongs to."""
    if table == ITEMS:
        return "t.id"
    if "metadata_item_id" in found:
        return "t.metadata_item_id"
    if "media_item_id" in found:
        return "(SELECT m.metadata_item_id FROM main.media_items m WHERE m.id = t.media_item_id)"
    return "NULL"


def hashes_of(databases: Path, sections: Sequence[str]) -> frozenset[str] | None:
    """The hashes of the bundles that belong to items and files of these sections (titles); None, for all, without any.

    :raises PlexDatabaseError: the database cannot be read, or has no section of such a title.
    """
    if not sections:
        return None
    with open_live(databases / LIBRARY) as library:
        known = {str(name): int(number) for number, name in rows(library, "SELECT id, name FROM library_sections")}
        unknown = sorted(set(sections) - known.keys())
        if unknown:
            raise PlexDatabaseError(f"Expected sections called {', '.join(unknown)}, found {', '.join(sorted(known))}.")
        found: set[str] = set()
        for title in sections:
            found.update(
                str(name)
                for (name,) in iterate(
                    library,
                    "SELECT hash FROM metadata_items WHERE library_section_id = ?1 AND hash <> '' UNION SELECT p.hash "
                    "FROM media_parts p JOIN media_items m ON m.id = p.media_item_id WHERE m.library_section_id = ?1 "
                    "AND p.hash <> ''",
                    (known[title],),
                )
            )
    return frozenset(found)
