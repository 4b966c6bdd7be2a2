"""The record at home: which window, of which run, at which step; and how it ended.

Folder HOME_WORK_DIR/home-job (0700): record.json (the state), journal.jsonl (every step), spec.json, lock (held for as
long as the job lives), job.log, code (gone when it has ended).
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

from ..plex_db.files import FileOperations, make_folder, read_json_object, utc_now

FOLDER = "home-job"
RECORD, JOURNAL, SPEC, LOCK, LOG, CODE = "record.json", "journal.jsonl", "spec.json", "lock", "job.log", "code"
SCHEMA = 1
RUNNING, ENDED = "running", "ended"


class Record:
    """What lies in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def exists(self) -> bool:
        """Whether there is a record."""
        return (self.folder / RECORD).exists()

    def read(self) -> dict[str, Any]:
        """The state.

        :raises PlexDatabaseError: it cannot be read.
        """
        return read_json_object(self.folder / RECORD, "the record of what is done to home's Plex")

    def spec(self) -> dict[str, Any]:
        """What the job was told."""
        return read_json_object(self.folder / SPEC, "the order of what is done to home's Plex")

    def begin(self, spec: dict[str, Any], about: dict[str, Any]) -> None:
        """Make the folder and write down what is about to be done."""
        make_folder(self.folder)
        for name in (JOURNAL, LOG):
            (self.folder / name).unlink(missing_ok=True)
        self.write_spec(spec)
        first = {"schema": SCHEMA, "state": RUNNING, "step": "begin", "step_at": utc_now(), "started_at": utc_now()}
        self._write(RECORD, {**first, **about})

    def write_spec(self, spec: dict[str, Any]) -> None:
        """Write down what the job is told."""
        self._write(SPEC, spec)

    def update(self, **values: Any) -> None:
        """Change the state."""
        self._write(RECORD, {**self.read(), **values})

    def step(self, name: str) -> None:
        """A step begins."""
        now = utc_now()
        self.update(step=name, step_at=now)
        with (self.folder / JOURNAL).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"at": now, "step": name, "pid": os.getpid()}) + "\n")

    def remove(self) -> None:
        """Forget it; the record last, so that it is there for as long as anything else is."""
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
        """Hold the folder's lock, which a job inherits by the descriptor that this yields.

        :raises BlockingIOError: a job lives.
        """
        make_folder(self.folder)
        descriptor = os.open(self.folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield descriptor
        finally:
            os.close(descriptor)

    def alive(self) -> bool:
        """Whether a job works on it now."""
        if not self.folder.is_dir():
            return False
        with suppress(BlockingIOError), self.lock():
            return False
        return True
