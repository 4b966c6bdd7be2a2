"""The butler: the server's maintenance tasks, Sonic analysis among them (docs/plex-facts.md#butler,
#sonic-analysis)."""

from __future__ import annotations

import json
import queue
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import apsw

from sandbox.plex import children, items
from sandbox.plex import database as db
from sandbox.plex.activities import Activity, ScanJob
from sandbox.plex.children import Child, ChildError

if TYPE_CHECKING:
    from sandbox.plex.runtime import Runtime

BUTLER_TASKS: Mapping[str, tuple[str, int]] = {
    "AutomaticUpdates": ("", 1),
    "BackupDatabase": ("ButlerTaskBackupDatabase", 3),
    "ButlerTaskGenerateAdMarkers": ("", 1),
    "ButlerTaskGenerateCreditsMarkers": ("", 1),
    "ButlerTaskGenerateIntroMarkers": ("", 1),
    "ButlerTaskGenerateVoiceActivity": ("", 1),
    "CleanOldBundles": ("ButlerTaskCleanOldBundles", 7),
    "CleanOldCacheFiles": ("ButlerTaskCleanOldCacheFiles", 7),
    "DeepMediaAnalysis": ("ButlerTaskDeepMediaAnalysis", 1),
    "GarbageCollectBlobs": ("ButlerTaskGarbageCollectBlobs", 7),
    "GarbageCollectLibraryMedia": ("", 7),
    "GenerateBlurHashes": ("", 1),
    "GenerateChapterThumbs": ("", 1),
    "GenerateMediaIndexFiles": ("ButlerTaskGenerateMediaIndexFiles", 1),
    "LoudnessAnalysis": ("", 1),
    "MusicAnalysis": ("", 1),
    "OptimizeDatabase": ("ButlerTaskOptimizeDatabase", 7),
    "RefreshEpgGuides": ("ButlerTaskRefreshEpgGuides", 1),
    "RefreshLibraries": ("ButlerTaskRefreshLibraries", 1),
    "RefreshLocalMedia": ("ButlerTaskRefreshLocalMedia", 3),
    "RefreshPeriodicMetadata": ("ButlerTaskRefreshPeriodicMetadata", 3),
    "UpgradeMediaAnalysis": ("ButlerTaskUpgradeMediaAnalysis", 1),
}
"""Task → (its preference, interval in days)."""


