"""A consistent copy of a pair that Plex may be writing, by SQLite's online backup.

SQLite has no transaction over two files in WAL mode that another process writes. The nearest to one point in time:
open a read transaction on both (which fixes their states, microseconds apart), check that there was no commit to
blobs.db in between, and back up both from these transactions. Both copies then have the state of the same time, as
after a power cut. If blobs.db changes in between every time, a blobs.db newer than its library.db is accepted if it
contains every vector that the library refers to; an older one could lack some.

Plex's own statistics may be left out of the copy; their pages are then zeros, which compress well, and Plex uses them
again. Home's file is only read.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
from collections.abc import Mapping
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

from ...text import megabytes
from ..errors import PlexDatabaseError
from . import manifest as manifests
from .files import SPARE_BYTES, FileOperations, make_folder, require_space
from .pair import BLOBS, LIBRARY, MANIFEST, NAMES, forget_side_files, holders, remove_empty_side_files, side_files
from .reader import connect_live, iterate, number, open_closed, rows, tables

ATTEMPTS = 5
PAUSE_SECONDS = 0.2
# Size and share of the file from which statistics are reported.
BLOAT_BYTES = 50_000_000
BLOAT_SHARE = 0.1


def take(
    databases: Path,
    destination: Path,
    source: str,
    plex_version: str,
    attempts: int = ATTEMPTS,
    *,
    drop_statistics: bool = False,
) -> dict[str, Any]:
    """`copy` the pair, describe it in `manifest.json` beside the copy, and return the manifest.

    :raises PlexDatabaseError: see `copy`; or the copy is no complete Plex database.
    """
    made = copy(databases, destination, attempts, drop_statistics=drop_statistics)
    manifest = manifests.build(destination, source, plex_version, made)
    FileOperations().write_text(destination / MANIFEST, json.dumps(manifest, indent=1) + "\n")
    return manifest


def copy(
    databases: Path, destination: Path, attempts: int = ATTEMPTS, *, drop_statistics: bool = False
) -> dict[str, Any]:
    """Copy the pair in `databases` to `destination`; how that went: attempts, gap, seconds.

    The copies appear under their names only when they are whole and on disk. Plex may go on working.

    :param drop_statistics: leave the rows of Plex's own statistics out of the copy, and say how many.
    :raises PlexDatabaseError: no pair, no space, not readable, or blobs.db changed in every attempt and the pair would
        not fit together.
    """
    for name in NAMES:
        if not (databases / name).is_file():
            raise PlexDatabaseError(
                f"Expected {name} in {databases}, but it does not exist. Check the path of Plex's configuration."
            )
    make_folder(destination)
    require_space(destination, size_of(databases), f"The snapshot of {databases}")
    operations = FileOperations()
    partial = {name: destination / f".{name}.partial" for name in NAMES}
    had_side_files = bool(side_files(databases))
    started = time.monotonic()
    try:
        made = _copy_together(databases, partial, attempts)
        if drop_statistics:
            made["dropped_statistics"] = _drop_statistics(partial[LIBRARY])
        for path in partial.values():
            operations.sync_file(path)
        forget_side_files(destination)
        for name, path in partial.items():
            operations.replace(path, destination / name)
    finally:
        for path in partial.values():
            path.unlink(missing_ok=True)
        if not had_side_files and not holders(databases):
            # Ours: a read-only connection may not remove the -wal and -shm it made. If Plex starts this instant, they
            # are its own.
            with suppress(PlexDatabaseError):
                remove_empty_side_files(databases)
    made["seconds"] = round(time.monotonic() - started, 3)
    return made


def remove(destination: Path) -> None:
    """Remove a snapshot, whole or half made, so that there is never room needed for it and its successor."""
    for name in (MANIFEST, *NAMES):
        (destination / name).unlink(missing_ok=True)
        (destination / f".{name}.partial").unlink(missing_ok=True)


def statistics_words(manifest: Mapping[str, Any]) -> str:
    """A sentence when Plex's own statistics are a large part of library.db; empty when they are not, or unknown."""
    sizes = {name: entry["bytes"] for name, entry in manifest["statistics"].items() if entry["bytes"] is not None}
    total, whole = sum(sizes.values()), manifest["files"][LIBRARY]["size"]
    if total < BLOAT_BYTES or total < whole * BLOAT_SHARE:
        return ""
    largest = max(sizes, key=lambda name: sizes[name])
    count = manifest["statistics"][largest]["rows"]
    return (
        f"{megabytes(total)} of the {megabytes(whole)} of {LIBRARY} are Plex's own statistics ({count} rows in "
        f"{largest}), which the library does not need. plexburst_drop_statistics: true leaves them out of the upload; "
        "home's statistics do not change."
    )


