"""Rows of the library as the elements the HTTP API shows.

Every query uses an index and reads a page, never the whole library.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sandbox.plex import database as db
from sandbox.plex.nodes import Node, Value
from sandbox.plex.volumes import Volumes

TYPE_NAMES = {
    db.MOVIE: "movie",
    db.SHOW: "show",
    db.SEASON: "season",
    db.EPISODE: "episode",
    db.ARTIST: "artist",
    db.ALBUM: "album",
    db.TRACK: "track",
    db.PHOTO: "photo",
    db.PHOTO_ALBUM: "photo",
    db.PLAYLIST: "playlist",
    db.COLLECTION: "collection",
}
_TAGS = {
    db.MOVIE: "Video",
    db.EPISODE: "Video",
    db.TRACK: "Track",
    db.PHOTO: "Photo",
    db.PHOTO_ALBUM: "Photo",
    db.PLAYLIST: "Playlist",
}
_PARENTS = frozenset({db.SHOW, db.SEASON, db.ARTIST, db.ALBUM, db.PHOTO_ALBUM, db.COLLECTION})
SECTION_NAMES = {db.MOVIE: "movie", db.SHOW: "show", db.ARTIST: "artist", db.PHOTO: "photo"}
_SMALL_SECTION = 20_000

_COLUMNS = (
    "i.id, i.library_section_id, i.parent_id, i.metadata_type, i.guid, i.title, i.title_sort, i.original_title,"
    ' i.summary, i."index",'
    " i.duration, i.user_thumb_url, i.year, i.added_at, i.updated_at, i.deleted_at, i.extra_data,"
    " i.originally_available_at"
)


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a long list: ``size`` None means all of it."""

    start: int = 0
    size: int | None = None


def section_node(connection: Any, row: Sequence[Any], refreshing: bool) -> Node:
    """One ``<Directory>`` of /library/sections. ``row``.

    Id, name, section_type, agent, scanner, language, uuid, updated, created, scanned, changed.
    """
    key = str(row[0])
    node = Node(
        "Directory",
        {
            "allowSync": True,
            "art": f"/:/resources/{SECTION_NAMES[row[2]]}-fanart.jpg",
            "composite": f"/library/sections/{key}/composite/{row[7]}",
            "filters": True,
            "refreshing": refreshing,
            "thumb": f"/:/resources/{SECTION_NAMES[row[2]]}.png",
            "key": key,
            "type": SECTION_NAMES[row[2]],
            "title": row[1],
            "agent": row[3],
            "scanner": row[4],
            "language": row[5],
            "uuid": row[6],
            "updatedAt": row[7],
            "createdAt": row[8],
            "scannedAt": row[9],
            "content": True,
            "directory": True,
            "contentChangedAt": row[10],
            "hidden": 0,
        },
    )
    locations = connection.execute(
        "SELECT id, root_path FROM section_locations WHERE library_section_id=? ORDER BY id", (row[0],)
    ).fetchall()
    for location, root in locations:
        node.add(Node("Location", {"id": int(location), "path": root}))
    return node


def sections(connection: Any, section_id: int | None = None) -> list[tuple[Any, ...]]:
    """The rows for `section_node`: all sections or one."""
    query = (
        "SELECT id, name, section_type, agent, scanner, language, uuid, updated_at, created_at, scanned_at,"
        " content_changed_at"
        " FROM library_sections"
    )
    if section_id is None:
        return list(connection.execute(query + " ORDER BY name COLLATE NOCASE").fetchall())
    return list(connection.execute(query + " WHERE id=?", (section_id,)).fetchall())


def listing(
    connection: Any, section_id: int, metadata_type: int, page: Page, *, title: str = "", newest_first: bool = False
) -> tuple[int, list[tuple[Any, ...]]]:
    """(how many there are, the rows of the page) of one type in one section, by title."""
    where = "i.library_section_id=? AND i.metadata_type=?"
    values: list[Any] = [section_id, metadata_type]
    if title:
        where += " AND i.title LIKE ? ESCAPE '\\'"
        values.append("%" + title.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%")
    count = f"SELECT count(*) FROM metadata_items i WHERE {where}"  # noqa: S608
    total = int(connection.execute(count, values).fetchone()[0])
    if page.size == 0:
        return total, []
    # A large section is read in the order of the ICU index; a small one is sorted.
    by_title = total > _SMALL_SECTION and not newest_first
    source = "metadata_items i INDEXED BY index_title_sort_icu" if by_title else "metadata_items i"
    order = "i.added_at DESC" if newest_first else "i.title_sort COLLATE icu_root"
    limit = -1 if page.size is None else page.size
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM {source} WHERE {where} ORDER BY {order}, i.id LIMIT ? OFFSET ?",  # noqa: S608
        (*values, limit, page.start),
    ).fetchall()
    return total, list(rows)


