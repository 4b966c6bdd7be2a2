"""The media are real: decoders, probes and tag readers accept every file; the two generations differ as they should."""

from __future__ import annotations

import hashlib
from pathlib import Path

import av
import mutagen
import pytest
from PIL import Image

from sandbox import media
from sandbox.media import MOVIES, MUSIC, PHOTOS, SHOWS, Generation, Sizes

SMALL = Sizes(tracks=18, films=4, shows=1, episodes=2, photos=5)


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, media.Catalogue]:
    root = tmp_path_factory.mktemp("bucket")
    catalogue = media.catalogue(SMALL)
    media.make(root, catalogue.old())
    media.move_on(root, catalogue)
    return root, catalogue


def files(root: Path) -> dict[str, tuple[str, float]]:
    return {
        path.relative_to(root).as_posix(): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime)
        for path in root.rglob("*")
        if path.is_file()
    }


def test_every_track_decodes_to_seconds_of_sound_and_carries_its_tags(bucket: tuple[Path, media.Catalogue]) -> None:
    root, catalogue = bucket
    for clip in catalogue.now(MUSIC):
        with av.open(str(root / clip.key)) as container:
            frames = list(container.decode(audio=0))
        assert 2.0 < sum(frame.samples for frame in frames) / frames[0].sample_rate < 4.0, clip.key
        tags = mutagen.File(root / clip.key, easy=True)
        assert (tags["artist"], tags["album"], tags["title"]) == ([clip.artist], [clip.album], [clip.title])
        assert int(tags["tracknumber"][0].partition("/")[0]) == clip.number
        assert tags["date"] == [str(clip.year)]


def test_films_and_episodes_have_a_picture_a_sound_and_a_title(bucket: tuple[Path, media.Catalogue]) -> None:
    root, catalogue = bucket
    for clip in [*catalogue.now(MOVIES), *catalogue.now(SHOWS)]:
        with av.open(str(root / clip.key)) as container:
            assert {stream.type for stream in container.streams} == {"video", "audio"}
            assert 1.5 < container.duration / av.time_base < 4.0
            assert container.metadata["title"] == clip.title
            assert len(list(container.decode(video=0))) == 20


def test_photos_open_and_know_their_date(bucket: tuple[Path, media.Catalogue]) -> None:
    root, catalogue = bucket
    for clip in catalogue.now(PHOTOS):
        with Image.open(root / clip.key) as image:
            image.load()
            assert image.getexif()[0x0132].startswith("20")


def test_two_sandboxes_of_one_size_hold_the_same_bytes_and_times(
    bucket: tuple[Path, media.Catalogue], tmp_path: Path
) -> None:
    root, catalogue = bucket
    media._audio.cache_clear()
    media._video.cache_clear()
    media.make(tmp_path, catalogue.now())
    assert files(tmp_path) == files(root)


def test_the_bucket_holds_exactly_the_present_generation(bucket: tuple[Path, media.Catalogue]) -> None:
    root, catalogue = bucket
    assert set(files(root)) == {clip.key for clip in catalogue.now()}
    assert not any((root / clip.key).exists() for clip in catalogue.at(Generation.REMOVED))


def test_the_default_sizes_and_what_is_new_and_removed() -> None:
    catalogue = media.catalogue()
    counts = {
        section: tuple(len(catalogue.at(generation, section=section)) for generation in Generation)
        for section in (MUSIC, MOVIES, SHOWS, PHOTOS)
    }
    assert counts == {MUSIC: (88, 8, 2), MOVIES: (11, 2, 1), SHOWS: (12, 2, 0), PHOTOS: (14, 3, 1)}
    assert sum(clip.sonic for clip in catalogue.old(MUSIC)) == 16


def test_one_new_track_lies_in_an_old_albums_folder_and_two_have_odd_names() -> None:
    catalogue = media.catalogue()
    folders = {str(Path(clip.path).parent) for clip in catalogue.at(Generation.BOTH, section=MUSIC)}
    new = catalogue.at(Generation.NEW, section=MUSIC)
    assert [clip.title for clip in new if str(Path(clip.path).parent) in folders] == ["Found Later"]
    names = [Path(clip.path).name for clip in new]
    assert any(name.endswith("Don't Stop.mp3") for name in names)
    assert any(name.endswith("Été – Björk ångström.flac") for name in names)  # noqa: RUF001


@pytest.mark.parametrize("tracks", [1, 9, 90, 1000])
def test_no_two_files_share_a_name_at_any_size(tracks: int) -> None:
    catalogue = media.catalogue(Sizes(tracks=tracks, films=20, shows=6, episodes=3, photos=40))
    keys = [clip.key.casefold() for clip in catalogue.clips]
    assert len(keys) == len(set(keys))
