"""The remote's real listing, as paths that Plex sees, in a file that can hold any name.

JSON Lines. First line `{"listing": 1, "roots": ["/Media"], "made_at": "…"}`, then one `["path", bytes]` per file, last
line
`{"files": n}`: a file without its last line was cut short and is refused.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, cast

from ...text import canonical
from ..errors import PlexDatabaseError
from ..pair.files import utc_now

SCHEMA = 1
# rclone's own retries are inside; S3 gives 1000 names per request, so a listing that stands still this long is dead.
IO_TIMEOUT = "2m"


@dataclass(frozen=True)
class Listing:
    """What the remote holds: size in bytes by canonical path, and the paths under which the mounts appear."""

    roots: tuple[str, ...]
    sizes: Mapping[str, int]
    exact: frozenset[str]

    def __contains__(self, path: object) -> bool:
        return path in self.sizes

    @cached_property
    def spelled(self) -> Mapping[str, str]:
        """The remote's own spelling of names whose Unicode form is not the composed one, by canonical path."""
        return {canonical(path): path for path in self.exact if canonical(path) != path}

    def covers(self, path: str) -> bool:
        """Is the path at or below one of the listed roots?"""
        return any(root in ("/", path) or path.startswith(root.rstrip("/") + "/") for root in self.roots)


def make(rclone: str, config: Path, mounts: Sequence[Mapping[str, str]], destination: Path, timeout: float) -> int:
    """List every mount's remote with rclone into `destination`; returns the number of files.

    :param mounts: `remote` (`media-s3:media`) and `path` (the folder under which Plex sees it) each.
    :param timeout: seconds for each remote.
    :raises PlexDatabaseError: rclone is missing or failed; its last words are in the message.
    """
    destination.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    partial = destination.with_name(f".{destination.name}.partial")
    count = 0
    try:
        partial.touch(mode=0o600)
        with partial.open("w", encoding="utf-8") as stream:
            header = {"listing": SCHEMA, "roots": [_root(mount["path"]) for mount in mounts], "made_at": utc_now()}
            stream.write(json.dumps(header) + "\n")
            for mount in mounts:
                prefix = _root(mount["path"]).rstrip("/")
                for path, size in _list_remote(rclone, config, mount["remote"], timeout):
                    stream.write(json.dumps([f"{prefix}/{path}", size]) + "\n")
                    count += 1
            stream.write(json.dumps({"files": count}) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(destination)
    finally:
        partial.unlink(missing_ok=True)
    return count


def load(path: Path) -> Listing:
    """Read a listing.

    :raises PlexDatabaseError: missing, cut short, or not a listing.
    """
    sizes: dict[str, int] = {}
    exact: set[str] = set()
    header: dict[str, object] = {}
    end: dict[str, object] | None = None
    try:
        with path.open(encoding="utf-8") as stream:
            header = json.loads(stream.readline() or "{}")
            for line in stream:
                entry = json.loads(line)
                if isinstance(entry, list):
                    name = canonical(entry[0])
                    sizes[name] = entry[1]
                    exact.add(entry[0])
                else:
                    end = entry
    except FileNotFoundError:
        raise PlexDatabaseError(f"Expected a listing of the remote at {path}, but the file does not exist.") from None
    except (OSError, ValueError, LookupError) as error:
        raise PlexDatabaseError(
            f"The listing of the remote at {path} cannot be read: {error}. List the remote again."
        ) from error
    roots = header.get("roots")
    if header.get("listing") != SCHEMA or not isinstance(roots, list):
        raise PlexDatabaseError(f"{path} is not a valid listing of the remote. List the remote again.")
    if end is None or end.get("files") != len(exact):
        raise PlexDatabaseError(
            f"The listing of the remote at {path} is incomplete: found {len(exact)} files. List the remote again."
        )
    return Listing(tuple(str(root) for root in roots), sizes, frozenset(exact))


def _root(path: str) -> str:
    return path.rstrip("/") or "/"


def _list_remote(rclone: str, config: Path, remote: str, timeout: float) -> Iterator[tuple[str, int]]:
    command = [
        *(rclone, "lsjson", "--config", str(config), "--recursive", "--files-only", "--fast-list"),
        # Times and types cost S3 one request per object.
        *("--no-modtime", "--no-mimetype", "--timeout", IO_TIMEOUT, "--contimeout", "30s", "--retries", "2"),
        *("--ask-password=false", "--", remote),
    ]
    with tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors)
        except OSError as error:
            raise PlexDatabaseError(
                f"rclone cannot be started as {rclone}: {error}. Install rclone on this machine, or set its path."
            ) from error
        with process:
            watchdog = _Watchdog(process, timeout)
            finished = False
            try:
                yield from _entries(cast(IO[bytes], process.stdout), remote)
                finished = True
            finally:
                watchdog.cancel()
                if not finished:
                    process.kill()
        if process.returncode != 0:
            errors.seek(max(0, errors.seek(0, os.SEEK_END) - 2000))
            words = errors.read().decode("utf-8", "replace").strip() or "no message"
            if watchdog.fired:
                words = f"it took longer than {timeout:.0f} seconds"
            raise PlexDatabaseError(
                f"Listing the remote {remote} failed (rclone's exit code {process.returncode}): {words}. "
                "Check the remote's name, its keys in the rclone configuration, and the network."
            )


class _Watchdog:
    """Ends a process after a time, because a read from its pipe has no time limit."""

    def __init__(self, process: subprocess.Popen[bytes], seconds: float) -> None:
        self.fired = False
        self._process = process
        self._timer = threading.Timer(seconds, self._fire)
        self._timer.daemon = True
        self._timer.start()

    def _fire(self) -> None:
        self.fired = True
        self._process.kill()

    def cancel(self) -> None:
        self._timer.cancel()


def _entries(stream: Iterable[bytes], remote: str) -> Iterator[tuple[str, int]]:
    """rclone writes `[`, one object per line with a comma between, `]`: read as a stream, never as a whole."""
    for raw in stream:
        line = raw.strip().rstrip(b",")
        if line in (b"", b"[", b"]"):
            continue
        try:
            entry = json.loads(line)
            yield str(entry["Path"]), int(entry["Size"])
        except (ValueError, LookupError, TypeError) as error:
            raise PlexDatabaseError(
                f"rclone's listing of {remote} contains an invalid line: {line[:200]!r} ({error})."
            ) from error
