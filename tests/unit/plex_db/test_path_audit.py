"""The path audit: what the library names against what the remote holds."""

from __future__ import annotations

import stat
import time
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.errors import PlexDatabaseError
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.pair import pair
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.path_mapping import audit, remote_listing
from ansible_collections.plexburst.core.plugins.module_utils.text import canonical

from tests.unit.plex_db import building


def remote(*files: str, roots: tuple[str, ...] = ("/Media",)) -> remote_listing.Listing:
    return remote_listing.Listing(roots, {canonical(file): 1 for file in files}, frozenset(files))


TRACKS = tuple(f"/Media/Music/A/B/{number:04d}.flac" for number in range(1, 11))
FILM = "/Media/Movies/L'été (2020)/L'été (2020).mkv"


@pytest.fixture
def library(tmp_path: Path) -> Path:
    return building.make_library(tmp_path / "pair", analysed=10)


def section(result: dict[str, Any], title: str) -> dict[str, Any]:
    return next(entry for entry in result["sections"] if entry["title"] == title)


def test_a_library_that_is_up_to_date_has_nothing_to_do(library: Path) -> None:
    result = audit.audit(library, remote(*TRACKS, FILM))
    assert result["nothing_to_do"] is True
    assert result["totals"]["present"] == 11
    assert result["missing_percent"] == 0


def test_new_and_missing_files_are_found_per_section(library: Path) -> None:
    result = audit.audit(library, remote(*TRACKS[1:], FILM, "/Media/Music/A/B/new.MP3", "/Media/Movies/X/x.mkv"))
    assert section(result, "Music")["missing"] == [TRACKS[0]]
    assert section(result, "Music")["new"] == ["/Media/Music/A/B/new.MP3"]
    assert section(result, "Movies")["new"] == ["/Media/Movies/X/x.mkv"]
    assert result["nothing_to_do"] is False


@pytest.mark.parametrize(
    "file",
    [
        "/Media/Music/A/.hidden/x.flac",
        "/Media/Music/A/._x.flac",
        "/Media/Music/A/cover.jpg",
        "/Media/Music/A/@eaDir/x.flac",
        "/Media/Music/A/noextension",
        "/Media/Movies/X/sample.mkv",
        "/Media/Movies/X/x-sample.mkv",
        "/Media/Movies/X/x.srt",
        "/Media/Music2/x.flac",
        "/Media/Elsewhere/x.flac",
    ],
)
def test_what_plex_would_not_take_is_no_news(library: Path, file: str) -> None:
    assert audit.audit(library, remote(*TRACKS, FILM, file))["nothing_to_do"] is True


def test_a_name_in_the_other_unicode_form_is_present_and_told(library: Path) -> None:
    decomposed = unicodedata.normalize("NFD", FILM)
    assert decomposed != FILM
    result = audit.audit(library, remote(*TRACKS, decomposed))
    movies = section(result, "Movies")
    assert (movies["present"], movies["missing"], movies["new"]) == (1, [], [])
    assert movies["other_form"] == [FILM]


def test_what_is_in_the_trash_is_counted_apart(library: Path) -> None:
    building.write(library / pair.LIBRARY, ("UPDATE media_parts SET deleted_at = 5 WHERE id IN (1, 2)",))
    result = audit.audit(library, remote(*TRACKS[1:], FILM))
    music = section(result, "Music")
    assert music["trashed_missing"] == [TRACKS[0]]
    assert music["trashed_present"] == [TRACKS[1]]
    assert (music["missing"], music["new"]) == ([], [])
    assert result["nothing_to_do"] is False


def test_only_gone_files_in_the_trash_leave_nothing_to_do(library: Path) -> None:
    building.write(library / pair.LIBRARY, ("UPDATE metadata_items SET deleted_at = 5 WHERE id = 1",))
    assert audit.audit(library, remote(*TRACKS[1:], FILM))["nothing_to_do"] is True


