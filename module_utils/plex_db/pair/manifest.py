"""The manifest of a snapshot: what the pair is, and what is in it, so that loss can be seen without the pair itself.

Shape (JSON): schema, created_at, source, plex_version, page_size, files{name: {size, sha256}}, schema_versions[],
sections[{id, title, type, uuid, agent, scanner, locations[]}], counts{section_id: {metadata_type: live items}},
trashed{section_id: {metadata_type: items}}, parts{section_id: {total, trashed}}, trashed_part_ids[],
sonic{section_id: {total, done}}, watch{settings, views, accounts, playlists, collections}, fingerprints{name: {rows,
top, sha256}},
rows{table: n}, sequences{table: highest id ever}, changed_at, schema_min_version, statistics{table: {rows, bytes}},
sonic_blobs and copy{attempts, seconds, gap}. Section ids and metadata types are keys, so they are text there.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import PlexDatabaseError
from .files import read_json_object, sha256_of, utc_now
from .pair import BLOBS, LIBRARY, NAMES
from .reader import iterate, number, open_closed, rows, tables

SCHEMA = 1
SECTION_TYPES = {1: "movie", 2: "show", 8: "artist", 13: "photo"}
TRACK = 10
PLAYLIST = 15
COLLECTION = 18
SONIC_BLOB = 7
# Both shapes of extra_data (URL-encoded before PMS 1.40, JSON since) hold this word (docs/plex-facts.md#database).
SONIC_MARK = "%musicAnalysisVersion%"
REQUIRED_TABLES = {
    LIBRARY: {
        "accounts",
        "library_sections",
        "media_items",
        "media_parts",
        "metadata_item_settings",
        "metadata_item_views",
        "metadata_items",
        "schema_migrations",
        "section_locations",
        "taggings",
        "tags",
    },
    BLOBS: {"blobs", "schema_migrations"},
}
# A part is in the trash when it, its media item or its metadata item is marked deleted.
_TRASHED = "(mp.deleted_at IS NOT NULL OR mi.deleted_at IS NOT NULL OR md.deleted_at IS NOT NULL)"
_PARTS = (
    "FROM media_parts mp JOIN media_items mi ON mi.id = mp.media_item_id "
    "JOIN metadata_items md ON md.id = mi.metadata_item_id"
)
PARTS_SQL = f"SELECT mp.id, md.library_section_id, mp.file, {_TRASHED} {_PARTS}"
FILES_SQL = f"SELECT md.library_section_id, mp.file, mp.size, mp.duration, {_TRASHED} {_PARTS}"
_COLLECTION_MEMBERS = (
    "SELECT id, metadata_item_id, tag_id FROM taggings "
    "WHERE tag_id IN (SELECT id FROM tags WHERE tag_type = 2) ORDER BY id"
)
# User data and Plex's changes at home, one query each, as digests that allow comparing a later state with the base.
_FINGERPRINTS = {
    "accounts": ("accounts", "SELECT id, name FROM accounts ORDER BY id"),
    "items": ("metadata_items", "SELECT id, library_section_id, metadata_type FROM metadata_items ORDER BY id"),
    "playlists": (
        "metadata_items",
        "SELECT id, guid, title, deleted_at FROM metadata_items WHERE metadata_type = 15 ORDER BY id",
    ),
    "playlist_members": (
        "play_queue_generators",
        "SELECT id, playlist_id, metadata_item_id, uri FROM play_queue_generators WHERE playlist_id > 0 ORDER BY id",
    ),
    "collections": (
        "metadata_items",
        "SELECT id, guid, title, deleted_at FROM metadata_items WHERE metadata_type = 18 ORDER BY id",
    ),
    "collection_members": (
        "taggings",
        _COLLECTION_MEMBERS,
    ),
    "locked_fields": (
        "metadata_items",
        "SELECT id, user_fields FROM metadata_items WHERE user_fields IS NOT NULL AND user_fields != '' ORDER BY id",
    ),
    "sections": (
        "library_sections",
        "SELECT id, name, section_type, language, agent, scanner, uuid FROM library_sections ORDER BY id",
    ),
    "locations": (
        "section_locations",
        "SELECT id, library_section_id, root_path FROM section_locations ORDER BY id",
    ),
}
# Plex's own statistics: gigabytes on some servers, and not needed by the library.
STATISTICS = ("statistics_bandwidth", "statistics_media", "statistics_resources")


def build(directory: Path, source: str, plex_version: str, copy: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Read a closed pair and describe it.

    :param source: `home` or `indexer`.
    :param copy: how the copy was made (attempts, seconds, gap).
    :raises PlexDatabaseError: the pair cannot be read, or a table is missing.
    """
    files = {name: {"size": (directory / name).stat().st_size, "sha256": sha256_of(directory / name)} for name in NAMES}
    return {
        "schema": SCHEMA,
        "created_at": utc_now(),
        "source": source,
        "plex_version": plex_version,
        "files": files,
        **contents(directory),
        "copy": dict(copy or {}),
    }


