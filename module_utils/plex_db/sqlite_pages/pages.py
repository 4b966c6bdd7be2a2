"""The rows of an SQLite file, read page by page, where SQLite itself refuses to go on.

SQLite's shell has `.recover` for this, but Debian's and Ubuntu's are built without the page table it needs: it prints
the beginning of a script and fails ("no such table: sqlite_dbpage"). The file format is public and does not change
(https://www.sqlite.org/fileformat2.html), so its table pages are read here: first those that each table's tree still
leads to, then leaves that no tree leads to any more, which belong to the one table whose columns they fit.

Only reads; numbers are big-endian; a page or a row that makes no sense is counted, never guessed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Union

MAGIC = b"SQLite format 3\x00"
HEADER_BYTES = 100
UTF8 = 1
_TABLE_LEAF, _TABLE_INTERIOR, _INDEX_LEAF, _INDEX_INTERIOR = 0x0D, 0x05, 0x0A, 0x02
_INTEGER_BYTES = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}

Value = Union[None, int, float, str, bytes, "RawText"]


@dataclass(frozen=True)
class RawText:
    """Text that is not UTF-8 (file names of old disks), as its bytes."""

    data: bytes


@dataclass(frozen=True)
class Row:
    """One row as it lies in the file; the column that is the rowid's alias is None there."""

    rowid: int
    values: tuple[Value, ...]


@dataclass
class Damage:
    """What could not be read."""

    pages: list[str] = field(default_factory=list)
    rows: int = 0
    unclaimed_rows: int = 0

    def page(self, number: int, why: str) -> None:
        self.pages.append(f"page {number}: {why}")


class _BadPageError(Exception):
    """A page or a cell that makes no sense; the words say why."""


class PageReader:
    """Reads the table pages of one file, each page at most once."""

    def __init__(self, path: Path, page_size: int = 0) -> None:
        """:param page_size: used where the file's own header is destroyed."""
        self._stream = path.open("rb")
        header = self._stream.read(HEADER_BYTES)
        self.header_is_whole = header[:16] == MAGIC and len(header) == HEADER_BYTES
        size = struct.unpack(">H", header[16:18])[0] if self.header_is_whole else page_size
        self.page_size = 65536 if size == 1 else size
        if self.page_size < 512 or self.page_size & (self.page_size - 1):
            self.page_size = page_size
        self.usable = self.page_size - (header[20] if self.header_is_whole else 0)
        self.is_utf8 = not self.header_is_whole or struct.unpack(">I", header[56:60])[0] in (0, UTF8)
        self._first_free, self._free_count = struct.unpack(">II", header[32:40]) if self.header_is_whole else (0, -1)
        self.pages = path.stat().st_size // self.page_size if self.page_size else 0
        self.damage = Damage()
        self._seen: set[int] = set()

    def close(self) -> None:
        self._stream.close()

    def schema(self) -> list[tuple[str, str, int, str]]:
        """(type, name, root page, SQL) of everything the schema table still holds."""
        found: list[tuple[str, str, int, str]] = []
        for row in self.table(1):
            kind, name, _, root, sql = (*row.values, None, None, None, None, None)[:5]
            if isinstance(kind, str) and isinstance(name, str) and isinstance(root, int):
                found.append((kind, name, root, sql if isinstance(sql, str) else ""))
        return found

    def table(self, root: int) -> Iterator[Row]:
        """The rows of the tree that begins at a page, as far as it can be followed."""
        stack = [root]
        while stack:
            number = stack.pop()
            if number in self._seen:
                self.damage.page(number, "two trees lead to it")
                continue
            try:
                page, start = self._page(number)
                kind = page[start]
                if kind == _TABLE_INTERIOR:
                    children = self._children(page, start)
                    self._seen.add(number)
                    stack.extend(reversed(children))
                    continue
            except _BadPageError as error:
                self.damage.page(number, str(error))
                continue
            if kind != _TABLE_LEAF:
                self.damage.page(number, f"it is no page of a table (type {kind})")
                continue
            self._seen.add(number)
            yield from self._leaf(page, start)

    def unclaimed(self, shapes: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, Row]]:
        """(table, row) of leaves that no tree led to, where all rows of a leaf fit the columns of one table only.

        Call it when all tables were read. Nothing is taken when the list of free pages cannot be followed: then a leaf
        may just as well hold rows that were deleted.

        :param shapes: declared types of the columns by table, `PRIMARY KEY` for the alias of the rowid; the tables
            whose trees were found cut.
        """
        free = self._free_pages()
        if free is None:
            self.damage.page(self._first_free, "the list of free pages is damaged, so no stray page was used")
            return
        for number in range(2, self.pages + 1):
            if number in self._seen or number in free:
                continue
            try:
                page, start = self._page(number)
                if page[start] != _TABLE_LEAF:
                    continue
                rows = list(self._leaf(page, start))
            except _BadPageError:
                continue  # an overflow page, or one of an index: it holds no rows of a table
            fitting = [name for name, types in shapes.items() if rows and all(_fits(row, types) for row in rows)]
            if len(fitting) == 1:
                self._seen.add(number)
                yield from ((fitting[0], row) for row in rows)
            elif rows:
                self.damage.unclaimed_rows += len(rows)

    def _page(self, number: int) -> tuple[bytes, int]:
        if not 1 <= number <= self.pages:
            raise _BadPageError("the file ends before it")
        self._stream.seek((number - 1) * self.page_size)
        page = self._stream.read(self.page_size)
        if len(page) < self.page_size:
            raise _BadPageError("the file ends in it")
        return page, HEADER_BYTES if number == 1 else 0

    def _children(self, page: bytes, start: int) -> list[int]:
        count = struct.unpack_from(">H", page, start + 3)[0]
        if start + 12 + 2 * count > self.usable:
            raise _BadPageError("more cells than fit")
        children = []
        for index in range(count):
            place = struct.unpack_from(">H", page, start + 12 + 2 * index)[0]
            if place + 4 > self.usable:
                raise _BadPageError("a cell lies outside of it")
            children.append(struct.unpack_from(">I", page, place)[0])
        children.append(struct.unpack_from(">I", page, start + 8)[0])
        return children

    def _leaf(self, page: bytes, start: int) -> Iterator[Row]:
        count = struct.unpack_from(">H", page, start + 3)[0]
        if start + 8 + 2 * count > self.usable:
            raise _BadPageError("more cells than fit")
        for index in range(count):
            try:
                place = struct.unpack_from(">H", page, start + 8 + 2 * index)[0]
                yield self._cell(page, place)
            except (_BadPageError, IndexError, struct.error):
                self.damage.rows += 1

    def _cell(self, page: bytes, place: int) -> Row:
        size, place = varint(page, place)
        rowid, place = varint(page, place)
        if rowid >= 1 << 63:
            rowid -= 1 << 64
        limit = self.usable - 35
        if size <= limit:
            payload = page[place : place + size]
        else:
            least = (self.usable - 12) * 32 // 255 - 23
            local = least + (size - least) % (self.usable - 4)
            local = local if local <= limit else least
            payload = page[place : place + local]
            following = struct.unpack_from(">I", page, place + local)[0]
            payload += self._overflow(following, size - local)
        if len(payload) < size:
            raise _BadPageError("a row is cut short")
        return Row(rowid, _record(payload))

    def _overflow(self, number: int, wanted: int) -> bytes:
        pieces = []
        while wanted > 0:
            page, _ = self._page(number)
            piece = page[4 : 4 + min(wanted, self.usable - 4)]
            pieces.append(piece)
            wanted -= len(piece)
            number = struct.unpack_from(">I", page, 0)[0]
        return b"".join(pieces)

    def _free_pages(self) -> set[int] | None:
        """The pages on the free list; None where it cannot be followed to its end."""
        found: set[int] = set()
        trunk = self._first_free
        while trunk:
            if trunk in found:
                return None
            found.add(trunk)
            try:
                page, _ = self._page(trunk)
            except _BadPageError:
                return None
            trunk, count = struct.unpack_from(">II", page, 0)
            if count > self.usable // 4 - 2:
                return None
            found.update(struct.unpack_from(f">{count}I", page, 8))
        return found if len(found) == self._free_count else None


