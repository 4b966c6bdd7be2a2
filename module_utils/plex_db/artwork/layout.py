"""The files of Plex's bundles, and where a reference in the database leads.

Layout (docs/plex-facts.md#files): `Metadata/<Movies|TV Shows|Artists|Albums|…>/x/<rest>.bundle` by
`metadata_items.hash`,
`Media/localhost/x/<rest>.bundle` by `media_parts.hash`. The facts end at the bundle. Public projects that read Plex's
folder say (unconfirmed on a living server; found by full text search, abhinavp06/PLAYER and ananchev/ifc-plex-stalker
among them): `metadata://posters/N` is `Contents/_combined/posters/N`, or `Contents/_stored/posters/N`;
`upload://posters/N` is `Uploads/posters/N`; `media://P` is `Media/localhost/P`; seasons and episodes of the older
agents lie in the bundle of their show (`metadata://seasons/2/episodes/4/thumbs/N`). So a reference is looked for in all
of these places, in the bundles of the item and of what it hangs below; the first file that is there is the one it
means. Some servers have links inside a bundle (`_combined` to an agent's own folder): a link travels as a link, if it
stays inside its bundle.

Paths are relative to the folder that holds `Metadata` and `Media`, with `/`. Bytes that are not UTF-8 are surrogates.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from ..errors import PlexDatabaseError
from ..pair.files import FileOperations

TREES = ("Metadata", "Media")
SUFFIX = ".bundle"
UPLOADS = "uploads"
OURS = ".plexburst"
"""Name of incomplete files and folders, in their target folder."""
SCHEMES = ("metadata", "upload", "media")
MAX_PATH = 4096
SCHEMA = 1


@dataclass(frozen=True)
class Entry:
    """A file of a bundle, or a link (`target` is where it leads). Bytes; nanoseconds since the epoch."""

    path: str
    size: int
    mtime_ns: int
    target: str | None = None


def problem_of(path: str, uploads: bool = False) -> str:
    """Why nothing may be written to this path; empty when it is the path of a file in a bundle.

    :param uploads: whether what people uploaded is meant as well.
    """
    parts = path.split("/")
    if not path or "\0" in path or len(os.fsencode(path)) > MAX_PATH:
        return "it is no path"
    if any(part in ("", ".", "..") for part in parts):
        return "it leaves its folder"
    if parts[0] not in TREES or not any(part.endswith(SUFFIX) and part != SUFFIX for part in parts[1:-1]):
        return "it is in no bundle"
    if OURS in parts:
        return "its name is one of ours"
    if not uploads and is_upload(path):
        return "it is an upload"
    return ""


def is_upload(path: str) -> bool:
    """Return whether it is a user upload: below `Uploads` in a bundle, in upper or lower case."""
    return any(part.casefold() == UPLOADS for part in path.split("/")[:-1])


def bundle_of(path: str) -> str:
    """The path of the bundle that holds it.

    :raises ValueError: it is in none.
    """
    parts = path.split("/")
    end = next((n for n, part in enumerate(parts[:-1]) if n and part.endswith(SUFFIX)), None)
    if end is None:
        raise ValueError(f"{path} is in no bundle")
    return "/".join(parts[: end + 1])


def hash_of(path: str) -> str:
    """The hash that its bundle bears: the letter of the folder, and the bundle's own name."""
    parts = bundle_of(path).split("/")
    return parts[-2] + parts[-1][: -len(SUFFIX)]


def inside(path: str, target: str) -> str:
    """The path that a link at `path` leads to; empty when that is not in the same bundle."""
    if not target or target.startswith("/") or "\0" in target:
        return ""
    where = os.path.normpath(f"{os.path.dirname(path)}/{target}")  # noqa: PTH120 - text, not a file
    return where if where.startswith(f"{bundle_of(path)}/") else ""


def walk(support: Path, only: frozenset[str] | None = None, uploads: bool = False) -> Iterator[Entry]:
    """Every file and link in a bundle, folder by folder in the order of their names. Nothing is followed, `Metadata`
    and `Media` themselves excepted: that one of them lies on another disk is the household's own arrangement.

    :param only: the hashes of the bundles that are meant; None: all.
    :raises OSError: a folder cannot be read.
    """
    for tree in TREES:
        if (support / tree).is_dir():
            yield from _walk(support, tree, only, uploads)


