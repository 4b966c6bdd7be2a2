"""Real media, made at set-up: audio a decoder opens, films and episodes a probe accepts, photos with EXIF dates.

The catalogue has two generations: what home's Plex has seen (`old`) and what the bucket holds afterwards (`now`).
Content, names and modification times depend on the sizes alone, so that every sandbox of one size is the same.
A few clips are encoded once; each file is then one of them with tags (audio) or a title (video) of its own.
"""

from __future__ import annotations

import io
import math
import os
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from functools import cache
from pathlib import Path

import av
from mutagen.flac import FLAC
from mutagen.id3 import ID3, TALB, TDRC, TIT2, TPE1, TPE2, TRCK
from mutagen.mp4 import MP4
from PIL import Image

MUSIC, MOVIES, SHOWS, PHOTOS = "Music", "Movies", "TV Shows", "Photos"
SONIC_SHARE = 0.178
"""Share of the tracks that have Sonic data at home: 81,035 of 456,534 in the reference library
(docs/plex-facts.md#reference-library)."""

_OLD_TIME = 1_700_000_000
_NEW_TIME = 1_790_000_000
_SAMPLE_RATE = 22_050
_CLIP_SECONDS = 2.5
_ALBUM_TRACKS = 9
_ARTISTS = (
    "Amber Harbour",
    "Björn & the Tides",
    "Copper Lanterns",
    "Distant Meadow",
    "Ebony Quartet",
    "Falling Paper",
    "Granite Choir",
    "Hollow Coast",
)
_ADJECTIVES = ("Quiet", "Golden", "Broken", "Northern", "Slow", "Paper", "Silver", "Early", "Distant")
_NOUNS = ("River", "Window", "Morning", "Signal", "Garden", "Station", "Winter", "Letter", "Horizon", "Mirror", "Field")
_FILMS = (
    ("The Long Pier", 1987),
    ("Northern Signal", 1994),
    ("Winter Orchard", 2001),
    ("Paper Lighthouse", 2003),
    ("A Map of Rain", 2006),
    ("Salt and Cedar", 2009),
    ("The Ninth Platform", 2011),
    ("Glass Harbour", 2013),
    ("Under the Viaduct", 2015),
    ("Harvest Moon Hotel", 2017),
    ("Seven Quiet Days", 2019),
    ("The Cartographer's Son", 2021),
)
_SHOW_NAMES = ("Harbour Lights", "The Night Ferry", "Stone Circle", "Borderline")


