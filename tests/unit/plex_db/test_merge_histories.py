"""Generated histories: what home and the indexer may do in any order, merged, and judged by rules written anew here."""

# ruff: noqa: S608 - statements for libraries made here
from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.merge import apply, id_gap, run
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.pair import pair, reader
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.sqlite_pages import changed_rows
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from sandbox.plex import database
from tests.unit.plex_db import building, full_schema

CASES = 210
TRACKS = 8
# Nothing here is about the disk, and many a case waits for it longer than it computes.
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
Statement = tuple[Any, ...]
_STREAM = 'INSERT INTO media_streams(stream_type_id, media_item_id, media_part_id, "index") VALUES(2, ?, ?, 1)'
_SECOND = (
    "INSERT INTO metadata_item_settings(account_id, guid, view_count) SELECT {account}, guid, 1 FROM metadata_items "
    "WHERE id = {number}"
)
# Home's own tables with a unique key. Their counters are not apart: both sides give the same ids to other rows.
KEYED = (
    "external_metadata_sources",
    "media_grabs",
    "media_provider_resources",
    "media_stream_settings",
    "metadata_agent_provider_group_items",
    "metadata_agent_providers",
    "play_queues",
    "preferences",
)
_SETTING = "INSERT INTO metadata_item_settings(account_id, guid, view_count) VALUES(?, ?, ?)"


