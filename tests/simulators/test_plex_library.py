"""The scanner's rules: what becomes an item, what becomes trash, and what a sick mount does to a library."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from sandbox import media
from sandbox.faults import Faults
from sandbox.plex import database as db
from sandbox.plex.library import SONIC_FLOATS, Library, LibraryError
from sandbox.plex.volumes import Volume, Volumes

SECTIONS = (
    ("Music", "artist", "tv.plex.agents.music", "Plex Music"),
    ("Movies", "movie", "tv.plex.agents.movie", "Plex Movie"),
    ("TV Shows", "show", "tv.plex.agents.series", "Plex TV Series"),
    ("Photos", "photo", "tv.plex.agents.none", "Plex Photo Scanner"),
)
CATALOGUE = media.catalogue(media.Sizes(tracks=20, films=3, shows=1, episodes=2, photos=3))


@pytest.fixture(scope="session")
def old_media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What home has seen: made once."""
    root = tmp_path_factory.mktemp("plex-media")
    media.make(root, CATALOGUE.old())
    return root


@pytest.fixture
def bucket(tmp_path: Path, old_media: Path) -> Path:
    return Path(shutil.copytree(old_media, tmp_path / "media"))


def open_library(tmp_path: Path, bucket: Path, **options: Any) -> Library:
    return Library(tmp_path / "db", Volumes([Volume(bucket, "/Media")], **options))


def scanned(tmp_path: Path, bucket: Path, *names: str, **options: Any) -> Library:
    """A library with these sections, scanned."""
    library = open_library(tmp_path, bucket, **options)
    for name, kind, agent, scanner in SECTIONS:
        if not names or name in names:
            library.scan(library.add_section(name, kind, agent, scanner, [f"/Media/{name}"]))
    return library


def counts(library: Library, section: int = 1) -> dict[int, int]:
    """Living items by type."""
    rows = library.library.execute(
        "SELECT metadata_type, count(*) FROM metadata_items WHERE library_section_id=? AND +deleted_at IS NULL"
        " GROUP BY 1",
        (section,),
    )
    return {int(row[0]): int(row[1]) for row in rows}


def trash(library: Library) -> int:
    """Trashed parts."""
    return int(library.library.execute("SELECT count(*) FROM media_parts WHERE deleted_at IS NOT NULL").fetchone()[0])


def test_files_of_all_four_kinds_become_items_with_titles_from_tags_and_names(tmp_path: Path, bucket: Path) -> None:
    with scanned(tmp_path, bucket) as library:
        assert counts(library, 1) == {db.ARTIST: 2, db.ALBUM: 3, db.TRACK: 20}
        assert counts(library, 2) == {db.MOVIE: 3}
        assert counts(library, 3) == {db.SHOW: 1, db.SEASON: 1, db.EPISODE: 2}
        assert counts(library, 4) == {db.PHOTO_ALBUM: 1, db.PHOTO: 3}
        for clip in CATALOGUE.old():
            assert library.find(clip.title, section_id=1 + [s[0] for s in SECTIONS].index(clip.section))
        sql = library.library
        film = sql.execute(
            "SELECT title, year, guid FROM metadata_items WHERE metadata_type=1 ORDER BY year"
        ).fetchone()
        assert film[:2] == ("The Long Pier", 1987)
        assert film[2].startswith("plex://movie/")
        assert len(film[2]) == len("plex://movie/") + 24
        video = sql.execute("SELECT width, video_codec, audio_codec FROM media_items WHERE type_id=1").fetchone()
        assert video == (160, "h264", "aac")
        assert sql.execute("SELECT count(*) FROM media_streams").fetchone()[0] == 20 + 2 * 3 + 2 * 2
        assert sql.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_a_second_scan_finds_nothing_to_do(tmp_path: Path, bucket: Path) -> None:
    with scanned(tmp_path, bucket, "Music") as library:
        again = library.scan(1)
        assert (again.added, again.updated, again.trashed, again.restored) == (0, 0, 0, 0)
        assert again.folders_skipped == again.folders


def test_new_files_join_the_artist_and_album_rows_that_exist(tmp_path: Path, bucket: Path) -> None:
    with scanned(tmp_path, bucket, "Music") as library:
        before = dict(library.library.execute("SELECT guid, id FROM metadata_items").fetchall())
        media.move_on(bucket, CATALOGUE)
        found = library.scan(1)
        new = CATALOGUE.at(media.Generation.NEW, section="Music")
        assert (found.added, found.trashed) == (len(new), 2)
        late = library.find("Found Later")
        album = library.library.execute("SELECT parent_id FROM metadata_items WHERE id=?", (late,)).fetchone()[0]
        assert album in before.values()
        assert library.find("Don't Stop")
        assert library.find("Été – Björk ångström")  # noqa: RUF001 - the name in the bucket
        after = dict(library.library.execute("SELECT guid, id FROM metadata_items").fetchall())
        assert {guid: after[guid] for guid in before} == before


