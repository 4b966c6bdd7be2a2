"""kill -9, or a full disk, at every step of a merge of bundles.

    python -m tests.unit.plex_db.artwork_faults kill|full FOLDER

Steps as in tests/unit/plex_db/faults.py. After each of them every file of home is whole, old or new, and a second try
ends as one that nothing disturbed, with nothing of ours left. Prints how many steps there were, and what is wrong.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

from ansible_collections.plexburst.core.plugins.module_utils.plex_db.artwork import archive, layout, merge
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.errors import PlexDatabaseError

from tests.unit.plex_db import artwork, faults

OLD = {artwork.COVER: b"old", artwork.UPLOAD: b"mine"}
NEW = {
    artwork.COVER: b"new" * 500,
    "Metadata/Albums/a/bc.bundle/Contents/_combined/posters/agent_2": "agent_1",
    "Metadata/Artists/1/23.bundle/Contents/_combined/art/agent_3": b"art",
    artwork.FRAME: b"frame",
}


def work(home: Path, packed: Path) -> None:
    """The merge."""
    merge.merge(packed, archive.load(packed), home, artwork.after_everything())


def run(home: Path, packed: Path, at: int, mode: str) -> bool:
    """The merge with a fault at its step number `at`; whether there was such a step."""
    if mode == "full":
        steps = faults.Steps(at, faults.disk_full, faults.FREEING)
        try:
            with steps:
                work(home, packed)
        except (PlexDatabaseError, OSError):
            return True
        return False
    pid = os.fork()
    if pid == 0:
        ended = 3
        try:
            with faults.Steps(at, faults.killed):
                work(home, packed)
            ended = 0
        finally:
            faults.leave(ended)
    _, status = os.waitpid(pid, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise RuntimeError("The merge failed without a fault; see above.")
    return os.WIFSIGNALED(status)


def main(mode: str, folder: str) -> None:
    """All steps."""
    root = Path(folder)
    packed = artwork.packed(root, NEW)
    problems, number = [], 0
    while True:
        number += 1
        home = artwork.lay(root / str(number), OLD)
        if not run(home, packed, number, mode):
            break
        if mode == "full" and list(home.rglob(layout.OURS)):
            problems.append(f"step {number}: something of ours is left")
        problems += [
            f"step {number}: {path} is half written"
            for path, content in artwork.tree(home).items()
            if content not in (OLD.get(path), NEW.get(path))
        ]
        work(home, packed)
        if artwork.tree(home) != {**OLD, **NEW} or list(home.rglob(layout.OURS)):
            problems.append(f"step {number}: a second try left {sorted(artwork.tree(home))}")
        shutil.rmtree(home)
    print(json.dumps({"steps": number - 1, "problems": problems}))


if __name__ == "__main__":
    main(*sys.argv[1:3])
