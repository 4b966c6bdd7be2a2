"""Small libraries with Plex's real schema, tokenizer and collation, for the tests of the database code."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sandbox.plex import database

REPO = Path(__file__).resolve().parents[3]
LIBRARY = "com.plexapp.plugins.library.db"
BLOBS = "com.plexapp.plugins.library.blobs.db"
SONIC = '{"ms:musicAnalysisVersion":"1","url":"ms%3AmusicAnalysisVersion=1"}'


def write(path: Path, *statements: tuple[Any, ...], first: Sequence[tuple[Any, ...]] = ()) -> None:
    """Run statements as Plex's own SQLite would (triggers fire), and close cleanly.

    `first`: before the transaction, such as attaching another database.
    """
    connection = database.connect(path)
    for sql, *values in first:
        connection.execute(sql, values)
    connection.execute("BEGIN IMMEDIATE")
    for sql, *values in statements:
        connection.execute(sql, values)
    connection.execute("COMMIT")
    database.close(connection)


def make_library(directory: Path, tracks: int = 10, analysed: int = 3) -> Path:
    """A closed pair: Music (id 1) with tracks, Movies (id 2) with one film, both below /Media, and what people did."""
    database.create_pair(directory)
    statements: list[tuple[Any, ...]] = [
        section(1, "Music", 8),
        section(2, "Movies", 1),
        ("INSERT INTO section_locations(library_section_id, root_path) VALUES(1, '/Media/Music')",),
        ("INSERT INTO section_locations(library_section_id, root_path) VALUES(2, '/Media/Movies')",),
        ("INSERT INTO accounts(id, name) VALUES(1, 'owner')",),
        ("INSERT INTO metadata_items(id, metadata_type, title, guid) VALUES(900, 15, 'Party', 'p-1')",),
        ("INSERT INTO metadata_item_settings(account_id, guid, view_count, updated_at) VALUES(1, 'g-1', 1, 1000)",),
        ("INSERT INTO metadata_item_views(account_id, guid, viewed_at) VALUES(1, 'g-1', 1000)",),
    ]
    for number in range(1, tracks + 1):
        statements += track(number, f"/Media/Music/A/B/{number:04d}.flac", SONIC if number <= analysed else None)
    statements += film(5000, "/Media/Movies/L'été (2020)/L'été (2020).mkv")
    write(directory / LIBRARY, *statements)
    write(directory / BLOBS, *[vector(number) for number in range(1, analysed + 1)])
    return directory


def section(number: int, title: str, kind: int) -> tuple[Any, ...]:
    """Statement for a section."""
    columns = "id, name, section_type, uuid, agent, scanner"
    return (f"INSERT INTO library_sections({columns}) VALUES(?,?,?,?,'a','s')", number, title, kind, f"u-{number}")


def track(number: int, file: str, extra: str | None = None, section: int = 1) -> list[tuple[Any, ...]]:
    """Statements for one track: item, media item, part, all of the same id."""
    return _item(number, 10, section, file, extra)


def film(number: int, file: str) -> list[tuple[Any, ...]]:
    """Statements for one film of section 2."""
    return _item(number, 1, 2, file, None)


def vector(number: int) -> tuple[Any, ...]:
    """Statement for a Sonic vector of a track."""
    return ("INSERT INTO blobs(blob, linked_type, linked_id, blob_type) VALUES(x'00', 'metadata_item', ?, 7)", number)


def plex_sqlite() -> list[str]:
    """The command of the simulator's `Plex SQLite`."""
    return ["env", f"PYTHONPATH={REPO}", sys.executable, "-m", "sandbox.plex.sqlite"]


def open_elsewhere(directory: Path, sql: str = "SELECT COUNT(*) FROM metadata_items") -> subprocess.Popen[str]:
    """Another process that has library.db open, as a running Plex has, until its stdin is closed. Says `ready` "
    "first."""
    code = (
        "import sys; from sandbox.plex import database; "
        "c = database.connect(sys.argv[1]); c.execute(sys.argv[2]).fetchall(); print('ready', flush=True); "
        "sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(directory / LIBRARY), sql],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPO)},
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "ready"
    return process


def write_elsewhere(path: Path, sql: str) -> None:
    """Commit a statement in another process, as Plex does, without folding the -wal in.

    Not in this one: it would have two SQLite libraries (apsw's and Python's) on one file, and the locks of a file
    belong to the whole process.
    """
    code = (
        "import os, sys; from sandbox.plex import database; "
        "database.connect(sys.argv[1]).execute(sys.argv[2]); os._exit(0)"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPO)}
    subprocess.run([sys.executable, "-c", code, str(path), sql], check=True, env=environment)


def end(process: subprocess.Popen[str]) -> None:
    """End it as kill -9 would: nothing is folded in, the -wal stays."""
    process.kill()
    process.communicate()


def _item(number: int, kind: int, section: int, file: str, extra: str | None) -> list[tuple[Any, ...]]:
    return [
        (
            (
                "INSERT INTO metadata_items(id, library_section_id, metadata_type, guid, title, title_sort, "
                "extra_data) VALUES(?,?,?,?,?,?,?)"
            ),
            number,
            section,
            kind,
            f"g-{number}",
            f"Title {number}",
            f"Title {number}",
            extra,
        ),
        (
            "INSERT INTO media_items(id, library_section_id, metadata_item_id, media_analysis_version) VALUES(?,?,?,6)",
            number,
            section,
            number,
        ),
        ("INSERT INTO media_parts(id, media_item_id, file, size) VALUES(?,?,?,1000)", number, number, file),
    ]
