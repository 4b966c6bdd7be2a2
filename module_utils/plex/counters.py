"""Counting in Plex's database, read-only, while Plex works.

Rules from the incidents of facts §1.3: a query that fails is an error, never a 0; a busy database is waited for, never
misread; both encodings of extra_data count (facts §2.8); the Sonic count has a second, independent measure (blob_type
7).
Every connection registers a stand-in for Plex's collation icu_root, which even a bare COUNT may need.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ansible_collections.plexburst.core.plugins.module_utils.plex.errors import CountersBusy, CountersError
from ansible_collections.plexburst.core.plugins.module_utils.plex.sample import Counters

try:
    import sqlite3
except ImportError as error:
    SQLITE_PROBLEM = str(error)
else:
    SQLITE_PROBLEM = ""

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

LIBRARY = "com.plexapp.plugins.library.db"
BLOBS = "com.plexapp.plugins.library.blobs.db"
BUSY_SECONDS = 20.0
SONIC_BLOB = 7
TRACK = 10
# section_type -> metadata_type of what a person calls an item (facts §2.8): movies, episodes, tracks, photos.
LEAF_TYPES = {1: 1, 2: 4, 8: 10, 13: 13}
# Either encoding: {"ms:musicAnalysisVersion":"1",…} since about 1.40, ms%3AmusicAnalysisVersion=1 before; version 0
# is none.
_HAS_SONIC = (
    "(extra_data LIKE '%musicAnalysisVersion%' AND extra_data NOT LIKE '%musicAnalysisVersion=0%' "
    'AND extra_data NOT LIKE \'%musicAnalysisVersion":"0"%\')'
)


def _compare(one: str, other: str) -> int:
    """Stand-in for icu_root: any total order lets stock sqlite read; nothing is written with it."""
    a, b = one.casefold(), other.casefold()
    return (a > b) - (a < b)


@contextmanager
def connect(databases: Path, *, busy_seconds: float = BUSY_SECONDS) -> Iterator[sqlite3.Connection]:
    """A read-only connection to library.db with blobs.db attached as `blobs_db`.

    Raises CountersError (with the cause) or CountersBusy; sqlite's own errors never come out.
    """
    if SQLITE_PROBLEM:
        raise CountersError(
            f"This machine's Python has no sqlite3 ({SQLITE_PROBLEM}), so nothing can be counted. "
            "Install its sqlite3 package (Debian: libsqlite3-0, python3) before indexing; a missing sqlite3 once "
            "made every counter look like 0."
        )
    library, blobs = databases / LIBRARY, databases / BLOBS
    for path in (library, blobs):
        if not path.is_file():
            raise CountersError(f"Plex's database {path} does not exist. Check the database directory and the mount.")
    connection = None
    try:
        connection = sqlite3.connect(f"{library.resolve().as_uri()}?mode=ro", uri=True, timeout=busy_seconds)
        connection.create_collation("icu_root", _compare)
        connection.execute("PRAGMA query_only=1")
        connection.execute("ATTACH DATABASE ? AS blobs_db", (f"{blobs.resolve().as_uri()}?mode=ro",))
        yield connection
    except sqlite3.Error as error:
        raise _problem(error, library) from error
    finally:
        if connection is not None:
            connection.close()


def _problem(error: sqlite3.Error, path: Path) -> CountersError:
    code = getattr(error, "sqlite_errorname", "") or ""
    if code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")) or "locked" in str(error):
        return CountersBusy(f"{path.name} is busy ({error}); it was waited for and will be counted again.")
    return CountersError(f"Counting in {path} failed: {error}. The number is unknown, not zero.")


def signature(databases: Path) -> str:
    """Changes whenever anything was written: size and modification time of both databases and their WAL files.

    (SQLite's data_version would say the same, but only to a connection that stays open.)
    """
    parts = []
    for name in (LIBRARY, f"{LIBRARY}-wal", BLOBS, f"{BLOBS}-wal"):
        try:
            stat = (databases / name).stat()
        except FileNotFoundError:
            parts.append("-")
        else:
            parts.append(f"{stat.st_size}.{stat.st_mtime_ns}")
    return ",".join(parts)


def _one(connection: sqlite3.Connection, sql: str, parameters: Sequence[object] = ()) -> tuple[Any, ...]:
    row = connection.execute(sql, parameters).fetchone()
    if row is None:
        raise CountersError(f"A count gave no row: {sql}")
    return tuple(row)


def read(
    databases: Path,
    section_ids: Sequence[int],
    *,
    previous: Counters | None = None,
    busy_seconds: float = BUSY_SECONDS,
) -> Counters:
    """Count these sections. When nothing was written since `previous` (same sections), it is returned as it was.

    Raises CountersBusy, CountersError (also for a section id that the database does not have).
    """
    started = time.monotonic()
    mark = signature(databases)
    wanted = tuple(sorted(section_ids))
    if previous is not None and previous.signature == mark and previous.section_ids == wanted:
        return replace(previous, seconds=time.monotonic() - started)
    marks = ",".join("?" for _ in wanted)
    with connect(databases, busy_seconds=busy_seconds) as connection:
        types = dict(
            connection.execute(
                f"SELECT id, section_type FROM library_sections WHERE id IN ({marks})",  # noqa: S608 only ? marks and constants
                wanted,
            ).fetchall()
        )
        unknown = [section_id for section_id in wanted if section_id not in types]
        if unknown:
            raise CountersError(f"The database has no section with id {unknown}; there is nothing to count there.")
        rows = connection.execute(
            "SELECT library_section_id, metadata_type, "  # noqa: S608 only ? marks and constants
            "SUM(deleted_at IS NULL), SUM(deleted_at IS NOT NULL), "
            f"COALESCE(SUM(deleted_at IS NULL AND {_HAS_SONIC}), 0), MAX(changed_at) "
            f"FROM metadata_items WHERE library_section_id IN ({marks}) GROUP BY 1, 2",
            wanted,
        ).fetchall()
        parts = _one(
            connection,
            "SELECT COUNT(*), TOTAL(p.deleted_at IS NOT NULL) FROM media_parts p "  # noqa: S608 only ? marks and constants
            f"JOIN media_items i ON i.id = p.media_item_id WHERE i.library_section_id IN ({marks})",
            wanted,
        )
        media = _one(
            connection,
            "SELECT COUNT(*), TOTAL(media_analysis_version > 0) FROM media_items "  # noqa: S608 only ? marks and constants
            f"WHERE deleted_at IS NULL AND library_section_id IN ({marks})",
            wanted,
        )
        server_done = _one(
            connection,
            f"SELECT COUNT(*) FROM metadata_items WHERE metadata_type = ? AND {_HAS_SONIC}",  # noqa: S608 only ? marks and constants
            (TRACK,),
        )
        blobs = _one(
            connection,
            "SELECT COUNT(*) FROM blobs_db.blobs WHERE linked_type = 'metadata_item' AND blob_type = ?",
            (SONIC_BLOB,),
        )
    leaf = [row for row in rows if LEAF_TYPES.get(types[row[0]]) == row[1]]
    music = [row for row in rows if types[row[0]] == 8]
    return Counters(
        section_ids=wanted,
        items=sum(row[2] for row in leaf),
        items_trashed=sum(row[3] for row in leaf),
        parts=int(parts[0]),
        parts_trashed=int(parts[1]),
        media=int(media[0]),
        media_analysed=int(media[1]),
        sonic_total=sum(row[2] for row in music if row[1] == TRACK),
        sonic_done=sum(row[4] for row in music if row[1] == TRACK),
        sonic_other=sum(row[4] for row in music if row[1] in (8, 9)),
        server_sonic_done=int(server_done[0]),
        server_sonic_blobs=int(blobs[0]),
        changed_at=max((int(row[5] or 0) for row in rows), default=0),
        signature=mark,
        seconds=time.monotonic() - started,
    )


@dataclass(frozen=True, slots=True)
class TrackLeft:
    """A track without Sonic data, with the file Plex would read (container path)."""

    id: int
    title: str
    album: str
    artist: str
    file: str


def sonic_left(databases: Path, section_ids: Sequence[int], *, limit: int = 200) -> list[TrackLeft]:
    """Tracks of these sections without Sonic data, at most `limit`, in order of id."""
    marks = ",".join("?" for _ in section_ids)
    with connect(databases) as connection:
        rows = connection.execute(
            "SELECT t.id, t.title, COALESCE(al.title, ''), COALESCE(ar.title, ''), "  # noqa: S608 only ? marks and constants
            "COALESCE((SELECT p.file FROM media_items i JOIN media_parts p ON p.media_item_id = i.id "
            "WHERE i.metadata_item_id = t.id ORDER BY p.deleted_at IS NOT NULL, p.id LIMIT 1), '') "
            "FROM metadata_items t LEFT JOIN metadata_items al ON al.id = t.parent_id "
            "LEFT JOIN metadata_items ar ON ar.id = al.parent_id "
            f"WHERE t.metadata_type = ? AND t.deleted_at IS NULL AND t.library_section_id IN ({marks}) "
            f"AND (t.extra_data IS NULL OR NOT {_HAS_SONIC.replace('extra_data', 't.extra_data')}) "
            "ORDER BY t.id LIMIT ?",
            (TRACK, *section_ids, limit),
        ).fetchall()
    return [TrackLeft(*row) for row in rows]


def sonic_ids(databases: Path, section_ids: Sequence[int], *, done: bool, limit: int) -> list[int]:
    """Ids of up to `limit` tracks that have (or lack) Sonic data, spread over the section by a fixed stride.

    The database's word about them is compared with the API's before either is trusted.
    """
    marks = ",".join("?" for _ in section_ids)
    condition = _HAS_SONIC if done else f"(extra_data IS NULL OR NOT {_HAS_SONIC})"
    with connect(databases) as connection:
        ids = [
            row[0]
            for row in connection.execute(
                "SELECT id FROM metadata_items WHERE metadata_type = ? AND deleted_at IS NULL "  # noqa: S608 only ? marks and constants
                f"AND {condition} AND library_section_id IN ({marks}) ORDER BY id",
                (TRACK, *section_ids),
            )
        ]
    if len(ids) <= limit:
        return ids
    return [ids[index * len(ids) // limit] for index in range(limit)]


def section_files(databases: Path, section_id: int, *, limit: int, seed: int) -> list[str]:
    """Up to `limit` files (container paths) of a section that are not in the trash, spread over it; `seed` moves the
    choice.

    Different files at each probe: what was read a minute ago may come from rclone's cache although the remote is gone.
    """
    with connect(databases) as connection:
        total = int(
            _one(
                connection,
                "SELECT COUNT(*) FROM media_parts p JOIN media_items i ON i.id = p.media_item_id "
                "WHERE i.library_section_id = ? AND p.deleted_at IS NULL",
                (section_id,),
            )[0]
        )
        if total == 0:
            return []
        count = min(limit, total)
        offsets = sorted({(seed + index * total // count) % total for index in range(count)})
        files = []
        for offset in offsets:
            row = connection.execute(
                "SELECT p.file FROM media_parts p JOIN media_items i ON i.id = p.media_item_id "
                "WHERE i.library_section_id = ? AND p.deleted_at IS NULL ORDER BY p.id LIMIT 1 OFFSET ?",
                (section_id, offset),
            ).fetchone()
            if row is not None:
                files.append(row[0])
    return files


def locations(databases: Path, section_id: int) -> list[str]:
    """Root folders of a section (container paths)."""
    with connect(databases) as connection:
        return [
            row[0]
            for row in connection.execute(
                "SELECT root_path FROM section_locations WHERE library_section_id = ? ORDER BY id", (section_id,)
            )
        ]


def analysis_left(databases: Path, section_id: int, *, limit: int | None = None) -> list[int]:
    """Ids of the leaf items of a section whose media never went through Plex's analysis, without those in the trash."""
    with connect(databases) as connection:
        rows = connection.execute(
            "SELECT DISTINCT m.id FROM metadata_items m JOIN media_items i ON i.metadata_item_id = m.id "
            "WHERE m.library_section_id = ? AND m.deleted_at IS NULL AND i.deleted_at IS NULL "
            "AND COALESCE(i.media_analysis_version, 0) = 0 ORDER BY m.id LIMIT ?",
            (section_id, -1 if limit is None else limit),
        ).fetchall()
    return [row[0] for row in rows]


def trashed_files(databases: Path, section_id: int, *, since: int, limit: int = 200) -> list[str]:
    """Files of a section that went into the trash at or after `since` (unix seconds), at most `limit`."""
    with connect(databases) as connection:
        rows = connection.execute(
            "SELECT p.file FROM media_parts p JOIN media_items i ON i.id = p.media_item_id "
            "WHERE i.library_section_id = ? AND p.deleted_at >= ? ORDER BY p.id LIMIT ?",
            (section_id, since, limit),
        ).fetchall()
    return [row[0] for row in rows]


def from_dict(data: Mapping[str, Any] | None) -> Counters | None:
    """Counters from a module's cursor parameter."""
    if not data:
        return None
    return Counters(**{**data, "section_ids": tuple(data["section_ids"])})


def item_files(databases: Path, ids: Sequence[int]) -> list[str]:
    """Files (container paths) of these items that are not in the trash."""
    files: list[str] = []
    with connect(databases) as connection:
        for index in range(0, len(ids), 500):
            chunk = ids[index : index + 500]
            marks = ",".join("?" for _ in chunk)
            files.extend(
                row[0]
                for row in connection.execute(
                    "SELECT p.file FROM media_parts p JOIN media_items i ON i.id = p.media_item_id "  # noqa: S608 only ? marks and constants
                    f"WHERE p.deleted_at IS NULL AND i.metadata_item_id IN ({marks}) ORDER BY p.id",
                    list(chunk),
                )
            )
    return files