def by_plex(_command: Sequence[str], path: Path, sql: str, _seconds: float = 0) -> str:
    """Plex's own SQLite without a process of its own, which would take most of the time."""
    connection = database.connect(path, set_up=False)
    try:
        for _ in connection.execute(sql):
            pass
    finally:
        connection.close()
    return ""


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Home, and the same as it goes out, with its ids raised."""
    home = building.make_library(tmp_path_factory.mktemp("histories") / "home", tracks=TRACKS)
    building.write(
        home / building.LIBRARY,
        (
            (
                "INSERT INTO metadata_items(id, library_section_id, metadata_type, guid, title) VALUES(901, 1, 18, "
                "'c-1', 'Best')"
            ),
        ),
        ("INSERT INTO tags(id, metadata_item_id, tag, tag_type) VALUES(50, 901, 'Best', 2), (51, NULL, 'Rock', 1)",),
        ("INSERT INTO taggings(metadata_item_id, tag_id) VALUES(1, 50), (2, 50), (1, 51), (3, 51)",),
        (
            (
                "INSERT INTO play_queue_generators(playlist_id, metadata_item_id, created_at, updated_at) VALUES(900, "
                "4, 1, 1)"
            ),
        ),
        *[(_STREAM, number, number) for number in range(1, TRACKS + 1)],
    )
    full_schema.complete(home)
    building.write(
        home / building.LIBRARY,
        *[statement for table in KEYED for value in range(3) for statement in _key(table, value)],
        *[(f"{_SECOND.format(account=0, number=1)}",)],
    )
    building.write(home / building.BLOBS, ("UPDATE blobs SET linked_guid = 'plex://track/' || linked_id",))
    for name in pair.NAMES:
        with closing(database.connect(home / name)) as connection:
            connection.execute("VACUUM")
    raised = home.with_name("raised")
    shutil.copytree(home, raised)
    id_gap.raise_pair(raised)
    return home, raised


def _columns(table: str) -> tuple[str, ...]:
    return next(columns for name, columns in database.UNIQUE if name == table)


def _key(table: str, value: int) -> list[Statement]:
    """A row with this key, under the next id, as the counters of both sides give the same; a key stands once."""
    listed = ", ".join(_columns(table))
    first, *more = (f"'{value}-{number}'" for number, _ in enumerate(_columns(table)))
    # The keys of two columns share their first half, as the items of one agent group do.
    values = ", ".join([first if not more else f"'{value % 2}'", *more])
    return [(f"INSERT INTO {table}({listed}) SELECT {values} WHERE ({values}) NOT IN (SELECT {listed} FROM {table})",)]


def key(number: int, value: int) -> list[Statement]:
    return _key(KEYED[number % len(KEYED)], value)


def forget_key(number: int, _value: int) -> list[Statement]:
    table = KEYED[number % len(KEYED)]
    return [(f"DELETE FROM {table} WHERE id = (SELECT MIN(id) FROM {table})",)]


def swap_keys(number: int, _value: int) -> list[Statement]:
    table = KEYED[number % len(KEYED)]
    return _swap(table, _columns(table), f"SELECT MIN(id) FROM {table}", f"SELECT MAX(id) FROM {table}")


def _swap(table: str, columns: Sequence[str], one: str, other: str) -> list[Statement]:
    """Each of two rows takes the key of the other."""
    listed = ", ".join(columns)
    return [
        (
            (
                f"CREATE TEMP TABLE held AS SELECT id, ({one}) + ({other}) - id AS partner, {listed} FROM {table} "
                f"WHERE id IN (({one}), ({other}))"
            ),
        ),
        ("DELETE FROM held WHERE partner IS NULL",),
        (f"UPDATE {table} SET {', '.join(f'{name} = NULL' for name in columns)} WHERE id IN (SELECT id FROM held)",),
        (
            (
                f"UPDATE {table} SET ({listed}) = (SELECT {listed} FROM held WHERE partner = {table}.id) "
                "WHERE id IN (SELECT id FROM held)"
            ),
        ),
        ("DROP TABLE held",),
    ]


# -- blobs.db, with library.db attached as `library`


def vector(side: str) -> Any:
    """A track, or the newest one, is analysed (anew): its blob is made anew, as the simulator's server does it.

    Few guids for many tracks: the same recording in two places.
    """

    def statements(number: int, value: int) -> list[Statement]:
        newest = "(SELECT id FROM library.metadata_items WHERE guid LIKE 'n-%' ORDER BY id DESC LIMIT 1)"
        track = str(number) if value < 6 else newest
        guid = f"plex://track/{value % 3 + 3}"
        return [
            (f"DELETE FROM blobs WHERE linked_type = 'metadata_item' AND linked_id = {track} AND blob_type = 7",),
            (
                (
                    f"INSERT INTO blobs(blob, linked_type, linked_id, linked_guid, blob_type) SELECT '{side} {value}', "
                    f"'metadata_item', {track}, CASE WHEN NOT EXISTS (SELECT 1 FROM blobs WHERE linked_guid = '{guid}' "
                    f"AND blob_type = 7) THEN '{guid}' END, 7 WHERE {track} NOT NULL"
                ),
            ),
        ]

    return statements


def by_guid(side: str) -> Any:
    """A blob that has nothing but its guid."""

    def statements(_number: int, value: int) -> list[Statement]:
        guid = f"plex://album/{value % 3}"
        return [
            (f"DELETE FROM blobs WHERE linked_guid = '{guid}'",),
            (
                (
                    "INSERT INTO blobs(blob, linked_type, linked_guid, blob_type) "
                    f"VALUES('{side} {value}', 'metadata_item', '{guid}', 3)"
                ),
            ),
        ]

    return statements


def swap_blobs(column: str) -> Any:
    def statements(number: int, value: int) -> list[Statement]:
        one, other = (
            f"SELECT id FROM blobs WHERE linked_id = {track} AND blob_type = 7"
            for track in (number, value % TRACKS + 1)
        )
        return _swap("blobs", (column,), one, other)

    return statements


# -- library.db


def play(number: int, value: int) -> list[Statement]:
    guid = f"(SELECT guid FROM metadata_items WHERE id = {number})"
    account = value % 3
    found = f"FROM metadata_item_settings WHERE account_id = {account} AND guid = {guid}"
    return [
        (
            (
                f"INSERT INTO metadata_item_settings(account_id, guid) SELECT {account}, {guid} WHERE {guid} IS NOT "
                f"NULL AND NOT EXISTS (SELECT 1 {found})"
            ),
        ),
        (
            (
                f"UPDATE metadata_item_settings SET view_count = {value}, updated_at = {value} WHERE id IN (SELECT id "
                f"{found})"
            ),
        ),
        (
            (
                f"INSERT INTO metadata_item_views(account_id, guid, viewed_at) SELECT {account}, {guid}, {value} WHERE "
                f"{guid} IS NOT NULL"
            ),
        ),
    ]


def add(number: int, value: int) -> list[Statement]:
    """A new track under the next id, with a file of its own; a file is found once."""
    file = f"/Media/Music/{number}-{value}.flac"
    unknown = f"WHERE NOT EXISTS (SELECT 1 FROM media_parts WHERE file = '{file}')"
    part = (
        f"FROM media_parts p WHERE file = '{file}' AND NOT EXISTS (SELECT 1 FROM media_streams WHERE "
        "media_part_id = p.id)"
    )
    columns = "library_section_id, metadata_type, guid, title"
    return [
        (f"INSERT INTO metadata_items({columns}) SELECT 1, 10, 'n-{file}', 'New {value}' {unknown}",),
        (
            (
                "INSERT INTO media_items(library_section_id, metadata_item_id) SELECT 1, (SELECT MAX(id) FROM "
                f"metadata_items) {unknown}"
            ),
        ),
        (f"INSERT INTO media_parts(media_item_id, file) SELECT (SELECT MAX(id) FROM media_items), '{file}' {unknown}",),
        (
            (
                "INSERT INTO media_streams(stream_type_id, media_item_id, media_part_id) SELECT 2, media_item_id, id "
                f"{part}"
            ),
        ),
    ]


def remove(number: int, _value: int) -> list[Statement]:
    media = f"SELECT id FROM media_items WHERE metadata_item_id = {number}"
    return [
        (f"DELETE FROM media_streams WHERE media_item_id IN ({media})",),
        (f"DELETE FROM media_parts WHERE media_item_id IN ({media})",),
        (f"DELETE FROM media_items WHERE metadata_item_id = {number}",),
        (f"DELETE FROM taggings WHERE metadata_item_id = {number}",),
        (f"DELETE FROM metadata_items WHERE id = {number}",),
    ]


def tag(number: int, value: int) -> list[Statement]:
    chosen = 50 + value % 2
    sql = (
        f"INSERT INTO taggings(metadata_item_id, tag_id) SELECT {number}, {chosen} WHERE EXISTS (SELECT 1 FROM "
        f"metadata_items WHERE id = {number})"
    )
    return [(f"{sql} AND NOT EXISTS (SELECT 1 FROM taggings WHERE metadata_item_id = {number} AND tag_id = {chosen})",)]


def make_tag(number: int, value: int) -> list[Statement]:
    name = f"Genre {value % 3}"
    found = f"(SELECT MIN(id) FROM tags WHERE tag = '{name}')"
    return [
        (f"INSERT INTO tags(tag, tag_type) SELECT '{name}', 1 WHERE {found} IS NULL",),
        (
            (
                f"INSERT INTO taggings(metadata_item_id, tag_id) SELECT {number}, {found} WHERE EXISTS (SELECT 1 FROM "
                f"metadata_items WHERE id = {number})"
                f" AND NOT EXISTS (SELECT 1 FROM taggings WHERE metadata_item_id = {number} AND tag_id = {found})"
            ),
        ),
    ]


def place(number: int, value: int) -> list[Statement]:
    """Where a photo was taken: the two tables are one side's whole."""
    guid = f"place://{value % 3}"
    return [
        (
            (
                "INSERT INTO location_places(location_id, guid) SELECT ?1, ?2 WHERE NOT EXISTS "
                "(SELECT 1 FROM location_places WHERE location_id = ?1 AND guid = ?2)"
            ),
            value % 2,
            guid,
        ),
        (
            (
                "INSERT INTO locatables(location_id, locatable_id, locatable_type) SELECT ?1, ?2, 'i' WHERE NOT EXISTS "
                "(SELECT 1 FROM locatables WHERE location_id = ?1 AND locatable_id = ?2)"
            ),
            value % 2,
            number % 3,
        ),
    ]


