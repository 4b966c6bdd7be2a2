"""What a media file says of itself: container, codecs, duration and tags, read from its real bytes."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import mutagen
from PIL import Image, UnidentifiedImageError

AUDIO_SUFFIXES = frozenset({".mp3", ".flac", ".m4a", ".ogg", ".opus", ".wav"})
VIDEO_SUFFIXES = frozenset({".mkv", ".mp4", ".avi", ".m4v", ".mov", ".ts", ".webm"})
PHOTO_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".gif", ".webp", ".tiff"})

_EXIF_DATE = 0x0132
_EXIF_IFD = 0x8769
_EXIF_ORIGINAL_DATE = 0x9003


class ProbeError(Exception):
    """A file that no decoder takes."""


@dataclass(frozen=True, slots=True)
class Stream:
    """One stream: ``kind`` 1 video, 2 audio, 3 subtitle; bitrate in bit/s."""

    kind: int
    index: int
    codec: str
    language: str = ""
    channels: int = 0
    bitrate: int = 0


@dataclass(frozen=True, slots=True)
class Probe:
    """The technical side (duration in ms, bitrate in bit/s) and the tags of one file."""

    container: str = ""
    duration: int = 0
    bitrate: int = 0
    width: int = 0
    height: int = 0
    frames_per_second: float = 0.0
    streams: tuple[Stream, ...] = ()
    tags: dict[str, str] = field(default_factory=dict)
    taken_at: int | None = None

    def codec(self, kind: int) -> str:
        """The codec of the first stream of that kind, or an empty string."""
        return next((stream.codec for stream in self.streams if stream.kind == kind), "")

    @property
    def channels(self) -> int:
        """Audio channels of the first audio stream."""
        return next((stream.channels for stream in self.streams if stream.kind == 2), 0)


def audio(path: Path) -> Probe:
    """An audio file. Raises ProbeError."""
    try:
        found = mutagen.File(path, easy=True)
    except (mutagen.MutagenError, OSError) as error:
        raise ProbeError(f"{path.name}: {error}") from error
    if found is None:
        raise ProbeError(f"{path.name}: not an audio file that mutagen knows")
    suffix = path.suffix.lower().lstrip(".")
    codec = {"m4a": "aac", "ogg": "vorbis", "wav": "pcm"}.get(suffix, suffix)
    bitrate = int(getattr(found.info, "bitrate", 0) or 0)
    channels = int(getattr(found.info, "channels", 0) or 0)
    tags = {name: str(values[0]) for name, values in (found.tags or {}).items() if values}
    return Probe(
        container="mp4" if suffix == "m4a" else suffix,
        duration=int(found.info.length * 1000),
        bitrate=bitrate,
        streams=(Stream(2, 0, codec, channels=channels, bitrate=bitrate),),
        tags=tags,
    )


def video(path: Path) -> Probe:
    """A film or an episode. Raises ProbeError."""
    try:
        with av.open(str(path), "r") as container:
            streams, width, height, rate = [], 0, 0, 0.0
            for stream in container.streams:
                kind = {"video": 1, "audio": 2, "subtitle": 3}.get(stream.type)
                if kind is None:
                    continue
                context: Any = stream.codec_context
                if kind == 1:
                    width, height, rate = int(context.width), int(context.height), float(stream.average_rate or 0)
                streams.append(
                    Stream(
                        kind,
                        stream.index,
                        str(context.name),
                        stream.metadata.get("language", ""),
                        int(context.channels) if kind == 2 else 0,
                        int(context.bit_rate or 0) if kind != 3 else 0,
                    )
                )
            container_name = {".mkv": "mkv", ".webm": "mkv", ".ts": "mpegts"}.get(path.suffix.lower(), "mp4")
            return Probe(
                container_name,
                int((container.duration or 0) / 1000),
                int(container.bit_rate or 0),
                width,
                height,
                rate,
                tuple(streams),
                {name.lower(): value for name, value in container.metadata.items()},
            )
    except (av.FFmpegError, OSError) as error:
        raise ProbeError(f"{path.name}: {error}") from error


def photo(path: Path) -> Probe:
    """A photo. Raises ProbeError ("FreeImage_Load: failed to open file" is what the real one says)."""
    try:
        with Image.open(path) as image:
            exif = image.getexif()
            taken = exif.get_ifd(_EXIF_IFD).get(_EXIF_ORIGINAL_DATE) or exif.get(_EXIF_DATE)
            width, height = image.size
    except (UnidentifiedImageError, OSError) as error:
        raise ProbeError(f"FreeImage_Load: failed to open file {path.name}: {error}") from error
    taken_at = None
    if taken:
        try:
            taken_at = int(dt.datetime.strptime(str(taken), "%Y:%m:%d %H:%M:%S").replace(tzinfo=dt.UTC).timestamp())
        except ValueError:
            taken_at = None
    return Probe(container=path.suffix.lower().lstrip("."), width=width, height=height, taken_at=taken_at)


def read_through(path: Path) -> int:
    """Read every packet of a media file, as an analysis does; return the bytes of its packets. Raises ProbeError."""
    total = 0
    try:
        if path.suffix.lower() in PHOTO_SUFFIXES:
            with Image.open(path) as image:
                image.load()
            return path.stat().st_size
        with av.open(str(path), "r") as container:
            for packet in container.demux():
                total += packet.size
    except (av.FFmpegError, OSError) as error:
        raise ProbeError(f"{path.name}: {error}") from error
    return total
