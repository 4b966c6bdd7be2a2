"""Apply and revert path mappings: one verified transaction over all tables, with a journal.

blobs.db names each item's guid beside its id: after library.db it follows in a transaction of its own, which may be
repeated.

The new values lie in a small database of their own beside the library, attached for one short statement per column: no
value is ever a piece of SQL, and the same statements run in stock SQLite and in Plex's, where triggers fire.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import PlexDatabaseError
from ..pair.files import require_space, utc_now
from ..pair.pair import BLOBS, LIBRARY, holders, require_closed
from ..pair.reader import columns, iterate, number, open_closed, stand_in_collation
from .mapping import Mappings
from .plan import Cell, Plan, plan, require_way_back

SCHEMA = 1
CHANGES = ".plexburst-paths.db"
# What a journal is called once its mappings were taken back: a second call then knows that there is nothing to do.
DONE = ".reverted"
PLEX_SQLITE_SECONDS = 3600


@dataclass
class Outcome:
    """What was done: changed values by table, files by mapping, remarks."""

    changed: bool
    counts: dict[str, int] = field(default_factory=dict)
    used: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    engine: str = ""


@dataclass(frozen=True)
class Engine:
    """How to write.

    :param plex_sqlite: argv of Plex's own SQLite; empty: there is none, and only stock SQLite may be needed.
    :param directory_seen: the pair's folder as that command sees it (in a container); empty: as here.
    """

    plex_sqlite: Sequence[str] = ()
    directory_seen: str = ""


def apply(
    directory: Path,
    mappings: Mappings,
    *,
    journal: Path,
    engine: Engine = Engine(),
    way_back: bool = False,
    backup: Path | None = None,
    dry_run: bool = False,
) -> Outcome:
    """Apply the mappings to the closed pair in `directory`.

    :param journal: file for what was there before, kept until the way back; made with mode 0600.
    :param way_back: refuse what `revert` could not undo exactly, whatever happens to the library meanwhile.
    :param backup: copy library.db there first.
    :raises PlexDatabaseError: nothing was changed then, unless the message says so.
    """
    _require_idle(directory)
    if way_back and _is_applied(directory, journal, mappings):
        if not dry_run:
            _follow_in_blobs(directory, _read_journal(journal).cells)
        return Outcome(changed=False, notes=["The mappings are applied already."])
    with open_closed(directory / LIBRARY) as library:
        if way_back:
            require_way_back(library, mappings)
        planned = plan(library, mappings, stays=not way_back)
    if not dry_run and planned.cells:
        _copy(directory, backup)
        _write_journal(journal, mappings, planned, way_back)
        _run(directory, planned, engine)
    elif not dry_run and way_back:
        _write_journal(journal, mappings, planned, way_back)
    return _outcome(planned, engine)


def revert(
    directory: Path,
    *,
    journal: Path,
    engine: Engine = Engine(),
    backup: Path | None = None,
    dry_run: bool = False,
) -> Outcome:
    """Take back what `apply` did: values it wrote become what they were, to the letter. With a way back, rows that came
    since are mapped the other way; after a correction they are where they say, and stay.

    :raises PlexDatabaseError: the journal is missing or cut short; nothing was changed then.
    """
    _require_idle(directory)
    done = journal.with_name(f"{journal.name}{DONE}")
    if not journal.exists() and done.exists():
        return Outcome(changed=False, notes=["The mappings were taken back already."])
    held = _read_journal(journal)
    with open_closed(directory / LIBRARY) as library:
        planned = _backwards(library, held)
    if not dry_run and (planned.cells or planned.removed_folders):
        _copy(directory, backup)
        _run(directory, planned, engine)
    if not dry_run:
        journal.replace(done)
    return _outcome(planned, engine)


def _outcome(planned: Plan, engine: Engine) -> Outcome:
    used = "Plex SQLite" if planned.needs_plex_sqlite else "stock SQLite"
    if planned.needs_plex_sqlite and not engine.plex_sqlite:
        used = ""
    changed = bool(planned.cells or planned.folders or planned.removed_folders)
    return Outcome(changed, planned.counts(), dict(planned.used), planned.notes, used if changed else "")


def _require_idle(directory: Path) -> None:
    require_closed(directory)
    open_in = holders(directory)
    if open_in:
        raise PlexDatabaseError(f"The pair in {directory} is open in {', '.join(open_in)}. Stop Plex first.")


def _copy(directory: Path, backup: Path | None) -> None:
    if backup is None:
        return
    require_space(backup.parent, (directory / LIBRARY).stat().st_size, "The copy of library.db")
    partial = backup.with_name(f".{backup.name}.partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as target, (directory / LIBRARY).open("rb") as source:
        shutil.copyfileobj(source, target, 4 * 1024 * 1024)
        target.flush()
        os.fsync(target.fileno())
    partial.replace(backup)


# -- the journal


@dataclass(frozen=True)
class _Journal:
    mappings: Mappings
    way_back: bool
    cells: Sequence[Cell]
    folders: Sequence[int]


def _write_journal(path: Path, mappings: Mappings, planned: Plan, way_back: bool) -> None:
    path.with_name(f"{path.name}{DONE}").unlink(missing_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as stream:
        header = {"paths": SCHEMA, "made_at": utc_now(), "way_back": way_back, "mappings": mappings.as_list()}
        stream.write(json.dumps(header) + "\n")
        for cell in planned.cells:
            stream.write(json.dumps([cell.table, cell.column, cell.row, cell.old, cell.new]) + "\n")
        for folder in planned.folders:
            stream.write(json.dumps({"folder": folder.id, "section": folder.section}) + "\n")
        stream.write(json.dumps({"cells": len(planned.cells), "folders": len(planned.folders)}) + "\n")
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(path)


def _read_journal(path: Path) -> _Journal:
    cells: list[Cell] = []
    folders: list[int] = []
    end: dict[str, Any] | None = None
    try:
        with path.open(encoding="ascii") as stream:
            header = json.loads(stream.readline() or "{}")
            for line in stream:
                entry = json.loads(line)
                if isinstance(entry, list):
                    cells.append(Cell(*entry))
                elif "folder" in entry:
                    folders.append(int(entry["folder"]))
                else:
                    end = entry
    except FileNotFoundError:
        raise PlexDatabaseError(
            f"Expected the journal of the path mappings at {path}, but it does not exist, so they cannot be reverted."
        ) from None
    except (OSError, ValueError, TypeError) as error:
        raise PlexDatabaseError(f"The journal of the path mappings at {path} cannot be read: {error}.") from error
    if header.get("paths") != SCHEMA or end != {"cells": len(cells), "folders": len(folders)}:
        raise PlexDatabaseError(
            f"The journal of the path mappings at {path} is truncated or invalid. Take the pair from the snapshot "
            "that went out."
        )
    return _Journal(Mappings.parse(header["mappings"]), bool(header["way_back"]), cells, folders)


def _is_applied(directory: Path, journal: Path, mappings: Mappings) -> bool:
    """Did an earlier call apply these mappings to this library?"""
    if not journal.exists():
        return False
    held = _read_journal(journal)
    with open_closed(directory / LIBRARY) as library:
        now = _current(library, held.cells)
    places = [cell for cell in held.cells if (cell.table, cell.column, cell.row) in now]
    as_new = sum(now[cell.table, cell.column, cell.row] == cell.new for cell in places)
    as_old = sum(now[cell.table, cell.column, cell.row] == cell.old for cell in places)
    if as_old == len(places) and places:
        return False  # the journal was written, the transaction never came
    if as_new != len(places) or held.mappings.as_list() != mappings.as_list():
        raise PlexDatabaseError(
            f"The journal {journal} contains other path mappings than the requested ones, and they are still in the "
            "library. Revert them first (state: reverted)."
        )
    return True


def _current(library: sqlite3.Connection, cells: Iterable[Cell]) -> dict[tuple[str, str, int], Any]:
    """The present values of cells whose rows still exist."""
    wanted: dict[tuple[str, str], set[int]] = {}
    for cell in cells:
        wanted.setdefault((cell.table, cell.column), set()).add(cell.row)
    found: dict[tuple[str, str, int], Any] = {}
    for (table, column), ids in wanted.items():
        sql = f"SELECT id, {column} FROM {table}"  # noqa: S608 - names from our own journal, checked below
        if not (table.isidentifier() and column.isidentifier()):
            raise PlexDatabaseError(f"The journal names a table or column that cannot be one: {table}.{column}.")
        for row, value in iterate(library, sql):
            if row in ids:
                found[table, column, row] = value
    return found


def _backwards(library: sqlite3.Connection, held: _Journal) -> Plan:
    now = _current(library, held.cells)
    keys = [((cell.table, cell.column, cell.row), cell) for cell in held.cells]
    ours = {key: cell for key, cell in keys if key in now}
    exact = {key for key, cell in ours.items() if now[key] == cell.new}
    if ours and not exact and all(now[key] == cell.old for key, cell in ours.items()):
        return Plan(notes=["The mappings were taken back already."])  # and power went before the journal said so
    # What Plex has changed since (a file that moved again, say) is mapped back like any new row.
    others = held.mappings.inverse() if held.way_back else Mappings()
    back = plan(library, others, skip=exact or {("", "", 0)}, stays=False)
    result = Plan(notes=back.notes, used=back.used)
    result.cells = [Cell(*key, now[key], ours[key].old) for key in ours if key in exact and now[key] != ours[key].old]
    result.cells += back.cells
    result.removed_folders = _unused(library, held.folders, result)
    return result


def _unused(library: sqlite3.Connection, folders: Sequence[int], planned: Plan) -> list[int]:
    """Those of our new folder rows that nothing hangs below any more once the plan is done."""
    if not folders:
        return []
    leaving = {
        (cell.table, cell.row): cell.new
        for cell in planned.cells
        if cell.column in ("directory_id", "parent_directory_id")
    }
    left = set(folders)
    held: dict[int, set[int]] = {}
    for row, folder in iterate(library, "SELECT id, directory_id FROM media_parts WHERE directory_id IS NOT NULL"):
        held.setdefault(leaving.get(("media_parts", row), folder), set()).add(-row)
    for row, parent in iterate(library, "SELECT id, parent_directory_id FROM directories"):
        if parent is not None:
            held.setdefault(leaving.get(("directories", row), parent), set()).add(row)
    while True:
        used = {folder for folder in left if held.get(folder, set()) - left}
        if not used:
            return sorted(left)
        left -= used


# -- the transaction


def _run(directory: Path, planned: Plan, engine: Engine) -> None:
    if planned.needs_plex_sqlite and not engine.plex_sqlite:
        count = sum(cell.table == "metadata_items" for cell in planned.cells)
        raise PlexDatabaseError(
            f"{count} items have their path as guid, and only Plex's own SQLite can write them (its triggers need "
            "its tokenizer). Nothing was changed. Set its command (plex_sqlite)."
        )
    changes = directory / CHANGES
    try:
        _make_changes(changes, planned, directory / LIBRARY)
        seen = f"{engine.directory_seen.rstrip('/')}/{CHANGES}" if engine.directory_seen else str(changes)
        if planned.needs_plex_sqlite:
            _run_plex(directory, "; ".join(_statements(planned, seen)), engine)
        else:
            _run_stock(directory / LIBRARY, _statements(planned, str(changes)))
        planned.notes.extend(_follow_in_blobs(directory, planned.cells))
        require_closed(directory)
        _verify(directory / LIBRARY, planned)
    finally:
        changes.unlink(missing_ok=True)


def _make_changes(path: Path, planned: Plan, like: Path) -> None:
    path.unlink(missing_ok=True)
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    with closing(sqlite3.connect(path, isolation_level=None)) as changes:
        changes.execute("PRAGMA synchronous=OFF")  # it lives for this call only
        changes.execute("BEGIN")
        changes.execute("CREATE TABLE cells(t TEXT, c TEXT, id INTEGER, new, PRIMARY KEY(t, c, id)) WITHOUT ROWID")
        changes.execute("CREATE TABLE folders(id INTEGER PRIMARY KEY, section INTEGER, parent INTEGER, path TEXT)")
        changes.execute("CREATE TABLE removed(id INTEGER PRIMARY KEY)")
        # Text goes in as bytes, for names that are not UTF-8 exist and must come out as they were.
        changes.executemany(
            "INSERT INTO cells VALUES(?, ?, ?, CAST(? AS TEXT))",
            (
                (cell.table, cell.column, cell.row, _raw(cell.new))
                for cell in planned.cells
                if isinstance(cell.new, str)
            ),
        )
        changes.executemany(
            "INSERT INTO cells VALUES(?, ?, ?, ?)",
            ((cell.table, cell.column, cell.row, cell.new) for cell in planned.cells if not isinstance(cell.new, str)),
        )
        changes.executemany(
            "INSERT INTO folders VALUES(?, ?, ?, CAST(? AS TEXT))",
            ((folder.id, folder.section, folder.parent, _raw(folder.path)) for folder in planned.folders),
        )
        changes.executemany("INSERT INTO removed VALUES(?)", ((row,) for row in planned.removed_folders))
        changes.execute("COMMIT")
    if os.geteuid() == 0:
        owner = like.stat()
        os.chown(path, owner.st_uid, owner.st_gid)


def _statements(planned: Plan, changes: str) -> list[str]:
    quoted = changes.replace("'", "''")
    statements = [f"ATTACH '{quoted}' AS changes", "BEGIN IMMEDIATE"]
    if planned.folders:
        # 0: never looked at, so that Plex looks into it.
        statements.append(
            "INSERT INTO directories(id, library_section_id, parent_directory_id, path, created_at, updated_at) "
            "SELECT id, section, parent, path, CAST(strftime('%s', 'now') AS INTEGER), 0 FROM changes.folders"
        )
    for table, column in sorted({(cell.table, cell.column) for cell in planned.cells}):
        which = f"changes.cells WHERE t = '{table}' AND c = '{column}'"
        statements.append(
            f"UPDATE main.{table} SET {column} = (SELECT new FROM {which} AND cells.id = {table}.id) "  # noqa: S608
            f"WHERE id IN (SELECT id FROM {which})"
        )
    if planned.removed_folders:
        statements.append("DELETE FROM directories WHERE id IN (SELECT id FROM changes.removed)")
    return [*statements, "COMMIT", "DETACH changes"]


def _run_stock(library: Path, script: Sequence[str]) -> None:
    try:
        with closing(sqlite3.connect(library, isolation_level=None, timeout=30)) as connection:
            connection.create_collation("icu_root", stand_in_collation)
            for statement in script:
                connection.execute(statement)
    except sqlite3.Error as error:  # closing rolls back
        raise PlexDatabaseError(
            f"The paths in {library} could not be changed: {error}. The transaction was rolled back; nothing was "
            "changed."
        ) from error


_FOLLOW = (
    (
        "CREATE TEMP TABLE follows AS SELECT b.id, b.blob_type, b.linked_guid AS old, g.new FROM guids g "
        "CROSS JOIN blobs b ON b.linked_id = g.item AND b.linked_type = 'metadata_item' AND b.linked_guid = g.old"
    ),
    # A guid is unique per type (a unique index), and one item may get the guid that another gives up.
    "UPDATE blobs SET linked_guid = NULL WHERE id IN (SELECT id FROM follows)",
    *(
        f"UPDATE blobs SET linked_guid = (SELECT f.{column} FROM follows f WHERE f.id = blobs.id) "  # noqa: S608
        "WHERE linked_guid IS NULL AND id IN (SELECT MIN(f.id) FROM follows f WHERE NOT EXISTS (SELECT 1 FROM blobs b "
        f"WHERE b.linked_type = 'metadata_item' AND b.linked_guid = f.{column} AND b.blob_type = f.blob_type) "
        f"GROUP BY f.{column}, f.blob_type)"
        # If another row has the new guid, the old one stays, so that the reverse mapping finds it.
        for column in ("new", "old")
    ),
)


def _follow_in_blobs(directory: Path, cells: Iterable[Cell]) -> list[str]:
    """Update the guids of blobs whose item's guid is a path; returns remarks."""
    which = ("metadata_items", "guid")
    guids = [(cell.row, cell.old, cell.new) for cell in cells if (cell.table, cell.column) == which]
    if not guids:
        return []
    with open_closed(directory / BLOBS) as blobs:
        if "linked_guid" not in columns(blobs, "blobs"):
            return []
    try:
        with closing(sqlite3.connect(directory / BLOBS, isolation_level=None, timeout=30)) as connection:
            connection.execute("CREATE TEMP TABLE guids(item INTEGER PRIMARY KEY, old TEXT, new TEXT)")
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT INTO guids VALUES(?, ?, ?)", guids)
            for statement in _FOLLOW:
                connection.execute(statement)
            left = number(
                connection,
                "SELECT COUNT(*) FROM follows f CROSS JOIN blobs b ON b.id = f.id WHERE b.linked_guid IS NOT f.new",
            )
            connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise PlexDatabaseError(
            f"The guids in {directory / BLOBS} could not be changed: {error}. {LIBRARY} has the new paths "
            "already. Restore the pair from the snapshot."
        ) from error
    return [f"{left} blobs have not got the new guid of their item, which another blob has."] if left else []


