"""Install packed artwork at home, file by file, while Plex works.

    home has no such file          it is added
    home has the same              nothing
    home has another, older than   it is replaced
    the snapshot that went out
    home has another, newer        home's stays: Plex, or a person, has changed it during the run
    it is below Uploads            it never comes here: what people uploaded is theirs

A file is written under a name of ours in its own folder, flushed, and renamed: whatever ends the work, no half file
bears a real name, and what is left is used up by the next try. No link is followed below `Metadata` and `Media`; where
home has a link or a file in the place of a folder, what belongs below it is refused, and said.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..errors import PlexDatabaseError
from ..pair.files import CHUNK_BYTES, require_space
from .archive import EXAMPLES, Archive, Record, read
from .layout import OURS, TREES, inside, leads_to_file, printable, shown

MARGIN_SECONDS = 600
"""Seconds before the snapshot's time from which a file counts as changed at home, because a snapshot takes minutes and
its time is that of its end."""
WRITTEN = ("added", "replaced")


@dataclass
class Merged:
    """What came of it: files by what happened to them, bytes written, examples of what stayed away."""

    added: int = 0
    replaced: int = 0
    same: int = 0
    kept: int = 0
    refused: int = 0
    bytes: int = 0
    examples: dict[str, list[str]] = field(default_factory=lambda: {"kept": [], "refused": []})

    @property
    def changed(self) -> bool:
        """Whether anything was, or would be, written."""
        return bool(self.added or self.replaced)

    def plain(self) -> dict[str, Any]:
        """Return the result for a task."""
        return asdict(self)

    def note(self, what: str, path: str) -> None:
        """Count it."""
        setattr(self, what, getattr(self, what) + 1)
        if what in self.examples and len(self.examples[what]) < EXAMPLES:
            self.examples[what].append(printable(path))


def warnings_of(merged: Merged) -> list[str]:
    """Return warnings about the installed artwork."""
    words = []
    if merged.kept:
        words.append(
            f"{merged.kept} artwork files were changed at home during the run and were kept, for example "
            f"{merged.examples['kept'][0]}."
        )
    if merged.refused:
        words.append(
            f"{merged.refused} artwork files could not be installed at home, because a link, a file or a folder is in "
            f"their place, for example {merged.examples['refused'][0]}."
        )
    return words


def merge(
    folder: Path,
    archive: Archive,
    support: Path,
    unchanged_since: float,
    *,
    uploads: bool = False,
    dry_run: bool = False,
) -> Merged:
    """Lay what is packed in `folder` among the bundles below `support`.

    :param unchanged_since: seconds since the epoch on this machine's clock: the snapshot that went out was complete.
    :param uploads: take what people uploaded as well: for a machine that has none of its own.
    :raises PlexDatabaseError: a part is damaged, there is no space, or a reference would lead nowhere; nothing was
        changed then.
    :raises OSError: the disk.
    """
    tree = _Tree(support)
    try:
        references = _look_ahead(folder, archive, tree, uploads)
        done = Merged()
        for record, data in read(folder, archive, uploads, verify=False):
            if not record.url:
                what = _lay(tree, record, data, unchanged_since - MARGIN_SECONDS, dry_run)
                done.note(what, record.path)
                done.bytes += record.size if what in WRITTEN else 0
    finally:
        tree.close()
    lost = [] if dry_run else [record for record in references if not tree.leads(record.path)]
    if lost:
        raise PlexDatabaseError(
            f"{_lost(lost)} Files that could not be installed at home: {shown(done.examples['refused']) or 'none'}."
        )
    return done


def _look_ahead(folder: Path, archive: Archive, tree: _Tree, uploads: bool) -> list[Record]:
    """The references. Refuse before the first byte is written: a part that is damaged, an invalid path, no space,
    a reference that would lead nowhere."""
    brought: dict[str, str | None] = {}
    needed: dict[str, int] = {}
    references: list[Record] = []
    for record, _ in read(folder, archive, uploads):
        if record.url:
            references.append(record)
            continue
        brought[record.path] = record.target
        if not tree.has_size(record.path, record.size):
            root = record.path.split("/", maxsplit=1)[0]
            needed[root] = needed.get(root, 0) + record.size
    by_disk: dict[int, tuple[Path, int]] = {}
    for root, size in needed.items():
        place = tree.support / root if (tree.support / root).is_dir() else tree.support
        device = place.stat().st_dev
        by_disk[device] = (place, by_disk.get(device, (place, 0))[1] + size)
    for place, size in by_disk.values():
        require_space(place, size, "The run's artwork")
    lost = [record for record in references if not _will_lead(record.path, brought, tree)]
    if lost:
        raise PlexDatabaseError(f"{_lost(lost)} Nothing was changed.")
    return references


def _will_lead(path: str, brought: dict[str, str | None], tree: _Tree) -> bool:
    passed: set[str] = set()
    while path in brought and path not in passed:
        target = brought[path]
        if target is None:
            return True
        passed.add(path)
        path = inside(path, target)
    return tree.leads(path)


def _lost(lost: list[Record]) -> str:
    examples = shown([f"{record.url} ({record.row}, {record.path})" for record in lost])
    return (
        f"{len(lost)} artwork files that the new library refers to were on the indexer and would be missing at home: "
        f"{examples}. Home keeps its database. Run recover.yml while the indexer exists, or else run the sync "
        "again."
    )


def _lay(tree: _Tree, record: Record, data: Iterator[bytes], unchanged_since: float, dry_run: bool) -> str:
    """Lay one file or link; what happened to it, as Merged names it."""
    folder, name = tree.folder(record.path, make=not dry_run)
    if folder is None:
        return "added" if dry_run and tree.is_free(record.path) else "refused"
    before = _look(folder, name)
    what = _verdict(folder, name, before, record, unchanged_since)
    if what not in WRITTEN or dry_run:
        return what
    try:
        _write(folder, record, data)
        if _state(_look(folder, name)) != _state(before):  # Plex was faster
            _clear(folder)
            return "kept"
        os.rename(OURS, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:  # whatever ends it, on a full disk above all, nothing half written stays
        _clear(folder)
        raise
    tree.touched()
    return what


def _verdict(folder: int, name: str, before: os.stat_result | None, record: Record, unchanged_since: float) -> str:
    if before is None:
        return "added"
    if stat.S_ISDIR(before.st_mode):
        return "refused"
    if _is_same(folder, name, before, record):
        return "same"
    # A file without a byte is what a power cut leaves; no artwork is empty.
    if stat.S_ISREG(before.st_mode) and before.st_size == 0:
        return "replaced"
    return "kept" if max(before.st_mtime, before.st_ctime) >= unchanged_since else "replaced"


def _is_same(folder: int, name: str, before: os.stat_result, record: Record) -> bool:
    if record.target is not None:
        return stat.S_ISLNK(before.st_mode) and os.readlink(name, dir_fd=folder) == record.target
    if not stat.S_ISREG(before.st_mode) or before.st_size != record.size:
        return False
    digest = hashlib.sha256()
    with os.fdopen(os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=folder), "rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest() == record.sha256


def _write(folder: int, record: Record, data: Iterable[bytes]) -> None:
    """The file or link under our own name, whole and on disk, with owner, group and mode as its folder has them."""
    like = os.stat(folder)
    _clear(folder)
    if record.target is not None:
        os.symlink(record.target, OURS, dir_fd=folder)
        _own(like, os.stat(OURS, dir_fd=folder, follow_symlinks=False), lambda: _chown_name(folder, like))
        return
    digest = hashlib.sha256()
    descriptor = os.open(OURS, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=folder)
    with os.fdopen(descriptor, "wb") as stream:
        for chunk in data:
            stream.write(chunk)
            digest.update(chunk)
        if digest.hexdigest() != record.sha256:
            raise PlexDatabaseError(f"{printable(record.path)} is not the packed file. Transfer the artwork again.")
        stream.flush()
        _own(like, os.fstat(descriptor), lambda: os.fchown(descriptor, like.st_uid, like.st_gid))
        os.fchmod(descriptor, like.st_mode & 0o666)
        os.fsync(descriptor)


def _clear(folder: int) -> None:
    """Remove what a try that was killed has left under our own name: a file, a link or an empty folder."""
    found = _look(folder, OURS)
    if found is not None and stat.S_ISDIR(found.st_mode):
        os.rmdir(OURS, dir_fd=folder)
    elif found is not None:
        os.unlink(OURS, dir_fd=folder)


def _chown_name(folder: int, like: os.stat_result) -> None:
    os.chown(OURS, like.st_uid, like.st_gid, dir_fd=folder, follow_symlinks=False)


def _own(like: os.stat_result, now: os.stat_result, give: Callable[[], None]) -> None:
    if (like.st_uid, like.st_gid) != (now.st_uid, now.st_gid):
        give()


def _look(folder: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _state(found: os.stat_result | None) -> tuple[int, ...] | None:
    return None if found is None else (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


class _Tree:
    """Home's folders, entered one by one without following a link below `Metadata` and `Media`."""

    def __init__(self, support: Path) -> None:
        self.support = support
        self._at: tuple[str, ...] = ()
        self._open: int | None = None
        self._dirty = False

    def folder(self, path: str, make: bool) -> tuple[int | None, str]:
        """(the open folder of a path, the file's name in it). None: something is in the way, or the folder is missing
        and was not to be made."""
        *parts, name = path.split("/")
        if self._open is not None and self._at == tuple(parts):
            return self._open, name
        self.close()
        current: int | None = os.open(self.support, os.O_RDONLY | os.O_DIRECTORY)
        for depth, part in enumerate(parts):
            current = self._enter(current, part, make, follow=depth == 0)
            if current is None:
                return None, name
        self._at, self._open = tuple(parts), current
        return current, name

    def _enter(self, above: int | None, name: str, make: bool, follow: bool) -> int | None:
        if above is None:
            return None
        flags = os.O_RDONLY | os.O_DIRECTORY | (0 if follow else os.O_NOFOLLOW)
        try:
            try:
                return os.open(name, flags, dir_fd=above)
            except FileNotFoundError:
                if not make or _look(above, name) is not None:  # a link that leads nowhere
                    return None
                _make_folder(above, name)
                return os.open(name, flags, dir_fd=above)
            except OSError as error:
                if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                    raise
                return None
        finally:
            os.close(above)

    def touched(self) -> None:
        """A name in the open folder has changed: it is flushed when it is left."""
        self._dirty = True

    def close(self) -> None:
        """Leave the open folder."""
        if self._open is not None:
            if self._dirty:
                os.fsync(self._open)
            os.close(self._open)
        self._at, self._open, self._dirty = (), None, False

    def has_size(self, path: str, size: int) -> bool:
        """Whether a file of that size is there already."""
        try:
            return (self.support / path).lstat().st_size == size
        except OSError:  # absent, or something is in the way: the merge itself says so
            return False

    def is_free(self, path: str) -> bool:
        """Whether nothing stands in the way of a path whose folder is missing."""
        place = self.support
        for depth, part in enumerate(path.split("/")[:-1]):
            place /= part
            if not os.path.lexists(place):
                return True
            if not place.is_dir() or (depth and place.is_symlink()):
                return False
        return True

    def leads(self, path: str) -> bool:
        """Whether a file is there, see `places.leads_to_file`."""
        return bool(path) and path.split("/", maxsplit=1)[0] in TREES and leads_to_file(self.support, path)


def _make_folder(above: int, name: str) -> None:
    """A folder with owner, group and mode of the one above. It gets its name last, so that none is ever half made."""
    like = os.stat(above)
    _clear(above)
    os.mkdir(OURS, 0o700, dir_fd=above)
    descriptor = os.open(OURS, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=above)
    try:
        _own(like, os.fstat(descriptor), lambda: os.fchown(descriptor, like.st_uid, like.st_gid))
        os.fchmod(descriptor, stat.S_IMODE(like.st_mode))
    finally:
        os.close(descriptor)
    try:
        os.rename(OURS, name, src_dir_fd=above, dst_dir_fd=above)
    except OSError:
        os.rmdir(OURS, dir_fd=above)
        if _look(above, name) is None:
            raise
    else:
        os.fsync(above)
