"""Create the delta between two pairs as a folder of parts, and apply it.

The folder has a description, `delta.json`, and parts with the changed pages. Each part has its own size and SHA-256, so
an interrupted transfer continues with the missing parts. Base and result are identified by sizes and SHA-256; a delta
for another base is refused. A delta without a base contains the whole pair, with the same parts and checks.

Both files are read once, from start to end in windows; memory is limited to a window and a part.

Shape of delta.json: schema, created_at, manifest{…the result's manifest}, parts[{name, file, size, sha256}] in the
order in which they are applied, files{name: {base: {size, sha256} or null, result: {size, sha256}, block,
changed_bytes}}. Sizes are bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from ...text import amount
from ..errors import PlexDatabaseError
from ..pair import manifest as manifests
from ..pair.files import FileOperations, make_folder, read_json_object, require_space, sha256_of, utc_now
from ..pair.pair import MANIFEST, NAMES, forget_side_files, require_closed
from .codec import Run, Writer, block_size, blocks_of_group, changed_blocks, read_records

SCHEMA = 1
DESCRIPTION = "delta.json"
PARTS = "[0-9]*-com.plexapp.plugins.library*.db"
"""Pattern of the parts' names, for finding them without a description."""
WINDOW_BYTES = 4 * 1024 * 1024
PART_BYTES = 8 * 1024 * 1024
"""Approximate size of a part in bytes: some seconds on a home connection, so a lost connection costs little."""
LEVEL_OF_CHANGES, LEVEL_OF_ALL = 9, 6
"""zlib's levels: the highest for few changes; a fast one for a whole pair of gigabytes, which is paid time."""


class WrongBase(PlexDatabaseError):
    """The delta belongs to another base than the local one; the whole pair must be transferred."""


@dataclass(frozen=True)
class Part:
    """A part of the delta: its database, and its expected size (bytes) and SHA-256."""

    name: str
    file: str
    size: int
    sha256: str


class Parts(Protocol):
    """A folder that is transferred in parts: a delta or artwork."""

    @property
    def parts(self) -> tuple[Part, ...]: ...


@dataclass(frozen=True)
class Kind:
    """A kind of folder that travels in parts: what its description is called, how it is read, and how what does not
    belong to `keep` is removed from such a folder."""

    description: str
    load: Callable[[Path], Parts]
    remove: Callable[[Path, Any], bool]


@dataclass(frozen=True)
class Files:
    """What the files of an archive are called: its description, and its parts as a pattern."""

    description: str
    parts: str

    def remove(self, folder: Path, keep: Parts | None = None) -> bool:
        """Remove the description and parts from a folder, except `keep`; returns whether there were any."""
        names = set() if keep is None else {self.description, *(part.name for part in keep.parts)}
        found = [path for path in self._in(folder) if path.name not in names]
        for path in found:
            path.unlink()
        return bool(found)

    def is_there(self, folder: Path) -> bool:
        """Return whether there is a description or a part to remove."""
        return bool(self._in(folder))

    def _in(self, folder: Path) -> list[Path]:
        return [path for path in (folder / self.description, *folder.glob(self.parts)) if path.is_file()]


@dataclass(frozen=True)
class FileDelta:
    """One database: the base (None: there is none) and the result, each {size, sha256}; block and changed_bytes in
    bytes."""

    base: Mapping[str, Any] | None
    result: Mapping[str, Any]
    block: int
    changed_bytes: int


@dataclass(frozen=True)
class Delta:
    """The content of delta.json."""

    manifest: Mapping[str, Any]
    files: Mapping[str, FileDelta]
    parts: tuple[Part, ...] = ()
    created_at: str = field(default_factory=utc_now)

    @property
    def size(self) -> int:
        """Return the size of all parts in bytes."""
        return sum(part.size for part in self.parts)

    @property
    def changed_bytes(self) -> int:
        """Return the size of the changed blocks in bytes."""
        return sum(file_delta.changed_bytes for file_delta in self.files.values())

    @property
    def whole(self) -> bool:
        """Return whether it contains the whole pair and needs no base."""
        return all(file_delta.base is None for file_delta in self.files.values())

    def base_is(self, expected: Mapping[str, Any]) -> bool:
        """Whether it belongs to the base whose manifest's `files` are given: {name: {size, sha256}}."""
        return all(file_delta.base == _entry(expected.get(name)) for name, file_delta in self.files.items())

    def to_json(self) -> str:
        """Return the text of delta.json."""
        return json.dumps({"schema": SCHEMA, **asdict(self)}, separators=(",", ":")) + "\n"


def load(folder: Path) -> Delta:
    """Read delta.json.

    :raises PlexDatabaseError: the file is missing, damaged, or has an unknown schema.
    """
    return _delta_of(read_json_object(folder / DESCRIPTION, "the description of a delta"), str(folder / DESCRIPTION))


