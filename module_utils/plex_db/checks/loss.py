"""Was anything lost? What comes back is compared with what went out, per section and type of item.

Two depths. `compare_manifests` needs only the two manifests: counts, sections, schema, counters, sizes. `compare_pairs`
needs both library.db files as well and compares them row by row inside SQLite (the base is attached), so it can name
what is gone; half a million items take seconds. Both only read, and only add findings to a `Report`.

Where things are in the database: markers (intro, credits, commercial, bookmark) are `taggings` of the tag of type 12;
chapters stand in `media_parts.extra_data` under `pv:chapters` (URL-encoded before PMS 1.40); members of a collection
are `taggings` of a tag of type 2; members of a playlist are `play_queue_generators`; locked fields are numbers in
`metadata_items.user_fields`, as `lockedFields=1|9`; a poster that somebody uploaded is an `upload://` URL.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from ...text import shorten
from ..errors import PlexDatabaseError
from ..pair.manifest import SONIC_MARK, version_number
from ..pair.pair import BLOBS, LIBRARY, NAMES
from ..pair.reader import columns, open_closed, rows, tables

# Named in a sentence, and kept in a finding at most.
WORDS_EXAMPLES = 5
EXAMPLES = 100
# The rule about growth is for databases that matter: a small one may well grow tenfold.
GROWTH_FLOOR_BYTES = 64 * 1024 * 1024
TYPE_WORDS = {
    1: "movies",
    2: "shows",
    3: "seasons",
    4: "episodes",
    8: "artists",
    9: "albums",
    10: "tracks",
    12: "extras",
    13: "photos",
    14: "photo albums",
    15: "playlists",
    18: "collections",
    42: "optimised versions",
}
# Plex makes these anew at every refresh of their parent (trailers and other extras, optimised versions).
_REMADE_TYPES = (12, 42)
_POSTER_COLUMNS = (
    "user_thumb_url",
    "user_art_url",
    "user_banner_url",
    "user_music_url",
    "user_clear_logo_url",
)
# An empty list of chapters is `{"Chapters":{}}`, so the word with an s does not count.
_HAS_CHAPTERS = "(instr({0}, 'Chapter\\\"') > 0 OR instr({0}, 'Chapter%22') > 0)"
_TITLE = "COALESCE(NULLIF(b.title, ''), b.guid, 'without a title') || ' (id ' || b.id || ')'"


@dataclass(frozen=True)
class Limits:
    """What may be lost before a pair is refused. The defaults allow nothing that a healthy run could not explain.

    :param items_gone: items or files that may be gone, per section and type. A run never empties the trash, so what a
        scan misses is in the trash, not gone.
    :param gone_percent: the same in percent of the section and type; the larger of the two counts.
    :param trashed_percent: live items per section and type that may be newly in the trash when no listing of the
        remote proves that their files are gone.
    :param user_data_gone: rows of each kind that people made: views, ratings and resume points, locked fields,
        uploaded posters, members of playlists and of collections.
    :param markers_gone_percent: items per section and type that had markers or chapters or Sonic data and have none
        now. Plex finds the intros of a whole season again when an episode joins it.
    :param size_percent: how much smaller than the base a file may be, in percent.
    :param growth_factor: how many times larger than the base a file may be.
    """

    gone_percent: float = 0.0
    trashed_percent: float = 10.0
    size_percent: float = 50.0
    growth_factor: float = 10.0
    items_gone: int = 0
    user_data_gone: int = 0
    markers_gone_percent: float = 1.0

    def gone(self, before: int) -> float:
        """How many of the items may be gone."""
        return max(float(self.items_gone), before * self.gone_percent / 100)


STRICT = Limits()


@dataclass(frozen=True)
class Problem:
    """One reason to refuse a pair: a short code for machines, a sentence for people, and what it is about.

    :param section: id of the section, where it is about one.
    :param count: how many are concerned, 0 where that has no meaning.
    :param examples: titles or paths, at most `EXAMPLES`.
    """

    code: str
    message: str
    section: int | None = None
    count: int = 0
    examples: tuple[str, ...] = ()


@dataclass
class Report:
    """What a check found. `contents` holds the manifest's keys as read from the pair now; empty when unreadable."""

    problems: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    contents: dict[str, Any] = field(default_factory=dict)

    def refuse(
        self, code: str, message: str, section: int | None = None, count: int = 0, examples: Sequence[str] = ()
    ) -> None:
        self.problems.append(Problem(code, message, section, count, tuple(examples)[:EXAMPLES]))


