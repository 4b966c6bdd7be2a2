"""Exchange home's pair for another one so that a crash at any point leaves a complete old or a complete new pair.

Steps: hard-link the old pair into a backup (verified) · write a journal · rename blobs.db, then library.db, over the
old ones · remove the journal. blobs.db first: an old library.db beside a newer blobs.db starts and serves (some
vectors have no track yet), the other way
round would not. `recover` reads the journal after a crash and finishes or takes back; inode numbers tell which file is
which.
Preferences.xml is never touched.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .checks import check
from .errors import PlexDatabaseError
from .merge.plan import BLOBS_TABLES
from .merge.run import NOTHING, Merged, merge
from .pair import manifest as manifests
from .pair.files import FileOperations, read_json_object, require_space, sha256_of, utc_now
from .pair.pair import (
    BLOBS,
    LIBRARY,
    MANIFEST,
    NAMES,
    SIDE_SUFFIXES,
    holders,
    pending_side_files,
    remove_empty_side_files,
    require_closed,
    require_pair,
)
from .pair.reader import open_closed, open_live, rows
from .sqlite_pages import changed_rows

JOURNAL = ".plexburst-install.json"
SCHEMA = 1
# blobs.db first, see above.
SWAP_ORDER = (BLOBS, LIBRARY)
_BACKUP_NAME = re.compile(r"\d{8}T\d{6}Z-[A-Za-z0-9_.-]+")


@dataclass(frozen=True)
class Ownership:
    """Owner and permissions for the new files; None keeps what the old ones have."""

    uid: int | None = None
    gid: int | None = None
    mode: int | None = None


@dataclass(frozen=True)
class Installed:
    """What an installation did: `backup` is the folder that holds the old pair now, `merged` what home did until
    then."""

    changed: bool
    backup: str
    merged: Merged = NOTHING
    pruned: tuple[str, ...] = ()


@dataclass(frozen=True)
class Merging:
    """How home's part is merged into the pair to install, the last time with Plex stopped.

    :param base: folder of the closed pair that both sides descend from: the snapshot that went out, or the one of home
        that an earlier merge ended with, so that only the moments since then remain.
    :param sections: ids of the sections that were in the run; None: all.
    """

    base: Path
    sections: Sequence[int] | None = None
    plex_sqlite: Sequence[str] = ()
    conflicts_file: Path | None = None


def install(
    incoming: Path,
    databases: Path,
    backups: Path,
    run_id: str,
    *,
    keep: int = 3,
    merging: Merging | None = None,
    ownership: Ownership = Ownership(),
    dry_run: bool = False,
    operations: FileOperations | None = None,
) -> Installed:
    """Put the pair in `incoming` in the place of the one in `databases`. Plex must be stopped. Twice is once.

    :param incoming: a checked pair on the same file system as `databases`; its files are moved from there.
    :param merging: given, what home did since its base is merged in first; what cannot be merged refuses the
        installation.
    :param keep: backups to keep, the one made now included.
    :raises PlexDatabaseError: Plex runs, a pair is incomplete or not closed, home changed, or a file operation failed
        (the old pair is
        back in place then).
    """
    ops = operations or FileOperations()
    require_stopped(databases)
    if not dry_run:
        recover(databases, ops)
        _sweep(backups, databases, ops)
    before = _already_installed(backups, run_id)
    if before is not None and not any((incoming / name).exists() for name in NAMES):
        return Installed(False, str(before))
    require_closed(incoming)
    require_pair(databases)
    _require_no_pending(databases)
    _require_one_file_system(incoming, databases)
    _require_readable(incoming)
    if not dry_run:
        remove_empty_side_files(databases)
    merged = NOTHING if merging is None else _merge(databases, incoming, merging, dry_run, ops)
    backup = backups / f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{run_id}"
    if dry_run:
        return Installed(True, str(backup), merged)
    for name in NAMES:
        _match_ownership(incoming / name, databases / name, ownership, ops)
        ops.sync_file(incoming / name)
    _swap(incoming, databases, backup, {"run_id": run_id, "kind": "installation"}, ops)
    return Installed(True, str(backup), merged, prune(backups, keep, ops))


def _merge(databases: Path, incoming: Path, merging: Merging, dry_run: bool, ops: FileOperations) -> Merged:
    merged = merge(
        merging.base,
        databases,
        incoming,
        sections=merging.sections,
        plex_sqlite=merging.plex_sqlite,
        owner_like=databases / LIBRARY,
        conflicts_file=merging.conflicts_file,
        append=True,
        # Plex is down: what an earlier merge noted about its snapshot spares the comparison of every row.
        near=changed_rows.since(merging.base, databases),
        dry_run=dry_run,
    )
    manifest = incoming / MANIFEST
    if merged.drop and not dry_run and manifest.exists():
        _note_gone(manifest, incoming, merged, ops)
    return merged


def _note_gone(manifest: Path, incoming: Path, merged: Merged, ops: FileOperations) -> None:
    """What home deleted in the last moments is not to be missed by `verify`.

    How many rows went, and not what is left: to count that takes a large library a minute, and Plex is down.
    """
    described = manifests.load(manifest)
    with open_closed(incoming / LIBRARY) as library:
        described["sections"] = manifests.sections(library)
    described["gone_since"] = dict(merged.drop)
    ops.write_text(manifest, json.dumps(described, indent=1) + "\n")


def roll_back(
    databases: Path,
    backups: Path,
    run_id: str,
    *,
    name: str = "",
    dry_run: bool = False,
    operations: FileOperations | None = None,
) -> Installed:
    """Put a backup's pair back. The pair in place becomes a backup itself (with its -wal, if it was not closed):
    nothing is lost.

    :param name: the backup's folder name; empty: the newest that an installation made.
    :raises PlexDatabaseError: Plex runs, or there is no such backup, or it is incomplete.
    """
    ops = operations or FileOperations()
    require_stopped(databases)
    if not dry_run:
        recover(databases, ops)
        _sweep(backups, databases, ops)
    chosen = choose(backups, name)
    require_closed(chosen)
    _verify(chosen)
    replaced = backups / f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-replaced-{run_id}"
    if not dry_run:
        if not pending_side_files(databases):
            remove_empty_side_files(databases)
        _swap(chosen, databases, replaced, {"run_id": run_id, "kind": "rollback", "restored": chosen.name}, ops)
        ops.remove(chosen / MANIFEST)
        chosen.rmdir()
    return Installed(True, str(replaced))


def recover(databases: Path, operations: FileOperations | None = None) -> str:
    """Finish or take back a swap that a crash interrupted. Plex must be stopped.

    :returns: `clean` (there was none), `finished` (the new pair is in place), `rolled_back` (the old one is).
    :raises PlexDatabaseError: the journal cannot be read, or neither pair can be completed.
    """
    ops = operations or FileOperations()
    path = databases / JOURNAL
    if not path.exists():
        return "clean"
    journal = read_json_object(path, "the journal of an interrupted installation")
    incoming, backup = Path(journal["incoming"]), Path(journal["backup"])
    swapped = [name for name in SWAP_ORDER if _inode(databases / name) == journal["files"][name]["new_inode"]]
    if not swapped:
        outcome = "rolled_back"
    elif len(swapped) == len(NAMES):
        outcome = "finished"
    elif (
        _is_untouched(databases / LIBRARY, journal["files"][LIBRARY])
        and _inode(incoming / LIBRARY) == journal["files"][LIBRARY]["new_inode"]
    ):
        ops.replace(incoming / LIBRARY, databases / LIBRARY)
        outcome = "finished"
    else:
        # Plex has run on the old library.db since, or the new one is gone: what people did since then is worth more.
        for name in swapped:
            _put_back(backup / name, databases / name, ops)
        outcome = "rolled_back"
    if outcome == "rolled_back":
        _put_back_logs(backup, databases, journal["files"], ops)
    ops.sync_directory(databases)
    ops.remove(path)
    ops.sync_directory(databases)
    if outcome == "rolled_back":
        _discard(backup, ops)
    return outcome


def verify(databases: Path, installed: Mapping[str, Any]) -> None:
    """Refuse when the database of the running Plex holds less than the manifest of what was installed.

    What people did is left out: home's own watch state was carried in after the manifest was written. Where home
    deleted something after that, as many rows may be gone.

    :raises PlexDatabaseError: with everything that is missing.
    """
    gone = installed.get("gone_since", {})
    limits = check.Limits(
        items_gone=max(gone.get("metadata_items", 0), gone.get("media_parts", 0)), trashed_percent=0.0
    )
    with open_live(databases / LIBRARY) as library:
        found = manifests.describe(library)
    with open_live(databases / BLOBS) as blobs:
        vectors = manifests.sonic_blobs(blobs)
    report = check.Report()
    check.loss_check(found, {**installed, "watch": {}}, report, limits, trash_is_proven=bool(gone))
    expected = installed.get("sonic_blobs", 0) - gone.get(f"{BLOBS_TABLES}blobs", 0)
    if vectors < expected:
        report.refuse("sonic", f"Expected {expected} Sonic vectors in {BLOBS}, found {vectors}.")
    if report.problems:
        raise PlexDatabaseError(f"Home's database is not what was installed. {check.sentences(report.problems)}")


def require_stopped(databases: Path) -> None:
    """Refuse while anything has the pair open."""
    found = holders(databases)
    if found:
        raise PlexDatabaseError(
            f"Expected Plex to be stopped, but the database in {databases} is open in {', '.join(found)}: stop it "
            "first."
        )


def list_backups(backups: Path) -> list[Path]:
    """Complete backups, oldest first."""
    if not backups.is_dir():
        return []
    found = [path for path in backups.iterdir() if _BACKUP_NAME.fullmatch(path.name) and (path / MANIFEST).is_file()]
    return sorted(path for path in found if all((path / name).is_file() for name in NAMES))


def describe_backups(backups: Path) -> list[dict[str, str]]:
    """Return the complete backups, oldest first: name, path, time, run and kind (`installation` or `rollback`)."""
    found = []
    for path in list_backups(backups):
        manifest = read_json_object(path / MANIFEST, "the manifest of a backup")
        about = {key: str(manifest.get(key, "")) for key in ("created_at", "run_id", "kind")}
        found.append({"name": path.name, "path": str(path), **about})
    return found


def seal(backup: Path, *, dry_run: bool = False, operations: FileOperations | None = None) -> bool:
    """Add the SHA-256 of its files to a backup's manifest (slow for large pairs: done while Plex is up again).

    :returns: False when they were there already.
    """
    manifest = read_json_object(backup / MANIFEST, "the manifest of a backup")
    if all(manifest["files"][name]["sha256"] for name in NAMES):
        return False
    if not dry_run:
        for name in NAMES:
            manifest["files"][name]["sha256"] = sha256_of(backup / name)
        (operations or FileOperations()).write_text(backup / MANIFEST, json.dumps(manifest, indent=1) + "\n")
    return True


def prune(backups: Path, keep: int, operations: FileOperations) -> tuple[str, ...]:
    """Remove the oldest backups beyond `keep` (at least one stays); returns their names."""
    removed = []
    for path in list_backups(backups)[: -max(keep, 1)]:
        # The manifest first: a half-removed backup is no backup any more.
        for name in (MANIFEST, *NAMES):
            operations.remove(path / name)
        for extra in list(path.iterdir()):
            operations.remove(extra)
        path.rmdir()
        removed.append(path.name)
    return tuple(removed)


def _sweep(backups: Path, databases: Path, ops: FileOperations) -> None:
    """Remove what interrupted swaps left in the folder of the backups; there must be no journal.

    A folder without manifest or without one of the two files is half a backup. One that shares a file with the pair in
    place was made for a swap that did not come about: Plex writes into it.
    """
    if not backups.is_dir():
        return
    whole = set(list_backups(backups))
    for path in sorted(backups.iterdir()):
        if not path.is_dir() or not _BACKUP_NAME.fullmatch(path.name):
            continue
        if path not in whole or any(_is_same_file(path / name, databases / name) for name in NAMES):
            _discard(path, ops)


def _discard(backup: Path, ops: FileOperations) -> None:
    """Remove an invalid backup; its manifest first, so that it never looks valid."""
    if not backup.is_dir():
        return
    for path in sorted(backup.iterdir(), key=lambda path: path.name != MANIFEST):
        ops.remove(path)
    backup.rmdir()


def _swap(source: Path, databases: Path, backup: Path, about: Mapping[str, Any], ops: FileOperations) -> None:
    try:
        _back_up(databases, backup, about, ops)
        journal = {
            "schema": SCHEMA,
            "incoming": str(source.absolute()),
            "backup": str(backup.absolute()),
            "files": {name: {"new_inode": _inode(source / name), **_identity(databases / name)} for name in NAMES},
            **about,
        }
        ops.write_text(databases / JOURNAL, json.dumps(journal) + "\n")
        for name in NAMES:
            for suffix in SIDE_SUFFIXES:
                beside = databases / f"{name}{suffix}"
                if beside.exists():  # a rollback from an unclean stop: it went into the backup just now
                    ops.remove(beside)
        for name in SWAP_ORDER:
            ops.replace(source / name, databases / name)
        ops.sync_directory(databases)
        ops.sync_directory(source)
        ops.remove(databases / JOURNAL)
        ops.sync_directory(databases)
    except (OSError, PlexDatabaseError) as error:
        outcome = recover(databases)
        if outcome == "clean":
            _discard(backup, ops)  # it did not come to a swap
        if isinstance(error, PlexDatabaseError):
            raise
        words = "the new pair is in place nevertheless" if outcome == "finished" else "the old pair is in place"
        raise PlexDatabaseError(
            f"Swapping the pair in {databases} failed: {error}; {words}. Free space, check the disk, try again."
        ) from error


def _back_up(databases: Path, backup: Path, about: Mapping[str, Any], ops: FileOperations) -> None:
    """Hard links where possible (the renames that follow leave them alone), verified copies otherwise; the manifest "
    "makes it complete."""
    ops.make_directory(backup)
    files = [databases / name for name in NAMES]
    files += [path for path in pending_side_files(databases) if path not in files]
    described: dict[str, Any] = {}
    for path in files:
        target = backup / path.name
        try:
            ops.link(path, target)
        except OSError:
            # Another file system, or one without hard links.
            require_space(backup, path.stat().st_size, f"The backup of {path.name}")
            ops.copy(path, target)
            if sha256_of(path) != sha256_of(target):
                raise PlexDatabaseError(
                    f"The backup {target} is not what {path} is: the disk is unreliable. Nothing was changed."
                ) from None
        if target.stat().st_size != path.stat().st_size:
            raise PlexDatabaseError(f"The backup {target} is smaller than {path}. Nothing was changed.")
        described[path.name] = {"size": path.stat().st_size, "sha256": None}
    manifest = {"schema": SCHEMA, "created_at": utc_now(), "files": described, **about}
    ops.write_text(backup / MANIFEST, json.dumps(manifest, indent=1) + "\n")
    ops.sync_directory(backup.parent)


