"""Small trees of bundles, and archives of them, for the tests of the code that brings pictures home."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

from ansible_collections.plexburst.core.plugins.module_utils.plex_db.artwork import archive, layout

COVER = "Metadata/Albums/a/bc.bundle/Contents/_combined/posters/agent_1"
FRAME = "Media/localhost/d/ef.bundle/Contents/Thumbnails/thumb1.jpg"
UPLOAD = "Metadata/Albums/a/bc.bundle/Uploads/posters/mine"
LONG_AGO = 1_700_000_000


def lay(support: Path, files: Mapping[str, bytes | str], mtime: float | None = None) -> Path:
    """Write files (bytes) and links (text) below `support`."""
    for path, content in files.items():
        file = support / path
        file.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            file.symlink_to(content)
        else:
            file.write_bytes(content)
            if mtime is not None:
                os.utime(file, (mtime, mtime))
    return support


def packed(root: Path, files: Mapping[str, bytes | str], part_bytes: int = 1000) -> Path:
    """An archive of all these files."""
    support = lay(root / "indexer", files)
    archive.pack(support, root / "archive", archive.choose(support, {}, ()), part_bytes)
    return root / "archive"


def tree(support: Path) -> dict[str, bytes | str]:
    """What lies below `support` under real names, links as text; what a kill leaves under ours may be anything."""
    return {
        path.relative_to(support).as_posix(): str(path.readlink()) if path.is_symlink() else path.read_bytes()
        for path in support.rglob("*")
        if path.name != layout.OURS and (path.is_symlink() or path.is_file())
    }


def after_everything() -> float:
    """A moment at which all that a test has laid is long over: nothing counts as changed since."""
    return time.time() + 10_000
