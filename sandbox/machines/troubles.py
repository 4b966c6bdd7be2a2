"""What goes wrong below everything that runs on a machine: its media and its database. Done with means of the kernel,
so that Plex, plexburst and a person at the shell all see the same.

``mount_slow`` (seconds): opening a media file takes so long. A write lease is held on each of them, and a lease makes
an opener wait until its holder lets go; names, sizes and dates stay quick, as rclone's own cache of them does.

``mount_unreadable`` (true): folders are listed and files have a size of some kind, but reading any of them is an
input/output error: a mount whose remote is gone behind a directory cache that is not. What Plex's own programs make of
it is the Plex simulator's fault ``mount_dead``.

``database_locked`` (true): another program wants library.db for itself and waits for it, holding the lock (SQLite's
PENDING byte) that lets nobody new in. Who has the database open goes on; whoever opens it now finds it busy.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import struct
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox.faults import Faults

MEDIA = Path("plexburst/media")
ASIDE = Path("plexburst/.media-behind-the-mount")
CONFIG = Path("plexburst/config")
LIBRARY = "com.plexapp.plugins.library.db"
ALWAYS_EIO = "/proc/self/mem"  # opens, has a size, and address 0 of no process can be read
PENDING_BYTE = 0x40000000
POLL_SECONDS = 0.02
LOOK_SECONDS = 0.5
"""Between two searches for media files that are new."""


@dataclass(slots=True)
class _Leased:
    """A media file that is held; `wanted_at`: when somebody began to wait for it."""

    descriptor: int
    wanted_at: float | None = None
    held: bool = False


class Troubles:
    """The troubles of one machine; `run` follows the faults file until it is cancelled."""

    def __init__(self, home: Path, faults: Faults) -> None:
        self._home = home
        self._faults = faults
        self._leased: dict[Path, _Leased] = {}
        self._lock: int | None = None
        self._looked_at = 0.0

    async def run(self) -> None:
        """Bring what is and what the faults say together, again and again."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGIO, lambda: None)  # "somebody wants a leased file" would end the process
        try:
            while True:
                faults = self._faults.all()
                self._unreadable(bool(faults.get("mount_unreadable")))
                self._slow(float(faults.get("mount_slow") or 0.0))
                self._locked(bool(faults.get("database_locked")))
                await asyncio.sleep(POLL_SECONDS if self._leased else 5 * POLL_SECONDS)
        finally:
            self._slow(0.0)
            self._locked(False)

    # -- files that list but do not open

    def _unreadable(self, wanted: bool) -> None:
        media, aside = self._home / MEDIA, self._home / ASIDE
        if wanted == aside.is_dir() or not media.is_dir():
            return
        self._slow(0.0)
        if wanted:
            shadow = aside.with_name(f"{aside.name}.new")
            for folder, _, names in os.walk(media):
                below = shadow / Path(folder).relative_to(media)
                below.mkdir(parents=True, exist_ok=True)
                for name in names:
                    (below / name).symlink_to(ALWAYS_EIO)
                _same_times(Path(folder), below)
            media.rename(aside)
            shadow.rename(media)
        else:
            gone = media.with_name(f".{media.name}.gone")
            media.rename(gone)
            aside.rename(media)
            for folder, folders, names in os.walk(gone, topdown=False):
                for name in names:
                    (Path(folder) / name).unlink()
                for name in folders:
                    (Path(folder) / name).rmdir()
            gone.rmdir()

    # -- files that open late

    def _slow(self, seconds: float) -> None:
        if not seconds:
            for leased in self._leased.values():
                os.close(leased.descriptor)  # with its lease, so that whoever waits goes on
            self._leased.clear()
            self._looked_at = 0.0
            return
        now = time.monotonic()
        if now - self._looked_at >= LOOK_SECONDS:
            self._looked_at = now
            self._find_media()
        for leased in self._leased.values():
            self._tend(leased, seconds, now)

    def _find_media(self) -> None:
        media = self._home / MEDIA
        for path in [path for path in self._leased if not path.exists()]:
            os.close(self._leased.pop(path).descriptor)
        for folder, _, names in os.walk(media):
            for name in names:
                path = Path(folder) / name
                if path not in self._leased and not path.is_symlink() and not name.endswith(".partial"):
                    with contextlib.suppress(FileNotFoundError):
                        self._leased[path] = _Leased(os.open(path, os.O_RDWR | os.O_CLOEXEC))

    @staticmethod
    def _tend(leased: _Leased, seconds: float, now: float) -> None:
        """Hold the lease; let go of it when its opener has waited long enough, and take it again once he has closed."""
        if not leased.held:
            try:
                fcntl.fcntl(leased.descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
            except BlockingIOError:
                return  # still open elsewhere
            leased.held, leased.wanted_at = True, None
            return
        if fcntl.fcntl(leased.descriptor, fcntl.F_GETLEASE) == fcntl.F_WRLCK:
            return
        leased.wanted_at = leased.wanted_at or now
        if now - leased.wanted_at >= seconds:
            fcntl.fcntl(leased.descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
            leased.held = False

    # -- a database that somebody else wants for himself

    def _locked(self, wanted: bool) -> None:
        if not wanted and self._lock is not None:
            os.close(self._lock)
            self._lock = None
        if not wanted or self._lock is not None:
            return
        for path in (self._home / CONFIG).rglob(LIBRARY):
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            # Of the open file, not of the process: another close of the same file here would end the other kind.
            lock: Any = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, PENDING_BYTE, 1, 0)
            try:
                fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, lock)
            except BlockingIOError:
                os.close(descriptor)  # somebody is just being let in; the next look tries again
            else:
                self._lock = descriptor
            return


def _same_times(source: Path, target: Path) -> None:
    info = source.stat()
    os.utime(target, ns=(info.st_atime_ns, info.st_mtime_ns))