def test_pending_sonic_and_analysis_are_something_to_do_unless_not_wanted(tmp_path: Path) -> None:
    library = building.make_library(tmp_path / "pair", analysed=4)
    building.write(library / pair.LIBRARY, ("UPDATE media_items SET media_analysis_version = 0 WHERE id = 5000",))
    held = remote(*TRACKS, FILM)
    result = audit.audit(library, held)
    assert (result["totals"]["sonic_pending"], result["totals"]["analysis_pending"]) == (6, 1)
    assert result["nothing_to_do"] is False
    assert audit.audit(library, held, want_sonic=False, want_analysis=False)["nothing_to_do"] is True


def test_a_track_without_sonic_data_whose_file_is_gone_is_told_apart(tmp_path: Path) -> None:
    library = building.make_library(tmp_path / "pair", analysed=4)
    totals = audit.audit(library, remote(*TRACKS[1:8], FILM))["totals"]
    # One of the analysed ones is gone too, and does not count.
    assert (totals["sonic_pending"], totals["sonic_missing"]) == (6, 2)


def test_sections_are_chosen_by_title_and_an_unknown_one_is_refused(library: Path) -> None:
    result = audit.audit(library, remote(*TRACKS), ["Music"])
    assert [entry["title"] for entry in result["sections"]] == ["Music"]
    assert result["nothing_to_do"] is True
    with pytest.raises(PlexDatabaseError, match="it has 'Music', 'Movies'"):
        audit.audit(library, remote(), ["music"])


def test_a_location_that_no_mount_covers_is_named(library: Path) -> None:
    result = audit.audit(library, remote(*TRACKS, roots=("/Media/Music",)))
    assert section(result, "Movies")["uncovered_locations"] == ["/Media/Movies"]
    assert section(result, "Music")["uncovered_locations"] == []


def test_half_a_million_files_take_seconds(tmp_path: Path) -> None:
    """Measured at about 2 s on 2 cores; the limit leaves room for a loaded machine."""
    count = 500_000
    library = building.make_library(tmp_path / "pair", tracks=0)
    held = remote(*(f"/Media/Music/Artist {n // 100}/Album {n // 10}/{n:06d} Títle.flac" for n in range(count)))
    started = time.monotonic()
    assert audit.audit(library, held)["totals"]["new"] == count
    assert time.monotonic() - started < 30


def rclone(tmp_path: Path, body: str) -> str:
    script = tmp_path / "rclone"
    script.write_text(f"#!/bin/sh\n{body}\n")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return str(script)


MOUNTS = [{"remote": "s3:media", "path": "/Media/"}]


def test_a_listing_survives_every_name_and_is_read_back(tmp_path: Path) -> None:
    media = tmp_path / "media"
    names = [
        "it's.mp3",
        'quote".mp3',
        "été.mp3",
        "sub dir/$(x).mp3",
        "back\\slash.mp3",
    ]
    for name in names:
        (media / name).parent.mkdir(parents=True, exist_ok=True)
        (media / name).write_text("12345")
    (tmp_path / "rclone.conf").write_text("")
    binary = str(building.REPO / ".venv/bin/rclone")
    mounts = [{"remote": str(media), "path": "/Media"}]
    assert remote_listing.make(binary, tmp_path / "rclone.conf", mounts, tmp_path / "l.jsonl", 60) == len(names)
    held = remote_listing.load(tmp_path / "l.jsonl")
    assert {f"/Media/{name}" for name in names} == held.exact
    assert set(held.sizes.values()) == {5}


def test_a_listing_that_failed_leaves_nothing_and_says_what_rclone_said(tmp_path: Path) -> None:
    binary = rclone(tmp_path, 'echo \'[\'; echo \'{"Path":"a","Size":1}\'; echo AccessDenied >&2; exit 3')
    with pytest.raises(PlexDatabaseError, match=r"AccessDenied.*Check the remote's name, its keys"):
        remote_listing.make(binary, tmp_path / "c", MOUNTS, tmp_path / "l.jsonl", 60)
    assert not (tmp_path / "l.jsonl").exists()


