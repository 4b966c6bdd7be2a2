"""Bring home Sonic data alone, into the living library: the smallest thing a user has to trust.

What travels: vectors (blobs of type 7 of tracks) and the mark `musicAnalysisVersion` in the extra_data of tracks,
albums and artists. Nothing else is read from the indexer, no file is swapped, no id is taken over.

Why Plex may go on working meanwhile: SQLite in WAL mode is made for several processes of one machine that write in
turn, and a server waits for a busy database (its log says so after 10 seconds). So every transaction here is far
shorter than that, waits for its turn, and is written by Plex's own SQLite of home's version: the same library as the
server, so its triggers fire. Each mark is written only where the row is still as it was read. Two things would make
that unsafe and are
refused: a database on a network file system, where WAL does not work (https://sqlite.org/wal.html), and a stock SQLite
that lacks Plex's tokenizer. Vectors come first: a mark without a vector would tell Plex not to analyse the track again.
"""

# ruff: noqa: S608 - statements are built from names of the schema; values are parameters
from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..errors import PlexDatabaseError
from ..pair.manifest import SONIC_BLOB, SONIC_MARK
from ..pair.pair import BLOBS, LIBRARY, NAMES, require_closed
from ..pair.reader import BUSY_SECONDS, decode_text, number, rows, stand_in_collation
from .apply import hand_over, run_plex_sqlite
from .workspace import read_extra, remove, write_extra

# Rows of one transaction: some milliseconds, where a server gives up after 10 seconds.
BATCH = 200
# Transactions of one call of Plex SQLite, and the pause after it in which the server has the database for itself.
CALL = 25
PAUSE_SECONDS = 0.05
ROUNDS = 3
# Of /proc/mounts: where shared memory and locks of several processes cannot be relied on.
_REMOTE = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "fuse.", "virtiofs")
_ITEMS = (8, 9, 10)
_TRACK = 10


@dataclass(frozen=True)
class Brought:
    """What came home: vectors, and marks of tracks, albums and artists; `skipped` items are another thing at home
    now."""

    vectors: int
    marks: int
    skipped: int
    seconds: float = 0.0

    @property
    def changed(self) -> bool:
        return bool(self.vectors or self.marks)


def bring(
    incoming: Path,
    databases: Path,
    *,
    plex_sqlite: Sequence[str],
    dry_run: bool = False,
    mounts: Path = Path("/proc/mounts"),
) -> Brought:
    """Add the Sonic data of the closed pair in `incoming` to the library in `databases`, whose Plex may be running.

    Twice is once. Interrupted, what is there is whole, and the next call goes on.

    :param plex_sqlite: argv of Plex's own SQLite of home's version.
    :raises PlexDatabaseError: it cannot be written safely, or home changed faster than it could be written.
    """
    require_closed(incoming)
    for name in NAMES:
        if not (databases / name).is_file():
            raise PlexDatabaseError(f"Expected {name} in {databases}, found no such file.")
    kind = file_system(databases, mounts)
    if kind.startswith(_REMOTE):
        raise PlexDatabaseError(
            f"{databases} is on a file system of type {kind}, on which SQLite cannot share a database between "
            "processes "
            "while Plex runs. Bring home everything instead (plexburst_apply=all), which stops Plex for the swap."
        )
    if not plex_sqlite and not dry_run:
        raise PlexDatabaseError(
            "Bringing home Sonic data needs the command of Plex's own SQLite (plex_sqlite): marks are in "
            "metadata_items, "
            "where triggers fire that stock SQLite cannot run."
        )
    started = time.monotonic()
    vectors = marks = 0
    scratch = incoming / ".plexburst-sonic.db"
    try:
        for _ in range(ROUNDS):
            found = _stage(scratch, incoming, databases)
            if dry_run or not found.changed:
                total = Brought(vectors or found.vectors, marks or found.marks, found.skipped)
                return Brought(total.vectors, total.marks, total.skipped, round(time.monotonic() - started, 3))
            hand_over((incoming, scratch), databases / LIBRARY)
            _write(scratch, databases, plex_sqlite)
            vectors, marks = vectors + found.vectors, marks + found.marks
        left = _stage(scratch, incoming, databases)
    finally:
        remove(scratch)
    if left.changed:
        raise PlexDatabaseError(
            f"{left.vectors} vectors and {left.marks} marks could not be written: home's Plex changed the same rows "
            "each of "
            f"{ROUNDS} times. What was written is whole; wait until Plex is quieter, then run it again."
        )
    return Brought(vectors, marks, left.skipped, round(time.monotonic() - started, 3))


