"""Every table of a Plex database by name, and those the simulator leaves out, so that the merge meets them all.

Names and columns: the schema that Plex's own databases carry, as the public dump in the repository
`cgnl/plex-postgresql` (schema/) shows it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sandbox.plex import database
from tests.unit.plex_db import building

# Tables that the simulator does not make: their columns after `id`.
LEFT_OUT = {
    "custom_channels": "name, description, playlist_id, start_time, ordering, visibility, displayed_on, content_rating",
    "download_queue_items": "queue_id, key, 'order', status, metadata_item_id, media_part_id, expiration, extra_data",
    "download_queues": "owner, client_identifier, extra_data",
    "external_metadata_sources": "uri, source_title, user_title, online",
    "hub_templates": "section, identifier, title, home_visibility, recommended_visibility, 'order', extra_data",
    "library_section_permissions": "library_section_id, account_id, permission",
    "locatables": "location_id, locatable_id, locatable_type, created_at, updated_at, extra_data, geocoding_version",
    "location_places": "location_id, guid",
    "media_grabs": "uuid, status, error, metadata_item_id, media_subscription_id, extra_data, created_at, updated_at",
    "media_part_settings": "account_id, media_part_id, selected_audio_stream_id, selected_subtitle_stream_id, settings,"
    " created_at, updated_at, changed_at",
    "media_provider_resources": "parent_id, type, status, state, identifier, protocol, uri, uuid, extra_data, data",
    "media_stream_settings": "account_id, media_stream_id, extra_data, created_at, updated_at",
    "media_subscriptions": "'order', metadata_type, target_metadata_item_id, target_library_section_id,"
    " target_section_location_id, extra_data, created_at, updated_at",
    "metadata_agent_provider_group_items": "metadata_agent_provider_group_id, metadata_agent_provider_id, 'order'",
    "metadata_agent_provider_groups": "title, primary_identifier, created_at, updated_at, extra_data",
    "metadata_agent_providers": "identifier, title, uri, agent_type, metadata_types, online, created_at, updated_at",
    "metadata_item_clusterings": "metadata_item_id, metadata_item_cluster_id, 'index', version",
    "metadata_item_clusters": "zoom_level, library_section_id, title, count, starts_at, ends_at, extra_data",
    "metadata_item_setting_markers": "marker_type, metadata_item_setting_id, start_time_offset, end_time_offset, title,"
    " created_at, updated_at, extra_data",
    "play_queue_items": "play_queue_id, metadata_item_id, 'order', up_next, play_queue_generator_id",
    "play_queues": "client_identifier, account_id, metadata_type, playlist_id, version, created_at, updated_at,"
    " extra_data",
    "plugin_prefixes": "plugin_id, name, prefix, art_url, thumb_url, titlebar_url, share, has_store_services, prefs",
    "plugins": "identifier, framework_version, access_count, installed_at, accessed_at, modified_at",
    "remote_id_translation": "type, local_id, remote_id",
    "versioned_metadata_items": "metadata_item_id, generator_id, target_tag_id, state, selected_media_id, file_size",
    "view_settings": "account_id, client_type, view_group, view_id, sort_id, sort_asc, created_at, updated_at",
}
# Two tables without a key of their own.
UNKEYED = {
    "external_metadata_items": "id INTEGER, external_metadata_source_id INTEGER, library_section_id INTEGER, guid TEXT,"
    " title TEXT",
    "metadata_subscription_desired_items": "sub_id INTEGER, remote_id TEXT",
}
MADE_BY_THE_SIMULATOR = (
    "accounts",
    "activities",
    "blobs",
    "devices",
    "directories",
    "library_sections",
    "media_item_settings",
    "media_items",
    "media_parts",
    "media_streams",
    "metadata_item_accounts",
    "metadata_item_settings",
    "metadata_item_views",
    "metadata_items",
    "metadata_relations",
    "play_queue_generators",
    "preferences",
    "schema_migrations",
    "section_locations",
    "statistics_bandwidth",
    "statistics_media",
    "statistics_resources",
    "taggings",
    "tags",
)
# Tables of virtual tables, and SQLite's own.
INSIDE = (
    "fts4_metadata_titles",
    "fts4_metadata_titles_icu",
    "fts4_metadata_titles_icu_segments",
    "fts4_tag_titles_icu_docsize",
    "locations",
    "locations_node",
    "locations_parent",
    "locations_rowid",
    "spellfix_metadata_titles_vocab",
    "spellfix_tag_titles",
    "sqlite_sequence",
    "sqlite_stat1",
)
ALL = (*MADE_BY_THE_SIMULATOR, *LEFT_OUT, *UNKEYED, *INSIDE)


def complete(directory: Path) -> None:
    """Add to library.db the tables that the simulator leaves out, with their unique indexes."""
    statements: list[tuple[Any, ...]] = []
    for name, columns in LEFT_OUT.items():
        listed = ", ".join(f'"{column.strip().strip(chr(39))}" INTEGER' for column in columns.split(","))
        listed = listed.replace('settings" INTEGER', 'settings" TEXT').replace(
            'extra_data" INTEGER', 'extra_data" TEXT'
        )
        statements.append((f'CREATE TABLE "{name}" ("id" INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, {listed})',))
    statements += [(f'CREATE TABLE "{name}" ({columns})',) for name, columns in UNKEYED.items()]
    statements += [(statement,) for statement in database.unique_indexes(LEFT_OUT)]
    building.write(directory / building.LIBRARY, *statements)
