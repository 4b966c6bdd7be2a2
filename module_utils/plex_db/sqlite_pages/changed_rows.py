"""Which rows may have changed since a snapshot, told by the pages of the file, so that Plex is not kept waiting.

The last merge happens while Plex is down, and its first question is what home did since the snapshot of a moment ago.
To compare every row of half a million items takes a small board a minute. A snapshot by online backup has the same
pages in the same places, so `remember` notes, while Plex still works, the SHA-256 of each stretch of the snapshot and
where the rows lie that go on in overflow pages. `since` then reads the living file once, from the first byte to the
last, and follows each table's tree to the pages that differ: every row on them, or that goes on in them, is in one of
the ranges of ids that it gives.

Why no row is missed: a page that neither tree reaches by the same way from the root is within a range that an interior
page, which must have changed, names; a leaf that both reach by the same way has the same rows if its bytes and those of
its overflow pages are the same. Where anything is not as expected (another schema, another page size, a file that was
rebuilt) the answer is None, and every row is compared.

File format: https://www.sqlite.org/fileformat2.html. Only reads; numbers are big-endian.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import sys
from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ..pair.files import FileOperations
from ..pair.pair import NAMES, require_closed
from ..pair.reader import open_closed, rows
from .pages import HEADER_BYTES, MAGIC, varint

SCHEMA = 1
SUFFIX = "-pages"
STRETCH_BYTES = 64 * 1024
LOWEST, HIGHEST = -(2**63), 2**63 - 1
# Beyond this share of changed pages every row is compared: it was not a moment.
LARGE_SHARE = 0.1
_TABLE_LEAF, _TABLE_INTERIOR = 0x0D, 0x05
_TREE_PAGES = frozenset({_TABLE_LEAF, _TABLE_INTERIOR, 0x0A, 0x02})
_DIGEST = hashlib.sha256().digest_size
_IS_LEAF = 1 << 31
_NUMBER = struct.Struct(">I").unpack_from

Ranges = list[tuple[int, int]]
"""Ascending, disjoint ranges of ids, both ends included."""
Near = Mapping[tuple[str, str], Ranges]
"""(database, table) -> where rows may differ; a table that is missing: anywhere."""


class _Unusable(Exception):
    """The file, or what was noted about it, is not as this needs it; the words say why."""


@dataclass(frozen=True)
class _Shape:
    """What the header of a database says. `usable`: bytes of a page without what is reserved."""

    page_size: int
    usable: int
    pages: int
    first_free: int
    free_count: int

    @classmethod
    def read(cls, stream: BinaryIO) -> _Shape:
        size = os.fstat(stream.fileno()).st_size
        header = os.pread(stream.fileno(), HEADER_BYTES, 0)
        if header[:16] != MAGIC or len(header) < HEADER_BYTES:
            raise _Unusable("it is no database")
        page_size = struct.unpack_from(">H", header, 16)[0]
        page_size = 65536 if page_size == 1 else page_size
        pages = size // page_size
        if struct.unpack_from(">I", header, 52)[0] or pages * page_size != size:
            raise _Unusable("it moves its pages by itself, or ends within one")
        # The first byte of an overflow page is that of a page number, and must not look like the type of a page.
        if pages >= min(_TREE_PAGES) << 24:
            raise _Unusable("it is too large")
        first_free, free_count = struct.unpack_from(">II", header, 32)
        return cls(page_size, page_size - header[20], pages, first_free, free_count)


def remember(directory: Path) -> None:
    """Note for each database of a closed pair what `since` needs, beside it as NAME-pages.

    Some minutes for gigabytes on a small board; memory for four bytes a page.
    """
    require_closed(directory)
    for name in NAMES:
        path = directory / name
        note = path.with_name(name + SUFFIX)
        note.unlink(missing_ok=True)
        try:
            with path.open("rb") as stream:
                _Notes.make(stream).write(note)
        except _Unusable:
            continue


def since(base: Path, databases: Path) -> Near:
    """Where the rows of the closed pair in `databases` may differ from its snapshot in `base`.

    A table that is missing from the answer must be compared row by row: nothing is known of it.
    """
    near: dict[tuple[str, str], Ranges] = {}
    for name in NAMES:
        note = base / (name + SUFFIX)
        if not note.is_file() or not _same_schema(base / name, databases / name):
            continue
        try:
            with (base / name).open("rb") as old, (databases / name).open("rb") as new:
                trees = _Trees(old, new, _Notes.load(note, old))
                found = {(name, table): trees.ranges(root) for table, root in _roots(base / name)}
        except _Unusable:
            continue
        near.update({table: ranges for table, ranges in found.items() if ranges is not None})
    return near


@dataclass
class _Notes:
    """What is remembered of a snapshot.

    :param digests: SHA-256 of each stretch of the file, one after the other.
    :param before: by page number: for an overflow page the page before it, an overflow page or, with the highest bit
        set, the leaf where its row begins; else 0.
    """

    about: dict[str, Any]
    digests: bytes
    before: array[int]

    @classmethod
    def make(cls, stream: BinaryIO) -> _Notes:
        shape = _Shape.read(stream)
        before, digests = array("I", bytes(4 * (shape.pages + 1))), []
        free = _free_pages(stream, shape)
        free.add(2**30 // shape.page_size + 1)  # SQLite's lock bytes: never used
        number = 1
        for stretch in _stretches(stream):
            digests.append(hashlib.sha256(stretch).digest())
            for start in range(0, len(stretch), shape.page_size):
                kind = stretch[start]
                if kind == _TABLE_LEAF:
                    if number not in free:
                        page = bytes(stretch[start : start + shape.page_size])
                        for overflow in _overflow_of(page, shape.usable):
                            _put(before, overflow, number | _IS_LEAF)
                elif kind not in _TREE_PAGES and number != 1 and number not in free:
                    following = int.from_bytes(stretch[start : start + 4], "big")
                    if following:
                        _put(before, following, number)
                number += 1
        return cls(_about(stream, shape), b"".join(digests), before)

    def write(self, path: Path) -> None:
        """One line of JSON, the digests, the page numbers."""
        body = self.digests + self.before.tobytes()
        about = {**self.about, "digests": len(self.digests), "sha256": hashlib.sha256(body).hexdigest()}
        with path.open("wb") as stream:
            path.chmod(0o600)
            stream.write(json.dumps(about).encode() + b"\n" + body)
        FileOperations().sync_file(path)

    @classmethod
    def load(cls, path: Path, stream: BinaryIO) -> _Notes:
        """:raises _Unusable: they are damaged, or of another file than `stream`."""
        head, _, body = path.read_bytes().partition(b"\n")
        try:
            about = json.loads(head)
            digests, expected = int(about.pop("digests")), about.pop("sha256")
        except (ValueError, LookupError, TypeError, AttributeError):
            raise _Unusable("the notes are damaged") from None
        if about != _about(stream, _Shape.read(stream)) or hashlib.sha256(body).hexdigest() != expected:
            raise _Unusable("the notes are of another file, or damaged")
        before = array("I")
        before.frombytes(body[digests:])
        return cls(about, body[:digests], before)

    def leaf_of(self, page: int) -> int:
        """The leaf where the row begins that goes on in this page; 0 for a page that holds no such rest."""
        for _ in range(len(self.before)):
            if page >= len(self.before):
                return 0
            page = self.before[page]
            if page == 0 or page & _IS_LEAF:
                return page & ~_IS_LEAF
        raise _Unusable("overflow pages go in a circle")


class _Trees:
    """The trees of a snapshot and of what became of it, side by side."""

    def __init__(self, old: BinaryIO, new: BinaryIO, notes: _Notes) -> None:
        self._old, self._new = old, new
        self._shape, shape = _Shape.read(old), _Shape.read(new)
        if (shape.page_size, shape.usable) != (self._shape.page_size, self._shape.usable):
            raise _Unusable("the page size was changed")
        if shape.pages < self._shape.pages:
            raise _Unusable("it has become shorter, so it was rebuilt")
        self._changed = self._compare(notes)
        if len(self._changed) > LARGE_SHARE * self._shape.pages:
            raise _Unusable("too much has changed")
        self._touched = self._changed | {notes.leaf_of(page) for page in self._changed}

    def ranges(self, root: int) -> Ranges | None:
        """The ids of a table that may differ; None when its tree is not one of rows with ids."""
        kind, depth, page = 0, -1, root
        while kind != _TABLE_LEAF:
            data, start = self._page(self._old, page)
            kind, depth = data[start], depth + 1
            if kind not in (_TABLE_LEAF, _TABLE_INTERIOR) or depth > 20:
                return None
            if kind == _TABLE_INTERIOR:
                page = _entries(data, start, HIGHEST)[0][0]
        return _joined(self._differing(root, LOWEST, HIGHEST, depth))

    def _differing(self, page: int, low: int, high: int, depth: int) -> Iterator[tuple[int, int]]:
        """Ranges below a page that both trees reach by the same way; it holds the ids from low to high."""
        if depth == 0:
            if page in self._touched:
                yield low, high
            return
        data, start = self._page(self._new, page)
        if depth == 1 and page not in self._changed and self._touched.isdisjoint(_children(data, start)):
            return  # nearly all of them: no key needs to be read
        entries = _entries(data, start, high) if data[start] == _TABLE_INTERIOR else []
        if page in self._changed:
            data, start = self._page(self._old, page)
            if data[start] != _TABLE_INTERIOR or not entries:
                yield low, high
                return
            yield from self._entries_differ(_entries(data, start, high), entries, low, depth)
        else:
            yield from self._below(entries, low, depth)

    def _entries_differ(
        self, old: list[tuple[int, int]], new: list[tuple[int, int]], low: int, depth: int
    ) -> Iterator[tuple[int, int]]:
        """Children that are the same in both are gone into; between them lies what was split or joined."""
        shortest = min(len(old), len(new))
        first = next((place for place in range(shortest) if old[place] != new[place]), shortest)
        rest = next(
            (place for place in range(shortest - first) if old[-1 - place] != new[-1 - place]), shortest - first
        )
        yield from self._below(new[:first], low, depth)
        low = new[first - 1][1] + 1 if first else low
        ends = [entry[1] for entry in (*old[first : len(old) - rest], *new[first : len(new) - rest])]
        if ends:
            yield low, max(ends)
        yield from self._below(new[len(new) - rest :], low, depth)

    def _below(self, entries: Iterable[tuple[int, int]], low: int, depth: int) -> Iterator[tuple[int, int]]:
        for child, high in entries:
            if depth > 1 or child in self._touched:
                yield from self._differing(child, low, high, depth - 1)
            low = high + 1

    def _compare(self, notes: _Notes) -> set[int]:
        """Numbers of the pages that differ, and of those that the snapshot did not have."""
        changed: set[int] = set()
        size, offset = self._shape.page_size, 0
        for place, stretch in enumerate(_stretches(self._new)):
            known = notes.digests[place * _DIGEST : (place + 1) * _DIGEST]
            if hashlib.sha256(stretch).digest() != known:
                old = os.pread(self._old.fileno(), STRETCH_BYTES, offset)
                if known and hashlib.sha256(old).digest() != known:
                    raise _Unusable("the snapshot was changed")
                for start in range(0, len(stretch), size):
                    if stretch[start : start + size] != old[start : start + size]:
                        changed.add((offset + start) // size + 1)
            offset += len(stretch)
        return changed

    def _page(self, stream: BinaryIO, number: int) -> tuple[bytes, int]:
        data = os.pread(stream.fileno(), self._shape.page_size, (number - 1) * self._shape.page_size)
        if number < 1 or len(data) < self._shape.page_size:
            raise _Unusable("a tree leads out of the file")
        return data, HEADER_BYTES if number == 1 else 0


def _entries(data: bytes, start: int, high: int) -> list[tuple[int, int]]:
    """(child, highest id below it) of an interior page whose own highest id is `high`."""
    try:
        keys = [_signed(varint(data, place + 4)[0]) for place in _cells(data, start)]
    except IndexError:
        raise _Unusable("a page is damaged") from None
    keys.append(high)
    return [(child, keys[place]) for place, child in enumerate(_children(data, start))]


def _children(data: bytes, start: int) -> list[int]:
    try:
        children = [_NUMBER(data, place)[0] for place in _cells(data, start)]
    except struct.error:
        raise _Unusable("a page is damaged") from None
    return [*children, _NUMBER(data, start + 8)[0]]


def _cells(data: bytes, start: int) -> tuple[int, ...]:
    try:
        return struct.unpack_from(f">{struct.unpack_from('>H', data, start + 3)[0]}H", data, start + 12)
    except struct.error:
        raise _Unusable("a page is damaged") from None


def _overflow_of(page: bytes, usable: int) -> Iterator[int]:
    """The first overflow pages of the rows of a leaf."""
    limit, least = usable - 35, (usable - 12) * 32 // 255 - 23
    try:
        for cell in struct.unpack_from(f">{struct.unpack_from('>H', page, 3)[0]}H", page, 8):
            if page[cell] < 0x80:
                continue  # 127 bytes at most, less than fits
            size, place = varint(page, cell)
            if size <= limit:
                continue
            while page[place] & 0x80:  # the row's id
                place += 1
            local = least + (size - least) % (usable - 4)
            yield struct.unpack_from(">I", page, place + 1 + (local if local <= limit else least))[0]
    except (struct.error, IndexError):
        raise _Unusable("a page is damaged") from None


def _put(before: array[int], page: int, value: int) -> None:
    if not 0 < page < len(before) or before[page]:
        raise _Unusable("two pages lead to one, or a page leads out of the file")
    before[page] = value


def _free_pages(stream: BinaryIO, shape: _Shape) -> set[int]:
    """The pages of the free list, which still hold what they held."""
    free: set[int] = set()
    trunk = shape.first_free
    while trunk:
        page = os.pread(stream.fileno(), shape.page_size, (trunk - 1) * shape.page_size)
        if trunk in free or len(page) < shape.page_size:
            raise _Unusable("the list of free pages is damaged")
        free.add(trunk)
        trunk, count = struct.unpack_from(">II", page)
        if count > shape.usable // 4 - 2:
            raise _Unusable("the list of free pages is damaged")
        free.update(struct.unpack_from(f">{count}I", page, 8))
    if len(free) != shape.free_count:
        raise _Unusable("the list of free pages is damaged")
    return free


def _stretches(stream: BinaryIO) -> Iterator[memoryview]:
    stream.seek(0)
    while data := stream.read(64 * STRETCH_BYTES):
        view = memoryview(data)
        for start in range(0, len(data), STRETCH_BYTES):
            yield view[start : start + STRETCH_BYTES]


def _about(stream: BinaryIO, shape: _Shape) -> dict[str, Any]:
    status = os.fstat(stream.fileno())
    return {
        "schema": SCHEMA,
        "inode": status.st_ino,
        "size": status.st_size,
        "mtime_ns": status.st_mtime_ns,
        "pages": shape.pages,
        "order": sys.byteorder,
    }


def _roots(path: Path) -> list[tuple[str, int]]:
    with open_closed(path) as connection:
        found = rows(connection, "SELECT name, rootpage FROM sqlite_master WHERE type = 'table' AND rootpage > 0")
    return [(str(name), int(root)) for name, root in found]


def _same_schema(one: Path, other: Path) -> bool:
    found = []
    for path in (one, other):
        with open_closed(path) as connection:
            found.append(
                rows(connection, "SELECT type, name, tbl_name, rootpage, sql FROM sqlite_master ORDER BY 1, 2")
            )
    return found[0] == found[1]


def _signed(number: int) -> int:
    return number - (1 << 64) if number >= 1 << 63 else number


def _joined(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """In order, those that touch as one."""
    joined: Ranges = []
    for low, high in sorted(ranges):
        if joined and low <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(joined[-1][1], high))
        else:
            joined.append((low, high))
    return joined
