"""What happens to a large pair: a household lives with it, an indexer works on it. All of it through Plex's own SQLite
as the simulator has it, so that triggers fire, rows move and pages split as they do on a server.
"""

from __future__ import annotations

import gzip
import random
from pathlib import Path
from typing import Any

from counters import MARK

from sandbox.plex import database as db
from sandbox.plex import synthetic
from sandbox.plex.library import Library

BATCH = 200
"""Tracks a transaction, about as many as a server writes between two looks of a person."""
TAGS, TAGS_OF_A_TRACK = 400, 2
GUEST = 20_514_422
ARTIST = 48
"""Tracks of an artist in a synthetic library: what is added begins with a new one."""
_NOW = 1_790_000_000


def live_in(folder: Path, seed: int = 3) -> None:
    """What years leave in a library: genres and moods of every track, and what two people played and rated."""
    numbers = random.Random(seed)
    with Library(folder) as library:
        sql: Any = library.library
        tracks = sql.execute(
            "SELECT id, guid, library_section_id FROM metadata_items WHERE metadata_type = 10"
        ).fetchall()
        library.add_account(1, "owner")
        library.add_account(GUEST, "guest")
        with db.writing(sql):
            sql.executemany(
                "INSERT INTO tags(id, tag, tag_type) VALUES(?, ?, ?)",
                [(number, f"Mood {number}", 300 + number % 2) for number in range(1, TAGS + 1)],
            )
            sql.executemany(
                'INSERT INTO taggings(metadata_item_id, tag_id, "index", created_at) VALUES(?, ?, ?, ?)',
                (
                    (item, numbers.randint(1, TAGS), place, _NOW)
                    for item, _guid, _section in tracks
                    for place in range(TAGS_OF_A_TRACK)
                ),
            )
            for item, guid, section in numbers.sample(tracks, len(tracks) // 20):
                account, at = numbers.choice((1, GUEST)), _NOW - numbers.randint(0, 10**8)
                sql.execute(
                    "INSERT INTO metadata_item_settings(account_id, guid, view_count, last_viewed_at, rating)"
                    " VALUES(?, ?, ?, ?, ?)",
                    (account, guid, numbers.randint(1, 9), at, numbers.choice((None, 8.0))),
                )
                sql.execute(
                    "INSERT INTO metadata_item_views(account_id, guid, metadata_type, library_section_id, title,"
                    " viewed_at)"
                    " VALUES(?, ?, 10, ?, ?, ?)",
                    (account, guid, section, f"Track {item}", at),
                )


def analyse(folder: Path, share: float, seed: int = 5) -> int:
    """Give so large a share of the tracks Sonic data, picked at random, as the server does; returns how many."""
    numbers = random.Random(seed)
    pair = db.Pair(folder)
    library: Any = pair.library
    guids = dict(library.execute("SELECT id, guid FROM metadata_items WHERE metadata_type = 10").fetchall())
    have = {row[0] for row in pair.blobs.execute("SELECT linked_id FROM blobs")}
    chosen = sorted(numbers.sample(sorted(guids), round(len(guids) * share)))
    for start in range(0, len(chosen), BATCH):
        batch = chosen[start : start + BATCH]
        with db.writing(library) as writer:
            for item in batch:
                moved = db.next_change(writer)
                writer.execute(
                    "UPDATE metadata_items SET extra_data = ?, changed_at = ?, updated_at = ? WHERE id = ?",
                    (MARK, moved, _NOW + start, item),
                )
        with db.writing(pair.blobs) as writer:
            for item in batch:
                text = ",".join(f"{numbers.uniform(-1, 1):.6f}" for _ in range(50))
                vector = gzip.compress(text.encode(), 6, mtime=0)
                if item in have:
                    writer.execute("UPDATE blobs SET blob = ? WHERE linked_id = ?", (vector, item))
                else:
                    writer.execute(
                        "INSERT INTO blobs(blob, linked_type, linked_id, linked_guid, created_at, blob_type) "
                        f"VALUES(?, 'metadata_item', ?, ?, {_NOW}, 7)",
                        (vector, item, guids[item]),
                    )
    pair.close()
    return len(chosen)


def after(folder: Path) -> int:
    """The number of a new artist's first track: beyond every track of the pair."""
    with Library(folder) as library:
        sql: Any = library.library
        count = int(sql.execute("SELECT count(*) FROM media_parts").fetchone()[0])
    return -(-count // ARTIST) * ARTIST


def household(folder: Path, section: int, *, actions: int, new: range, seed: int = 7) -> None:
    """What a household does in some days, or in some moments: plays and ratings, a playlist, a title, new tracks.

    :param actions: tracks played; every third of them is rated.
    :param new: numbers of the tracks that home's own scan finds.
    """
    numbers = random.Random(seed)
    with Library(folder) as library:
        sql: Any = library.library
        ids = [row[0] for row in sql.execute("SELECT id FROM metadata_items WHERE metadata_type = 10")]
        chosen = numbers.sample(ids, actions + 1)
        for place, item in enumerate(chosen[1:]):
            library.mark_watched(item, numbers.choice((1, GUEST)), at=_NOW + place)
            if place % 3 == 0:
                library.rate(item, 8.0, 1, at=_NOW + place)
        library.add_playlist(f"Evening {seed}", chosen[1:41])
        with db.writing(sql):
            sql.execute(
                "UPDATE metadata_items SET title = title || ' (our copy)', user_fields = 'lockedFields=1',"
                " changed_at = ? WHERE id = ?",
                (db.next_change(sql), chosen[0]),
            )
    if new:
        synthetic.grow(folder, section=section, tracks=new)
