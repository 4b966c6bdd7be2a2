"""Count items in Plex's database, read-only, while Plex works.

Rules from the incidents of docs/plex-facts.md#incidents: a failed query is an error, never 0; a busy database is waited
for; both
encodings of extra_data count (docs/plex-facts.md#database); the Sonic count has a second, independent measure
(blob_type 7). Every
connection registers a replacement for Plex's collation icu_root, which even a plain COUNT may need.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import CountersBusy, CountersError
from . import counter_cache
from .counter_cache import TRACK, Totals
from .sample import Counters

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
FULL_EVERY = 1800.0
"""Seconds between full counts while increments are trusted. Unconfirmed: Sonic changes changed_at when it writes."""
FULL_WHEN_STILL = 240.0
"""Seconds of writes to the database without any increment, after which everything is counted."""
REST_BETWEEN_FULL = 20.0
"""When increments were wrong, full counts take at most one twentieth of the time."""
_WAL_INDEX_HEAD = 48
_FRESH_NS = 50_000_000
# Either encoding: {"ms:musicAnalysisVersion":"1",…} since about 1.40, ms%3AmusicAnalysisVersion=1 before; version 0
# is none.
_HAS_SONIC = (
    "(extra_data IS NOT NULL AND extra_data LIKE '%musicAnalysisVersion%' "
    "AND extra_data NOT LIKE '%musicAnalysisVersion=0%' AND extra_data NOT LIKE '%musicAnalysisVersion\":\"0\"%')"
)


def _compare(one: str, other: str) -> int:
    """Replacement for icu_root: with any total order stock sqlite can read; nothing is written with it."""
    a, b = one.casefold(), other.casefold()
    return (a > b) - (a < b)


@contextmanager
def connect(databases: Path, *, busy_seconds: float = BUSY_SECONDS) -> Iterator[sqlite3.Connection]:
    """Return a read-only connection to library.db with blobs.db attached as `blobs_db`.

    Raises CountersError (with the cause) or CountersBusy, never sqlite's own errors.
    """
    if SQLITE_PROBLEM:
        raise CountersError(
            f"This machine's Python has no sqlite3 ({SQLITE_PROBLEM}), so nothing can be counted. "
            "Install its sqlite3 package (Debian: libsqlite3-0, python3) before indexing."
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
        return CountersBusy(f"{path.name} is busy ({error}). It is counted again with the next sample.")
    return CountersError(f"Counting in {path} failed: {error}. The count is unknown, not zero.")


def signature(databases: Path) -> str:
    """Changes whenever anything was written: size and time of both databases and their WAL files, and SQLite's own
    change counter from the head of the WAL index; "" while a write is so fresh that a second one could look the same.

    (SQLite's data_version would say the same, but only to a connection that stays open.)
    Not to be called while this process has the databases open: closing a file drops the process's locks on it.
    """
    parts, newest, counted = [], 0, True
    for name in (LIBRARY, f"{LIBRARY}-wal", BLOBS, f"{BLOBS}-wal"):
        try:
            stat = (databases / name).stat()
        except FileNotFoundError:
            parts.append("-")
        else:
            parts.append(f"{stat.st_size}.{stat.st_mtime_ns}")
            newest = max(newest, stat.st_mtime_ns)
    for name in (f"{LIBRARY}-shm", f"{BLOBS}-shm"):
        try:
            with (databases / name).open("rb") as index:
                parts.append(index.read(_WAL_INDEX_HEAD).hex())
        except FileNotFoundError:
            parts.append("-")
            counted = False
    # File times move in steps of some milliseconds; only the WAL index counts every write.
    if not counted and time.time_ns() - newest < _FRESH_NS:
        return ""
    return hashlib.sha256(",".join(parts).encode()).hexdigest()[:32]


def read(
    databases: Path,
    section_ids: Sequence[int],
    *,
    previous: Counters | None = None,
    busy_seconds: float = BUSY_SECONDS,
    cache: Path | None = None,
    clock: Callable[[], float] = time.time,
) -> Counters:
    """Count these sections.

    Without `previous` everything is counted. With it (the counts of the last look at the same sections) nothing is read
    when nothing was written, and else only what changed; but every 30 minutes, when increments see nothing for minutes
    although something is written, and when they contradict the vectors in blobs.db, everything is counted as well:
    `drift` is then what the increments had missed. `cache`: folder of the memory this needs (default: the user's).
    Raises CountersBusy, CountersError (also for a section id that the database does not have).
    """
    started = time.monotonic()
    mark = signature(databases)
    wanted = tuple(sorted(section_ids))
    if previous is not None and mark and previous.signature == mark and previous.section_ids == wanted:
        return replace(previous, seconds=time.monotonic() - started)
    with connect(databases, busy_seconds=busy_seconds) as connection:
        connection.execute("BEGIN")  # every number from one state of the databases
        look = _Look(connection, wanted)
        path = counter_cache.place(databases, wanted, cache)
        full, drift = True, 0
        if path is None or (previous is None and not path.exists()):
            totals = look.totals()
        else:
            of = counter_cache.identity(databases / LIBRARY)
            totals, full, drift = _remembering(path, of, look, check=previous is None, now=clock())
        counted = look.counters(totals, full=full, drift=drift)
    return replace(counted, signature=mark, seconds=time.monotonic() - started)


def _remembering(path: Path, of: str, look: _Look, *, check: bool, now: float) -> tuple[Totals, bool, int]:
    """The totals, whether everything was counted for them, and the tracks that the increments had missed."""
    try:
        with counter_cache.opened(path) as memory:
            known = memory.totals(of)
            if known is None or not 0 <= now - known.full_at < 2 * FULL_EVERY:  # or of a run long ago
                return _first(memory, of, look, now), True, 0
            if not _increment(memory, known, look, check=check, now=now):
                memory.keep(of, known)
                return known, False, 0
            begun = time.monotonic()
            totals = look.totals()
            drift = (
                totals.bits[counter_cache.SERVER_SONIC] - known.bits[counter_cache.SERVER_SONIC] if known.trusted else 0
            )
            trusted = known.trusted and drift == 0
            if trusted and totals.bits != known.bits:
                memory.fill(look.states())  # items deleted for good: no increment shows them
            kept = replace(totals, full_at=now, full_seconds=time.monotonic() - begun, trusted=trusted)
            memory.keep(of, kept)
            return kept, True, drift
    except (sqlite3.Error, OSError, ValueError, KeyError, TypeError):
        # A damaged, locked or full memory costs time, not truth. (Plex's own errors are CountersError by now.)
        counter_cache.forget(path)
        return look.totals(), True, 0


def _first(memory: counter_cache.Memory, of: str, look: _Look, now: float) -> Totals:
    begun = time.monotonic()
    totals = look.totals()
    memory.fill(look.states())
    kept = replace(totals, full_at=now, full_seconds=time.monotonic() - begun)
    memory.keep(of, kept)
    return kept


def _increment(memory: counter_cache.Memory, known: Totals, look: _Look, *, check: bool, now: float) -> bool:
    """Bring `known` up to date by what changed; True when everything must be counted nevertheless."""
    age = now - known.full_at
    if not known.trusted:
        return check or not 0 <= age < REST_BETWEEN_FULL * known.full_seconds
    sonic, blobs = known.bits[counter_cache.SERVER_SONIC], known.blobs
    moved = memory.update(look.changes(known), known.bits)
    known.moved = look.advance(known) or moved or known.moved
    contradicts = known.blobs != blobs and known.bits[counter_cache.SERVER_SONIC] == sonic
    still = not known.moved and age >= FULL_WHEN_STILL
    return check or contradicts or still or not 0 <= age < FULL_EVERY


class _Look:
    """Queries in one read transaction. Every error of SQLite comes out as CountersBusy or CountersError.

    Conditions on deleted_at have a + where its index must not be chosen: on a fresh server there is no sqlite_stat1,
    the planner takes `deleted_at IS NULL` for rare, and the count takes up to 40 times longer.
    """

    def __init__(self, connection: sqlite3.Connection, wanted: tuple[int, ...]) -> None:
        self._connection = connection
        self._wanted = wanted
        self._marks = ",".join("?" for _ in wanted)
        self._types: dict[int, int] = dict(
            self._rows(f"SELECT id, section_type FROM library_sections WHERE id IN ({self._marks})", wanted)  # noqa: S608 only ? marks and constants
        )
        unknown = [section_id for section_id in wanted if section_id not in self._types]
        if unknown:
            raise CountersError(f"The database has no section with id {unknown}, so it cannot be counted.")

    def _rows(self, sql: str, parameters: Sequence[object] = ()) -> Iterator[tuple[Any, ...]]:
        try:
            yield from self._connection.execute(sql, parameters)
        except sqlite3.Error as error:
            raise _problem(error, Path(LIBRARY)) from error

    def _number(self, sql: str, parameters: Sequence[object] = ()) -> int:
        for row in self._rows(sql, parameters):
            return int(row[0])
        raise CountersError(f"A count returned no row: {sql}")

    def totals(self) -> Totals:
        """Count everything."""
        bits = dict.fromkeys(counter_cache.BITS, 0)
        changed_at = 0
        for section_id, kind, live, trashed, sonic, newest in self._rows(
            "SELECT library_section_id, metadata_type, "  # noqa: S608 only ? marks and constants
            "SUM(deleted_at IS NULL), SUM(deleted_at IS NOT NULL), "
            f"COALESCE(SUM(deleted_at IS NULL AND {_HAS_SONIC}), 0), MAX(changed_at) "
            f"FROM metadata_items WHERE library_section_id IN ({self._marks}) GROUP BY 1, 2",
            self._wanted,
        ):
            section_type = self._types[section_id]
            for count, is_live, has in ((live - sonic, True, False), (sonic, True, True), (trashed, False, False)):
                state = counter_cache.weigh(section_type, kind, live=is_live, sonic=has)
                counter_cache.add(bits, state, count)
            changed_at = max(changed_at, int(newest or 0))
        bits[counter_cache.SERVER_SONIC] = self._number(
            f"SELECT COUNT(*) FROM metadata_items WHERE metadata_type = ? AND {_HAS_SONIC}",  # noqa: S608 only ? marks and constants
            (TRACK,),
        )
        totals = Totals(bits=bits, changed_in_sections=changed_at)
        totals.changed_at = self._number("SELECT COALESCE(MAX(changed_at), 0) FROM metadata_items")
        self.advance(totals)
        return totals

    def states(self) -> Iterator[tuple[int, int]]:
        """Return (id, state) of every item."""
        rows = self._rows(
            f"SELECT id, library_section_id, metadata_type, deleted_at IS NULL, {_HAS_SONIC} FROM metadata_items"  # noqa: S608 constants
        )
        for item, section_id, kind, live, sonic in rows:
            yield item, counter_cache.weigh(self._types.get(section_id), kind, live=bool(live), sonic=bool(sonic))

    def changes(self, known: Totals) -> list[tuple[int, int]]:
        """(id, state) of the items that Plex has written since; `known` then knows the newest change."""
        found = []
        for item, section_id, kind, live, sonic, changed_at in self._rows(
            f"SELECT id, library_section_id, metadata_type, deleted_at IS NULL, {_HAS_SONIC}, changed_at "  # noqa: S608 constants
            "FROM metadata_items WHERE changed_at >= ?",
            (known.changed_at,),
        ):
            section_type = self._types.get(section_id)
            found.append((item, counter_cache.weigh(section_type, kind, live=bool(live), sonic=bool(sonic))))
            known.changed_at = max(known.changed_at, changed_at)
            if section_type is not None:
                known.changed_in_sections = max(known.changed_in_sections, changed_at)
        return found

    def advance(self, totals: Totals) -> bool:
        """Add the rows of media, parts and vectors that are new since `totals`; True when there were any."""
        before = (totals.media_rows, totals.part_rows, totals.blobs)
        last_media = self._number("SELECT COALESCE(MAX(id), 0) FROM media_items")
        last_part = self._number("SELECT COALESCE(MAX(id), 0) FROM media_parts")
        last_blob = self._number("SELECT COALESCE(MAX(id), 0) FROM blobs_db.blobs")
        # The first time through the section's index, later through the few new ids.
        plus, cross = ("", "") if totals.last_media == 0 else ("+", "CROSS ")
        totals.media_rows += self._number(
            f"SELECT COUNT(*) FROM media_items i WHERE i.id > ? AND {plus}i.library_section_id IN ({self._marks})",  # noqa: S608 only ? marks and constants
            (totals.last_media, *self._wanted),
        )
        totals.part_rows += self._number(
            f"SELECT COUNT(*) FROM media_parts p {cross}JOIN media_items i ON i.id = p.media_item_id "  # noqa: S608 only ? marks and constants
            f"WHERE p.id > ? AND {plus}i.library_section_id IN ({self._marks})",
            (totals.last_part, *self._wanted),
        )
        totals.blobs += self._number(
            "SELECT COUNT(*) FROM blobs_db.blobs WHERE id > ? AND linked_type = 'metadata_item' AND blob_type = ?",
            (totals.last_blob, SONIC_BLOB),
        )
        totals.last_media, totals.last_part, totals.last_blob = last_media, last_part, last_blob
        return before != (totals.media_rows, totals.part_rows, totals.blobs)

    def counters(self, totals: Totals, *, full: bool, drift: int) -> Counters:
        """The totals as a sample's counts. What is in the trash or not analysed is few, and counted by its index."""
        parts_trashed = self._number(
            "SELECT COUNT(*) FROM media_parts p CROSS JOIN media_items i ON i.id = p.media_item_id "  # noqa: S608 only ? marks and constants
            f"WHERE p.deleted_at > 0 AND +i.library_section_id IN ({self._marks})",
            self._wanted,
        )
        media_trashed = self._number(
            f"SELECT COUNT(*) FROM media_items WHERE deleted_at > 0 AND +library_section_id IN ({self._marks})",  # noqa: S608 only ? marks and constants
            self._wanted,
        )
        pending = sum(
            self._number(
                f"SELECT COUNT(*) FROM media_items WHERE media_analysis_version {empty} "  # noqa: S608 only ? marks and constants
                f"AND +deleted_at IS NULL AND +library_section_id IN ({self._marks})",
                self._wanted,
            )
            for empty in ("<= 0", "IS NULL")
        )
        bits, media = totals.bits, totals.media_rows - media_trashed
        return Counters(
            section_ids=self._wanted,
            items=bits[counter_cache.LIVE_LEAF],
            items_trashed=bits[counter_cache.TRASHED_LEAF],
            parts=totals.part_rows,
            parts_trashed=parts_trashed,
            media=media,
            media_analysed=media - pending,
            sonic_total=bits[counter_cache.LIVE_TRACK],
            sonic_done=bits[counter_cache.SONIC_TRACK],
            sonic_other=bits[counter_cache.SONIC_OTHER],
            server_sonic_done=bits[counter_cache.SERVER_SONIC],
            server_sonic_blobs=totals.blobs,
            changed_at=totals.changed_in_sections,
            full=full,
            drift=drift,
        )


def forget(databases: Path, section_ids: Sequence[int], cache: Path | None = None) -> None:
    """Remove the counter cache of these sections at the end of their watching."""
    path = counter_cache.place(databases, section_ids, cache)
    if path is not None:
        counter_cache.forget(path)


@dataclass(frozen=True, slots=True)
class TrackLeft:
    """A track without Sonic data, with the file Plex would read (container path)."""

    id: int
    title: str
    album: str
    artist: str
    file: str


def sonic_left(databases: Path, section_ids: Sequence[int], *, limit: int = 200) -> list[TrackLeft]:
    """Return tracks of these sections without Sonic data, at most `limit`, in order of id."""
    marks = ",".join("?" for _ in section_ids)
    with connect(databases) as connection:
        rows = connection.execute(
            "SELECT t.id, t.title, COALESCE(al.title, ''), COALESCE(ar.title, ''), "  # noqa: S608 only ? marks and constants
            "COALESCE((SELECT p.file FROM media_items i JOIN media_parts p ON p.media_item_id = i.id "
            "WHERE i.metadata_item_id = t.id ORDER BY p.deleted_at IS NOT NULL, p.id LIMIT 1), '') "
            "FROM metadata_items t LEFT JOIN metadata_items al ON al.id = t.parent_id "
            "LEFT JOIN metadata_items ar ON ar.id = al.parent_id "
            f"WHERE t.metadata_type = ? AND +t.deleted_at IS NULL AND t.library_section_id IN ({marks}) "
            f"AND (t.extra_data IS NULL OR NOT {_HAS_SONIC.replace('extra_data', 't.extra_data')}) "
            "ORDER BY t.id LIMIT ?",
            (TRACK, *section_ids, limit),
        ).fetchall()
    return [TrackLeft(*row) for row in rows]


def sonic_ids(databases: Path, section_ids: Sequence[int], *, done: bool, limit: int) -> list[int]:
    """Return ids of up to `limit` tracks with (or without) Sonic data, spread over the section by a fixed stride.

    They are compared with the API before the database's counts are trusted.
    """
    marks = ",".join("?" for _ in section_ids)
    condition = _HAS_SONIC if done else f"(extra_data IS NULL OR NOT {_HAS_SONIC})"
    with connect(databases) as connection:
        ids = [
            row[0]
            for row in connection.execute(
                "SELECT id FROM metadata_items WHERE metadata_type = ? AND +deleted_at IS NULL "  # noqa: S608 only ? marks and constants
                f"AND {condition} AND library_section_id IN ({marks}) ORDER BY id",
                (TRACK, *section_ids),
            )
        ]
    if len(ids) <= limit:
        return ids
    return [ids[index * len(ids) // limit] for index in range(limit)]


def section_files(databases: Path, section_id: int, *, limit: int, seed: int) -> list[str]:
    """Return up to `limit` files (container paths) of a section outside the trash, spread over it by `seed`.

    Each probe reads different files, because recently read ones may come from rclone's cache when the remote is gone.
    """
    live = "SELECT id FROM media_items WHERE library_section_id = ? AND +deleted_at IS NULL"
    with connect(databases) as connection:
        media = [row[0] for row in connection.execute(f"{live} ORDER BY id LIMIT ?", (section_id, limit + 1))]
        if len(media) > limit:
            # Places spread over the range of ids, moved by the seed: each is one step down an index.
            low = media[0]
            high = connection.execute(f"{live} ORDER BY id DESC LIMIT 1", (section_id,)).fetchone()[0]
            width = (high - low + 1) / limit
            places = [low + int((index + seed * 389 % 1009 / 1009) * width) for index in range(limit)]
            found = (
                connection.execute(f"{live} AND id >= ? ORDER BY id LIMIT 1", (section_id, wanted)).fetchone()
                for wanted in places
            )
            media = sorted({row[0] for row in found if row is not None})
        files = []
        for item in media:
            row = connection.execute(
                "SELECT file FROM media_parts WHERE media_item_id = ? AND +deleted_at IS NULL ORDER BY id LIMIT 1",
                (item,),
            ).fetchone()
            if row is not None:
                files.append(row[0])
    return files


def locations(databases: Path, section_id: int) -> list[str]:
    """Return the root folders of a section (container paths)."""
    with connect(databases) as connection:
        return [
            row[0]
            for row in connection.execute(
                "SELECT root_path FROM section_locations WHERE library_section_id = ? ORDER BY id", (section_id,)
            )
        ]


def analysis_left(databases: Path, section_id: int, *, limit: int | None = None) -> list[int]:
    """Return ids of a section's leaf items outside the trash whose media were never analysed by Plex."""
    with connect(databases) as connection:
        rows = connection.execute(
            "SELECT DISTINCT m.id FROM metadata_items m JOIN media_items i ON i.metadata_item_id = m.id "
            "WHERE m.library_section_id = ? AND +m.deleted_at IS NULL AND +i.deleted_at IS NULL "
            "AND COALESCE(i.media_analysis_version, 0) = 0 ORDER BY m.id LIMIT ?",
            (section_id, -1 if limit is None else limit),
        ).fetchall()
    return [row[0] for row in rows]


def trashed_files(databases: Path, section_id: int, *, since: int, limit: int = 200) -> list[str]:
    """Return files of a section that were moved to the trash at or after `since` (unix seconds), at most `limit`."""
    with connect(databases) as connection:
        rows = connection.execute(
            "SELECT p.file FROM media_parts p JOIN media_items i ON i.id = p.media_item_id "
            "WHERE +i.library_section_id = ? AND p.deleted_at >= ? ORDER BY p.id LIMIT ?",
            (section_id, since, limit),
        ).fetchall()
    return [row[0] for row in rows]


def from_dict(data: Mapping[str, Any] | None) -> Counters | None:
    """Counters from a module's cursor parameter."""
    if not data:
        return None
    return Counters(**{**data, "section_ids": tuple(data["section_ids"])})


def item_files(databases: Path, ids: Sequence[int]) -> list[str]:
    """Return the files (container paths) of these items outside the trash."""
    files: list[str] = []
    with connect(databases) as connection:
        for index in range(0, len(ids), 500):
            chunk = ids[index : index + 500]
            marks = ",".join("?" for _ in chunk)
            files.extend(
                row[0]
                for row in connection.execute(
                    "SELECT p.file FROM media_parts p JOIN media_items i ON i.id = p.media_item_id "  # noqa: S608 only ? marks and constants
                    f"WHERE +p.deleted_at IS NULL AND i.metadata_item_id IN ({marks}) ORDER BY p.id",
                    list(chunk),
                )
            )
    return files
