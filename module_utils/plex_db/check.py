"""Is a pair what its manifest says, and may it replace what went out? Every problem is found and named, not only the
first.

quick: files against the manifest, readable, schema complete, contents against the manifest, and against the base when
there is one.
full: integrity by Plex's own SQLite as well (stock SQLite lacks its tokenizer and collation).
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import manifest as manifests
from .errors import PlexDatabaseError
from .files import sha256_of
from .listing import Listing, canonical
from .pair import BLOBS, LIBRARY, NAMES, side_files
from .reader import iterate, open_closed

INTEGRITY_SECONDS = 4 * 3600
EXAMPLES = 5


@dataclass(frozen=True)
class Limits:
    """What may be lost before a pair is refused.

    :param gone_percent: items or parts of a section and type that may be missing altogether. A run never empties the
        trash, so
        next to nothing may be gone.
    :param trashed_percent: live items of a section and type that may have become trashed when no listing proves that
        they are gone.
    :param size_percent: how much smaller than the base a file may be.
    """

    gone_percent: float = 1.0
    trashed_percent: float = 10.0
    size_percent: float = 50.0
    growth_factor: float = 10.0


@dataclass(frozen=True)
class Problem:
    """One reason to refuse a pair: a short code for machines, a sentence for people."""

    code: str
    message: str


@dataclass
class Report:
    """What a check found. `contents` holds the manifest's keys as read from the pair now (empty when it cannot be "
    "read)."""

    problems: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    contents: dict[str, Any] = field(default_factory=dict)

    def refuse(self, code: str, message: str) -> None:
        self.problems.append(Problem(code, message))


def check(
    directory: Path,
    manifest: Mapping[str, Any] | None,
    *,
    base: Mapping[str, Any] | None = None,
    base_directory: Path | None = None,
    listing: Listing | None = None,
    depth: str = "quick",
    plex_sqlite: Sequence[str] = (),
    plex_sqlite_directory: str = "",
    limits: Limits = Limits(),
) -> Report:
    """Check the pair in `directory`.

    :param manifest: what the pair was when it left; None skips that comparison.
    :param base: the manifest of the snapshot that went out; what comes back may not hold less.
    :param base_directory: the pair that went out, where it is at hand: items are then compared one by one.
    :param listing: what the remote holds: a newly trashed part whose file is there proves a sick mount.
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
        guard(report.contents, base, report, limits, trash_is_proven=listing is not None)
        if manifest is not None:
            _check_sizes(manifest, base, report, limits)
        if listing is not None:
            _check_trash(directory, base, listing, report)
        if base_directory is not None:
            _check_items(directory, base_directory, report)
    if depth == "full":
        _check_integrity(directory, plex_sqlite, plex_sqlite_directory, report)
    return report


def guard(
    new: Mapping[str, Any], base: Mapping[str, Any], report: Report, limits: Limits, trash_is_proven: bool = False
) -> None:
    """Compare contents with the base's manifest: nothing may be gone beyond the limits."""
    _guard_schema(new, base, report)
    kept = _guard_sections(new, base, report)
    for section in kept:
        key, title = str(section["id"]), section["title"]
        for kind, live in base["counts"].get(key, {}).items():
            total = live + base.get("trashed", {}).get(key, {}).get(kind, 0)
            new_live = new["counts"].get(key, {}).get(kind, 0)
            new_total = new_live + new.get("trashed", {}).get(key, {}).get(kind, 0)
            what = f"items of type {kind} in section {title!r}"
            if _lost(total, new_total, limits.gone_percent):
                report.refuse(
                    "items_gone", f"Expected at least {total} {what}, found {new_total}: {total - new_total} are gone."
                )
            elif not trash_is_proven and _lost(live, new_live, limits.trashed_percent):
                report.refuse(
                    "items_trashed",
                    f"Expected about {live} {what} outside the trash, found {new_live}, and no listing of the remote "
                    "proves that the files are gone.",
                )
        parts = base["parts"].get(key, {"total": 0})["total"]
        new_parts = new["parts"].get(key, {"total": 0})["total"]
        if _lost(parts, new_parts, limits.gone_percent):
            report.refuse("parts_gone", f"Expected at least {parts} files in section {title!r}, found {new_parts}.")
    for what, count in base["watch"].items():
        found = new["watch"].get(what, 0)
        if found < count:
            report.refuse(
                "watch_fewer",
                f"Expected at least {count} rows of {what}, found {found}: what people did would be lost.",
            )


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
    for key in ("page_size", "schema_versions", "sections", "counts", "parts", "sonic", "watch", "fingerprints"):
        if key in manifest and found[key] != manifest[key]:
            report.refuse(
                "contents",
                f"{key} read from the pair differs from its manifest: expected {_short(manifest[key])}, found "
                f"{_short(found[key])}.",
            )


def _check_sizes(manifest: Mapping[str, Any], base: Mapping[str, Any], report: Report, limits: Limits) -> None:
    for name in NAMES:
        before, now = base["files"][name]["size"], manifest["files"][name]["size"]
        if now < before * (1 - limits.size_percent / 100):
            report.refuse(
                "size", f"{name} went out with {before} bytes and comes back with {now}: too small to be whole."
            )
        # A small library may well grow tenfold; the rule is for databases that matter.
        elif now > max(before, 64 * 1024 * 1024) * limits.growth_factor:
            report.refuse("size", f"{name} went out with {before} bytes and comes back with {now}: absurdly large.")