BOTH = {
    "key": key,
    "forget key": forget_key,
    "swap keys": swap_keys,
    "place": place,
    "second settings": lambda n, v: [(_SECOND.format(account=v % 3, number=n),)],
    "whose": lambda n, v: [("INSERT INTO metadata_item_accounts(account_id, metadata_item_id) VALUES(?, 900)", v % 3)],
}
HOME = {
    **BOTH,
    "play": play,
    "rate": lambda n, v: [(f"UPDATE metadata_item_settings SET rating = {v} WHERE guid = 'g-{n}'",)],
    "edit": lambda n, v: [
        (f"UPDATE metadata_items SET title = 'Home {v}', user_fields = 'lockedFields=1' WHERE id = {n}",)
    ],
    "remove": remove,
    "add": add,
    "same file": lambda n, v: add(100, v % 3),
    "to playlist": lambda n, v: [
        (
            (
                "INSERT INTO play_queue_generators(playlist_id, metadata_item_id, created_at, updated_at) VALUES(900, "
                "?, 1, 1)"
            ),
            n,
        )
    ],
    "from playlist": lambda n, v: [("DELETE FROM play_queue_generators WHERE metadata_item_id = ?", n)],
    "rename playlist": lambda n, v: [(f"UPDATE metadata_items SET title = 'List {v}' WHERE id = 900",)],
    "tag": tag,
    "make tag": make_tag,
    "untag": lambda n, v: [(f"DELETE FROM taggings WHERE metadata_item_id = {n} AND tag_id = {50 + v % 2}",)],
    "account": lambda n, v: [("INSERT INTO accounts(name) VALUES(?)", f"guest {v}")],
    "forget": lambda n, v: [(f"DELETE FROM metadata_item_settings WHERE guid = 'g-{n}'",)],
}
INDEXER = {
    **BOTH,
    "add": add,
    "same file": lambda n, v: add(100, v % 3),
    "sonic": lambda n, v: [("UPDATE metadata_items SET extra_data = ? WHERE id = ?", building.SONIC, n)],
    "retitle": lambda n, v: [(f"UPDATE metadata_items SET title = 'Agent {v}', summary = 'S{v}' WHERE id = {n}",)],
    "rematch": lambda n, v: [(f"UPDATE metadata_items SET guid = 'plex://{n}/{v}' WHERE id = {n}",)],
    "remove": remove,
    "streams": lambda n, v: [(f"DELETE FROM media_streams WHERE media_part_id = {n}",), (_STREAM, n, n)],
    "retag": lambda n, v: [
        (
            (
                "INSERT INTO taggings(metadata_item_id, tag_id) SELECT metadata_item_id, tag_id FROM taggings WHERE "
                f"metadata_item_id = {n} AND id < {id_gap.GAP}"
            ),
        ),
        (f"DELETE FROM taggings WHERE metadata_item_id = {n} AND id < {id_gap.GAP}",),
    ],
    "make tag": make_tag,
    "own play": play,
    "own playlist": lambda n, v: [
        (
            (
                "INSERT INTO play_queue_generators(playlist_id, metadata_item_id, created_at, updated_at) VALUES(900, "
                "?, 1, 1)"
            ),
            n,
        )
    ],
    "trash": lambda n, v: [(f"UPDATE metadata_items SET deleted_at = {v + 1} WHERE id = {n}",)],
}
BLOBS_OF_HOME = {
    "vector": vector("home"),
    "by guid": by_guid("home"),
    "swap guids": swap_blobs("linked_guid"),
}
BLOBS_OF_INDEXER = {
    "vector": vector("indexer"),
    "by guid": by_guid("indexer"),
    "swap guids": swap_blobs("linked_guid"),
    "swap tracks": swap_blobs("linked_id"),
}
Action = tuple[str, int, int]