def by_ids(connection: Any, ids: Iterable[int]) -> list[tuple[Any, ...]]:
    """Rows by id, in the order given; unknown ids are left out."""
    rows = []
    for item in ids:
        query = f"SELECT {_COLUMNS} FROM metadata_items i WHERE i.id=?"  # noqa: S608
        row = connection.execute(query, (item,)).fetchone()
        if row is not None:
            rows.append(row)
    return rows


def children(connection: Any, item_id: int) -> list[tuple[Any, ...]]:
    """What hangs below an item, by number."""
    query = f'SELECT {_COLUMNS} FROM metadata_items i WHERE i.parent_id=? ORDER BY i."index", i.id'  # noqa: S608
    return list(connection.execute(query, (item_id,)).fetchall())


def search(connection: Any, words: str, limit: int, section_id: int | None = None) -> list[tuple[Any, ...]]:
    """Items whose title has words that begin so: the server's own full text index."""
    match = " ".join(f"{word}*" for word in "".join(c if c.isalnum() else " " for c in words).split())
    if not match:
        return []
    query = (
        f"SELECT {_COLUMNS} FROM metadata_items i WHERE i.id IN (SELECT docid FROM"  # noqa: S608
        f" fts4_metadata_titles_icu"
        " WHERE fts4_metadata_titles_icu MATCH ?) AND (?2 IS NULL OR i.library_section_id=?2) AND"
        " i.metadata_type NOT IN (3)"
        " ORDER BY i.id LIMIT ?3"
    )
    return list(connection.execute(query, (match, section_id, limit)).fetchall())


