"""library.db and blobs.db, always together and without pending side files."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

from ..errors import PlexDatabaseError

LIBRARY = "com.plexapp.plugins.library.db"
BLOBS = "com.plexapp.plugins.library.blobs.db"
NAMES = (LIBRARY, BLOBS)
MANIFEST = "manifest.json"
SIDE_SUFFIXES = ("-wal", "-shm")

# Where SQLite keeps its POSIX locks in a database file (os_unix.c: PENDING_BYTE and the 511 bytes after it).
# A connection in WAL mode holds a shared lock there for as long as it is open, idle or not.
_LOCK_FIRST_BYTE = 0x40000000
_LOCK_BYTES = 512


def side_files(directory: Path) -> list[Path]:
    """The -wal and -shm files that exist beside the pair in `directory`."""
    candidates = [directory / f"{name}{suffix}" for name in NAMES for suffix in SIDE_SUFFIXES]
    return [path for path in candidates if path.exists()]


def pending_side_files(directory: Path) -> list[Path]:
    """Side files that may hold data: a -wal that is not empty."""
    return [path for path in side_files(directory) if path.name.endswith("-wal") and path.stat().st_size > 0]


def forget_side_files(directory: Path) -> None:
    """Remove whatever lies beside the pair in a folder of ours, right before the pair itself is replaced.

    A write that was killed leaves its -wal there; beside another database it would be read into that one.
    """
    for name in NAMES:
        for suffix in (*SIDE_SUFFIXES, "-journal"):
            (directory / f"{name}{suffix}").unlink(missing_ok=True)


def require_pair(directory: Path) -> None:
    """Refuse a folder in which one of the two files is missing or empty."""
    for name in NAMES:
        path = directory / name
        if not path.is_file():
            raise PlexDatabaseError(
                f"Expected {LIBRARY} and {BLOBS} together in {directory}, but {name} is missing. "
                "Take the snapshot again."
            )
        if path.stat().st_size == 0:
            raise PlexDatabaseError(f"{path} is empty, which a Plex database never is. Take the snapshot again.")


def require_closed(directory: Path) -> None:
    """Refuse a pair that has -wal or -shm files beside it: Plex would read them into the database they lie beside."""
    require_pair(directory)
    beside = side_files(directory)
    if beside:
        names = ", ".join(path.name for path in beside)
        raise PlexDatabaseError(
            f"Expected a closed pair in {directory}, found {names} beside it. It was not closed cleanly, or the file "
            "belongs to another database. Stop Plex cleanly and take the snapshot again. Never copy a -wal or -shm "
            "file."
        )


def holders(directory: Path) -> list[str]:
    """Who has the pair open, as far as can be seen: `Plex Media Server (pid 12)` each.

    Two ways: SQLite's own lock bytes (any user's process on this kernel, containers too), and /proc for the names.
    """
    found: list[str] = []
    for name in NAMES:
        path = directory / name
        if not path.exists():
            continue
        named = _open_in_proc(path)
        found.extend(entry for entry in named if entry not in found)
        if not named and _is_locked(path) and "a process of another user" not in found:
            found.append("a process of another user")
    return found


def remove_empty_side_files(directory: Path) -> list[Path]:
    """Remove -wal/-shm files that hold nothing, while SQLite's exclusive lock keeps everybody else out.

    A read-only connection leaves an empty -wal and a -shm behind, for it may not remove them. Returns what was removed.

    :raises PlexDatabaseError: a -wal contains data, or a process has the database open.
    """
    removed: list[Path] = []
    for name in NAMES:
        path = directory / name
        beside = [directory / f"{name}{suffix}" for suffix in SIDE_SUFFIXES]
        beside = [side for side in beside if side.exists()]
        if not beside:
            continue
        with path.open("r+b") as stream:
            if not _try_lock(stream.fileno()):
                raise PlexDatabaseError(
                    f"{path} is open in {', '.join(holders(directory)) or 'another process'}. Stop Plex first."
                )
            for side in beside:
                if side.name.endswith("-wal") and side.stat().st_size > 0:
                    raise PlexDatabaseError(
                        f"{side} holds {side.stat().st_size} bytes that are not in the database yet: "
                        "start Plex and stop it cleanly, so that it writes them."
                    )
            for side in beside:
                side.unlink()
                removed.append(side)
    return removed


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, _LOCK_BYTES, _LOCK_FIRST_BYTE)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return False
        raise
    return True


def _is_locked(path: Path) -> bool:
    with path.open("r+b") as stream:
        return not _try_lock(stream.fileno())


def _open_in_proc(path: Path) -> list[str]:
    wanted = path.stat()
    found: list[str] = []
    own = os.getpid()
    for process in Path("/proc").iterdir() if Path("/proc").is_dir() else ():
        if not process.name.isdigit() or int(process.name) == own:
            continue
        try:
            descriptors = list((process / "fd").iterdir())
        except OSError:  # ended meanwhile, or another user's: the lock bytes answer for those
            continue
        for descriptor in descriptors:
            try:
                opened = descriptor.stat()
            except OSError:  # closed meanwhile
                continue
            if (opened.st_dev, opened.st_ino) == (wanted.st_dev, wanted.st_ino):
                found.append(f"{_process_name(process)} (pid {process.name})")
                break
    return found


def _process_name(process: Path) -> str:
    try:
        command = (process / "cmdline").read_bytes().split(b"\0")[0].decode("utf-8", "replace")
    except OSError:
        return "a process"
    return Path(command).name or "a process"
