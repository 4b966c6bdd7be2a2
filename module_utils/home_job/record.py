"""The record of a job at home: its kind, run, step and result.

Folder HOME_WORK_DIR/home-job (0700): record.json (the state), journal.jsonl (every step), spec.json, lock (held while
the job runs), job.log, code (removed at the end).
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..plex_db.pair.files import FileOperations, make_folder, read_json_object, utc_now

FOLDER = "home-job"
RECORD, JOURNAL, SPEC, LOCK, LOG, CODE = "record.json", "journal.jsonl", "spec.json", "lock", "job.log", "code"
SCHEMA = 1
RUNNING, ENDED = "running", "ended"


class Record:
    """The record in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def exists(self) -> bool:
        """Return whether there is a record."""
        return (self.folder / RECORD).exists()

    def read(self) -> dict[str, Any]:
        """Return the state.

        :raises PlexDatabaseError: it cannot be read.
        """
        return read_json_object(self.folder / RECORD, "the record of the job at home")

    def spec(self) -> dict[str, Any]:
        """Return the specification of the job."""
        return read_json_object(self.folder / SPEC, "the specification of the job at home")

    def begin(self, spec: dict[str, Any], about: dict[str, Any]) -> None:
        """Create the folder and record the new job."""
        make_folder(self.folder)
        for name in (JOURNAL, LOG):
            (self.folder / name).unlink(missing_ok=True)
        self.write_spec(spec)
        first = {"schema": SCHEMA, "state": RUNNING, "step": "begin", "step_at": utc_now(), "started_at": utc_now()}
        self._write(RECORD, {**first, **about})

    def write_spec(self, spec: dict[str, Any]) -> None:
        """Write the specification of the job."""
        self._write(SPEC, spec)

    def update(self, **values: Any) -> None:
        """Change the state."""
        self._write(RECORD, {**self.read(), **values})

    def step(self, name: str) -> None:
        """Record the begin of a step."""
        now = utc_now()
        self.update(step=name, step_at=now)
        with (self.folder / JOURNAL).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"at": now, "step": name, "pid": os.getpid()}) + "\n")

    def remove(self) -> None:
        """Remove the folder; the record last, so that it exists while any other file does."""
        if not self.folder.is_dir():
            return
        for path in self.folder.iterdir():
            if path.name not in (RECORD, LOCK):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        for name in (RECORD, LOCK):
            (self.folder / name).unlink(missing_ok=True)
        self.folder.rmdir()

    def _write(self, name: str, value: dict[str, Any]) -> None:
        FileOperations().write_text(self.folder / name, json.dumps(value, indent=1) + "\n")

    @contextmanager
    def lock(self) -> Iterator[int]:
        """Hold the folder's lock; yields its descriptor, which a job inherits.

        :raises BlockingIOError: a job is running.
        """
        make_folder(self.folder)
        descriptor = os.open(self.folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield descriptor
        finally:
            os.close(descriptor)

    def alive(self) -> bool:
        """Return whether the job is running."""
        if not self.folder.is_dir():
            return False
        with suppress(BlockingIOError), self.lock():
            return False
        return True
