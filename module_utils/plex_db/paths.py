"""The path audit: every file the database names against what the remote holds, before anything is paid for.

Pure comparison in memory: one pass over the parts, one pass over the listing. 500,000 files take seconds.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import manifest as manifests
from .errors import PlexDatabaseError
from .listing import Listing, canonical
from .pair import LIBRARY, require_closed
from .reader import iterate, open_closed

SCHEMA = 1
# What Plex's scanners take (Plex support, "What media formats are supported"; names as in its bundled scanners).
# fmt: off
VIDEO = frozenset({
    "3g2", "3gp", "asf", "asx", "avc", "avi", "avs", "bivx", "divx", "dv", "dvr-ms", "evo", "fli", "flv", "iso",
    "m2t", "m2ts", "m2v", "m4v", "mkv", "mov", "mp4", "mpeg", "mpg", "mts", "nsv", "nuv", "ogm", "ogv", "pva",
    "qt", "rm", "rmvb", "strm", "svq3", "ts", "ty", "vdr", "viv", "vob", "vp3", "webm", "wmv", "wpl", "wtv",
    "xvid",
})
AUDIO = frozenset({
    "aac", "aif", "aiff", "alac", "ape", "asf", "dsf", "dff", "flac", "m4a", "m4b", "m4p", "mka", "mp2", "mp3",
    "mp4", "oga", "ogg", "opus", "wav", "wma", "wv",
})
PHOTO = frozenset({
    "arw", "bmp", "cr2", "crw", "dng", "gif", "heic", "heif", "ico", "jpe", "jpeg", "jpg", "nef", "orf", "png",
    "raf", "raw", "rw2", "tif", "tiff", "webp",
})
# fmt: on
EXTENSIONS: Mapping[str, frozenset[str]] = {
    "movie": VIDEO,
    "show": VIDEO,
    "artist": AUDIO,
    "photo": PHOTO | VIDEO,  # photo sections take the camera's films too
}
# Folders that file systems and boxes make, never media.
SYSTEM_FOLDERS = frozenset({"@eaDir", "lost+found", "#recycle", "$RECYCLE.BIN", "System Volume Information"})


@dataclass
class SectionAudit:
    """One section: lists of paths (for the file), their counts (for people)."""

    id: int
    title: str
    type: str
    locations: list[str]
    uncovered_locations: list[str] = field(default_factory=list)
    present: int = 0
    missing: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    trashed_missing: list[str] = field(default_factory=list)
    trashed_present: list[str] = field(default_factory=list)
    other_form: list[str] = field(default_factory=list)
    sonic_pending: int = 0
    analysis_pending: int = 0

    LISTS = ("missing", "new", "trashed_missing", "trashed_present", "other_form")

    def full(self) -> dict[str, Any]:
        """With the lists, for the file."""
        return {**self.counts(), **{name: getattr(self, name) for name in self.LISTS}}

    def counts(self) -> dict[str, Any]:
        """Without the lists, for a result."""
        return {
            "id": self.id,
            "title": self.title,
            "type": self.type,
            "locations": self.locations,
            "uncovered_locations": self.uncovered_locations,
            "present": self.present,
            **{name: len(getattr(self, name)) for name in self.LISTS},
            "sonic_pending": self.sonic_pending,
            "analysis_pending": self.analysis_pending,
        }


def audit(
    directory: Path, listing: Listing, titles: Sequence[str] = (), want_sonic: bool = True, want_analysis: bool = True
) -> dict[str, Any]:
    """Compare the closed pair in `directory` with the listing.

    :param titles: only these sections; empty: all.
    :param want_sonic: tracks without Sonic data are something to do.
    :param want_analysis: media never analysed are something to do.
    :returns: `sections` (with lists), `totals`, `nothing_to_do`, `missing_percent`.
    :raises PlexDatabaseError: an unknown title, or the pair cannot be read.
    """
    require_closed(directory)
    with open_closed(directory / LIBRARY) as library:
        found = _chosen(manifests.sections(library), titles)
        audits = {
            section["id"]: SectionAudit(section["id"], section["title"], section["type"], section["locations"])
            for section in found
        }
        known = _audit_parts(library, audits, listing)
        _count_pending(library, audits)
    _find_new(audits.values(), listing, known)
    for entry in audits.values():
        entry.uncovered_locations = [location for location in entry.locations if not listing.covers(location)]
    return _result(list(audits.values()), want_sonic, want_analysis)


def summary(result: Mapping[str, Any]) -> dict[str, Any]:
    """The audit without its lists, small enough for a result or a log."""
    lists = SectionAudit.LISTS
    sections = [{**section, **{name: len(section[name]) for name in lists}} for section in result["sections"]]
    return {**result, "sections": sections}


def write(result: Mapping[str, Any], destination: Path) -> None:
    """Write the audit with its lists, readable by its owner only: it names everything somebody owns."""
    destination.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    partial = destination.with_name(f".{destination.name}.partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        json.dump(result, stream, indent=1)
        stream.write("\n")
    partial.replace(destination)


def is_media(path: str, location: str, section_type: str) -> bool:
    """Would Plex's scanner take this file of a section of this type? Hidden files and folders below the location "
    "never."""
    below = path[len(location.rstrip("/")) + 1 :].split("/")
    if any(part.startswith(".") or part in SYSTEM_FOLDERS for part in below):
        return False
    stem, dot, extension = below[-1].rpartition(".")
    if not dot or extension.lower() not in EXTENSIONS.get(section_type, frozenset()):
        return False
    # Plex's video scanners leave samples out.
    return not (section_type in ("movie", "show") and (stem.lower() == "sample" or stem.lower().endswith("-sample")))


