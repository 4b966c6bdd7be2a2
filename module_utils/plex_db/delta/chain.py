"""A chain of deltas, each based on the result of the previous one, as used for checkpoints.

Consecutive copies of a working pair differ little, and a chain contains only these differences. Deltas against the
first pair would contain all earlier changes again: measured on a synthetic library of 120,000 tracks, Sonic analysis
appends its vectors to blobs.db but changes the index of their guids all over the file, so that only 3 % of the parts
of 4 MiB stayed the same.

The first base is copied once, and the deltas are written into the copy one after the other, which takes time by the
size of the changes, not of the databases. The result is compared with the hashes of the last delta.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import PlexDatabaseError
from ..pair.files import CHUNK_BYTES, FileOperations, require_space, sha256_of
from ..pair.pair import MANIFEST, NAMES
from .delta import Delta, WrongBase, changes, load

Files = Mapping[str, Any]
"""`files` of a manifest: {name: {size, sha256}}, sizes in bytes."""


def leads_on(deltas: Sequence[Delta], base: Files) -> bool:
    """Whether the deltas follow each other without a gap, the first one from `base` or from nothing."""
    before = base
    for delta in deltas:
        if not (delta.whole or delta.base_is(before)):
            return False
        before = {name: file_delta.result for name, file_delta in delta.files.items()}
    return bool(deltas)


def apply(folders: Sequence[Path], destination: Path, base: Path) -> Delta:
    """Make the pair that the last of the deltas in `folders` leads to, and its manifest, in `destination`.

    The files appear under their names only when both are whole and on disk; until then they lie beside as
    `.NAME.partial`.

    :param base: the pair that the first delta leads from. It is only read.
    :raises WrongBase: it is another one, or it is damaged.
    :raises PlexDatabaseError: the deltas do not follow each other, a part is missing or damaged, no space, or the
        result is not what it should be.
    """
    deltas = [load(folder) for folder in folders]
    if not deltas:
        raise PlexDatabaseError("There is no delta to apply.")
    destination.mkdir(mode=0o700, parents=True, exist_ok=True)
    require_space(destination, max(_size(delta) for delta in deltas), f"The pair of {folders[-1]}")
    operations = FileOperations()
    partial = {name: destination / f".{name}.partial" for name in NAMES}
    try:
        for name, path in partial.items():
            path.unlink(missing_ok=True)
            path.touch(mode=0o600)
            with path.open("r+b") as stream:
                _begin(stream, deltas[0], name, base)
                for number, delta in enumerate(deltas):
                    _write(stream, delta, name, folders[number])
            _require_result(path, deltas[-1], name, folders[-1])
            operations.sync_file(path)
        for name, path in partial.items():
            operations.replace(path, destination / name)
    finally:
        for path in partial.values():
            path.unlink(missing_ok=True)
    operations.write_text(destination / MANIFEST, json.dumps(deltas[-1].manifest, indent=1) + "\n")
    return deltas[-1]


def _size(delta: Delta) -> int:
    return sum(max(int(entry["size"]) for entry in (one.base, one.result) if entry) for one in delta.files.values())


def _begin(stream: BinaryIO, first: Delta, name: str, base: Path) -> None:
    """Copy the base, which must be the one that the first delta was made for."""
    expected = first.files[name].base
    if expected is None:
        return
    digest, size = hashlib.sha256(), 0
    with (base / name).open("rb") as source:
        while data := source.read(CHUNK_BYTES):
            stream.write(data)
            digest.update(data)
            size += len(data)
    if (size, digest.hexdigest()) != (expected["size"], expected["sha256"]):
        raise WrongBase(
            f"{base / name} has {size} bytes with SHA-256 {digest.hexdigest()}, expected {expected['size']} bytes with "
            f"{expected['sha256']}. It is another base, or it was damaged since."
        )


def _write(stream: BinaryIO, delta: Delta, name: str, folder: Path) -> None:
    """Write one delta into the file that holds what it leads from."""
    file_delta = delta.files[name]
    if file_delta.base is None:
        stream.truncate(0)
    stream.flush()
    for offset, new in changes(delta, name, folder, None if file_delta.base is None else stream):
        stream.seek(offset)
        stream.write(new)
        stream.flush()  # the next group is read past this stream's own buffer
    stream.truncate(int(file_delta.result["size"]))


def _require_result(path: Path, last: Delta, name: str, folder: Path) -> None:
    expected, found = last.files[name].result, sha256_of(path)
    if found != expected["sha256"]:
        raise PlexDatabaseError(
            f"{name} from the deltas up to {folder} has SHA-256 {found}, expected {expected['sha256']}. One "
            "of them belongs to another pair, or is damaged."
        )
