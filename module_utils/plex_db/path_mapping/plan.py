"""Path mappings in a database: which cells change, and nothing else. Reads only; `mapping_write` writes.

Where Plex keeps paths (public recipes for moving a library, and the schema): section_locations.root_path,
media_parts.file, media_streams.url (`file:///…` of subtitles beside the film, encoded), metadata_items.guid
(`file:///…`, local extras and old agents) with the guids in metadata_item_settings and metadata_item_views by which
watch state follows it, and directories.path. That last one is relative to the section's location in every library
looked at, which no documentation confirms: each row is compared with the files that lie in it, absolute ones are mapped
as they are, and rows that fit neither reading are left alone and counted.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ...text import canonical
from ..errors import PlexDatabaseError
from ..pair.reader import columns, iterate, number, rows, tables
from .mapping import FILE_URL, Mappings, is_below

EXAMPLES = 3
# Columns with a file URL, the ones that hold identities first.
_URL_COLUMNS = (
    ("metadata_items", "guid"),
    ("metadata_item_settings", "guid"),
    ("metadata_item_views", "guid"),
    ("metadata_item_views", "grandparent_guid"),
    ("media_streams", "url"),
)
# Plex's triggers on these need its own tokenizer: only Plex SQLite may write them.
TRIGGER_TABLES = frozenset({"metadata_items", "tags"})


@dataclass(frozen=True)
class Cell:
    """One value that changes: text, or the id of another row."""

    table: str
    column: str
    row: int
    old: Any
    new: Any


@dataclass(frozen=True)
class NewFolder:
    """A row of `directories` that a folder's new place needs."""

    id: int
    section: int
    parent: int | None
    path: str


@dataclass
class Plan:
    """What a mapping changes."""

    cells: list[Cell] = field(default_factory=list)
    folders: list[NewFolder] = field(default_factory=list)
    removed_folders: list[int] = field(default_factory=list)
    used: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    def counts(self) -> dict[str, int]:
        """Changed values by table."""
        found: Counter[str] = Counter(cell.table for cell in self.cells)
        if self.folders:
            found["directories"] += len(self.folders)
        return dict(sorted(found.items()))

    @property
    def needs_plex_sqlite(self) -> bool:
        """Does it write tables whose triggers stock SQLite cannot run?"""
        return any(cell.table in TRIGGER_TABLES for cell in self.cells)


@dataclass(frozen=True)
class _Part:
    id: int
    section: int
    folder: int | None
    old: str
    new: str


def plan(
    library: sqlite3.Connection,
    mappings: Mappings,
    skip: Collection[tuple[str, str, int]] = (),
    stays: bool = True,
) -> Plan:
    """What the mappings change in a library.

    :param skip: cells (table, column, row) to leave out, because the caller handles them.
    :param stays: the mappings are applied to the same library again in the next run, so that must change nothing.
    :raises PlexDatabaseError: two files, or two locations, would have one path; a file would lie outside its section;
        a second run would move something again.
    """
    result = Plan()
    if not mappings:
        return result
    locations = _locations(library, mappings, result, skip)
    parts = _parts(library, mappings, result, skip)
    if stays:
        _refuse_moving_again(mappings, parts, locations)
    _refuse_one_path_for_two(library, mappings, parts)
    _refuse_outside(locations, parts)
    if not skip:
        _Folders(library, mappings, result, locations).plan(parts)
    _urls(library, mappings, result, skip)
    return result


def require_way_back(library: sqlite3.Connection, mappings: Mappings) -> None:
    """Refuse mappings for the indexer alone that cannot be undone exactly: they name whole section folders, or what
    holds them, and no path looks as if it had been mapped already.

    :raises PlexDatabaseError: with the mapping and an example.
    """
    back = mappings.inverse()
    problems: list[str] = []
    for _, section, root in rows(library, "SELECT id, library_section_id, root_path FROM section_locations"):
        problems.extend(
            f"{entry.source!r} is a part of the folder {root!r} of section {section}; map the whole folder"
            for entry in mappings.entries
            if is_below(entry.source, root) and canonical(entry.source) != canonical(root)
        )
        if canonical(back.apply(mappings.apply(root))) != canonical(root):
            problems.append(f"the folder {root!r} of section {section} would come back as another one")
    wrong = [
        file
        for (file,) in iterate(library, "SELECT file FROM media_parts WHERE file != ''")
        if canonical(back.apply(mappings.apply(file))) != canonical(file)
    ]
    if wrong:
        problems.append(f"{len(wrong)} files would come back under another path, for example {wrong[0]!r}")
    if problems:
        raise PlexDatabaseError(
            f"The indexer's path mappings cannot be reverted exactly: {'; '.join(problems)}. Put permanent changes "
            "into plexburst_path_mappings."
        )


