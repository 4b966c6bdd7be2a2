"""Keep home's rows of files that the indexer moved to the trash or lost although home's Plex can read them.

Home may have more files than the remote, for example on a local disk or because a file is not uploaded yet. So each
such file is checked at home (`presence`) just before the merge is planned. If it is present or unknown, home's rows
replace the indexer's.
"""

# ruff: noqa: S608 - statements are built from names of the schema; values are parameters
from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from ..path_mapping.presence import Presence
from .workspace import Table, Workspace

Look = Callable[[Sequence[str], Sequence[str]], Presence]
"""Paths and the folders of the sections -> their presence at home (presence.look)."""

# Deep enough for real folders, and ends a cycle of parents.
LEVELS = 100


def find(work: Workspace, library: Mapping[str, Table], look: Look, sections: Iterable[int] | None = None) -> Presence:
    """Check every file at home that is no longer alive in theirs; record the kept ones in `main.kept_parts`.

    :param library: the tables of library.db by name.
    :param sections: ids of the run's sections (other sections always keep home's rows); None for all.
    """
    work.run("CREATE TABLE main.kept_parts(id INTEGER PRIMARY KEY)")
    only = "" if sections is None else f"AND oi.library_section_id IN ({', '.join(str(int(one)) for one in sections)})"
    # The + disables indexes: without statistics SQLite may choose one on a column with few values.
    alive = "+{0}p.deleted_at IS NULL AND +{0}m.deleted_at IS NULL AND +{0}i.deleted_at IS NULL"
    chain = (
        '{side}."media_parts" {0}p CROSS JOIN {side}."media_items" {0}m ON {0}m.id = {0}p.media_item_id '
        'CROSS JOIN {side}."metadata_items" {0}i ON {0}i.id = {0}m.metadata_item_id'
    )
    theirs = chain.format("t", side="theirs")
    titles = dict(work.rows(f"SELECT id, name FROM {library['library_sections'].at('ours')}"))
    lost = work.rows(
        f"SELECT op.id, op.file, oi.library_section_id FROM {chain.format('o', side='ours')} "
        f"WHERE {alive.format('o')} {only} AND op.file <> '' "
        'AND EXISTS (SELECT 1 FROM base."media_parts" b WHERE b.id = op.id) '
        f"AND NOT EXISTS (SELECT 1 FROM {theirs} WHERE tp.id = op.id AND {alive.format('t')}) "
        # Not lost: Plex gave the file another row.
        f"AND NOT EXISTS (SELECT 1 FROM {theirs} WHERE tp.file = op.file AND {alive.format('t')})"
    )
    if not lost:
        return Presence()
    roots = [str(row[0]) for row in work.rows(f"SELECT root_path FROM {library['section_locations'].at('ours')}")]
    found = look([str(file) for _, file, _ in lost], roots)
    keep = frozenset(found.kept)
    kept = [(number, str(titles.get(section, section))) for number, file, section in lost if str(file) in keep]
    work.connection.executemany("INSERT INTO main.kept_parts VALUES(?)", [(number,) for number, _ in kept])
    found.sections = dict(Counter(title for _, title in kept))
    return found


def rows(work: Workspace, tables: Mapping[str, Table]) -> dict[str, str]:
    """Return by table the SQL for the ids of home's rows to keep: parts, their parents up to shows or artists, and
    folders. Only rows that are not alive in theirs are included."""
    if not work.exists("SELECT 1 FROM main.kept_parts"):
        return {}
    parts = "SELECT id FROM main.kept_parts"
    media = f'SELECT media_item_id FROM ours."media_parts" WHERE id IN ({parts})'
    items = _upwards(
        f'SELECT metadata_item_id FROM ours."media_items" WHERE id IN ({media})', "metadata_items", "parent_id"
    )
    wanted = {"metadata_items": items, "media_items": media, "media_parts": parts}
    if "directories" in tables and "parent_directory_id" in tables["directories"].columns:
        folders = f'SELECT directory_id FROM ours."media_parts" WHERE id IN ({parts})'
        wanted["directories"] = _upwards(folders, "directories", "parent_directory_id")
    changed = {}
    for name, ids in wanted.items():
        table = tables[name]
        dead = "t.id IS NULL" + (" OR t.deleted_at IS NOT NULL" if "deleted_at" in table.columns else "")
        alive = "AND o.deleted_at IS NULL" if "deleted_at" in table.columns else ""
        changed[name] = (
            f"SELECT o.id FROM {table.at('ours')} o LEFT JOIN {table.at('theirs')} t ON t.id = o.id "
            f"WHERE o.id IN ({ids}) {alive} AND ({dead})"
        )
    # Streams and tags of rows that theirs no longer has would be missing.
    for name, column, of in (("media_streams", "media_part_id", parts), ("taggings", "metadata_item_id", items)):
        if name in tables:
            table = tables[name]
            owner = "media_parts" if column == "media_part_id" else "metadata_items"
            changed[name] = (
                f'SELECT o.id FROM {table.at("ours")} o WHERE o."{column}" IN ({of}) '
                f'AND NOT EXISTS (SELECT 1 FROM {tables[owner].at("theirs")} t WHERE t.id = o."{column}") '
                f"AND NOT EXISTS (SELECT 1 FROM {table.at('theirs')} t WHERE t.id = o.id)"
            )
    return changed


def _upwards(ids: str, table: str, parent: str) -> str:
    return (
        f'WITH RECURSIVE up(id, level) AS (SELECT id, 0 FROM ({_named(ids)}) UNION SELECT r."{parent}", up.level + 1 '
        f'FROM up JOIN ours."{table}" r ON r.id = up.id WHERE r."{parent}" IS NOT NULL AND up.level < {LEVELS}) '
        "SELECT id FROM up"
    )


def _named(ids: str) -> str:
    return f"SELECT NULL AS id WHERE 0 UNION {ids}"
