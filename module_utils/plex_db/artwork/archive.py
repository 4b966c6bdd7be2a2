"""Pack artwork into parts for the transfer, and read them at the other end.

An archive is a folder: `artwork.json` describes it, the parts are one stream, cut every 8 MB. The stream holds records,
each one line of JSON:

    {"path": "Metadata/Albums/a/b….bundle/…", "size": 1234, "sha256": "…"}   and then that number of bytes
    {"path": "…", "link": "…"}                                               a link inside a bundle
    {"reference": "metadata://…", "row": "metadata_items 7, user_thumb_url", "path": "…"}

The last says that a reference that the run has changed leads to that file, where the archive was packed. Pictures are
packed already, so nothing is compressed. Memory is bounded by a chunk of a file and a list of paths.

Shape of artwork.json: schema, created_at, signature, parts[{name, file, size, sha256}], files, links, bytes,
references, unresolved, skipped, examples{unresolved[], skipped[]}. Sizes are bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from ...text import amount
from ..delta.delta import Files, Kind, Part, missing_parts
from ..errors import PlexDatabaseError
from ..pair.files import CHUNK_BYTES, FileOperations, make_folder, read_json_object, require_space, utc_now
from .layout import Entry, Places, inside, printable, problem_of, walk
from .references import Reference

SCHEMA = 1
DESCRIPTION = "artwork.json"
PARTS = "[0-9]*.artwork"
PART_BYTES = 8 * 1024 * 1024
MAX_LINE = 64 * 1024
EXAMPLES = 5


@dataclass(frozen=True)
class Archive:
    """What artwork.json says. `references` lead to a file where it was packed, `unresolved` to none that was found;
    `skipped` are links that leave their bundle."""

    signature: str
    parts: tuple[Part, ...] = ()
    files: int = 0
    links: int = 0
    bytes: int = 0
    references: int = 0
    unresolved: int = 0
    skipped: int = 0
    examples: Mapping[str, list[str]] = field(default_factory=lambda: {"unresolved": [], "skipped": []})
    created_at: str = field(default_factory=utc_now)

    @property
    def empty(self) -> bool:
        """Return whether there is nothing to install or to check."""
        return not self.files and not self.links and not self.references

    @property
    def words(self) -> str:
        """Return the content as text."""
        return f"{self.files + self.links} files of artwork, {amount(self.bytes)}"


@dataclass(frozen=True)
class Chosen:
    """What is to be packed: `entries` by path, references with the file that each leads to, and what was left out."""

    entries: Mapping[str, Entry]
    references: tuple[tuple[Reference, str], ...] = ()
    unresolved: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of the files."""
        return sum(entry.size for entry in self.entries.values())

    @property
    def signature(self) -> str:
        """The same for the same choice of the same files."""
        digest = hashlib.sha256()
        for entry in self.entries.values():
            digest.update(json.dumps(asdict(entry)).encode())
        for reference, path in self.references:
            digest.update(json.dumps([reference.row, reference.url, path]).encode())
        digest.update(json.dumps([self.unresolved, self.skipped]).encode())
        return digest.hexdigest()


@dataclass(frozen=True)
class Record:
    """One record of the stream: a file, a link (`target`), or a reference (`url` and `row`). `size` in bytes."""

    path: str
    size: int = 0
    sha256: str = ""
    target: str | None = None
    url: str = ""
    row: str = ""


def choose(
    support: Path,
    before: Mapping[str, tuple[int, int]],
    references: Iterable[Reference],
    only: frozenset[str] | None = None,
    uploads: bool = False,
) -> Chosen:
    """What is new in the bundles below `support`, and every file, new or not, that one of the references leads to.

    :param before: {path: (size, mtime_ns)} of what was there before.
    :param only: the hashes of the bundles that are meant; None: all.
    :param uploads: whether what people uploaded is packed as well.
    :raises OSError: a folder cannot be read.
    """
    places = Places(support)
    found, unresolved = [], []
    for reference in references:
        path = places.find(reference.url, reference.hashes)
        if path:
            found.append((reference, path))
        else:
            unresolved.append(f"{reference.url} ({reference.row})")
    needed = {path for _, path in found}
    everything = {entry.path: entry for entry in walk(support, only, uploads)}
    # A link that is needed needs what it leads to, which may be a link again.
    front = list(needed)
    while front:
        entry = everything.get(front.pop())
        led_to = inside(entry.path, entry.target) if entry is not None and entry.target is not None else ""
        if led_to and led_to not in needed:
            needed.add(led_to)
            front.append(led_to)
    entries, skipped = {}, []
    for path, entry in everything.items():
        if path not in needed and before.get(path) == (entry.size, entry.mtime_ns):
            continue
        if entry.target is not None and not inside(path, entry.target):
            skipped.append(f"{path} -> {entry.target}")
        else:
            entries[path] = entry
    return Chosen(entries, tuple(found), tuple(unresolved), tuple(skipped))