def actions(*moves: dict[str, Any]) -> st.SearchStrategy[list[Action]]:
    """Some actions; those of each of the databases are as likely."""
    numbers = st.integers(1, TRACKS), st.integers(0, 9)
    return st.lists(st.one_of(*(st.tuples(st.sampled_from(sorted(each)), *numbers) for each in moves)), max_size=12)


def perform(directory: Path, library: dict[str, Any], blobs: dict[str, Any], chosen: Sequence[Action]) -> None:
    attach = ("ATTACH DATABASE ? AS library", str(directory / building.LIBRARY))
    for file, moves, first in ((building.LIBRARY, library, []), (building.BLOBS, blobs, [attach])):
        wanted = [statement for name, *numbers in chosen if name in moves for statement in moves[name](*numbers)]
        if wanted:
            building.write(directory / file, *wanted, first=first)


class State:
    """What the judge looks at, read with stock SQLite."""

    def __init__(self, directory: Path) -> None:
        with reader.open_closed(directory / pair.LIBRARY) as library:

            def rows(sql: str) -> list[tuple[Any, ...]]:
                return reader.rows(library, sql)

            self.items = {
                row[0]: row[1:] for row in rows("SELECT id, guid, title, extra_data, metadata_type FROM metadata_items")
            }
            self.settings = {
                row[0]: row[1:]
                for row in rows("SELECT id, account_id, view_count, rating, guid FROM metadata_item_settings")
            }
            self.views = {
                row[0]: row[1:] for row in rows("SELECT id, account_id, viewed_at, guid FROM metadata_item_views")
            }
            self.playlist = rows("SELECT id, playlist_id, metadata_item_id FROM play_queue_generators ORDER BY id")
            self.accounts = rows("SELECT id, name FROM accounts ORDER BY id")
            names = dict(rows("SELECT id, tag FROM tags"))
            self.pairs = {(item, names.get(tag)) for item, tag in rows("SELECT metadata_item_id, tag_id FROM taggings")}
            self.taggings = len(rows("SELECT id FROM taggings"))
            self.tags = rows("SELECT tag, tag_type FROM tags")
            self.files = [
                row[0]
                for row in rows(
                    "SELECT p.file FROM media_parts p JOIN media_items m ON m.id = p.media_item_id "
                    "JOIN metadata_items i ON i.id = m.metadata_item_id"
                )
            ]
            self.parts = rows("SELECT file FROM media_parts")
            self.keyed = {
                table: rows(f"SELECT id, {', '.join(_columns(table))} FROM {table} ORDER BY id") for table in KEYED
            }
            self.whose = rows("SELECT id, account_id, metadata_item_id FROM metadata_item_accounts ORDER BY id")
            self.places = [rows(f"SELECT * FROM {table} ORDER BY 1") for table in ("locatables", "location_places")]
            self.streams = rows("SELECT media_part_id FROM media_streams ORDER BY 1")

        with reader.open_closed(directory / pair.BLOBS) as blobs:
            # Told by what it belongs to: the item, or, without one, the guid.
            self.blobs = {
                (item or guid): (content, guid if item else None, number)
                for number, item, guid, content in reader.rows(
                    blobs, "SELECT id, linked_id, linked_guid, CAST(blob AS TEXT) FROM blobs"
                )
            }


