"""The pair of SQLite files of Plex Media Server: real tables, indexes and triggers, Plex's own tokenizer.

`com.plexapp.plugins.library.db` and `com.plexapp.plugins.library.blobs.db` have the same schema
(docs/plex-facts.md#database);
of the second only `blobs` is filled. Two things exist only inside Plex's own SQLite: the FTS tokenizer ``collating``
and the collation ``icu_root``. Here they are stand-ins (porter's tokenizer under that name, and a Python collation that
ignores case and accents), which is enough for the real triggers and for the real index to work, and for any stock
sqlite3 to fail on them exactly as people report.

Left out of the recorded schema: the two older FTS tables without ICU (`fts4_metadata_titles`, `fts4_tag_titles`). Their
triggers are gone from real servers, so their index is stale, and SQLite since 3.44 calls a stale index malformed in
`PRAGMA integrity_check`.

``changed_at`` is not a date: on real servers it is one counter that only grows (a row read from a live server:
119810280, its sibling 119778300). `next_change` hands out its values.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import unicodedata
import weakref
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import apsw

LIBRARY_DB = "com.plexapp.plugins.library.db"
BLOBS_DB = "com.plexapp.plugins.library.blobs.db"

MOVIE, SHOW, SEASON, EPISODE, ARTIST, ALBUM, TRACK = 1, 2, 3, 4, 8, 9, 10
CLIP, PHOTO, PHOTO_ALBUM, PLAYLIST, COLLECTION = 12, 13, 14, 15, 18
STREAM_VIDEO, STREAM_AUDIO, STREAM_SUBTITLE = 1, 2, 3
BLOB_SONIC = 7

_TABLES = """
CREATE TABLE "library_sections" ("id" INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, "library_id" integer, "name" varchar(255), "name_sort" varchar(255) COLLATE NOCASE, "section_type" integer, "language" varchar(255), "agent" varchar(255), "scanner" varchar(255), "user_thumb_url" varchar(255), "user_art_url" varchar(255), "user_theme_music_url" varchar(255), "public" boolean, "created_at" dt_integer(8), "updated_at" dt_integer(8), "scanned_at" dt_integer(8), "display_secondary_level" boolean, "user_fields" varchar(255), "query_xml" text, "query_type" integer, "uuid" varchar(255), "changed_at" integer(8) DEFAULT 0, "content_changed_at" integer(8) default '0', "metadata_agent_provider_group_id" integer);
CREATE TABLE "section_locations" ("id" INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, "library_section_id" integer, "root_path" varchar(255), "available" boolean DEFAULT "t", "scanned_at" dt_integer(8), "created_at" dt_integer(8), "updated_at" dt_integer(8));
CREATE TABLE "directories" ("id" INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, "library_section_id" integer, "parent_directory_id" integer, "path" varchar(255), "created_at" dt_integer(8), "updated_at" dt_integer(8), "deleted_at" dt_integer(8));
CREATE TABLE "metadata_items" ("id" INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, "library_section_id" integer, "parent_id" integer, "metadata_type" integer, "guid" varchar(255), "media_item_count" integer, "title" varchar(255), "title_sort" varchar(255) COLLATE NOCASE, "original_title" varchar(255), "studio" varchar(255), "rating" float, "rating_count" integer, "tagline" varchar(255), "summary" text, "trivia" text, "quotes" text, "content_rating" varchar(255), "content_rating_age" integer, "index" integer, "absolute_index" integer, "duration" integer, "user_thumb_url" varchar(255), "user_art_url" varchar(255), "user_banner_url" varchar(255), "user_music_url" varchar(255), "user_fields" varchar(255), "tags_genre" varchar(255), "tags_collection" varchar(255), "tags_director" varchar(255), "tags_writer" varchar(255), "tags_star" varchar(255), "originally_available_at" dt_integer(8), "available_at" dt_integer(8), "expires_at" dt_integer(8), "refreshed_at" dt_integer(8), "year" integer, "added_at" dt_integer(8), "created_at" dt_integer(8), "updated_at" dt_integer(8), "deleted_at" dt_integer(8), "tags_country" varchar(255), "extra_data" varchar(255), "hash" varchar(255), "audience_rating" float, "changed_at" integer(8) DEFAULT 0, "resources_changed_at" integer(8) DEFAULT 0, "remote" integer, "edition_title" varchar(255), "slug" varchar(255), "user_clear_logo_url" varchar(255), "is_adult" integer, "metadata_agent_provider_group_id" integer);
CREATE TABLE "media_items" ("id" INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, "library_section_id" integer, "section_location_id" integer, "metadata_item_id" integer, "type_id" integer, "width" integer, "height" integer, "size" integer(8), "duration" integer, "bitrate" integer, "container" varchar(255), "video_codec" varchar(255), "audio_codec" varchar(255), "display_aspect_ratio" float, "frames_per_second" float, "audio_channels" integer, "interlaced" boolean, "source" varchar(255), "hints" varchar(255), "display_offset" integer, "settings" varchar(255), "created_at" dt_integer(8), "updated_at" dt_integer(8), "optimized_for_streaming" boolean, "deleted_at" dt_integer(8), "media_analysis_version" integer DEFAULT 0, "sample_aspect_ratio" float, "extra_data" varchar(255), "proxy_type" integer, "channel_id" integer, "begins_at" dt_integer(8), "ends_at" dt_integer(8), "color_trc" varchar(255));
CREATE TABLE "media_parts" ("id" INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, "media_item_id" integer, "directory_id" integer, "hash" varchar(255), "open_subtitle_hash" varchar(255), "file" varchar(255), "index" integer, "size" integer(8), "duration" integer, "created_at" dt_integer(8), "updated_at" dt_integer(8), "deleted_at" dt_integer(8), "extra_data" varchar(255));
CREATE TABLE "media_streams" ("id" INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, "stream_type_id" integer, "media_item_id" integer, "url" varchar(255), "codec" varchar(255), "language" varchar(255), "created_at" dt_integer(8), "updated_at" dt_integer(8), "index" integer, "media_part_id" integer, "channels" integer, "bitrate" integer, "url_index" integer, "default" boolean DEFAULT 0, "forced" boolean DEFAULT 0, "extra_data" varchar(255));
CREATE TABLE "metadata_item_settings" ("id" INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, "account_id" integer, "guid" varchar(255), "rating" float, "view_offset" integer, "view_count" integer, "last_viewed_at" dt_integer(8), "created_at" dt_integer(8), "updated_at" dt_integer(8), "skip_count" integer DEFAULT 0, "last_skipped_at" dt_integer(8) DEFAULT NULL, "changed_at" integer(8) DEFAULT 0, "extra_data" varchar(255), "last_rated_at" dt_integer(8));
CREATE TABLE "metadata_item_views" ("id" INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, "account_id" integer, "guid" varchar(255), "metadata_type" integer, "library_section_id" integer, "grandparent_title" varchar(255), "parent_index" integer, "parent_title" varchar(255), "index" integer, "title" varchar(255), "thumb_url" varchar(255), "viewed_at" dt_integer(8), "grandparent_guid" varchar(255), "originally_available_at" dt_integer(8), "device_id" integer, "view_type" integer DEFAULT 0);
CREATE TABLE "metadata_item_accounts" ("id" INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, "account_id" integer, "metadata_item_id" integer);
CREATE TABLE "accounts" ("id" INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, "name" varchar(255), "created_at" dt_integer(8), "updated_at" dt_integer(8), "default_audio_language" varchar(255), "default_subtitle_language" varchar(255), "auto_select_subtitle" boolean DEFAULT "t", "auto_select_audio" boolean DEFAULT "t");
CREATE TABLE "tags" ("id" INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, "metadata_item_id" integer, "tag" varchar(255) COLLATE NOCASE, "tag_type" integer, "user_thumb_url" varchar(255), "user_art_url" varchar(255), "user_music_url" varchar(255), "created_at" dt_integer(8), "updated_at" dt_integer(8), "tag_value" integer, "extra_data" varchar(255), "key" varchar(255), "parent_id" integer);
CREATE TABLE "taggings" ("id" INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, "metadata_item_id" integer, "tag_id" integer, "index" integer, "text" varchar(255), "time_offset" integer, "end_time_offset" integer, "thumb_url" varchar(255), "created_at" dt_integer(8), "extra_data" varchar(255));
CREATE TABLE "blobs" ("id" INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, "blob" blob, "linked_type" varchar(255), "linked_id" integer, "linked_guid" varchar(255), "created_at" dt_integer(8), "blob_type" integer);
CREATE TABLE "schema_migrations" ("version" varchar(255) NOT NULL, "rollback_sql" text default NULL, "optimize_on_rollback" boolean default NULL, "min_version" text default NULL);
CREATE TABLE "activities" ( "id" INTEGER NOT NULL, "parent_id" INTEGER, "type" varchar(255), "title" varchar(255), "subtitle" varchar(255), "scheduled_at" timestamp, "started_at" timestamp, "finished_at" timestamp, "cancelled" boolean, FOREIGN KEY("parent_id") REFERENCES "activities"("id") ON DELETE CASCADE, PRIMARY KEY("id") );
CREATE TABLE "preferences" ("id" INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, "name" varchar(255), "value" varchar(255));
CREATE TABLE "statistics_bandwidth" ("id" INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, "account_id" integer, "device_id" integer, "timespan" integer, "at" dt_integer(8), "lan" boolean, "bytes" integer(8));
CREATE TABLE "statistics_media" ("id" INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, "account_id" integer, "device_id" integer, "timespan" integer, "at" dt_integer(8), "metadata_type" integer, "count" integer, "duration" integer);
CREATE TABLE "statistics_resources" ("id" INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, "timespan" integer, "at" dt_integer(8), "host_cpu_utilization" float, "process_cpu_utilization" float, "host_memory_utilization" float, "process_memory_utilization" float);
CREATE TABLE "media_item_settings" ("id" INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, "account_id" integer, "media_item_id" integer, "settings" varchar(255), "created_at" dt_integer(8), "updated_at" dt_integer(8));
CREATE TABLE "metadata_relations" ("id" INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, "metadata_item_id" integer, "related_metadata_item_id" integer, "relation_type" integer, "created_at" dt_integer(8), "updated_at" dt_integer(8));
CREATE TABLE "devices" ("id" INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, "identifier" varchar(255), "name" varchar(255), "platform" varchar(255), "created_at" dt_integer(8), "updated_at" dt_integer(8));
CREATE TABLE "play_queue_generators" ("id" INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, "playlist_id" integer, "metadata_item_id" integer, "uri" varchar(255), "limit" integer, "continuous" boolean, "order" float, "created_at" dt_integer(8) NOT NULL, "updated_at" dt_integer(8) NOT NULL, "changed_at" integer(8) DEFAULT 0, "recursive" boolean, "type" integer, "extra_data" varchar(255));
"""  # noqa: E501 - the schema as the server itself writes it, one table a line

_INDEXED_COLUMNS: dict[str, tuple[str, ...]] = {
    "library_sections": ("changed_at", "name", "name_sort"),
    "section_locations": ("library_section_id",),
    "directories": ("deleted_at", "parent_directory_id", "path"),
    "metadata_items": (
        "absolute_index",
        "added_at",
        "changed_at",
        "created_at",
        "deleted_at",
        "edition_title",
        "guid",
        "hash",
        "index",
        "library_section_id",
        "metadata_type",
        "original_title",
        "originally_available_at",
        "parent_id",
        "remote",
        "resources_changed_at",
        "title",
        "title_sort",
    ),
    "media_items": (
        "begins_at",
        "channel_id",
        "deleted_at",
        "ends_at",
        "library_section_id",
        "media_analysis_version",
        "metadata_item_id",
    ),
    "media_parts": ("deleted_at", "directory_id", "file", "hash", "media_item_id", "size"),
    "media_streams": ("language", "media_item_id", "media_part_id"),
    "metadata_item_settings": ("account_id", "changed_at", "guid", "last_viewed_at", "view_count", "view_offset"),
    "metadata_item_views": ("guid", "library_section_id", "viewed_at"),
    "metadata_item_accounts": ("metadata_item_id",),
    "taggings": ("metadata_item_id", "tag_id"),
    "tags": ("metadata_item_id", "parent_id", "tag", "tag_type"),
    "blobs": ("linked_id", "linked_guid"),
    "metadata_relations": ("metadata_item_id", "related_metadata_item_id", "relation_type"),
    "play_queue_generators": ("changed_at", "metadata_item_id", "playlist_id"),
}

UNIQUE: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("schema_migrations", ("version",)),
    ("play_queues", ("client_identifier", "account_id", "metadata_type")),
    ("preferences", ("name",)),
    ("media_provider_resources", ("uuid",)),
    ("media_grabs", ("uuid",)),
    ("locatables", ("location_id", "locatable_id", "locatable_type")),
    ("location_places", ("location_id", "guid")),
    ("external_metadata_sources", ("uri",)),
    ("media_stream_settings", ("media_stream_id", "account_id")),
    ("blobs", ("linked_type", "linked_id", "blob_type")),
    ("blobs", ("linked_type", "linked_guid", "blob_type")),
    ("metadata_agent_providers", ("identifier",)),
    ("metadata_agent_provider_group_items", ("metadata_agent_provider_group_id", "metadata_agent_provider_id")),
)
"""Every unique index of a Plex database (docs/plex-facts.md#database), those of tables that are not made here
included."""

_INDEXES = """
CREATE INDEX "index_metadata_items_on_library_section_id_and_metadata_type_and_added_at" ON "metadata_items" ("library_section_id", "metadata_type", "added_at");
CREATE INDEX "index_media_items_on_channel_id_and_begins_at" ON "media_items" ("channel_id", "begins_at");
CREATE INDEX "index_title_sort_icu" ON "metadata_items" ("title_sort" COLLATE icu_root);
"""  # noqa: E501

_VIRTUAL_TABLES = """
CREATE VIRTUAL TABLE spellfix_metadata_titles USING spellfix1;
CREATE VIRTUAL TABLE spellfix_tag_titles USING spellfix1;
CREATE VIRTUAL TABLE "locations" USING rtree("id" integer, "lat_min" float, "lat_max" float, "lon_min" float, "lon_max" float);
CREATE VIRTUAL TABLE fts4_metadata_titles_icu USING fts4(content="metadata_items", title, title_sort, original_title, tokenize=collating 'root@colStrength=primary;
colAlternate=shifted');
CREATE VIRTUAL TABLE fts4_tag_titles_icu USING fts4(content="tags", tag, tokenize=collating 'root@colStrength=primary;
colAlternate=shifted');
"""  # noqa: E501

_TAG_TYPES_SEARCHED = "0,1,2,4,6,207,400"


def unique_indexes(tables: Collection[str]) -> list[str]:
    """The statements that make the unique indexes of these tables."""
    return [
        f'CREATE UNIQUE INDEX "index_{table}_on_{"_and_".join(columns)}" ON "{table}" ({", ".join(columns)})'
        for table, columns in UNIQUE
        if table in tables
    ]


def _triggers() -> str:
    """The eight ICU triggers: four on metadata_items, four on tags (docs/plex-facts.md#database)."""
    statements = []
    for table, prefix, columns, when in (
        ("metadata_items", "fts4_metadata_titles", ("title", "title_sort", "original_title"), False),
        ("tags", "fts4_tag_titles", ("tag",), True),
    ):
        names, values = ", ".join(columns), ", ".join(f"new.{column}" for column in columns)
        for moment in ("before_update", "before_delete", "after_insert", "after_update"):
            row = "old" if moment.startswith("before") else "new"
            condition = f" WHEN {row}.tag_type in ({_TAG_TYPES_SEARCHED})" if when else ""
            body = (
                f"DELETE FROM {prefix}_icu WHERE docid=old.rowid;"  # noqa: S608 - names from the tuple above
                if row == "old"
                else f"INSERT INTO {prefix}_icu(docid, {names}) VALUES(new.rowid, {values});"
            )
            event = moment.replace("_", " ").upper()
            statements.append(f"CREATE TRIGGER {prefix}_{moment}_icu {event} ON {table}{condition} BEGIN {body} END;")
    return "\n".join(statements)


# Versions that the facts name. Text order is not time order: the set of versions is what two servers compare.
_MIGRATIONS: tuple[tuple[str, str | None, str | None], ...] = (
    (
        "500000000001.041",
        (
            "CREATE TRIGGER fts4_metadata_titles_after_insert AFTER INSERT ON metadata_items BEGIN INSERT INTO "
            "fts4_metadata_titles(docid, title, title_sort, original_title) VALUES(new.rowid, new.title, "
            "new.title_sort, new.original_title); END"
        ),
        None,
    ),
    ("500000000001.231", None, None),
    *(
        (
            f"2023092009{minute:02d}",
            "UPDATE metadata_items SET extra_data = extra_data ->> 'url' WHERE extra_data IS NOT NULL and"
            " json_valid(extra_data)"
            if minute == 1
            else None,
            "1.40.0.7775" if minute == 1 else None,
        )
        for minute in range(1, 20)
    ),
)


class _Spellfix:
    """Stand-in for Plex's ``spellfix1`` module, so that its two tables stand in the schema. They answer no row.

    A stock sqlite3 that touches them says "no such module: spellfix1", as with a real database.
    """

    _SCHEMA = "CREATE TABLE x(word, rank, distance, langid, score, matchlen)"

    def Create(self, _db: Any, _module: str, _database: str, _table: str, *_args: str) -> tuple[str, _Spellfix]:
        return self._SCHEMA, self

    Connect = Create

    def BestIndexObject(self, _info: Any) -> bool:
        return True

    def Open(self) -> _EmptyCursor:
        return _EmptyCursor()

    def Disconnect(self) -> None:
        """Nothing is held."""

    Destroy = Disconnect


class _EmptyCursor:
    """A cursor over no rows."""

    def Filter(self, *_args: Any) -> None:
        """Any search finds nothing."""

    def Eof(self) -> bool:
        return True

    def Next(self) -> None:
        """There is no next row."""

    def Rowid(self) -> int:
        return 0

    def Column(self, _number: int) -> None:
        return None

    def Close(self) -> None:
        """Nothing is held."""


@functools.lru_cache(maxsize=65536)
def _collation_key(text: str) -> str:
    """The sort key of a title: case and accents do not count (ICU root, primary strength)."""
    if text.isascii():
        return text.lower()
    folded = unicodedata.normalize("NFKD", text.casefold())
    return "".join(character for character in folded if not unicodedata.combining(character))


def _icu_root(left: str, right: str) -> int:
    """Compare two strings as ``icu_root`` would: -1, 0 or 1."""
    a, b = _collation_key(left), _collation_key(right)
    return (a > b) - (a < b)


def connect(path: Path | str, *, read_only: bool = False, set_up: bool = True) -> apsw.Connection:
    """Open one file of the pair the way Plex's own SQLite does.

    Args:
        path: the database file; it is made when absent (unless ``read_only``).
        read_only: no write is possible through the connection.
        set_up: set the server's pragmas; `Plex SQLite` leaves a file as it is.

    Raises:
        apsw.CantOpenError: the file (or its folder) is not there.

    WAL, synchronous NORMAL, foreign_keys OFF, pages of 1024 bytes when fresh (docs/plex-facts.md#database); waits 10 s
    for a
    busy database, as the server's log says of itself.
    """
    flags = apsw.SQLITE_OPEN_READONLY if read_only else apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
    connection = apsw.Connection(str(path), flags=flags)
    connection.set_busy_timeout(10_000)
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_FTS3_TOKENIZER, 1)
    connection.execute("SELECT fts3_tokenizer('collating', fts3_tokenizer('porter'))").fetchone()
    connection.create_collation("icu_root", _icu_root)
    module: Any = _Spellfix()
    connection.create_module("spellfix1", module, use_bestindex_object=True)
    if set_up and not read_only:
        connection.execute("PRAGMA page_size=1024; PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL")
    connection.execute("PRAGMA foreign_keys=OFF")
    return connection


def create_pair(databases_dir: Path | str) -> tuple[Path, Path]:
    """Make library.db and blobs.db with the whole schema; a pair that is there already is left as it is.

    Returns the two paths. No -wal or -shm is left beside a pair made here.
    """
    folder = Path(databases_dir)
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / LIBRARY_DB, folder / BLOBS_DB
    for path in paths:
        if path.exists() and path.stat().st_size:
            continue
        connection = connect(path)
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(_TABLES)
        for table, columns in _INDEXED_COLUMNS.items():
            for column in columns:
                connection.execute(f'CREATE INDEX "index_{table}_on_{column}" ON "{table}" ("{column}")')
        made: Any = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for statement in unique_indexes({str(row[0]) for row in made}):
            connection.execute(statement)
        connection.execute(_INDEXES)
        connection.execute(_VIRTUAL_TABLES)
        connection.execute(_triggers())
        connection.executemany(
            "INSERT INTO schema_migrations(version, rollback_sql, min_version) VALUES(?, ?, ?)", _MIGRATIONS
        )
        connection.execute("COMMIT")
        close(connection)
    return paths


def close(connection: apsw.Connection) -> None:
    """Checkpoint and close: the last one to close removes -wal and -shm, as a clean stop of the server does."""
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    connection.close()


@contextlib.contextmanager
def writing(connection: apsw.Connection) -> Iterator[Any]:
    """A write transaction: it waits for its turn at the start, where other threads and processes write too.

    Not apsw's own context manager: that one holds Python's interpreter lock while it waits, and so the writer it waits
    for.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def next_change(connection: apsw.Connection) -> int:
    """The next value of the ``changed_at`` counter. Call it inside the transaction that uses it."""
    row: Any = connection.execute("SELECT coalesce(max(changed_at), 0) + 1 FROM metadata_items").fetchone()
    return int(row[0])


class Pair:
    """Both files open, one pair of connections per thread, closed together.

    Readers in other threads are never blocked by the writer (WAL). ``close()`` ends all connections of all threads:
    call it when no other thread works with the pair any more.
    """

    def __init__(self, databases_dir: Path | str) -> None:
        self.library_path, self.blobs_path = create_pair(databases_dir)
        self._local = threading.local()
        self._all: weakref.WeakSet[apsw.Connection] = weakref.WeakSet()
        self._guard = threading.Lock()

    def _open(self, name: str, path: Path) -> apsw.Connection:
        found = getattr(self._local, name, None)
        if found is None:
            found = connect(path)
            setattr(self._local, name, found)
            with self._guard:
                self._all.add(found)
        return found

    @property
    def library(self) -> apsw.Connection:
        """This thread's connection to library.db."""
        return self._open("library", self.library_path)

    @property
    def blobs(self) -> apsw.Connection:
        """This thread's connection to blobs.db."""
        return self._open("blobs", self.blobs_path)

    def close_thread(self) -> None:
        """Close what the calling thread has open."""
        for name in ("library", "blobs"):
            found = getattr(self._local, name, None)
            if found is not None:
                found.close()
                setattr(self._local, name, None)

    def close(self) -> None:
        """Close every connection; then -wal and -shm are folded in and gone."""
        with self._guard:
            for connection in list(self._all):
                connection.close()
            self._all.clear()
        self._local = threading.local()
        for path in (self.library_path, self.blobs_path):
            if path.exists():
                close(connect(path))
