"""The job: stop Plex, swap the pair, start Plex and verify; revert the swap after a failure.

The leader process only waits; a child does the work. If the child is killed or exceeds its time limit, another child
recovers: it finishes the job when the new pair is in place, and reverts it otherwise. So Plex is always started. If the
leader is killed too, the next playbook starts `settle`.
"""

from __future__ import annotations

import json
import mmap
import os
import shutil
import signal
import struct
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..plex_db import install
from ..plex_db.pair import manifest as manifests
from ..plex_db.pair.files import FileOperations
from ..plex_db.pair.pair import MANIFEST, NAMES
from .record import CODE, ENDED, Record
from .server import START_SECONDS, HomeJobError, Server, as_error

INSTALLATION, ROLLBACK = "installation", "rollback"
WINDOW, SETTLE = "window", "settle"
SETTLE_TRIES = 2
TICK = 0.1
SPARE_SECONDS = 60.0
VERIFY_SECONDS = 600.0


class Job:
    """One job, identified by the folder of its record."""

    def __init__(self, folder: Path, operations: FileOperations | None = None) -> None:
        self.record = Record(folder)
        self.spec = self.record.spec()
        self.operations = operations or FileOperations()
        self.databases, self.backups = Path(self.spec["databases_dir"]), Path(self.spec["backups_dir"])
        self.server = Server(
            self.spec["commands"], self.spec["urls"], Path(self.spec["preferences"]), self.databases, self.spec["poll"]
        )
        # Deadline of the child's step; shared memory, because the disk may be full.
        self._deadline = mmap.mmap(-1, 8)
        self._reason = ""
        self._stop_failed = False
        self._serves, self._served_at = False, 0.0

    def lead(self, begin: str) -> int:
        """Run the job in children; returns the exit code.

        :param begin: `window` for a new job, or `settle` for an interrupted one.
        """
        attempts = [self.window] if begin == WINDOW else []
        for attempt in [*attempts, *[self.settle] * SETTLE_TRIES, self.give_up]:
            if self._child(attempt):
                return 0
            time.sleep(1.0)
        return 1

    def _child(self, work: Callable[[], None]) -> bool:
        self._allow(SPARE_SECONDS)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.setpgid(0, 0)
                self._guarded(work)
                code = 0
            except BaseException:  # noqa: BLE001 - a child must not continue as its leader
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        while True:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return status == 0
            if time.monotonic() > struct.unpack("d", self._deadline[:])[0]:
                print("A step exceeded its time limit; its process is killed.", file=sys.stderr, flush=True)
                for kill in (os.killpg, os.kill):
                    with suppress(OSError):
                        kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                return False
            time.sleep(TICK)

    def _guarded(self, work: Callable[[], None]) -> None:
        """Run WORK; record a failure and recover from it in this process."""
        try:
            work()
        except Exception as error:  # noqa: BLE001 - Plex must be started after any error
            traceback.print_exc()
            self._failed(as_error(error))
            self.settle()

    def window(self) -> None:
        """Run the whole job, from a running Plex."""
        source = self._source()
        urls = self.server.choose_url() if self.server.running() else self.spec["urls"]
        # Raises on a full disk, so that Plex is not stopped without a record.
        self.record.update(
            urls=urls,
            source=str(source),
            backups_before=[path.name for path in install.list_backups(self.backups)],
            stopped_at=time.time(),
            step="stop",
        )
        self.server.watch(urls)
        self._stop()
        self._step("swap", self.spec["swap_seconds"])
        if self.spec["what"] == INSTALLATION:
            done = install.install(
                source,
                self.databases,
                self.backups,
                self.spec["run_id"],
                keep=self.spec["keep"],
                merging=self._merging(),
                operations=self.operations,
            )
        else:
            done = install.roll_back(
                self.databases, self.backups, self.spec["run_id"], name=source.name, operations=self.operations
            )
        self._note(
            swapped={"backup": done.backup, "kept": done.merged.kept, "conflicts": done.merged.conflicts},
        )
        self._forward(done.backup, {"kept": done.merged.kept, "conflicts": done.merged.conflicts})

    def settle(self) -> None:
        """Finish or revert the job from any step. Can be repeated at any time."""
        record = self.record.read()
        self.server.watch(record.get("urls", self.spec["urls"]))
        self._reason = self._reason or str(record.get("reason", ""))
        interrupted = (self.databases / install.JOURNAL).exists()
        # A requested stop may still be running, and the pair can only be repaired while Plex is stopped.
        if interrupted or (record["step"] == "stop" and not self._stop_failed):
            try:
                self._stop()
            except HomeJobError as error:
                self._failed(as_error(error))
        try:
            if interrupted:
                self._step("recover", self.spec["swap_seconds"])
                install.require_stopped(self.databases)
                install.recover(self.databases, self.operations)
            made = self._made(record)
        except Exception:
            self._serve_anyway()
            raise
        if made is None:
            self._reason = self._reason or f"it was interrupted (last step: {record['step']})"
        if self.spec["what"] == ROLLBACK:
            self._settle_rollback(made)
        elif made is not None and not record.get("backward"):
            try:
                self._forward(str(made), record.get("swapped", {}))
            except Exception as error:  # noqa: BLE001 - the old pair is restored after any error
                traceback.print_exc()
                self._failed(as_error(error))
                self._backward(made)
        else:
            self._backward(made)

    def give_up(self) -> None:
        """Start Plex on the current pair after all attempts have failed, and record the failure."""
        self._reason = (
            self._reason or str(self.record.read().get("reason", "")) or "all attempts to recover the job failed"
        )
        self._serve_anyway()
        self._end(False, "")

    def _stop(self) -> None:
        self._step("stop", self.spec["stop_seconds"])
        try:
            self.server.stop()
        except HomeJobError:
            self._stop_failed = True
            raise
        self._stop_failed = False

    def _forward(self, backup: str, counted: dict[str, Any]) -> None:
        """Start Plex on the new pair and verify it. From here on, a failure reverts the swap."""
        try:
            self._serve()
            manifest = Path(self.record.read()["source"]) / MANIFEST
            if self.spec["what"] == INSTALLATION and manifest.exists():
                self._step("verify", VERIFY_SECONDS)
                install.verify(self.databases, manifests.load(manifest))
        except Exception:
            self._note(backward=True)
            raise
        self._end(True, backup, counted)

    def _settle_rollback(self, made: Path | None) -> None:
        """Finish a rollback. It is not reverted, because its user wanted to replace the former pair."""
        if made is not None:
            self._reason = ""
        self._serve_anyway()
        self._end(made is not None and self._serves, str(made or ""))

    def _backward(self, made: Path | None) -> None:
        """Restore the old pair if the new one is in place; start Plex in any case."""
        self._note(backward=True)
        try:
            if self.spec["base_dir"]:
                # Free space first: restoring the pair writes little, but fails on a full disk.
                shutil.rmtree(self.spec["base_dir"], ignore_errors=True)
            if made is not None:
                self._stop()
                self._step("undo", self.spec["swap_seconds"])
                install.roll_back(self.databases, self.backups, self.spec["run_id"], name=made.name)
        finally:
            self._serve_anyway()
        self._end(False, "")

    def _serve(self, patience: float = START_SECONDS) -> None:
        # A Plex that did not end in time may still end.
        steady = float(self.spec["steady_seconds"]) if self._stop_failed else 0.0
        limit = float(self.spec["ready_seconds"])
        self._step("start", patience + START_SECONDS + limit + steady)
        self.server.serve(limit, steady, patience)
        self._serves, self._served_at = True, time.time()

    def _serve_anyway(self) -> None:
        """Start Plex on the current pair; a Plex that does not become ready is part of the result."""
        self._serves = False
        try:
            self._serve(max(START_SECONDS, float(self.spec["ready_seconds"])))
        except HomeJobError as error:
            self._failed("", f"Plex then did not become ready: {as_error(error)}")

    def _end(self, done: bool, backup: str, counted: dict[str, Any] | None = None) -> None:
        since = float(self.record.read().get("stopped_at", 0.0))
        watched = counted or {}
        installed = done and self.spec["what"] == INSTALLATION
        self.record.update(
            state=ENDED,
            step="end",
            result={
                "done": done,
                "installed": installed,
                "serves": self._serves,
                "backup": backup,
                "down_seconds": round(max(self._served_at - since, 0.0), 1) if since else 0.0,
                # null if the process that counted them was killed.
                "watch_state": {name: watched.get(name) if installed else 0 for name in ("kept", "conflicts")},
                "version": self.server.version,
                "reason": "" if done else self._reason,
            },
        )

    def _source(self) -> Path:
        if self.spec["what"] == INSTALLATION:
            return Path(self.spec["incoming"])
        return install.choose(self.backups, self.spec["backup"])

    def _merging(self) -> install.Merging | None:
        if not self.spec["base_dir"]:
            return None
        conflicts = self.spec["conflicts_file"]
        return install.Merging(
            Path(self.spec["base_dir"]),
            self.spec["section_ids"],
            self.spec["plex_sqlite"],
            Path(conflicts) if conflicts else None,
        )

    def _made(self, record: dict[str, Any]) -> Path | None:
        """Return the backup of the old pair if the new pair is in place, that is, moved out of its source folder."""
        source = record.get("source")
        if not source or any((Path(source) / name).exists() for name in NAMES):
            return None
        for path in reversed(install.list_backups(self.backups)):
            about = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
            mine = about.get("run_id") == self.spec["run_id"] and about.get("kind") == self.spec["what"]
            # A backup whose file is still the current one belongs to a swap that did not happen.
            linked = any((path / name).samefile(self.databases / name) for name in NAMES)
            if mine and not linked and path.name not in record.get("backups_before", []):
                return path
        return None

    def _step(self, name: str, seconds: float) -> None:
        self._allow(float(seconds) + SPARE_SECONDS)
        self._try(lambda: self.record.step(name))

    def _note(self, **values: Any) -> None:
        self._try(lambda: self.record.update(**values))

    def _failed(self, reason: str, more: str = "") -> None:
        self._reason = " ".join(filter(None, [self._reason or reason, more]))
        self._note(reason=self._reason)

    @staticmethod
    def _try(write: Callable[[], None]) -> None:
        """Write the record. While Plex is stopped, a full disk must not end the job; job.log has the error."""
        try:
            write()
        except Exception:  # noqa: BLE001 - see above
            traceback.print_exc()

    def _allow(self, seconds: float) -> None:
        self._deadline[:] = struct.pack("d", time.monotonic() + seconds)


def main(folder: Path, begin: str) -> int:
    """Run the job and clean up; entry point of the process that `launch` starts."""
    # The end of a session and a shutdown send a signal some time before they kill. A handler, not SIG_IGN, because Plex
    # and every command would inherit SIG_IGN.
    for name in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: None)
    job = Job(folder)
    try:
        return job.lead(begin)
    finally:
        shutil.rmtree(folder / CODE, ignore_errors=True)