def varint(data: bytes, place: int) -> tuple[int, int]:
    """(number, place after it) of SQLite's variable-length integer."""
    value = 0
    for index in range(8):
        byte = data[place + index]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, place + index + 1
    return value << 8 | data[place + 8], place + 9


def _record(payload: bytes) -> tuple[Value, ...]:
    end, place = varint(payload, 0)
    body = end
    values: list[Value] = []
    while place < end:
        kind, place = varint(payload, place)
        value, length = _value(payload, body, kind)
        values.append(value)
        body += length
    if place != end or body > len(payload):
        raise _BadPageError("a row's header makes no sense")
    return tuple(values)


def _value(payload: bytes, place: int, kind: int) -> tuple[Value, int]:
    if kind < 12:
        return _number(payload, place, kind)
    size = (kind - 12) // 2
    data = payload[place : place + size]
    if kind % 2 == 0:
        return data, size
    try:
        return data.decode("utf-8"), size
    except UnicodeDecodeError:
        return RawText(data), size


def _number(payload: bytes, place: int, kind: int) -> tuple[Value, int]:
    if kind in _INTEGER_BYTES:
        size = _INTEGER_BYTES[kind]
        return int.from_bytes(payload[place : place + size], "big", signed=True), size
    if kind == 7:
        return float(struct.unpack_from(">d", payload, place)[0]), 8
    if kind in (0, 8, 9):
        return (kind - 8 if kind else None), 0
    raise _BadPageError("a value of an unknown kind")


def _fits(row: Row, types: Sequence[str]) -> bool:
    return len(row.values) == len(types) and all(_is_of(value, types[index]) for index, value in enumerate(row.values))


def _is_of(value: Value, declared: str) -> bool:
    """Could a column of this type hold the value? SQLite converts what it can when it stores."""
    if declared == "PRIMARY KEY" or value is None:
        return value is None
    lowered = declared.lower()
    allowed: tuple[type, ...] = (object,)
    if "int" in lowered or lowered == "timestamp":
        allowed = (int,)
    elif "bool" in lowered:
        allowed = (int, str)
    elif "char" in lowered or "text" in lowered:
        allowed = (str, RawText)
    elif "float" in lowered:
        allowed = (int, float)
    return isinstance(value, allowed)
