"""Whether a mount works, checked by reading real files.

A dead rclone mount still lists directories from its cache while no file opens; Plex treats that as deletion, which lost
221 of 224 films (docs/plex-facts.md#incidents). Reading may also block in the kernel for ever, so it runs in a child
process with a time
limit.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .sample import MountProbe

PROBE_BYTES = 4096
WALK_LIMIT = 2000
FEW = 5
"""Minimum number of probed files for which the share of missing ones is judged."""

# Runs in the child: reads the first bytes of each path of stdin's JSON, one JSON line per path; then, when asked,
# looks below
# `roots` for any file that can be read (bounded).
_CHILD = """
import errno, json, os, sys
task = json.load(sys.stdin)
def read(path):
    with open(path, "rb") as handle:
        return len(handle.read(task["bytes"]))
for path in task["files"]:
    try:
        read(path)
        line = {"path": path, "error": ""}
    except OSError as error:
        line = {"path": path, "error": errno.errorcode.get(error.errno, str(error.errno)), "text": error.strerror or ""}
    print(json.dumps(line), flush=True)
seen = 0
for root in task["roots"]:
    found, empty = False, True
    problem = ""
    def note(error):
        global problem
        problem = str(error)
    for folder, _, names in os.walk(root, onerror=note):
        for name in names:
            empty = False
            seen += 1
            try:
                read(os.path.join(folder, name))
                found = True
                break
            except OSError as error:
                problem = str(error)
        if found or seen > task["walk"]:
            break
    print(json.dumps({"root": root, "found": found, "empty": empty, "problem": problem}), flush=True)
"""


@dataclass(frozen=True, slots=True)
class PathMap:
    """Where a path that Plex knows lies on this machine: the longest matching prefix wins; without one it is the
    same."""

    entries: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, entries: Sequence[Mapping[str, str]]) -> PathMap:
        """From [{path: /Media, host: /opt/…/media/0}, …]."""
        pairs = [(entry["path"].rstrip("/"), entry["host"].rstrip("/")) for entry in entries]
        return cls(tuple(sorted(pairs, key=lambda pair: -len(pair[0]))))

    def host(self, path: str) -> str:
        """Return the path on this machine."""
        for prefix, host in self.entries:
            if path == prefix or path.startswith(prefix + "/"):
                return host + path[len(prefix) :]
        return path


@dataclass(frozen=True, slots=True)
class Look:
    """Result of the child. `errors`: errno name by path, '' = readable; without the paths that were not reached."""

    errors: dict[str, str]
    walks: tuple[dict[str, object], ...]
    timed_out: bool
    trouble: str
    seconds: float

    def readable(self) -> list[str]:
        """Return the paths whose first bytes could be read."""
        return [path for path, error in self.errors.items() if not error]


def look(files: Sequence[str], roots: Sequence[str], *, time_limit: float) -> Look:
    """Read the first bytes of `files`, and search below `roots` for any readable file, for at most `time_limit`
    seconds."""
    started = time.monotonic()
    task = {"files": list(files), "roots": list(roots), "bytes": PROBE_BYTES, "walk": WALK_LIMIT}
    child = subprocess.Popen(
        [sys.executable, "-I", "-c", _CHILD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    timed_out, trouble = False, ""
    try:
        output, errors = child.communicate(json.dumps(task), timeout=time_limit)
    except subprocess.TimeoutExpired as expired:
        child.kill()  # a child that is blocked in the kernel survives this, so there is no wait
        timed_out = True
        raw = expired.stdout
        output = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else (raw or "")
    else:
        if child.returncode != 0:
            trouble = errors.strip()[-300:] or f"exit code {child.returncode}"
    lines = [json.loads(line) for line in output.splitlines() if line.endswith("}")]
    return Look(
        errors={line["path"]: line["error"] for line in lines if "path" in line},
        walks=tuple(line for line in lines if "root" in line),
        timed_out=timed_out,
        trouble=trouble,
        seconds=round(time.monotonic() - started, 3),
    )


def probe(
    files: Sequence[str],
    roots: Sequence[str],
    *,
    time_limit: float,
    max_missing_percent: float = 50.0,
) -> MountProbe:
    """Read the first bytes of `files` and look for any readable file below `roots`; all are paths on this machine.

    Sick is: a time-out; any error but "no such file"; more than `max_missing_percent` of at least five files missing;
    or
    nothing readable although the database names files.
    """
    seen = look(files, roots, time_limit=time_limit)
    missing = [path for path, error in seen.errors.items() if error == "ENOENT"]
    sick = [(path, error) for path, error in seen.errors.items() if error not in ("", "ENOENT")]
    read = len(seen.readable())
    found = any(walk["found"] for walk in seen.walks)
    shut = [walk for walk in seen.walks if not walk["found"] and (not walk["empty"] or walk["problem"])]
    problem = ""
    if seen.timed_out:
        problem = f"reading {len(files)} files did not end within {time_limit:g} s ({read} were read)"
    elif seen.trouble:
        problem = f"the probe itself failed: {seen.trouble}"
    elif sick:
        problem = f"{len(sick)} of {len(files)} files cannot be read, the first: {sick[0][0]} ({sick[0][1]})"
    elif not files and shut:
        problem = f"no file below {shut[0]['root']} can be read: {shut[0]['problem'] or 'no file opens'}"
    elif files and read == 0 and not found:
        problem = f"none of {len(files)} files in the database exists, nor any other file in the section's folders"
    elif len(files) >= FEW and 100.0 * len(missing) / len(files) > max_missing_percent:
        problem = (
            f"{len(missing)} of {len(files)} files in the database do not exist on this mount, the "
            f"first: {missing[0]}; the path map is wrong, or the folders were reorganised"
        )
    return MountProbe(
        ok=not problem,
        tried=len(files),
        read=read,
        missing=len(missing),
        failed=tuple(f"{path}: {error}" for path, error in seen.errors.items() if error)[:10],
        seconds=seen.seconds,
        problem=problem,
    )