def pack(support: Path, folder: Path, chosen: Chosen, part_bytes: int = PART_BYTES) -> Archive:
    """Write the archive to `folder`. What lay there is removed; artwork.json appears last.

    :raises PlexDatabaseError: no space, or a file was changed while it was read.
    """
    make_folder(folder)
    remove(folder)
    require_space(folder, chosen.size, "The new artwork")
    try:
        with _Writer(folder, part_bytes) as writer:
            for reference, path in chosen.references:
                writer.line({"reference": reference.url, "row": reference.row, "path": path})
            for entry in chosen.entries.values():
                if entry.target is not None:
                    writer.line({"path": entry.path, "link": entry.target})
                else:
                    _pack_file(writer, support, entry)
        archive = summed_up(chosen, writer.parts)
        text = json.dumps({"schema": SCHEMA, **asdict(archive)}, separators=(",", ":"))
        FileOperations().write_text(folder / DESCRIPTION, text + "\n")
    except BaseException:  # whatever ends it, nothing half made stays
        remove(folder)
        raise
    return archive


def summed_up(chosen: Chosen, parts: Iterable[Part]) -> Archive:
    """The description of what was chosen."""
    links = sum(1 for entry in chosen.entries.values() if entry.target is not None)
    return Archive(
        signature=chosen.signature,
        parts=tuple(parts),
        files=len(chosen.entries) - links,
        links=links,
        bytes=chosen.size,
        references=len(chosen.references),
        unresolved=len(chosen.unresolved),
        skipped=len(chosen.skipped),
        examples={
            "unresolved": [printable(words) for words in chosen.unresolved[:EXAMPLES]],
            "skipped": [printable(words) for words in chosen.skipped[:EXAMPLES]],
        },
    )


def warnings_of(archive: Archive) -> list[str]:
    """Return warnings about the packed artwork."""
    words = []
    if archive.unresolved:
        words.append(
            f"{archive.unresolved} new or changed references of the library have no file on the indexer, for example "
            f"{archive.examples['unresolved'][0]}. Home may show no artwork there until Plex fetches "
            "it again."
        )
    if archive.skipped:
        words.append(
            f"{archive.skipped} links in bundles lead out of their bundle and were not packed, for example "
            f"{archive.examples['skipped'][0]}."
        )
    return words


def no_space_for(folder: Path, archive: Archive) -> str:
    """Why the parts that are still to come have no room in their folder; empty when they have."""
    try:
        require_space(folder, sum(part.size for part in missing_parts(folder, archive)), "The artwork")
    except PlexDatabaseError as error:
        return str(error)
    return ""


def load(folder: Path) -> Archive:
    """Read artwork.json.

    :raises PlexDatabaseError: missing, damaged, or of a schema this version does not know.
    """
    where = folder / DESCRIPTION
    found = read_json_object(where, "the description of packed artwork")
    if found.pop("schema", None) != SCHEMA:
        raise PlexDatabaseError(f"{where} does not have schema {SCHEMA}. Pack the artwork again.")
    try:
        archive = Archive(**{**found, "parts": tuple(Part(**entry) for entry in found["parts"])})
    except (KeyError, TypeError) as error:
        raise PlexDatabaseError(f"{where} is damaged: {error!r}. Pack the artwork again.") from error
    # Names become paths: only those that `pack` gives.
    if any(part.name != _part_name(number) for number, part in enumerate(archive.parts)):
        raise PlexDatabaseError(f"{where} contains invalid file names. Pack the artwork again.")
    return archive


def is_packed(folder: Path, chosen: Chosen) -> Archive | None:
    """The archive in `folder`, if it is whole and of the same choice."""
    try:
        archive = load(folder)
    except PlexDatabaseError:
        return None
    return archive if archive.signature == chosen.signature and not missing_parts(folder, archive) else None


FILES = Files(DESCRIPTION, PARTS)
remove, is_there = FILES.remove, FILES.is_there

ARCHIVES = Kind(DESCRIPTION, load, remove)
"""For a Carrier."""


def read(
    folder: Path, archive: Archive, uploads: bool = False, verify: bool = True
) -> Iterator[tuple[Record, Iterator[bytes]]]:
    """All records of an archive that has arrived, each with the bytes of its file, in chunks; what is not taken of them
    before the next record is asked for is passed over.

    :param uploads: whether paths of what people uploaded are allowed.
    :param verify: compare all parts with their hashes first; not again where that was done just now.
    :raises PlexDatabaseError: a part is missing or damaged, the stream is not one, or a record names a path that is not
        that of a file in a bundle.
    """
    lacking = missing_parts(folder, archive) if verify else []
    if lacking:
        raise PlexDatabaseError(
            f"{len(lacking)} of {len(archive.parts)} parts of the artwork in {folder} are missing or damaged, "
            f"{lacking[0].name} first. Transfer them again."
        )
    with _Stream([folder / part.name for part in archive.parts]) as stream:
        while line := stream.line():
            record = _record_of(line, uploads)
            data = stream.chunks(record.size)
            yield record, data
            for _ in data:
                pass