def test_constant_folder_dates_hide_a_new_file_in_a_known_folder_until_forced(tmp_path: Path, bucket: Path) -> None:
    """An rclone mount of S3 shows one date for every folder: force=0 misses what changed inside a known one."""
    with scanned(tmp_path, bucket, "Music", folder_mtimes="constant") as library:
        media.move_on(bucket, CATALOGUE)
        plain = library.scan(1)
        assert plain.added == len(CATALOGUE.at(media.Generation.NEW, section="Music")) - 1
        with pytest.raises(LibraryError):
            library.find("Found Later")
        assert library.scan(1, force=True).added == 1
        assert library.find("Found Later")


def test_a_named_folder_is_looked_into_whatever_its_date(tmp_path: Path, bucket: Path) -> None:
    with scanned(tmp_path, bucket, "Music", folder_mtimes="constant") as library:
        late = next(c for c in CATALOGUE.at(media.Generation.NEW) if c.title == "Found Later")
        media.make(bucket, [late])
        folder = f"/Media/{late.key.rpartition('/')[0]}"
        found = library.scan(1, path=folder)
        assert (found.added, found.folders) == (1, 1)
        assert library.scan(1, path=folder).added == 0


def test_a_vanished_file_goes_to_the_trash_and_comes_back_under_its_old_ids(tmp_path: Path, bucket: Path) -> None:
    with scanned(tmp_path, bucket, "Movies") as library:
        film = library.find("The Long Pier")
        folder = bucket / "Movies" / "The Long Pier (1987)"
        folder.rename(bucket / "aside")
        assert library.scan(1).trashed == 1
        assert counts(library) == {db.MOVIE: 2}
        assert trash(library) == 1
        (bucket / "aside").rename(folder)
        assert library.scan(1).restored == 1
        assert library.find("The Long Pier") == film
        assert trash(library) == 0


def test_an_album_is_trashed_with_its_last_track_only(tmp_path: Path, bucket: Path) -> None:
    with scanned(tmp_path, bucket, "Music") as library:
        media.move_on(bucket, CATALOGUE)  # removes both tracks of the last album of twenty
        library.scan(1)
        assert counts(library) == {db.ARTIST: 3, db.ALBUM: 4, db.TRACK: 26}


def test_emptying_the_trash_is_for_ever_but_keeps_what_people_did(tmp_path: Path, bucket: Path) -> None:
    with scanned(tmp_path, bucket, "Movies") as library:
        film = library.find("The Long Pier")
        library.mark_watched(film, at=1_700_000_000)
        library.rate(film, 9)
        shutil.rmtree(bucket / "Movies" / "The Long Pier (1987)")
        found = library.scan(1, empty_trash=True)
        assert (found.trashed, found.removed) == (1, 1)
        assert library.library.execute("SELECT count(*) FROM metadata_items WHERE id=?", (film,)).fetchone() == (0,)
        assert library.library.execute(
            "SELECT view_count, rating, last_viewed_at FROM metadata_item_settings"
        ).fetchall() == [(1, 9.0, 1_700_000_000)]
        assert library.library.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.mark.parametrize("empty_trash", [False, True])
def test_a_dead_mount_looks_like_deleted_files(tmp_path: Path, bucket: Path, empty_trash: bool) -> None:
    """221 of 224 films: the cache lists the names, nothing can be read. With autoEmptyTrash it is irreversible."""
    faults = Faults(tmp_path / "faults.json")
    with scanned(tmp_path, bucket, faults=faults) as library:
        films = library.library.execute("SELECT id FROM metadata_items WHERE metadata_type=1 ORDER BY id").fetchall()
        faults.replace({"mount_dead": ["/Media/Movies"]})
        assert library.volumes.listing("/Media/Movies").folders
        assert not library.volumes.exists("/Media/Movies/The Long Pier (1987)/The Long Pier (1987).mkv")
        found = library.scan(2, empty_trash=empty_trash)
        assert (found.added, found.trashed, found.missing) == (0, 3, 3)
        assert counts(library, 2) == {}
        assert library.scan(1).trashed == 0
        faults.replace({})
        again = library.scan(2)
        assert (again.restored, again.added) == ((0, 3) if empty_trash else (3, 0))
        after = library.library.execute("SELECT id FROM metadata_items WHERE metadata_type=1 ORDER BY id").fetchall()
        assert (after == films) is not empty_trash


