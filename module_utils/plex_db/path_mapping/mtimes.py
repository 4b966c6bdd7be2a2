"""Compare the modification times of files at home and on the indexer.

Plex records a file's time when it scans it, and scans the file again when the time differs. A mount with different
times would make the indexer analyse the whole library again, and home afterwards. So a sample of each section is
compared at three places: home as seen by its Plex, the indexer, and the database.

Which column of the database holds the time is not documented; libraries looked at have it in media_parts.updated_at.
Home's own files say whether this one has. Where they cannot be seen, or the column holds something else, home and
indexer are compared, or the person is told what could not be.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import PlexDatabaseError
from ..pair.reader import iterate, rows

# S3 keeps times to the nanosecond, others to the second or, on FAT, to two.
TOLERANCE_SECONDS = 2
# Share of a section's sampled files that may differ, because a few may have been replaced since.
FEW_PERCENT = 10.0
MOSTLY_PERCENT = 90.0
# Options of rclone that change the times a mount shows (rclone's documentation of `mount` and of its global flags).
TIME_FLAGS = ("--use-server-modtime", "--no-modtime", "--default-time")

# Runs in a child, for a look at a dead mount may block in the kernel for ever. One JSON line per file.
_CHILD = """
import json, os, sys
for path, real in json.load(sys.stdin):
    try:
        found = os.stat(real)
        line = [path, found.st_mtime, found.st_size]
    except OSError as error:
        line = [path, None, error.strerror or str(error.errno)]
    print(json.dumps(line), flush=True)
"""


def sample(library: sqlite3.Connection, count: int) -> list[dict[str, Any]]:
    """Up to `count` files of each section, spread over it: `{section, title, path, size, updated_at}` each."""
    found: list[dict[str, Any]] = []
    sql = (
        "SELECT mp.id FROM media_parts mp JOIN media_items mi ON mi.id = mp.media_item_id "
        "WHERE mi.library_section_id = ? AND mp.file != '' AND +mp.deleted_at IS NULL AND +mi.deleted_at IS NULL"
    )
    for section, title in rows(library, "SELECT id, name FROM library_sections ORDER BY id") if count else ():
        ids = sorted(row[0] for row in iterate(library, sql, (section,)))
        chosen = ids if len(ids) <= count else [ids[number * len(ids) // count] for number in range(count)]
        for row in chosen:
            ((path, size, updated_at),) = rows(
                library, "SELECT file, size, updated_at FROM media_parts WHERE id = ?", (row,)
            )
            found.append({"section": section, "title": title, "path": path, "size": size, "updated_at": updated_at})
    return found


def look(files: Sequence[str], real: Mapping[str, str], time_limit: float) -> dict[str, dict[str, Any]]:
    """Modification time (seconds since 1970) and size in bytes of each file that is there.

    :param real: where each path lies on this machine.
    :param time_limit: seconds for all of them.
    :raises PlexDatabaseError: it took longer: the mount hangs.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-c", _CHILD],
            input=json.dumps([[path, real[path]] for path in files]),
            capture_output=True,
            text=True,
            timeout=time_limit,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise PlexDatabaseError(
            f"Reading the times of {len(files)} files took longer than {time_limit:g} s, for example {files[0]!r}. The "
            "mount hangs. Mount it again and repeat."
        ) from error
    if done.returncode != 0:
        cause = done.stderr.strip()[-300:] or "no message"
        raise PlexDatabaseError(f"Reading the times of {len(files)} files failed: {cause}.")
    found: dict[str, dict[str, Any]] = {}
    for line in done.stdout.splitlines():
        path, mtime, size = json.loads(line)
        if mtime is not None:
            found[path] = {"mtime": mtime, "size": size}
    return found


def mount_flags(processes: Iterable[Sequence[str]]) -> list[str]:
    """The options of the `rclone mount` command lines given that change times; empty when there are none, or when two
    mounts differ in them."""
    found: set[tuple[str, ...]] = set()
    for command in processes:
        if not command or Path(command[0]).name != "rclone" or "mount" not in command[1:]:
            continue
        flags: list[str] = []
        for number, word in enumerate(command):
            name, equals, _ = word.partition("=")
            if name in TIME_FLAGS:
                takes_value = name == "--default-time" and not equals
                flags += [word, *command[number + 1 : number + 2]] if takes_value else [word]
        found.add(tuple(flags))
    return list(found.pop()) if len(found) == 1 else []


@dataclass
class Verdict:
    """The result of the comparison: reasons to stop, and notes for the user."""

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Compared:
    both: int
    different: list[tuple[str, float, float]]

    @property
    def percent(self) -> float:
        return 100 * len(self.different) / self.both if self.both else 0.0


def judge(
    files: Sequence[Mapping[str, Any]],
    home: Mapping[str, Mapping[str, Any]],
    indexer: Mapping[str, Mapping[str, Any]],
) -> Verdict:
    """Compare a sample at home, on the indexer, and in the database.

    :param home: what `look` found at home, by home's path; empty when home's media cannot be seen.
    :param indexer: likewise on the indexer.
    """
    verdict = Verdict()
    database = {entry["path"]: entry["updated_at"] for entry in files if entry["updated_at"]}
    home_times, indexer_times = _times(home), _times(indexer)
    kept = _compare(home_times, database)
    column_holds_times = kept.both > 0 and kept.percent <= 100 - MOSTLY_PERCENT
    by_section: dict[str, list[str]] = {}
    for entry in files:
        by_section.setdefault(entry["title"], []).append(entry["path"])
    for title, paths in by_section.items():
        mine = {path: indexer_times[path] for path in paths if path in indexer_times}
        if not mine:
            verdict.notes.append(
                f"{title}: none of {len(paths)} sampled files is on the indexer; no times were compared."
            )
            continue
        against, name = (home_times, "at home") if home_times else (database, "in the database")
        result = _compare(mine, against)
        if result.percent <= FEW_PERCENT:
            continue
        if name == "at home":
            verdict.problems.append(_sentence(title, result, name))
        else:
            verdict.notes.append(
                f"{_sentence(title, result, name)} Home's media could not be seen, so it is open whether the indexer's "
                "times are other ones or the database holds something else."
            )
    if home_times and not column_holds_times and kept.both:
        verdict.notes.append(
            "The database's updated_at is not the files' modification time in this library; home and indexer were "
            "compared with each other, which is what counts."
        )
    if not home_times:
        verdict.notes.append("Home's media could not be read, so their times were not compared with home's.")
    return verdict


def _times(found: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    return {path: float(entry["mtime"]) for path, entry in found.items()}


def _compare(one: Mapping[str, float], other: Mapping[str, float]) -> _Compared:
    both = [path for path in one if path in other]
    different = [
        (path, one[path], float(other[path])) for path in both if abs(one[path] - other[path]) > TOLERANCE_SECONDS
    ]
    return _Compared(len(both), different)


def _sentence(title: str, result: _Compared, where: str) -> str:
    path, there, here = result.different[0]
    return (
        f"{title}: {len(result.different)} of {result.both} sampled files have another modification time on the "
        f"indexer ({there:.0f}) than {where} ({here:.0f}), for example {path!r}. Plex would analyse them all again."
    )
