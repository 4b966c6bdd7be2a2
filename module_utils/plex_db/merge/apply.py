"""Write a plan into the indexer's pair, each database in one transaction.

Standard SQLite can write only tables without such triggers and ICU indexes, because Plex's tokenizer `collating` and
collation `icu_root` exist only in Plex's own binary. So if `metadata_items`, `tags`, or any table with such a trigger
or index is written, Plex SQLite runs the whole transaction, fed from the scratch file.

All rows to write are first deleted in all tables, then inserted. Row by row would fail, because home's row 5 may have a
key that the indexer gave to row 6, and the unique indexes of Plex's schema are checked at each row. The search indexes
stay correct: their triggers remove the old title at a deletion and add the new one at an insertion. Foreign keys are
off, as in Plex itself, because a cascading deletion would remove rows that are not inserted again.
"""

# ruff: noqa: S608 - statements are built from names of the schema; values are parameters
from __future__ import annotations

import os
import sqlite3
import subprocess
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from ..errors import PlexDatabaseError
from ..pair.files import FileOperations
from ..pair.pair import BLOBS, NAMES, SIDE_SUFFIXES
from ..pair.reader import rows, stand_in_collation
from .plan import Plan
from .workspace import Table, Workspace

APPLY_SECONDS = 4 * 3600
_BEGIN = ("PRAGMA foreign_keys = OFF", "BEGIN IMMEDIATE")


def write(work: Workspace, plan: Plan, target: Path, plex_sqlite: Sequence[str] = ()) -> None:
    """Write what is planned into the pair in `target`, which no other process has open.

    Both transactions are repeatable: should the second fail, the merge can simply be run again.

    :param plex_sqlite: argv of Plex's own SQLite, to which options and a database are appended; it reads SQL from
        standard input and must see `target` and the scratch file under their own paths.
    :raises PlexDatabaseError: a statement failed (that database is as before then), or Plex SQLite is needed and
    missing.
    """
    for name in NAMES:
        script = statements(work, plan, name)
        if not script:
            continue
        touched = {
            table for table in (*plan.staged, *plan.whole) if table.file == name and _has_work(work, plan, table)
        }
        protected = needs_plex(target / name, touched)
        if protected and not plex_sqlite:
            raise PlexDatabaseError(
                f"Home changed {', '.join(protected)}, which only Plex's own SQLite can write. Give its command "
                "(plex_sqlite): on a server with Plex it is '/usr/lib/plexmediaserver/Plex SQLite'."
            )
        if protected:
            _by_plex(work.scratch, target / name, script, plex_sqlite)
        else:
            _by_stock(work.scratch, target / name, script)
        for suffix in SIDE_SUFFIXES:
            left = target / f"{name}{suffix}"
            if left.exists() and left.stat().st_size and suffix == "-wal":
                raise PlexDatabaseError(
                    f"{left} was left behind by the merge: {name} is not closed. Run the merge again."
                )
            left.unlink(missing_ok=True)
        FileOperations().sync_file(target / name)


def statements(work: Workspace, plan: Plan, file: str) -> list[str]:
    """The SQL for one database, with the scratch file attached as `staged`; empty when there is nothing to write."""
    deletions: list[str] = []
    insertions: list[str] = []
    for table in dict.fromkeys((*plan.whole, *plan.staged)):
        whole = table in plan.whole
        if table.file != file or not (whole or _has_work(work, plan, table)):
            continue
        put, names = _staged(table, "put"), table.list_of()
        which = (
            "" if whole else f" WHERE id IN (SELECT id FROM {_staged(table, 'drop')} UNION ALL SELECT id FROM {put})"
        )
        deletions.append(f'DELETE FROM main."{table.name}"{which}')
        order = "" if whole else " ORDER BY id"
        insertions.append(f'INSERT INTO main."{table.name}" ({names}) SELECT {names} FROM {put}{order}')
    return [*deletions, *insertions, *_counters(work, file)]


