"""New files become items: from tags (music), from names (films, episodes), from folders (photos)."""

from __future__ import annotations

import hashlib
import re
from pathlib import PurePosixPath
from typing import Any

from sandbox.plex import database as db
from sandbox.plex.bundles import Bundles
from sandbox.plex.records import LEAF_TYPES, FoundFile, Section, insert_item, item_hash, make_guid, write_streams

_EPISODE = re.compile(r"[Ss](\d{1,3})[Ee](\d{1,4})(?:\s*-\s*(.+))?")
_TITLE_YEAR = re.compile(r"^(?P<title>.+?)\s*\((?P<year>\d{4})\)")
_TRACK_NUMBER = re.compile(r"^(?P<number>\d{1,3})\s*[-. ]\s*(?P<title>.+)$")


class Adder:
    """Adds files of one section to the rows that are there. ``location``: the section location being scanned."""

    def __init__(self, section: Section, bundles: Bundles) -> None:
        self.section = section
        self.bundles = bundles
        self.location = 0

    def add(self, connection: Any, folder: int, path: str, taken: FoundFile, now: int) -> None:
        make = {
            db.ARTIST: self._track,
            db.MOVIE: self._movie,
            db.SHOW: self._episode,
            db.PHOTO: self._photo,
        }[self.section.type]
        item = make(connection, path, taken, now)
        found = taken.probe
        ratio = round(found.width / found.height, 2) if found.height else None
        connection.execute(
            "INSERT INTO media_items(library_section_id, section_location_id, metadata_item_id, type_id, width,"
            " height, size, duration,"
            " bitrate, container, video_codec, audio_codec, display_aspect_ratio, frames_per_second,"
            " audio_channels, hints, created_at,"
            " updated_at, media_analysis_version) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, '', ?, ?, 0)",
            (
                self.section.id,
                self.location,
                item,
                LEAF_TYPES[self.section.type],
                found.width or None,
                found.height or None,
                taken.size,
                found.duration or None,
                found.bitrate or None,
                found.container,
                found.codec(db.STREAM_VIDEO),
                found.codec(db.STREAM_AUDIO),
                ratio,
                found.frames_per_second or None,
                found.channels or None,
                now,
                now,
            ),
        )
        media = int(connection.last_insert_rowid())
        connection.execute(
            "INSERT INTO media_parts(media_item_id, directory_id, hash, open_subtitle_hash, file, size,"
            " duration, created_at, updated_at,"
            " extra_data) VALUES(?, ?, '', '', ?, ?, ?, ?, ?, '')",
            (media, folder, taken.path, taken.size, found.duration or None, now, taken.mtime),
        )
        write_streams(connection, media, int(connection.last_insert_rowid()), found, now)
        connection.execute(
            "UPDATE metadata_items SET media_item_count=(SELECT count(*) FROM media_items WHERE"
            " metadata_item_id=?1 AND +deleted_at IS NULL)"
            " WHERE id=?1",
            (item,),
        )

    def _one(
        self,
        connection: Any,
        metadata_type: int,
        parent: int | None,
        title: str,
        guid: str,
        *,
        now: int,
        by_guid: bool = False,
        **columns: Any,
    ) -> int:
        """The item of that title (or guid) below that parent.

        The one that exists, taken out of the trash if need be, or a new one.
        """
        key, value = ("guid", guid) if by_guid else ("title", title)
        row = connection.execute(
            f"SELECT id, deleted_at FROM metadata_items WHERE {key}=? AND metadata_type=? AND"  # noqa: S608
            f" library_section_id=?"
            " AND parent_id IS ? ORDER BY deleted_at IS NOT NULL, id LIMIT 1",
            (value, metadata_type, self.section.id, parent),
        ).fetchone()
        if row is None:
            return insert_item(
                connection,
                section=self.section.id,
                metadata_type=metadata_type,
                parent=parent,
                title=title,
                guid=guid,
                now=now,
                **self.bundles.download(metadata_type, item_hash(guid, self.section.id), self.section.agent),
                **columns,
            )
        if row[1] is not None:
            connection.execute(
                "UPDATE metadata_items SET deleted_at=NULL, changed_at=? WHERE id=?",
                (db.next_change(connection), row[0]),
            )
        return int(row[0])

    def _track(self, connection: Any, path: str, taken: FoundFile, now: int) -> int:
        tags = taken.probe.tags
        stem = PurePosixPath(taken.name).stem
        named = _TRACK_NUMBER.match(stem)
        folder = PurePosixPath(path)
        artist = tags.get("albumartist") or tags.get("artist") or folder.parent.name or "[Unknown Artist]"
        album = tags.get("album") or folder.name or "[Unknown Album]"
        title = tags.get("title") or (named["title"] if named else stem)
        number = _leading_int(tags.get("tracknumber")) or (int(named["number"]) if named else None)
        year = _leading_int(tags.get("date"))
        artist_id = self._one(connection, db.ARTIST, None, artist, make_guid(db.ARTIST, artist), now=now)
        album_id = self._one(
            connection,
            db.ALBUM,
            artist_id,
            album,
            make_guid(db.ALBUM, artist, album),
            now=now,
            year=year,
            originally_available_at=_year_start(year),
            index=1,
        )
        performer = tags.get("artist", "")
        return self._one(
            connection,
            db.TRACK,
            album_id,
            title,
            make_guid(db.TRACK, artist, album, number, title),
            now=now,
            by_guid=True,
            index=number,
            absolute_index=number,
            duration=taken.probe.duration or None,
            original_title=performer if performer and performer != artist else "",
        )

    def _movie(self, connection: Any, path: str, taken: FoundFile, now: int) -> int:
        title, year = _title_and_year(PurePosixPath(taken.name).stem, PurePosixPath(path).name)
        return self._one(
            connection,
            db.MOVIE,
            None,
            title,
            make_guid(db.MOVIE, title, year),
            now=now,
            by_guid=True,
            year=year,
            duration=taken.probe.duration or None,
            originally_available_at=_year_start(year),
        )

    def _episode(self, connection: Any, path: str, taken: FoundFile, now: int) -> int:
        stem = PurePosixPath(taken.name).stem
        match = _EPISODE.search(stem)
        folder = PurePosixPath(path)
        in_season = folder.name.lower().startswith(("season", "saison", "specials"))
        show, year = _title_and_year((folder.parent if in_season else folder).name, "")
        season, number = (int(match[1]), int(match[2])) if match else (1, None)
        title = (match[3] or f"Episode {number}") if match else stem
        show_id = self._one(
            connection,
            db.SHOW,
            None,
            show,
            make_guid(db.SHOW, show),
            now=now,
            year=year,
            originally_available_at=_year_start(year),
        )
        season_id = self._one(
            connection,
            db.SEASON,
            show_id,
            f"Season {season}",
            make_guid(db.SEASON, show, season),
            now=now,
            index=season,
        )
        return self._one(
            connection,
            db.EPISODE,
            season_id,
            title,
            make_guid(db.EPISODE, show, season, number, "" if match else stem),
            now=now,
            by_guid=True,
            index=number,
            duration=taken.probe.duration or None,
        )

    def _photo(self, connection: Any, path: str, taken: FoundFile, now: int) -> int:
        folder = PurePosixPath(path).name
        none = "com.plexapp.agents.none://"
        album = self._one(
            connection, db.PHOTO_ALBUM, None, folder, f"{none}{_digest(path)}?lang={self.section.language}", now=now
        )
        return self._one(
            connection,
            db.PHOTO,
            album,
            PurePosixPath(taken.name).stem,
            f"{none}{_digest(taken.path)}?lang={self.section.language}",
            now=now,
            by_guid=True,
            originally_available_at=taken.probe.taken_at or taken.mtime,
        )


def _digest(text: str) -> str:
    return hashlib.sha1(text.encode("utf-8", "surrogateescape"), usedforsecurity=False).hexdigest()


def _title_and_year(name: str, fallback: str) -> tuple[str, int | None]:
    """``The Long Pier (1987)`` → its title and year; the folder's name helps when the file's has no year."""
    for text in (name, fallback):
        match = _TITLE_YEAR.match(text)
        if match:
            return match["title"], int(match["year"])
    return name, None


def _leading_int(text: str | None) -> int | None:
    """``3/12`` → 3, ``2021-05-01`` → 2021."""
    match = re.match(r"\d+", text or "")
    return int(match[0]) if match else None


def _year_start(year: int | None) -> int | None:
    """Unix seconds of 1 January of a year."""
    return None if year is None else int((year - 1970) * 365.2425 * 86400)