def parse(text: bytes, where: str) -> Delta:
    """Read the text of a delta.json; `where` is what errors call it.

    :raises PlexDatabaseError: damaged, or of a schema this version does not know.
    """
    try:
        found = json.loads(text)
    except ValueError as error:
        raise PlexDatabaseError(f"{where} is damaged: {error}. Create the delta again.") from error
    if not isinstance(found, dict):
        raise PlexDatabaseError(f"Expected {where} to be a JSON object, found {type(found).__name__}.")
    return _delta_of(found, where)


def _delta_of(found: Mapping[str, Any], where: str) -> Delta:
    if found.get("schema") != SCHEMA:
        raise PlexDatabaseError(
            f"{where} has schema {found.get('schema')!r}, but this plexburst reads {SCHEMA}. Create the delta again."
        )
    try:
        delta = Delta(
            manifest=found["manifest"],
            files={name: FileDelta(**entry) for name, entry in found["files"].items()},
            parts=tuple(Part(**entry) for entry in found["parts"]),
            created_at=found["created_at"],
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise PlexDatabaseError(f"{where} is damaged: {error!r}. Create the delta again.") from error
    # Names become paths: only those that `make` gives.
    if set(delta.files) != set(NAMES) or any(
        part.file not in NAMES or part.name != _part_name(number, part.file) for number, part in enumerate(delta.parts)
    ):
        raise PlexDatabaseError(f"{where} contains invalid file names. Create the delta again.")
    return delta


def missing_parts(folder: Path, delta: Parts) -> list[Part]:
    """Return the parts that are missing in `folder` or damaged."""
    return [part for part in delta.parts if not is_good(folder, part)]


def is_good(folder: Path, part: Part) -> bool:
    """Return whether the part exists with its size and hash."""
    path = folder / part.name
    return path.is_file() and path.stat().st_size == part.size and sha256_of(path) == part.sha256


def make(result: Path, folder: Path, base: Path | None = None, part_bytes: int = PART_BYTES) -> Delta:
    """Write the delta between the closed pair in `base` and the snapshot in `result` to `folder`.

    Without a base it contains the whole pair. An earlier delta in the folder is removed; delta.json is written last.
    The disk space is checked for the worst case, where the delta is slightly larger than the result.

    :raises PlexDatabaseError: a pair is missing or not closed, no space, or the result is not what its manifest says.
    """
    require_closed(result)
    if base is not None:
        require_closed(base)
    manifest = manifests.load(result / MANIFEST)
    make_folder(folder)
    remove(folder)
    files: dict[str, FileDelta] = {}
    parts: list[Part] = []
    try:
        for name in NAMES:
            old = None if base is None else base / name
            maker = _Maker(name, old, result / name, folder, part_bytes=part_bytes, first=len(parts))
            files[name] = maker.run()
            parts += maker.parts
            _require_same(files[name], manifest["files"].get(name), result / name)
        delta = Delta(manifest=manifest, files=files, parts=tuple(parts))
        FileOperations().write_text(folder / DESCRIPTION, delta.to_json())
    except BaseException:  # remove the incomplete delta after any error
        remove(folder)
        raise
    return delta


def apply(folder: Path, destination: Path, base: Path | None = None) -> Delta:
    """Create the result's pair and manifest in `destination` from the delta in `folder` and the pair in `base`.

    Each part is checked before it is used, base and result as they are read and written. The files appear under their
    names only when both are whole and on disk; until then they lie beside as `.NAME.partial`.

    :raises WrongBase: the base is not the one the delta was made for.
    :raises PlexDatabaseError: no space, a part is missing or damaged, or the result is not what it should be.
    """
    delta = load(folder)
    if base is None and not delta.whole:
        raise WrongBase("The delta contains only changes, but there is no base. Transfer the whole pair.")
    make_folder(destination)
    require_space(
        destination, sum(int(file_delta.result["size"]) for file_delta in delta.files.values()), f"The pair of {folder}"
    )
    operations = FileOperations()
    partial = {name: destination / f".{name}.partial" for name in NAMES}
    try:
        for name, path in partial.items():
            _apply_one(delta, name, folder, None if base is None else base / name, path)
            operations.sync_file(path)
        forget_side_files(destination)
        for name, path in partial.items():
            operations.replace(path, destination / name)
    finally:
        for path in partial.values():
            path.unlink(missing_ok=True)
    operations.write_text(destination / MANIFEST, json.dumps(delta.manifest, indent=1) + "\n")
    return delta


def is_applied(delta: Delta, destination: Path) -> bool:
    """Whether `destination` already holds the closed result of the delta."""
    try:
        require_closed(destination)
        manifest = manifests.load(destination / MANIFEST)
    except PlexDatabaseError:
        return False
    return manifest == delta.manifest and all(
        _entry_of_file(destination / name) == file_delta.result for name, file_delta in delta.files.items()
    )


def is_made(folder: Path, base: Mapping[str, Any] | None, result: Mapping[str, Any]) -> Delta | None:
    """The delta in `folder` if it is whole and leads from `base` to `result` (the `files` of their manifests)."""
    try:
        delta = load(folder)
    except PlexDatabaseError:
        return None
    leads = all(file_delta.result == _entry(result.get(name)) for name, file_delta in delta.files.items())
    begins = delta.whole if base is None else delta.base_is(base)
    return delta if leads and begins and not missing_parts(folder, delta) else None


FILES = Files(DESCRIPTION, PARTS)
remove, is_there = FILES.remove, FILES.is_there


def base_of(folder: Path) -> dict[str, Any] | None:
    """The `files` of the manifest of the pair in `folder`, if a pair of those sizes is there; hashes are checked when
    it is used."""
    try:
        require_closed(folder)
        files: dict[str, Any] = manifests.load(folder / MANIFEST)["files"]
    except PlexDatabaseError:
        return None
    for name in NAMES:
        entry = files.get(name)
        if entry is None or entry["size"] != (folder / name).stat().st_size:
            return None
    return files


def words(delta: Delta) -> str:
    """Return the size of the transfer as text."""
    result = amount(sum(int(file_delta.result["size"]) for file_delta in delta.files.values()))
    if delta.whole:
        return f"the whole pair, {amount(delta.size)} for {result}"
    return f"the delta, {amount(delta.size)} for {amount(delta.changed_bytes)} changed of {result}"


def _require_same(made: FileDelta, expected: Mapping[str, Any] | None, path: Path) -> None:
    if made.result != _entry(expected):
        raise PlexDatabaseError(
            f"{path} does not match its manifest, so it was changed after the snapshot. Take the snapshot again."
        )


class _Maker:
    """Reads base and result side by side and writes the parts of one database."""

    def __init__(
        self, name: str, base: Path | None, result: Path, folder: Path, *, part_bytes: int, first: int
    ) -> None:
        self.name, self.base, self.result, self.folder = name, base, result, folder
        self.part_bytes, self.first = part_bytes, first
        self.block = block_size(result)
        self.parts: list[Part] = []
        self._writer = Writer(LEVEL_OF_ALL if base is None else LEVEL_OF_CHANGES)
        self._part = bytearray()
        self._blocks: list[int] = []
        self._old, self._new = bytearray(), bytearray()
        self._changed = 0

    def run(self) -> FileDelta:
        window = max(WINDOW_BYTES // self.block, 1) * self.block
        old_hash, new_hash = hashlib.sha256(), hashlib.sha256()
        old_size = new_size = 0
        with ExitStack() as stack:
            new_stream = stack.enter_context(self.result.open("rb"))
            old_stream = stack.enter_context(self.base.open("rb")) if self.base is not None else None
            while True:
                new = new_stream.read(window)
                old = old_stream.read(window) if old_stream is not None else b""
                if not new and not old:
                    break
                old_hash.update(old)
                new_hash.update(new)
                for block in changed_blocks(old, new, self.block, new_size // self.block):
                    start = block * self.block - new_size
                    self._add(block, old[start : start + self.block], new[start : start + self.block])
                old_size += len(old)
                new_size += len(new)
        self._end_group()
        self._end_part()
        base = None if self.base is None else {"size": old_size, "sha256": old_hash.hexdigest()}
        return FileDelta(base, {"size": new_size, "sha256": new_hash.hexdigest()}, self.block, self._changed)

    def _add(self, block: int, old: bytes, new: bytes) -> None:
        self._blocks.append(block)
        self._old += old
        self._new += new
        self._changed += len(new)
        if len(self._blocks) >= blocks_of_group(self.block):
            self._end_group()

    def _end_group(self) -> None:
        if not self._blocks:
            return
        self._part += self._writer.record(self._blocks, bytes(self._old), bytes(self._new))
        self._blocks.clear()
        self._old.clear()
        self._new.clear()
        if len(self._part) >= self.part_bytes:
            self._end_part()

    def _end_part(self) -> None:
        if not self._part:
            return
        name = _part_name(self.first + len(self.parts), self.name)
        require_space(self.folder, len(self._part), f"A part of the delta of {self.result}")
        (self.folder / name).write_bytes(self._part)
        (self.folder / name).chmod(0o600)
        digest = hashlib.sha256(self._part).hexdigest()
        self.parts.append(Part(name, self.name, len(self._part), digest))
        self._part = bytearray()
        self._writer.restart()


def _apply_one(delta: Delta, name: str, folder: Path, base: Path | None, target: Path) -> None:
    file_delta = delta.files[name]
    wanted = int(file_delta.result["size"])
    with ExitStack() as stack:
        old = stack.enter_context(base.open("rb")) if base is not None and file_delta.base is not None else None
        target.unlink(missing_ok=True)
        target.touch(mode=0o600)
        weaver = _Weaver(old, stack.enter_context(target.open("wb")), wanted)
        for offset, new in changes(delta, name, folder, old):
            weaver.put(offset, new)
        found_base, found = weaver.finish()
    if file_delta.base is not None and found_base != _entry(file_delta.base):
        raise WrongBase(
            f"The delta was made for a {name} of {file_delta.base['size']} bytes with SHA-256 "
            f"{file_delta.base['sha256']}, the base here has {found_base['size']} bytes with SHA-256 "
            f"{found_base['sha256']}. Transfer the whole pair instead."
        )
    if found != _entry(file_delta.result):
        raise PlexDatabaseError(
            f"{name} from the delta in {folder} has {found['size']} bytes and SHA-256 {found['sha256']}, "
            f"expected {wanted} bytes and {file_delta.result['sha256']}. Transfer the delta again."
        )


def changes(delta: Delta, name: str, folder: Path, old: BinaryIO | None) -> Iterator[tuple[int, bytes]]:
    """What the delta in `folder` writes into one database, from first to last: (offset in bytes, new content).

    :param old: the base; it may be the very file that is written, for what is behind has been read already.
    :raises PlexDatabaseError: a part is missing or damaged.
    """
    block, wanted = delta.files[name].block, int(delta.files[name].result["size"])
    for runs, new in _groups(delta, name, folder, old):
        position = 0
        for first, length in runs:
            size = min(length * block, max(wanted - first * block, 0))
            yield first * block, new[position : position + size]
            position += size
        if position != len(new):
            raise PlexDatabaseError(f"The delta in {folder} does not fit {name}, so it is damaged. Transfer it again.")


def _groups(delta: Delta, name: str, folder: Path, old: BinaryIO | None) -> Iterator[tuple[list[Run], bytes]]:
    block = delta.files[name].block

    def content(run: Run) -> bytes:
        if old is None:
            return b""
        return os.pread(old.fileno(), run[1] * block, run[0] * block)

    for part in delta.parts:
        if part.file != name:
            continue
        if not is_good(folder, part):
            raise PlexDatabaseError(
                f"{part.name}, a part of {name}, is missing, incomplete or damaged in {folder}; expected {part.size} "
                f"bytes with SHA-256 {part.sha256}. Transfer it again."
            )
        data = (folder / part.name).read_bytes()
        yield from read_records(data, content, block, f"{part.name}, a part of {name},")


class _Weaver:
    """Writes the result from first to last byte: what is put, and the base between it. Hashes both on the way."""

    def __init__(self, old: BinaryIO | None, out: BinaryIO, wanted: int) -> None:
        self._old, self._out, self._wanted = old, out, wanted
        self._old_hash, self._hash = hashlib.sha256(), hashlib.sha256()
        self._old_size = self._size = 0

    def put(self, offset: int, data: bytes) -> None:
        self._copy(offset)
        if self._size != offset:
            raise PlexDatabaseError(
                f"The delta continues at byte {offset}, but there is no content from byte {self._size} to "
                f"{offset}. The base is too short, or the delta is damaged."
            )
        self._read_old(len(data))
        self._write(data)

    def finish(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """{size, sha256} of the base and of what was written."""
        self._copy(self._wanted)
        while self._read_old(WINDOW_BYTES):
            pass
        return (
            {"size": self._old_size, "sha256": self._old_hash.hexdigest()},
            {"size": self._size, "sha256": self._hash.hexdigest()},
        )

    def _copy(self, end: int) -> None:
        while self._size < end:
            data = self._read_old(min(WINDOW_BYTES, end - self._size))
            if not data:
                return
            self._write(data)

    def _read_old(self, size: int) -> bytes:
        data = self._old.read(size) if self._old is not None else b""
        self._old_hash.update(data)
        self._old_size += len(data)
        return data

    def _write(self, data: bytes) -> None:
        self._out.write(data)
        self._hash.update(data)
        self._size += len(data)


def _part_name(number: int, file: str) -> str:
    return f"{number:04d}-{file}"


def _entry(entry: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if entry is None else {"size": entry["size"], "sha256": entry["sha256"]}


def _entry_of_file(path: Path) -> dict[str, Any]:
    return {"size": path.stat().st_size, "sha256": sha256_of(path)}