class Generation(Enum):
    """In which of the two states of the bucket a file exists."""

    BOTH = "both"
    NEW = "new"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many items of each kind home knows; what is new and what is removed comes on top, in fixed numbers."""

    tracks: int = 90
    films: int = 12
    shows: int = 2
    episodes: int = 6
    photos: int = 15


@dataclass(frozen=True, slots=True)
class Clip:
    """One media file. `section` is its top folder in the bucket, `path` is relative to that folder."""

    section: str
    path: str
    title: str
    generation: Generation
    seed: int
    artist: str = ""
    album: str = ""
    number: int = 0
    year: int = 0
    sonic: bool = False

    @property
    def key(self) -> str:
        """The object's key in the bucket."""
        return f"{self.section}/{self.path}"


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All files of both generations."""

    clips: tuple[Clip, ...]

    def at(self, *generations: Generation, section: str | None = None) -> list[Clip]:
        """The files of these generations, of one section or of all."""
        return [c for c in self.clips if c.generation in generations and section in (None, c.section)]

    def old(self, section: str | None = None) -> list[Clip]:
        """What home has seen."""
        return self.at(Generation.BOTH, Generation.REMOVED, section=section)

    def now(self, section: str | None = None) -> list[Clip]:
        """What the bucket holds now."""
        return self.at(Generation.BOTH, Generation.NEW, section=section)


def catalogue(sizes: Sizes | None = None) -> Catalogue:
    """The files of a sandbox of these sizes; pure, nothing is written."""
    sizes = sizes or Sizes()
    return Catalogue((*_music(sizes.tracks), *_films(sizes.films), *_episodes(sizes), *_photos(sizes.photos)))


def make(root: Path, clips: Iterable[Clip]) -> int:
    """Write the files that are missing below `root` (the bucket's folder); return how many were written."""
    written = 0
    for clip in clips:
        target = root / clip.key
        if target.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.part")
        part.write_bytes(_content(clip))
        stamp = (_NEW_TIME if clip.generation is Generation.NEW else _OLD_TIME) + clip.seed * 60
        os.utime(part, (stamp, stamp))
        part.rename(target)
        written += 1
    _date_folders(root)
    return written


def home_only() -> tuple[Clip, ...]:
    """A film and a track, of an artist of its own, that home has and the bucket has not: on a local disk that home's
    view merges in, or not uploaded yet."""
    film = "The Attic Reel (2012)"
    return (
        Clip(MOVIES, f"{film}/{film}.mkv", "The Attic Reel", Generation.BOTH, 9_000, year=2012),
        _track("Home Taper", "Attic Tapes", 1, "Kept Here", 2012, suffix="mp3", generation=Generation.BOTH, seed=9_001),
    )


def merge_view(local: Path, bucket: Path, clips: Iterable[Clip]) -> list[str]:
    """Write the files below `local` and show them in home's view, which is the bucket's folder, as links: home's Plex
    follows them, the S3 server leaves links out. Returns their paths below the bucket."""
    clips = list(clips)
    make(local, clips)
    for clip in clips:
        link = bucket / clip.key
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(local / clip.key)
    return [clip.key for clip in clips]


def move_on(root: Path, all_clips: Catalogue) -> None:
    """Bring the bucket from the old generation to the present one: new files appear, removed ones go."""
    make(root, all_clips.at(Generation.NEW))
    for clip in all_clips.at(Generation.REMOVED):
        target = root / clip.key
        target.unlink(missing_ok=True)
        if target.parent != root and not any(target.parent.iterdir()):
            target.parent.rmdir()
    _date_folders(root)


def _date_folders(root: Path) -> None:
    """Give every folder the time of its newest content, so that a scanner that compares folder times sees changes."""
    for folder, _, _ in os.walk(root, topdown=False):
        times = [entry.stat().st_mtime for entry in os.scandir(folder)]
        if times:
            os.utime(folder, (max(times), max(times)))


def _music(tracks: int) -> Iterator[Clip]:
    sonic = round(tracks * SONIC_SHARE)
    removed = {tracks - 1, tracks - 2} if tracks > _ALBUM_TRACKS else set()
    for index in range(tracks):
        album_index, position = divmod(index, _ALBUM_TRACKS)
        artist_index, which = divmod(album_index, 2)
        lap, artist_index = divmod(artist_index, len(_ARTISTS))
        artist = _ARTISTS[artist_index] + (f" {lap + 1}" if lap else "")
        album = f"{_ADJECTIVES[album_index % len(_ADJECTIVES)]} {_NOUNS[(album_index * 4 + which) % len(_NOUNS)]}"
        title = f"{_ADJECTIVES[(index * 5 + position) % len(_ADJECTIVES)]} {_NOUNS[(index * 7) % len(_NOUNS)]}"
        yield _track(
            artist,
            album,
            position + 1,
            title,
            1990 + album_index % 30,
            suffix=("mp3", "flac", "mp3", "m4a")[album_index % 4],
            generation=Generation.REMOVED if index in removed else Generation.BOTH,
            seed=index,
            sonic=index < sonic,
        )
    new = [("The Late Arrivals", "First Light", n + 1, f"{_NOUNS[n]} Song", 2026, "mp3") for n in range(4)]
    new += [
        ("The Late Arrivals", "First Light", 5, "Don't Stop", 2026, "mp3"),
        ("The Late Arrivals", "First Light", 6, "Été – Björk ångström", 2026, "flac"),  # noqa: RUF001 - the dash is the point
        (_ARTISTS[1], "Second Tide", 1, "Low Water", 2026, "mp3"),
        # The album's folder is an old one: only a scanner that looks into known folders finds this file.
        (_ARTISTS[0], f"{_ADJECTIVES[0]} {_NOUNS[0]}", _ALBUM_TRACKS + 1, "Found Later", 1990, "mp3"),
    ]
    for offset, (artist, album, number, title, year, suffix) in enumerate(new):
        yield _track(artist, album, number, title, year, suffix=suffix, generation=Generation.NEW, seed=tracks + offset)


def _track(
    artist: str,
    album: str,
    number: int,
    title: str,
    year: int,
    *,
    suffix: str,
    generation: Generation,
    seed: int,
    sonic: bool = False,
) -> Clip:
    path = f"{artist}/{album}/{number:02d} - {title}.{suffix}"
    return Clip(MUSIC, path, title, generation, seed, artist, album, number, year, sonic)


def _films(count: int) -> Iterator[Clip]:
    known = [_FILMS[n] if n < len(_FILMS) else (f"Reel {n + 1}", 1950 + n % 70) for n in range(count)]
    for seed, (title, year) in enumerate(known):
        generation = Generation.REMOVED if seed == count - 2 else Generation.BOTH
        yield Clip(MOVIES, f"{title} ({year})/{title} ({year}).mkv", title, generation, seed, year=year)
    for offset, (title, year) in enumerate((("Tomorrow's Tram", 2025), ("Señor Wind", 2026))):
        path = f"{title} ({year})/{title} ({year}).mkv"
        yield Clip(MOVIES, path, title, Generation.NEW, count + offset, year=year)


def _episodes(sizes: Sizes) -> Iterator[Clip]:
    seed = 0
    for show_index in range(sizes.shows):
        show = _SHOW_NAMES[show_index] if show_index < len(_SHOW_NAMES) else f"Series {show_index + 1}"
        fresh = 2 if show_index == 0 else 0
        for number in range(1, sizes.episodes + fresh + 1):
            title = f"{_ADJECTIVES[(seed * 2) % len(_ADJECTIVES)]} {_NOUNS[(seed * 3) % len(_NOUNS)]}"
            generation = Generation.NEW if number > sizes.episodes else Generation.BOTH
            path = f"{show}/Season 01/{show} - S01E{number:02d} - {title}.mp4"
            yield Clip(SHOWS, path, title, generation, seed, artist=show, number=number)
            seed += 1


def _photos(count: int) -> Iterator[Clip]:
    for seed in range(count):
        generation = Generation.REMOVED if seed == count - 1 else Generation.BOTH
        folder = f"{2019 + seed // 5} Holiday"
        yield Clip(PHOTOS, f"{folder}/IMG_{seed + 1:04d}.jpg", f"IMG_{seed + 1:04d}", generation, seed)
    for seed in range(count, count + 3):
        yield Clip(PHOTOS, f"2026 Garden/IMG_{seed + 1:04d}.jpg", f"IMG_{seed + 1:04d}", Generation.NEW, seed)


def _content(clip: Clip) -> bytes:
    suffix = clip.path.rpartition(".")[2]
    if clip.section == MUSIC:
        return _tagged(_audio(suffix, clip.seed % 3), suffix, clip)
    if clip.section == PHOTOS:
        return photo(clip.seed)
    return _titled(_video(suffix, clip.seed % 2), suffix, clip.title)


def _tone(seed: int) -> bytes:
    """Signed 16 bit mono samples: two tones and a beat, so that clips differ to an ear and to an analyser."""
    low, high, beat = 220.0 * (seed + 2), 330.0 * (seed + 1), 2.0 + seed
    samples = array("h")
    for n in range(int(_SAMPLE_RATE * _CLIP_SECONDS)):
        t = n / _SAMPLE_RATE
        wave = 0.5 * math.sin(2 * math.pi * low * t) + 0.3 * math.sin(2 * math.pi * high * t)
        samples.append(int(16_000 * wave * (0.6 + 0.4 * math.sin(2 * math.pi * beat * t))))
    return samples.tobytes()


@cache
def _audio(suffix: str, seed: int) -> bytes:
    codec, container = {"mp3": ("libmp3lame", "mp3"), "flac": ("flac", "flac"), "m4a": ("aac", "ipod")}[suffix]
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container, options={"fflags": "+bitexact"}) as output:
        stream = _add_audio(output, codec)
        if suffix != "flac":
            stream.bit_rate = 64_000
        _encode_tone(output, stream, seed)
    return buffer.getvalue()