def test_a_listing_that_hangs_is_ended(tmp_path: Path) -> None:
    with pytest.raises(PlexDatabaseError, match="longer than 1 seconds"):
        remote_listing.make(rclone(tmp_path, "exec sleep 60"), tmp_path / "c", MOUNTS, tmp_path / "l.jsonl", 1)


@pytest.mark.parametrize("cut", [10, 60, -4])
def test_a_listing_that_was_cut_short_is_refused(tmp_path: Path, cut: int) -> None:
    binary = rclone(tmp_path, "echo '['; echo '{\"Path\":\"a\",\"Size\":1}'; echo ']'")
    remote_listing.make(binary, tmp_path / "c", MOUNTS, tmp_path / "l.jsonl", 60)
    assert remote_listing.load(tmp_path / "l.jsonl").exact == {"/Media/a"}
    text = (tmp_path / "l.jsonl").read_text()
    (tmp_path / "l.jsonl").write_text(text[:cut])
    with pytest.raises(PlexDatabaseError, match="List the remote again"):
        remote_listing.load(tmp_path / "l.jsonl")


def test_a_file_that_home_sees_is_neither_gone_nor_moved_nor_something_to_do(library: Path) -> None:
    building.write(library / pair.LIBRARY, ("UPDATE media_parts SET size = 7 WHERE id = 1",))
    moved = remote_listing.Listing(
        ("/Media",),
        {**dict.fromkeys((*TRACKS[1:], FILM), 1), "/Media/Music/A/C/0001.flac": 7},
        frozenset((*TRACKS[1:], FILM)),
    )
    plain = audit.audit(library, moved)
    assert [proposal["to"] for proposal in plain["proposals"]] == ["/Media/Music/A/C/0001.flac"]
    result = audit.audit(library, moved, at_home=[TRACKS[0]])
    music = section(result, "Music")
    assert (music["missing"], music["at_home"], music["moved"]) == ([TRACKS[0]], [TRACKS[0]], [])
    assert (result["proposals"], [rest["why"] for rest in result["undecided"]]) == ([], ["at_home"])
    assert "shows an old listing" in result["undecided"][0]["words"]


@pytest.mark.parametrize("kind", ["at_home", "unknown"])
def test_what_home_has_or_may_have_counts_for_its_own_limit_alone(library: Path, kind: str) -> None:
    held = remote(*TRACKS[6:], FILM)
    building.write(library / pair.LIBRARY, ("UPDATE media_items SET media_analysis_version = 0 WHERE id = 1",))
    counts = audit.summary(audit.audit(library, held, **{kind: TRACKS[:6]}))
    music = section(counts, "Music")
    assert (music["missing"], music[kind], music["missing_percent"], music["home_only_percent"]) == (6, 6, 0, 60)
    assert music["home_only_examples"] == list(TRACKS[:3])
    assert audit.too_much_missing(counts, 0) == []
    assert audit.too_much_at_home_only(counts, 50) == [
        "6 files (54.55 %) of the library",
        "6 files (60.0 %) of section 'Music'",
    ]
    assert counts["nothing_to_do"] is True
    half = audit.summary(audit.audit(library, held, **{kind: TRACKS[:3]}))
    assert audit.too_much_missing(half, 25) == [
        "3 files (27.27 %) of the library",
        "3 files (30.0 %) of section 'Music'",
    ]
    assert half["nothing_to_do"] is False


def test_a_track_without_sonic_data_that_only_home_has_is_nothing_to_do(tmp_path: Path) -> None:
    library = building.make_library(tmp_path / "other", analysed=9)
    held = remote(*TRACKS[:9], FILM)
    assert audit.audit(library, held)["nothing_to_do"] is False
    assert audit.audit(library, held, at_home=[TRACKS[9]])["nothing_to_do"] is True
