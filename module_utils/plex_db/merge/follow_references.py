"""Home's rows that point to something the indexer renamed or numbered anew: they follow it.

Watch state hangs on an item's guid, not on its id, so an item that the indexer matched anew would lose its plays.
Chosen streams hang on a stream's id, so a file that was analysed anew would lose its language. Playlists hang on an
item's id, so an item that Plex joined with another would leave a gap.
"""

# ruff: noqa: S608 - statements are built from names of the schema; values are parameters
from __future__ import annotations

from collections.abc import Mapping

from .conflicts import note
from .workspace import Table, Workspace

_STREAM_CHOICES = ("selected_audio_stream_id", "selected_subtitle_stream_id")


def find_moved(work: Workspace, library: Mapping[str, Table], wanted: str, missing: str) -> None:
    """Items that are gone because the indexer joined all their versions with another item: `main.moved`(old, new).

    :param wanted: a query for ids that home points to.
    :param missing: SQL that is true for an id `wanted.id` that home has and the indexer deleted.
    """
    media = library["media_items"]
    work.run("CREATE TABLE IF NOT EXISTS main.moved(old INTEGER PRIMARY KEY, new INTEGER)")
    work.run(
        f"INSERT OR IGNORE INTO main.moved SELECT wanted.id, MIN(t.metadata_item_id) "
        f"FROM (SELECT NULL AS id WHERE 0 UNION {wanted}) AS wanted "
        f"CROSS JOIN {media.at('ours')} o ON o.metadata_item_id = wanted.id "
        f"CROSS JOIN {media.at('theirs')} t ON t.id = o.id WHERE t.metadata_item_id <> wanted.id AND {missing} "
        "GROUP BY wanted.id HAVING COUNT(DISTINCT t.metadata_item_id) = 1"
    )


def follow_moves(work: Workspace, library: Mapping[str, Table]) -> None:
    """Playlists name the item that has the files now."""
    table = library.get("play_queue_generators")
    if table is None or not work.exists("SELECT 1 FROM main.moved"):
        return
    values = [
        "(SELECT m.new FROM main.moved m WHERE m.old = o.metadata_item_id)"
        if name == "metadata_item_id"
        else f'o."{name}"'
        for name in table.columns
    ]
    work.run(
        f"INSERT OR REPLACE INTO {table.staged('put')} SELECT {', '.join(values)} FROM {table.at('ours')} o "
        "WHERE o.metadata_item_id IN (SELECT old FROM main.moved)"
    )
    forget_what_is_there(work, table)


def follow_guids(work: Workspace, library: Mapping[str, Table]) -> None:
    """Views, ratings and resume points of an item whose guid the indexer changed go to the new guid, by item id.

    Where other items still have the old guid, both get the account's row; history stays where it is then. An account
    that has a row for the new guid at home already keeps both rows as they are: that is listed.
    """
    items, settings = library.get("metadata_items"), library.get("metadata_item_settings")
    views = library.get("metadata_item_views")
    if items is None or settings is None or views is None:
        return
    put, drop = items.staged("put"), items.staged("drop")
    work.run("CREATE TABLE main.guids(item INTEGER, old TEXT, new TEXT, chosen INTEGER DEFAULT 0, UNIQUE(old, new))")
    named = " UNION ".join(
        f"SELECT {column} AS guid FROM {table.at('ours')}"
        for table, column in ((settings, "guid"), (views, "guid"), (views, "grandparent_guid"))
    )
    # CROSS JOIN: in this order, so that the work grows with what people did and not with the library.
    work.run(
        f"INSERT OR IGNORE INTO main.guids(item, old, new) SELECT MIN(o.id), o.guid, t.guid FROM ({named}) g "
        f"CROSS JOIN {items.at('ours')} o ON o.guid = g.guid CROSS JOIN {items.at('theirs')} t ON t.id = o.id "
        f"WHERE t.guid IS NOT o.guid AND t.guid <> '' AND o.id NOT IN (SELECT id FROM {drop}) "
        f"AND NOT EXISTS (SELECT 1 FROM {put} p WHERE p.id = o.id AND p.guid IS NOT t.guid) GROUP BY o.guid, t.guid"
    )
    work.run(
        "INSERT OR IGNORE INTO main.guids(item, old, new) SELECT m.old, o.guid, t.guid FROM main.moved m "
        f"CROSS JOIN {items.at('ours')} o ON o.id = m.old CROSS JOIN {items.at('theirs')} t ON t.id = m.new "
        "WHERE t.guid IS NOT o.guid"
    )
    if not work.exists("SELECT 1 FROM main.guids"):
        return
    used = (
        f"EXISTS (SELECT 1 FROM {items.at('theirs')} u WHERE u.guid = g.old AND u.id NOT IN (SELECT id FROM {drop}) "
        f"AND NOT EXISTS (SELECT 1 FROM {put} p WHERE p.id = u.id AND p.guid <> g.old)) "
        f"OR EXISTS (SELECT 1 FROM {put} p WHERE p.guid = g.old)"
    )
    work.run(
        f"UPDATE main.guids AS g SET chosen = 1 WHERE NOT ({used}) "
        "AND g.item = (SELECT MIN(x.item) FROM main.guids x WHERE x.old = g.old)"
    )
    _follow_settings(work, settings)
    _follow_views(work, views)


