"""What the server sees of the host's files: ``-v HOST:PATH`` of Docker, done by translating paths.

The fault ``mount_dead`` (true, or a list of server paths) is a dead rclone mount as people met it
(docs/plex-facts.md#incidents):
the directory cache still lists every name, no file can be read, folder dates are unknown. ``mount_slow`` (seconds) is a
line so full that the content of each file takes so long.
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from sandbox.faults import Faults

FOLDER_MTIMES_ENV = "PLEX_SIM_FOLDER_MTIMES"
VOLUMES_ENV = "PLEX_SIM_VOLUMES"
RCLONE_UNKNOWN_TIME = 946_684_800
"""2000-01-01: what an rclone mount of S3 shows as the date of every folder (its ``--default-time``)."""


@dataclass(frozen=True, slots=True)
class Volume:
    """One mapping: the host's folder ``host`` appears at ``path``."""

    host: Path
    path: str
    read_only: bool = True

    @classmethod
    def parse(cls, text: str) -> Volume:
        """``HOST:PATH`` or ``HOST:PATH:ro``. Raises ValueError on anything else."""
        host, _, rest = text.partition(":")
        path, _, mode = rest.partition(":")
        if not host or not path.startswith("/") or mode not in ("", "ro", "rw"):
            raise ValueError(f"A volume is HOST:/PATH or HOST:/PATH:ro, found {text!r}.")
        return cls(Path(host), path.rstrip("/") or "/", mode == "ro")


@dataclass(frozen=True, slots=True)
class Listing:
    """One folder: names of its subfolders and files, sorted, hidden ones left out."""

    folders: tuple[str, ...]
    files: tuple[str, ...]


class Volumes:
    """The mapped volumes. A path below none of them is the host's own path (a server without a container)."""

    def __init__(
        self, volumes: Iterable[Volume] = (), *, faults: Faults | None = None, folder_mtimes: str = "real"
    ) -> None:
        """``folder_mtimes``.

        ``real``, or ``constant`` = the dates that an rclone mount of S3 shows (2000-01-01 for every folder).
        """
        if folder_mtimes not in ("real", "constant"):
            raise ValueError(f"folder_mtimes is 'real' or 'constant', found {folder_mtimes!r}.")
        self.volumes = tuple(sorted(volumes, key=lambda volume: len(volume.path), reverse=True))
        self._faults = faults
        self._constant = folder_mtimes == "constant"

    @classmethod
    def from_environment(cls, faults: Faults | None) -> Volumes:
        """As the server passed them to its child."""
        volumes = [Volume(Path(v["host"]), v["path"]) for v in json.loads(os.environ.get(VOLUMES_ENV, "[]"))]
        return cls(volumes, faults=faults, folder_mtimes=os.environ.get(FOLDER_MTIMES_ENV, "real"))

    def to_environment(self) -> dict[str, str]:
        """The variables from which `from_environment` builds the same."""
        mapped = [{"host": str(volume.host), "path": volume.path} for volume in self.volumes]
        return {VOLUMES_ENV: json.dumps(mapped), FOLDER_MTIMES_ENV: "constant" if self._constant else "real"}

    def host_path(self, path: str) -> Path:
        """Where the server's ``path`` really is."""
        for volume in self.volumes:
            if path == volume.path or path.startswith(volume.path.rstrip("/") + "/"):
                return volume.host / path[len(volume.path) :].lstrip("/")
        return Path(path)

    def dead(self, path: str) -> bool:
        """Whether the fault ``mount_dead`` covers this path."""
        value = self._faults.get("mount_dead") if self._faults is not None else None
        if isinstance(value, list):
            return any(path == prefix or path.startswith(str(prefix).rstrip("/") + "/") for prefix in value)
        return bool(value)

    def listing(self, path: str) -> Listing:
        """What a folder holds. Raises OSError when it is not there. A dead mount still lists (from its cache)."""
        folders: list[str] = []
        files: list[str] = []
        with os.scandir(self.host_path(path)) as entries:
            for entry in entries:
                if not entry.name.startswith("."):
                    (folders if entry.is_dir() else files).append(entry.name)
        return Listing(tuple(sorted(folders)), tuple(sorted(files)))

    def folder_mtime(self, path: str) -> int:
        """Unix seconds of a folder's last change; 0 = unknown (dead mount)."""
        if self.dead(path):
            return 0
        return RCLONE_UNKNOWN_TIME if self._constant else int(self.host_path(path).stat().st_mtime)

    def stat(self, path: str) -> os.stat_result:
        """A file's stat. Raises OSError; a dead mount says ENOTCONN."""
        if self.dead(path):
            raise OSError(errno.ENOTCONN, "Socket not connected", path)
        return self.host_path(path).stat()

    def wait_for_content(self, path: str) -> None:
        """The fault ``mount_slow`` (seconds): so long the content of one file takes to arrive. Ends when it is off."""
        began = time.monotonic()
        while self._faults is not None and time.monotonic() - began < float(self._faults.get("mount_slow") or 0.0):
            if self.dead(path):
                return
            time.sleep(0.1)

    def exists(self, path: str) -> bool:
        """Whether the file is there and can be read, which is all the scanner asks."""
        try:
            self.stat(path)
        except OSError:
            return False
        return os.access(self.host_path(path), os.R_OK)


def relative_to(path: str, root: str) -> str | None:
    """``path`` relative to ``root`` (``""`` for the root itself); None when it is not below it."""
    try:
        relative = PurePosixPath(path).relative_to(PurePosixPath(root))
    except ValueError:
        return None
    return "" if str(relative) == "." else str(relative)


def join(root: str, *names: str) -> str:
    """A server path below ``root``; empty names count for nothing."""
    return str(PurePosixPath(root, *[name for name in names if name]))