def _add_audio(output: av.container.OutputContainer, codec: str) -> av.AudioStream:
    stream = output.add_stream(codec, rate=_SAMPLE_RATE, layout="mono")
    if not isinstance(stream, av.AudioStream):
        raise TypeError(f"expected {codec} to be an audio codec, found {type(stream).__name__}")
    return stream


def _encode_tone(output: av.container.OutputContainer, stream: av.AudioStream, seed: int) -> None:
    pcm = _tone(seed)
    frame = av.AudioFrame(format="s16", layout="mono", samples=len(pcm) // 2)
    frame.sample_rate = _SAMPLE_RATE
    frame.pts = 0
    # PyAV's planes are padded; update() wants exactly the plane's size.
    frame.planes[0].update(pcm.ljust(frame.planes[0].buffer_size, b"\0"))
    resampler = av.AudioResampler(
        format=stream.codec_context.format, layout="mono", rate=_SAMPLE_RATE, frame_size=stream.codec_context.frame_size
    )
    for piece in [*resampler.resample(frame), *resampler.resample(None)]:
        output.mux(stream.encode(piece))
    output.mux(stream.encode(None))


def _tagged(audio: bytes, suffix: str, clip: Clip) -> bytes:
    buffer = io.BytesIO(audio)
    if suffix == "mp3":
        tags = ID3()
        for frame, text in (
            (TPE1, clip.artist),
            (TPE2, clip.artist),
            (TALB, clip.album),
            (TIT2, clip.title),
            (TRCK, str(clip.number)),
            (TDRC, str(clip.year)),
        ):
            tags.add(frame(encoding=3, text=text))
        tags.save(buffer)
    elif suffix == "flac":
        flac = FLAC(buffer)
        flac["artist"], flac["albumartist"], flac["album"] = clip.artist, clip.artist, clip.album
        flac["title"], flac["tracknumber"], flac["date"] = clip.title, str(clip.number), str(clip.year)
        buffer.seek(0)
        flac.save(buffer)
    else:
        mp4 = MP4(buffer)
        mp4["\xa9ART"], mp4["aART"], mp4["\xa9alb"] = clip.artist, clip.artist, clip.album
        mp4["\xa9nam"], mp4["trkn"], mp4["\xa9day"] = clip.title, [(clip.number, 0)], str(clip.year)
        buffer.seek(0)
        mp4.save(buffer)
    return buffer.getvalue()


@cache
def _video(suffix: str, seed: int) -> bytes:
    """Two seconds of a moving gradient with a tone: H.264 and AAC, 10 frames a second."""
    width, height, frames = 160, 90, 20
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=_video_format(suffix), options={"fflags": "+bitexact"}) as output:
        video = output.add_stream("libx264", rate=10, options={"preset": "ultrafast", "threads": "1"})
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        sound = _add_audio(output, "aac")
        for number in range(frames):
            frame = av.VideoFrame(width, height, "yuv420p")
            for plane_index, plane in enumerate(frame.planes):
                row = bytes((x * 2 + number * 5 + seed * 60 + plane_index * 40) % 256 for x in range(plane.line_size))
                plane.update(row * plane.height)
            frame.pts = number
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
        _encode_tone(output, sound, seed)
    return buffer.getvalue()


def _titled(video: bytes, suffix: str, title: str) -> bytes:
    """The same streams in a container that carries this title."""
    buffer = io.BytesIO()
    with (
        av.open(io.BytesIO(video)) as source,
        av.open(buffer, "w", format=_video_format(suffix), options={"fflags": "+bitexact"}) as output,
    ):
        output.metadata["title"] = title
        streams = {stream.index: output.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                output.mux(packet)
    return buffer.getvalue()


def _video_format(suffix: str) -> str:
    return {"mkv": "matroska", "mp4": "mp4"}[suffix]


def photo(seed: int) -> bytes:
    """A small JPEG with a camera and a date in its EXIF data."""
    gradient = Image.linear_gradient("L").resize((160, 120)).rotate(seed * 17)
    image = Image.merge("RGB", (gradient, gradient.transpose(Image.Transpose.FLIP_LEFT_RIGHT), gradient))
    exif = Image.Exif()
    exif[0x0132] = f"{2019 + seed // 5}:07:{seed % 28 + 1:02d} 12:00:00"
    exif[0x0110] = "Sandbox Camera"
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80, exif=exif)
    return buffer.getvalue()