def contents(directory: Path) -> dict[str, Any]:
    """Everything of a manifest that is read from inside the closed pair."""
    with open_closed(directory / LIBRARY) as library, open_closed(directory / BLOBS) as blobs:
        require_tables(library, LIBRARY)
        require_tables(blobs, BLOBS)
        return {
            **describe(library),
            "rows": row_counts(library),
            "statistics": statistics(library),
            "sonic_blobs": sonic_blobs(blobs),
        }


def describe(library: sqlite3.Connection) -> dict[str, Any]:
    """What is in a library.db, live or closed, as the manifest's keys."""
    parts, trashed_ids = _parts(library)
    return {
        "page_size": number(library, "PRAGMA page_size"),
        "schema_versions": [
            str(row[0]) for row in rows(library, "SELECT version FROM schema_migrations ORDER BY version")
        ],
        "schema_min_version": min_version(library),
        "sequences": sequences(library),
        "changed_at": number(library, "SELECT COALESCE(MAX(changed_at), 0) FROM metadata_items"),
        "sections": sections(library),
        "counts": _items(library, "IS NULL"),
        "trashed": _items(library, "IS NOT NULL"),
        "parts": parts,
        "trashed_part_ids": trashed_ids,
        "sonic": sonic(library),
        "watch": watch(library),
        "fingerprints": fingerprints(library),
    }


def load(path: Path) -> dict[str, Any]:
    """Read a manifest file.

    :raises PlexDatabaseError: missing, cut short, or of a schema this version does not know.
    """
    manifest = read_json_object(path, "the manifest of a snapshot")
    if manifest.get("schema") != SCHEMA:
        raise PlexDatabaseError(
            f"The manifest {path} has schema {manifest.get('schema')!r}, but this plexburst reads {SCHEMA}. Take the "
            "snapshot again."
        )
    missing = [
        key for key in ("files", "sections", "counts", "parts", "watch", "schema_versions") if key not in manifest
    ]
    if missing:
        raise PlexDatabaseError(f"The manifest {path} lacks {', '.join(missing)}. Take the snapshot again.")
    return manifest


def require_tables(connection: sqlite3.Connection, name: str) -> None:
    """Refuse a database that lacks a table every Plex database of its kind has."""
    missing = sorted(REQUIRED_TABLES[name] - tables(connection))
    if missing:
        raise PlexDatabaseError(
            f"{name} lacks the tables {', '.join(missing)}, so it is not a complete Plex database. Take the snapshot "
            "again."
        )


def sections(library: sqlite3.Connection) -> list[dict[str, Any]]:
    """The sections in order of id; type as Plex's API names it, locations as root paths."""
    locations: dict[int, list[str]] = {}
    for section_id, root in rows(library, "SELECT library_section_id, root_path FROM section_locations ORDER BY id"):
        locations.setdefault(section_id, []).append(root)
    return [
        {
            "id": row[0],
            "title": row[1],
            "type": SECTION_TYPES.get(row[2], str(row[2])),
            "uuid": row[3],
            "agent": row[4],
            "scanner": row[5],
            "locations": locations.get(row[0], []),
        }
        for row in rows(
            library, "SELECT id, name, section_type, uuid, agent, scanner FROM library_sections ORDER BY id"
        )
    ]


def sonic(library: sqlite3.Connection) -> dict[str, dict[str, int]]:
    """Tracks and tracks with Sonic data per music section."""
    found = rows(
        library,
        "SELECT library_section_id, COUNT(*), COALESCE(SUM(extra_data LIKE ?), 0) FROM metadata_items "
        "WHERE metadata_type = ? AND deleted_at IS NULL AND library_section_id IS NOT NULL GROUP BY 1 ORDER BY 1",
        (SONIC_MARK, TRACK),
    )
    return {str(section): {"total": total, "done": done} for section, total, done in found}


def sonic_blobs(blobs: sqlite3.Connection) -> int:
    """Sonic vectors in blobs.db."""
    return number(
        blobs, "SELECT COUNT(*) FROM blobs WHERE linked_type = 'metadata_item' AND blob_type = ?", (SONIC_BLOB,)
    )


def watch(library: sqlite3.Connection) -> dict[str, int]:
    """Return counts of the user data in the database."""
    live = "SELECT COUNT(*) FROM metadata_items WHERE metadata_type = ? AND deleted_at IS NULL"
    return {
        "settings": number(library, "SELECT COUNT(*) FROM metadata_item_settings"),
        "views": number(library, "SELECT COUNT(*) FROM metadata_item_views"),
        "accounts": number(library, "SELECT COUNT(*) FROM accounts"),
        "playlists": number(library, live, (PLAYLIST,)),
        "collections": number(library, live, (COLLECTION,)),
    }