def urls(library: sqlite3.Connection) -> Iterator[tuple[str, str, int, str]]:
    """Every file URL as (table, column, row, URL)."""
    present = tables(library)
    for table, column in _URL_COLUMNS:
        if table not in present or column not in columns(library, table):
            continue
        # A range, so that an index on the column serves; a pattern would not, with SQLite's case rules.
        sql = f"SELECT id, {column} FROM {table} WHERE {column} >= ? AND {column} < ?"  # noqa: S608
        for row, url in iterate(library, sql, (FILE_URL, FILE_URL[:-1] + "0")):
            yield table, column, row, url


def _locations(
    library: sqlite3.Connection, mappings: Mappings, result: Plan, skip: Collection[tuple[str, str, int]]
) -> dict[int, list[tuple[str, str]]]:
    """The locations of each section as (old, new)."""
    found: dict[int, list[tuple[str, str]]] = {}
    taken: dict[tuple[int, str], str] = {}
    for row, section, old in rows(
        library, "SELECT id, library_section_id, root_path FROM section_locations ORDER BY id"
    ):
        new = mappings.apply(old)
        found.setdefault(section, []).append((old, new))
        clash = taken.setdefault((section, canonical(new)), old)
        if canonical(clash) != canonical(old):
            raise PlexDatabaseError(
                f"The folders {clash!r} and {old!r} of section {section} would both be {new!r}. Remove one of them "
                "from the section in Plex first, or map them to different folders."
            )
        if new != old and ("section_locations", "root_path", row) not in skip:
            result.cells.append(Cell("section_locations", "root_path", row, old, new))
    return found


def _parts(
    library: sqlite3.Connection, mappings: Mappings, result: Plan, skip: Collection[tuple[str, str, int]]
) -> list[_Part]:
    """The parts whose path changes."""
    found: list[_Part] = []
    sql = (
        "SELECT mp.id, mi.library_section_id, mp.directory_id, mp.file FROM media_parts mp "
        "LEFT JOIN media_items mi ON mi.id = mp.media_item_id WHERE mp.file != ''"
    )
    for row, section, folder, old in iterate(library, sql):
        matched = mappings.match(old)
        if matched is None or matched[0].keeps:
            continue
        new = matched[0].target + matched[1]
        result.used[matched[0].source] += 1
        if new == old or ("media_parts", "file", row) in skip:
            continue
        found.append(_Part(row, section, folder, old, new))
        result.cells.append(Cell("media_parts", "file", row, old, new))
    return found


def _refuse_moving_again(
    mappings: Mappings, parts: list[_Part], locations: Mapping[int, list[tuple[str, str]]]
) -> None:
    paths = [(part.old, part.new) for part in parts]
    paths += [pair for pairs in locations.values() for pair in pairs if pair[0] != pair[1]]
    again = [(old, new) for old, new in paths if mappings.moves_again(new)]
    if again:
        old, new = again[0]
        raise PlexDatabaseError(
            f"These path mappings cannot stay in the settings: {old!r} becomes {new!r}, which another of them would "
            f"move to {mappings.apply(new)!r} in the next run ({len(again)} paths). Give one of them a run of its own, "
            "then take it out again."
        )


def _refuse_one_path_for_two(library: sqlite3.Connection, mappings: Mappings, parts: list[_Part]) -> None:
    """Two episodes of one file share its path and go on sharing it; two files never come to share one."""
    wanted: dict[str, str] = {}
    clashes: list[tuple[str, str, str]] = []
    for part in parts:
        before = wanted.setdefault(canonical(part.new), part.old)
        if canonical(before) != canonical(part.old):
            clashes.append((before, part.old, part.new))
    moved = {part.id for part in parts}
    if wanted:
        for row, file in iterate(library, "SELECT id, file FROM media_parts WHERE file != ''"):
            after = canonical(mappings.apply(file)) if row not in moved else ""
            if after in wanted and canonical(file) != canonical(wanted[after]):
                clashes.append((wanted[after], file, file))
    if clashes:
        examples = "; ".join(f"{first!r} and {second!r} → {path!r}" for first, second, path in clashes[:EXAMPLES])
        raise PlexDatabaseError(
            f"{len(clashes)} files would get the path of another file of the library: {examples}. Plex knows the new "
            "path already, or two folders are mapped to one. Remove that mapping and empty the trash at home, or map "
            "the folders to different paths."
        )


