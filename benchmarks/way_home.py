"""The way home of a large library, step by step: audit, snapshot, difference, merge, installation.

    python benchmarks/way_home.py [--items 490000] [--keep DIR] [--without-home]

A library of 490,000 items and about 2 GB that was lived in is made in a temporary folder (some minutes), or in DIR,
which is kept and used again. It is compared with a listing of 500,000 objects. Then so many tracks, picked at random,
get Sonic data through the simulator's own triggers; the pair is copied by a snapshot, the difference is made and
applied, and the prior way's archive is made of the same pair. What 1 % of the tracks got is merged with what a
household did meanwhile, and install.yml puts it in place at a sandbox's home while somebody there goes on playing.

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
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.delta import delta
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.merge import id_gap
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.pair import snapshot
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.pair.pair import LIBRARY, MANIFEST, NAMES
from steps import audit, changes, home
from steps.process import Measured, in_a_process

from sandbox.plex import database as db
from sandbox.plex.runtime import VERSION

ITEMS = 490_000
TRACKS_PER_ITEM = counters.TRACKS / ITEMS
SHARES = {"1pct": 0.01, "80pct": 0.80}
SECTION = 1
PLAYED, ADDED = 2_000, 480
"""What the household did while the indexer worked: tracks played, and tracks that home's own scan found."""
PLAYS_MEANWHILE = 4_000


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


def plain_copy(source: Path, target: Path) -> float:
    """Seconds of copying the two files, on disk at the end."""
    begun = time.perf_counter()
    target.mkdir(parents=True)
    for name in NAMES:
        shutil.copyfile(source / name, target / name)
        with (target / name).open("rb") as stream:
            os.fsync(stream.fileno())
    return time.perf_counter() - begun


def travel(live: Path, base: Path, root: Path, share: float) -> dict[str, Any]:
    """Change, snapshot, difference, apply, compare; sizes in bytes, times in seconds. The pair stays in `result`."""
    root.mkdir()
    working = root / "working"
    shutil.copytree(live, working)
    id_gap.raise_pair(working)
    tracks = changes.analyse(working, share)
    snapshot.take(working, root / "result", "indexer", VERSION)
    shutil.rmtree(working)
    paths = {name: repr(str(path)) for name, path in (("root", root), ("base", base))}
    root_, base_ = f"Path({paths['root']})", f"Path({paths['base']})"
    made = in_a_process(f"delta.make({root_} / 'result', {root_} / 'delta', {base_})", "plex_db.delta.delta")
    applied = in_a_process(f"delta.apply({root_} / 'delta', {root_} / 'out', {base_})", "plex_db.delta.delta")
    description = delta.load(root / "delta")
    assert delta.is_applied(description, root / "out")
    shutil.rmtree(root / "out")
    wire = description.size + (root / "delta" / delta.DESCRIPTION).stat().st_size
    size, seconds = archive(root / "result")
    return {
        "tracks": tracks,
        "wire": wire,
        "changed": description.changed_bytes,
        "archive": size,
        "parts": len(description.parts),
        "made": made.seconds,
        "applied": applied.seconds,
        "archived": seconds,
        "memory": max(made.memory, applied.memory),
    }


def merged(base: Path, ours: Path, result: Path, root: Path) -> Measured:
    """What the household did, into a copy of `result`; `answer` has what was put and dropped."""
    shutil.copytree(result, root)
    (root / MANIFEST).unlink()
    argv = ["env", f"PYTHONPATH={Path(__file__).resolve().parents[1]}", sys.executable, "-m", "sandbox.plex.sqlite"]
    base_, ours_, theirs = (f"Path({str(path)!r})" for path in (base, ours, root))
    code = f"""
done = run.merge({base_}, {ours_}, {theirs}, plex_sqlite={argv!r})
answer = {{"put": sum(done.put.values()), "dropped": sum(done.drop.values())}}
"""
    return in_a_process(code, "plex_db.merge.run")


@contextlib.contextmanager
def place(keep: Path | None) -> Iterator[Path]:
    """DIR, or a temporary folder that is removed."""
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="plexburst-way-home-") as name:
        yield Path(name)


def lived_in(folder: Path, items: int) -> None:
    """Make the library, unless an earlier time has kept it. What was made halfway is made again."""
    if folder.is_dir():
        return
    making = folder.with_name("making")
    shutil.rmtree(making, ignore_errors=True)
    counters.build(making, round(items * TRACKS_PER_ITEM))
    changes.live_in(making)
    making.rename(folder)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Build, measure, print; returns the last line's object."""
    parser = argparse.ArgumentParser(prog="python benchmarks/way_home.py")
    parser.add_argument("--items", type=int, default=ITEMS)
    parser.add_argument("--keep", type=Path, default=None, metavar="DIR")
    parser.add_argument("--without-home", action="store_true", help="leave the installation at a sandbox's home out")
    options = parser.parse_args(arguments)
    with place(options.keep) as folder:
        begun = time.perf_counter()
        lived_in(folder / "live", options.items)
        size = sum((folder / "live" / name).stat().st_size for name in NAMES)
        print(f"{options.items} items, {size / 1e9:.2f} GB, made in {time.perf_counter() - begun:.0f} s")
        with tempfile.TemporaryDirectory(prefix="measured-", dir=folder) as name:
            return measure(folder / "live", Path(name), options.items, with_home=not options.without_home)