def fingerprints(library: sqlite3.Connection) -> dict[str, dict[str, Any]]:
    """For each thing people change at home: rows, highest id and a digest of the rows."""
    present = tables(library)
    found: dict[str, dict[str, Any]] = {}
    for name, (table, sql) in _FINGERPRINTS.items():
        if table not in present:
            continue
        digest = hashlib.sha256()
        count = top = 0
        for row in iterate(library, sql):
            digest.update(repr(row).encode("utf-8", "surrogatepass"))
            count += 1
            top = max(top, row[0])
        found[name] = {"rows": count, "top": top, "sha256": digest.hexdigest()}
    return found


def min_version(library: sqlite3.Connection) -> str:
    """The lowest PMS version that may open this schema, as its migrations say; empty when none says so."""
    found = rows(library, "SELECT min_version FROM schema_migrations WHERE min_version IS NOT NULL")
    named = [str(row[0]) for row in found if version_number(str(row[0]))]
    return max(named, key=version_number, default="")


def version_number(text: str) -> tuple[int, ...]:
    """The comparable part of a PMS version: `1.43.4.10000-abcdef` is (1, 43, 4, 10000). Empty when there is none."""
    found: list[int] = []
    for piece in text.partition("-")[0].split("."):
        if not piece.isdigit():
            break
        found.append(int(piece))
    return tuple(found)


def sequences(library: sqlite3.Connection) -> dict[str, int]:
    """The highest id that each table ever gave away (AUTOINCREMENT): it never falls, so it tells old from new."""
    return {str(name): int(top) for name, top in rows(library, "SELECT name, seq FROM sqlite_sequence ORDER BY name")}


def ordinary_tables(library: sqlite3.Connection) -> list[str]:
    """Tables that stock SQLite can read: neither virtual, nor the shadow of a virtual one, nor SQLite's own."""
    found = rows(library, "SELECT name, sql FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'")
    virtual = [str(name) for name, sql in found if str(sql).upper().startswith("CREATE VIRTUAL")]
    return sorted(
        str(name)
        for name, _ in found
        if name not in virtual and not any(str(name).startswith(f"{parent}_") for parent in virtual)
    )


def row_counts(library: sqlite3.Connection) -> dict[str, int]:
    """Rows of every ordinary table."""
    return {
        table: number(library, f'SELECT COUNT(*) FROM "{table}"')  # noqa: S608 - names from sqlite_master
        for table in ordinary_tables(library)
    }


def statistics(library: sqlite3.Connection) -> dict[str, dict[str, int | None]]:
    """Rows and bytes (indexes included) of what Plex measures about itself.

    Bytes are None where this SQLite was built without `dbstat`: unknown is not 0.
    """
    present = tables(library)
    return {
        table: {
            "rows": number(library, f"SELECT COUNT(*) FROM {table}"),  # noqa: S608 - names from a constant
            "bytes": _bytes_of(library, table),
        }
        for table in STATISTICS
        if table in present
    }


def parts_with_state(library: sqlite3.Connection) -> list[tuple[int, int, str, int]]:
    """Every part as (id, section id, file, 1 when trashed)."""
    return [(row[0], row[1], row[2], row[3]) for row in iterate(library, PARTS_SQL) if row[2]]


def _items(library: sqlite3.Connection, deleted: str) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    sql = (
        "SELECT library_section_id, metadata_type, COUNT(*) FROM metadata_items "  # noqa: S608 - two constants
        f"WHERE library_section_id IS NOT NULL AND deleted_at {deleted} GROUP BY 1, 2 ORDER BY 1, 2"
    )
    for section, kind, count in rows(library, sql):
        found.setdefault(str(section), {})[str(kind)] = count
    return found


def _parts(library: sqlite3.Connection) -> tuple[dict[str, dict[str, int]], list[int]]:
    counts: dict[str, dict[str, int]] = {}
    trashed_ids: list[int] = []
    for part_id, section, _, trashed in iterate(library, PARTS_SQL):
        entry = counts.setdefault(str(section), {"total": 0, "trashed": 0})
        entry["total"] += 1
        if trashed:
            entry["trashed"] += 1
            trashed_ids.append(part_id)
    return counts, sorted(trashed_ids)


def _bytes_of(library: sqlite3.Connection, table: str) -> int | None:
    names = [table]
    names += [str(row[0]) for row in rows(library, "SELECT name FROM pragma_index_list(?)", (table,))]
    try:
        found = library.execute(
            f"SELECT SUM(pgsize) FROM dbstat WHERE aggregate = TRUE AND name IN ({', '.join('?' * len(names))})",  # noqa: S608
            names,
        ).fetchone()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return None
        raise PlexDatabaseError(f"The size of {table} cannot be measured: {error}.") from error
    return int(found[0] or 0)
