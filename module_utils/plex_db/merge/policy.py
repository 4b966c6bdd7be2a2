"""What the merge does with each table of a Plex database, and why: one table, to be read.

Three states of one library are merged. Base is the snapshot that went out, theirs is what the indexer brings back,
ours is home as it is now. The result begins as theirs, and home's part is applied to it by these rules:

- HOME: people wrote it, or it is this server's own. The result holds exactly home's rows; the indexer's writes are
  dropped.
- MERGE: the library itself. The indexer's new rows and changes stay; what home added, changed or deleted since the base
  is applied row by row (by id) and column by column. Where both changed the same column, home's value wins, except
  for the columns named `newest` (the greater value) and `indexers` (the indexer's).
- ONE_SIDE: machine-made tables that only make sense whole, in groups. The side that changed since the base wins; where
  both did, home's is kept, and that is listed.
- SAME: must be equal on both sides, or the merge is refused.
- DERIVED: never written by the merge: triggers, or SQLite itself, keep it.

Conflicts of unique keys are resolved last, over every table (`UNIQUE` explains for each of the schema's unique indexes
how a conflict can occur). The row that has the key at home keeps it, else the row with the lower id. The other row
gives up the column named `yields` if it can be found without it; else it becomes home's row, and a new row of the
indexer is removed. Each case is listed. Of the merged tables only `blobs` has a unique key, and no table refers to its
rows.

A table that has no rule: if it only changed at home, home's is kept; if only the indexer changed it, the indexer's
stays, and that is listed; if both did, the merge is refused with a message. Nothing unknown is dropped silently.

Table and column names: the schema that Plex's own databases carry (public dump in the repository
`cgnl/plex-postgresql`, schema/).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

HOME = "home"
MERGE = "merge"
ONE_SIDE = "one side"
SAME = "same"
DERIVED = "derived"

# Types of metadata_items that people make and that belong to no section: playlists and lists of optimised versions.
PEOPLES_TYPES = (15, 42)
_DATES = ("created_at", "updated_at")


@dataclass(frozen=True)
class Rule:
    """What happens to one table.

    :param references: column -> table whose id it holds; rows that point nowhere after the merge are the indexer's new
        ones under something home deleted, and are dropped with it.
    :param identity: columns by which a row that both sides added is one and the same; home's is kept, and what points
        to the indexer's is turned to it. The first is the one that Plex's schema has an index on and that few rows
        share: without statistics SQLite may choose the index of a column that half a million rows share.
    :param owner: the column of `references` that says to which section a row belongs; empty: to none.
    :param newest: columns of which the greater value wins when both changed.
    :param indexers: columns of which the indexer's value wins when both changed.
    :param set_of: column naming what the rows are a set of: when home rewrote such a set, the indexer's new rows for
        it go.
    :param yields: a column that a row gives up (NULL) if another row of the result has its key; the row must then have
        the second column named here.
    :param removal_stays: a row that home removed does not come back because the indexer made it anew (by `identity`).
    :param restore: a row that home changed and the indexer deleted comes back.
    :param group: tables of ONE_SIDE that are decided together.
    """

    table: str
    kind: str
    why: str
    references: Mapping[str, str] = field(default_factory=dict)
    identity: tuple[str, ...] = ()
    owner: str = ""
    newest: tuple[str, ...] = ()
    indexers: tuple[str, ...] = ()
    set_of: str = ""
    yields: tuple[str, str] | None = None
    removal_stays: bool = False
    restore: bool = False
    group: str = ""


def _home(table: str, why: str) -> Rule:
    return Rule(table, HOME, why)


_MERGED = (
    Rule(
        "library_sections",
        MERGE,
        "sections exist, are named and set up at home; the indexer notes when it scanned them",
        owner="id",
        newest=(*_DATES, "scanned_at", "changed_at", "content_changed_at"),
        restore=True,
    ),
    Rule(
        "section_locations",
        MERGE,
        "folders are home's choice; the indexer notes when it scanned them",
        references={"library_section_id": "library_sections"},
        owner="library_section_id",
        newest=(*_DATES, "scanned_at"),
        indexers=("available",),
        restore=True,
    ),
    Rule(
        "directories",
        MERGE,
        "the scanner's own list of folders",
        references={"library_section_id": "library_sections", "parent_directory_id": "directories"},
        identity=("path", "library_section_id"),
        owner="library_section_id",
        newest=_DATES,
    ),
    Rule(
        "metadata_items",
        MERGE,
        "items, collections and playlists: what home edited wins, what the indexer found or analysed stays",
        references={"library_section_id": "library_sections", "parent_id": "metadata_items"},
        identity=("guid", "library_section_id", "metadata_type"),
        owner="library_section_id",
        newest=(*_DATES, "refreshed_at", "changed_at", "resources_changed_at"),
        indexers=("media_item_count", "hash", "slug"),
        restore=True,
    ),
    Rule(
        "media_items",
        MERGE,
        "versions of an item, as they were analysed",
        references={
            "metadata_item_id": "metadata_items",
            "library_section_id": "library_sections",
            "section_location_id": "section_locations",
        },
        owner="metadata_item_id",
        newest=(*_DATES, "media_analysis_version"),
    ),
    Rule(
        "media_parts",
        MERGE,
        "the files",
        references={"media_item_id": "media_items", "directory_id": "directories"},
        identity=("file",),
        owner="media_item_id",
        newest=_DATES,
        indexers=("hash", "open_subtitle_hash", "size", "duration"),
    ),
    Rule(
        "media_streams",
        MERGE,
        "tracks inside a file and subtitles beside it",
        references={"media_part_id": "media_parts", "media_item_id": "media_items"},
        owner="media_part_id",
        newest=_DATES,
        set_of="media_part_id",
    ),
    Rule(
        "tags",
        MERGE,
        "genres, people, collections, markers' kinds; the same tag made on both sides is one",
        references={"metadata_item_id": "metadata_items", "parent_id": "tags"},
        identity=("tag", "tag_type", "tag_value", "key", "metadata_item_id"),
        newest=_DATES,
        restore=True,
    ),
    Rule(
        "taggings",
        MERGE,
        "who is tagged with what, members of collections, markers and chapters",
        references={"metadata_item_id": "metadata_items", "tag_id": "tags"},
        identity=("metadata_item_id", "tag_id", "time_offset", "end_time_offset", "text"),
        owner="metadata_item_id",
        newest=("created_at",),
        removal_stays=True,
        restore=True,
    ),
    Rule(
        "metadata_relations",
        MERGE,
        "extras and related items",
        references={"metadata_item_id": "metadata_items", "related_metadata_item_id": "metadata_items"},
        identity=("metadata_item_id", "related_metadata_item_id", "relation_type"),
        owner="metadata_item_id",
        newest=_DATES,
    ),
    Rule(
        "metadata_item_clusters",
        MERGE,
        "the timeline of photo sections",
        references={"library_section_id": "library_sections"},
        owner="library_section_id",
    ),
    Rule(
        "metadata_item_clusterings",
        MERGE,
        "which photo is in which stretch of the timeline",
        references={
            "metadata_item_id": "metadata_items",
            "metadata_item_cluster_id": "metadata_item_clusters",
        },
        owner="metadata_item_id",
    ),
    Rule(
        "blobs",
        MERGE,
        "Sonic vectors, intro fingerprints, subtitles that were searched for",
        references={"linked_id": "metadata_items"},
        identity=("linked_id", "linked_type", "blob_type"),
        owner="linked_id",
        newest=("created_at",),
        yields=("linked_guid", "linked_id"),
    ),
)

_HOMES = (
    _home("accounts", "people of the household"),
    _home("activities", "what this server did"),
    _home("custom_channels", "channels people made"),
    _home("devices", "players of the household, named by its views"),
    _home("download_queue_items", "what somebody downloads"),
    _home("download_queues", "what somebody downloads"),
    _home("external_metadata_items", "online sources as home sees them"),
    _home("external_metadata_sources", "online sources as home sees them"),
    _home("hub_templates", "rows of the home screen, as people arranged them"),
    _home("library_section_permissions", "who may see what"),
    _home("media_grabs", "recordings of this server"),
    _home("media_item_settings", "choices of a person for a version"),
    _home("media_part_settings", "chosen audio and subtitle streams"),
    _home("media_provider_resources", "tuners and guides of this server"),
    _home("media_stream_settings", "choices of a person for a stream"),
    _home("media_subscriptions", "what shall be recorded"),
    _home("metadata_agent_provider_group_items", "agents set up on this server"),
    _home("metadata_agent_provider_groups", "agents set up on this server"),
    _home("metadata_agent_providers", "agents set up on this server"),
    _home("metadata_item_accounts", "whose playlist it is"),
    _home("metadata_item_setting_markers", "bookmarks of a person"),
    _home("metadata_item_settings", "views, ratings and resume points; the indexer's own are dropped"),
    _home("metadata_item_views", "history; the indexer's own is dropped"),
    _home("metadata_subscription_desired_items", "what shall be recorded"),
    _home("play_queue_generators", "contents of playlists"),
    _home("play_queue_items", "what plays next"),
    _home("play_queues", "what plays next"),
    _home("plugin_prefixes", "plug-ins of this server"),
    _home("plugins", "plug-ins of this server"),
    _home("preferences", "settings of this server"),
    _home("remote_id_translation", "this server's names for what others hold"),
    _home("statistics_bandwidth", "what this server sent"),
    _home("statistics_media", "what was played here"),
    _home("statistics_resources", "how busy this server was"),
    _home("versioned_metadata_items", "optimised versions people asked for"),
    _home("view_settings", "sorting and views people chose"),
)

_PLACES = "where photos were taken; the tables only make sense together, and Plex works them out again"
_OTHERS = (
    Rule("schema_migrations", SAME, "the indexer runs exactly home's version"),
    *(
        Rule(name, ONE_SIDE, _PLACES, group="places")
        for name in ("locatables", "location_places", "locations_node", "locations_parent", "locations_rowid")
    ),
    Rule("locations", DERIVED, "the R-tree over locations_node, locations_parent and locations_rowid"),
)

RULES: Mapping[str, Rule] = {rule.table: rule for rule in (*_MERGED, *_HOMES, *_OTHERS)}

_ALL_HOMES = "home's rows replace the indexer's, which may have the key under another id and are deleted first"
_WHOLE = "one side's complete table; the former rows are deleted first"
UNIQUE: Mapping[tuple[str, tuple[str, ...]], str] = {
    ("schema_migrations", ("version",)): "equal on both sides, or the merge is refused; never written",
    ("play_queues", ("client_identifier", "account_id", "metadata_type")): _ALL_HOMES,
    ("preferences", ("name",)): _ALL_HOMES,
    ("media_provider_resources", ("uuid",)): _ALL_HOMES,
    ("media_grabs", ("uuid",)): _ALL_HOMES,
    ("locatables", ("location_id", "locatable_id", "locatable_type")): _WHOLE,
    ("location_places", ("location_id", "guid")): _WHOLE,
    ("external_metadata_sources", ("uri",)): _ALL_HOMES,
    ("media_stream_settings", ("media_stream_id", "account_id")): _ALL_HOMES,
    ("blobs", ("linked_type", "linked_id", "blob_type")): "its `identity`; both rows are the same, and home's is kept",
    ("blobs", ("linked_type", "linked_guid", "blob_type")): (
        "two items with one guid: home's blob keeps the guid, the other keeps only its item's id (`yields`); of two "
        "with only the guid, home's is kept"
    ),
    ("metadata_agent_providers", ("identifier",)): _ALL_HOMES,
    ("metadata_agent_provider_group_items", ("metadata_agent_provider_group_id", "metadata_agent_provider_id")): (
        _ALL_HOMES
    ),
}
"""Every unique index of Plex's schema, with the reason why no merge violates it."""

# In this order references point backwards: sections before items before files.
MERGED = tuple(rule.table for rule in _MERGED)
# Search indexes (kept by triggers on metadata_items and tags), spelling indexes, and SQLite's own bookkeeping.
DERIVED_PREFIXES = ("fts4_", "spellfix_", "sqlite_")


def rule_of(table: str) -> Rule | None:
    """The rule of a table; None when nothing is known about it."""
    if table in RULES:
        return RULES[table]
    if table.startswith(DERIVED_PREFIXES):
        return Rule(table, DERIVED, "kept by triggers or by SQLite itself")
    return None