def compare_manifests(
    new: Mapping[str, Any], base: Mapping[str, Any], report: Report, limits: Limits, trash_is_proven: bool = False
) -> None:
    """Compare what is in a pair with the base's manifest: nothing may be gone beyond the limits."""
    compare_shape(new, base, report)
    compare_counts(new, base, report, limits, trash_is_proven)


def compare_shape(new: Mapping[str, Any], base: Mapping[str, Any], report: Report) -> None:
    """Schema, counters and sections: whether this can be a descendant of the base at all."""
    _compare_schema(new, base, report)
    _compare_counters(new, base, report)
    _kept_sections(new, base, report)


def compare_counts(
    new: Mapping[str, Any], base: Mapping[str, Any], report: Report, limits: Limits, trash_is_proven: bool = False
) -> None:
    """Numbers of items, files and what people did, where only the base's manifest is at hand."""
    for section in _kept_sections(new, base, Report()):
        key, title = str(section["id"]), section["title"]
        for kind, live in base["counts"].get(key, {}).items():
            if int(kind) in _REMADE_TYPES:
                continue
            total = live + base.get("trashed", {}).get(key, {}).get(kind, 0)
            new_live = new["counts"].get(key, {}).get(kind, 0)
            new_total = new_live + new.get("trashed", {}).get(key, {}).get(kind, 0)
            what = f"{type_words(int(kind))} in section {title!r}"
            if total - new_total > limits.gone(total):
                report.refuse(
                    "items_gone",
                    f"Expected at least {total} {what}, found {new_total}: {total - new_total} are gone.",
                    section["id"],
                    total - new_total,
                )
            elif not trash_is_proven and live - new_live > live * limits.trashed_percent / 100:
                report.refuse(
                    "items_trashed",
                    f"Expected about {live} {what} outside the trash, found {new_live}, and no listing of the remote "
                    "proves that the files are gone.",
                    section["id"],
                    live - new_live,
                )
        parts = base["parts"].get(key, {"total": 0})["total"]
        new_parts = new["parts"].get(key, {"total": 0})["total"]
        if parts - new_parts > limits.gone(parts):
            report.refuse(
                "parts_gone",
                f"Expected at least {parts} files in section {title!r}, found {new_parts}.",
                section["id"],
                parts - new_parts,
            )
    for what, count in base["watch"].items():
        found = new["watch"].get(what, 0)
        if count - found > limits.user_data_gone:
            report.refuse(
                "watch_fewer",
                f"Expected at least {count} rows of {what}, found {found}: what people did would be lost.",
                None,
                count - found,
            )


def compare_sizes(new: Mapping[str, Any], base: Mapping[str, Any], report: Report, limits: Limits) -> None:
    """Sizes that cannot be right, from the two manifests."""
    for name in NAMES:
        before, now = base["files"][name]["size"], new["files"][name]["size"]
        if now < before * (1 - limits.size_percent / 100):
            report.refuse(
                "size", f"{name} went out with {before} bytes and comes back with {now}: too small to be whole."
            )
        elif now > max(before, GROWTH_FLOOR_BYTES) * limits.growth_factor:
            report.refuse(
                "size",
                f"{name} went out with {before} bytes and comes back with {now}: absurdly large, more than "
                f"{limits.growth_factor:g} times as much.",
            )


