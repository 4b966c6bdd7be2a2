"""The path audit: every file the database names against what the remote holds, before anything is paid for.

Pure comparison in memory: one pass over the parts, one pass over the listing. 500,000 files take seconds.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...text import canonical
from ..errors import PlexDatabaseError
from ..pair import manifest as manifests
from ..pair.pair import LIBRARY, require_closed
from ..pair.reader import iterate, open_closed
from .mapping import Mappings
from .mtimes import sample as sample_times
from .plan import plan as plan_mapping
from .presence import shown
from .proposals import Moves, NamedFile, propose
from .remote_listing import Listing

SCHEMA = 2
HOME_ONLY_EXAMPLES = 3
# A section with fewer files than this says nothing by percent: one film of three is a third.
FEW_FILES = 10
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
    moved: list[str] = field(default_factory=list)
    at_home: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    sonic_pending: int = 0
    sonic_missing: int = 0
    analysis_pending: int = 0

    # at_home and unknown are parts of missing: home's Plex can read them, or that is unknown.
    LISTS = ("missing", "new", "trashed_missing", "trashed_present", "other_form", "moved", "at_home", "unknown")

    @property
    def home_only(self) -> int:
        """Number of files missing on the remote that do not count as gone."""
        return len(self.at_home) + len(self.unknown)

    @property
    def missing_percent(self) -> float:
        """Percentage of the section's files outside the trash that are missing on the remote and at home."""
        return _percent(len(self.missing) - self.home_only, self.present + len(self.missing))

    @property
    def home_only_percent(self) -> float:
        """Percentage of these files that are missing on the remote and are, or may be, at home."""
        return _percent(self.home_only, self.present + len(self.missing))

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
            "missing_percent": self.missing_percent,
            "home_only_percent": self.home_only_percent,
            "home_only_examples": [shown(path) for path in (*self.at_home, *self.unknown)[:HOME_ONLY_EXAMPLES]],
            **{name: len(getattr(self, name)) for name in self.LISTS},
            "sonic_pending": self.sonic_pending,
            "sonic_missing": self.sonic_missing,
            "analysis_pending": self.analysis_pending,
        }


def audit(
    directory: Path,
    listing: Listing,
    titles: Sequence[str] = (),
    want_sonic: bool = True,
    want_analysis: bool = True,
    *,
    mappings: Mappings | None = None,
    at_home: Collection[str] = (),
    unknown: Collection[str] = (),
) -> dict[str, Any]:
    """Compare the closed pair in `directory` with the listing.

    :param titles: only these sections; empty: all.
    :param want_sonic: tracks without Sonic data are something to do.
    :param want_analysis: media never analysed are something to do.
    :param mappings: moves that a person has accepted: files are looked for where these bring them. What is proposed
        besides is meant to be added to them.
    :param at_home: files that home's Plex sees (presence.look) although the remote lacks them: not gone, not moved, and
        nothing that the indexer could do anything about.
    :param unknown: files of which that could not be told; they are treated the same.
    :returns: `sections` (with lists, in home's paths but for `new`), `totals`, `nothing_to_do`, `missing_percent`,
        `proposals` and `undecided` (moves.Moves), `mapped` (files per accepted mapping).
    :raises PlexDatabaseError: an unknown title, the pair cannot be read, or the mappings cannot be applied to it.
    """
    mappings = mappings or Mappings()
    require_closed(directory)
    with open_closed(directory / LIBRARY) as library:
        found = _chosen(manifests.sections(library), titles)
        audits = {
            section["id"]: SectionAudit(section["id"], section["title"], section["type"], section["locations"])
            for section in found
        }
        files = named_files(library)
        known = _audit_files(files, audits, listing, mappings)
        stay = frozenset(at_home) | frozenset(unknown)
        _count_pending(library, audits, stay)
        _count_unheard(library, audits, listing, mappings)
        mapped = plan_mapping(library, mappings)
        locations = {section["id"]: section["locations"] for section in manifests.sections(library)}
    _find_new(audits.values(), listing, known, mappings)
    for entry in audits.values():
        entry.uncovered_locations = [place for place in entry.locations if not listing.covers(mappings.apply(place))]
    any_missing = any(entry.missing for entry in audits.values())
    moves = propose(files, listing, locations, mappings, stay) if any_missing else Moves()
    for entry in audits.values():
        entry.at_home = _those_in(entry.missing, at_home)
        entry.unknown = _those_in(entry.missing, unknown)
        entry.moved = [file for file in entry.missing if canonical(file) in moves.moved]
    result = _result(list(audits.values()), want_sonic, want_analysis)
    chosen = set(audits)
    result["proposals"] = [
        proposal.as_dict() for proposal in moves.proposals if not titles or chosen & set(proposal.sections)
    ]
    result["undecided"] = moves.reasons()
    result["mapped"] = dict(mapped.used)
    result["nothing_to_do"] = result["nothing_to_do"] and not mapped.cells
    return result


