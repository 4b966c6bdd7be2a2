"""Checkpoints: snapshots made during indexing and downloaded.

On the indexer, in their own folder:

    held/     the pair of the newest downloaded checkpoint, the base of the next one
    new/      the pair of the checkpoint being downloaded
    delta/    the delta between the two

On the controller, in the run folder:

    0003/     a checkpoint: a delta (delta_chain.py) and about.json, renamed into place when complete
    .next/    the downloaded parts of the current one

The base of a checkpoint is the last downloaded one; the base of the first is the uploaded snapshot.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..plex_db.delta import chain as delta_chain
from ..plex_db.delta import delta as deltas
from ..plex_db.delta.delta import Delta
from ..plex_db.errors import PlexDatabaseError
from ..plex_db.pair import snapshot
from ..plex_db.pair.files import FileOperations, read_json_object
from ..plex_db.pair.pair import NAMES

HELD, NEW, DELTA = "held", "new", "delta"
NEXT, ABOUT = ".next", "about.json"
SCHEMA = 1
_NUMBER = re.compile(r"^\d{4}$")
LEAVES = ("1", "4", "10", "13")
"""Types of items that are files: films, episodes, tracks, photos."""


# -- on the indexer


def make(databases: Path, work: Path, base: Path, plex_version: str, known: Sequence[delta_chain.Files]) -> Delta:
    """Copy the pair that Plex uses, and write its delta to `work`/delta.

    The copy stays in `work`/new until `keep` or `remove`. On a failure nothing of it stays.

    :param base: the pair that went out.
    :param known: what the controller can apply a delta to, as `files` of manifests, the newest first. Where none of it
        is here, the delta holds the whole pair.
    :raises PlexDatabaseError: no space, or the pair cannot be copied (see `snapshot.take`).
    """
    work.mkdir(mode=0o711, parents=True, exist_ok=True)
    work.chmod(0o711)  # the login user downloads the delta; its files have their own modes
    try:
        snapshot.take(databases, work / NEW, "indexer", plex_version)
        for files in known:
            for candidate in (work / HELD, base):
                if not _is(candidate, files):
                    continue
                made = deltas.make(work / NEW, work / DELTA, candidate)
                if made.base_is(files):  # else it was damaged since its manifest was written: only its bytes tell
                    return made
        return deltas.make(work / NEW, work / DELTA)
    except BaseException:  # after any error, remove the large copy
        remove(work, held=False)
        raise


def keep(work: Path) -> bool:
    """Make the downloaded checkpoint the base of the next one; returns whether there was one."""
    if not (work / NEW).is_dir():
        return False
    _remove_tree(work / HELD)
    (work / NEW).rename(work / HELD)
    _remove_tree(work / DELTA)
    return True


def remove(work: Path, *, held: bool = True) -> bool:
    """Remove the current checkpoint and, with `held`, also the base of the next one."""
    found = [work / name for name in (NEW, DELTA, *([HELD] if held else [])) if (work / name).is_dir()]
    for folder in found:
        _remove_tree(folder)
    return bool(found)


def _is(pair: Path, files: delta_chain.Files) -> bool:
    found = deltas.base_of(pair)
    return found is not None and all(
        all(found[name][key] == (files.get(name) or {}).get(key) for key in ("size", "sha256")) for name in NAMES
    )


# -- on the controller


@dataclass(frozen=True)
class Checkpoint:
    """One that is there. `about` is what was said of the run that made it."""

    number: int
    folder: Path
    delta: Delta
    about: Mapping[str, Any]

    @property
    def files(self) -> dict[str, Any]:
        """`files` of the pair that it leads to."""
        return {name: file_delta.result for name, file_delta in self.delta.files.items()}

    @property
    def taken_at(self) -> str:
        """When the pair was copied, UTC."""
        return str(self.delta.manifest.get("created_at", ""))


def folders(place: Path) -> list[Path]:
    """The folders of a run's checkpoints, the oldest first."""
    if not place.is_dir():
        return []
    return sorted(path for path in place.iterdir() if _NUMBER.match(path.name) and path.is_dir())


def load(folder: Path) -> Checkpoint:
    """Read a checkpoint; its parts are not looked at.

    :raises PlexDatabaseError: it is damaged, or of a schema that this version does not know.
    """
    found = read_json_object(folder / ABOUT, "the description of a checkpoint")
    if found.get("schema") != SCHEMA or not isinstance(found.get("about"), dict):
        raise PlexDatabaseError(
            f"{folder / ABOUT} has schema {found.get('schema')!r}, but this plexburst reads {SCHEMA}. Use the "
            "plexburst version that made it."
        )
    return Checkpoint(int(folder.name), folder, deltas.load(folder), found["about"])


def put(place: Path, about: Mapping[str, Any]) -> Checkpoint:
    """Give the checkpoint whose every part has arrived in `place`/.next its number, on disk and at once."""
    operations = FileOperations()
    arrived = place / NEXT
    numbers = [int(folder.name) for folder in folders(place)]
    operations.write_text(arrived / ABOUT, json.dumps({"schema": SCHEMA, "about": about}, ensure_ascii=False) + "\n")
    for part in deltas.load(arrived).parts:
        operations.sync_file(arrived / part.name)
    target = place / f"{max(numbers, default=0) + 1:04d}"
    arrived.rename(target)
    operations.sync_directory(place)
    return load(target)


def known(place: Path, base: delta_chain.Files) -> list[delta_chain.Files]:
    """What a further checkpoint may lead on from: the newest one that can be read, and what went out."""
    for folder in reversed(folders(place)):
        with suppress(PlexDatabaseError):  # a damaged one is reported when a run tries to continue from it
            return [load(folder).files, base]
    return [base]


def chain(checkpoints: Sequence[Checkpoint], last: Checkpoint, base: delta_chain.Files) -> list[Path]:
    """The folders whose deltas lead, one after the other, from `base` to `last`.

    :raises PlexDatabaseError: they do not, or a part of them is missing or damaged.
    """
    found = [last]
    while not (found[0].delta.whole or found[0].delta.base_is(base)):
        before = [one for one in checkpoints if one.number < found[0].number and found[0].delta.base_is(one.files)]
        if not before:
            raise PlexDatabaseError(
                f"The base of checkpoint {found[0].number} is neither the uploaded snapshot nor one of the checkpoints "
                "before it."
            )
        found.insert(0, before[-1])
    for one in found:
        lacking = deltas.missing_parts(one.folder, one.delta)
        if lacking:
            raise PlexDatabaseError(f"{lacking[0].name} of checkpoint {one.number} is missing or damaged.")
    return [one.folder for one in found]


def reached(manifest: Mapping[str, Any]) -> dict[str, int]:
    """What a pair holds, from its manifest: items (that are files), tracks with Sonic data, and all tracks."""
    sonic = manifest.get("sonic", {}).values()
    return {
        "items": sum(count for kinds in manifest["counts"].values() for kind, count in kinds.items() if kind in LEAVES),
        "sonic_done": sum(int(section["done"]) for section in sonic),
        "sonic_total": sum(int(section["total"]) for section in sonic),
    }


def words(counts: Mapping[str, int]) -> str:
    """Return the counts as text."""
    if counts["sonic_done"]:
        return f"{counts['sonic_done']:,} tracks with Sonic data"
    return f"{counts['items']:,} items"


def _remove_tree(folder: Path) -> None:
    if folder.is_dir():
        shutil.rmtree(folder)