class _Stream:
    """The parts as one file."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._paths = iter(paths)
        self._part: BinaryIO | None = None

    def __enter__(self) -> _Stream:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._close()

    def line(self) -> bytes:
        """The next line with its end; nothing at the end of it all."""
        line = b""
        while not line.endswith(b"\n"):
            found = self._take(lambda part: part.readline(MAX_LINE))
            if not found and not line:
                return b""
            line += found
            if not found or len(line) > MAX_LINE:
                raise PlexDatabaseError("The packed artwork contains an invalid record. Pack and transfer it again.")
        return line

    def chunks(self, size: int) -> Iterator[bytes]:
        """The next `size` bytes."""
        while size:
            wanted = min(size, CHUNK_BYTES)
            found = self._take(partial(_read, size=wanted))
            if not found:
                raise PlexDatabaseError("The packed artwork ends in the middle of a file. Pack and transfer it again.")
            size -= len(found)
            yield found

    def _take(self, how: Callable[[BinaryIO], bytes]) -> bytes:
        while True:
            if self._part is None:
                path = next(self._paths, None)
                if path is None:
                    return b""
                self._part = path.open("rb")
            found = how(self._part)
            if found:
                return found
            self._close()

    def _close(self) -> None:
        if self._part is not None:
            self._part.close()
        self._part = None


def _read(part: BinaryIO, size: int) -> bytes:
    return part.read(size)


def _record_of(line: bytes, uploads: bool) -> Record:
    try:
        found = json.loads(line)
        if "reference" in found:
            record = Record(found["path"], url=found["reference"], row=found["row"])
        elif "link" in found:
            record = Record(found["path"], target=found["link"])
        else:
            record = Record(found["path"], size=found["size"], sha256=found["sha256"])
        problem = problem_of(record.path, uploads or bool(record.url))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise PlexDatabaseError(
            f"The packed artwork contains an invalid record ({error!r}). Pack and transfer it again."
        ) from error
    if record.target is not None and not problem and not inside(record.path, record.target):
        problem = f"it leads out of its bundle, to {printable(record.target)}"
    if not isinstance(record.size, int) or record.size < 0:
        problem = f"its size is {record.size!r}"
    if problem:
        raise PlexDatabaseError(
            f"The packed artwork contains the invalid path {printable(record.path)}: {problem}. Nothing was changed. "
            "It was not packed by plexburst; check where it comes from."
        )
    return record


class _Writer:
    """Writes the stream, cut into parts."""

    def __init__(self, folder: Path, part_bytes: int) -> None:
        self.folder, self.part_bytes = folder, part_bytes
        self.parts: list[Part] = []
        self._part: BinaryIO | None = None
        self._hash, self._size = hashlib.sha256(), 0

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._end()

    def line(self, record: Mapping[str, Any]) -> None:
        """A record; text that is not UTF-8 survives as JSON's own escapes."""
        self.write((json.dumps(record, separators=(",", ":")) + "\n").encode("ascii"))

    def write(self, data: bytes) -> None:
        """Bytes, into as many parts as it takes."""
        view = memoryview(data)
        while view:
            if self._part is None:
                path = self.folder / _part_name(len(self.parts))
                self._part = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
            piece = view[: self.part_bytes - self._size]
            self._part.write(piece)
            self._hash.update(piece)
            self._size += len(piece)
            view = view[len(piece) :]
            if self._size >= self.part_bytes:
                self._end()

    def _end(self) -> None:
        if self._part is None:
            return
        self._part.close()
        self.parts.append(Part(_part_name(len(self.parts)), "the bundles", self._size, self._hash.hexdigest()))
        self._part, self._hash, self._size = None, hashlib.sha256(), 0


def _pack_file(writer: _Writer, support: Path, entry: Entry) -> None:
    """The record and the bytes of one file. It is read twice, for its hash stands before its bytes: by it the other end
    knows without writing whether it has the file."""
    with os.fdopen(os.open(support / entry.path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as stream:
        first, size = hashlib.sha256(), 0
        while chunk := stream.read(CHUNK_BYTES):
            first.update(chunk)
            size += len(chunk)
        if size == entry.size:
            writer.line({"path": entry.path, "size": size, "sha256": first.hexdigest()})
            stream.seek(0)
            second, size = hashlib.sha256(), 0
            while size < entry.size and (chunk := stream.read(min(CHUNK_BYTES, entry.size - size))):
                writer.write(chunk)
                second.update(chunk)
                size += len(chunk)
            if size == entry.size and second.digest() == first.digest():
                return
    raise PlexDatabaseError(
        f"{support / printable(entry.path)} was changed while it was packed. Wait until Plex does not work on it, then "
        "try again."
    )


def _part_name(number: int) -> str:
    return f"{number:05d}.artwork"