def _chosen(sections: Iterable[Mapping[str, Any]], titles: Sequence[str]) -> list[Mapping[str, Any]]:
    sections = list(sections)
    if not titles:
        return sections
    have = [section["title"] for section in sections]
    unknown = [title for title in titles if title not in have]
    if unknown:
        raise PlexDatabaseError(
            f"There is no section {', '.join(map(repr, unknown))} in home's library; it has "
            f"{', '.join(map(repr, have)) or 'none'}. "
            "Write the title as Plex shows it."
        )
    return [section for section in sections if section["title"] in titles]


def _audit_parts(library: sqlite3.Connection, audits: Mapping[int, SectionAudit], listing: Listing) -> set[str]:
    """Sort the parts; returns the canonical paths that the database knows, in whatever section."""
    known: set[str] = set()
    for _, section, file, trashed in manifests.parts_with_state(library):
        path = canonical(file)
        known.add(path)
        entry = audits.get(section)
        if entry is None:
            continue
        there = path in listing
        if trashed:
            (entry.trashed_present if there else entry.trashed_missing).append(file)
        elif there:
            entry.present += 1
            if file not in listing.exact:
                entry.other_form.append(file)
        else:
            entry.missing.append(file)
    return known


def _count_pending(library: sqlite3.Connection, audits: Mapping[int, SectionAudit]) -> None:
    for section, counts in manifests.sonic(library).items():
        entry = audits.get(int(section))
        if entry is not None and entry.type == "artist":
            entry.sonic_pending = counts["total"] - counts["done"]
    pending = iterate(
        library,
        "SELECT md.library_section_id, COUNT(*) FROM media_items mi JOIN metadata_items md ON md.id = "
        "mi.metadata_item_id "
        "WHERE COALESCE(mi.media_analysis_version, 0) = 0 AND mi.deleted_at IS NULL AND md.deleted_at IS NULL GROUP "
        "BY 1",
    )
    for section_id, count in pending:
        if section_id in audits:
            audits[section_id].analysis_pending = count


def _find_new(audits: Iterable[SectionAudit], listing: Listing, known: set[str]) -> None:
    roots = [
        (canonical(location).rstrip("/") + "/", canonical(location), entry)
        for entry in audits
        for location in entry.locations
    ]
    for path in listing.sizes:
        if path in known:
            continue
        for prefix, location, entry in roots:
            if path.startswith(prefix) and is_media(path, location, entry.type):
                entry.new.append(path)
    for entry in audits:
        entry.new = sorted(set(entry.new))


def _result(audits: list[SectionAudit], want_sonic: bool, want_analysis: bool) -> dict[str, Any]:
    totals = {
        "present": sum(entry.present for entry in audits),
        **{name: sum(len(getattr(entry, name)) for entry in audits) for name in SectionAudit.LISTS},
        "sonic_pending": sum(entry.sonic_pending for entry in audits),
        "analysis_pending": sum(entry.analysis_pending for entry in audits),
    }
    named = totals["present"] + totals["missing"]
    something = (
        totals["new"]
        + totals["missing"]
        + totals["trashed_present"]
        + (totals["sonic_pending"] if want_sonic else 0)
        + (totals["analysis_pending"] if want_analysis else 0)
    )
    return {
        "schema": SCHEMA,
        "sections": [entry.full() for entry in audits],
        "totals": totals,
        "missing_percent": round(100 * totals["missing"] / named, 2) if named else 0.0,
        "nothing_to_do": something == 0,
    }
