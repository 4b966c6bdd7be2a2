"""Situations of a Plex server over hours, replayed through the real Watcher on a virtual clock.

Each says whether it was recorded, or invented and from which fact of docs/plex-facts.md. Times in seconds from the
start.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from ansible_collections.plexburst.core.plugins.module_utils.plex.observe.sample import Counters, MountProbe, Sample
from ansible_collections.plexburst.core.plugins.module_utils.plex.watch import watcher as watch
from ansible_collections.plexburst.core.plugins.module_utils.plex.watch.profiles import resolve

from tests.unit.plex.traces import DEAD, activity, counters, process, sample, section, server, task

HOUR = 3600.0
LOOK_SECONDS = 1.0
"""What one module call over SSH costs."""
Steps = list[tuple[float, str]]
Script = Callable[[float, Steps], Sample]


@dataclass
class World:
    """A server that behaves by script, a clock, and what was done to it.

    The counts of a look that brings its cursor along are marked as an increment; `blind` increments see nothing at all,
    as on a Plex that would not move changed_at, and are corrected by a full count every four minutes.
    """

    script: Script
    blind: bool = False
    now: float = 0.0
    steps: Steps = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    _full: Counters | None = None
    _full_at: float = 0.0
    _distrust: bool = False

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds

    def act(self, step: str) -> bool:
        self.steps.append((self.now, step))
        return True

    def observe(self, last: Sample | None, gap: float) -> list[Sample]:
        self.now += LOOK_SECONDS
        by_increment = last is not None and last.counters is not None
        batch = [self._see(by_increment)]
        if gap > 0:
            self.now += gap
            batch.append(self._see(by_increment))
        return batch

    def _see(self, by_increment: bool) -> Sample:
        seen = self.script(self.now, self.steps)
        counted = seen.counters
        if counted is None:
            return seen
        full = not by_increment
        if self.blind and self._full is not None:
            full = full or self._distrust or self.now - self._full_at >= 240
            drift = counted.server_sonic_done - self._full.server_sonic_done
            if not full:
                counted = self._full
            elif drift and not self._distrust:
                counted, self._distrust = replace(counted, drift=drift), True
        counted = replace(counted, full=full)
        if full:
            self._full, self._full_at = replace(counted, drift=0), self.now
        return replace(seen, counters=counted)


@dataclass(frozen=True)
class Scenario:
    """One situation. `real_end`: when the wanted work is really over (None: it never will be).

    expected: state and reason of the verdict. named: the reason must have been given by that time, in seconds.
    """

    name: str
    label: str
    fact: str
    kind: str
    script: Script
    expected: tuple[str, str]
    section_type: str = "artist"
    profile: str = "cloud_standard"
    real_end: float | None = None
    named: float | None = None
    steps: tuple[str, ...] | None = None
    begin: dict[str, Any] = field(default_factory=dict)
    blind: bool = False

    def replay(self) -> tuple[watch.Outcome, World]:
        """Watch it to its end with the profile that a run would take."""
        world = World(self.script, blind=self.blind)
        watcher = watch.Watcher(
            task=task(self.kind, **self.begin),
            profile=resolve(self.profile, self.kind, self.section_type),
            title="Music",
            observe=world.observe,
            act=world.act,
            emit=world.lines.append,
            clock=world.clock,
            sleep=world.sleep,
            hourly_price=0.4064,
        )
        return watcher.run(), world


def steps_of(steps: Steps, name: str) -> list[float]:
    """When a step was taken."""
    return [at for at, step in steps if step == name]


TOTAL = 456534
BEGUN = 81035
SLOW = MountProbe(ok=True, tried=12, read=12, missing=0, seconds=55.0)
SHUT = MountProbe(
    ok=False, tried=12, read=0, missing=0, seconds=0.4, problem="12 of 12 files cannot be read, the first: a.flac (EIO)"
)


def scan(end: float, *, hint: bool = True, **values: Any) -> Script:
    """A scan that goes on until `end`; with `hint` Plex shows how far it is."""

    def script(t: float, _steps: Steps) -> Sample:
        on = t < end
        return sample(
            t,
            sections=(section(refreshing=on, scanned_at=0 if on else 99),),
            activities=(
                activity("library.update.section", "Scanning", progress=min(99.0, 100 * t / end) if hint else -1.0),
            )
            if on
            else (),
            processes=(server(0.01 * t), *((process("scanner", t, pid=50, args=SCANNER),) if on else ())),
            counters=counters(items=1000 + int(min(t, end))),
            **values,
        )

    return script


SCANNER = "Plex Media Scanner --scan --refresh --section 1"
DEEP = "Plex Media Scanner --analyze-deeply --section 1"


def sonic(end: float, *, begun: int = BEGUN, total: int = TOTAL) -> Script:
    """Sonic analysis that moves evenly and ends with the last track."""

    def script(t: float, _steps: Steps) -> Sample:
        done = total if t >= end else begun + int((total - begun) * t / end)
        works = (process("music_analyzer", t, pid=60), process("transcoder", 0.2 * t, pid=61)) if t < end else ()
        return sample(
            t,
            processes=(server(0.01 * t), *works),
            activities=(activity("butler", "MusicAnalysis", None),) if t < end else (),
            counters=counters(sonic_total=total, sonic_done=done),
        )

    return script


def analysis(end: float, items: int) -> Script:
    """Analysis that moves evenly."""

    def script(t: float, _steps: Steps) -> Sample:
        done = items if t >= end else int(items * t / end)
        works = (process("scanner", t, pid=50, args="Plex Media Scanner --analyze --item 5"),) if t < end else ()
        return sample(
            t, processes=(server(0.01 * t), *works), counters=counters(media=items, media_analysed=done, items=items)
        )

    return script


def _incident(t: float, _steps: Steps) -> Sample:
    scanner = process("scanner", 4.0 * t, pid=50, args="Plex Media Scanner --analyze --section 1 --force")
    return sample(t, processes=(server(0.07 * t), scanner))


def _incident_cured(t: float, steps: Steps) -> Sample:
    cancelled = steps_of(steps, "cancel_refresh")
    return sonic(5000)(t - cancelled[0], []) if cancelled else _incident(t, steps)


def _at(base: Sample, t: float) -> Sample:
    return replace(base, at=t)


def _after(step: str, before: Script, then: Callable[[float], Script]) -> Script:
    """`before` until a step was taken, then another script on a clock that begins there."""

    def script(t: float, steps: Steps) -> Sample:
        taken = steps_of(steps, step)
        return _at(then(taken[0])(t - taken[0], []), t) if taken else before(t, steps)

    return script


def _ffmpeg(t: float, _steps: Steps) -> Sample:
    works = (process("transcoder", 0.001 * t, pid=70, read=int(t) * 100_000),) if t < 2400 else ()
    return sample(
        t, processes=(server(), *works), counters=counters(media=315, media_analysed=300 if t < 2400 else 315)
    )


def _ffmpeg_in_silence(t: float, _steps: Steps) -> Sample:
    works = (process("transcoder", 0.02 * t, pid=70),) if t < 2400 else ()
    return sample(
        t, processes=(server(), *works), counters=counters(media=315, media_analysed=314 if t < 2400 else 315)
    )


def _dying_mount(t: float, _steps: Steps) -> Sample:
    lost = max(0, int((t - 120) / 10))
    return sample(
        t,
        sections=(section(refreshing=True),),
        processes=(server(), process("scanner", t, pid=50, args=SCANNER)),
        mount=DEAD if t >= 120 else replace(DEAD, ok=True, read=12, problem=""),
        counters=counters(items=224 - lost, items_trashed=lost),
    )


def _three_percent(t: float, _steps: Steps) -> Sample:
    end, failed = 3000.0, 13696
    works = (process("music_analyzer", t, pid=60),) if t < end else ()
    done = BEGUN + int((TOTAL - failed - BEGUN) * min(t, end) / end)
    return sample(t, processes=(server(), *works), counters=counters(sonic_done=done))


def _restart_loop(t: float, _steps: Steps) -> Sample:
    life = int(t / 45)
    return sample(t, answered=t % 45 > 20, server_pid=100 + life, server_started=45.0 * life, problem="refused")


def _busy_db(t: float, steps: Steps) -> Sample:
    seen = scan(900)(t, steps)
    if 60 <= t <= 360:
        return replace(seen, counters=None, counters_error="library.db is busy", counters_busy=True)
    return seen


def _butler(t: float, _steps: Steps) -> Sample:
    return sample(
        t,
        activities=(activity("butler", "DeepMediaAnalysis", None),),
        processes=(server(), process("scanner", 2.0 * t, pid=50, args=DEEP)),
    )


def _deep_after_scan(t: float, steps: Steps) -> Sample:
    seen = scan(600)(t, steps)
    if t < 600:
        return seen
    return replace(
        seen,
        activities=(activity("butler", "DeepMediaAnalysis", None),),
        processes=(server(), process("scanner", t, pid=51, args=DEEP)),
    )


def _long_mix(t: float, _steps: Steps) -> Sample:
    # 100 short tracks, then one mix of hours whose analyzer is busy for 50 minutes, then the end
    done = BEGUN + min(100, int(t / 5))
    end = 500 + 3000
    works = (process("music_analyzer", t, pid=60), process("transcoder", 0.3 * t, pid=61)) if t < end else ()
    total = BEGUN + 101
    return sample(
        t,
        processes=(server(), *works),
        counters=counters(sonic_total=total, sonic_done=total if t >= end else done),
    )


def _one_restart(t: float, _steps: Steps) -> Sample:
    if t < 300:
        return scan(10**6)(t, [])
    alive = t >= 330
    return sample(
        t, answered=alive, server_pid=2 if alive else None, server_started=330.0 if alive else None, problem="refused"
    )


def _rescan(_at: float) -> Script:
    return scan(400, server_pid=2, server_started=330.0)


def _maintenance(t: float, _steps: Steps) -> Sample:
    if t < 600:
        return sample(t, answered=False, http_status=503, maintenance="database migrations", counters=None)
    return scan(900)(t, [])


def _lost_link(t: float, steps: Steps) -> Sample:
    if 60 <= t < 420:
        raise watch.SampleMissed("Connection timed out", {"unreachable": True})
    return scan(900)(t, steps)


def _disagree(t: float, _steps: Steps) -> Sample:
    return sample(
        t,
        processes=(server(), process("music_analyzer", t, pid=60)),
        counters=counters(sonic_done=BEGUN, server_sonic_blobs=BEGUN + int(t)),
    )


def _vanishing(t: float, _steps: Steps) -> Sample:
    left = max(BEGUN, TOTAL - int(1000 * t))
    return sample(
        t,
        processes=(server(), process("music_analyzer", t, pid=60)),
        counters=counters(sonic_total=left, sonic_done=BEGUN),
    )


def _slow_mount(t: float, _steps: Steps) -> Sample:
    return sample(t, processes=(server(), process("music_analyzer", 0.01 * t, pid=60)), mount=SLOW)


def _crashing(t: float, _steps: Steps) -> Sample:
    return sample(t, processes=(server(), process("music_analyzer", 3.0, pid=1000 + int(t))))


def _leftovers(t: float, _steps: Steps) -> Sample:
    works = (process("scanner", t, pid=50),) if t < 120 else ()
    return sample(
        t,
        processes=(server(), *works),
        counters=counters(items=20, media=20, media_analysed=min(18, 10 + int(t / 12))),
    )


def _unwilling(t: float, _steps: Steps) -> Sample:
    return sample(t, counters=counters(items=20, media=20, media_analysed=18))


def _gaps(t: float, _steps: Steps) -> Sample:
    # between two albums whose metadata is fetched there is nothing to see for six seconds in twenty
    on = t < 1200
    seen = on and t % 20 >= 6
    return sample(
        t,
        sections=(section(refreshing=on and t % 60 < 54, scanned_at=0 if on else 99),),
        activities=(activity("library.update.item.metadata", "Refreshing"),) if seen else (),
        counters=counters(items=int(min(t, 1200))),
    )


def _mount_shut(t: float, _steps: Steps) -> Sample:
    return sample(t, processes=(server(), process("music_analyzer", 0.01 * t, pid=60)), mount=SHUT if t > 600 else None)


def _early_end(t: float, _steps: Steps) -> Sample:
    done = BEGUN + min(5000, int(10 * t))
    works = (process("music_analyzer", t, pid=60),) if t < 500 else ()
    return sample(t, processes=(server(), *works), counters=counters(sonic_done=done))


def _oom(t: float, steps: Steps) -> Sample:
    return replace(scan(10**6)(t, steps), oom_killed=t > 300, restarts=1 if t > 300 else 0)


def _full_disk(t: float, steps: Steps) -> Sample:
    return replace(scan(10**6)(t, steps), disk_free_bytes=max(0, 20 * 1024**3 - int(t * 50 * 1024**2)), wal_bytes=9)


def _no_sqlite(t: float, steps: Steps) -> Sample:
    return replace(scan(60)(t, steps), counters=None, counters_error="This machine's Python has no sqlite3.")


def _half_dead_scan(t: float, _steps: Steps) -> Sample:
    return sample(
        t, sections=(section(refreshing=True),), processes=(server(), process("scanner", 5.0, pid=50, args=SCANNER))
    )


SCENARIOS = (
    Scenario(
        "81,035 stands for ever",
        "recorded",
        "1.3: --force with Sonic, CPU 407 %, 81,035 -> 81,035, no audio file read",
        "sonic",
        _incident,
        ("stalled", "refresh_instead_of_sonic"),
        named=600,
    ),
    Scenario(
        "81,035 is cured by cancelling the refresh",
        "recorded until the cancellation, invented after",
        "1.3, 2.2: DELETE refresh; POST butler/MusicAnalysis",
        "sonic",
        _incident_cured,
        ("complete", ""),
        named=600,
        steps=("cancel_refresh",),
    ),
    Scenario(
        "analysis looks idle while ffmpeg reads for 40 minutes",
        "invented",
        "2.5: deep analysis reads whole files",
        "analyse",
        _ffmpeg,
        ("complete", ""),
        "movie",
        real_end=2400,
        begin={"before": counters(media=315, media_analysed=299)},
    ),
    Scenario(
        "analysis looks idle while ffmpeg computes for 40 minutes",
        "invented",
        "1.3: CPU-idle rules stopped working analyses; the kernel may hide what was read",
        "analyse",
        _ffmpeg_in_silence,
        ("complete", ""),
        "movie",
        real_end=2400,
        begin={"before": counters(media=315, media_analysed=299)},
    ),
    Scenario(
        "the mount dies mid-scan",
        "recorded",
        "1.3: 221 of 224 films deleted by a scan on a degraded mount",
        "scan",
        _dying_mount,
        ("unhealthy", "mount_dead"),
        "movie",
        named=240,
        steps=("cancel_scan",),
    ),
    Scenario(
        "directories list, files do not open, while Sonic runs",
        "recorded",
        "1.3: the 72 h dir-cache lists what cannot be read",
        "sonic",
        _mount_shut,
        ("unhealthy", "mount_dead"),
        named=900,
    ),
    Scenario(
        "the queue drains with 3 % failed tracks",
        "invented",
        "2.7: failed tracks are not queued again until the album is refreshed",
        "sonic",
        _three_percent,
        ("stalled", "tracks_failing"),
        steps=("start_again",),
    ),
    Scenario(
        "Plex is in a restart loop",
        "recorded",
        "1.3: a corrupt archive, visible only in docker logs",
        "scan",
        _restart_loop,
        ("unhealthy", "plex_restarting"),
        named=600,
    ),
    Scenario(
        "the database is busy for five minutes",
        "invented",
        "2.1: 'Waited over 10 seconds for a busy database'",
        "scan",
        _busy_db,
        ("complete", ""),
        real_end=900,
    ),
    Scenario(
        "the database is busy for ever",
        "invented",
        "2.1",
        "scan",
        lambda t, steps: replace(scan(1e6)(t, steps), counters=None, counters_error="busy", counters_busy=True),
        ("unhealthy", "plex_busy_db"),
    ),
    Scenario(
        "photos take four hours",
        "recorded",
        "1.2: photos 4 h against 1 h; 28,338 photos",
        "scan",
        scan(4 * HOUR),
        ("complete", ""),
        "photo",
        real_end=4 * HOUR,
    ),
    Scenario(
        "a butler task starts by schedule instead of Sonic",
        "recorded",
        "1.2: DeepMediaAnalysis spawned --analyze-deeply and cost 144 minutes",
        "sonic",
        _after("cancel_butler", _butler, lambda _: sonic(4000)),
        ("complete", ""),
        named=700,
        steps=("cancel_butler",),
    ),
    Scenario(
        "deep analysis looks like a scanner after the scan",
        "recorded",
        "1.2: --analyze-deeply processes that look like 'scanner running'",
        "scan",
        _deep_after_scan,
        ("complete", ""),
        real_end=600,
    ),
    Scenario(
        "Sonic runs for eight hours",
        "invented",
        "1.10: duration unpredictable, never done on this database",
        "sonic",
        sonic(8 * HOUR),
        ("complete", ""),
        real_end=8 * HOUR,
    ),
    Scenario(
        "one mix of hours holds the counter for 50 minutes",
        "invented",
        "2.7: one analyzer per track, length unknown",
        "sonic",
        _long_mix,
        ("complete", ""),
        real_end=3500,
        begin={"before": counters(sonic_total=BEGUN + 101)},
    ),
    Scenario(
        "Sonic needs to be asked twice",
        "invented",
        "2.7: the queue is filled by a switch the API may not show",
        "sonic",
        _after("start_again", lambda t, _: sample(t), lambda _: sonic(2000)),
        ("complete", ""),
        steps=("start_again",),
    ),
    Scenario(
        "Sonic never begins",
        "recorded",
        "1.9: the prior scripts started DeepMediaAnalysis instead",
        "sonic",
        lambda t, _: sample(t),
        ("stalled", "queue_empty_incomplete"),
    ),
    Scenario(
        "the queue ends early and is filled again",
        "invented",
        "2.7: the task drains what is queued",
        "sonic",
        _after("start_again", _early_end, lambda _: sonic(3000, begun=BEGUN + 5000)),
        ("complete", ""),
        steps=("start_again",),
    ),
    Scenario(
        "sqlite3 is missing",
        "recorded",
        "1.3 no. 1: every counter 0, 'already complete'",
        "scan",
        _no_sqlite,
        ("unhealthy", "counters_failed"),
    ),
    Scenario(
        "the disk fills up",
        "invented",
        "1.1: 15 GB of databases on a 20 GB instance",
        "scan",
        _full_disk,
        ("unhealthy", "disk_full"),
        steps=("cancel_scan",),
    ),
    Scenario(
        "the kernel kills Plex for want of memory",
        "invented",
        "1.7: --memory 4g on a 2 GiB machine",
        "scan",
        _oom,
        ("unhealthy", "plex_restarting"),
    ),
    Scenario(
        "Plex falls once in the middle of a scan",
        "invented",
        "2.4: analysing while the same section scans can crash Plex",
        "scan",
        _after("start_again", _one_restart, _rescan),
        ("complete", ""),
        steps=("start_again",),
        begin={"scanned_before": 5},
    ),
    Scenario(
        "Plex migrates its database for ten minutes",
        "recorded",
        "2.1: 503 Maintenance",
        "scan",
        _maintenance,
        ("complete", ""),
        real_end=900,
    ),
    Scenario(
        "Plex does not answer any more",
        "invented",
        "2.1",
        "scan",
        lambda t, _: sample(t, answered=False, problem="connection refused", counters=None),
        ("unhealthy", "plex_silent"),
    ),
    Scenario(
        "the token is refused",
        "invented",
        "2.1: 401 text/html",
        "scan",
        lambda t, _: sample(t, answered=False, http_status=401, problem="401"),
        ("unhealthy", "unauthorized"),
    ),
    Scenario(
        "the connection is gone for six minutes",
        "recorded",
        "1.3: residential NAT saturates, SSH drops",
        "scan",
        _lost_link,
        ("complete", ""),
        real_end=900,
    ),
    Scenario(
        "database and vectors disagree",
        "invented",
        "2.7: 'stop if they disagree grossly'",
        "sonic",
        _disagree,
        ("stalled", "counter_mismatch"),
    ),
    Scenario(
        "changed_at does not move when Sonic writes",
        "invented",
        "2.8: unconfirmed; the increment is checked",
        "sonic",
        sonic(3 * HOUR),
        ("complete", ""),
        real_end=3 * HOUR,
        blind=True,
    ),
    Scenario(
        "the tracks vanish while Sonic runs",
        "recorded",
        "1.3: stats read during an rclone timeout were wrong (728 of 938)",
        "sonic",
        _vanishing,
        ("stalled", "counter_mismatch"),
    ),
    Scenario(
        "the mount is slow",
        "recorded",
        "1.3: connection resets of a saturated line",
        "sonic",
        _slow_mount,
        ("stalled", "mount_slow"),
    ),
    Scenario(
        "every analyzer dies",
        "invented",
        "2.7: tracks whose analysis failed are not queued again",
        "sonic",
        _crashing,
        ("stalled", "tracks_failing"),
    ),
    Scenario(
        "a scan never begins",
        "recorded",
        "1.9: curl without --fail, an HTTP error counted as started",
        "scan",
        lambda t, _: sample(t),
        ("stalled", "not_started"),
    ),
    Scenario(
        "a scan hangs",
        "invented",
        "1.2: folder by folder blocked Plex after 10 minutes",
        "scan",
        _half_dead_scan,
        ("stalled", "no_progress"),
        steps=("cancel_scan",),
    ),
    Scenario(
        "a scan is over before the first look",
        "invented",
        "2.4: 5 films",
        "scan",
        scan(0.5),
        ("complete", ""),
        real_end=0.5,
        begin={"scanned_before": 5},
    ),
    Scenario(
        "nothing shows between two albums of a scan",
        "invented",
        "2.4: activities come and go",
        "scan",
        _gaps,
        ("complete", ""),
        real_end=1200,
    ),
    Scenario(
        "a scan does not end in eight hours",
        "recorded",
        "1.6: absolute_timeout 28800",
        "scan",
        scan(1e6),
        ("timed_out", "timeout"),
    ),
    Scenario(
        "analysis leaves two items",
        "invented",
        "1.3: 'FreeImage_Load: failed to open file'",
        "analyse",
        _leftovers,
        ("idle", "items_left"),
        "photo",
        real_end=120,
        begin={"before": counters(items=20, media=20, media_analysed=10)},
    ),
    Scenario(
        "Plex will not analyse the two items of the last run",
        "invented",
        "1.3",
        "analyse",
        _unwilling,
        ("idle", "items_left"),
        "photo",
        steps=("start_again",),
        begin={"before": counters(items=20, media=20, media_analysed=18)},
    ),
)