def test_a_location_that_cannot_be_listed_loses_nothing(tmp_path: Path, bucket: Path) -> None:
    with scanned(tmp_path, bucket, "Movies") as library:
        (bucket / "Movies").rename(bucket / "away")
        found = library.scan(1, empty_trash=True)
        assert (found.trashed, found.folders) == (0, 0)
        assert counts(library) == {db.MOVIE: 3}
        assert library.library.execute("SELECT available FROM section_locations").fetchall() == [("f",)]


def test_an_empty_location_loses_everything(tmp_path: Path, bucket: Path) -> None:
    """The bare mountpoint: it can be listed and there is nothing in it."""
    with scanned(tmp_path, bucket, "Movies") as library:
        (bucket / "Movies").rename(bucket / "away")
        (bucket / "Movies").mkdir()
        assert library.scan(1).trashed == 3


def test_of_two_locations_the_missing_one_is_left_alone(tmp_path: Path, bucket: Path) -> None:
    with open_library(tmp_path, bucket) as library:
        section = library.add_section("Photos", "photo", "a", "s", ["/Media/Photos", "/Photo"])
        found = library.scan(section)
        assert (found.added, found.trashed) == (3, 0)
        assert library.library.execute("SELECT available FROM section_locations ORDER BY id").fetchall() == [
            ("t",),
            ("f",),
        ]


def test_a_broken_file_is_added_without_media_details(tmp_path: Path, bucket: Path) -> None:
    folder = bucket / "Movies" / "Broken Reel (1999)"
    folder.mkdir()
    (folder / "Broken Reel (1999).mkv").write_bytes(b"not a film")
    with scanned(tmp_path, bucket, "Movies") as library:
        film = library.find("Broken Reel")
        row = library.library.execute(
            "SELECT duration, width FROM media_items WHERE metadata_item_id=?", (film,)
        ).fetchone()
        assert row == (None, None)
        assert library.analyse([film]) == (0, 1)


def test_a_replaced_file_keeps_its_ids(tmp_path: Path, bucket: Path) -> None:
    with scanned(tmp_path, bucket, "Music") as library:
        part, file = library.library.execute("SELECT id, file FROM media_parts ORDER BY id LIMIT 1").fetchone()
        host = library.volumes.host_path(file)
        host.write_bytes(host.read_bytes() + b"\0" * 128)
        os.utime(host.parent)
        assert library.scan(1).updated == 1
        size = library.library.execute("SELECT size FROM media_parts WHERE id=?", (part,)).fetchone()[0]
        assert size == host.stat().st_size


def test_the_same_file_has_the_same_guid_on_another_server(tmp_path: Path, bucket: Path) -> None:
    guids = []
    for name in ("home", "indexer"):
        with scanned(tmp_path / name, bucket) as library:
            guids.append({row[0] for row in library.library.execute("SELECT guid FROM metadata_items")})
    assert guids[0] == guids[1]


def test_a_scan_that_is_stopped_trashes_nothing(tmp_path: Path, bucket: Path) -> None:
    with scanned(tmp_path, bucket, "Movies") as library:
        shutil.rmtree(bucket / "Movies" / "The Long Pier (1987)")
        found = library.scan(1, empty_trash=True, should_stop=lambda: True)
        assert found.cancelled
        assert (found.trashed, found.removed) == (0, 0)


def test_sonic_data_is_a_mark_and_a_vector_and_climbs_to_album_and_artist(tmp_path: Path, bucket: Path) -> None:
    with scanned(tmp_path, bucket, "Music") as library:
        sql = library.library
        tracks = [track for track, _file in library.sonic_pending([1], 0, 100)]
        assert len(tracks) == 20
        with db.writing(sql):
            sql.execute(
                "UPDATE metadata_items SET extra_data=? WHERE id=?",
                ('{"pr:hidden":"1","url":"pr%3Ahidden=1"}', tracks[0]),
            )
        changed = sql.execute("SELECT max(changed_at) FROM metadata_items").fetchone()[0]
        library.write_sonic(tracks[0], [0.5] * SONIC_FLOATS)
        extra, change = sql.execute(
            "SELECT extra_data, changed_at FROM metadata_items WHERE id=?", (tracks[0],)
        ).fetchone()
        assert json.loads(extra) == {
            "pr:hidden": "1",
            "ms:musicAnalysisVersion": "1",
            "url": "pr%3Ahidden=1&ms%3AmusicAnalysisVersion=1",
        }
        assert change > changed
        blob = library.pair.blobs.execute("SELECT blob, linked_type, linked_id, blob_type FROM blobs").fetchone()
        assert blob[1:] == ("metadata_item", tracks[0], 7)
        assert gzip.decompress(blob[0]).decode("ascii").split(",") == ["0.500000"] * SONIC_FLOATS
        marked = (
            "SELECT count(*) FROM metadata_items WHERE metadata_type=? AND extra_data LIKE '%musicAnalysisVersion%'"
        )
        assert sql.execute(marked, (db.ALBUM,)).fetchone() == (0,)
        for track in tracks[1:]:
            library.write_sonic(track, [0.1] * SONIC_FLOATS)
        assert [sql.execute(marked, (kind,)).fetchone()[0] for kind in (db.ARTIST, db.ALBUM, db.TRACK)] == [2, 3, 20]
        plain = sql.execute("SELECT extra_data FROM metadata_items WHERE id=?", (tracks[1],)).fetchone()[0]
        assert plain == '{"ms:musicAnalysisVersion":"1","url":"ms%3AmusicAnalysisVersion=1"}'
        assert library.sonic_pending([1], 0, 100) == []


