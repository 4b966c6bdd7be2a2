"""Words, records and single rows that the library and its scan share."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sandbox.plex import database as db
from sandbox.plex import probe

SECTION_TYPES = {"movie": db.MOVIE, "show": db.SHOW, "artist": db.ARTIST, "photo": db.PHOTO}
LEAF_TYPES = {db.MOVIE: db.MOVIE, db.SHOW: db.EPISODE, db.ARTIST: db.TRACK, db.PHOTO: db.PHOTO}
SONIC_KEY = "ms:musicAnalysisVersion"
SONIC_FLOATS = 50
ANALYSIS_VERSION = 6

SUFFIXES = {
    db.MOVIE: probe.VIDEO_SUFFIXES,
    db.SHOW: probe.VIDEO_SUFFIXES,
    db.ARTIST: probe.AUDIO_SUFFIXES,
    db.PHOTO: probe.PHOTO_SUFFIXES,
}
PROBES = {db.MOVIE: probe.video, db.SHOW: probe.video, db.ARTIST: probe.audio, db.PHOTO: probe.photo}
_GUID_KINDS = {
    db.MOVIE: "movie",
    db.SHOW: "show",
    db.SEASON: "season",
    db.EPISODE: "episode",
    db.ARTIST: "artist",
    db.ALBUM: "album",
    db.TRACK: "track",
}


class LibraryError(Exception):
    """Something asked for is not in the library."""


@dataclass(frozen=True, slots=True)
class ScanProgress:
    """One step of a scan: what is being done now and the counts so far."""

    phase: str
    title: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class ScanResult:
    """What a scan found."""

    added: int = 0
    updated: int = 0
    trashed: int = 0
    restored: int = 0
    removed: int = 0
    folders: int = 0
    folders_skipped: int = 0
    missing: int = 0
    cancelled: bool = False


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file the scan takes in."""

    path: str
    name: str
    size: int
    mtime: int
    probe: probe.Probe


@dataclass(frozen=True, slots=True)
class Section:
    id: int
    type: int
    language: str
    agent: str


Progress = Callable[[ScanProgress], None]


def never() -> bool:
    return False


def quiet(_progress: ScanProgress) -> None:
    """Nobody watches."""


def insert_item(
    connection: Any,
    *,
    section: int | None,
    metadata_type: int,
    parent: int | None,
    title: str,
    guid: str,
    now: int,
    **columns: Any,
) -> int:
    """One row of metadata_items. ``columns``: further columns by name."""
    values: dict[str, Any] = {
        "library_section_id": section,
        "parent_id": parent,
        "metadata_type": metadata_type,
        "guid": guid,
        "title": title,
        "title_sort": sort_title(title),
        "original_title": "",
        "studio": "",
        "summary": "",
        "user_thumb_url": "",
        "user_art_url": "",
        "added_at": now,
        "created_at": now,
        "updated_at": now,
        "refreshed_at": now,
        "changed_at": db.next_change(connection),
        "resources_changed_at": db.next_change(connection),
        "hash": item_hash(guid, section),
        **columns,
    }
    names = ", ".join(f'"{name}"' for name in values)
    connection.execute(
        f"INSERT INTO metadata_items({names}) VALUES({', '.join('?' * len(values))})",
        tuple(values.values()),
    )
    return int(connection.last_insert_rowid())


def item_hash(guid: str, section: int | None) -> str:
    """The name of an item's bundle: 40 hexadecimal digits."""
    return hashlib.sha1(f"{guid}:{section}".encode(), usedforsecurity=False).hexdigest()


def sort_title(title: str) -> str:
    """The title without its leading article, as Plex sorts it."""
    for article in ("The ", "A ", "An "):
        if title.startswith(article):
            return title[len(article) :]
    return title


def make_guid(metadata_type: int, *names: Any) -> str:
    """A guid as Plex's own agents write it (``plex://track/<24 hex digits>``), a function of the names."""
    text = "\x1f".join(str(name).casefold() for name in names)
    digest = hashlib.sha1(f"{metadata_type}\x1f{text}".encode(), usedforsecurity=False).hexdigest()
    return f"plex://{_GUID_KINDS[metadata_type]}/{digest[:24]}"


def write_streams(connection: Any, media: int, part: int, found: probe.Probe, now: int) -> None:
    """Streams of a part: rows that are there keep their ids (a person's stream choice hangs on them)."""
    known = dict(
        connection.execute(
            'SELECT "index", id FROM media_streams WHERE media_part_id=? AND "index" IS NOT NULL', (part,)
        ).fetchall()
    )
    for stream in found.streams:
        values = (stream.codec, stream.language, stream.channels or None, stream.bitrate or None, now)
        if stream.index in known:
            connection.execute(
                "UPDATE media_streams SET codec=?, language=?, channels=?, bitrate=?, updated_at=? WHERE id=?",
                (*values, known[stream.index]),
            )
        else:
            connection.execute(
                "INSERT INTO media_streams(codec, language, channels, bitrate, updated_at, created_at,"
                " stream_type_id, media_item_id,"
                ' media_part_id, url, "index", "default") VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, \'\', ?, ?)',
                (*values, now, stream.kind, media, part, stream.index, int(stream.index == 0)),
            )