def _run_plex(directory: Path, script: str, engine: Engine) -> None:
    path = f"{engine.directory_seen.rstrip('/') or directory}/{LIBRARY}"
    try:
        done = subprocess.run(
            [*engine.plex_sqlite, path, script],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PLEX_SQLITE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PlexDatabaseError(f"Plex SQLite could not change the paths: {error}.") from error
    if done.returncode != 0:
        raise PlexDatabaseError(
            f"Plex SQLite could not change the paths (exit code {done.returncode}): "
            f"{done.stderr.strip() or 'no message'}. A transaction that did not end is rolled back when the library is "
            "opened next."
        )


def _verify(library: Path, planned: Plan) -> None:
    """Verify that every cell has its new value."""
    wanted: Mapping[tuple[str, str, int], Any] = {
        (cell.table, cell.column, cell.row): cell.new for cell in planned.cells
    }
    with open_closed(library) as connection:
        now = _current(connection, planned.cells)
        present = {row for (row,) in iterate(connection, "SELECT id FROM directories")} if planned.folders else set()
    wrong = [key for key, value in wanted.items() if now.get(key) != value]
    lost = [folder.id for folder in planned.folders if folder.id not in present]
    if wrong or lost:
        example = wrong[0] if wrong else ("directories", "id", lost[0])
        raise PlexDatabaseError(
            f"{len(wrong) + len(lost)} values of {library} differ from what was written, the first: {example}. Do not "
            "use this library; restore it from the snapshot."
        )


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
