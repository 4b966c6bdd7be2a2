"""What one look at the counters costs on a large library: only what changed, against the plain LIKE count.

    python benchmarks/counters.py [--tracks 444000] [--keep DIR]

A library of 490,000 items (444,000 tracks with their albums and artists) and about 2 GB is made in a temporary folder,
which takes some minutes, or in DIR, which is kept and used again. Another process holds both databases open and writes,
as Plex does. Nine times 100 tracks get Sonic data; after each time the poll counts by its cursor, and the prior
scripts' query (docs/plex-facts.md#earlier-scripts) counts the plain way. Both have a warm page cache, and both open
their own connection.
`equal`: every poll gave the plain count's number, and a full count at the end gave every number of the last poll.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(1, str(Path(__file__).resolve().parents[1] / "collections"))

from ansible_collections.plexburst.core.plugins.module_utils.plex.observe import counters
from ansible_collections.plexburst.core.plugins.module_utils.plex.observe.sample import Counters

from sandbox.plex import database as db
from sandbox.plex import synthetic

TRACKS = 444_000
ROUNDS = 9
CHANGED = 100
PLAIN = (
    "SELECT COUNT(*) FROM metadata_items WHERE metadata_type=10 AND library_section_id=? "
    "AND extra_data LIKE '%ms:musicAnalysisVersion%'"
)
MARK = '{"ms:musicAnalysisVersion":"1","url":"ms%3AmusicAnalysisVersion=1"}'
# Bytes per row that a lived-in library has and a synthetic one has not: summaries and art, hashes, loudness data.
METADATA_BYTES, PART_BYTES, STREAM_BYTES = 400, 900, 1700


def build(folder: Path, tracks: int) -> int:
    """The pair of databases with one music section; returns the section's id."""
    if (folder / counters.LIBRARY).is_file():
        return 1
    folder.mkdir(parents=True, exist_ok=True)
    section = synthetic.fill(folder, tracks=tracks)
    sql: Any = db.connect(folder / counters.LIBRARY)
    triggers = sql.execute("SELECT name, sql FROM sqlite_master WHERE type='trigger'").fetchall()
    sql.execute("BEGIN IMMEDIATE")
    for name, _text in triggers:
        sql.execute(f'DROP TRIGGER "{name}"')
    sql.execute("UPDATE metadata_items SET summary = hex(randomblob(?))", (METADATA_BYTES // 2,))
    sql.execute("UPDATE media_parts SET extra_data = hex(randomblob(?))", (PART_BYTES // 2,))
    sql.execute("UPDATE media_streams SET extra_data = hex(randomblob(?))", (STREAM_BYTES // 2,))
    for _name, text in triggers:
        sql.execute(text)
    sql.execute("COMMIT")
    db.close(sql)
    return section


@contextlib.contextmanager
def place(keep: Path | None) -> Iterator[Path]:
    """DIR, or a temporary folder that is removed."""
    if keep is not None:
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="plexburst-counters-") as name:
        yield Path(name)


def sonic_for(pair: db.Pair, count: int) -> None:
    """Give `count` tracks Sonic data, as the server does: the mark in one database, the vector in the other."""
    library: Any = pair.library
    ids = [
        row[0]
        for row in library.execute(
            "SELECT id FROM metadata_items WHERE metadata_type=10 AND extra_data IS NULL ORDER BY id LIMIT ?", (count,)
        )
    ]
    with db.writing(library) as writer:
        for item in ids:
            change = db.next_change(writer)
            writer.execute("UPDATE metadata_items SET extra_data=?, changed_at=? WHERE id=?", (MARK, change, item))
    with db.writing(pair.blobs) as writer:
        writer.executemany(
            "INSERT INTO blobs(blob, linked_type, linked_id, blob_type) VALUES(zeroblob(300), 'metadata_item', ?, 7)",
            [(item,) for item in ids],
        )


class Writer:
    """The process that writes. One of its own: SQLite's locks on a file belong to a process, not to a connection."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, str(Path(__file__).resolve()), "--writer", str(folder)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def sonic(self, count: int) -> None:
        """Give so many tracks Sonic data, and wait until that is written."""
        print(count, file=self._process.stdin, flush=True)
        if self._process.stdout is None or self._process.stdout.readline() != "written\n":
            raise SystemExit("The writer ended. Its own words are above.")

    def close(self) -> None:
        """End it; it folds in both WAL files."""
        self._process.communicate(timeout=120)


def write(folder: Path) -> None:
    """What the writer's process does: a number in, so many tracks written."""
    pair = db.Pair(folder)
    for line in sys.stdin:
        sonic_for(pair, int(line))
        print("written", flush=True)
    pair.close()


def plain(folder: Path, section: int) -> tuple[float, int]:
    """Seconds and result of the prior scripts' count."""
    begun = time.perf_counter()
    with contextlib.closing(sqlite3.connect(f"file:{folder / counters.LIBRARY}?mode=ro", uri=True)) as connection:
        found = int(connection.execute(PLAIN, (section,)).fetchone()[0])
    return time.perf_counter() - begun, found


def poll(folder: Path, section: int, cursor: Counters, cache: Path) -> tuple[float, Counters]:
    """Seconds and result of one look with its cursor."""
    begun = time.perf_counter()
    seen = counters.read(folder, [section], previous=cursor, cache=cache)
    return time.perf_counter() - begun, seen


def numbers(seen: Counters) -> dict[str, Any]:
    """What was counted, without how."""
    return {key: value for key, value in asdict(seen).items() if key not in ("signature", "seconds", "full", "drift")}


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Build, measure, print; returns the last line's object."""
    parser = argparse.ArgumentParser(prog="python benchmarks/counters.py")
    parser.add_argument("--tracks", type=int, default=TRACKS)
    parser.add_argument("--keep", type=Path, default=None, metavar="DIR")
    parser.add_argument("--writer", type=Path, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.writer is not None:
        write(options.writer)
        return {}
    with place(options.keep) as folder, tempfile.TemporaryDirectory(prefix="plexburst-memory-") as memory:
        begun = time.perf_counter()
        section = build(folder, options.tracks)
        size = sum((folder / name).stat().st_size for name in (counters.LIBRARY, counters.BLOBS))
        print(f"{options.tracks} tracks, {size / 1e9:.2f} GB, made in {time.perf_counter() - begun:.0f} s")
        os.sync()  # what building wrote must not be written while the clock runs
        writer = Writer(folder)
        try:
            return measure(writer, folder, section, Path(memory))
        finally:
            writer.close()


def measure(writer: Writer, folder: Path, section: int, cache: Path) -> dict[str, Any]:
    """The rounds, the table and the last line."""
    begun = time.perf_counter()
    cursor = counters.read(folder, [section], cache=cache)
    full_seconds = time.perf_counter() - begun
    writer.sonic(1)
    first_seconds, cursor = poll(folder, section, cursor, cache)  # fills the memory
    plain(folder, section)
    polls, plains, equal = [], [], True
    for _ in range(ROUNDS):
        writer.sonic(CHANGED)
        seconds, cursor = poll(folder, section, cursor, cache)
        plain_seconds, expected = plain(folder, section)
        polls.append(seconds)
        plains.append(plain_seconds)
        equal = equal and not cursor.full and cursor.sonic_done == cursor.server_sonic_blobs == expected
    idle_seconds, idle = poll(folder, section, cursor, cache)
    equal = equal and numbers(idle) == numbers(counters.read(folder, [section], cache=cache))
    steady, baseline = statistics.median(polls), statistics.median(plains)
    rows = (
        ("plain LIKE count (baseline, one number)", baseline),
        (f"poll after {CHANGED} tracks changed (every number)", steady),
        ("poll when nothing was written", idle_seconds),
        ("full count of every number", full_seconds),
        ("full count that fills the memory", first_seconds),
    )
    for name, seconds in rows:
        print(f"{name:48} {seconds * 1000:10.2f} ms")
    result = {
        "ratio": round(steady / baseline, 5),
        "equal": equal,
        "poll_ms": round(steady * 1000, 2),
        "plain_ms": round(baseline * 1000, 2),
    }
    print(json.dumps(result))
    return result


if __name__ == "__main__":
    main()