def _walk(support: Path, folder: str, only: frozenset[str] | None, uploads: bool) -> Iterator[Entry]:
    with os.scandir(support / folder) as found:
        entries = sorted(found, key=lambda entry: os.fsencode(entry.name))
    for entry in entries:
        path = f"{folder}/{entry.name}"
        if entry.is_dir(follow_symlinks=False):
            chosen = only is None or not entry.name.endswith(SUFFIX) or _hash_of_bundle(path) in only
            if chosen and entry.name != OURS and (uploads or entry.name.casefold() != UPLOADS):
                yield from _walk(support, path, only, uploads)
        elif not problem_of(path, uploads):
            info = entry.stat(follow_symlinks=False)
            if stat.S_ISREG(info.st_mode):
                yield Entry(path, info.st_size, info.st_mtime_ns)
            elif stat.S_ISLNK(info.st_mode):
                yield Entry(path, 0, info.st_mtime_ns, os.readlink(support / path))  # noqa: PTH115 - any bytes


def _hash_of_bundle(bundle: str) -> str:
    return hash_of(f"{bundle}/x")


def write_list(known: Mapping[str, tuple[int, int]], file: Path) -> None:
    """Write down what is there, {path: (size, mtime_ns)}, for `read_list`."""
    FileOperations().write_text(file, json.dumps({"schema": SCHEMA, "known": known}) + "\n")


def read_list(file: Path) -> dict[str, tuple[int, int]]:
    """{path: (size, mtime_ns)} of what was there before; empty without a list, as for a Plex that started
    without artwork.

    :raises PlexDatabaseError: the list is damaged.
    """
    if not file.exists():
        return {}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        known = {str(path): (int(size), int(mtime)) for path, (size, mtime) in found["known"].items()}
        schema = found["schema"]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise PlexDatabaseError(
            f"{file}, the list of the artwork before the run, is damaged ({error!r}). Remove it; then all artwork is "
            "transferred."
        ) from error
    if schema != SCHEMA:
        raise PlexDatabaseError(
            f"{file} has schema {schema!r}, expected {SCHEMA}. Remove it; then all artwork is transferred."
        )
    return known


class Places:
    """Where references lead, on one machine."""

    def __init__(self, support: Path) -> None:
        self.support = support
        self._children: dict[str, list[str]] = {}

    def find(self, reference: str, hashes: Sequence[str]) -> str:
        """The path of the file that a reference means; empty when there is none.

        :param hashes: of the item and of what it hangs below, the item's first.
        """
        scheme, _, rest = reference.partition("://")
        if scheme not in SCHEMES:
            return ""
        for inside_it in dict.fromkeys((rest, unquote(rest, errors="surrogateescape"))):
            for path in self._candidates(scheme, inside_it, hashes):
                if not problem_of(path, uploads=True) and leads_to_file(self.support, path):
                    return path
        return ""

    def _candidates(self, scheme: str, rest: str, hashes: Sequence[str]) -> Iterator[str]:
        if scheme == "media":
            yield from (f"Media/{host}/{rest}" for host in ["localhost", *self._names("Media")])
            return
        for name in hashes:
            for kind in self._names("Metadata"):
                bundle = f"Metadata/{kind}/{name[:1]}/{name[1:]}{SUFFIX}"
                if scheme == "upload":
                    yield f"{bundle}/Uploads/{rest}"
                elif (self.support / bundle).is_dir():
                    agents = ["_combined", "_stored", *self._names(f"{bundle}/Contents")]
                    yield from (f"{bundle}/Contents/{agent}/{rest}" for agent in dict.fromkeys(agents))
                    yield f"{bundle}/Contents/{rest}"

    def _names(self, folder: str) -> list[str]:
        """Names of the folders in a folder. Only of the trees themselves is it remembered: there are few."""
        if folder in self._children:
            return self._children[folder]
        try:
            names = sorted(path.name for path in (self.support / folder).iterdir() if path.is_dir())
        except FileNotFoundError:
            names = []
        if folder in TREES:
            self._children[folder] = names
        return names


def leads_to_file(support: Path, path: str) -> bool:
    """Whether a file is there, or a link that leads to one without leaving `Metadata` or `Media`."""
    root = os.path.realpath(support / path.split("/", maxsplit=1)[0])
    real = os.path.realpath(support / path)
    return real.startswith(f"{root}/") and os.path.isfile(real)  # noqa: PTH113 - any bytes


def shown(paths: Sequence[str], most: int = 3) -> str:
    """Return a few paths as text, without bytes that cannot be shown."""
    words = ", ".join(printable(path) for path in paths[:most])
    return words if len(paths) <= most else f"{words} and {len(paths) - most} more"


def printable(text: str) -> str:
    """Return text without surrogates, for messages and JSON."""
    return os.fsencode(text).decode("utf-8", "replace")