def file_system(path: Path, mounts: Path = Path("/proc/mounts")) -> str:
    """The type of the file system a path is on, as the kernel names it; empty where there is no /proc."""
    if not mounts.is_file():
        return ""
    best, kind = "", ""
    place = str(path.resolve())
    for line in mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = fields[1].replace("\\040", " ")
        if (place == point or place.startswith(point.rstrip("/") + "/")) and len(point) >= len(best):
            best, kind = point, fields[2]
    return kind


def _stage(scratch: Path, incoming: Path, databases: Path) -> Brought:
    """Find what home lacks, and lay it ready in the scratch file: `vectors` and `marks`, each with its batch."""
    remove(scratch)
    try:
        with closing(sqlite3.connect(str(scratch), uri=True, isolation_level=None, timeout=BUSY_SECONDS)) as work:
            scratch.chmod(0o600)
            work.create_collation("icu_root", stand_in_collation)
            work.text_factory = decode_text
            for name, directory, mode in (("theirs", incoming, "mode=ro&immutable=1"), ("ours", databases, "mode=ro")):
                for suffix, file in (("", LIBRARY), ("_b", BLOBS)):
                    path = quote(str((directory / file).absolute()))
                    work.execute(f"ATTACH DATABASE ? AS {name}{suffix}", (f"file:{path}?{mode}",))
            work.execute("BEGIN")
            result = _find(work)
            work.execute("COMMIT")
            return result
    except sqlite3.Error as error:
        raise PlexDatabaseError(
            f"The Sonic data in {incoming} cannot be compared with {databases}: {error}."
        ) from error