def copies(live: Path, root: Path) -> tuple[float, float]:
    """Seconds of the snapshot, which stays in root/base, and of a plain copy."""
    os.sync()  # what building wrote must not be written while the clock runs
    copied = min(plain_copy(live, root / f"copy{number}") for number in range(2))
    for number in range(2):
        shutil.rmtree(root / f"copy{number}")
    begun = time.perf_counter()
    manifest = snapshot.take(live, root / "base", "home", VERSION)
    taken = float(manifest["copy"]["seconds"])
    print(f"\nsnapshot of the pair by online backup    {taken:8.1f} s")
    print(f"  its manifest (hashes, counts)          {time.perf_counter() - begun - taken:8.1f} s")
    print(f"plain copy of both files (baseline)      {copied:8.1f} s")
    return taken, copied


def travelled(live: Path, root: Path, case: str) -> dict[str, Any]:
    """One of the two cases, measured and printed."""
    row = travel(live, root / "base", root / case, SHARES[case])
    print(f"\n{SHARES[case]:.0%} of the tracks changed ({row['tracks']}), picked at random")
    print(f"  tar.gz of everything (baseline)   {row['archive'] / 1e6:10.2f} MB {row['archived']:8.1f} s")
    print(f"  changed pages                     {row['changed'] / 1e6:10.2f} MB")
    print(f"  the difference, {row['parts']:4} parts        {row['wire'] / 1e6:10.2f} MB {row['made']:8.1f} s to make")
    print(f"    applied at home, both verified                  {row['applied']:8.1f} s")
    print(f"    memory of either process        {row['memory']:10.0f} MB")
    of_all, of_changed = row["archive"] / row["wire"], row["changed"] / row["wire"]
    print(f"  1/{of_all:.0f} of tar.gz, 1/{of_changed:.1f} of the changed pages")
    return row


def at_home(live: Path, root: Path, result: Path, *, with_home: bool) -> tuple[Measured, float | None]:
    """The merge with what the household did, and how long home's Plex was away for the installation, in seconds."""
    ours = root / "ours"
    shutil.copytree(live, ours)
    number = changes.after(ours)
    changes.household(
        ours, SECTION, actions=min(PLAYED, number // 4), new=range(number, number + min(ADDED, number // 48 // 4 * 48))
    )
    merge = merged(root / "base", ours, result, root / "merged")
    shutil.rmtree(root / "merged")
    print(f"\nmerge with what home did: {merge.answer['put']} rows put, {merge.answer['dropped']} dropped")
    print(f"                                         {merge.seconds:8.1f} s, {merge.memory:.0f} MB")
    if not with_home:
        return merge, None
    connection: Any = db.connect(ours / LIBRARY, read_only=True)
    ids = [row[0] for row in connection.execute("SELECT id FROM metadata_items WHERE metadata_type = 10")]
    connection.close()
    (root / "home").mkdir()
    tracks = random.Random(1).sample(ids, min(PLAYS_MEANWHILE, len(ids)))
    installed = home.install(ours, root / "base", result, root / "home", tracks)
    print(f"\ninstallation by install.yml, {installed['plays']} plays meanwhile, all of them kept")
    print(f"  the whole playbook                     {installed['seconds']:8.1f} s")
    print(f"  home's Plex away                       {installed['down']:8.1f} s")
    return merge, round(installed["down"], 1)


def measure(live: Path, root: Path, items: int, *, with_home: bool) -> dict[str, Any]:
    """The table and the last line."""
    taken, copied = copies(live, root)
    audited = audit.measure(root / "base", root / "audit", round(audit.OBJECTS * items / ITEMS))
    print(f"\naudit against {audited['objects']} objects            {audited['process'].seconds:8.1f} s")
    print(
        f"  {audited['moved']} moved files found, {audited['proposals']} mappings proposed, "
        f"{audited['process'].memory:.0f} MB"
    )
    large = travelled(live, root, "80pct")
    shutil.rmtree(root / "80pct")
    small = travelled(live, root, "1pct")
    merge, down = at_home(live, root, root / "1pct" / "result", with_home=with_home)
    result: dict[str, Any] = {
        "bytes_ratio_1pct": round(small["wire"] / small["archive"], 6),
        "bytes_ratio_80pct": round(large["wire"] / large["archive"], 6),
        "wire_per_changed_byte_1pct": round(small["wire"] / small["changed"], 4),
        "snapshot_vs_copy": round(taken / copied, 2),
        "audit_seconds": round(audited["process"].seconds, 1),
        "merge_seconds": round(merge.seconds, 1),
        "home_down_seconds": down,  # null where it was left out, which is not 0
        "memory_mb": round(max(small["memory"], large["memory"])),
        "merge_memory_mb": round(merge.memory),
    }
    print()
    print(json.dumps(result))
    return result


if __name__ == "__main__":
    main()