def test_two_tracks_of_one_guid_both_get_a_vector(tmp_path: Path, bucket: Path) -> None:
    with scanned(tmp_path, bucket, "Music") as library:
        one, other, *_ = [track for track, _file in library.sonic_pending([1], 0, 100)]
        with db.writing(library.library) as sql:
            sql.execute("UPDATE metadata_items SET guid='plex://track/a' WHERE id IN (?, ?)", (one, other))
        for track in (one, other, other):
            library.write_sonic(track, [0.5] * SONIC_FLOATS)
        found = library.pair.blobs.execute("SELECT linked_id, linked_guid FROM blobs ORDER BY linked_id").fetchall()
        assert found == [(one, "plex://track/a"), (other, None)]


def test_a_section_whose_switch_is_off_has_no_sonic_queue(tmp_path: Path, bucket: Path) -> None:
    with scanned(tmp_path, bucket, "Music") as library:
        assert library.sonic_sections() == [1]
        library.set_sonic(1, False)
        assert library.sonic_sections() == []
        library.set_sonic(1, True)
        assert library.sonic_sections() == [1]


def test_playlists_collections_history_and_accounts_are_rows_of_the_real_tables(tmp_path: Path, bucket: Path) -> None:
    with scanned(tmp_path, bucket) as library:
        library.add_account(1, "owner")
        library.add_account(4711, "guest")
        episode = library.library.execute("SELECT id FROM metadata_items WHERE metadata_type=4 ORDER BY id").fetchone()[
            0
        ]
        library.mark_watched(episode, 4711, at=1_700_000_000, count=2)
        library.set_offset(episode, 1200, 1)
        history = library.library.execute(
            "SELECT account_id, metadata_type, grandparent_title, viewed_at FROM metadata_item_views"
        ).fetchall()
        assert history == [(4711, 4, "Harbour Lights", 1_700_000_000)]
        tracks = [track for track, _file in library.sonic_pending([1], 0, 3)]
        playlist = library.add_playlist("Evening", tracks[::-1])
        assert library.playlist_items(playlist) == tracks[::-1]
        collection = library.add_collection(2, "Piers", [library.find("The Long Pier")])
        tag = library.library.execute(
            "SELECT tag, tag_type FROM tags WHERE metadata_item_id=?", (collection,)
        ).fetchone()
        assert tag == ("Piers", 2)
        with pytest.raises(LibraryError):
            library.rate(10_000_000, 5)


# -- pictures


def pictures(library: Library) -> list[tuple[int, Path | None]]:
    """The file of every reference, by the type of its item."""
    rows = library.library.execute(
        "SELECT metadata_type, hash, url FROM (SELECT metadata_type, hash, user_thumb_url AS url FROM metadata_items"
        " UNION ALL SELECT metadata_type, hash, user_art_url FROM metadata_items) WHERE url <> ''"
    ).fetchall()
    return [(int(row[0]), library.bundles.path(int(row[0]), row[1], row[2])) for row in rows]


def test_a_scan_downloads_pictures_of_new_items_into_their_bundles(tmp_path: Path, bucket: Path) -> None:
    with scanned(tmp_path, bucket) as library:
        found = pictures(library)
    assert {kind for kind, _ in found} == {1, 2, 8, 9}
    for _, path in found:
        assert path is not None
        assert path.read_bytes()[:2] == b"\xff\xd8"


def test_an_analysis_writes_the_frame_that_it_names(tmp_path: Path, bucket: Path) -> None:
    with scanned(tmp_path, bucket, media.SHOWS) as library:
        assert not (tmp_path / "db" / "Media").exists()
        library.analyse(library.item_ids(1, [4]))
        frames = [path for kind, path in pictures(library) if kind == 4]
    assert frames
    assert all(path is not None and path.is_file() and "Media/localhost" in str(path) for path in frames)


def test_a_refresh_brings_back_a_picture_that_is_gone(tmp_path: Path, bucket: Path) -> None:
    with scanned(tmp_path, bucket, "Movies") as library:
        (path, *_) = [path for _, path in pictures(library)]
        assert path is not None
        path.unlink()
        library.refresh_items(library.item_ids(1))
        assert path.is_file()
