"""File operations that survive a power cut, gathered in one class so that tests can cut the power at each of them."""

from __future__ import annotations

import hashlib
import json
import os
import pwd
import shutil
import time
from pathlib import Path
from typing import Any

from ...text import megabytes
from ..errors import PlexDatabaseError

CHUNK_BYTES = 4 * 1024 * 1024
# Kept free beside what is about to be written: logs, journals and Plex itself need some air.
SPARE_BYTES = 64 * 1024 * 1024


class FileOperations:
    """The file operations of an installation. Every method is one step at which a crash may happen."""

    def make_directory(self, path: Path, mode: int = 0o700) -> None:
        path.mkdir(mode=mode, parents=True, exist_ok=True)

    def link(self, source: Path, target: Path) -> None:
        os.link(source, target)

    def copy(self, source: Path, target: Path) -> None:
        shutil.copyfile(source, target)
        self.sync_file(target)

    def replace(self, source: Path, target: Path) -> None:
        source.replace(target)

    def remove(self, path: Path) -> None:
        path.unlink()

    def set_owner(self, path: Path, uid: int, gid: int) -> None:
        os.chown(path, uid, gid)

    def set_mode(self, path: Path, mode: int) -> None:
        path.chmod(mode)

    def write_text(self, path: Path, text: str, mode: int = 0o600) -> None:
        """Write atomically: a temporary file beside it, fsync, rename, fsync of the folder."""
        temporary = path.with_name(f".{path.name}.new")
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            self.replace(temporary, path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        self.sync_directory(path.parent)

    def sync_file(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def sync_directory(self, path: Path) -> None:
        self.sync_file(path)


def make_folder(destination: Path) -> None:
    """Make the folder of a pair (0700). Folders that are missing above it get 0711, whatever the umask: who is given
    the pair, to carry it or to write it as Plex's user, must get through to it."""
    for folder in reversed([folder for folder in destination.absolute().parents if not folder.is_dir()]):
        folder.mkdir(exist_ok=True)
        folder.chmod(0o711)
    destination.mkdir(mode=0o700, exist_ok=True)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file as hexadecimal text, read in chunks."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def read_json_object(path: Path, what: str) -> dict[str, Any]:
    """The JSON object in a file.

    :raises PlexDatabaseError: the file is missing, cut short, or not a JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PlexDatabaseError(f"Expected {what} at {path}, but the file does not exist.") from None
    except (OSError, ValueError) as error:
        raise PlexDatabaseError(f"Expected {what} at {path}, but it cannot be read: {error}.") from error
    if not isinstance(value, dict):
        raise PlexDatabaseError(f"Expected {what} at {path} to be a JSON object, found {type(value).__name__}.")
    return value


def require_space(directory: Path, wanted: int, what: str) -> None:
    """Refuse when the file system of `directory` has less than `wanted` bytes (and some spare) free."""
    free = shutil.disk_usage(directory).free
    if free < wanted + SPARE_BYTES:
        raise PlexDatabaseError(
            f"{what} needs {megabytes(wanted + SPARE_BYTES)} in {directory}; found {megabytes(free)} free. "
            "free some space there, or choose a folder on a larger file system."
        )


def give_to(owner: str, *paths: Path) -> None:
    """Change the owner of files to a user and that user's group.

    :raises PlexDatabaseError: the user does not exist on this host.
    """
    try:
        entry = pwd.getpwnam(owner)
    except KeyError:
        raise PlexDatabaseError(f"There is no user {owner!r} on this host to own {paths[0]}.") from None
    for path in paths:
        os.chown(path, entry.pw_uid, entry.pw_gid)


def utc_now() -> str:
    """Return the current time as `2026-11-22T15:16:22Z`."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
