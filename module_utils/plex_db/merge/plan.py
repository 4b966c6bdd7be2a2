"""Work out what must be written into theirs so that nothing home did is lost. Reads three pairs, writes a scratch file.

Everything is driven by home's difference to the base, which is small, and never by the indexer's, which is large: what
the indexer did is in place already. So the same code merges days of home's life (base = what went out) and, with Plex
stopped, the seconds since then (base = home's snapshot of a moment ago).

CROSS JOIN is SQLite's word for "in this order" (https://sqlite.org/optoverview.html): the small table first, which is
home's difference. A database without statistics gives its planner no reason to begin there.
"""

# ruff: noqa: S608 - statements are built from names of the schema; values are parameters
from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ..errors import PlexDatabaseError
from ..pair.pair import BLOBS, LIBRARY
from ..path_mapping.presence import Presence
from ..sqlite_pages.changed_rows import Near
from . import follow_references, policy
from . import home_files as kept
from .conflicts import CONFLICTS_TABLE, note
from .workspace import Table, Workspace

# Levels of a library: artist, album, track; show, season, episode; and one to spare for albums in albums of photos.
LEVELS = 4
BLOBS_TABLES = "blobs.db: "
"""How a plan's counts call the tables of blobs.db, which has those of library.db too."""
EXAMPLES = 5


@dataclass
class Plan:
    """What a merge would write: per table how many rows of the result come from home, and how many go."""

    put: dict[str, int] = field(default_factory=dict)
    drop: dict[str, int] = field(default_factory=dict)
    whole: list[Table] = field(default_factory=list)
    staged: list[Table] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    conflicts: int = 0
    kept: int = 0
    at_home: Presence = field(default_factory=Presence)

    @property
    def changes(self) -> bool:
        """Whether anything would be written."""
        return bool(self.put or self.drop or self.whole)


def make(
    work: Workspace, sections: Iterable[int] | None = None, near: Near | None = None, look: kept.Look | None = None
) -> Plan:
    """Plan the merge.

    :param sections: ids of the sections that were in the run; others stay home's. None: all were.
    :param near: where ours may differ from base (touched.since); None: anywhere.
    :param look: looks for files at home; what is there is alive in the result. None: the indexer's trash stays.
    :raises PlexDatabaseError: versions differ, ids of both sides met, or both changed a table nothing is known about.
    """
    planner = _Planner(work, None if sections is None else sorted(set(sections)), near or {})
    planner.merge_library()
    if look is not None:
        planner.keep_what_is_at_home(look)
    planner.take_home_tables()
    planner.decide_the_rest()
    planner.settle_keys()
    return planner.finished()