def judge_blobs(base: State, ours: State, theirs: State, merged: State) -> None:
    mine = {row[0]: item for item, row in ours.items.items() if item not in base.items}
    same = {item: mine[row[0]] for item, row in theirs.items.items() if item not in base.items and row[0] in mine}
    others = {same.get(which, which): blob for which, blob in theirs.blobs.items()}
    living = {which for which in (*ours.blobs, *others) if isinstance(which, str) or which in merged.items}
    for which in living:
        known = [blobs.get(which) for blobs in (base.blobs, ours.blobs, others)]
        at_base, at_home, at_the_indexer = known
        assert which in merged.blobs, f"the blob of {which} is lost"
        content, guid, number = merged.blobs[which]
        if at_home is not None and (at_base is None or at_home[0] != at_base[0]):
            assert merged.blobs[which] == at_home, f"home's blob of {which} is lost"
        else:
            assert content in {blob[0] for blob in known if blob}, f"the blob of {which} is another's"
            wanted = at_the_indexer[1] if at_the_indexer and number == at_the_indexer[2] else guid
            assert guid in (wanted, None) or guid == (at_home or [None, None])[1], f"a guid of {which} is invented"


def judge(base: State, ours: State, theirs: State, merged: State) -> None:
    removed = base.items.keys() - ours.items.keys()
    assert not removed & merged.items.keys(), "what home removed came back"
    wanted = {item for _, _, item in ours.playlist}
    for item, row in ours.items.items():
        edited = item not in base.items or row[:2] != base.items[item][:2]
        if item in theirs.items or item not in base.items or edited or item in wanted:
            assert item in merged.items, f"item {item} of home is lost"
            if edited:
                assert merged.items[item][1] == row[1], "home's title is lost"
    for item, row in theirs.items.items():
        if item not in base.items and not any(row[0] == mine[0] for mine in ours.items.values()):
            assert merged.items.get(item) == row, f"the indexer's new item {item} is lost"
        elif item in merged.items and "musicAnalysis" in (row[2] or ""):
            assert "musicAnalysis" in (merged.items[item][2] or ""), "a Sonic mark is lost"
    guids: dict[str, set[str]] = {}
    for item, row in ours.items.items():
        if item in merged.items:
            guids.setdefault(row[0], {row[0]}).add(merged.items[item][0])
    for rows, found in ((ours.settings, merged.settings), (ours.views, merged.views)):
        assert rows.keys() == found.keys(), "rows of watch state are lost, or the indexer's own are kept"
        for number, row in rows.items():
            assert found[number][:-1] == row[:-1]
            assert found[number][-1] in guids.get(row[-1], {row[-1]})
    for item, row in ours.items.items():
        plays = {(account, count) for account, count, _, guid in ours.settings.values() if guid == row[0]}
        if item in merged.items:
            kept = {
                (account, count)
                for account, count, _, guid in merged.settings.values()
                if guid == merged.items[item][0]
            }
            assert plays <= kept, f"item {item} lost its plays"
    assert merged.playlist == ours.playlist
    assert merged.accounts == ours.accounts
    assert merged.whose == ours.whose
    assert merged.keyed == ours.keyed, "a table of home's is not home's"
    assert merged.places in ([ours.places] if ours.places != base.places else [theirs.places, ours.places])
    judge_blobs(base, ours, theirs, merged)
    living = {
        (item, name)
        for item, name in (ours.pairs | (theirs.pairs - base.pairs)) - (base.pairs - ours.pairs)
        if item in merged.items
    }
    gone_at_the_indexer = base.pairs & ours.pairs - theirs.pairs
    turned = {pair for pair in living if pair[0] in theirs.items and pair[0] not in base.items}
    assert living - gone_at_the_indexer - turned <= merged.pairs <= living | base.pairs, "members or genres differ"
    assert not (base.pairs - ours.pairs) & merged.pairs, "what home untagged came back"
    assert len(merged.pairs) == merged.taggings, "an item is tagged twice with the same"
    assert len(set(merged.tags)) == len(merged.tags), "a tag stands twice"
    assert len(merged.files) == len(set(merged.files)) == len(merged.parts), (
        "a file stands twice, or belongs to nothing"
    )


