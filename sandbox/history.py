"""What the household did at home before the story begins: two people who watched, rated, collected and edited.

Watch state and ratings belong to a guid and an account, playlists and collections are metadata items (types 15 and 18),
a field that a person changed is locked in `user_fields` (docs/plex-facts.md#database). All of it is written through the
simulator's own library.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from pathlib import Path

from sandbox import media
from sandbox.plex import database
from sandbox.plex.library import SONIC_FLOATS, Library, LibraryError

OWNER = 1
GUEST = 20_514_422
"""The owner is account 1 in the database, everybody else has the plex.tv id."""

START = 1_750_000_000
AUDIO_PLAYLIST, VIDEO_PLAYLIST, COLLECTION = "Sunday morning", "Film night", "Harbour films"
_STEP = 7_411


class Clock:
    """Seconds since the epoch, a couple of hours later at every look: no two events of the history coincide."""

    def __init__(self, start: int = START) -> None:
        self._now = start

    def __call__(self) -> float:
        """The time now."""
        self._now += _STEP
        return float(self._now)


def write(library: Library, catalogue: media.Catalogue, support_dir: Path, root: str) -> None:
    """Write the history into a scanned pair; `root` is where Plex sees the bucket (/Media).

    Only items that are in both generations are touched, so that every row can be checked after the sync.
    """
    items = {
        section: [_item(library, f"{root}/{clip.key}") for clip in catalogue.at(media.Generation.BOTH, section=section)]
        for section in (media.MUSIC, media.MOVIES, media.SHOWS)
    }
    tracks, films, episodes = items[media.MUSIC], items[media.MOVIES], items[media.SHOWS]
    library.add_account(OWNER, "owner")
    library.add_account(GUEST, "guest")
    device = library.add_device("sandbox-living-room", "Living room", "Android")
    for account, watched in (
        (OWNER, [*films[:4], films[0], *episodes[:3], *tracks[:5], *tracks[:2]]),
        (GUEST, [*films[2:4], *episodes[:1]]),
    ):
        for item in watched:
            library.mark_watched(item, account, at=library.now(), device_id=device)
    for item in films[4:5]:
        library.set_offset(item, 1_200, OWNER, at=library.now())
    for account, rating, rated in (
        (OWNER, 8.0, films[1:3]),
        (OWNER, 10.0, tracks[3:6]),
        (OWNER, 6.0, episodes[1:2]),
        (GUEST, 4.0, films[:1]),
    ):
        for item in rated:
            library.rate(item, rating, account, at=library.now())
    library.add_playlist(AUDIO_PLAYLIST, tracks[2:20:3], OWNER)
    library.add_playlist(VIDEO_PLAYLIST, films[:3], OWNER)
    _collect(library, films[:3])
    for item in films[:1]:
        _edit_title(library, item)
    for item in films[1:2]:
        _choose_poster(library, item, support_dir)
    for item, seed in _analysed(library, catalogue, root):
        numbers = random.Random(seed)
        library.write_sonic(item, [numbers.uniform(-1, 1) for _ in range(SONIC_FLOATS)])


def _item(library: Library, file: str) -> int:
    row = library.library.execute(
        "SELECT m.metadata_item_id FROM media_parts p JOIN media_items m ON m.id = p.media_item_id WHERE p.file = ?",
        (file,),
    ).fetchone()
    if row is None:
        raise LibraryError(f"Expected home's scan to have found {file}, found no such part.")
    return int(row[0])


def _analysed(library: Library, catalogue: media.Catalogue, root: str) -> Iterator[tuple[int, int]]:
    for clip in catalogue.old(media.MUSIC):
        if clip.sonic:
            yield _item(library, f"{root}/{clip.key}"), clip.seed


def _collect(library: Library, films: list[int]) -> None:
    if not films:
        return
    row = library.library.execute("SELECT library_section_id FROM metadata_items WHERE id = ?", (films[0],)).fetchone()
    library.add_collection(int(row[0]), COLLECTION, films)


def _edit_title(library: Library, item: int) -> None:
    """A title that a person changed is locked: 1 is the title's number among the lockable fields."""
    with library.library as connection:
        connection.execute(
            "UPDATE metadata_items SET title = title || ' (our copy)', user_fields = 'lockedFields=1', changed_at = ? "
            "WHERE id = ?",
            (database.next_change(connection), item),
        )


def _choose_poster(library: Library, item: int, support_dir: Path) -> None:
    """A poster that a person uploaded lies in the item's bundle, found by the item's hash."""
    name = library.library.execute("SELECT hash FROM metadata_items WHERE id = ?", (item,)).fetchone()[0]
    picture = media.photo(99)
    poster = hashlib.sha1(picture, usedforsecurity=False).hexdigest()
    folder = support_dir / "Metadata" / "Movies" / name[0] / f"{name[1:]}.bundle" / "Uploads" / "posters"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / poster).write_bytes(picture)
    with library.library as connection:
        connection.execute(
            "UPDATE metadata_items SET user_thumb_url = ?, changed_at = ? WHERE id = ?",
            (f"upload://posters/{poster}", database.next_change(connection), item),
        )
