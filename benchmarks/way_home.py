"""What travels home when 1 % and when 80 % of the tracks changed: the difference, against tar.gz of everything.

    python benchmarks/way_home.py [--items 490000] [--keep DIR]

A library of 490,000 items and about 2 GB is made in a temporary folder (some minutes), or in DIR, which is kept and
used again. Then so many tracks, picked at random, get Sonic data through the simulator's own triggers; the pair is
copied by a snapshot, the difference is made and applied, and the prior way's archive is made of the same pair.

Honest about the data: it is synthetic. Titles and paths repeat more than real ones, the filling of rows is random
hexadecimal text (which gzip halves), and each Sonic vector is gzip of 50 random numbers, as incompressible as a real
one. Tracks picked one by one, not album by album, are the worst case for pages. In (b) most of what travels is vectors,
which no method makes smaller.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(1, str(Path(__file__).resolve().parents[1] / "collections"))
sys.path.insert(2, str(Path(__file__).resolve().parent))

import counters
from ansible_collections.plexburst.core.plugins.module_utils.plex_db import patch, snapshot
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.pair import MANIFEST, NAMES

from sandbox.plex import database as db

ITEMS = 490_000
TRACKS_PER_ITEM = counters.TRACKS / ITEMS
SHARES = {"1pct": 0.01, "80pct": 0.80}
BATCH = 200
"""Tracks a transaction, about as many as a server writes between two looks of a person."""


def change(folder: Path, share: float, seed: int = 5) -> int:
    """Give so large a share of the tracks Sonic data, as the server does; returns how many."""
    numbers = random.Random(seed)
    pair = db.Pair(folder)
    library: Any = pair.library
    guids = dict(library.execute("SELECT id, guid FROM metadata_items WHERE metadata_type = 10").fetchall())
    have = {row[0] for row in pair.blobs.execute("SELECT linked_id FROM blobs")}
    chosen = sorted(numbers.sample(sorted(guids), round(len(guids) * share)))
    for start in range(0, len(chosen), BATCH):
        batch = chosen[start : start + BATCH]
        with db.writing(library) as writer:
            for item in batch:
                moved = db.next_change(writer)
                writer.execute(
                    "UPDATE metadata_items SET extra_data = ?, changed_at = ?, updated_at = ? WHERE id = ?",
                    (counters.MARK, moved, 1_790_000_000 + start, item),
                )
        with db.writing(pair.blobs) as writer:
            for item in batch:
                text = ",".join(f"{numbers.uniform(-1, 1):.6f}" for _ in range(50))
                vector = gzip.compress(text.encode(), 6, mtime=0)
                if item in have:
                    writer.execute("UPDATE blobs SET blob = ? WHERE linked_id = ?", (vector, item))
                else:
                    writer.execute(
                        "INSERT INTO blobs(blob, linked_type, linked_id, linked_guid, created_at, blob_type) "
                        "VALUES(?, 'metadata_item', ?, ?, 1790000000, 7)",
                        (vector, item, guids[item]),
                    )
    pair.close()
    return len(chosen)


class Counter:
    """A file that only counts."""

    def __init__(self) -> None:
        self.size = 0

    def write(self, data: bytes) -> int:
        """Count."""
        self.size += len(data)
        return len(data)


def archive(folder: Path) -> tuple[int, float]:
    """Bytes and seconds of tar.gz of the pair, gzip's usual level: the prior way."""
    begun, counter = time.perf_counter(), Counter()
    packed = gzip.GzipFile(fileobj=counter, mode="wb", compresslevel=6)  # type: ignore[call-overload]
    with packed, tarfile.open(fileobj=packed, mode="w|") as tar:
        for name in NAMES:
            tar.add(folder / name, name)
    return counter.size, time.perf_counter() - begun


def timed(code: str) -> tuple[float, float]:
    """Seconds and peak memory in MB of a Python of its own that does `code` with the module `patch`."""
    # VmHWM, for ru_maxrss remembers what the parent took before exec.
    whole = (
        "import time; from pathlib import Path; "
        "from ansible_collections.plexburst.core.plugins.module_utils.plex_db import patch; "
        f"begun = time.perf_counter(); {code}; "
        "seconds = time.perf_counter() - begun; status = Path('/proc/self/status').read_text(); "
        "print(seconds, status.partition('VmHWM:')[2].split()[0])"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1] / "collections")}
    done = subprocess.run([sys.executable, "-c", whole], env=environment, capture_output=True, text=True, check=True)
    seconds, kibibytes = done.stdout.split()
    return float(seconds), int(kibibytes) * 1024 / 1e6


def plain_copy(source: Path, target: Path) -> float:
    """Seconds of copying the two files, on disk at the end."""
    begun = time.perf_counter()
    target.mkdir(parents=True)
    for name in NAMES:
        shutil.copyfile(source / name, target / name)
        with (target / name).open("rb") as stream:
            os.fsync(stream.fileno())
    return time.perf_counter() - begun