def sample(directory: Path, count: int, titles: Sequence[str] = ()) -> list[dict[str, Any]]:
    """A sample of the closed pair's files for a comparison of modification times (times.sample)."""
    with open_closed(directory / LIBRARY) as library:
        return [entry for entry in sample_times(library, count) if not titles or entry["title"] in titles]


def named_files(library: sqlite3.Connection) -> list[NamedFile]:
    """Every file that the library names, with what Plex took down about it."""
    return [
        NamedFile(file, section, size, duration, bool(trashed))
        for section, file, size, duration, trashed in iterate(library, manifests.FILES_SQL)
        if file
    ]


def too_much_missing(result: Mapping[str, Any], limit: float) -> list[str]:
    """Sentences for what exceeds the limit, in percent: the whole library, and each section of ten files or more.

    Files of a proposed mapping count as missing until the mapping is accepted; files at home do not count.
    """
    return _beyond(result, "missing_percent", limit, lambda entry: entry["missing"] - _home_only(entry))


def too_much_at_home_only(result: Mapping[str, Any], limit: float) -> list[str]:
    """Return the same for files that are, or may be, at home and not on the remote; many mean a wrong remote path."""
    return _beyond(result, "home_only_percent", limit, _home_only)


def _home_only(counts: Mapping[str, Any]) -> int:
    return int(counts["at_home"] + counts["unknown"])


def _beyond(
    result: Mapping[str, Any], percent: str, limit: float, count: Callable[[Mapping[str, Any]], int]
) -> list[str]:
    sentences = []
    if result[percent] > limit:
        sentences.append(f"{count(result['totals'])} files ({result[percent]} %) of the library")
    sentences += [
        f"{count(section)} files ({section[percent]} %) of section {section['title']!r}"
        for section in result["sections"]
        if section[percent] > limit and section["present"] + section["missing"] >= FEW_FILES
    ]
    return sentences


def summary(result: Mapping[str, Any]) -> dict[str, Any]:
    """The audit without its lists, small enough for a result or a log."""
    lists = SectionAudit.LISTS
    sections = [{**section, **{name: len(section[name]) for name in lists}} for section in result["sections"]]
    return {**result, "sections": sections}


def as_indexer(result: Mapping[str, Any], accepted: Mappings, indexer: Mappings) -> dict[str, Any]:
    """The audit with every path of its lists as the indexer will name it: corrected, then mapped for the indexer."""

    def renamed(name: str, paths: Iterable[str]) -> list[str]:
        # What is new is named as the remote has it, which is as the corrected library would.
        return [indexer.apply(path if name == "new" else accepted.apply(path)) for path in paths]

    sections = [
        {**section, **{name: renamed(name, section[name]) for name in (*SectionAudit.LISTS, "locations")}}
        for section in result["sections"]
    ]
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


def home_only(audit: Path) -> list[str]:
    """Return the files of a written audit that are missing on the remote and are, or may be, at home.

    :raises PlexDatabaseError: it cannot be read.
    """
    try:
        sections = json.loads(audit.read_text(encoding="utf-8"))["sections"]
        # An audit of an older plexburst has no such files.
        return [path for section in sections for name in ("at_home", "unknown") for path in section.get(name, ())]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise PlexDatabaseError(f"The path audit at {audit} cannot be read: {error}. Make the plan again.") from error


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


