"""What people did at home while the indexer worked, carried into the pair that comes back.

Home is the authority on what people did: its watch state wins whole. Stock SQLite may write `metadata_item_settings`
and
`metadata_item_views` (facts/plex.md §2.8); other small user tables are carried where no trigger and no ICU index makes
that unsafe.
What cannot be carried yet (items, playlists, collections, accounts changed at home meanwhile) is found by comparing
home with the base's
manifest, and refuses the installation: nothing is dropped in silence.
"""

from __future__ import annotations

import calendar
import sqlite3
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from . import manifest as manifests
from .errors import PlexDatabaseError
from .pair import LIBRARY
from .reader import columns, decode_text, number, open_closed, rows, stand_in_collation, tables

WATCH_TABLES = ("metadata_item_settings", "metadata_item_views")
# Devices are named by views; the others hold chosen streams, offsets and view choices of a person.
OTHER_USER_TABLES = (
    "devices",
    "media_item_settings",
    "media_part_settings",
    "view_settings",
    "play_queues",
    "play_queue_items",
)
_WORDS = {
    "accounts": "accounts were added or renamed",
    "playlists": "playlists were added, renamed or removed",
    "playlist_members": "the contents of playlists changed",
    "collections": "collections were added, renamed or removed",
    "collection_members": "the contents of collections changed",
    "locked_fields": "somebody edited items by hand",
    "sections": "libraries were added, removed or edited",
    "locations": "the folders of libraries changed",
}


@dataclass(frozen=True)
class Carried:
    """Rows of watch state that home changed and that are kept, and rows of the indexer's own that gave way to "
    "home's."""

    kept: int
    conflicts: int


def changes_that_cannot_be_carried(home: Path, base: Mapping[str, Any]) -> list[str]:
    """What happened at home since the base, as far as it cannot be carried into another pair yet: a sentence part "
    "each."""
    before = base.get("fingerprints", {})
    if not before:
        raise PlexDatabaseError(
            "The base's manifest holds no fingerprints: it is unknown what changed at home since. Take the snapshot "
            "again."
        )
    with open_closed(home / LIBRARY) as library:
        now = manifests.fingerprints(library)
        added = 0
        if "items" in before:
            added = number(library, "SELECT COUNT(*) FROM metadata_items WHERE id > ?", (before["items"]["top"],))
    found = [
        words
        for name, words in _WORDS.items()
        if name in before and before[name].get("sha256") != now.get(name, {}).get("sha256")
    ]
    if added:
        found.insert(0, f"{added} items were added to the library")
    return found


def require_carriable(home: Path, base: Mapping[str, Any]) -> None:
    """Refuse when home changed in ways that would be lost."""
    found = changes_that_cannot_be_carried(home, base)
    if found:
        raise PlexDatabaseError(
            f"Home changed since its snapshot of {base.get('created_at', 'an unknown time')}, in ways that cannot be "
            "carried over yet: "
            f"{'; '.join(found)}. Installing the result would lose that. Home keeps its database; run the sync again "
            "from home as it is now."
        )


def watch_state(home: Path, incoming: Path, base_created_at: str = "", dry_run: bool = False) -> Carried:
    """Replace the user tables of `incoming`'s library.db by home's, in one transaction. Both pairs are closed before
    and after.

    :param base_created_at: when the base was taken (`…Z`); the indexer's rows written after it are its own, and count
        as conflicts.
    :param dry_run: only count.
    :raises PlexDatabaseError: the tables differ in shape, or writing failed (then `incoming` is as before).
    """
    since = _epoch(base_created_at)
    with closing(_connect_writable(incoming / LIBRARY)) as target:
        try:
            target.execute(
                "ATTACH DATABASE ? AS home", (f"file:{quote(str((home / LIBRARY).absolute()))}?mode=ro&immutable=1",)
            )
            target.execute("BEGIN IMMEDIATE")
            kept = conflicts = 0
            for table in WATCH_TABLES:
                names = _shared_columns(target, table)
                kept += number(
                    target,
                    f"SELECT COUNT(*) FROM (SELECT {names} FROM home.{table} EXCEPT SELECT {names} FROM main.{table})",  # noqa: S608
                )
                conflicts += _own_rows(target, table, names, since)
            for table in (*WATCH_TABLES, *OTHER_USER_TABLES):
                if table in tables(target) and _differs(target, table):
                    _replace_rows(target, table)
            target.execute("ROLLBACK" if dry_run else "COMMIT")
            target.execute("DETACH DATABASE home")
            if not dry_run:
                target.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.Error as error:
            if target.in_transaction:
                target.execute("ROLLBACK")
            raise PlexDatabaseError(
                f"Carrying home's watch state into {incoming / LIBRARY} failed: {error}. Nothing was changed."
            ) from error
    return Carried(kept, conflicts)