def require_room(databases: Path, copies: int) -> int:
    """Refuse when an installation could not lay its copies of the pair beside the one in `databases`.

    :param copies: how many it lays at once: what comes back, what went out, and home as it is then.
    :returns: bytes that it needs there; a tenth more than now, for a library grows.
    :raises PlexDatabaseError: with what is needed and what there is.
    """
    wanted = size_of(databases) * copies * 11 // 10
    free = shutil.disk_usage(databases).free
    if copies and free < wanted + SPARE_BYTES:
        raise PlexDatabaseError(
            f"The installation temporarily needs {copies} more copies of the database pair beside it, "
            f"{megabytes(wanted + SPARE_BYTES)} on the file system of {databases}; found {megabytes(free)} free. Free "
            "disk space there and run again. Nothing was started or paid."
        )
    return wanted


def size_of(databases: Path) -> int:
    """Bytes of the pair with what waits in its -wal files."""
    paths = [databases / f"{name}{suffix}" for name in NAMES for suffix in ("", "-wal")]
    return sum(path.stat().st_size for path in paths if path.exists())


def _copy_together(databases: Path, partial: dict[str, Path], attempts: int) -> dict[str, Any]:
    with ExitStack() as stack:
        library, blobs, watcher = (
            stack.enter_context(closing(connect_live(databases / name))) for name in (LIBRARY, BLOBS, BLOBS)
        )
        gap = ""
        attempt = 0
        for attempt in range(1, attempts + 1):
            before = _data_version(watcher)
            _pin(library)
            _pin(blobs)
            if _data_version(watcher) == before:
                gap = "none"
                break
            if attempt < attempts:
                _release(library)
                _release(blobs)
                time.sleep(PAUSE_SECONDS)
        _backup(library, partial[LIBRARY])
        _release(library)
        _backup(blobs, partial[BLOBS])
        _release(blobs)
    if gap:
        return {"attempts": attempt, "gap": gap}
    without = _marked_without_vector(partial)
    if without == 0:
        return {"attempts": attempts, "gap": "blobs newer than library, every vector present"}
    raise PlexDatabaseError(
        f"{BLOBS} changed during each of {attempts} attempts to copy the pair, and {without} tracks marked as analysed "
        "have no vector in the copy, so the two files do not match. Wait until Plex is less busy (no Sonic "
        "analysis, no intro detection), then try again."
    )


def _pin(connection: sqlite3.Connection) -> None:
    """Begin a read transaction: from its first read on, the connection sees this state, whatever others commit."""
    rows(connection, "BEGIN")
    rows(connection, "SELECT COUNT(*) FROM sqlite_master")


def _release(connection: sqlite3.Connection) -> None:
    rows(connection, "ROLLBACK")


def _drop_statistics(copy: Path) -> dict[str, int]:
    """Empty the statistics tables of our own copy; rows by table. Freed pages become zeros (secure_delete).

    No journal: a copy that fails half-way is thrown away, and a journal would need the space that is to be saved.
    """
    dropped: dict[str, int] = {}
    with closing(sqlite3.connect(copy, isolation_level=None)) as connection:
        try:
            mode = str(connection.execute("PRAGMA journal_mode").fetchone()[0])
            connection.execute("PRAGMA journal_mode = OFF").fetchone()
            connection.execute("PRAGMA secure_delete = ON").fetchone()
            present = tables(connection)
            for table in manifests.STATISTICS:
                if table not in present:
                    continue
                triggers = rows(
                    connection, "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = ?", (table,)
                )
                if triggers:
                    raise PlexDatabaseError(
                        f"The table {table} has the trigger {triggers[0][0]!r}, which only Plex's SQLite can run, so "
                        "its rows cannot be removed. Set drop_statistics to false."
                    )
                dropped[table] = connection.execute(f"DELETE FROM {table}").rowcount  # noqa: S608 - a constant
            # The mode stands in the file's header; Plex expects what it had.
            connection.execute(f"PRAGMA journal_mode = {mode}").fetchone()
        except sqlite3.Error as error:
            raise PlexDatabaseError(f"Leaving the statistics out of {copy} failed: {error}.") from error
    _remove_side_files(copy)
    return dropped


def _backup(source: sqlite3.Connection, target: Path) -> None:
    target.unlink(missing_ok=True)
    try:
        with closing(sqlite3.connect(target, isolation_level=None)) as copy:
            source.backup(copy, pages=-1)
    except sqlite3.Error as error:
        raise PlexDatabaseError(f"The online backup to {target} failed: {error}.") from error
    _remove_side_files(target)


def _remove_side_files(target: Path) -> None:
    for suffix in ("-wal", "-shm", "-journal"):
        target.with_name(target.name + suffix).unlink(missing_ok=True)


def _data_version(connection: sqlite3.Connection) -> int:
    return number(connection, "PRAGMA data_version")


def _marked_without_vector(partial: dict[str, Path]) -> int:
    with open_closed(partial[LIBRARY]) as library, open_closed(partial[BLOBS]) as blobs:
        vectors = {
            row[0]
            for row in iterate(
                blobs,
                "SELECT linked_id FROM blobs WHERE linked_type = 'metadata_item' AND blob_type = ?",
                (manifests.SONIC_BLOB,),
            )
        }
        marked = iterate(
            library,
            "SELECT id FROM metadata_items WHERE metadata_type = ? AND extra_data LIKE ?",
            (manifests.TRACK, manifests.SONIC_MARK),
        )
        return sum(1 for (track,) in marked if track not in vectors)