def _follow_settings(work: Workspace, settings: Table) -> None:
    ours, theirs, put = settings.at("ours"), settings.at("theirs"), settings.staged("put")
    free = f"NOT EXISTS (SELECT 1 FROM {ours} x WHERE x.account_id IS o.account_id AND x.guid = g.new)"
    rows = f"FROM main.guids g CROSS JOIN {ours} o ON o.guid = g.old"
    moved = ", ".join("g.new" if name == "guid" else f'o."{name}"' for name in settings.columns)
    work.run(f"INSERT OR REPLACE INTO {put} SELECT {moved} {rows} WHERE g.chosen AND {free}")
    taken = f"SELECT o.id, g.new {rows} WHERE NOT {free}"
    note(work, settings, taken, "its item has another guid now, for which the account has a row too: ", "home's")
    # A copy gets the id that an earlier merge, or the indexer, gave to the row of that account and guid, else a fresh
    # one.
    known = (
        f"SELECT MIN(t.id) FROM {theirs} t WHERE t.account_id IS o.account_id AND t.guid = g.new "
        f"AND NOT EXISTS (SELECT 1 FROM {ours} m WHERE m.id = t.id)"
    )
    top = " UNION ALL ".join(
        part
        for side in ("ours", "theirs")
        for part in (
            f"SELECT MAX(id) AS top FROM {settings.at(side)}",
            f"SELECT MAX(seq) FROM {side}.sqlite_sequence WHERE name = 'metadata_item_settings'",
        )
    )
    copies = ", ".join(
        {
            "id": f"COALESCE(({known}), (SELECT MAX(top) FROM ({top})) + ROW_NUMBER() OVER (ORDER BY o.id, g.new))",
            "guid": "g.new",
        }.get(name, f'o."{name}"')
        for name in settings.columns
    )
    work.run(f"CREATE TABLE main.copies AS SELECT {copies} {rows} WHERE NOT g.chosen AND {free}")
    work.run(f"INSERT OR REPLACE INTO {put} SELECT * FROM main.copies")
    work.run(f"DELETE FROM {settings.staged('drop')} WHERE id IN (SELECT id FROM {put})")
    forget_what_is_there(work, settings)


def _follow_views(work: Workspace, views: Table) -> None:
    def new(column: str) -> str:
        found = f"(SELECT g.new FROM main.guids g WHERE g.chosen AND g.old = o.{column})"
        return f"COALESCE({found}, o.{column})"

    values = ", ".join(new(name) if name in ("guid", "grandparent_guid") else f'o."{name}"' for name in views.columns)
    chosen = "SELECT old FROM main.guids WHERE chosen"
    work.run(
        f"INSERT OR REPLACE INTO {views.staged('put')} SELECT {values} FROM {views.at('ours')} o "
        f"WHERE o.guid IN ({chosen}) OR o.grandparent_guid IN ({chosen})"
    )
    forget_what_is_there(work, views)


def follow_streams(work: Workspace, library: Mapping[str, Table]) -> None:
    """A chosen stream that the indexer's analysis gave another id: the choice names the same stream of the same file.

    The same stream: of the same part, type, index, language and codec. Where there is none the choice stays as it is,
    and that is listed.
    """
    choices, streams = library.get("media_part_settings"), library.get("media_streams")
    if choices is None or streams is None:
        return
    for column in _STREAM_CHOICES:
        if column not in choices.columns:
            continue
        gone = (
            f'FROM {choices.at("ours")} o CROSS JOIN {streams.at("ours")} s ON s.id = o."{column}" '
            f"WHERE (NOT EXISTS (SELECT 1 FROM {streams.at('theirs')} t WHERE t.id = s.id) "
            f"OR s.id IN (SELECT id FROM {streams.staged('drop')})) "
            f"AND s.id NOT IN (SELECT id FROM {streams.staged('put')})"
        )
        if not work.exists(f"SELECT 1 {gone}"):
            continue
        same = " AND ".join(
            f'n."{name}" COLLATE BINARY IS s."{name}"'
            for name in ("media_part_id", "stream_type_id", "index", "language", "codec")
        )
        found = (
            f"SELECT MIN(n.id) FROM {streams.at('theirs')} n WHERE {same} "
            f"AND n.id NOT IN (SELECT id FROM {streams.staged('drop')})"
        )
        put = choices.staged("put")
        # A choice of audio that was turned already is the row to go on from.
        work.run(f"INSERT OR IGNORE INTO {put} SELECT {choices.list_of('o.')} {gone}")
        work.run(
            f'UPDATE {put} AS p SET "{column}" = COALESCE((SELECT ({found}) FROM {streams.at("ours")} s '
            f'WHERE s.id = p."{column}"), p."{column}") WHERE p.id IN (SELECT o.id {gone})'
        )
        note(
            work,
            choices,
            f"SELECT o.id {gone} AND ({found}) IS NULL",
            f"{column} names a stream that the indexer's analysis no longer finds",
            "home's",
        )
    forget_what_is_there(work, choices)


def forget_what_is_there(work: Workspace, table: Table) -> None:
    """Rows that the result has in this form already need no writing."""
    work.run(
        f"DELETE FROM {table.staged('put')} WHERE id IN (SELECT p.id FROM {table.staged('put')} p "
        f"CROSS JOIN {table.at('theirs')} t ON t.id = p.id WHERE NOT {table.differ('p', 't')})"
    )