def _audit_files(
    files: Iterable[NamedFile], audits: Mapping[int, SectionAudit], listing: Listing, mappings: Mappings
) -> set[str]:
    """Sort the files; returns the canonical paths that the database knows, in whatever section, mappings applied.

    :raises PlexDatabaseError: a mapping would lead away from files that are where home has them.
    """
    known: set[str] = set()
    led_away: list[tuple[str, str]] = []
    for named in files:
        file = mappings.apply(named.path) if mappings else named.path
        path = canonical(file)
        known.add(path)
        there = path in listing
        if file != named.path and not there and canonical(named.path) in listing:
            led_away.append((named.path, file))
        entry = audits.get(named.section)
        if entry is None:
            continue
        if named.trashed:
            (entry.trashed_present if there else entry.trashed_missing).append(named.path)
        elif there:
            entry.present += 1
            if file not in listing.exact:
                entry.other_form.append(named.path)
        else:
            entry.missing.append(named.path)
    if led_away:
        raise PlexDatabaseError(
            f"The path mappings would lead away from {len(led_away)} files that the remote has where home names them, "
            f"for example {led_away[0][0]!r} → {led_away[0][1]!r}, which is not there. Take that mapping out of "
            "plexburst_path_mappings: it was done with, or its paths are the wrong way round."
        )
    return known


def _those_in(missing: Sequence[str], found: Collection[str]) -> list[str]:
    wanted = frozenset(found)
    return [path for path in missing if path in wanted]


def _percent(part: int, whole: int) -> float:
    return round(100 * part / whole, 2) if whole else 0.0


def _count_pending(
    library: sqlite3.Connection, audits: Mapping[int, SectionAudit], stay: Collection[str] = frozenset()
) -> None:
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
    if not stay:
        return
    files = iterate(
        library,
        "SELECT DISTINCT md.library_section_id, mi.id, mp.file FROM media_items mi "
        "JOIN metadata_items md ON md.id = mi.metadata_item_id JOIN media_parts mp ON mp.media_item_id = mi.id "
        "WHERE COALESCE(mi.media_analysis_version, 0) = 0 AND mi.deleted_at IS NULL AND md.deleted_at IS NULL",
    )
    for section_id, _media in {(section, media) for section, media, file in files if file in stay}:
        if section_id in audits:
            audits[section_id].analysis_pending -= 1


def _count_unheard(
    library: sqlite3.Connection, audits: Mapping[int, SectionAudit], listing: Listing, mappings: Mappings
) -> None:
    """Of the tracks without Sonic data those of which no file is on the remote: nothing can be analysed there."""
    pending = iterate(
        library,
        "SELECT md.library_section_id, md.id, mp.file FROM metadata_items md "
        "JOIN media_items mi ON mi.metadata_item_id = md.id JOIN media_parts mp ON mp.media_item_id = mi.id "
        "WHERE md.metadata_type = ? AND md.deleted_at IS NULL "
        "AND (md.extra_data IS NULL OR md.extra_data NOT LIKE ?)",
        (manifests.TRACK, manifests.SONIC_MARK),
    )
    heard: dict[int, dict[int, bool]] = {}
    for section, track, file in pending:
        if section in audits:
            tracks = heard.setdefault(section, {})
            tracks[track] = tracks.get(track, False) or canonical(mappings.apply(file)) in listing
    for section, tracks in heard.items():
        audits[section].sonic_missing = sum(not there for there in tracks.values())


def _find_new(audits: Iterable[SectionAudit], listing: Listing, known: set[str], mappings: Mappings) -> None:
    roots = [
        (location.rstrip("/") + "/", location, entry)
        for entry in audits
        for location in (canonical(mappings.apply(place)) for place in entry.locations)
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
        "sonic_missing": sum(entry.sonic_missing for entry in audits),
        "analysis_pending": sum(entry.analysis_pending for entry in audits),
    }
    named = totals["present"] + totals["missing"]
    home_only = _home_only(totals)
    something = (
        totals["new"]
        + totals["missing"]
        - home_only
        + totals["trashed_present"]
        # A missing track is counted above; a track at home only cannot be analysed elsewhere.
        + (totals["sonic_pending"] - totals["sonic_missing"] if want_sonic else 0)
        + (totals["analysis_pending"] if want_analysis else 0)
    )
    return {
        "schema": SCHEMA,
        "sections": [entry.full() for entry in audits],
        "totals": totals,
        "missing_percent": _percent(totals["missing"] - home_only, named),
        "home_only_percent": _percent(home_only, named),
        "nothing_to_do": something == 0,
    }