def _counters(work: Workspace, file: str) -> list[str]:
    """Ids are never given out twice: of both sides' counters the higher one stays."""
    suffix = "_b" if file == BLOBS else ""
    higher = work.rows(
        f"SELECT o.name, MAX(o.seq), MAX(COALESCE(t.seq, -1)) FROM ours{suffix}.sqlite_sequence o "
        f"LEFT JOIN theirs{suffix}.sqlite_sequence t ON t.name = o.name GROUP BY o.name HAVING MAX(o.seq) > "
        "MAX(COALESCE(t.seq, -1))"
    )
    script = []
    for name, ours, theirs in higher:
        text = str(name).replace("'", "''")
        # A row made by this very transaction may have raised it meanwhile.
        script.append(f"UPDATE main.sqlite_sequence SET seq = MAX(seq, {int(ours)}) WHERE name = '{text}'")
        if int(theirs) < 0:
            script.append(
                f"INSERT INTO main.sqlite_sequence(name, seq) SELECT '{text}', {int(ours)} "
                f"WHERE NOT EXISTS (SELECT 1 FROM main.sqlite_sequence WHERE name = '{text}')"
            )
    return script


def needs_plex(database: Path, touched: Iterable[Table]) -> list[str]:
    """Which of these tables have a trigger, or an index with Plex's collation."""
    names = {table.name for table in touched}
    with closing(
        sqlite3.connect(f"file:{quote(str(database.absolute()))}?mode=ro&immutable=1", uri=True)
    ) as connection:
        found = rows(
            connection,
            "SELECT DISTINCT tbl_name FROM sqlite_master WHERE type = 'trigger' OR sql LIKE '%COLLATE icu_root%'",
        )
    return sorted(names & {str(row[0]) for row in found})


def _has_work(work: Workspace, plan: Plan, table: Table) -> bool:
    if table in plan.whole:
        return True
    return any(work.exists(f"SELECT 1 FROM {table.staged(what)}") for what in ("put", "drop"))


def _staged(table: Table, what: str) -> str:
    return table.staged(what).replace("main.", "staged.", 1)


def _by_stock(scratch: Path, database: Path, script: Sequence[str]) -> None:
    uri = f"file:{quote(str(database.absolute()))}?mode=rw"
    try:
        with closing(sqlite3.connect(uri, uri=True, isolation_level=None, timeout=30)) as connection:
            connection.create_collation("icu_root", stand_in_collation)
            connection.execute("ATTACH DATABASE ? AS staged", (f"file:{quote(str(scratch.absolute()))}?mode=ro",))
            for statement in (*_BEGIN, *script, "COMMIT"):
                connection.execute(statement)
            connection.execute("DETACH DATABASE staged")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    except sqlite3.Error as error:
        raise PlexDatabaseError(f"Writing home's part into {database} failed: {error}. It is as before.") from error


def _by_plex(scratch: Path, database: Path, script: Sequence[str], plex_sqlite: Sequence[str]) -> None:
    attach = f"ATTACH DATABASE '{str(scratch.absolute()).replace(chr(39), chr(39) * 2)}' AS staged"
    text = ";\n".join([attach, *_BEGIN, *script, "COMMIT", "DETACH DATABASE staged"])
    run_plex_sqlite(plex_sqlite, database, f"{text};\nPRAGMA wal_checkpoint(TRUNCATE);\n")


def run_plex_sqlite(plex_sqlite: Sequence[str], database: Path, sql: str, seconds: float = APPLY_SECONDS) -> str:
    """Run SQL through Plex's own SQLite; it stops at the first error. Returns what it printed.

    :raises PlexDatabaseError: it cannot be run, took too long, or a statement failed; a transaction is taken back then.
    """
    try:
        done = subprocess.run(
            # Without -bail a shell that reads from standard input would go on after an error, up to the COMMIT.
            [*plex_sqlite, "-bail", str(database.absolute())],
            input=sql,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PlexDatabaseError(f"Plex SQLite could not write {database}: {error}.") from error
    if done.returncode != 0:
        raise PlexDatabaseError(
            f"Plex SQLite could not write {database} (exit code {done.returncode}): "
            f"{done.stderr.strip() or 'no message'}. The transaction was taken back."
        )
    return done.stdout


def hand_over(paths: Iterable[Path], like: Path) -> None:
    """Let the owner of a database, as whom Plex SQLite may run, read and write what it is given."""
    if os.geteuid() != 0:
        return
    owner = like.stat()
    for path in paths:
        os.chown(path, owner.st_uid, owner.st_gid)