@pytest.mark.usefixtures("monkeypatched")
@settings(
    max_examples=CASES,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@example(home=[("swap keys", 1, 0), ("forget key", 2, 0), ("key", 2, 5)], indexer=[("key", 2, 5)], later=[])
@example(home=[("key", 3, 3), ("key", 3, 4)], indexer=[("key", 3, 4), ("key", 3, 3)], later=[("swap keys", 3, 0)])
@example(home=[("vector", 4, 1)], indexer=[("vector", 5, 1), ("vector", 4, 2)], later=[("vector", 6, 2)])
@example(home=[("by guid", 1, 1)], indexer=[("by guid", 1, 1), ("by guid", 1, 2)], later=[("by guid", 1, 2)])
@example(home=[("vector", 1, 2)], indexer=[("swap tracks", 1, 1), ("swap guids", 2, 2)], later=[("vector", 3, 2)])
@example(
    home=[("same file", 1, 1), ("vector", 1, 7)],
    indexer=[("same file", 1, 1), ("vector", 1, 8), ("vector", 2, 1)],
    later=[("same file", 1, 2), ("vector", 1, 9)],
)
@example(
    home=[("play", 1, 0), ("second settings", 1, 0), ("second settings", 2, 1)],
    indexer=[("own play", 1, 0), ("second settings", 1, 0), ("rematch", 1, 1), ("rematch", 2, 1)],
    later=[("play", 2, 3), ("second settings", 1, 0)],
)
@given(
    home=actions(HOME, BLOBS_OF_HOME), indexer=actions(INDEXER, BLOBS_OF_INDEXER), later=actions(HOME, BLOBS_OF_HOME)
)
def test_no_action_of_home_is_lost_whatever_both_did(
    templates: tuple[Path, Path], home: list[Action], indexer: list[Action], later: list[Action]
) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as root:
        base, ours, theirs = (Path(root) / name for name in ("base", "ours", "theirs"))
        for side, template in ((base, templates[0]), (ours, templates[0]), (theirs, templates[1])):
            shutil.copytree(template, side)
        perform(theirs, INDEXER, BLOBS_OF_INDEXER, indexer)
        perform(ours, HOME, BLOBS_OF_HOME, home)
        before = State(theirs)
        run.merge(base, ours, theirs, plex_sqlite=["plex"])
        judge(State(base), State(ours), before, State(theirs))
        # With Plex stopped, only what came since home's snapshot is merged: the end is that of one merge over all.
        now = Path(root) / "now"
        shutil.copytree(ours, now)
        changed_rows.remember(now)
        perform(ours, HOME, BLOBS_OF_HOME, later)
        run.merge(now, ours, theirs, plex_sqlite=["plex"], near=changed_rows.since(now, ours))
        judge(State(base), State(ours), before, State(theirs))
        # The merge that was cut off after its last word is run again, or all of it is.
        again = run.merge((base, now)[len(home) % 2], ours, theirs, plex_sqlite=["plex"])
        assert not again.changed, (again.put, again.drop)
        connection = database.connect(theirs / building.LIBRARY)
        for name in ("fts4_metadata_titles_icu", "fts4_tag_titles_icu"):
            connection.execute(f"INSERT INTO {name}({name}) VALUES('integrity-check')")
        connection.close()


@pytest.fixture
def monkeypatched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apply, "run_plex_sqlite", by_plex)
