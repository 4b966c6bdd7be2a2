# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""The run folder: where a run writes down what it does.

runs/.lock              one run at a time: JSON with pid, run id, host name, start
runs/latest             link to the newest run
runs/<run id>/          0700; every file in it 0600
    events.jsonl        phases, failures, one JSON object per line
    state.json          what the playbooks recorded: plan, sections, sonic, cost, cloud, home
    summary.json, report.html, samples.jsonl, logs/, snapshots/
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

RUN_ID = re.compile(r"^\d{8}-\d{6}-[0-9a-f]{4}$")
LOCK = ".lock"


class RunFolderError(Exception):
    """A sentence for the person who must act."""


def utc_now() -> str:
    """The time as in ``2026-11-22T07:15:00.123Z``."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def new_run_id() -> str:
    """``YYYYMMDD-HHMMSS-abcd``, UTC."""
    return f"{datetime.now(timezone.utc):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def run_group(run_id: str) -> str:
    """The inventory group of a run's indexer."""
    return "plexburst_run_" + run_id.replace("-", "_")


def write_private(path: Path, text: str) -> None:
    """Write the whole file at once, mode 0600, so that a reader never sees half of it."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@dataclass(frozen=True)
class RunFolder:
    """One run's folder."""

    path: Path

    @property
    def run_id(self) -> str:
        """The run's id: the folder's name, or what was written down for a temporary one."""
        return str(self.state().get("run_id", self.path.name))

    @classmethod
    def create(cls, runs_dir: Path, run_id: str) -> RunFolder:
        """Make ``runs_dir/run_id`` (0700) with its sub-folders and point ``latest`` at it.

        Raises RunFolderError when it is there already or cannot be made.
        """
        check_run_id(run_id)
        path = runs_dir / run_id
        try:
            runs_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.mkdir(mode=0o700)
        except FileExistsError as error:
            raise RunFolderError(f"{path} exists already: a run id is used once.") from error
        except OSError as error:
            raise RunFolderError(
                f"The run folder {path} cannot be made: {error.strerror}. Look at plexburst_runs_dir."
            ) from error
        folder = cls(path)
        folder._furnish(run_id)
        link = runs_dir / f".latest.{run_id}"
        link.symlink_to(run_id)
        link.replace(runs_dir / "latest")
        return folder

    @classmethod
    def create_temporary(cls, run_id: str) -> RunFolder:
        """A folder that is removed at the end, for check mode."""
        folder = cls(Path(tempfile.mkdtemp(prefix="plexburst-check-")))
        folder._furnish(run_id)
        return folder

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """The folder of a run that exists; raises RunFolderError when it is not a run folder."""
        if not (path / "state.json").is_file():
            raise RunFolderError(f"{path} is not a run folder: it has no state.json.")
        return cls(path)

    def _furnish(self, run_id: str) -> None:
        for name in ("logs", "snapshots"):
            (self.path / name).mkdir(mode=0o700)
        write_private(self.path / "state.json", json.dumps({"run_id": run_id}) + "\n")

    def keep_private(self) -> None:
        """Give every file in it 0600 and every folder 0700: Ansible's `fetch` leaves them as the umask has it."""
        for folder, folders, files in os.walk(self.path):
            for names, mode in ((folders, 0o700), (files, 0o600)):
                for name in names:
                    path = Path(folder, name)
                    if not path.is_symlink():
                        path.chmod(mode)

    def append_event(self, event: str, **fields: Any) -> None:
        """Add one line to events.jsonl; lines of several processes never mix."""
        line = json.dumps({"at": utc_now(), "event": event, **fields}, ensure_ascii=False) + "\n"
        self.append_line("events.jsonl", line)

    def append_line(self, name: str, text: str) -> None:
        """Append text to a file of the folder, made with mode 0600, in one write."""
        handle = os.open(self.path / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(handle, text.encode("utf-8", errors="replace"))
        finally:
            os.close(handle)

    def events(self) -> list[dict[str, Any]]:
        """All events in the order in which they were written; a torn last line is an error."""
        path = self.path / "events.jsonl"
        if not path.exists():
            return []
        events: list[dict[str, Any]] = []
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            try:
                events.append(json.loads(line))
            except ValueError as error:
                raise RunFolderError(f"{path} line {number} is not a JSON object.") from error
        return events

    def state(self) -> dict[str, Any]:
        """What was recorded so far."""
        path = self.path / "state.json"
        try:
            loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunFolderError(f"{path} cannot be read: {error}.") from error
        return loaded

    def record(self, key: str, value: Any, *, replace: bool = False) -> bool:
        """Merge ``value`` into the state under ``key`` (see `merged`); True when that changed anything."""
        with self._locked():
            state = self.state()
            before = json.dumps(state, sort_keys=True)
            state[key] = value if replace or key not in state else merged(state[key], value, key)
            if json.dumps(state, sort_keys=True) == before:
                return False
            write_private(self.path / "state.json", json.dumps(state, indent=1, ensure_ascii=False) + "\n")
        return True

    @contextmanager
    def _locked(self) -> Iterator[None]:
        handle = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


_UNIONS = frozenset({"created", "deleted"})
"""Lists of the cloud's resources that only grow: what was created stays created."""


def merged(old: Any, new: Any, key: str = "") -> Any:
    """``new`` laid over ``old``: dicts key by key, sections by their id, created and deleted as unions; all else is
    replaced.
    """
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        result = dict(old)
        for name, value in new.items():
            result[name] = merged(old[name], value, str(name)) if name in old else value
        return result
    if isinstance(old, list) and isinstance(new, list):
        if key in _UNIONS:
            return [*old, *(entry for entry in new if entry not in old)]
        if key == "sections":
            return _merged_sections(old, new)
    return new


def _merged_sections(old: list[Any], new: list[Any]) -> list[Any]:
    by_id = {entry["id"]: dict(entry) for entry in old}
    for entry in new:
        by_id[entry["id"]] = {**by_id.get(entry["id"], {}), **entry}
    return list(by_id.values())


def check_run_id(run_id: str) -> None:
    """Raise RunFolderError unless it has the form of a run id."""
    if not RUN_ID.match(run_id):
        raise RunFolderError(f"{run_id!r} is not a valid run id; expected the form 20261122-071500-ab12.")


def acquire_lock(runs_dir: Path, run_id: str, pid: int) -> None:
    """Take the lock of ``runs_dir`` for the process ``pid``; one run at a time.

    A lock whose process is gone (or whose pid belongs to another process by now) is stale and taken over. Raises
    RunFolderError when another run is alive, or when the lock was taken on another machine.
    """
    try:
        runs_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(runs_dir / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise RunFolderError(
            f"{runs_dir} cannot be used for run folders: {error.strerror}. Look at plexburst_runs_dir."
        ) from error
    with os.fdopen(handle, "r+", encoding="utf-8") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        holder = _holder(stream.read())
        if holder and holder.get("run_id") != run_id:
            _refuse_if_alive(holder, runs_dir)
        stream.seek(0)
        stream.truncate()
        json.dump(
            {"pid": pid, "born": _born(pid), "run_id": run_id, "host": socket.gethostname(), "started_at": utc_now()},
            stream,
        )


def living_run(runs_dir: Path) -> str:
    """The id of the run that holds the lock of ``runs_dir`` and is going on, as far as can be seen; else empty."""
    try:
        holder = _holder((runs_dir / LOCK).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return ""
    if not holder:
        return ""
    try:
        _refuse_if_alive(holder, runs_dir)
    except RunFolderError:
        return str(holder["run_id"])
    return ""


def run_folders(runs_dir: Path) -> list[RunFolder]:
    """Return all run folders of ``runs_dir``, oldest first; empty if the folder does not exist."""
    if not runs_dir.is_dir():
        return []
    paths = sorted(path for path in runs_dir.iterdir() if RUN_ID.match(path.name) and not path.is_symlink())
    return [RunFolder(path) for path in paths if (path / "state.json").is_file()]


def recorded(runs_dir: Path) -> dict[str, str]:
    """Return the resources that runs recorded as created and not as deleted: run id by name, as ``volume/<id>``.

    Raises RunFolderError when a record cannot be read.
    """
    made: dict[str, str] = {}
    for folder in run_folders(runs_dir):
        cloud = folder.state().get("cloud", {})
        gone = set(cloud.get("deleted", []))
        made.update({name: folder.path.name for name in cloud.get("created", []) if name not in gone})
    return made


def release_lock(runs_dir: Path, run_id: str) -> bool:
    """Give the lock back; False when this run does not hold it (any more)."""
    path = runs_dir / LOCK
    if not path.exists():
        return False
    with path.open("r+", encoding="utf-8") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        if (_holder(stream.read()) or {}).get("run_id") != run_id:
            return False
        # Emptied, not removed: a process that waits for the flock must not get a file that no other sees.
        stream.seek(0)
        stream.truncate()
    return True


def _holder(text: str) -> dict[str, Any] | None:
    if not text.strip():
        return None
    try:
        holder: dict[str, Any] = json.loads(text)
    except ValueError:
        # Torn by a crash in the middle of the write: no process holds it.
        return None
    return holder


def _refuse_if_alive(holder: Mapping[str, Any], runs_dir: Path) -> None:
    pid = int(holder["pid"])
    if holder["host"] != socket.gethostname():
        raise RunFolderError(
            f"Another run, {holder['run_id']}, was started on {holder['host']} at {holder['started_at']} with "
            "the same runs folder. "
            f"If it is over, delete {runs_dir / LOCK}."
        )
    if _alive(pid) and _born(pid) == holder["born"]:
        raise RunFolderError(
            f"Another run, {holder['run_id']}, is going on since {holder['started_at']} (process {pid}). Wait "
            "until it ends, or end it."
        )


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _born(pid: int) -> str:
    """When the process began, in clock ticks since boot (Linux); empty where /proc does not tell."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return text.rpartition(")")[2].split()[19]