class _Planner:
    def __init__(self, work: Workspace, sections: Sequence[int] | None, near: Near) -> None:
        self.work = work
        self.sections = sections
        self.near = near
        self.plan = Plan()
        self.library = work.tables(LIBRARY)
        self.blobs = work.tables(BLOBS)
        self.known_fresh: set[Table] = set()
        self.kinds: dict[Table, set[str]] = {}
        work.run(CONFLICTS_TABLE)
        # blobs.db has every table of library.db, but only its `blobs` is filled.
        self.merged = [self.library[name] for name in policy.MERGED if name in self.library]
        if "blobs" in self.blobs:
            self.merged.append(self.blobs["blobs"])
        for table in self.merged:
            self._stage(table)

    # -- the library -------------------------------------------------------------------------------------------------

    def merge_library(self) -> None:
        """Home's additions, changes and deletions since the base, applied to the indexer's rows."""
        for table in self.merged:
            self._find_delta(table)
        for table in self.merged:
            self._refuse_met_ids(table)
        self._find_restored()
        for table in self.merged:
            self._find_same(table)
        for table in self.merged:
            self._apply_delta(table)
        self._keep_rewritten_sets()
        for _ in range(LEVELS):
            if not sum(self._drop_orphans(table) for table in self.merged):
                break
        for table in self.merged:
            self._turn_references(table)
        for table in self.merged:
            self._keep_other_sections(table)

    def _stage(self, table: Table) -> None:
        self.work.run(f"CREATE TABLE {table.staged('put')} AS SELECT {table.list_of()} FROM {table.at('base')} LIMIT 0")
        if "id" in table.columns:
            self.work.run(
                f'CREATE UNIQUE INDEX main."put_{table.file}_{table.name}" ON {_bare(table.staged("put"))}("id")'
            )
        self.work.run(f"CREATE TABLE {table.staged('drop')}(id INTEGER PRIMARY KEY)")
        self.plan.staged.append(table)

    def _find_delta(self, table: Table) -> None:
        delta, base, ours = table.staged("delta"), table.at("base"), table.at("ours")
        self.work.run(f"CREATE TABLE {delta}(id INTEGER PRIMARY KEY, kind TEXT)")
        self.work.run(f"CREATE TABLE {table.staged('same')}(theirs INTEGER PRIMARY KEY, ours INTEGER)")
        kind = "CASE WHEN b.id IS NULL THEN 'added' ELSE 'changed' END"
        differ = f"b.id IS NULL OR {table.differ('o', 'b')}"
        deleted = f"NOT EXISTS (SELECT 1 FROM {ours} o WHERE o.id = b.id)"
        ranges = self.near.get((table.file, table.name)) if self._is_keyed(table) else None
        if ranges is None:
            self.work.run(
                f"INSERT INTO {delta} SELECT o.id, {kind} FROM {ours} o LEFT JOIN {base} b ON b.id = o.id "
                f"WHERE {differ}"
            )
            added = self.work.count(f"SELECT COUNT(*) FROM {delta} WHERE kind = 'added'")
            mine = self.work.count(f"SELECT COUNT(*) FROM {ours}")
            if self.work.count(f"SELECT COUNT(*) FROM {base}") > mine - added:
                self.work.run(f"INSERT INTO {delta} SELECT b.id, 'deleted' FROM {base} b WHERE {deleted}")
        for low_and_high in ranges or ():
            self.work.run(
                f"INSERT INTO {delta} SELECT o.id, {kind} FROM {ours} o LEFT JOIN {base} b ON b.id = o.id "
                f"WHERE o.id BETWEEN ? AND ? AND ({differ})",
                low_and_high,
            )
            self.work.run(
                f"INSERT INTO {delta} SELECT b.id, 'deleted' FROM {base} b WHERE b.id BETWEEN ? AND ? AND {deleted}",
                low_and_high,
            )
        self.kinds[table] = {str(row[0]) for row in self.work.rows(f"SELECT DISTINCT kind FROM {delta}")}

    def _refuse_met_ids(self, table: Table) -> None:
        if "added" not in self.kinds[table]:
            return
        met = self.work.rows(
            f"SELECT d.id FROM {table.staged('delta')} d CROSS JOIN {table.at('ours')} o ON o.id = d.id "
            f"CROSS JOIN {table.at('theirs')} t ON t.id = d.id WHERE d.kind = 'added' "
            f"AND {table.differ('o', 't')} LIMIT ?",
            (EXAMPLES,),
        )
        if met:
            raise PlexDatabaseError(
                f"Home and the indexer both gave the ids {', '.join(str(row[0]) for row in met)} of {table.name} to "
                "rows "
                "of their own: the counters of the pair that went out were not raised, or home added more rows than "
                "the "
                "gap is wide. Home keeps its database; run the sync again from home as it is now."
            )

    def _find_restored(self) -> None:
        """Items that the indexer deleted and home still needs, with their parents and files."""
        work = self.work
        items = self.library["metadata_items"]
        work.run("CREATE TABLE main.restored(id INTEGER PRIMARY KEY)")
        missing = (
            f"EXISTS (SELECT 1 FROM {items.at('ours')} o WHERE o.id = wanted.id) "
            f"AND EXISTS (SELECT 1 FROM {items.at('base')} b WHERE b.id = wanted.id) "
            f"AND NOT EXISTS (SELECT 1 FROM {items.at('theirs')} t WHERE t.id = wanted.id)"
        )
        sources = []
        for table in self.merged:
            rule = policy.RULES[table.name]
            for column, target in rule.references.items() if "added" in self.kinds[table] else ():
                if target == "metadata_items" and column in table.columns and column != "linked_id":
                    sources.append(
                        f'SELECT o."{column}" AS id FROM {table.staged("delta")} d '
                        f"CROSS JOIN {table.at('ours')} o ON o.id = d.id WHERE d.kind = 'added'"
                    )
        changed = items.differ("o", "b", ("id", *policy.RULES["metadata_items"].newest))
        sources.append(
            f"SELECT d.id FROM {items.staged('delta')} d CROSS JOIN {items.at('ours')} o ON o.id = d.id "
            f"CROSS JOIN {items.at('base')} b ON b.id = d.id WHERE d.kind = 'changed' AND {changed}"
        )
        if "play_queue_generators" in self.library:
            sources.append(f"SELECT metadata_item_id FROM {self.library['play_queue_generators'].at('ours')}")
        for source in sources:
            wanted = f"SELECT NULL AS id WHERE 0 UNION {source}"
            work.run(f"INSERT OR IGNORE INTO main.restored SELECT id FROM ({wanted}) AS wanted WHERE {missing}")
        follow_references.find_moved(work, self.library, "SELECT id FROM main.restored", missing)
        # An item that home edited itself comes back even so.
        work.run(f"DELETE FROM main.moved WHERE old IN (SELECT id FROM {items.staged('delta')})")
        work.run("DELETE FROM main.restored WHERE id IN (SELECT old FROM main.moved)")
        for _ in range(LEVELS):
            parents = f"SELECT o.parent_id AS id FROM main.restored r CROSS JOIN {items.at('ours')} o ON o.id = r.id"
            if not work.run(
                f"INSERT OR IGNORE INTO main.restored SELECT id FROM ({parents}) AS wanted WHERE {missing}"
            ):
                break
        if not work.exists("SELECT 1 FROM main.restored"):
            return
        note(work, items, "SELECT id FROM main.restored", "deleted by the indexer, still used at home", "home's")
        self._put_ours(items, "SELECT id FROM main.restored")
        for name, column, of in (
            ("media_items", "metadata_item_id", "main.restored"),
            ("media_parts", "media_item_id", self._put_of("media_items")),
            ("media_streams", "media_part_id", self._put_of("media_parts")),
            ("taggings", "metadata_item_id", "main.restored"),
        ):
            if name in self.library and of:
                table = self.library[name]
                self._put_ours(
                    table,
                    f'SELECT o.id FROM {table.at("ours")} o WHERE o."{column}" IN (SELECT id FROM {of}) '
                    f"AND NOT EXISTS (SELECT 1 FROM {table.at('theirs')} t WHERE t.id = o.id)",
                )

    def _put_of(self, name: str) -> str:
        return self.library[name].staged("put") if name in self.library else ""

    # -- rows that both sides added
    # --------------------------------------------------------------------------------------

    def _find_same(self, table: Table) -> None:
        """Rows of the indexer's that are home's own additions under another id."""
        rule = policy.RULES[table.name]
        if not rule.identity or "added" not in self.kinds[table]:
            return
        rounds = LEVELS if table.name in rule.references.values() else 1
        for _ in range(rounds):
            if not self._match(table, rule):
                break
        if table.name == "media_parts":
            self._match_files()

    def _match(self, table: Table, rule: policy.Rule) -> int:
        fresh = self._fresh(table)
        tests = [f'f."{name}" IS o."{name}"' for name in self._told_apart(table)]
        if table.name == "metadata_items":
            # Guids of local items are given out per server; their files tell below whether they are the same.
            tests += ["o.guid NOT LIKE 'local://%'", "o.guid <> ''"]
        if table.name == "media_parts":
            tests.append("o.file <> ''")
        if table.name == "blobs":
            tests.append("o.linked_id NOT NULL")  # rows with only a guid are identified by it in settle_keys
        return self.work.run(
            f"INSERT OR IGNORE INTO {table.staged('same')} "
            f"SELECT MIN(f.id), o.id FROM {table.staged('delta')} d CROSS JOIN {table.at('ours')} o ON o.id = d.id "
            f"CROSS JOIN {fresh} f ON {' AND '.join(tests)} WHERE d.kind = 'added' "
            f"AND NOT EXISTS (SELECT 1 FROM {table.staged('same')} s WHERE s.ours = o.id) GROUP BY o.id"
        )

    def _told_apart(self, table: Table) -> tuple[str, ...]:
        """The columns by which rows of both sides are one and the same."""
        identity = policy.RULES[table.name].identity
        return (*identity, "parent_id") if table.name == "metadata_items" else identity

    def _fresh(self, table: Table) -> str:
        """Rows that the indexer added, by what tells them apart: made when first needed, with an index of its own.

        Half a million rows are read once then, and not once for every row of home's. What in them points to a row that
        stands for one of home's points to that.
        """
        fresh, names = table.staged("fresh"), self._told_apart(table)
        if table not in self.known_fresh:
            self.known_fresh.add(table)
            listed = ", ".join(f'"{name}"' for name in names)
            # EXCEPT: of two indexes, not of two tables.
            added = f"SELECT id FROM {table.at('theirs')} EXCEPT SELECT id FROM {table.at('base')}"
            self.work.run(
                f"CREATE TABLE {fresh} AS SELECT t.id, {listed} FROM ({added}) n CROSS JOIN {table.at('theirs')} t "
                f"ON t.id = n.id WHERE NOT EXISTS (SELECT 1 FROM {table.at('ours')} o WHERE o.id = n.id)"
            )
            self.work.run(f'CREATE INDEX main."by_{table.file}_{table.name}" ON {_bare(fresh)}({listed})')
        for column, parent in self._references(table):
            if column in names:
                same = parent.staged("same")
                self.work.run(
                    f'UPDATE {fresh} AS t SET "{column}" = (SELECT s.ours FROM {same} s WHERE s.theirs = t."{column}") '
                    f'WHERE t."{column}" IN (SELECT theirs FROM {same}){_linked(table, column)}'
                )
        return fresh

    def _is_new(self, table: Table, row: str = "t") -> str:
        return (
            f"NOT EXISTS (SELECT 1 FROM {table.at('base')} nb WHERE nb.id = {row}.id) "
            f"AND NOT EXISTS (SELECT 1 FROM {table.at('ours')} no WHERE no.id = {row}.id)"
        )

    def _match_files(self) -> None:
        """From files that both sides added up to their versions, items and the items that hold those."""
        parts, media, items = (self.library[name] for name in ("media_parts", "media_items", "metadata_items"))
        self.work.run(
            f"INSERT OR IGNORE INTO {media.staged('same')} SELECT t.media_item_id, MIN(o.media_item_id) "
            f"FROM {parts.staged('same')} s CROSS JOIN {parts.at('theirs')} t ON t.id = s.theirs "
            f"CROSS JOIN {parts.at('ours')} o ON o.id = s.ours "
            f"CROSS JOIN {media.at('theirs')} m ON m.id = t.media_item_id "
            f"WHERE {self._is_new(media, 'm')} AND NOT EXISTS (SELECT 1 FROM {parts.at('theirs')} other "
            f"WHERE other.media_item_id = m.id AND other.id NOT IN (SELECT theirs FROM {parts.staged('same')})) "
            "GROUP BY t.media_item_id"
        )
        self._match_upwards(items, media, "metadata_item_id")
        for _ in range(LEVELS - 1):
            if not self._match_upwards(items, items, "parent_id"):
                break

    def _match_upwards(self, items: Table, child: Table, column: str) -> int:
        """Items that the indexer added and whose every child is home's: they are the item that holds those at home."""
        return self.work.run(
            f'INSERT OR IGNORE INTO {items.staged("same")} SELECT t."{column}", MIN(o."{column}") '
            f"FROM {child.staged('same')} s CROSS JOIN {child.at('theirs')} t ON t.id = s.theirs "
            f"CROSS JOIN {child.at('ours')} o ON o.id = s.ours "
            f'CROSS JOIN {items.at("theirs")} i ON i.id = t."{column}" '
            f"WHERE {self._is_new(items, 'i')} AND NOT EXISTS (SELECT 1 FROM {child.at('theirs')} other "
            f'WHERE other."{column}" = i.id AND other.id NOT IN (SELECT theirs FROM {child.staged("same")})) '
            f'AND o."{column}" IS NOT NULL GROUP BY t."{column}"'
        )

    # -- home's difference, row by row and column by column ----------------------------------------------------------

    def _apply_delta(self, table: Table) -> None:
        delta, ours, theirs = table.staged("delta"), table.at("ours"), table.at("theirs")
        kinds, rule = self.kinds[table], policy.RULES[table.name]
        self._drop(table, f"SELECT theirs FROM {table.staged('same')}")
        if "added" in kinds:
            self._put_ours(
                table,
                f"SELECT d.id FROM {delta} d WHERE d.kind = 'added' "
                f"AND NOT EXISTS (SELECT 1 FROM {theirs} t WHERE t.id = d.id)",
            )
        if "changed" in kinds:
            self._merge_columns(table)
            self._put_changed_but_gone(table)
        if "deleted" not in kinds:
            return
        self._drop(table, f"SELECT d.id FROM {delta} d CROSS JOIN {theirs} t ON t.id = d.id WHERE d.kind = 'deleted'")
        self._note_deleted(table)
        if rule.removal_stays:
            again = " AND ".join(f'f."{name}" IS b."{name}"' for name in rule.identity)
            self._drop(
                table,
                f"SELECT f.id FROM {delta} d CROSS JOIN {table.at('base')} b ON b.id = d.id "
                f"CROSS JOIN {self._fresh(table)} f ON {again} WHERE d.kind = 'deleted' "
                f"AND NOT EXISTS (SELECT 1 FROM {ours} k WHERE {_alike('k', 'b', rule.identity)})",
                "removed at home, made anew by the indexer",
            )

    def _merge_columns(self, table: Table) -> None:
        rule = policy.RULES[table.name]
        values, clashes = [], []
        for name in table.columns:
            o, b, t = f'o."{name}"', f'b."{name}"', f't."{name}"'
            mine = f"{o} COLLATE BINARY IS NOT {b}"
            if name == "id":
                values.append("o.id")
            elif name in rule.newest:
                values.append(f"CASE WHEN {mine} THEN MAX(COALESCE({o}, {t}), COALESCE({t}, {o})) ELSE {t} END")
            elif name == "extra_data":
                both = f"{mine} AND {t} COLLATE BINARY IS NOT {b}"
                values.append(f"CASE WHEN {both} THEN merged_extra({b}, {o}, {t}) WHEN {mine} THEN {o} ELSE {t} END")
            elif name in rule.indexers:
                values.append(f'CASE WHEN {t} COLLATE BINARY IS b."{name}" THEN {o} ELSE {t} END')
            else:
                values.append(f"CASE WHEN {mine} THEN {o} ELSE {t} END")
                clash = f"{mine} AND {t} COLLATE BINARY IS NOT {b} AND {t} COLLATE BINARY IS NOT {o}"
                clashes.append(f"CASE WHEN {clash} THEN '{name} ' ELSE '' END")
        joined = (
            f"FROM {table.staged('delta')} d CROSS JOIN {table.at('ours')} o ON o.id = d.id "
            f"CROSS JOIN {table.at('base')} b ON b.id = d.id "
            f"CROSS JOIN {table.at('theirs')} t ON t.id = d.id WHERE d.kind = 'changed'"
        )
        self.work.run(f"INSERT OR REPLACE INTO {table.staged('put')} SELECT {', '.join(values)} {joined}")
        follow_references.forget_what_is_there(self.work, table)
        if clashes:
            text = " || ".join(clashes)
            note(
                self.work, table, f"SELECT d.id, {text} {joined} AND {text} <> ''", "changed on both sides: ", "home's"
            )

    def _put_changed_but_gone(self, table: Table) -> None:
        rule = policy.RULES[table.name]
        gone = (
            f"SELECT d.id FROM {table.staged('delta')} d CROSS JOIN {table.at('ours')} o ON o.id = d.id "
            f"CROSS JOIN {table.at('base')} b ON b.id = d.id WHERE d.kind = 'changed' "
            f"AND {table.differ('o', 'b', ('id', *rule.newest))} "
            f"AND NOT EXISTS (SELECT 1 FROM {table.at('theirs')} t WHERE t.id = d.id) "
            f"AND d.id NOT IN (SELECT id FROM {table.staged('put')})"
        )
        if rule.restore:
            note(self.work, table, gone, "changed at home, deleted by the indexer", "home's")
            self._put_ours(table, gone)
        else:
            note(self.work, table, gone, "changed at home, deleted by the indexer", "the indexer's")

    def _note_deleted(self, table: Table) -> None:
        """What home deleted and the indexer worked on: home's deletion stays."""
        rule = policy.RULES[table.name]
        note(
            self.work,
            table,
            f"SELECT d.id FROM {table.staged('delta')} d CROSS JOIN {table.at('base')} b ON b.id = d.id "
            f"CROSS JOIN {table.at('theirs')} t ON t.id = d.id WHERE d.kind = 'deleted' "
            f"AND {table.differ('t', 'b', ('id', *rule.newest))}",
            "deleted at home, changed by the indexer",
            "home's",
        )

    def _keep_rewritten_sets(self) -> None:
        """Where home rewrote a set (the streams of a file), the indexer's new rows for it are dropped."""
        for table in self.merged:
            rule = policy.RULES[table.name]
            column = rule.set_of
            if column:
                same = self.library[rule.references[column]].staged("same")
                touched = " UNION ".join(
                    f'SELECT r."{column}" FROM {table.staged("delta")} d CROSS JOIN {table.at(side)} r ON r.id = d.id '
                    f"WHERE d.kind = '{kind}'"
                    for side, kind in (("ours", "added"), ("base", "deleted"))
                )
                touched += f" UNION SELECT theirs FROM {same}"
                self._drop(
                    table,
                    f'SELECT t.id FROM {table.at("theirs")} t WHERE t."{column}" IN ({touched}) AND '
                    f"{self._is_new(table)}",
                    "home analysed the same file",
                )

    def _drop_orphans(self, table: Table) -> int:
        """The indexer's new rows below what is dropped go with it."""
        dropped = 0
        for column, parent in self._references(table):
            if not self.work.exists(f"SELECT 1 FROM {parent.staged('drop')}"):
                continue
            gone = f"SELECT id FROM {parent.staged('drop')} EXCEPT SELECT theirs FROM {parent.staged('same')}"
            below = f'SELECT t.id FROM {table.at("theirs")} t WHERE t."{column}" IN ({gone}){_linked(table, column)}'
            athome = f"EXISTS (SELECT 1 FROM {table.at('ours')} o WHERE o.id = t.id"
            dropped += self._drop(
                table,
                f"{below} AND NOT {athome})",
                f"new, but home deleted what it belongs to ({parent.name})",
            )
            # The indexer moved home's row below what goes: it stays where home has it.
            self._put_ours(table, f'{below} AND {athome} AND o."{column}" IS NOT t."{column}")')
        return dropped

    def _references(self, table: Table) -> list[tuple[str, Table]]:
        return [
            (column, self.library[target])
            for column, target in policy.RULES[table.name].references.items()
            if column in table.columns and target in self.library
        ]

    def _turn_references(self, table: Table) -> None:
        """Where the indexer's rows point to one that is home's under another id, they point to home's."""
        turned = [
            (column, parent)
            for column, parent in self._references(table)
            if self.work.exists(f"SELECT 1 FROM {parent.staged('same')}")
        ]
        if not turned:
            return
        wanted = " UNION ".join(
            f'SELECT t.id FROM {table.at("theirs")} t WHERE t."{column}" IN (SELECT theirs FROM '
            f"{parent.staged('same')})"
            f"{_linked(table, column)}"
            for column, parent in turned
        )
        values = {name: f't."{name}"' for name in table.columns}
        for column, parent in turned:
            same = f'(SELECT s.ours FROM {parent.staged("same")} s WHERE s.theirs = t."{column}")'
            values[column] = f'COALESCE({same}, t."{column}")'
            if column == "linked_id":
                values[column] = f"CASE WHEN t.linked_type = 'metadata_item' THEN {values[column]} ELSE t.linked_id END"
        self.work.run(
            f"INSERT OR IGNORE INTO {table.staged('put')} SELECT {', '.join(values.values())} FROM "
            f"{table.at('theirs')} t "
            f"WHERE t.id IN ({wanted}) AND t.id NOT IN (SELECT id FROM {table.staged('drop')})"
        )
        for column, parent in turned:
            if column != "linked_id":
                same = f'(SELECT s.ours FROM {parent.staged("same")} s WHERE s.theirs = p."{column}")'
                self.work.run(
                    f'UPDATE {table.staged("put")} AS p SET "{column}" = {same} '
                    f'WHERE p."{column}" IN (SELECT theirs FROM {parent.staged("same")})'
                )
        self._drop_doubles(table)

    def _drop_doubles(self, table: Table) -> None:
        """Turned rows that home has already (the same tag on the same item)."""
        rule = policy.RULES[table.name]
        if not rule.identity:
            return
        doubles = (
            f"SELECT p.id FROM {table.staged('put')} p CROSS JOIN {table.at('ours')} o "
            f"ON {_alike('o', 'p', rule.identity)} WHERE o.id <> p.id "
            f"AND NOT EXISTS (SELECT 1 FROM {table.at('ours')} mine WHERE mine.id = p.id)"
        )
        self._drop(table, doubles)

    # -- sections that were not in the run, and items that people made
    # ---------------------------------------------------

    def _keep_other_sections(self, table: Table) -> None:
        rule = policy.RULES[table.name]
        if not rule.owner:
            return
        outside = table.staged("outside")
        self.work.run(f"CREATE TABLE {outside}(id INTEGER PRIMARY KEY)")
        parent = self.library.get(rule.references.get(rule.owner, ""))
        below = parent is not None and parent.name != "library_sections"
        if parent is not None and below and not self.work.exists(f"SELECT 1 FROM {parent.staged('outside')}"):
            return
        for side in ("theirs", "ours"):
            self.work.run(
                f"INSERT OR IGNORE INTO {outside} SELECT r.id FROM {table.at(side)} r WHERE "
                f"{self._is_outside(table, rule)}"
            )
        if not self.work.exists(f"SELECT 1 FROM {outside}"):
            return
        scope = f"SELECT id FROM {outside}"
        self.work.run(f"DELETE FROM {table.staged('put')} WHERE id IN ({scope})")
        self.work.run(f"DELETE FROM {table.staged('drop')} WHERE id IN ({scope})")
        self._put_ours(
            table,
            f"SELECT o.id FROM {outside} x CROSS JOIN {table.at('ours')} o ON o.id = x.id "
            f"LEFT JOIN {table.at('theirs')} t ON t.id = x.id WHERE t.id IS NULL OR {table.differ('o', 't')}",
        )
        self._drop(
            table,
            f"SELECT x.id FROM {outside} x CROSS JOIN {table.at('theirs')} t ON t.id = x.id "
            f"WHERE NOT EXISTS (SELECT 1 FROM {table.at('ours')} o WHERE o.id = x.id)",
        )

    def _is_outside(self, table: Table, rule: policy.Rule) -> str:
        tests = []
        parent = self.library.get(rule.references.get(rule.owner, ""))
        if parent is not None and parent.name != "library_sections":
            tests.append(f'r."{rule.owner}" IN (SELECT id FROM {parent.staged("outside")})')
            if rule.owner == "linked_id":
                tests[-1] += " AND r.linked_type = 'metadata_item'"
        elif self.sections is not None:
            tests.append(f'r."{rule.owner}" NOT IN ({", ".join(str(int(number)) for number in self.sections)})')
        if table.name == "metadata_items":
            tests.append(f"r.metadata_type IN ({', '.join(str(number) for number in policy.PEOPLES_TYPES)})")
        return " OR ".join(f"({test})" for test in tests) or "0"

    # -- files at home that the remote lacks --------------------------------------------------------------------------

    def keep_what_is_at_home(self, look: kept.Look) -> None:
        """Keep home's rows of files that home's Plex can read and the indexer moved to the trash or lost."""
        self.plan.at_home = kept.find(self.work, self.library, look, self.sections)
        for name, ids in kept.rows(self.work, self.library).items():
            self._put_ours(self.library[name], ids)

    # -- what is home's whole ------------------------------------------------------------------------------------------

    def take_home_tables(self) -> None:
        """The result holds exactly home's rows of what people did and of what is this server's own."""
        homes = [table for table in self.library.values() if _kind(table) == policy.HOME]
        for table in homes:
            if "id" not in table.columns or not self._is_keyed(table):
                if self._differs(table, "ours", "theirs"):
                    self._take_whole(table)
                continue
            self._stage(table)
            self._put_ours(
                table,
                f"SELECT o.id FROM {table.at('ours')} o LEFT JOIN {table.at('theirs')} t ON t.id = o.id "
                f"WHERE t.id IS NULL OR {table.differ('o', 't')}",
            )
            extra = (
                f"SELECT t.id FROM {table.at('theirs')} t WHERE NOT EXISTS (SELECT 1 FROM {table.at('ours')} o "
                "WHERE o.id = t.id)"
            )
            self._drop(table, extra)
        follow_references.follow_moves(self.work, self.library)
        follow_references.follow_guids(self.work, self.library)
        follow_references.follow_streams(self.work, self.library)
        self._count_watch_state()

    def _is_keyed(self, table: Table) -> bool:
        """Whether `id` is the key of its rows, and no ordinary column, in which a number may stand twice."""
        keyed = "name = 'id' AND pk = 1 AND UPPER(type) = 'INTEGER'"
        schema = table.at("ours").partition(".")[0]
        sql = f"SELECT COUNT(*) FROM pragma_table_info(?, ?) WHERE {keyed}"
        return self.work.count(sql, (table.name, schema)) == 1

    def _count_watch_state(self) -> None:
        """Rows of watch state that home changed since the base, and rows of the indexer's own that give way."""
        for name in ("metadata_item_settings", "metadata_item_views"):
            if name not in self.library:
                continue
            table = self.library[name]
            changed = "SELECT {one}.id FROM {o} {one} LEFT JOIN {b} x ON x.id = {one}.id WHERE x.id IS NULL OR {differ}"
            self.plan.kept += self.work.count(
                "SELECT COUNT(*) FROM ("
                + changed.format(one="o", o=table.at("ours"), b=table.at("base"), differ=table.differ("o", "x"))
                + ")"
            )
            indexer_rows = changed.format(
                one="t", o=table.at("theirs"), b=table.at("base"), differ=table.differ("t", "x")
            )
            given_way = (
                f"SELECT id FROM ({indexer_rows}) WHERE id IN (SELECT id FROM {table.staged('put')} UNION SELECT "
                f"id FROM {table.staged('drop')})"
            )
            note(self.work, table, given_way, "written by the indexer's Plex itself", "home's")

    # -- the rest ------------------------------------------------------------------------------------------------------

    def decide_the_rest(self) -> None:
        """Groups that only make sense whole, what must be equal, and tables nothing is known about."""
        groups: dict[str, list[Table]] = {}
        for table in (*self.library.values(), *self.blobs.values()):
            if table in self.merged:
                continue
            kind = _kind(table)
            if kind == policy.SAME:
                self._require_same(table)
            elif table.file == BLOBS or kind not in (policy.HOME, policy.MERGE):
                rule = policy.rule_of(table.name)
                groups.setdefault(f"{table.file}:{rule.group if rule and rule.group else table.name}", []).append(table)
        for tables in groups.values():
            self._decide_group(tables)

    def _decide_group(self, tables: list[Table]) -> None:
        mine = [table for table in tables if self._differs(table, "ours", "base")]
        others = [table for table in tables if self._differs(table, "theirs", "base")]
        if not mine and not others:
            return
        differing = [table for table in tables if self._differs(table, "ours", "theirs")]
        if not differing:
            return
        names = ", ".join(table.name for table in tables)
        known = policy.rule_of(tables[0].name) is not None
        if not mine:
            if not known:
                self.plan.warnings.append(
                    f"The indexer changed {names}, of which this plexburst knows nothing: the change stays, for "
                    "home did "
                    "not touch it."
                )
            return
        if others and not known:
            raise PlexDatabaseError(
                f"Both home and the indexer changed {names} since the snapshot, and this plexburst does not know "
                "what is "
                "in there: one side's changes would be lost. Home keeps its database. Please report the table's name."
            )
        if others:
            self.plan.warnings.append(
                f"Both home and the indexer changed {names}: home's is kept, Plex works the rest out again."
            )
            note(self.work, tables[0], "SELECT NULL", f"both changed {names}", "home's")
        for table in differing:
            self._take_whole(table)

    def _require_same(self, table: Table) -> None:
        if not self._differs(table, "ours", "theirs"):
            return
        raise PlexDatabaseError(
            f"{table.name} of {table.file} differs between home and the pair that comes back: home's Plex was updated "
            "meanwhile, or the indexer ran another version. Home keeps its database; run the sync again from home "
            "as it "
            "is now."
        )

    def _differs(self, table: Table, one: str, other: str) -> bool:
        names, left, right = table.list_of(), table.at(one), table.at(other)
        # The numbers of rows too: rows may be equal to each other where a table has no key.
        return self.work.exists(
            f"SELECT 1 WHERE (SELECT COUNT(*) FROM {left}) <> (SELECT COUNT(*) FROM {right}) "
            f"OR EXISTS (SELECT {names} FROM {left} EXCEPT SELECT {names} FROM {right}) "
            f"OR EXISTS (SELECT {names} FROM {right} EXCEPT SELECT {names} FROM {left})"
        )

    def _take_whole(self, table: Table) -> None:
        if table not in self.plan.staged:
            self._stage_plain(table)
        self.work.run(f"INSERT INTO {table.staged('put')} SELECT {table.list_of()} FROM {table.at('ours')}")
        self.plan.whole.append(table)

    def _stage_plain(self, table: Table) -> None:
        self.work.run(f"CREATE TABLE {table.staged('put')} AS SELECT {table.list_of()} FROM {table.at('base')} LIMIT 0")

    # -- unique keys ---------------------------------------------------------------------------------------------------

    def settle_keys(self) -> None:
        """Resolve rows of the result that share a unique key of Plex's schema, by the rules of policy.py."""
        for table in self.plan.staged:
            keys = self.work.unique_keys(table)
            if not keys or not self.work.exists(f"SELECT 1 FROM {table.staged('put')}"):
                continue
            for number, key in enumerate(keys):
                listed = ", ".join(f'"{name}"' for name in key)
                index = f'main."key_{table.file}_{table.name}_{number}"'
                self.work.run(f"CREATE INDEX {index} ON {_bare(table.staged('put'))}({listed})")
            # Ends, because a row that gave up a column, became home's or was removed does not give way again.
            while sum([self._settle(table, key) for key in keys]):
                pass
            follow_references.forget_what_is_there(self.work, table)

    def _settle(self, table: Table, key: Sequence[str]) -> int:
        """Resolve one unique key; returns the rows that gave way to another row with the same key."""
        put, drop, ours, theirs = table.staged("put"), table.staged("drop"), table.at("ours"), table.at("theirs")
        # = and not IS, because NULL is not a key.
        same = " AND ".join(f'x."{name}" = p."{name}"' for name in key)
        mine = " AND ".join(f'o."{name}" = c."{name}"' for name in key)
        columns = ", ".join(f'p."{name}"' for name in key)
        pairs = (
            f"SELECT p.id AS one, x.id AS other, {columns} FROM {put} p CROSS JOIN {theirs} x ON {same} "
            f"WHERE x.id NOT IN (SELECT id FROM {drop}) AND x.id NOT IN (SELECT id FROM {put}) "
            f"UNION ALL SELECT p.id, x.id, {columns} FROM {put} p CROSS JOIN {put} x ON {same} WHERE x.id > p.id"
        )

        def rank(row: str) -> str:
            found = f"SELECT CASE WHEN {mine} THEN 0 ELSE 1 END FROM {ours} o WHERE o.id = c.{row}"
            return f"COALESCE(({found}), 2)"

        self.work.run("DROP TABLE IF EXISTS main.gives_way")
        self.work.run("CREATE TABLE main.gives_way(id INTEGER PRIMARY KEY, rank INTEGER)")
        ranked = f"SELECT c.one, {rank('one')} AS first, c.other, {rank('other')} AS second FROM ({pairs}) c"
        found = self.work.run(
            "INSERT OR IGNORE INTO main.gives_way SELECT CASE WHEN ahead THEN other ELSE one END, "
            "CASE WHEN ahead THEN second ELSE first END "
            f"FROM (SELECT *, (first, one) < (second, other) AS ahead FROM ({ranked}))"
        )
        if not found:
            return 0
        words = f"another row has the same {', '.join(key)}"
        rule = policy.rule_of(table.name)
        if rule is not None and rule.yields is not None and rule.yields[0] in key:
            column, other = rule.yields
            self.work.run(
                f"INSERT OR IGNORE INTO {put} SELECT {table.list_of()} FROM {theirs} "
                "WHERE id IN (SELECT id FROM main.gives_way)"
            )
            yields = f'SELECT id FROM {put} WHERE "{other}" NOT NULL AND id IN (SELECT id FROM main.gives_way)'
            note(self.work, table, yields, f"{words}: without {column} here", "home's")
            self.work.run(f'UPDATE {put} SET "{column}" = NULL WHERE id IN ({yields})')
            self.work.run(f'DELETE FROM main.gives_way WHERE id IN (SELECT id FROM {put} WHERE "{column}" IS NULL)')
        athome = f"SELECT id FROM {ours} WHERE id IN (SELECT id FROM main.gives_way)"
        own = self.work.rows("SELECT id FROM main.gives_way WHERE rank = 0 LIMIT ?", (EXAMPLES,))
        if own:
            raise PlexDatabaseError(
                f"Home's own rows {', '.join(str(row[0]) for row in own)} of {table.name} have the {', '.join(key)} of "
                "other rows at home, although the table has a unique index on that: home's database is damaged. Home "
                "keeps it; repair it (plex_db_check with repair: true), then run the merge again."
            )
        note(self.work, table, athome, f"{words}: this one stays as it is there", "home's")
        self._put_ours(table, athome)
        self._drop(table, f"SELECT id FROM main.gives_way EXCEPT {athome}", f"{words}: this one goes")
        return found

    # -- staging -------------------------------------------------------------------------------------------------------

    def _put_ours(self, table: Table, ids: str) -> int:
        return self.work.run(
            f"INSERT OR REPLACE INTO {table.staged('put')} SELECT {table.list_of('r.')} FROM {table.at('ours')} r "
            f"WHERE r.id IN ({ids})"
        )

    def _drop(self, table: Table, ids: str, words: str = "") -> int:
        fresh = f"SELECT id FROM ({_named(ids)}) WHERE id NOT IN (SELECT id FROM {table.staged('drop')})"
        if words:
            note(self.work, table, fresh, words, "home's")
        done = self.work.run(f"INSERT OR IGNORE INTO {table.staged('drop')} {fresh}")
        if done:
            self.work.run(f"DELETE FROM {table.staged('put')} WHERE id IN (SELECT id FROM {table.staged('drop')})")
        return done

    def finished(self) -> Plan:
        """Count what is staged."""
        whole = set(self.plan.whole)
        for table in self.plan.staged:
            if table in whole:
                continue
            name = table.name if table.file == LIBRARY else f"{BLOBS_TABLES}{table.name}"
            for what, counts in (("put", self.plan.put), ("drop", self.plan.drop)):
                number = self.work.count(f"SELECT COUNT(*) FROM {table.staged(what)}")
                if number:
                    counts[name] = number
        self.plan.conflicts = self.work.count("SELECT COUNT(*) FROM main.conflicts")
        return self.plan


def _kind(table: Table) -> str:
    rule = policy.rule_of(table.name)
    return rule.kind if rule else ""


def _linked(table: Table, column: str) -> str:
    return " AND t.linked_type = 'metadata_item'" if column == "linked_id" else ""


def _alike(one: str, other: str, identity: Sequence[str]) -> str:
    """SQL: two rows have the same identity. Only its first column may choose an index of `one` (Rule.identity)."""
    first, *more = (f'{one}."{name}" COLLATE BINARY IS {other}."{name}"' for name in identity)
    return " AND ".join([first, *(f"+{test}" for test in more)])


def _bare(name: str) -> str:
    return name.partition(".")[2]


def _named(ids: str) -> str:
    """A query for ids whose one column is called `id`."""
    return f"SELECT NULL AS id WHERE 0 UNION {ids}"