def _refuse_outside(locations: Mapping[int, list[tuple[str, str]]], parts: list[_Part]) -> None:
    outside: list[_Part] = []
    for part in parts:
        own = locations.get(part.section, [])
        if any(is_below(part.old, old) for old, _ in own) and not any(is_below(part.new, new) for _, new in own):
            outside.append(part)
    if outside:
        first = outside[0]
        folders = ", ".join(repr(new) for _, new in locations[first.section])
        raise PlexDatabaseError(
            f"{len(outside)} files would leave their section, for example {first.old!r} → {first.new!r}; section "
            f"{first.section} has {folders}. A scan would move them to the trash. Add that folder to the section in "
            "Plex first, or remove the mapping."
        )


def _urls(
    library: sqlite3.Connection, mappings: Mappings, result: Plan, skip: Collection[tuple[str, str, int]]
) -> None:
    guids: dict[str, str] = {}
    for table, column, row, old in urls(library):
        new = mappings.apply_url(old)
        if new == old or (table, column, row) in skip:
            continue
        result.cells.append(Cell(table, column, row, old, new))
        if (table, column) == ("metadata_items", "guid"):
            guids[old] = new
    if guids:
        result.notes.append(f"{len(guids)} items have a path as guid; their plays and ratings are changed with it.")