def _put_back_logs(backup: Path, databases: Path, files: Mapping[str, Any], ops: FileOperations) -> None:
    """A -wal that was not empty belongs to the database it lay beside: it went into the backup before the swap."""
    for name in NAMES:
        for suffix in SIDE_SUFFIXES:
            saved, place = backup / f"{name}{suffix}", databases / f"{name}{suffix}"
            if saved.exists() and not place.exists() and _is_as_it_was(databases / name, files[name]):
                _put_back(saved, place, ops)


def _put_back(saved: Path, place: Path, ops: FileOperations) -> None:
    """A backup's file under its old name again, the backup staying whole (a copy, for Plex writes in place)."""
    temporary = place.with_name(f".{place.name}.restored")
    temporary.unlink(missing_ok=True)
    status = saved.stat()
    ops.copy(saved, temporary)
    ops.set_owner(temporary, status.st_uid, status.st_gid)
    ops.set_mode(temporary, status.st_mode & 0o7777)
    os.utime(temporary, ns=(status.st_atime_ns, status.st_mtime_ns))
    ops.replace(temporary, place)


def _match_ownership(path: Path, old: Path, wanted: Ownership, ops: FileOperations) -> None:
    status = old.stat()
    uid = status.st_uid if wanted.uid is None else wanted.uid
    gid = status.st_gid if wanted.gid is None else wanted.gid
    mode = status.st_mode & 0o7777 if wanted.mode is None else wanted.mode
    current = path.stat()
    if (current.st_uid, current.st_gid) != (uid, gid):
        ops.set_owner(path, uid, gid)
    if current.st_mode & 0o7777 != mode:
        ops.set_mode(path, mode)


