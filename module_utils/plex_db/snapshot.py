"""A consistent copy of a pair that Plex may be writing, by SQLite's online backup.

Each database is copied in one step (`backup(pages=-1)`), which is consistent in itself. The two belong together when
blobs.db did not
change from before the copy of library.db until after its own: then its copy is also its state at the moment of
library.db's.
If it changes all the time (Sonic at work), a blobs.db that is newer than its library.db is accepted when it holds
every vector that
the library speaks of; the other way round could lose some.
"""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from . import manifest as manifests
from .errors import PlexDatabaseError
from .files import FileOperations, require_space
from .pair import BLOBS, LIBRARY, MANIFEST, NAMES, holders, remove_empty_side_files, side_files
from .reader import connect_live, iterate, number, open_closed

ATTEMPTS = 3
PAUSE_SECONDS = 2.0


def take(
    databases: Path, destination: Path, source: str, plex_version: str, attempts: int = ATTEMPTS
) -> dict[str, Any]:
    """Copy the pair in `databases` to `destination`, describe it in `manifest.json` there, and return the manifest.

    The copies appear under their names only when they are whole and on disk. Plex may go on working.

    :raises PlexDatabaseError: no pair, no space, not readable, or blobs.db changed in every attempt and the pair would
        not fit together.
    """
    for name in NAMES:
        if not (databases / name).is_file():
            raise PlexDatabaseError(
                f"Expected {name} in {databases}, found no such file: check the path of Plex's configuration."
            )
    destination.mkdir(mode=0o700, parents=True, exist_ok=True)
    require_space(destination, size_of(databases), f"The snapshot of {databases}")
    operations = FileOperations()
    partial = {name: destination / f".{name}.partial" for name in NAMES}
    had_side_files = bool(side_files(databases))
    started = time.monotonic()
    try:
        copy = _copy_together(databases, partial, attempts)
        for path in partial.values():
            operations.sync_file(path)
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
    copy["seconds"] = round(time.monotonic() - started, 3)
    manifest = manifests.build(destination, source, plex_version, copy)
    operations.write_text(destination / MANIFEST, json.dumps(manifest, indent=1) + "\n")
    return manifest


def size_of(databases: Path) -> int:
    """Bytes of the pair with what waits in its -wal files."""
    paths = [databases / f"{name}{suffix}" for name in NAMES for suffix in ("", "-wal")]
    return sum(path.stat().st_size for path in paths if path.exists())


def _copy_together(databases: Path, partial: dict[str, Path], attempts: int) -> dict[str, Any]:
    with closing(connect_live(databases / LIBRARY)) as library, closing(connect_live(databases / BLOBS)) as blobs:
        for attempt in range(1, attempts + 1):
            before = _data_version(blobs)
            _backup(library, partial[LIBRARY])
            _backup(blobs, partial[BLOBS])
            if _data_version(blobs) == before:
                return {"attempts": attempt, "gap": "none"}
            if attempt < attempts:
                time.sleep(PAUSE_SECONDS)
    without = _marked_without_vector(partial)
    if without == 0:
        return {"attempts": attempts, "gap": "blobs newer than library, every vector present"}
    raise PlexDatabaseError(
        f"{BLOBS} changed during each of {attempts} attempts to copy the pair, and {without} tracks marked as "
        "analysed have no vector in the "
        "copy: the two files would not fit together. Wait until Plex is quieter (no Sonic analysis, no intro "
        "detection), then try again."
    )


def _backup(source: sqlite3.Connection, target: Path) -> None:
    target.unlink(missing_ok=True)
    try:
        with closing(sqlite3.connect(target, isolation_level=None)) as copy:
            source.backup(copy, pages=-1)
    except sqlite3.Error as error:
        raise PlexDatabaseError(f"The online backup to {target} failed: {error}.") from error
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