def _guard_schema(new: Mapping[str, Any], base: Mapping[str, Any], report: Report) -> None:
    # The set, for some versions are no numbers and text order misleads (facts/plex.md §2.8).
    added = sorted(set(new["schema_versions"]) - set(base["schema_versions"]))
    gone = sorted(set(base["schema_versions"]) - set(new["schema_versions"]))
    if added:
        report.refuse(
            "schema_newer",
            f"The schema is newer than home's Plex can open: versions {_short(added)} are not in home's database. "
            "The indexer must run exactly home's Plex version.",
        )
    if gone:
        report.refuse(
            "schema_older",
            f"The schema is older than home's: versions {_short(gone)} are missing. This is not a descendant of what "
            "went out.",
        )


def _guard_sections(new: Mapping[str, Any], base: Mapping[str, Any], report: Report) -> list[Mapping[str, Any]]:
    found = {section["id"]: section for section in new["sections"]}
    kept = []
    for section in base["sections"]:
        same = found.get(section["id"])
        if same is None:
            report.refuse("sections_gone", f"Section {section['title']!r} (id {section['id']}) is gone.")
        elif (same["uuid"], same["type"]) != (section["uuid"], section["type"]):
            report.refuse(
                "ids_changed",
                f"Section id {section['id']} was {section['title']!r} ({section['type']}, {section['uuid']}) and is "
                f"now {same['title']!r} "
                f"({same['type']}, {same['uuid']}): ids never change.",
            )
        else:
            kept.append(section)
    return kept


def _check_trash(directory: Path, base: Mapping[str, Any], listing: Listing, report: Report) -> None:
    """Zero tolerance: the remote still has the file, so the mount was sick when Plex trashed it (221 films were lost "
    "that way)."""
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
            "although the remote still has them, "
            f"for example {_short(files[:EXAMPLES])}: the mount was sick. This section must not come home.",
        )


def _check_items(directory: Path, base_directory: Path, report: Report) -> None:
    """Each item of the base is still there under its id, in its section, of its type."""
    sql = "SELECT id, library_section_id, metadata_type FROM metadata_items WHERE library_section_id IS NOT NULL"
    with open_closed(base_directory / LIBRARY) as library:
        before = {row[0]: (row[1], row[2]) for row in iterate(library, sql)}
    with open_closed(directory / LIBRARY) as library:
        changed = [row[0] for row in iterate(library, sql) if row[0] in before and before[row[0]] != (row[1], row[2])]
    if changed:
        report.refuse(
            "ids_changed",
            f"{len(changed)} item ids now belong to another section or type, for example "
            f"{_short(changed[:EXAMPLES])}: ids never change.",
        )


def _check_integrity(directory: Path, plex_sqlite: Sequence[str], seen_as: str, report: Report) -> None:
    if not plex_sqlite:
        report.refuse(
            "integrity",
            "A full check needs the command of Plex's own SQLite (plex_sqlite): stock SQLite cannot check Plex's "
            "indexes.",
        )
        return
    for name in NAMES:
        path = f"{seen_as or directory}/{name}"
        try:
            done = subprocess.run(
                [*plex_sqlite, path, "PRAGMA integrity_check"],
                capture_output=True,
                text=True,
                errors="replace",
                timeout=INTEGRITY_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            report.refuse("integrity", f"Plex SQLite could not check {name}: {error}.")
            continue
        complaints = [line.strip() for line in done.stdout.splitlines() if line.strip() and line.strip() != "ok"]
        if done.returncode != 0 or not done.stdout.strip():
            report.refuse(
                "integrity",
                f"Plex SQLite could not check {name} (exit code {done.returncode}): "
                f"{done.stderr.strip() or 'no message'}.",
            )
            continue
        fts = [line for line in complaints if _is_about_search(line)]
        for line in fts:
            report.warnings.append(
                f"{name}: {line}. Only the search index is affected; the cure is Plex SQLite's "
                "\"INSERT INTO fts4_metadata_titles_icu(fts4_metadata_titles_icu) VALUES('rebuild')\" (likewise for "
                "the table named)."
            )
        real = [line for line in complaints if line not in fts]
        if real:
            report.refuse("integrity", f"{name} is damaged, says Plex SQLite: {_short(real[:EXAMPLES])}.")


def _is_about_search(line: str) -> bool:
    lowered = line.lower()
    return (
        "fts4_" in lowered or "fts4 table" in lowered or "inverted index for fts" in lowered or "spellfix_" in lowered
    )


def _lost(before: int, now: int, percent: float) -> bool:
    return now < before * (1 - percent / 100)


def _short(value: object, limit: int = 300) -> str:
    text = ", ".join(str(entry) for entry in value) if isinstance(value, (list, tuple)) else str(value)
    return text if len(text) <= limit else f"{text[:limit]}…"


def sentences(problems: Iterable[Problem]) -> str:
    """All problems as one text."""
    return " ".join(problem.message for problem in problems)
