"""Large libraries without files: rows only, as many as the reference library has
(docs/plex-facts.md#reference-library), in a minute.

python -m sandbox.plex.synthetic DATABASES_DIR [--tracks 456534] [--sonic 0.178]
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sandbox.plex import database as db
from sandbox.plex.library import SONIC_FLOATS, Library
from sandbox.plex.records import make_guid, sort_title

_TRACKS_PER_ALBUM = 12
_ALBUMS_PER_ARTIST = 4
_CHUNK = 5_000
_BORN = 1_600_000_000
_MARK = '{"ms:musicAnalysisVersion":"1","url":"ms%3AmusicAnalysisVersion=1"}'
_WORDS = (
    "Amber",
    "Coast",
    "Distant",
    "Ember",
    "Field",
    "Glass",
    "Harbour",
    "Island",
    "Juniper",
    "Lantern",
    "Meadow",
    "North",
)

_ITEM = (
    "INSERT INTO metadata_items(id, library_section_id, parent_id, metadata_type, guid, title, title_sort,"
    " original_title, summary,"
    ' "index", duration, user_thumb_url, added_at, created_at, updated_at, refreshed_at, changed_at, extra_data,'
    " hash, media_item_count)"
    " VALUES(?, ?, ?, ?, ?, ?, ?, '', '', ?, ?, '', ?, ?, ?, ?, ?, ?, ?, ?)"
)
_MEDIA = (
    "INSERT INTO media_items(id, library_section_id, section_location_id, metadata_item_id, type_id, size,"
    " duration, bitrate, container,"
    " video_codec, audio_codec, audio_channels, hints, created_at, updated_at, media_analysis_version)"
    " VALUES(?, ?, ?, ?, 10, ?, 210000, 320000, 'mp3', '', 'mp3', 2, '', ?, ?, 6)"
)
_PART = (
    "INSERT INTO media_parts(id, media_item_id, directory_id, hash, open_subtitle_hash, file, size, duration,"
    " created_at, updated_at, extra_data) VALUES(?, ?, ?, ?, '', ?, ?, 210000, ?, ?, '')"
)
_STREAM = (
    "INSERT INTO media_streams(stream_type_id, media_item_id, url, codec, language, created_at, updated_at,"
    ' "index", media_part_id, channels, bitrate, "default")'
    " VALUES(2, ?, '', 'mp3', '', ?, ?, 0, ?, 2, 320000, 1)"
)
_BLOB = (
    "INSERT INTO blobs(blob, linked_type, linked_id, linked_guid, created_at, blob_type)"
    " VALUES(?, 'metadata_item', ?, ?, ?, 7)"
)


def fill(
    databases_dir: Path | str, *, tracks: int, sonic: float = 0.178, root: str = "/Media/Music", seed: int = 1
) -> int:
    """Add a music section with so many tracks (and their albums, artists, media, parts, streams); returns its id.

    The first ``sonic`` share of the tracks has Sonic data. Triggers and the ICU index are set aside meanwhile and made
    again as they were.
    """
    with Library(databases_dir) as library:
        section = library.add_section("Music", "artist", "tv.plex.agents.music", "Plex Music", [root])
        location, _root, folder = library.locations(section)[0]
        sql: Any = library.library
        aside = sql.execute(
            "SELECT type, name, sql FROM sqlite_master WHERE type='trigger' OR name='index_title_sort_icu'"
        ).fetchall()
        with db.writing(sql):
            for kind, name, _text in aside:
                sql.execute(f'DROP {kind} "{name}"')
            _rows(
                library,
                section=section,
                location=location,
                folder=folder,
                root=root,
                tracks=range(tracks),
                sonic=int(tracks * sonic),
                numbers=random.Random(seed),
            )
            for table in ("fts4_metadata_titles_icu", "fts4_tag_titles_icu"):
                sql.execute(f"INSERT INTO {table}({table}) VALUES('rebuild')")
            for _kind, _name, text in aside:
                sql.execute(text)
    return section


def grow(databases_dir: Path | str, *, section: int, tracks: range, root: str = "/Media/Music") -> int:
    """Add more tracks to a section that `fill` made, as a scan does: triggers fire, ids go on where the counters are.

    :param tracks: their numbers, beyond those of `fill` and from an artist's first one on (a multiple of 48).
    :returns: rows of `metadata_items` added (tracks, albums, artists).
    """
    if tracks.start % (_TRACKS_PER_ALBUM * _ALBUMS_PER_ARTIST):
        raise ValueError(f"Expected the number of an artist's first track, found {tracks.start}.")
    with Library(databases_dir) as library:
        sql: Any = library.library
        location, _root, folder = library.locations(section)[0]
        before = int(sql.execute("SELECT count(*) FROM metadata_items").fetchone()[0])
        with db.writing(sql):
            _rows(
                library,
                section=section,
                location=location,
                folder=folder,
                root=root,
                tracks=tracks,
                sonic=0,
                numbers=random.Random(0),
            )
        return int(sql.execute("SELECT count(*) FROM metadata_items").fetchone()[0]) - before


def _next_id(sql: Any, table: str) -> int:
    """What AUTOINCREMENT would give: beyond every id there is, and every one there was."""
    highest = sql.execute(
        f"SELECT max(coalesce((SELECT max(id) FROM {table}), 0),"  # noqa: S608 - two names of tables, written here
        " coalesce((SELECT seq FROM sqlite_sequence WHERE name=?), 0))",
        (table,),
    ).fetchone()
    return int(highest[0]) + 1


def _rows(
    library: Library,
    *,
    section: int,
    location: int,
    folder: int,
    root: str,
    tracks: Sequence[int],
    sonic: int,
    numbers: random.Random,
) -> None:
    """Everything for these tracks, in chunks."""
    sql: Any = library.library
    first = _next_id(sql, "metadata_items")
    media = max(_next_id(sql, table) for table in ("media_items", "media_parts"))
    batch: dict[str, list[tuple[Any, ...]]] = {_ITEM: [], _MEDIA: [], _PART: [], _STREAM: []}
    vectors: list[tuple[Any, ...]] = []
    for kind, item, parent, names, number, track in _items(tracks, first):
        title = str(names[-1])
        guid = make_guid(kind, *names)
        born = _BORN + item
        marked = track is not None and track < sonic
        digest = hashlib.sha1(guid.encode(), usedforsecurity=False).hexdigest()
        duration = 210_000 if kind == db.TRACK else None
        extra = _MARK if marked else ""
        values = (
            item,
            section,
            parent,
            kind,
            guid,
            title,
            sort_title(title),
            number,
            duration,
            born,
            born,
            born,
            born,
            item,
        )
        batch[_ITEM].append((*values, extra or None, digest, int(kind == db.TRACK)))
        if track is None:
            continue
        file = f"{root}/{names[0]}/{names[1]}/{number:02d} - {title}.mp3"
        batch[_MEDIA].append((media, section, location, item, 8_000_000 + track, born, born))
        batch[_PART].append((media, media, folder, digest, file, 8_000_000 + track, born, born))
        batch[_STREAM].append((media, born, born, media))
        media += 1
        if marked:
            text = ",".join(f"{numbers.uniform(-1, 1):.6f}" for _ in range(SONIC_FLOATS))
            vectors.append((gzip.compress(text.encode(), 1, mtime=0), item, guid, born))
        if len(batch[_ITEM]) >= _CHUNK:
            _flush(sql, batch)
    _flush(sql, batch)
    with db.writing(library.pair.blobs) as blobs:
        blobs.executemany(_BLOB, vectors)


def _flush(sql: Any, batch: dict[str, list[tuple[Any, ...]]]) -> None:
    for statement, rows in batch.items():
        sql.executemany(statement, rows)
        rows.clear()


def _items(
    tracks: Sequence[int], first: int
) -> Iterator[tuple[int, int, int | None, tuple[object, ...], int, int | None]]:
    """(type, id, parent id, names from the artist down, number, track or None) for artists, albums and tracks."""
    item = first
    artist = album = 0
    for track in tracks:
        album_number, position = divmod(track, _TRACKS_PER_ALBUM)
        artist_number, which = divmod(album_number, _ALBUMS_PER_ARTIST)
        name = f"{_WORDS[artist_number % len(_WORDS)]} {artist_number}"
        if position == 0 and which == 0:
            artist, item = item, item + 1
            yield db.ARTIST, artist, None, (name,), 1, None
        record = f"{_WORDS[album_number * 5 % len(_WORDS)]} {which + 1}"
        if position == 0:
            album, item = item, item + 1
            yield db.ALBUM, album, artist, (name, record), which + 1, None
        title = f"{_WORDS[track * 7 % len(_WORDS)]} {_WORDS[track % 11]} {position + 1}"
        yield db.TRACK, item, album, (name, record, title), position + 1, track
        item += 1


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.plex.synthetic")
    parser.add_argument("databases", type=Path)
    parser.add_argument("--tracks", type=int, default=456_534)
    parser.add_argument("--sonic", type=float, default=0.178)
    options = parser.parse_args()
    section = fill(options.databases, tracks=options.tracks, sonic=options.sonic)
    print(f"Section {section}: {options.tracks} tracks in {options.databases}.")


if __name__ == "__main__":
    main()