def _find(work: sqlite3.Connection) -> Brought:
    kinds = ", ".join(str(kind) for kind in _ITEMS)
    work.execute("CREATE TABLE main.known(id INTEGER PRIMARY KEY, kind INTEGER, guid TEXT, ours TEXT, theirs TEXT)")
    # The same thing on both sides: same id, type and guid. An item that was matched anew is not touched.
    work.execute(
        "INSERT INTO main.known SELECT o.id, o.metadata_type, o.guid, o.extra_data, t.extra_data "
        f"FROM theirs.metadata_items t JOIN ours.metadata_items o ON o.id = t.id WHERE t.metadata_type IN ({kinds}) "
        "AND t.extra_data LIKE ? AND o.metadata_type = t.metadata_type AND o.guid IS t.guid",
        (SONIC_MARK,),
    )
    marked = number(
        work,
        f"SELECT COUNT(*) FROM theirs.metadata_items WHERE metadata_type IN ({kinds}) AND extra_data LIKE ?",
        (SONIC_MARK,),
    )
    skipped = marked - number(work, "SELECT COUNT(*) FROM main.known")
    vector = "x.linked_type = 'metadata_item' AND x.linked_id = k.id AND x.blob_type = ?"
    work.execute(
        "CREATE TABLE main.vectors(batch INTEGER, linked_id INTEGER PRIMARY KEY, guid TEXT, blob BLOB, created_at)"
    )
    work.execute(
        "INSERT INTO main.vectors SELECT (ROW_NUMBER() OVER (ORDER BY k.id) - 1) / ?, k.id, "
        f"(SELECT x.linked_guid FROM theirs_b.blobs x WHERE {vector} LIMIT 1), "
        f"(SELECT x.blob FROM theirs_b.blobs x WHERE {vector} LIMIT 1), "
        f"(SELECT x.created_at FROM theirs_b.blobs x WHERE {vector} LIMIT 1) FROM main.known k WHERE k.kind = ? "
        f"AND EXISTS (SELECT 1 FROM theirs_b.blobs x WHERE {vector}) "
        f"AND NOT EXISTS (SELECT 1 FROM ours_b.blobs x WHERE {vector})",
        (BATCH, SONIC_BLOB, SONIC_BLOB, SONIC_BLOB, _TRACK, SONIC_BLOB, SONIC_BLOB),
    )
    work.execute("CREATE TABLE main.marks(batch INTEGER, id INTEGER PRIMARY KEY, old TEXT, new TEXT)")
    count = 0
    unmarked = (
        "SELECT k.id, k.ours, k.theirs FROM main.known k WHERE (k.ours IS NULL OR k.ours NOT LIKE ?) "
        "AND (k.kind <> ? OR k.id IN (SELECT linked_id FROM main.vectors) "
        f"OR EXISTS (SELECT 1 FROM ours_b.blobs x WHERE {vector})) ORDER BY k.id"
    )
    for item, ours, theirs in work.execute(unmarked, (SONIC_MARK, _TRACK, SONIC_BLOB)):
        new = with_mark(ours, theirs)
        if new is None:
            skipped += 1
            continue
        work.execute("INSERT INTO main.marks VALUES(?, ?, ?, ?)", (count // BATCH, item, ours, new))
        count += 1
    return Brought(number(work, "SELECT COUNT(*) FROM main.vectors"), count, skipped)


def with_mark(ours: str | None, theirs: str) -> str | None:
    """Home's extra_data with the indexer's Sonic mark added; None when either is of no known shape."""
    mine, other = read_extra(ours), read_extra(theirs)
    if mine is None or other is None:
        return None
    marks: dict[str, Any] = {key: value for key, value in other.items() if "musicAnalysisVersion" in key}
    return write_extra({**mine, **marks}, like=ours or theirs) if marks else None


def _write(scratch: Path, databases: Path, plex_sqlite: Sequence[str]) -> None:
    # A guid is unique among the vectors (a unique index), and two tracks may share one; home's row keeps it.
    vector = (
        "INSERT INTO main.blobs(blob, linked_type, linked_id, linked_guid, created_at, blob_type) "
        "SELECT blob, 'metadata_item', linked_id, CASE WHEN NOT EXISTS (SELECT 1 FROM main.blobs b "
        f"WHERE b.linked_guid = v.guid AND b.linked_type = 'metadata_item' AND b.blob_type = {SONIC_BLOB}) "
        f"THEN guid END, created_at, {SONIC_BLOB} FROM staged.vectors v "
        "WHERE batch = {batch} AND NOT EXISTS (SELECT 1 FROM main.blobs b WHERE b.linked_id = v.linked_id "
        f"AND b.linked_type = 'metadata_item' AND b.blob_type = {SONIC_BLOB})"
    )
    # changed_at is one counter for the whole library, by which Plex and its players see what is new.
    mark = (
        "UPDATE main.metadata_items SET extra_data = (SELECT m.new FROM staged.marks m WHERE m.id = "
        "metadata_items.id), "
        "changed_at = (SELECT COALESCE(MAX(changed_at), 0) + 1 FROM main.metadata_items) "
        "WHERE id IN (SELECT id FROM staged.marks WHERE batch = {batch}) "
        "AND extra_data IS (SELECT m.old FROM staged.marks m WHERE m.id = metadata_items.id)"
    )
    with closing(sqlite3.connect(f"file:{quote(str(scratch.absolute()))}?mode=ro", uri=True)) as staged:
        last = [rows(staged, f"SELECT COALESCE(MAX(batch), -1) FROM {name}")[0][0] for name in ("vectors", "marks")]
    place = str(scratch.absolute()).replace("'", "''")
    for file, statement, highest in ((BLOBS, vector, last[0]), (LIBRARY, mark, last[1])):
        for first in range(0, highest + 1, CALL):
            batches = range(first, min(first + CALL, highest + 1))
            turns = "".join(f"BEGIN IMMEDIATE;\n{statement.format(batch=batch)};\nCOMMIT;\n" for batch in batches)
            busy = f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)};\n"
            run_plex_sqlite(plex_sqlite, databases / file, f"{busy}ATTACH DATABASE '{place}' AS staged;\n{turns}")
            time.sleep(PAUSE_SECONDS)
