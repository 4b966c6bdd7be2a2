"""A large library against a listing of 500,000 objects, some of them moved, some gone, some new."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from ansible_collections.plexburst.core.plugins.module_utils.plex_db.pair.pair import LIBRARY
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.pair.reader import open_closed, rows

from steps.process import Measured, in_a_process

OBJECTS = 500_000
ROOT = "/Media"
FOLDERS, FILES, GONE = 40, 200, 500
"""Folders of an artist renamed, single files renamed, files gone."""


def list_remote(pair: Path, objects: int, output: Path, seed: int = 9) -> int:
    """Write what `rclone lsjson` prints for a remote with about so many objects; how many files were moved.

    The library's own files, most of them where they were, and covers, notes and new tracks up to that number.
    """
    numbers = random.Random(seed)
    with open_closed(pair / LIBRARY) as library:
        files = dict(rows(library, "SELECT file, size FROM media_parts WHERE file <> ''"))
    tracks = sorted(files)
    artists = sorted({"/".join(track.split("/")[:4]) for track in tracks})
    renamed = set(numbers.sample(artists, min(FOLDERS, len(artists) // 10)))
    single = set(numbers.sample(tracks, min(FILES, len(tracks) // 20)))
    gone = set(numbers.sample(tracks, min(GONE, len(tracks) // 20))) - single
    moved = count = 0
    with output.open("w", encoding="utf-8") as stream:
        stream.write("[\n")
        for number in range(max(objects, len(tracks))):
            if number < len(tracks):
                path, size = tracks[number], files[tracks[number]]
                folder = "/".join(path.split("/")[:4])
                if path in gone:
                    continue
                if folder in renamed:
                    path = f"{folder} (Remastered){path[len(folder) :]}"
                    moved += 1
                elif path in single:
                    path = f"{path.rpartition('/')[0]}/bonus/{path.rpartition('/')[2]}"
                    moved += 1
            else:
                near = tracks[numbers.randrange(len(tracks))].rpartition("/")[0]
                path, size = (
                    f"{near}/{numbers.choice((f'cover-{number}.jpg', f'{number}.nfo', f'9{number}.mp3'))}",
                    number,
                )
            name = path.rpartition("/")[2]
            entry = {"Path": path[len(ROOT) + 1 :], "Name": name, "Size": size, "ModTime": "", "IsDir": False}
            stream.write((",\n" if count else "") + json.dumps(entry, separators=(",", ":"), ensure_ascii=False))
            count += 1
        stream.write("\n]\n")
    return moved


def measure(pair: Path, root: Path, objects: int) -> dict[str, Any]:
    """List (from a file in the place of rclone), write down, read, compare and propose, in a process of its own.

    :returns: `objects`, `missing`, `moved` and how many of those were found, `proposals`, and the process.
    """
    root.mkdir()
    output = root / "lsjson"
    moved = list_remote(pair, objects, output)
    rclone = root / "rclone"
    rclone.write_text(f"#!/bin/sh\nexec cat '{output}'\n", encoding="utf-8")
    rclone.chmod(0o755)
    code = f"""
made = Path({str(root / "listing")!r})
remote_listing.make({str(rclone)!r}, Path("rclone.conf"), [{{"remote": "media:", "path": {ROOT!r}}}], made, 3600)
result = audit.audit(Path({str(pair)!r}), remote_listing.load(made))
audit.write(result, Path({str(root / "audit.json")!r}))
"""
    process: Measured = in_a_process(code, "plex_db.path_mapping.remote_listing", "plex_db.path_mapping.audit")
    result = json.loads((root / "audit.json").read_text(encoding="utf-8"))
    found = result["totals"]["moved"]
    if found != moved:
        raise SystemExit(f"Expected {moved} moved files to be found, found {found}.")
    return {
        "objects": json.loads((root / "listing").read_text(encoding="utf-8").splitlines()[-1])["files"],
        "missing": result["totals"]["missing"],
        "moved": moved,
        "proposals": len(result["proposals"]),
        "process": process,
    }
