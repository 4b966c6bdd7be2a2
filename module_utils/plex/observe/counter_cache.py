"""Cache of the state of each counted item, so that the next count reads only changed items.

Plex moves `changed_at`, a counter that only grows, when it writes an item; but that an item was written does not say
whether it had been counted already. In the 81,035 incident (docs/plex-facts.md#incidents) a refresh rewrote thousands
of tracks that had
Sonic data: an increment without a memory would have called that progress. So a small SQLite file in the user's cache
folder on the server's machine keeps one number per item. It is a cache: lost, damaged or from another database, it is
made anew by a full count.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

try:
    import sqlite3
except ImportError as error:
    SQLITE_PROBLEM = str(error)
else:
    SQLITE_PROBLEM = ""

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION = 1
BUSY_SECONDS = 2.0
KEPT_SECONDS = 2 * 86400.0
"""Seconds after which an unused cache file is removed when another one is created."""

# State bits of an item; their sums over all items are the counts of a sample.
LIVE_LEAF, TRASHED_LEAF, LIVE_TRACK, SONIC_TRACK, SONIC_OTHER, SERVER_SONIC = 1, 2, 4, 8, 16, 32
BITS = (LIVE_LEAF, TRASHED_LEAF, LIVE_TRACK, SONIC_TRACK, SONIC_OTHER, SERVER_SONIC)
TRACK, MUSIC_SECTION, ALBUM_AND_ARTIST = 10, 8, (8, 9)
# section_type -> metadata_type of its leaf items (docs/plex-facts.md#database): movies, episodes, tracks, photos.
LEAF_TYPES = {1: 1, 2: 4, 8: 10, 13: 13}


@dataclass(slots=True)
class Totals:
    """Sums of the bits, rows of media and parts (trash included), and how far each table has been read.

    full_at: unix seconds of the last full count. moved: an increment saw something since. trusted: increments have
    agreed with every full count so far; without that only full counts are believed.
    """

    bits: dict[int, int] = field(default_factory=dict)
    media_rows: int = 0
    part_rows: int = 0
    blobs: int = 0
    changed_at: int = 0
    changed_in_sections: int = 0
    last_media: int = 0
    last_part: int = 0
    last_blob: int = 0
    full_at: float = 0.0
    full_seconds: float = 0.0
    moved: bool = False
    trusted: bool = True


def weigh(section_type: int | None, metadata_type: int, *, live: bool, sonic: bool) -> int:
    """Return the bits of one item; `section_type` None = not in a counted section."""
    state = SERVER_SONIC if sonic and metadata_type == TRACK else 0
    if section_type is None:
        return state
    if LEAF_TYPES.get(section_type) == metadata_type:
        state |= LIVE_LEAF if live else TRASHED_LEAF
    if section_type == MUSIC_SECTION and live:
        if metadata_type == TRACK:
            state |= LIVE_TRACK | (SONIC_TRACK if sonic else 0)
        elif metadata_type in ALBUM_AND_ARTIST and sonic:
            state |= SONIC_OTHER
    return state


def place(databases: Path, section_ids: Sequence[int], folder: Path | None = None) -> Path | None:
    """Return the cache file for these databases and sections, None when there is no writable folder."""
    if SQLITE_PROBLEM:
        return None
    if folder is None:
        try:
            folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "plexburst"
        except RuntimeError:  # a user without a home folder
            return None
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:  # a read-only home: every count is then a full one, which is slower and as right
        return None
    name = f"{VERSION} {databases.resolve()} {sorted(section_ids)}"
    return folder / f"counted-{hashlib.sha256(name.encode()).hexdigest()[:16]}.db"


def identity(library: Path) -> str:
    """Return an identity of the database, which changes when it is replaced."""
    stat = library.stat()
    return f"{stat.st_dev}.{stat.st_ino}"


class Memory:
    """One cache file. Every method may raise sqlite3.Error; the caller then removes the file and counts everything."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._sql = connection

    def totals(self, of: str) -> Totals | None:
        """Return the totals, None when the file is empty or belongs to another database."""
        self._sql.execute("CREATE TABLE IF NOT EXISTS meta(one INTEGER PRIMARY KEY, of_db TEXT, value TEXT)")
        self._sql.execute("CREATE TABLE IF NOT EXISTS item(id INTEGER PRIMARY KEY, state INTEGER NOT NULL)")
        row = self._sql.execute("SELECT value FROM meta WHERE one = 1 AND of_db = ?", (of,)).fetchone()
        if row is None:
            return None
        values: Mapping[str, object] = json.loads(row[0])
        return Totals(**{**values, "bits": {int(bit): count for bit, count in values["bits"].items()}})  # type: ignore[arg-type, attr-defined]

    def keep(self, of: str, totals: Totals) -> None:
        """Write the totals."""
        self._sql.execute("INSERT OR REPLACE INTO meta VALUES (1, ?, ?)", (of, json.dumps(asdict(totals))))

    def fill(self, rows: Iterable[tuple[int, int]]) -> dict[int, int]:
        """Replace all entries by these (id, state); returns the sums of their bits."""
        sums = dict.fromkeys(BITS, 0)
        self._sql.execute("DELETE FROM item")

        def noted() -> Iterator[tuple[int, int]]:
            for item, state in rows:
                if state:
                    add(sums, state, 1)
                    yield item, state

        self._sql.executemany("INSERT INTO item VALUES (?, ?)", noted())
        return sums

    def update(self, rows: Iterable[tuple[int, int]], sums: dict[int, int]) -> bool:
        """Replace the states of these items and correct `sums`; True when any sum moved."""
        moved = False
        for item, state in rows:
            found = self._sql.execute("SELECT state FROM item WHERE id = ?", (item,)).fetchone()
            before = found[0] if found else 0
            if before == state:
                continue
            add(sums, before, -1)
            add(sums, state, 1)
            self._sql.execute("INSERT OR REPLACE INTO item VALUES (?, ?)", (item, state))
            moved = True
        return moved


def add(sums: dict[int, int], state: int, count: int) -> None:
    """Add the bits of an item's state `count` times."""
    for bit in BITS:
        if state & bit:
            sums[bit] += count


@contextmanager
def opened(path: Path) -> Iterator[Memory]:
    """Return the cache in one transaction, committed only when the block ends without an exception."""
    made = not path.exists()
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
    try:
        if made:
            path.chmod(0o600)
            _remove_old(path)
        # A cache damaged by a power cut is rebuilt; waiting for the disk would slow down every count.
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("BEGIN IMMEDIATE")
        yield Memory(connection)
        connection.execute("COMMIT")
    finally:
        connection.close()


def _remove_old(path: Path) -> None:
    for other in path.parent.glob("counted-*.db"):
        try:
            if other != path and time.time() - other.stat().st_mtime > KEPT_SECONDS:
                other.unlink()
        except FileNotFoundError:  # another process was faster
            continue


def forget(path: Path) -> None:
    """Remove the cache; the next count is a full one."""
    for suffix in ("", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