class Renderer:
    """Turns rows into elements, with the watch state of one account."""

    def __init__(self, connection: Any, volumes: Volumes, account_id: int = 1) -> None:
        self._sql = connection
        self._volumes = volumes
        self._account = account_id
        self._titles: dict[int, tuple[Any, ...]] = {}
        self._sections: dict[int, tuple[str, str]] = {}

    def nodes(self, rows: Iterable[Sequence[Any]], *, check_files: bool = False, detail: bool = False) -> list[Node]:
        """One element per row. ``check_files`` adds accessible/exists to parts, ``detail`` adds streams."""
        return [self.node(row, check_files=check_files, detail=detail) for row in rows]

    def node(self, row: Sequence[Any], *, check_files: bool = False, detail: bool = False) -> Node:
        """One item."""
        kind = int(row[3])
        key = f"/library/metadata/{row[0]}"
        attributes: dict[str, Value] = {
            "ratingKey": str(row[0]),
            "key": f"{key}/children" if kind in _PARENTS else key,
            "guid": row[4],
            "type": TYPE_NAMES.get(kind, "clip"),
            "title": row[5],
            "titleSort": row[6] if row[6] and row[6] != row[5] else None,
            "originalTitle": row[7] or None,
            "summary": row[8] or "",
            "index": row[9],
            "year": row[12],
            "thumb": f"{key}/thumb/{row[14]}" if row[11] else None,
            "duration": row[10],
            "addedAt": row[13],
            "updatedAt": row[14],
            "deletedAt": row[15],
        }
        if kind == db.PLAYLIST:
            attributes |= self._playlist(int(row[0]))
        extra = json.loads(row[16]) if row[16] and row[16].startswith("{") else {}
        if extra.get("ms:musicAnalysisVersion"):
            attributes["musicAnalysisVersion"] = str(extra["ms:musicAnalysisVersion"])
        attributes |= self._section(row[1]) | self._ancestors(row[2], kind) | self._watched(str(row[4]))
        if kind in (db.SHOW, db.SEASON, db.ALBUM, db.PHOTO_ALBUM):
            count = self._sql.execute("SELECT count(*) FROM metadata_items WHERE parent_id=?", (row[0],)).fetchone()[0]
            attributes["childCount" if kind == db.SHOW else "leafCount"] = count
        node = Node(_TAGS.get(kind, "Directory"), attributes, json_name="Metadata")
        if kind not in _PARENTS and kind != db.PLAYLIST:
            node.children.extend(self._media(int(row[0]), check_files, detail))
        return node

    def _playlist(self, item: int) -> dict[str, Value]:
        count = self._sql.execute(
            "SELECT count(*), min(metadata_item_id) FROM play_queue_generators WHERE playlist_id=?", (item,)
        ).fetchone()
        first = self._row(count[1]) if count[1] is not None else None
        kind = {db.TRACK: "audio", db.PHOTO: "photo"}.get(first[1] if first else db.TRACK, "video")
        return {"key": f"/playlists/{item}/items", "playlistType": kind, "smart": False, "leafCount": int(count[0])}

    def _row(self, item: int) -> tuple[Any, ...] | None:
        if item not in self._titles:
            row = self._sql.execute(
                'SELECT id, metadata_type, title, guid, parent_id, "index" FROM metadata_items WHERE id=?', (item,)
            ).fetchone()
            if row is None:
                return None
            self._titles[item] = row
        return self._titles[item]

    def _section(self, section_id: int | None) -> dict[str, Value]:
        if section_id is None:
            return {}
        if section_id not in self._sections:
            row = self._sql.execute("SELECT name FROM library_sections WHERE id=?", (section_id,)).fetchone()
            self._sections[section_id] = (row[0] if row else "", f"/library/sections/{section_id}")
        title, key = self._sections[section_id]
        return {"librarySectionTitle": title, "librarySectionID": section_id, "librarySectionKey": key}

    def _ancestors(self, parent_id: int | None, kind: int) -> dict[str, Value]:
        result: dict[str, Value] = {}
        for prefix in ("parent", "grandparent"):
            row = self._row(parent_id) if parent_id is not None else None
            if row is None:
                break
            result |= {
                f"{prefix}RatingKey": str(row[0]),
                f"{prefix}Key": f"/library/metadata/{row[0]}",
                f"{prefix}Title": row[2],
                f"{prefix}Guid": row[3],
            }
            if prefix == "parent" and kind in (db.EPISODE, db.TRACK):
                result["parentIndex"] = row[5]
            parent_id = row[4]
        return result

    def _watched(self, guid: str) -> dict[str, Value]:
        row = self._sql.execute(
            "SELECT view_count, last_viewed_at, view_offset, rating FROM metadata_item_settings WHERE guid=? AND"
            " account_id=?",
            (guid, self._account),
        ).fetchone()
        if row is None:
            return {}
        return {"viewCount": row[0], "lastViewedAt": row[1], "viewOffset": row[2], "userRating": row[3]}

    def _media(self, item: int, check_files: bool, detail: bool) -> list[Node]:
        rows = self._sql.execute(
            "SELECT id, duration, bitrate, audio_channels, audio_codec, video_codec, container, width, height,"
            " deleted_at"
            " FROM media_items WHERE metadata_item_id=? ORDER BY id",
            (item,),
        ).fetchall()
        nodes = []
        for row in rows:
            media = Node(
                "Media",
                {
                    "id": int(row[0]),
                    "duration": row[1],
                    "bitrate": row[2] // 1000 if row[2] else None,
                    "audioChannels": row[3],
                    "audioCodec": row[4] or None,
                    "videoCodec": row[5] or None,
                    "container": row[6] or None,
                    "width": row[7],
                    "height": row[8],
                    "deletedAt": row[9],
                },
            )
            parts = self._sql.execute(
                "SELECT id, file, size, duration, deleted_at FROM media_parts WHERE media_item_id=? ORDER BY id",
                (row[0],),
            ).fetchall()
            for part in parts:
                media.add(self._part(part, row[6], check_files, detail))
            nodes.append(media)
        return nodes

    def _part(self, part: Sequence[Any], media_container: str, check_files: bool, detail: bool) -> Node:
        suffix = str(part[1]).rpartition(".")[2]
        node = Node(
            "Part",
            {
                "id": int(part[0]),
                "key": f"/library/parts/{part[0]}/0/file.{suffix}",
                "duration": part[3],
                "file": part[1],
                "size": part[2],
                "container": media_container or None,
                "deletedAt": part[4],
            },
        )
        if check_files:
            found = self._volumes.exists(str(part[1]))
            node.attributes |= {"accessible": found, "exists": found}
        if detail:
            streams = self._sql.execute(
                'SELECT id, stream_type_id, codec, "index", language, channels, bitrate, "default" FROM media_streams'
                ' WHERE media_part_id=? ORDER BY "index"',
                (part[0],),
            ).fetchall()
            for stream in streams:
                node.add(
                    Node(
                        "Stream",
                        {
                            "id": int(stream[0]),
                            "streamType": int(stream[1]),
                            "codec": stream[2],
                            "index": stream[3],
                            "language": stream[4] or None,
                            "channels": stream[5],
                            "bitrate": stream[6] // 1000 if stream[6] else None,
                            "default": bool(stream[7]),
                        },
                    )
                )
        return node