def _require_no_pending(databases: Path) -> None:
    pending = pending_side_files(databases)
    if pending:
        names = ", ".join(f"{path.name} ({path.stat().st_size} bytes)" for path in pending)
        raise PlexDatabaseError(
            f"Expected home's database in {databases} to be closed cleanly, found {names}: what it holds would be "
            "lost. "
            "Start Plex and stop it gracefully, then install again."
        )


def _require_one_file_system(incoming: Path, databases: Path) -> None:
    if incoming.stat().st_dev != databases.stat().st_dev:
        raise PlexDatabaseError(
            f"{incoming} and {databases} are on different file systems, so the swap could not be atomic: "
            "put the work folder on the file system of Plex's databases."
        )


def _require_readable(directory: Path) -> None:
    for name in NAMES:
        with open_closed(directory / name) as connection:
            rows(connection, "SELECT version FROM schema_migrations LIMIT 1")


def _already_installed(backups: Path, run_id: str) -> Path | None:
    for path in reversed(list_backups(backups)):
        manifest = read_json_object(path / MANIFEST, "the manifest of a backup")
        if manifest.get("run_id") == run_id and manifest.get("kind") == "installation":
            return path
    return None


def choose(backups: Path, name: str) -> Path:
    """The backup of that name, or the newest that an installation made."""
    available = list_backups(backups)
    if name:
        for path in available:
            if path.name == Path(name).name:
                return path
    else:
        for path in reversed(available):
            if read_json_object(path / MANIFEST, "the manifest of a backup").get("kind") == "installation":
                return path
    names = ", ".join(path.name for path in available) or "none"
    raise PlexDatabaseError(
        f"There is no backup {name or 'made by an installation'} in {backups} to go back to; there are: {names}."
    )