class Butler:
    """The maintenance tasks, Sonic analysis among them (docs/plex-facts.md#butler, #sonic-analysis)."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._guard = threading.Lock()
        self._running: dict[str, threading.Event] = {}
        self._due: dict[str, float] = {}
        self._failed_file = runtime.support / "Cache" / "sonic-failed.json"

    def running(self, name: str) -> bool:
        """Whether a task runs."""
        with self._guard:
            return name in self._running

    def start(self, name: str) -> bool:
        """Start a task; False when it runs already."""
        with self._guard:
            if name in self._running:
                return False
            stop = self._running[name] = threading.Event()
        self._runtime.spawn(lambda: self._run(name, stop), f"butler {name}")
        return True

    def look_at_the_clock(self) -> None:
        """The fault ``butler_due``: {task: seconds}. Its time has come, and it takes so long.

        As the schedule does it in the small hours: nobody asked, and the preferences that keep tasks quiet do not reach
        it (many tasks have none).
        """
        due = self._runtime.faults.take_value("butler_due")
        for name, seconds in (due or {}).items():
            self._due[name] = float(seconds)
            self.start(name)

    def stop(self, name: str) -> bool:
        """Stop a task; False when it does not run."""
        with self._guard:
            found = self._running.get(name)
        if found is not None:
            found.set()
        return found is not None

    def stop_all(self) -> None:
        """Stop every task."""
        with self._guard:
            for event in self._running.values():
                event.set()

    def enabled(self, name: str) -> bool:
        """Whether the schedule would run it."""
        preference = BUTLER_TASKS[name][0]
        if name == "MusicAnalysis":
            return self._runtime.plex_pass and self._runtime.preferences.setting("MusicAnalysisBehavior") != "never"
        return self._runtime.preferences.on(preference) if preference else True

    def _run(self, name: str, stop: threading.Event) -> None:
        runtime = self._runtime
        activity = runtime.add_activity(Activity("butler", name, cancellable=True, cancel=stop.set))
        runtime.log.write("INFO", f"Butler: {name} started.")
        try:
            if (seconds := self._due.pop(name, 0.0)) > 0:
                runtime.work_in_transcoder(seconds, lambda: self._ending(stop))
            elif name == "MusicAnalysis":
                Sonic(runtime, stop, activity, self).run()
            elif name == "DeepMediaAnalysis":
                for row in items.sections(runtime.library.library):
                    if not self._ending(stop):
                        runtime.run_scanner(["--analyze-deeply", "--section", str(row[0])], lambda: self._ending(stop))
            elif name == "RefreshLibraries":
                for row in items.sections(runtime.library.library):
                    runtime.request_scan(ScanJob(int(row[0])))
            elif name == "BackupDatabase":
                self._backup()
            else:
                stop.wait(0.3)  # what it would do has no effect on anything a run looks at
        finally:
            with self._guard:
                self._running.pop(name, None)
            runtime.end_activity(activity)
            runtime.log.write("INFO", f"Butler: {name} ended.")

    def _ending(self, stop: threading.Event) -> bool:
        return stop.is_set() or self._runtime.stopping.is_set()

    def _backup(self) -> None:
        """Dated copies beside the databases, as the server makes every three days."""
        stamp = time.strftime("%Y-%m-%d")
        for path in (self._runtime.library.pair.library_path, self._runtime.library.pair.blobs_path):
            target = apsw.Connection(str(path.with_name(f"{path.name}-{stamp}")))
            with target.backup("main", db.connect(path, read_only=True), "main") as copy:
                copy.step()
            target.close()

    # -- failures of Sonic: not queued again until the album's metadata is refreshed

    def failures(self) -> set[int]:
        """Ids of tracks whose analysis failed. Kept beside the database, not in it (where Plex keeps it is unknown)."""
        if not self._failed_file.exists():
            return set()
        return set(json.loads(self._failed_file.read_text(encoding="utf-8")))

    def add_failure(self, track: int) -> None:
        """Remember a failed track."""
        self._save(self.failures() | {track})

    def forget_failures(self, *, section_id: int | None = None, item_id: int | None = None) -> None:
        """The metadata of a section or of an item was refreshed: its tracks may be queued again."""
        failed = self.failures()
        if not failed:
            return
        sql = self._runtime.library.library
        for track in list(failed):
            row = sql.execute(
                "SELECT i.library_section_id, i.id, i.parent_id, p.parent_id FROM metadata_items i"
                " LEFT JOIN metadata_items p ON p.id=i.parent_id WHERE i.id=?",
                (track,),
            ).fetchone()
            if row is None or row[0] == section_id or (item_id is not None and item_id in row[1:]):
                failed.discard(track)
        self._save(failed)

    def _save(self, failed: set[int]) -> None:
        self._failed_file.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._failed_file.with_suffix(".new")
        temporary.write_text(json.dumps(sorted(failed)), encoding="utf-8")
        temporary.replace(self._failed_file)


@dataclass(frozen=True, slots=True)
class _Decoded:
    """A track on its way: decoded to ``wav``, or failed with ``error``."""

    track: int
    wav: Path
    error: str = ""


class Sonic:
    """One run of MusicAnalysis: drains what is queued, one track after the other, decoding one ahead."""

    def __init__(self, runtime: Runtime, stop: threading.Event, activity: Activity, butler: Butler) -> None:
        self._runtime = runtime
        self._stop = stop
        self._activity = activity
        self._butler = butler
        self._decoded: queue.Queue[_Decoded | None] = queue.Queue(maxsize=2)

    def _ending(self) -> bool:
        return self._stop.is_set() or self._runtime.stopping.is_set()

    def run(self) -> None:
        """Until the queue is empty or someone stops it.

        Nothing is queued without Plex Pass or with the behaviour ``never``.
        """
        runtime = self._runtime
        if not runtime.plex_pass or runtime.preferences.setting("MusicAnalysisBehavior") == "never":
            runtime.log.write("INFO", "Music analysis: nothing is queued.")
            return
        self._refresh_first()
        folder = runtime.transcode_folder()
        runtime.spawn(lambda: self._decode(folder), "sonic transcoder")
        analyzer: Child | None = None
        done = 0
        try:
            while (track := self._take()) is not None:
                if self._ending():
                    track.wav.unlink(missing_ok=True)
                    continue
                error, vector = track.error, None
                if not error:
                    analyzer = analyzer or runtime.start_child(children.ANALYZER, [])
                    while runtime.faults.get("sonic_stuck") and not self._ending():
                        analyzer.ask({"burn": 0.05})
                        self._stop.wait(0.2)
                    try:
                        answer = analyzer.ask({"wav": str(track.wav)})
                    except ChildError as lost:
                        runtime.end_child(analyzer)
                        analyzer, answer = None, {"error": str(lost)}
                    error, vector = answer.get("error", ""), answer.get("vector")
                track.wav.unlink(missing_ok=True)
                if self._ending():
                    continue
                if vector is None:
                    runtime.log.write("WARN", f"Music analysis of track {track.track} failed: {error}")
                    self._butler.add_failure(track.track)
                    continue
                only = str(runtime.faults.get("sonic_writes_only") or "")
                runtime.library.write_sonic(track.track, vector, only=only)
                done += 1
                self._activity.subtitle = f"{done} tracks analysed"
        finally:
            self._stop.set()
            if analyzer is not None:
                runtime.end_child(analyzer)

    def _refresh_first(self) -> None:
        """The fault ``refresh_before_sonic`` (how many times as long as usual each item takes): once, all metadata of
        the music is refreshed before the first track is analysed, as ``--force`` on an analysis does
        (docs/plex-facts.md
        #incidents: 2 h at 407 % CPU, the counter stood at 81,035, no audio file was read).
        """
        runtime = self._runtime
        cost = runtime.faults.take_value("refresh_before_sonic")
        if not cost:
            return
        for section in runtime.library.sonic_sections():
            runtime.request_scan(ScanJob(section, force=True, cost=float(cost)))
            while runtime.refreshing(section) and not self._ending():
                self._stop.wait(0.1)

    def _take(self) -> _Decoded | None:
        """The next result; None when there is none to come."""
        while True:
            try:
                return self._decoded.get(timeout=0.2)
            except queue.Empty:
                if self._ending():
                    return None

    def _hand_over(self, item: _Decoded | None) -> None:
        """Put one result into the short queue, unless the run is being stopped and nobody takes it any more."""
        while True:
            try:
                self._decoded.put(item, timeout=0.2)
            except queue.Full:
                if self._ending():
                    return
            else:
                return

    def _decode(self, folder: Path) -> None:
        """Feed the analyzer: pending tracks by id; those whose analysis failed before stay out."""
        runtime = self._runtime
        transcoder: Child | None = None
        last = 0
        failed = self._butler.failures()
        try:
            while not self._ending():
                batch = runtime.library.sonic_pending(runtime.library.sonic_sections(), last, 100)
                if not batch:
                    break
                for track, file in batch:
                    last = track
                    if track in failed:
                        continue
                    if self._ending():
                        break
                    transcoder = transcoder or runtime.start_child(children.TRANSCODER, [])
                    wav = folder / f"{uuid.uuid4().hex}.wav"
                    try:
                        answer = transcoder.ask({"source": file, "target": str(wav)})
                    except ChildError as lost:
                        runtime.end_child(transcoder)
                        transcoder, answer = None, {"error": str(lost)}
                    self._hand_over(_Decoded(track, wav, answer.get("error", "")))
        finally:
            if transcoder is not None:
                runtime.end_child(transcoder)
            self._hand_over(None)