def travel(live: Path, base: Path, root: Path, share: float) -> dict[str, float]:
    """Change, snapshot, difference, apply, compare; sizes in bytes, times in seconds."""
    root.mkdir()
    working = root / "working"
    shutil.copytree(live, working)
    tracks = change(working, share)
    snapshot.take(working, root / "result", "indexer", "1")
    shutil.rmtree(working)
    made, made_memory = timed(
        f"patch.make(Path({str(root / 'result')!r}), Path({str(root / 'patch')!r}), Path({str(base)!r}))"
    )
    applied, applied_memory = timed(
        f"patch.apply(Path({str(root / 'patch')!r}), Path({str(root / 'out')!r}), Path({str(base)!r}))"
    )
    description = patch.load(root / "patch")
    assert patch.is_applied(description, root / "out")
    shutil.rmtree(root / "out")
    wire = description.size + (root / "patch" / patch.DESCRIPTION).stat().st_size
    size, seconds = archive(root / "result")
    shutil.rmtree(root / "result")
    return {
        "tracks": tracks,
        "wire": wire,
        "changed": description.changed_bytes,
        "archive": size,
        "parts": len(description.parts),
        "made": made,
        "applied": applied,
        "archived": seconds,
        "memory": max(made_memory, applied_memory),
    }


@contextlib.contextmanager
def place(keep: Path | None) -> Iterator[Path]:
    """DIR, or a temporary folder that is removed."""
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="plexburst-way-home-") as name:
        yield Path(name)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Build, measure, print; returns the last line's object."""
    parser = argparse.ArgumentParser(prog="python benchmarks/way_home.py")
    parser.add_argument("--items", type=int, default=ITEMS)
    parser.add_argument("--keep", type=Path, default=None, metavar="DIR")
    options = parser.parse_args(arguments)
    with place(options.keep) as folder:
        begun = time.perf_counter()
        counters.build(folder / "live", round(options.items * TRACKS_PER_ITEM))
        size = sum((folder / "live" / name).stat().st_size for name in NAMES)
        print(f"{options.items} items, {size / 1e9:.2f} GB, made in {time.perf_counter() - begun:.0f} s")
        with tempfile.TemporaryDirectory(prefix="measured-", dir=folder) as name:
            return measure(folder / "live", Path(name))


def measure(live: Path, root: Path) -> dict[str, Any]:
    """The table and the last line."""
    os.sync()  # what building wrote must not be written while the clock runs
    copied = min(plain_copy(live, root / f"copy{number}") for number in range(2))
    for number in range(2):
        shutil.rmtree(root / f"copy{number}")
    begun = time.perf_counter()
    manifest = snapshot.take(live, root / "base", "home", "1")
    described = time.perf_counter() - begun - manifest["copy"]["seconds"]
    print(f"\nsnapshot of the pair by online backup    {manifest['copy']['seconds']:8.1f} s")
    print(f"  its manifest (hashes, counts)          {described:8.1f} s")
    print(f"plain copy of both files (baseline)      {copied:8.1f} s")
    found = {}
    for case, share in SHARES.items():
        found[case] = row = travel(live, root / "base", root / case, share)
        print(f"\n{share:.0%} of the tracks changed ({row['tracks']}), picked at random")
        print(f"  tar.gz of everything (baseline)   {row['archive'] / 1e6:10.2f} MB {row['archived']:8.1f} s")
        print(f"  changed pages                     {row['changed'] / 1e6:10.2f} MB")
        print(
            f"  the difference, {row['parts']:4} parts        {row['wire'] / 1e6:10.2f} MB {row['made']:8.1f} s to make"
        )
        print(f"    applied at home, both verified                  {row['applied']:8.1f} s")
        print(f"    memory of either process        {row['memory']:10.0f} MB")
        of_all, of_changed = row["archive"] / row["wire"], row["changed"] / row["wire"]
        print(f"  1/{of_all:.0f} of tar.gz, 1/{of_changed:.1f} of the changed pages")
    assert (root / "base" / MANIFEST).is_file()
    result: dict[str, Any] = {
        "bytes_ratio_1pct": round(found["1pct"]["wire"] / found["1pct"]["archive"], 6),
        "bytes_ratio_80pct": round(found["80pct"]["wire"] / found["80pct"]["archive"], 6),
        "wire_per_changed_byte_1pct": round(found["1pct"]["wire"] / found["1pct"]["changed"], 4),
        "snapshot_vs_copy": round(manifest["copy"]["seconds"] / copied, 2),
        # Measured nowhere yet: null is not 0.
        "audit_seconds": None,
        "merge_seconds": None,
        "home_down_seconds": None,
        "memory_mb": round(max(row["memory"] for row in found.values())),
    }
    print()
    print(json.dumps(result))
    return result


if __name__ == "__main__":
    main()