def compare_vectors(new: Mapping[str, Any], base: Mapping[str, Any], report: Report, limits: Limits) -> None:
    """Sonic vectors in blobs.db: days of work, and nothing in a run takes them away."""
    before, now = base.get("sonic_blobs", 0), new.get("sonic_blobs", 0)
    if before - now > before * limits.markers_gone_percent / 100:
        report.refuse(
            "sonic_gone", f"{BLOBS} went out with {before} Sonic vectors and comes back with {now}.", None, before - now
        )


def compare_pairs(
    theirs: Path, base: Path, report: Report, limits: Limits, titles: Mapping[int, str], *, trash_is_proven: bool
) -> None:
    """Compare library.db in `theirs` with the one in `base`, row by row. Both pairs are closed.

    :param titles: title by section id, for the sentences.
    :param trash_is_proven: a listing of the remote decides about newly trashed files elsewhere.
    """
    with _both(theirs, base) as library:
        judge = _Judge(library, report, limits, dict(titles))
        judge.items()
        judge.identities()
        if not trash_is_proven:
            judge.trash()
        judge.parts()
        judge.watch()
        judge.locks()
        judge.posters()
        judge.members()
        judge.markers()


class _Judge:
    """The row-by-row comparison: `main` is what comes back, `base` what went out."""

    def __init__(self, library: sqlite3.Connection, report: Report, limits: Limits, titles: dict[int, str]) -> None:
        # The pieces of SQL below are this file's own text; values are always bound.
        self.library = library
        self.report = report
        self.limits = limits
        self.titles = titles
        self.present = tables(library)

    def items(self) -> None:
        """Items of the base that are not there any more under their id."""
        self._run(
            "CREATE TEMP TABLE gone AS SELECT b.id, b.library_section_id AS section, b.metadata_type AS kind, "  # noqa: S608
            f"{_TITLE} AS words FROM base.metadata_items b WHERE +b.deleted_at IS NULL "
            "AND NOT EXISTS (SELECT 1 FROM main.metadata_items t WHERE t.id = b.id)"
        )
        self._run("CREATE INDEX temp.gone_id ON gone(id)")
        totals = self._totals(
            "SELECT library_section_id, metadata_type, COUNT(*) FROM base.metadata_items b "
            "WHERE +b.deleted_at IS NULL GROUP BY 1, 2"
        )
        for section, kind, count in self._rows("SELECT section, kind, COUNT(*) FROM gone GROUP BY 1, 2 ORDER BY 1, 2"):
            if kind in _REMADE_TYPES:
                self.report.warnings.append(
                    f"{count} {type_words(kind)} of {self._section(section)} were made anew; Plex does that whenever "
                    "it refreshes their parents."
                )
                continue
            before = totals[(section, kind)]
            if count <= self.limits.gone(before):
                self.report.warnings.append(
                    f"{count} of {before} {type_words(kind)} of {self._section(section)} are gone, as many as allowed."
                )
                continue
            examples = self._examples(
                "SELECT words FROM gone WHERE section IS ? AND kind IS ? ORDER BY id", (section, kind)
            )
            elsewhere = self._count(
                "SELECT COUNT(*) FROM gone g WHERE g.section IS ? AND g.kind IS ? AND EXISTS ("
                "SELECT 1 FROM base.media_items mi JOIN base.media_parts mp ON mp.media_item_id = mi.id "
                "JOIN main.media_parts p ON p.file = mp.file JOIN main.media_items m ON m.id = p.media_item_id "
                "JOIN main.metadata_items t ON t.id = m.metadata_item_id "
                "WHERE mi.metadata_item_id = g.id AND mp.file != '')",
                (section, kind),
            )
            words = f" ({elsewhere} of them have another id now, ids never change)" if elsewhere else ""
            self.report.refuse(
                "items_gone",
                f"{count} of {before} {type_words(kind)} of {self._section(section)} are gone{words}: "
                f"{_list(examples, count)}.",
                section,
                count,
                examples,
            )

    def identities(self) -> None:
        """Ids that mean another item now. Never allowed: playlists, histories and settings hang on them."""
        where = (
            "FROM base.metadata_items b JOIN main.metadata_items t ON t.id = b.id "
            "WHERE t.library_section_id IS NOT b.library_section_id OR t.metadata_type IS NOT b.metadata_type"
        )
        count = self._count(f"SELECT COUNT(*) {where}")
        if count:
            examples = self._examples(f"SELECT {_TITLE} {where} ORDER BY b.id")
            self.report.refuse(
                "ids_changed",
                f"{count} item ids now belong to another section or type: {_list(examples, count)}. Ids never change.",
                None,
                count,
                examples,
            )

    def trash(self) -> None:
        """Items newly in the trash, where nothing proves that their files are gone."""
        where = (
            "FROM base.metadata_items b JOIN main.metadata_items t ON t.id = b.id "
            "WHERE +b.deleted_at IS NULL AND +t.deleted_at IS NOT NULL"
        )
        totals = self._totals(
            "SELECT library_section_id, metadata_type, COUNT(*) FROM base.metadata_items b "
            "WHERE +b.deleted_at IS NULL GROUP BY 1, 2"
        )
        for section, kind, count in self._rows(
            f"SELECT b.library_section_id, b.metadata_type, COUNT(*) {where} GROUP BY 1, 2 ORDER BY 1, 2"
        ):
            before = totals[(section, kind)]
            if count <= before * self.limits.trashed_percent / 100 or kind in _REMADE_TYPES:
                continue
            examples = self._examples(
                f"SELECT {_TITLE} {where} AND b.library_section_id IS ? AND b.metadata_type IS ? ORDER BY b.id",
                (section, kind),
            )
            self.report.refuse(
                "items_trashed",
                f"{count} of {before} {type_words(kind)} of {self._section(section)} are newly in the trash, and no "
                f"listing of the remote proves that the files are gone: {_list(examples, count)}.",
                section,
                count,
                examples,
            )

    def parts(self) -> None:
        """Files of the base that no part names any more, neither under its id nor under another."""
        where = (
            "FROM base.media_parts b JOIN base.media_items bi ON bi.id = b.media_item_id "
            "WHERE +b.deleted_at IS NULL AND b.file != '' AND instr(b.file, '://') = 0 "
            "AND NOT EXISTS (SELECT 1 FROM main.media_parts p WHERE p.id = b.id) "
            "AND NOT EXISTS (SELECT 1 FROM main.media_parts p WHERE p.file = b.file)"
        )
        for section, count in self._rows(f"SELECT bi.library_section_id, COUNT(*) {where} GROUP BY 1 ORDER BY 1"):
            before = self._count(
                "SELECT COUNT(*) FROM base.media_parts b JOIN base.media_items bi ON bi.id = b.media_item_id "
                "WHERE +b.deleted_at IS NULL AND bi.library_section_id IS ?",
                (section,),
            )
            if count <= self.limits.gone(before):
                continue
            examples = self._examples(f"SELECT b.file {where} AND bi.library_section_id IS ? ORDER BY b.id", (section,))
            self.report.refuse(
                "parts_gone",
                f"{count} of {before} files of {self._section(section)} are gone from the database: "
                f"{_list(examples, count)}.",
                section,
                count,
                examples,
            )

    def watch(self) -> None:
        """Views, ratings, resume points and accounts of people."""
        self._people(
            "watch_gone",
            "views, ratings or resume points",
            "COALESCE((SELECT i.title FROM base.metadata_items i WHERE i.guid = b.guid LIMIT 1), b.guid) "
            "|| ' (account ' || b.account_id || ')'",
            "FROM base.metadata_item_settings b WHERE (COALESCE(b.view_count, 0) > 0 OR b.rating IS NOT NULL "
            "OR COALESCE(b.view_offset, 0) > 0) AND NOT EXISTS ("
            "SELECT 1 FROM main.metadata_item_settings t WHERE t.id = b.id AND t.account_id IS b.account_id "
            "AND COALESCE(t.view_count, 0) >= COALESCE(b.view_count, 0) "
            "AND (b.rating IS NULL OR t.rating IS NOT NULL))",
        )
        self._people(
            "watch_gone",
            "entries of the viewing history",
            "COALESCE(b.title, b.guid) || ' (account ' || b.account_id || ')'",
            "FROM base.metadata_item_views b "
            "WHERE NOT EXISTS (SELECT 1 FROM main.metadata_item_views t WHERE t.id = b.id)",
        )
        self._people(
            "watch_gone",
            "accounts",
            "COALESCE(b.name, '') || ' (id ' || b.id || ')'",
            "FROM base.accounts b WHERE NOT EXISTS (SELECT 1 FROM main.accounts t WHERE t.id = b.id)",
        )

    def locks(self) -> None:
        """Fields that somebody edited and Plex may therefore not touch."""
        lost: list[str] = []
        for words, before, now in self._rows(
            f"SELECT {_TITLE}, b.user_fields, t.user_fields FROM base.metadata_items b "  # noqa: S608
            "JOIN main.metadata_items t ON t.id = b.id "
            "WHERE b.user_fields IS NOT NULL AND b.user_fields != '' AND t.user_fields IS NOT b.user_fields "
            "ORDER BY b.id"
        ):
            if locked_fields(before) - locked_fields(now):
                lost.append(str(words))
        if len(lost) > self.limits.user_data_gone:
            self.report.refuse(
                "locks_gone",
                f"{len(lost)} items have lost fields that somebody had edited and locked: {_list(lost, len(lost))}.",
                None,
                len(lost),
                lost,
            )

    def posters(self) -> None:
        """Pictures and themes that somebody uploaded and chose."""
        names = [name for name in _POSTER_COLUMNS if name in columns(self.library, "metadata_items")]
        changed = " OR ".join(f"(b.{name} LIKE 'upload://%' AND t.{name} IS NOT b.{name})" for name in names)
        self._people(
            "posters_gone",
            "uploaded posters",
            _TITLE,
            f"FROM base.metadata_items b JOIN main.metadata_items t ON t.id = b.id WHERE {changed}",
        )

    def members(self) -> None:
        """Members of playlists and of collections."""
        if "play_queue_generators" in self.present:
            self._people(
                "members_gone",
                "members of playlists",
                "COALESCE((SELECT i.title FROM base.metadata_items i WHERE i.id = b.playlist_id), 'a playlist') "
                "|| ' (entry ' || b.id || ')'",
                "FROM base.play_queue_generators b WHERE b.playlist_id > 0 AND NOT EXISTS ("
                "SELECT 1 FROM main.play_queue_generators t WHERE t.id = b.id AND t.playlist_id IS b.playlist_id)",
            )
        self._people(
            "members_gone",
            "members of collections",
            "(SELECT g.tag FROM base.tags g WHERE g.id = b.tag_id) || ': item ' || b.metadata_item_id",
            "FROM base.taggings b WHERE b.tag_id IN (SELECT id FROM base.tags WHERE tag_type = 2) "
            "AND NOT EXISTS (SELECT 1 FROM main.taggings t "
            "WHERE t.metadata_item_id = b.metadata_item_id AND t.tag_id = b.tag_id)",
        )

    def markers(self) -> None:
        """Items that had markers, Sonic data or chapters and have none now, although they are still there."""
        self._analysed(
            "markers (intro, credits)",
            "FROM base.metadata_items b WHERE b.id IN (SELECT metadata_item_id FROM base.taggings WHERE tag_id IN "
            "(SELECT id FROM base.tags WHERE tag_type = 12)) "
            "AND EXISTS (SELECT 1 FROM main.metadata_items t WHERE t.id = b.id)",
            "AND NOT EXISTS (SELECT 1 FROM main.taggings g WHERE g.metadata_item_id = b.id "
            "AND g.tag_id IN (SELECT id FROM main.tags WHERE tag_type = 12))",
        )
        self._analysed(
            "Sonic data",
            "FROM base.metadata_items b JOIN main.metadata_items t ON t.id = b.id "
            f"WHERE b.metadata_type = 10 AND b.extra_data LIKE '{SONIC_MARK}'",
            f"AND (t.extra_data IS NULL OR t.extra_data NOT LIKE '{SONIC_MARK}')",
        )
        self._analysed(
            "chapters",
            "FROM base.media_parts p JOIN base.media_items mi ON mi.id = p.media_item_id "
            "JOIN base.metadata_items b ON b.id = mi.metadata_item_id JOIN main.media_parts t ON t.id = p.id "
            f"WHERE {_HAS_CHAPTERS.format('p.extra_data')}",
            f"AND (t.extra_data IS NULL OR NOT {_HAS_CHAPTERS.format('t.extra_data')})",
        )

    def _analysed(self, what: str, had: str, lost: str) -> None:
        grouped = "b.library_section_id, b.metadata_type"
        totals = self._totals(f"SELECT {grouped}, COUNT(*) {had} GROUP BY 1, 2")
        if not totals:
            return
        for section, kind, count in self._rows(f"SELECT {grouped}, COUNT(*) {had} {lost} GROUP BY 1, 2 ORDER BY 1, 2"):
            before = totals[(section, kind)]
            if count <= before * self.limits.markers_gone_percent / 100:
                continue
            examples = self._examples(
                f"SELECT {_TITLE} {had} {lost} AND b.library_section_id IS ? AND b.metadata_type IS ? ORDER BY b.id",
                (section, kind),
            )
            self.report.refuse(
                "markers_gone",
                f"{count} of {before} {type_words(kind)} of {self._section(section)} have lost their {what}: "
                f"{_list(examples, count)}.",
                section,
                count,
                examples,
            )

    def _people(self, code: str, what: str, words: str, where: str) -> None:
        count = self._count(f"SELECT COUNT(*) {where}")
        if count <= self.limits.user_data_gone:
            return
        examples = self._examples(f"SELECT {words} {where} ORDER BY b.id")
        self.report.refuse(
            code,
            f"{count} {what} are gone, what people did would be lost: {_list(examples, count)}.",
            None,
            count,
            examples,
        )

    def _section(self, section: int | None) -> str:
        return "no section" if section is None else f"section {self.titles.get(section, str(section))!r}"

    def _totals(self, sql: str) -> dict[tuple[Any, Any], int]:
        return {(section, kind): count for section, kind, count in self._rows(sql)}

    def _examples(self, sql: str, values: Sequence[Any] = ()) -> list[str]:
        return [str(row[0]) for row in self._rows(f"{sql} LIMIT {EXAMPLES}", values)]

    def _count(self, sql: str, values: Sequence[Any] = ()) -> int:
        return int(self._rows(sql, values)[0][0])

    def _rows(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return rows(self.library, sql, values)

    def _run(self, sql: str) -> None:
        rows(self.library, sql)


def locked_fields(text: str | None) -> frozenset[str]:
    """The numbers of the locked fields in a `user_fields`; all of the text where it has another shape."""
    if not text:
        return frozenset()
    found = unquote(text).partition("lockedFields=")[2]
    if not found:
        return frozenset([text])
    end = next((place for place, letter in enumerate(found) if letter not in "0123456789|"), len(found))
    return frozenset(number for number in found[:end].split("|") if number)


def type_words(kind: int | None) -> str:
    """The name of the items of a metadata_type, as `tracks`."""
    return TYPE_WORDS.get(kind, f"items of type {kind}") if kind is not None else "items without a type"


def sentences(problems: Iterable[Problem]) -> str:
    """All problems as one text."""
    return " ".join(problem.message for problem in problems)


def _compare_schema(new: Mapping[str, Any], base: Mapping[str, Any], report: Report) -> None:
    # The set of versions, for some are no numbers and the order of text misleads (`500000000001.231`).
    added = sorted(set(new["schema_versions"]) - set(base["schema_versions"]))
    gone = sorted(set(base["schema_versions"]) - set(new["schema_versions"]))
    if added:
        needed = new.get("schema_min_version", "")
        home = base.get("plex_version", "")
        words = ""
        if needed and home and version_number(needed) > version_number(home):
            words = f" It needs Plex {needed} or newer, home runs {home}."
        report.refuse(
            "schema_newer",
            f"The schema is newer than home's Plex can open: versions {shorten(added)} are not in home's database."
            f"{words} The indexer must run exactly home's Plex version.",
            None,
            len(added),
            added,
        )
    if gone:
        report.refuse(
            "schema_older",
            f"The schema is older than home's: versions {shorten(gone)} are missing. This is not a descendant of what "
            "went out.",
            None,
            len(gone),
            gone,
        )


def _compare_counters(new: Mapping[str, Any], base: Mapping[str, Any], report: Report) -> None:
    """AUTOINCREMENT counters and Plex's changed_at only grow: a lower one proves an older database."""
    found = new.get("sequences", {})
    lower = [
        f"{table} {found.get(table, 0)} instead of at least {top}"
        for table, top in sorted(base.get("sequences", {}).items())
        if found.get(table, 0) < top
    ]
    if new.get("changed_at", 0) < base.get("changed_at", 0):
        lower.append(f"changed_at {new.get('changed_at', 0)} instead of at least {base['changed_at']}")
    if lower:
        report.refuse(
            "older",
            "The database is older than what went out, for its counters are lower, and they only grow: "
            f"{shorten(lower)}. It is not what came of this run; collect the result again.",
            None,
            len(lower),
            lower,
        )


def _kept_sections(new: Mapping[str, Any], base: Mapping[str, Any], report: Report) -> list[Mapping[str, Any]]:
    found = {section["id"]: section for section in new["sections"]}
    kept = []
    for section in base["sections"]:
        same = found.get(section["id"])
        if same is None:
            report.refuse("sections_gone", f"Section {section['title']!r} (id {section['id']}) is gone.", section["id"])
        elif (same["uuid"], same["type"]) != (section["uuid"], section["type"]):
            report.refuse(
                "ids_changed",
                f"Section id {section['id']} was {section['title']!r} ({section['type']}, {section['uuid']}) and is "
                f"now {same['title']!r} ({same['type']}, {same['uuid']}): ids never change.",
                section["id"],
            )
        else:
            _compare_folders(section, same, report)
            kept.append(section)
    return kept


def _compare_folders(before: Mapping[str, Any], now: Mapping[str, Any], report: Report) -> None:
    """A folder that was mapped has another name; one that is gone makes Plex at home trash all that lies in it, and
    nothing in a run takes a folder away."""
    absent = [root for root in before.get("locations", ()) if root not in now.get("locations", ())]
    gone = len(before.get("locations", ())) - len(now.get("locations", ()))
    if gone > 0:
        report.refuse(
            "folders_gone",
            f"Section {before['title']!r} went out with {len(before['locations'])} folders and comes back with "
            f"{len(now['locations'])}, without {shorten(absent)}: Plex at home would put all that lies there into the "
            "trash.",
            before["id"],
            gone,
            absent,
        )
    elif absent:
        report.warnings.append(
            f"Section {before['title']!r} names other folders than before: {shorten(absent)} became "
            f"{shorten([root for root in now['locations'] if root not in before['locations']])}. That is so where a "
            "path mapping was accepted."
        )


@contextmanager
def _both(theirs: Path, base: Path) -> Iterator[sqlite3.Connection]:
    with open_closed(theirs / LIBRARY) as library:
        path = (base / LIBRARY).absolute()
        if not path.is_file():
            raise PlexDatabaseError(f"Expected the pair that went out in {base}, found no {LIBRARY} there.")
        rows(library, "ATTACH DATABASE ? AS base", (f"file:{quote(str(path))}?mode=ro&immutable=1",))
        rows(library, "PRAGMA temp_store = MEMORY")
        yield library


def _list(examples: Sequence[str], count: int) -> str:
    shown = ", ".join(examples[:WORDS_EXAMPLES])
    return shown if count <= WORDS_EXAMPLES else f"{shown} and {count - min(WORDS_EXAMPLES, len(examples))} more"