def _connect_writable(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=rw", uri=True, isolation_level=None)
    connection.create_collation("icu_root", stand_in_collation)
    connection.text_factory = decode_text
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def _shared_columns(target: sqlite3.Connection, table: str) -> str:
    mine = columns(target, table)
    theirs = [str(row[0]) for row in rows(target, "SELECT name FROM pragma_table_info(?, 'home')", (table,))]
    if mine != theirs or not mine:
        raise PlexDatabaseError(
            f"The table {table} has columns {', '.join(theirs) or 'none'} at home and {', '.join(mine) or 'none'} in "
            "the pair that comes back: "
            "they are of different Plex versions. The indexer must run exactly home's version."
        )
    return ", ".join(f'"{name}"' for name in mine)


def _differs(target: sqlite3.Connection, table: str) -> bool:
    names = _shared_columns(target, table)
    for one, other in (("home", "main"), ("main", "home")):
        sql = f"SELECT EXISTS (SELECT {names} FROM {one}.{table} EXCEPT SELECT {names} FROM {other}.{table})"  # noqa: S608 - constants
        if number(target, sql):
            return True
    return False


def _replace_rows(target: sqlite3.Connection, table: str) -> None:
    _require_plain(target, table)
    names = _shared_columns(target, table)
    target.execute(f"DELETE FROM main.{table}")  # noqa: S608 - names from a constant
    target.execute(f"INSERT INTO main.{table} ({names}) SELECT {names} FROM home.{table}")  # noqa: S608 - names from a constant
    # Ids must never be reused: the higher of both counters stays.
    target.execute(
        "UPDATE main.sqlite_sequence SET seq = MAX(seq, COALESCE((SELECT h.seq FROM home.sqlite_sequence h WHERE "
        "h.name = ?), 0)) "
        "WHERE name = ?",
        (table, table),
    )


def _require_plain(target: sqlite3.Connection, table: str) -> None:
    """Only a table without triggers and without an ICU index may be written by stock SQLite."""
    found = rows(
        target,
        "SELECT type, name FROM main.sqlite_master WHERE tbl_name = ? AND (type = 'trigger' OR sql LIKE '%icu_root%')",
        (table,),
    )
    if found:
        raise PlexDatabaseError(
            f"The table {table} changed at home and has the {found[0][0]} {found[0][1]!r}, which only Plex's own "
            "SQLite can keep: "
            "it cannot be carried over yet. Home keeps its database; run the sync again from home as it is now."
        )


def _own_rows(target: sqlite3.Connection, table: str, names: str, since: int) -> int:
    """Rows that the indexer wrote itself after the base was taken, and that home does not have in this form."""
    moment = "updated_at" if table == "metadata_item_settings" else "viewed_at"
    own = f"SELECT {names} FROM main.{table} WHERE {moment} > ?"  # noqa: S608 - names from a constant
    sql = f"SELECT COUNT(*) FROM ({own} EXCEPT SELECT {names} FROM home.{table})"  # noqa: S608 - names from a constant
    return number(target, sql, (since,))


def _epoch(moment: str) -> int:
    if not moment:
        return 0
    try:
        return calendar.timegm(time.strptime(moment, "%Y-%m-%dT%H:%M:%SZ"))
    except ValueError as error:
        raise PlexDatabaseError(
            f"Expected a time such as 2026-11-22T15:16:22Z in the base's manifest, found {moment!r}."
        ) from error
