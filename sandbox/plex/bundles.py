"""The pictures of a server: what its agents download, what its analysis makes, and what people upload.

They lie in bundles beside the databases (docs/plex-facts.md#files): by the item's hash in `Metadata/<Movies|TV
Shows|…>/x/
<rest>.bundle`, by the file's in `Media/localhost/x/<rest>.bundle`. Where in a bundle a reference leads is not in the
facts. Public projects that read Plex's folder agree (abhinavp06/PLAYER and others, found by full text search):
`metadata://posters/N` is `Contents/_combined/posters/N`, `upload://posters/N` is `Uploads/posters/N`, `media://P` is
`Media/localhost/P`; ananchev/ifc-plex-stalker names `Contents/_stored/posters/N` for the older agents. Unconfirmed on a
living server of today.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from sandbox.plex import database as db

FOLDERS = {
    db.MOVIE: "Movies",
    db.SHOW: "TV Shows",
    db.SEASON: "TV Shows",
    db.EPISODE: "TV Shows",
    db.ARTIST: "Artists",
    db.ALBUM: "Albums",
    db.PLAYLIST: "Playlists",
    db.COLLECTION: "Collections",
}
_PICTURES = {
    db.MOVIE: ("posters", "art"),
    db.SHOW: ("posters", "art"),
    db.ARTIST: ("posters", "art"),
    db.ALBUM: ("posters",),
}
"""What the agents have for a new item; the other types show what hangs above them, or a frame of the film."""
_COLUMNS = {"posters": "user_thumb_url", "art": "user_art_url"}


class Bundles:
    """The folders `Metadata` and `Media` of one server. ``databases``: its folder `Plug-in Support/Databases`; a folder
    of another name is a library of its own, with its bundles inside."""

    def __init__(self, databases: Path) -> None:
        inside = databases.parts[-2:] == ("Plug-in Support", "Databases")
        self.support = databases.parents[1] if inside else databases

    def download(self, metadata_type: int, item_hash: str, agent: str) -> dict[str, str]:
        """What an agent does for an item it has matched: write its pictures. Returns the columns that name them."""
        columns = {}
        for kind in _PICTURES.get(metadata_type, ()) if agent != "com.plexapp.agents.none" else ():
            name = f"{agent}_{_digest(f'{kind}:{item_hash}')}"
            columns[_COLUMNS[kind]] = f"metadata://{kind}/{name}"
            _write(self._bundle(metadata_type, item_hash) / "Contents" / "_combined" / kind / name, picture(name))
        return columns

    def make(self, file_hash: str) -> str:
        """What analysis does for a film or an episode: a frame of it. Returns the reference."""
        inside = f"{file_hash[0]}/{file_hash[1:]}.bundle/Contents/Thumbnails/thumb1.jpg"
        _write(self.support / "Media" / "localhost" / inside, picture(file_hash))
        return f"media://{inside}"

    def path(self, metadata_type: int, item_hash: str, reference: str) -> Path | None:
        """The file that a reference of an item leads to; None for one that leads to no file, as an address does."""
        scheme, _, rest = reference.partition("://")
        if scheme == "media":
            return self.support / "Media" / "localhost" / rest
        if scheme not in ("metadata", "upload") or metadata_type not in FOLDERS:
            return None
        inside = Path("Contents") / "_combined" if scheme == "metadata" else Path("Uploads")
        return self._bundle(metadata_type, item_hash) / inside / rest

    def _bundle(self, metadata_type: int, item_hash: str) -> Path:
        return self.support / "Metadata" / FOLDERS[metadata_type] / item_hash[0] / f"{item_hash[1:]}.bundle"


def picture(seed: str) -> bytes:
    """Bytes that begin and end as a JPEG does; nothing in the sandbox looks at pictures."""
    return b"\xff\xd8\xff\xe0" + hashlib.sha512(seed.encode()).digest() * 16 + b"\xff\xd9"


def _digest(text: str) -> str:
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Server and scanner may write the same picture at the same time: each under a name of its own.
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_bytes(content)
    partial.replace(path)
