"""One scan of one section: compare folders and files with the rows (the rules: library.py)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from sandbox.plex import database as db
from sandbox.plex import probe
from sandbox.plex.adding import Adder
from sandbox.plex.records import PROBES, SUFFIXES, FoundFile, Progress, ScanProgress, ScanResult, Section, write_streams
from sandbox.plex.volumes import join, relative_to

if TYPE_CHECKING:
    from sandbox.plex.library import Library


class Scan:
    """One scan of one section."""

    def __init__(
        self,
        library: Library,
        section: Section,
        *,
        force: bool,
        progress: Progress,
        should_stop: Callable[[], bool],
        work: Callable[[], None],
    ) -> None:
        self.library = library
        self.section = section
        self.force = force
        self.progress = progress
        self.should_stop = should_stop
        self.work = work
        self.result = ScanResult()
        self.suffixes = SUFFIXES[section.type]
        self.adder = Adder(section, library.bundles)

    @property
    def sql(self) -> Any:
        return self.library.library

    def run(self, path: str | None, empty_trash: bool) -> ScanResult:
        for location, root, folder in self.library.locations(self.section.id):
            start = "" if path is None else relative_to(path, root)
            if start is None:
                continue
            self.adder.location = location
            if not self._available(location, root):
                continue
            if start:
                self._partial(root, folder, start)
            else:
                self._walk(root, folder, "", named=path is not None)
            if not self.result.cancelled:
                self._touch_location(location)
        removed = 0
        if empty_trash and not self.result.cancelled:
            removed = self.library.empty_trash(self.section.id)
        now = self.library.now()
        changed = bool(self.result.added or self.result.updated or self.result.trashed or self.result.restored)
        with db.writing(self.sql) as connection:
            connection.execute(
                "UPDATE library_sections SET scanned_at=?, updated_at=?, changed_at=changed_at+1,"
                " content_changed_at=content_changed_at+?"
                " WHERE id=?",
                (now, now, int(changed), self.section.id),
            )
        return replace(self.result, removed=removed)

    def _available(self, location: int, root: str) -> bool:
        """A location that cannot be listed is not an empty one: mark it and leave its items alone."""
        try:
            self.library.volumes.listing(root)
        except OSError:
            available = False
        else:
            available = True
        with db.writing(self.sql) as connection:
            connection.execute(
                "UPDATE section_locations SET available=? WHERE id=?", ("t" if available else "f", location)
            )
        return available

    def _touch_location(self, location: int) -> None:
        now = self.library.now()
        with db.writing(self.sql) as connection:
            connection.execute(
                "UPDATE section_locations SET scanned_at=?, updated_at=? WHERE id=?", (now, now, location)
            )

    def _count(self, **more: int) -> None:
        self.result = replace(self.result, **{name: getattr(self.result, name) + value for name, value in more.items()})

    # -- folders

    def _partial(self, root: str, root_folder: int, relative: str) -> None:
        """Scan one named folder: make the rows above it, then walk from there."""
        folder, walked = root_folder, ""
        for name in PurePosixPath(relative).parts:
            walked = f"{walked}/{name}" if walked else name
            known = self._child_folders(folder).get(walked)
            try:
                self.library.volumes.listing(join(root, walked))
            except OSError:
                if known is not None:
                    self._drop_folder(known[0])
                return
            folder = known[0] if known is not None else self._add_folder(folder, walked)
        self._walk(root, folder, relative, named=True)

    def _walk(self, root: str, folder: int, relative: str, *, named: bool = False) -> None:
        """One folder and, after it, its subfolders."""
        if self.should_stop():
            self.result = replace(self.result, cancelled=True)
            return
        path = join(root, relative)
        self.progress(ScanProgress("scan", relative, self.result.folders, 0))
        try:
            listing = self.library.volumes.listing(path)
            mtime = self.library.volumes.folder_mtime(path)
        except OSError:
            self._drop_folder(folder)  # it vanished between its parent's listing and now
            return
        self._count(folders=1)
        recorded = self.sql.execute("SELECT updated_at FROM directories WHERE id=?", (folder,)).fetchone()[0]
        if self.force or named or mtime != recorded:
            self._files(path, folder, listing.files, mtime)
        else:
            self._count(folders_skipped=1)
        if self.result.cancelled:
            return
        known = self._child_folders(folder)
        present = {f"{relative}/{name}" if relative else name for name in listing.folders}
        for gone in known.keys() - present:
            if known[gone][1] is None:
                self._drop_folder(known[gone][0])
        for child in sorted(present):
            row = known.get(child)
            child_id = row[0] if row is not None else self._add_folder(folder, child)
            if row is not None and row[1] is not None:
                self._revive_folder(child_id)
            self._walk(root, child_id, child)
            if self.result.cancelled:
                return

    def _child_folders(self, folder: int) -> dict[str, tuple[int, int | None]]:
        rows = self.sql.execute(
            "SELECT path, id, deleted_at FROM directories WHERE parent_directory_id=?", (folder,)
        ).fetchall()
        return {str(row[0]): (int(row[1]), row[2]) for row in rows}

    def _add_folder(self, parent: int, path: str) -> int:
        with db.writing(self.sql) as connection:
            connection.execute(
                "INSERT INTO directories(library_section_id, parent_directory_id, path, created_at, updated_at)"
                " VALUES(?, ?, ?, ?, -1)",
                (self.section.id, parent, path, self.library.now()),
            )
            return int(connection.last_insert_rowid())

    def _revive_folder(self, folder: int) -> None:
        with db.writing(self.sql) as connection:
            connection.execute("UPDATE directories SET deleted_at=NULL, updated_at=-1 WHERE id=?", (folder,))

    def _drop_folder(self, folder: int) -> None:
        """A folder is gone, and with it all that was in it."""
        for child, deleted in self._child_folders(folder).values():
            if deleted is None:
                self._drop_folder(child)
        now = self.library.now()
        with db.writing(self.sql) as connection:
            parts = connection.execute(
                "SELECT id FROM media_parts WHERE directory_id=? AND +deleted_at IS NULL", (folder,)
            ).fetchall()
            for (part,) in parts:
                self._trash(connection, int(part), now)
            connection.execute("UPDATE directories SET deleted_at=? WHERE id=?", (now, folder))
        self._count(trashed=len(parts))

    def _files(self, path: str, folder: int, names: Sequence[str], mtime: int) -> None:
        """Compare a folder's media files with the rows, in one transaction."""
        known = {
            str(row[0]): row[1:]
            for row in self.sql.execute(
                "SELECT file, id, size, deleted_at, updated_at FROM media_parts WHERE directory_id=?", (folder,)
            ).fetchall()
        }
        fresh: list[FoundFile] = []
        restored: list[int] = []
        changed: list[tuple[int, FoundFile]] = []
        seen: set[str] = set()
        for name in names:
            if PurePosixPath(name).suffix.lower() not in self.suffixes:
                continue
            if self.should_stop():
                self.result = replace(self.result, cancelled=True)
                return  # nothing of this folder is written
            file = join(path, name)
            try:
                info = self.library.volumes.stat(file)
            except OSError:
                self._count(missing=1)  # listed, unreadable: for the scanner it "didn't exist"
                continue
            seen.add(file)
            row = known.get(file)
            if row is None:
                fresh.append(self._take(file, name, info.st_size, int(info.st_mtime)))
                continue
            if row[2] is not None:
                restored.append(int(row[0]))
            if row[1] != info.st_size:
                changed.append((int(row[0]), self._take(file, name, info.st_size, int(info.st_mtime))))
        gone = [int(row[0]) for file, row in known.items() if file not in seen and row[2] is None]
        now = self.library.now()
        with db.writing(self.sql) as connection:
            for part in gone:
                self._trash(connection, part, now)
            for part in restored:
                self._restore(connection, part)
            for part, taken in changed:
                self._change(connection, part, taken, now)
            for taken in fresh:
                self.adder.add(connection, folder, path, taken, now)
            connection.execute("UPDATE directories SET updated_at=? WHERE id=?", (mtime, folder))
        self._count(added=len(fresh), updated=len(changed), restored=len(restored), trashed=len(gone))

    def _take(self, file: str, name: str, size: int, mtime: int) -> FoundFile:
        self.work()
        self.library.volumes.wait_for_content(file)
        try:
            found = PROBES[self.section.type](self.library.volumes.host_path(file))
        except probe.ProbeError:
            found = probe.Probe()  # Plex adds a broken file too, without media details
        return FoundFile(file, name, size, mtime, found)

    # -- rows

    def _trash(self, connection: Any, part: int, now: int) -> None:
        connection.execute("UPDATE media_parts SET deleted_at=?, updated_at=? WHERE id=?", (now, now, part))
        media = connection.execute("SELECT media_item_id FROM media_parts WHERE id=?", (part,)).fetchone()[0]
        if self._any(connection, "media_parts", "media_item_id", media):
            return
        connection.execute("UPDATE media_items SET deleted_at=? WHERE id=?", (now, media))
        item = connection.execute("SELECT metadata_item_id FROM media_items WHERE id=?", (media,)).fetchone()[0]
        if self._any(connection, "media_items", "metadata_item_id", item):
            return
        while item is not None:
            connection.execute(
                "UPDATE metadata_items SET deleted_at=?, changed_at=? WHERE id=?",
                (now, db.next_change(connection), item),
            )
            item = connection.execute("SELECT parent_id FROM metadata_items WHERE id=?", (item,)).fetchone()[0]
            if item is not None and self._any(connection, "metadata_items", "parent_id", item):
                return

    @staticmethod
    def _any(connection: Any, table: str, column: str, value: int) -> bool:
        """Whether a living row hangs below."""
        query = f"SELECT 1 FROM {table} WHERE {column}=? AND +deleted_at IS NULL LIMIT 1"  # noqa: S608
        return connection.execute(query, (value,)).fetchone() is not None

    def _restore(self, connection: Any, part: int) -> None:
        connection.execute("UPDATE media_parts SET deleted_at=NULL WHERE id=?", (part,))
        media = connection.execute("SELECT media_item_id FROM media_parts WHERE id=?", (part,)).fetchone()[0]
        connection.execute("UPDATE media_items SET deleted_at=NULL WHERE id=?", (media,))
        item = connection.execute("SELECT metadata_item_id FROM media_items WHERE id=?", (media,)).fetchone()[0]
        while item is not None:
            connection.execute(
                "UPDATE metadata_items SET deleted_at=NULL, changed_at=? WHERE id=? AND deleted_at IS NOT NULL",
                (db.next_change(connection), item),
            )
            item = connection.execute("SELECT parent_id FROM metadata_items WHERE id=?", (item,)).fetchone()[0]

    def _change(self, connection: Any, part: int, taken: FoundFile, now: int) -> None:
        """The file was replaced: new size and technical data under the same ids."""
        connection.execute(
            "UPDATE media_parts SET size=?, duration=?, updated_at=?, hash='' WHERE id=?",
            (taken.size, taken.probe.duration, taken.mtime, part),
        )
        media = connection.execute("SELECT media_item_id FROM media_parts WHERE id=?", (part,)).fetchone()[0]
        connection.execute(
            "UPDATE media_items SET size=?, duration=?, bitrate=?, updated_at=?, media_analysis_version=0 WHERE id=?",
            (taken.size, taken.probe.duration, taken.probe.bitrate, now, media),
        )
        write_streams(connection, media, part, taken.probe, now)
        item = connection.execute("SELECT metadata_item_id FROM media_items WHERE id=?", (media,)).fetchone()[0]
        connection.execute(
            "UPDATE metadata_items SET updated_at=?, changed_at=? WHERE id=?", (now, db.next_change(connection), item)
        )