def _verify(backup: Path) -> None:
    manifest = read_json_object(backup / MANIFEST, "the manifest of a backup")
    for name in NAMES:
        expected = manifest["files"][name]
        size = (backup / name).stat().st_size
        if size != expected["size"]:
            raise PlexDatabaseError(
                f"The backup {backup / name} is damaged: expected {expected['size']} bytes, found {size}. Choose "
                "another one."
            )
        if expected["sha256"] and sha256_of(backup / name) != expected["sha256"]:
            raise PlexDatabaseError(
                f"The backup {backup / name} is damaged: its SHA-256 differs from its manifest. Choose another one."
            )


def _is_same_file(one: Path, other: Path) -> bool:
    """Two names of one file; numbers of another file system do not mislead, and neither do those without a link."""
    if not (one.exists() and other.exists()):
        return False
    return one.samefile(other) and one.stat().st_nlink > 1


def _inode(path: Path) -> int:
    return path.stat().st_ino if path.exists() else 0


def _identity(path: Path) -> dict[str, int]:
    status = path.stat()
    return {"old_inode": status.st_ino, "size": status.st_size, "mtime_ns": status.st_mtime_ns}


def _is_untouched(path: Path, known: Mapping[str, int]) -> bool:
    return not pending_side_files(path.parent) and _inode(path) == known["old_inode"] and _is_as_it_was(path, known)


def _is_as_it_was(path: Path, known: Mapping[str, int]) -> bool:
    """Whether it is the file that the journal speaks of, or a copy that was put back, with nothing written into it."""
    return path.exists() and all(_identity(path)[key] == known[key] for key in ("size", "mtime_ns"))