class _Folders:
    """Rows of `directories` for the files that move below a location."""

    def __init__(
        self,
        library: sqlite3.Connection,
        mappings: Mappings,
        result: Plan,
        locations: Mapping[int, list[tuple[str, str]]],
    ) -> None:
        self.library = library
        self.mappings = mappings
        self.result = result
        self.locations = locations

    def plan(self, parts: list[_Part]) -> None:
        """Rename, re-parent, add; then point the parts to where they lie."""
        if "directories" not in tables(self.library):
            return
        by_section: dict[int, list[_Part]] = {}
        for part in parts:
            if part.folder is not None and self._inside(part):
                by_section.setdefault(part.section, []).append(part)
        if not by_section:
            return
        self.next_id = self._first_free()
        for section, moved in by_section.items():
            self._section(section, moved)

    def _inside(self, part: _Part) -> bool:
        """Does the part's place relative to its location change?"""
        before, after = self._split(part.section, part.old, 0), self._split(part.section, part.new, 1)
        return before is None or after is None or canonical(before[1]) != canonical(after[1]) or before[0] != after[0]

    def _split(self, section: int, path: str, side: int) -> tuple[int, str] | None:
        """(number of the location, path below it); side 0: before, 1: after the mappings."""
        best: tuple[int, int, str] | None = None
        for index, pair in enumerate(self.locations.get(section, [])):
            root = pair[side]
            if is_below(path, root):
                depth = root.rstrip("/").count("/")
                below = path.split("/", depth + 1)
                if best is None or depth > best[0]:
                    best = (depth, index, below[depth + 1] if len(below) > depth + 1 else "")
        return None if best is None else (best[1], best[2])

    def _section(self, section: int, moved: list[_Part]) -> None:
        self.rows: dict[int, tuple[int | None, str]] = {
            row: (parent, path)
            for row, parent, path in rows(
                self.library,
                "SELECT id, parent_directory_id, path FROM directories WHERE library_section_id = ?",
                (section,),
            )
        }
        if any(path.startswith("/") for _, path in self.rows.values() if path):
            self._absolute()
            return
        roots = self._roots(section)
        if roots is None:
            self.result.notes.append(
                f"The folders of section {section} are kept in a way that plexburst does not know; their rows were "
                "left alone, and Plex will look into the moved folders once."
            )
            return
        self._relative(section, moved, roots)

    def _absolute(self) -> None:
        for row, (_, path) in self.rows.items():
            new = self.mappings.apply(path)
            if new != path:
                self.result.cells.append(Cell("directories", "path", row, path, new))

    def _roots(self, section: int) -> dict[int, int] | None:
        """Number of the location by the row of its root folder; None when the rows contradict the files."""
        found: dict[int, int] = {}
        sql = (
            "SELECT mp.directory_id, mp.file FROM media_parts mp JOIN media_items mi ON mi.id = mp.media_item_id "
            "WHERE mi.library_section_id = ? AND mp.directory_id IS NOT NULL AND mp.file != ''"
        )
        for folder, file in iterate(self.library, sql, (section,)):
            place = self._split(section, file, 0)
            if place is None or folder not in self.rows:
                continue
            if canonical(_parent(place[1])) != canonical(self.rows[folder][1]):
                return None
            top = self._top(folder)
            if found.setdefault(top, place[0]) != place[0]:
                return None
        return found

    def _top(self, folder: int) -> int:
        seen: set[int] = set()
        while folder not in seen:
            seen.add(folder)
            parent = self.rows[folder][0]
            if parent is None or parent not in self.rows:
                break
            folder = parent
        return folder

    def _relative(self, section: int, moved: list[_Part], roots: Mapping[int, int]) -> None:
        root_of = {location: row for row, location in roots.items()}
        old_key: dict[int, tuple[int, str]] = {}
        for row, (_, path) in self.rows.items():
            location = roots.get(self._top(row))
            if location is not None:
                old_key[row] = (location, path)
        new_key = {row: self._moved_key(section, key) for row, key in old_key.items()}
        taken: dict[tuple[int, str], int] = {}
        for row in sorted(old_key):  # folders that stay keep their rows, whatever comes to them
            if new_key[row] == old_key[row]:
                taken.setdefault(_form(old_key[row]), row)
        renamed = self._renamed(old_key, new_key, taken)
        for row, target in sorted(renamed.items(), key=lambda item: item[1][1].count("/")):
            self._rename(section, row, target, taken, root_of)
        for part in moved:
            place = self._split(section, part.new, 1)
            if place is None:
                continue
            folder = self._folder(section, (place[0], _parent(place[1])), taken, root_of)
            if folder is not None and folder != part.folder:
                self.result.cells.append(Cell("media_parts", "directory_id", part.id, part.folder, folder))

    @staticmethod
    def _renamed(
        old_key: Mapping[int, tuple[int, str]],
        new_key: Mapping[int, tuple[int, str] | None],
        taken: dict[tuple[int, str], int],
    ) -> dict[int, tuple[int, str]]:
        """Rows that become the row of their folder's new place, unless there is one; `taken` learns of them."""
        renamed: dict[int, tuple[int, str]] = {}
        for row in sorted(old_key):
            target = new_key[row]
            if target is not None and target != old_key[row] and _form(target) not in taken:
                taken[_form(target)] = row
                renamed[row] = target
        return renamed

    def _rename(
        self,
        section: int,
        row: int,
        target: tuple[int, str],
        taken: dict[tuple[int, str], int],
        root_of: Mapping[int, int],
    ) -> None:
        parent, path = self.rows[row]
        if target[1] != path:
            self.result.cells.append(Cell("directories", "path", row, path, target[1]))
        above = self._folder(section, (target[0], _parent(target[1])), taken, root_of) if target[1] else None
        if above is not None and above != parent:
            self.result.cells.append(Cell("directories", "parent_directory_id", row, parent, above))

    def _moved_key(self, section: int, key: tuple[int, str]) -> tuple[int, str] | None:
        """Where a folder lies after the mappings; None: outside the section."""
        if not key[1]:
            return key  # a location's own row stays its row
        root = self.locations[section][key[0]][0]
        return self._split(section, self.mappings.apply(f"{root.rstrip('/')}/{key[1]}"), 1)

    def _folder(
        self, section: int, key: tuple[int, str], taken: dict[tuple[int, str], int], root_of: Mapping[int, int]
    ) -> int | None:
        """The row of a folder, made with the rows above it when there is none."""
        known = taken.get(_form(key))
        if known is not None:
            return known
        if not key[1]:
            return root_of.get(key[0])
        parent = self._folder(section, (key[0], _parent(key[1])), taken, root_of)
        if parent is None:
            return None
        row = self.next_id
        self.next_id += 1
        self.result.folders.append(NewFolder(row, section, parent, key[1]))
        taken[_form(key)] = row
        return row

    def _first_free(self) -> int:
        highest = number(self.library, "SELECT COALESCE(MAX(id), 0) FROM directories")
        kept = rows(self.library, "SELECT seq FROM sqlite_sequence WHERE name = 'directories'")
        return max([highest, *(int(row[0]) for row in kept)]) + 1


def _parent(path: str) -> str:
    return path.rpartition("/")[0]


def _form(key: tuple[int, str]) -> tuple[int, str]:
    return key[0], canonical(key[1])
