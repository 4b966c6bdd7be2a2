"""Is a pair what its manifest says, and may it replace what went out? Every problem is named, not only the first.

quick: files against the manifest, readable, schema complete, contents against the manifest, and against the base when
there is one (`loss_check`).
full: integrity and search indexes by Plex's own SQLite as well (stock SQLite lacks its tokenizer and collation).
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...text import canonical, shorten
from ..errors import PlexDatabaseError
from ..pair import manifest as manifests
from ..pair.files import FileOperations, sha256_of
from ..pair.pair import BLOBS, LIBRARY, NAMES, remove_empty_side_files, side_files
from ..pair.reader import open_closed, rows
from ..path_mapping.presence import shown
from ..path_mapping.remote_listing import Listing
from . import loss
from .loss import EXAMPLES, STRICT, Limits, Problem, Report, sentences

__all__ = [
    "Limits",
    "Problem",
    "Report",
    "as_dict",
    "check",
    "integrity",
    "is_repairable",
    "loss_check",
    "sentences",
    "write_findings",
]

INTEGRITY_SECONDS = 4 * 3600
# What one command of Plex SQLite may answer for one file before the rest is cut.
COMPLAINTS = 5

loss_check = loss.compare_manifests


def check(
    directory: Path,
    manifest: Mapping[str, Any] | None,
    *,
    base: Mapping[str, Any] | None = None,
    base_directory: Path | None = None,
    listing: Listing | None = None,
    at_home: Collection[str] = (),
    depth: str = "quick",
    plex_sqlite: Sequence[str] = (),
    plex_sqlite_directory: str = "",
    limits: Limits = STRICT,
) -> Report:
    """Check the pair in `directory`.

    :param manifest: what the pair was when it left; None skips that comparison.
    :param base: the manifest of the snapshot that went out; what comes back may not hold less.
    :param base_directory: the pair that went out, where it is at hand: items are then compared one by one.
    :param listing: what the remote holds: a newly trashed part whose file is there proves a sick mount.
    :param at_home: files missing on the remote that home's Plex can or may read. In the trash they do not count as
        proven gone: they are a warning, and the merge at home restores them.
    :param plex_sqlite: argv of Plex's SQLite, for depth `full`.
    :param plex_sqlite_directory: the folder of the pair as that command sees it (in a container); default: as here.
    """
    report = Report()
    if not _check_files(directory, manifest, report):
        return report
    try:
        report.contents = manifests.contents(directory)
    except PlexDatabaseError as error:
        report.refuse("unreadable", str(error))
        return report
    if manifest is not None:
        _check_contents(report.contents, manifest, report)
    if base is not None:
        _check_against(
            directory, manifest, report, base=base, base_directory=base_directory, listing=listing, limits=limits
        )
        _tell_kept(directory, base, at_home, report)
    if depth == "full":
        integrity(directory, plex_sqlite, plex_sqlite_directory, report)
    return report


def as_dict(problem: Problem) -> dict[str, Any]:
    """A problem as JSON has it."""
    return {
        "code": problem.code,
        "message": problem.message,
        "section": problem.section,
        "count": problem.count,
        "examples": list(problem.examples),
    }


def is_repairable(report: Report) -> bool:
    """Is the pair damaged inside, and nothing else wrong with it? What a line cut short is to be sent again instead."""
    return bool(report.problems) and all(problem.code in ("integrity", "unreadable") for problem in report.problems)


def write_findings(path: Path, report: Report) -> None:
    """Write every problem with its examples as JSON: a sentence names a few, a person who must decide needs more."""
    found = [as_dict(problem) for problem in report.problems]
    text = json.dumps({"problems": found, "warnings": report.warnings}, indent=1, ensure_ascii=False)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    FileOperations().write_text(path, text.encode("utf-8", "replace").decode("utf-8") + "\n")


def _check_against(
    directory: Path,
    manifest: Mapping[str, Any] | None,
    report: Report,
    *,
    base: Mapping[str, Any],
    base_directory: Path | None,
    listing: Listing | None,
    limits: Limits,
) -> None:
    loss.compare_shape(report.contents, base, report)
    loss.compare_vectors(report.contents, base, report, limits)
    if manifest is not None:
        loss.compare_sizes(manifest, base, report, limits)
    proven = listing is not None
    if listing is not None:
        _check_trash(directory, base, listing, report)
    if base_directory is not None:
        titles = {section["id"]: section["title"] for section in base["sections"]}
        loss.compare_pairs(directory, base_directory, report, limits, titles, trash_is_proven=proven)
    else:
        loss.compare_counts(report.contents, base, report, limits, trash_is_proven=proven)


def _check_files(directory: Path, manifest: Mapping[str, Any] | None, report: Report) -> bool:
    """Names, side files, sizes, hashes. False when reading on makes no sense."""
    absent = [name for name in NAMES if not (directory / name).is_file()]
    for name in absent:
        report.refuse(
            "missing",
            f"Expected {LIBRARY} and {BLOBS} together in {directory}, found no {name}: take the snapshot again.",
        )
    beside = side_files(directory)
    if beside:
        names = ", ".join(path.name for path in beside)
        report.refuse(
            "side_files",
            f"Expected a closed pair in {directory}, found {names} beside it: left over from another database, or not "
            "closed cleanly. "
            "Never copy such a file along; take the snapshot again.",
        )
    if absent or beside:
        return False
    if manifest is None:
        return True
    wrong = []
    for name in NAMES:
        expected = manifest["files"].get(name)
        if expected is None:
            report.refuse("manifest", f"The manifest says nothing about {name}: take the snapshot again.")
            continue
        size = (directory / name).stat().st_size
        if size < expected["size"]:
            report.refuse(
                "truncated",
                f"{name} in {directory} is truncated: expected {expected['size']} bytes, found {size}. It was cut "
                "short on its way; transfer it again.",
            )
        elif size > expected["size"] or sha256_of(directory / name) != expected["sha256"]:
            wrong.append(name)
    if len(wrong) == 1 and not report.problems:
        report.refuse(
            "mixed",
            f"{wrong[0]} in {directory} is not the file its manifest describes, though its companion is: the two come "
            "from different moments, "
            "or one was damaged. They only work as the pair they left as; transfer both again.",
        )
    else:
        for name in wrong:
            report.refuse(
                "hash",
                f"{name} in {directory} is not the file its manifest describes (SHA-256 differs): transfer it again.",
            )
    return not report.problems


def _check_contents(found: Mapping[str, Any], manifest: Mapping[str, Any], report: Report) -> None:
    keys = ("page_size", "schema_versions", "sections", "counts", "parts", "sonic", "watch", "fingerprints", "rows")
    for key in keys:
        if key in manifest and found[key] != manifest[key]:
            report.refuse(
                "contents",
                f"{key} read from the pair differs from its manifest: expected {shorten(manifest[key])}, found "
                f"{shorten(found[key])}.",
            )


def _check_trash(directory: Path, base: Mapping[str, Any], listing: Listing, report: Report) -> None:
    """Zero tolerance: the remote still has the file, so the mount was sick when Plex trashed it.

    221 of 224 films were lost that way once: the mount's cache still listed the folders, and no file could be read.
    """
    before = set(base.get("trashed_part_ids", ()))
    titles = {section["id"]: section["title"] for section in report.contents["sections"]}
    present: dict[int, list[str]] = {}
    with open_closed(directory / LIBRARY) as library:
        for part_id, section, file, trashed in manifests.parts_with_state(library):
            if trashed and part_id not in before and canonical(file) in listing:
                present.setdefault(section, []).append(file)
    for section, files in present.items():
        report.refuse(
            "trashed_present",
            f"{len(files)} files of section {titles.get(section, section)!r} were put into the trash during the run "
            f"although the remote still has them, for example {shorten(files[:COMPLAINTS])}: the mount was sick. This "
            "section must not come home.",
            section,
            len(files),
            files[:EXAMPLES],
        )


def _tell_kept(directory: Path, base: Mapping[str, Any], at_home: Collection[str], report: Report) -> None:
    """Warn about newly trashed files that are at home."""
    if not at_home:
        return
    before = set(base.get("trashed_part_ids", ()))
    wanted = frozenset(at_home)
    with open_closed(directory / LIBRARY) as library:
        kept = [
            file
            for part_id, _, file, trashed in manifests.parts_with_state(library)
            if trashed and part_id not in before and file in wanted
        ]
    if kept:
        report.warnings.append(
            f"{len(kept)} files are in the indexer's trash because they are missing on the remote, but they are "
            f"present or unknown at home, for example {shorten([shown(file) for file in kept[:COMPLAINTS]])}. "
            "The installation keeps home's rows of these files."
        )


def integrity(
    directory: Path, plex_sqlite: Sequence[str], seen_as: str, report: Report, only: Sequence[str] = NAMES
) -> None:
    """Let Plex's own SQLite check both files and their search indexes; damage refuses, a stale search index warns.

    :param plex_sqlite: argv of Plex SQLite.
    :param seen_as: the folder of the pair as that command sees it; empty: as here.
    :param only: names of the files to check.
    """
    if not plex_sqlite:
        report.refuse(
            "integrity",
            "A full check needs the command of Plex's own SQLite (plex_sqlite): stock SQLite cannot check Plex's "
            "indexes.",
        )
        return
    for name in only:
        path = f"{seen_as or directory}/{name}"
        answer = _ask(plex_sqlite, path, "PRAGMA integrity_check", name, report)
        if answer is None:
            continue
        complaints = [line.strip() for line in answer.splitlines() if line.strip() and line.strip() != "ok"]
        search = [line for line in complaints if _is_about_search(line)]
        named = _search_tables(directory / name)
        for line in search:
            table = next((entry for entry in named if entry in line), "")
            report.warnings.append(_search_words(name, table, line))
        real = [line for line in complaints if line not in search]
        if real:
            report.refuse(
                "integrity",
                f"{name} is damaged, says Plex SQLite: {shorten(real[:COMPLAINTS])}. Repair it (repair: true makes a "
                "new pair beside it), or go back to a backup.",
                None,
                len(real),
                real,
            )
            continue
        # SQLite before 3.44 leaves the search indexes out of integrity_check, so each is asked for itself.
        for table in named if not search else []:
            sql = f"INSERT INTO {table}({table}) VALUES('integrity-check')"
            done = _run(plex_sqlite, path, sql)
            if isinstance(done, str):
                report.refuse("integrity", f"Plex SQLite could not check {name}: {done}")
            elif done.returncode != 0:
                report.warnings.append(_search_words(name, table, done.stderr.strip() or "no message"))
    # Opened for writing, as the search indexes need it, the file may have got a -wal for a moment.
    remove_empty_side_files(directory)


def _ask(plex_sqlite: Sequence[str], path: str, sql: str, name: str, report: Report) -> str | None:
    done = _run(plex_sqlite, path, sql)
    if isinstance(done, str):
        report.refuse("integrity", f"Plex SQLite could not check {name}: {done}")
        return None
    if done.returncode != 0 or not done.stdout.strip():
        report.refuse(
            "integrity",
            f"Plex SQLite could not check {name} (exit code {done.returncode}): {done.stderr.strip() or 'no message'}.",
        )
        return None
    return done.stdout


def _run(plex_sqlite: Sequence[str], path: str, sql: str) -> subprocess.CompletedProcess[str] | str:
    """Run one statement; why it could not be run, where it could not."""
    try:
        return subprocess.run(
            [*plex_sqlite, path, sql],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=INTEGRITY_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{error}."


def _search_tables(path: Path) -> list[str]:
    """Search indexes that Plex keeps up to date by triggers; older ones without are stale on every server."""
    with open_closed(path) as connection:
        names = [
            str(row[0])
            for row in rows(
                connection,
                "SELECT name FROM sqlite_master WHERE type = 'table' AND sql LIKE 'CREATE VIRTUAL TABLE%fts4%'",
            )
        ]
        kept = " ".join(str(row[0]) for row in rows(connection, "SELECT sql FROM sqlite_master WHERE type = 'trigger'"))
    # The longest first: one name begins with the other.
    return sorted((name for name in names if f"INTO {name}(" in kept), key=len, reverse=True)


def _search_words(name: str, table: str, complaint: str) -> str:
    if not table:
        return f"{name}: {complaint}. It is a search index that Plex no longer keeps; nothing depends on it."
    return (
        f"{name}: {complaint}. Only the search index is affected; the cure is Plex SQLite's "
        f"\"INSERT INTO {table}({table}) VALUES('rebuild')\" while Plex is stopped."
    )


def _is_about_search(line: str) -> bool:
    lowered = line.lower()
    return (
        "fts4_" in lowered or "fts4 table" in lowered or "inverted index for fts" in lowered or "spellfix_" in lowered
    )
