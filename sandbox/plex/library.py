"""Plex's library as its scanner keeps it: files become rows, vanished files become trash, history stands beside it.

Used by the child process ``Plex Media Scanner``, by the server, and directly by whoever builds a home with a past:

    library = Library(databases_dir, [Volume(Path("/data/media"), "/Media")])
    music = library.add_section("Music", "artist", "tv.plex.agents.music", "Plex Music", ["/Media/Music"], "en-US")
    library.scan(music)
    library.mark_watched(item_id, account_id=1, at=1_700_000_000)
    library.close()

Rules of a scan (docs/plex-facts.md#incidents, #http-api; what they leave open is decided here):

* every folder is listed; the files of a folder whose date equals ``directories.updated_at`` are not looked at unless
  ``force`` or unless the folder was named by ``path``. On an rclone mount of S3 all folders show one constant date, so
  a new or removed file in a known folder is missed by ``force=0`` there; a new or vanished folder is found.
* a listed file that cannot be read counts as gone. A location that cannot be listed at all is marked unavailable and
  nothing below it is touched.
* gone = ``deleted_at`` on the part, on a media item without a living part, on an item without living media or children.
  A file that comes back is taken out of the trash again, with the same ids.
* ``guid`` comes from what the item is called, as an agent's match would: the same track has the same guid on every
  server.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sandbox.plex import database as db
from sandbox.plex import probe
from sandbox.plex.bundles import Bundles
from sandbox.plex.records import (
    ANALYSIS_VERSION,
    PROBES,
    SECTION_TYPES,
    SONIC_FLOATS,
    SONIC_KEY,
    LibraryError,
    Progress,
    ScanResult,
    Section,
    insert_item,
    never,
    quiet,
    write_streams,
)
from sandbox.plex.scan import Scan
from sandbox.plex.volumes import Volume, Volumes

__all__ = ["SONIC_FLOATS", "Library", "LibraryError"]
_REFRESH_PAGE = 200


class Library:
    """The database pair with the operations of a server. Not shared between threads.

    Make one per thread (rows are shared anyway).
    """

    def __init__(
        self,
        databases_dir: Path | str,
        volumes: Volumes | Sequence[Volume] = (),
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.pair = db.Pair(databases_dir)
        self.bundles = Bundles(Path(databases_dir))
        self.volumes = volumes if isinstance(volumes, Volumes) else Volumes(volumes)
        self._clock = clock

    @property
    def library(self) -> Any:
        """The connection to library.db."""
        return self.pair.library

    def close(self) -> None:
        """Checkpoint and close both files; no -wal/-shm stays unless someone else has them open."""
        self.pair.close()

    def __enter__(self) -> Library:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def now(self) -> int:
        """Unix seconds."""
        return int(self._clock())

    # -- sections ------------------------------------------------------------------------------------------------------

    def add_section(  # noqa: PLR0917 - the order of the scanner's own --add-section
        self, name: str, kind: str, agent: str, scanner: str, locations: Sequence[str], language: str = "en-US"
    ) -> int:
        """A new library; ``kind`` is movie, show, artist or photo. Returns its id.

        Raises LibraryError for another kind.
        """
        if kind not in SECTION_TYPES:
            raise LibraryError(f"A section's type is one of {', '.join(SECTION_TYPES)}; found {kind!r}.")
        now = self.now()
        with db.writing(self.library) as connection:
            connection.execute(
                "INSERT INTO library_sections(library_id, name, name_sort, section_type, language, agent,"
                " scanner, public, created_at,"
                " updated_at, scanned_at, display_secondary_level, user_fields, query_type, uuid, changed_at,"
                " content_changed_at)"
                " VALUES(1, ?, ?, ?, ?, ?, ?, 0, ?, ?, NULL, 0, '', NULL, ?, ?, 0)",
                (name, name, SECTION_TYPES[kind], language, agent, scanner, now, now, str(uuid.uuid4()), 1),
            )
            section = int(connection.last_insert_rowid())
            for root in locations:
                connection.execute(
                    "INSERT INTO section_locations(library_section_id, root_path, available, created_at, updated_at)"
                    " VALUES(?, ?, 't', ?, ?)",
                    (section, root.rstrip("/") or "/", now, now),
                )
                # Its root folder, in the order of the locations: that is how the two find each other again.
                connection.execute(
                    "INSERT INTO directories(library_section_id, parent_directory_id, path, created_at,"
                    " updated_at) VALUES(?, NULL, '', ?, 0)",
                    (section, now),
                )
        return section

    def set_sonic(self, section_id: int, wanted: bool) -> None:
        """The library's switch "Analyze audio tracks for sonic features"; its real key is not known
        (docs/plex-facts.md#not-confirmed)."""
        self._section(section_id)
        with db.writing(self.library) as connection:
            connection.execute(
                "UPDATE library_sections SET user_fields=?, updated_at=? WHERE id=?",
                ("" if wanted else "pr%3AsimulatorMusicAnalysis=0", self.now(), section_id),
            )

    def _section(self, section_id: int) -> Section:
        row = self.library.execute(
            "SELECT id, section_type, language, agent FROM library_sections WHERE id=?", (section_id,)
        ).fetchone()
        if row is None:
            raise LibraryError(f"There is no section {section_id}.")
        return Section(int(row[0]), int(row[1]), row[2] or "", row[3] or "")

    def locations(self, section_id: int) -> list[tuple[int, str, int]]:
        """(location id, root path, id of its root folder) of a section."""
        roots = self.library.execute(
            "SELECT id, root_path FROM section_locations WHERE library_section_id=? ORDER BY id", (section_id,)
        ).fetchall()
        folders = self.library.execute(
            "SELECT id FROM directories WHERE library_section_id=? AND parent_directory_id IS NULL ORDER BY id",
            (section_id,),
        ).fetchall()
        now = self.now()
        while len(folders) < len(roots):
            with db.writing(self.library) as connection:
                connection.execute(
                    "INSERT INTO directories(library_section_id, parent_directory_id, path, created_at,"
                    " updated_at) VALUES(?, NULL, '', ?, 0)",
                    (section_id, now),
                )
                folders.append((connection.last_insert_rowid(),))
        return [(int(root[0]), str(root[1]), int(folder[0])) for root, folder in zip(roots, folders, strict=False)]

    # -- scanning ------------------------------------------------------------------------------------------------------

    def scan(
        self,
        section_id: int,
        *,
        force: bool = False,
        path: str | None = None,
        empty_trash: bool = False,
        progress: Progress = quiet,
        should_stop: Callable[[], bool] = never,
        work: Callable[[], None] = lambda: None,
    ) -> ScanResult:
        """Bring the section in line with the files.

        Args:
            section_id: the section.
            force: look into every folder, whatever its date.
            path: only this folder and what is below it (a server path).
            empty_trash: remove for ever what is in the section's trash afterwards (the preference autoEmptyTrash).
            progress: called for each folder.
            should_stop: asked before each folder and file; True ends the scan there, and nothing is removed.
            work: done for each file taken in (the simulated cost of it).

        Raises:
            LibraryError: no such section.
        """
        return Scan(
            self,
            self._section(section_id),
            force=force,
            progress=progress,
            should_stop=should_stop,
            work=work,
        ).run(path, empty_trash)

    def empty_trash(self, section_id: int) -> int:
        """Remove for ever every trashed row of a section; return how many parts went.

        Watch state stays (it hangs on the guid).
        """
        connection = self.library
        removed = 0
        with db.writing(connection):
            section = {"s": section_id}
            gone = "library_section_id=:s AND deleted_at IS NOT NULL"
            items = f"{gone} AND metadata_type NOT IN (15, 18)"
            media = "SELECT id FROM media_items WHERE library_section_id=:s"
            dead = connection.execute(
                f"SELECT id FROM media_parts WHERE deleted_at IS NOT NULL AND media_item_id IN ({media})",  # noqa: S608
                section,
            ).fetchall()
            removed = len(dead)
            connection.executemany("DELETE FROM media_streams WHERE media_part_id=?", dead)
            connection.executemany("DELETE FROM media_parts WHERE id=?", dead)
            connection.execute(f"DELETE FROM media_items WHERE {gone}", section)  # noqa: S608
            connection.execute(
                f"DELETE FROM taggings WHERE metadata_item_id IN (SELECT id FROM metadata_items WHERE {items})",  # noqa: S608
                section,
            )
            connection.execute(f"DELETE FROM metadata_items WHERE {items}", section)  # noqa: S608
            connection.execute(f"DELETE FROM directories WHERE {gone}", section)  # noqa: S608
        return removed

    # -- metadata refresh ----------------------------------------------------------------------------------------------

    def refresh_items(
        self,
        ids: Iterable[int],
        *,
        work: Callable[[], None] = lambda: None,
        should_stop: Callable[[], bool] = never,
        progress: Callable[[int, str], None] = lambda _done, _title: None,
    ) -> int:
        """Refresh metadata of items one by one: dates and the change counter move, what the agent has for it is there
        again, ``work`` is done for each.

        Returns how many.
        """
        done = 0
        for item in ids:
            if should_stop():
                break
            work()
            with db.writing(self.library) as connection:
                change = db.next_change(connection)
                connection.execute(
                    "UPDATE metadata_items SET refreshed_at=?, updated_at=?, changed_at=? WHERE id=?",
                    (self.now(), self.now(), change, item),
                )
            self._download_again(item)
            done += 1
            if done % 10 == 1:
                row = self.library.execute("SELECT title FROM metadata_items WHERE id=?", (item,)).fetchone()
                progress(done, str(row[0]) if row else "")
        return done

    def _download_again(self, item: int) -> None:
        """References stay as they are: what somebody chose or uploaded is not replaced by what the agent has."""
        row = self.library.execute(
            "SELECT i.metadata_type, i.hash, s.agent FROM metadata_items i JOIN library_sections s ON"
            " s.id=i.library_section_id WHERE i.id=? AND i.user_thumb_url LIKE 'metadata://%'",
            (item,),
        ).fetchone()
        if row is not None:
            self.bundles.download(int(row[0]), str(row[1]), str(row[2]))

    def item_ids(self, section_id: int, metadata_types: Sequence[int] | None = None) -> Iterator[int]:
        """Living items of a section by id, read in pages: never all at once."""
        wanted = set(metadata_types) if metadata_types is not None else None
        last = 0
        while True:
            rows = self.library.execute(
                "SELECT id, metadata_type FROM metadata_items WHERE id>? AND +library_section_id=? AND"
                " +deleted_at IS NULL"
                " ORDER BY id LIMIT ?",
                (last, section_id, _REFRESH_PAGE),
            ).fetchall()
            if not rows:
                return
            last = int(rows[-1][0])
            yield from (int(row[0]) for row in rows if wanted is None or row[1] in wanted)

    def ids_below(self, section_id: int, path: str) -> list[int]:
        """Items that have a living file below a folder."""
        rows = self.library.execute(
            "SELECT DISTINCT m.metadata_item_id FROM media_parts p JOIN media_items m ON m.id=p.media_item_id"
            " WHERE p.file>=?1||'/' AND p.file<?1||'0' AND +p.deleted_at IS NULL AND m.library_section_id=?2",
            (path.rstrip("/"), section_id),
        ).fetchall()
        return [int(row[0]) for row in rows]

    def section_type(self, section_id: int) -> int:
        """1, 2, 8 or 13. Raises LibraryError for an unknown section."""
        return self._section(section_id).type

    def descendants(self, item_id: int) -> list[int]:
        """An item and everything below it (album → tracks, show → seasons → episodes)."""
        found, front = [item_id], [item_id]
        while front:
            front = [
                int(row[0])
                for parent in front
                for row in self.library.execute("SELECT id FROM metadata_items WHERE parent_id=?", (parent,)).fetchall()
            ]
            found.extend(front)
        return found

    # -- analysis ------------------------------------------------------------------------------------------------------

    def analyse(self, ids: Iterable[int], *, work: Callable[[], None] = lambda: None) -> tuple[int, int]:
        """Analyse items: read their files whole, note codecs and bit rates. Returns (analysed, failed)."""
        done = failed = 0
        for item in ids:
            work()
            if self._analyse(item):
                done += 1
            else:
                failed += 1
        return done, failed

    def _analyse(self, item: int) -> bool:
        parts = self.library.execute(
            "SELECT p.id, p.file, m.id, i.metadata_type FROM metadata_items i JOIN media_items m ON"
            " m.metadata_item_id=i.id"
            " JOIN media_parts p ON p.media_item_id=m.id WHERE i.id=? AND +p.deleted_at IS NULL",
            (item,),
        ).fetchall()
        for part, file, media, metadata_type in parts:
            if not self.volumes.exists(file):
                return False
            self.volumes.wait_for_content(file)
            host = self.volumes.host_path(file)
            section_type = {db.EPISODE: db.SHOW, db.TRACK: db.ARTIST}.get(metadata_type, metadata_type)
            try:
                found = PROBES[section_type](host)
                probe.read_through(host)
            except probe.ProbeError:
                return False
            digest = hashlib.sha1(f"{file}:{host.stat().st_size}".encode(), usedforsecurity=False).hexdigest()
            now = self.now()
            with db.writing(self.library) as connection:
                change = db.next_change(connection)
                connection.execute("UPDATE media_parts SET hash=?, updated_at=? WHERE id=?", (digest, now, part))
                connection.execute(
                    "UPDATE media_items SET media_analysis_version=?, updated_at=?, bitrate=? WHERE id=?",
                    (ANALYSIS_VERSION, now, found.bitrate, media),
                )
                write_streams(connection, media, part, found, now)
                thumb = self.bundles.make(digest) if metadata_type in (db.MOVIE, db.EPISODE) else ""
                connection.execute(
                    # A picture that somebody chose or uploaded stays: analysis only fills what is empty.
                    "UPDATE metadata_items SET changed_at=?, user_thumb_url=CASE WHEN metadata_type IN (1, 4)"
                    " AND coalesce(user_thumb_url, '') = '' THEN ? ELSE user_thumb_url"
                    " END WHERE id=?",
                    (change, thumb, item),
                )
        return bool(parts)

    # -- sonic ---------------------------------------------------------------------------------------------------------

    def sonic_sections(self) -> list[int]:
        """Music sections whose own switch is on."""
        rows = self.library.execute(
            "SELECT id FROM library_sections WHERE section_type=? AND coalesce(user_fields, '') NOT LIKE"
            " '%MusicAnalysis=0%' ORDER BY id",
            (db.ARTIST,),
        ).fetchall()
        return [int(row[0]) for row in rows]

    def sonic_pending(self, section_ids: Sequence[int], after: int, limit: int) -> list[tuple[int, str]]:
        """The next tracks without Sonic data: (id, file), by id, greater than ``after``."""
        if not section_ids:
            return []
        marks = ",".join("?" * len(section_ids))
        rows = self.library.execute(
            "SELECT i.id, (SELECT p.file FROM media_items m JOIN media_parts p ON p.media_item_id=m.id WHERE"  # noqa: S608
            " m.metadata_item_id=i.id"
            " AND +p.deleted_at IS NULL LIMIT 1) FROM metadata_items i WHERE i.id>? AND +i.metadata_type=10 AND"
            " +i.deleted_at IS NULL"
            f" AND +i.library_section_id IN ({marks}) AND (i.extra_data IS NULL OR i.extra_data NOT LIKE"
            f" '%musicAnalysisVersion%')"
            " ORDER BY i.id LIMIT ?",
            (after, *section_ids, limit),
        ).fetchall()
        return [(int(row[0]), str(row[1])) for row in rows if row[1] is not None]

    def write_sonic(self, track_id: int, vector: Sequence[float], *, only: str = "") -> None:
        """What the server writes for an analysed track: the mark in ``extra_data``, the vector (type 7) in blobs.db.

        An album, then its artist, gets the mark once all its living tracks have it. ``only``: ``marks`` or ``vectors``
        leaves the other out. Raises LibraryError for an unknown track.
        """
        if len(vector) != SONIC_FLOATS:
            raise LibraryError(f"A Sonic vector has {SONIC_FLOATS} numbers, found {len(vector)}.")
        row = self.library.execute("SELECT parent_id, guid FROM metadata_items WHERE id=?", (track_id,)).fetchone()
        if row is None:
            raise LibraryError(f"There is no track {track_id}.")
        if only != "marks":
            self._write_vector(track_id, row[1], vector)
        if only != "vectors":
            self._write_marks(track_id, row[0])

    def _write_vector(self, track_id: int, guid: str, vector: Sequence[float]) -> None:
        """One vector a track. A guid stands once only (the unique index): a second track of it gets none beside its id.

        What Plex does there nobody says; the index leaves no more than this.
        """
        text = ",".join(f"{value:.6f}" for value in vector)
        with db.writing(self.pair.blobs) as blobs:
            blobs.execute(
                "DELETE FROM blobs WHERE linked_type='metadata_item' AND linked_id=? AND blob_type=?",
                (track_id, db.BLOB_SONIC),
            )
            blobs.execute(
                "INSERT INTO blobs(blob, linked_type, linked_id, linked_guid, created_at, blob_type)"
                " SELECT :vector, 'metadata_item', :track, CASE WHEN NOT EXISTS (SELECT 1 FROM blobs WHERE"
                " linked_type='metadata_item' AND linked_guid=:guid AND blob_type=:kind) THEN :guid END, :now, :kind",
                {
                    "vector": gzip.compress(text.encode("ascii"), mtime=0),
                    "track": track_id,
                    "guid": guid,
                    "now": self.now(),
                    "kind": db.BLOB_SONIC,
                },
            )

    def _write_marks(self, track_id: int, parent: int | None) -> None:
        with db.writing(self.library) as connection:
            self._mark_sonic(connection, track_id)
            while parent is not None:
                left = connection.execute(
                    "SELECT 1 FROM metadata_items WHERE parent_id=? AND +deleted_at IS NULL"
                    " AND (extra_data IS NULL OR extra_data NOT LIKE '%musicAnalysisVersion%') LIMIT 1",
                    (parent,),
                ).fetchone()
                if left is not None:
                    break
                self._mark_sonic(connection, int(parent))
                parent = connection.execute("SELECT parent_id FROM metadata_items WHERE id=?", (parent,)).fetchone()[0]

    def _mark_sonic(self, connection: Any, item: int) -> None:
        row = connection.execute("SELECT extra_data FROM metadata_items WHERE id=?", (item,)).fetchone()
        data = json.loads(row[0]) if row and row[0] else {}
        data[SONIC_KEY] = "1"
        pairs = [(key, value) for key, value in data.items() if key != "url"]
        data["url"] = "&".join(f"{quote(key, safe='')}={quote(str(value), safe='')}" for key, value in pairs)
        connection.execute(
            "UPDATE metadata_items SET extra_data=?, changed_at=? WHERE id=?",
            (json.dumps(data, separators=(",", ":")), db.next_change(connection), item),
        )

    def sonic_vector(self, track_id: int) -> list[float] | None:
        """The vector of a track, or None."""
        row = self.pair.blobs.execute(
            "SELECT blob FROM blobs WHERE linked_type='metadata_item' AND linked_id=? AND blob_type=?",
            (track_id, db.BLOB_SONIC),
        ).fetchone()
        return None if row is None else [float(value) for value in gzip.decompress(row[0]).decode("ascii").split(",")]

    # -- what people do ------------------------------------------------------------------------------------------------

    def add_account(self, account_id: int, name: str) -> None:
        """An account: 1 is the owner, others have their plex.tv id. A known id gets the new name."""
        now = self.now()
        with db.writing(self.library) as connection:
            connection.execute(
                "INSERT INTO accounts(id, name, created_at, updated_at, default_audio_language,"
                " default_subtitle_language)"
                " VALUES(?, ?, ?, ?, 'en', 'en') ON CONFLICT(id) DO UPDATE SET name=excluded.name,"
                " updated_at=excluded.updated_at",
                (account_id, name, now, now),
            )

    def add_device(self, identifier: str, name: str, platform: str) -> int:
        """A player; returns its id."""
        now = self.now()
        with db.writing(self.library) as connection:
            connection.execute(
                "INSERT INTO devices(identifier, name, platform, created_at, updated_at) VALUES(?, ?, ?, ?, ?)",
                (identifier, name, platform, now, now),
            )
            return int(connection.last_insert_rowid())

    def find(self, title: str, metadata_type: int | None = None, section_id: int | None = None) -> int:
        """The id of the first living item of that title. Raises LibraryError when there is none."""
        row = self.library.execute(
            "SELECT id FROM metadata_items WHERE title=? AND +deleted_at IS NULL AND (?2 IS NULL OR metadata_type=?2)"
            " AND (?3 IS NULL OR library_section_id=?3) ORDER BY id LIMIT 1",
            (title, metadata_type, section_id),
        ).fetchone()
        if row is None:
            raise LibraryError(f"There is no item called {title!r}.")
        return int(row[0])

    def mark_watched(
        self, item_id: int, account_id: int = 1, *, at: int | None = None, count: int = 1, device_id: int | None = None
    ) -> None:
        """The account played the item to its end: its settings row and one row of history."""
        viewed = self.now() if at is None else at
        self._setting(
            item_id,
            account_id,
            viewed,
            "view_count=coalesce(view_count, 0)+:v, last_viewed_at=:at, view_offset=NULL",
            count,
        )
        item = self.library.execute(
            'SELECT i.guid, i.metadata_type, i.library_section_id, g.title, p."index", p.title, i."index",'
            " i.title, i.user_thumb_url,"
            " g.guid, i.originally_available_at FROM metadata_items i LEFT JOIN metadata_items p ON p.id=i.parent_id"
            " LEFT JOIN metadata_items g ON g.id=p.parent_id WHERE i.id=?",
            (item_id,),
        ).fetchone()
        with db.writing(self.library) as connection:
            connection.execute(
                "INSERT INTO metadata_item_views(account_id, guid, metadata_type, library_section_id,"
                " grandparent_title, parent_index,"
                ' parent_title, "index", title, thumb_url, viewed_at, grandparent_guid, originally_available_at,'
                " device_id)"
                " VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (account_id, *item[:9], viewed, item[9], item[10], device_id),
            )

    def set_offset(self, item_id: int, milliseconds: int, account_id: int = 1, *, at: int | None = None) -> None:
        """The account stopped in the middle."""
        seen = self.now() if at is None else at
        self._setting(item_id, account_id, seen, "view_offset=:v, last_viewed_at=:at", milliseconds)

    def rate(self, item_id: int, rating: float, account_id: int = 1, *, at: int | None = None) -> None:
        """The account gave 0..10 points."""
        seen = self.now() if at is None else at
        self._setting(item_id, account_id, seen, "rating=:v, last_rated_at=:at", rating)

    def _setting(self, item_id: int, account_id: int, at: int, assignment: str, value: float) -> None:
        row = self.library.execute("SELECT guid FROM metadata_items WHERE id=?", (item_id,)).fetchone()
        if row is None:
            raise LibraryError(f"There is no item {item_id}.")
        with db.writing(self.library) as connection:
            found = connection.execute(
                "SELECT id FROM metadata_item_settings WHERE guid=? AND account_id=?", (row[0], account_id)
            ).fetchone()
            if found is None:
                connection.execute(
                    "INSERT INTO metadata_item_settings(account_id, guid, created_at) VALUES(?, ?, ?)",
                    (account_id, row[0], at),
                )
                found = (connection.last_insert_rowid(),)
            change = connection.execute("SELECT coalesce(max(changed_at), 0)+1 FROM metadata_item_settings").fetchone()[
                0
            ]
            connection.execute(
                f"UPDATE metadata_item_settings SET {assignment}, updated_at=:at, changed_at=:change WHERE"  # noqa: S608
                f" id=:id",
                {"v": value, "at": at, "change": change, "id": found[0]},
            )

    def add_playlist(self, title: str, item_ids: Sequence[int], account_id: int = 1) -> int:
        """A playlist of an account; returns its id."""
        now = self.now()
        with db.writing(self.library) as connection:
            item = insert_item(
                connection,
                section=None,
                metadata_type=db.PLAYLIST,
                parent=None,
                title=title,
                guid=f"com.plexapp.agents.none://{uuid.uuid4()}",
                now=now,
                media_item_count=len(item_ids),
            )
            connection.execute(
                "INSERT INTO metadata_item_accounts(account_id, metadata_item_id) VALUES(?, ?)", (account_id, item)
            )
            for position, member in enumerate(item_ids, 1):
                connection.execute(
                    'INSERT INTO play_queue_generators(playlist_id, metadata_item_id, "order", created_at,'
                    " updated_at, changed_at)"
                    " VALUES(?, ?, ?, ?, ?, ?)",
                    (item, member, 1000.0 * position, now, now, position),
                )
        return item

    def playlist_items(self, playlist_id: int) -> list[int]:
        """The members of a playlist in order."""
        rows = self.library.execute(
            'SELECT metadata_item_id FROM play_queue_generators WHERE playlist_id=? ORDER BY "order"', (playlist_id,)
        ).fetchall()
        return [int(row[0]) for row in rows]

    def add_collection(self, section_id: int, title: str, item_ids: Sequence[int]) -> int:
        """A collection (item type 18, tag type 2, a tagging per member); returns its id."""
        self._section(section_id)
        now = self.now()
        with db.writing(self.library) as connection:
            item = insert_item(
                connection,
                section=section_id,
                metadata_type=db.COLLECTION,
                parent=None,
                title=title,
                guid=f"collection://{uuid.uuid4()}",
                now=now,
            )
            connection.execute(
                "INSERT INTO tags(metadata_item_id, tag, tag_type, created_at, updated_at) VALUES(?, ?, 2, ?, ?)",
                (item, title, now, now),
            )
            tag = connection.last_insert_rowid()
            for position, member in enumerate(item_ids):
                connection.execute(
                    'INSERT INTO taggings(metadata_item_id, tag_id, "index", created_at) VALUES(?, ?, ?, ?)',
                    (member, tag, position, now),
                )
        return item
