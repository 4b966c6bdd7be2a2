"""Replaying windows on a virtual clock. Each trace says whether it was recorded or invented, and from which fact."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.plexburst.core.plugins.module_utils.plex.observe.sample import Sample
from ansible_collections.plexburst.core.plugins.module_utils.plex.watch.profiles import Profile, resolve
from ansible_collections.plexburst.core.plugins.module_utils.plex.watch.verdict import (
    CANCEL_BUTLER,
    CANCEL_REFRESH,
    CANCEL_SCAN,
    COMPLETE,
    IDLE,
    RUNNING,
    STALLED,
    START_AGAIN,
    TIMED_OUT,
    UNHEALTHY,
    Task,
    Verdict,
    judge,
)

from tests.unit.plex.traces import DEAD, GOOD, activity, counters, process, sample, section, server, task

SCAN = resolve("cloud_standard", "scan", "artist")
SONIC = resolve("cloud_standard", "sonic", "artist")
ANALYSE = resolve("cloud_standard", "analyse", "movie")


def replay(what: Task, samples: Iterable[Sample], profile: Profile) -> tuple[Verdict, float]:
    """Judge after each sample; the first final verdict and its time, else the last verdict."""
    window: list[Sample] = []
    verdict = Verdict(RUNNING)
    for one in samples:
        window.append(one)
        verdict = judge(what, window, profile, one.at)
        if verdict.final:
            return verdict, one.at
    return verdict, window[-1].at


def every(interval: float, until: float, make: Callable[[float], dict[str, Any]]) -> list[Sample]:
    """A sample each `interval` seconds from 0 to `until`."""
    count = int(until / interval) + 1
    return [sample(index * interval, **make(index * interval)) for index in range(count)]


def test_the_81035_incident_is_named_within_ten_virtual_minutes() -> None:
    # Recorded (docs/plex-facts.md#incidents): --force with Sonic, CPU 407 %, counter stuck 81,035 -> 81,035, no audio
    # file read.
    def at(t: float) -> dict[str, Any]:
        scanner = process("scanner", 4.0 * t, pid=50, args="Plex Media Scanner --analyze --section 1 --force")
        return {"processes": (server(0.07 * t), scanner), "counters": counters(sonic_done=81035)}

    verdict, when = replay(task("sonic"), every(120, 7200, at), SONIC)
    assert (verdict.state, verdict.reason, verdict.next_step) == (STALLED, "refresh_instead_of_sonic", CANCEL_REFRESH)
    assert when <= 600
    assert verdict.evidence["done"] == 81035
    assert verdict.evidence["cpu_percent"] == pytest.approx(407, abs=2)


def test_sonic_that_moves_slowly_is_never_stopped() -> None:
    # Invented from docs/plex-facts.md#sonic-analysis: no rate is known; one track in two minutes is progress.
    def at(t: float) -> dict[str, Any]:
        return {
            "processes": (server(), process("music_analyzer", t, pid=60)),
            "counters": counters(sonic_done=81035 + int(t / 120)),
        }

    verdict, _ = replay(task("sonic"), every(120, 36000, at), SONIC)
    assert verdict.state == RUNNING


def test_sonic_is_complete_only_when_nothing_is_pending() -> None:
    def at(t: float) -> dict[str, Any]:
        done = min(456534, 456334 + int(t))
        busy = (process("music_analyzer", t, pid=60),) if done < 456534 else ()
        return {"processes": (server(), *busy), "counters": counters(sonic_done=done)}

    begun = counters(sonic_done=456334)
    verdict, when = replay(task("sonic", before=begun), every(60, 7200, at), SONIC)
    assert verdict.state == COMPLETE
    assert when <= 300


def test_silence_with_tracks_pending_is_not_success_but_a_named_stall() -> None:
    # Recorded rule of the prior scripts (docs/plex-facts.md#earlier-scripts): 30 stalls -> success. Never again.
    def at(t: float) -> dict[str, Any]:
        busy = (process("music_analyzer", t, pid=60),) if t < 600 else ()
        done = 81035 + int(min(t, 600))
        return {"processes": (server(), *busy), "counters": counters(sonic_done=done)}

    verdict, when = replay(task("sonic"), every(60, 7200, at), SONIC)
    assert (verdict.state, verdict.reason) == (STALLED, "queue_empty_incomplete")
    assert verdict.next_step == START_AGAIN
    assert when <= 900


def test_a_queue_drained_with_three_percent_failed_is_named_after_one_restart() -> None:
    # Invented from docs/plex-facts.md#sonic-analysis: failed tracks are not queued again until the album is refreshed.
    done = 456534 - 13696
    again = task("sonic", restarts=1, window_from=1000.0, started_at=0.0)
    trace = [sample(1000.0 + 60 * i, counters=counters(sonic_done=done)) for i in range(12)]
    verdict, _ = replay(again, trace, SONIC)
    assert (verdict.state, verdict.reason, verdict.next_step) == (STALLED, "tracks_failing", "")
    assert verdict.evidence["pending"] == 13696


def test_a_task_that_gives_no_sign_of_life_is_started_again() -> None:
    verdict, when = replay(task("sonic"), every(60, 1200, lambda _: {}), SONIC)
    assert (verdict.state, verdict.reason, verdict.next_step) == (STALLED, "not_started", START_AGAIN)
    assert 300 < when <= 420


def test_analyzers_that_come_and_go_without_a_track_are_failing_tracks() -> None:
    def at(t: float) -> dict[str, Any]:
        return {"processes": (server(), process("music_analyzer", 3.0, pid=1000 + int(t)))}

    verdict, _ = replay(task("sonic"), every(120, 7200, at), SONIC)
    assert (verdict.state, verdict.reason) == (STALLED, "tracks_failing")


def test_one_hanging_analyzer_is_a_stall_after_the_profiles_time() -> None:
    def at(t: float) -> dict[str, Any]:
        return {"processes": (server(), process("music_analyzer", t, pid=60))}

    verdict, when = replay(task("sonic"), every(120, 7200, at), SONIC)
    assert (verdict.state, verdict.reason) == (STALLED, "no_progress")
    assert when == SONIC.stall_after


def test_a_scheduled_butler_task_instead_of_sonic_is_cancelled() -> None:
    # Recorded (docs/plex-facts.md#incidents): DeepMediaAnalysis spawned --analyze-deeply and cost 144 minutes.
    def at(t: float) -> dict[str, Any]:
        return {
            "activities": (activity("butler", "DeepMediaAnalysis", None),),
            "processes": (server(), process("scanner", 0.2 * t, pid=50, args="--analyze-deeply")),
        }

    verdict, when = replay(task("sonic"), every(120, 7200, at), SONIC)
    assert (verdict.state, verdict.reason, verdict.next_step) == (STALLED, "butler_interference", CANCEL_BUTLER)
    assert when <= 600


def test_two_counts_that_go_apart_are_never_called_progress() -> None:
    def at(t: float) -> dict[str, Any]:
        return {
            "processes": (server(), process("music_analyzer", t, pid=60)),
            "counters": counters(sonic_done=81035, server_sonic_blobs=81035 + int(t)),
        }

    verdict, _ = replay(task("sonic"), every(60, 1200, at), SONIC)
    assert (verdict.state, verdict.reason) == (STALLED, "counter_mismatch")


def small(t: float, *, end: float = 120, **kept: int) -> dict[str, Any]:
    """A library of 12 tracks whose analysis works until `end`; `kept` stays as it was all the time."""
    done = min(12, int(12 * t / end))
    counts = counters(**{"sonic_total": 12, "sonic_done": done, **kept})
    works = (process("music_analyzer", t, pid=60),) if t < end else ()
    return {"processes": (server(0.01 * t), *works), "counters": counts}


FEW = task("sonic", before=counters(sonic_total=12, sonic_done=0))


def test_a_small_library_is_not_complete_on_marks_without_vectors() -> None:
    samples = every(20, 400, lambda t: small(t, server_sonic_blobs=0))
    verdict, at = replay(FEW, samples, SONIC)
    assert (verdict.state, verdict.reason) == (STALLED, "counter_mismatch")
    assert "gained 12 tracks with Sonic data while blobs.db gained 0 vectors" in verdict.advice
    # They are waited for as long as an end that only silence shows.
    assert at == 120 + SONIC.quiet_for
    waiting = judge(FEW, [one for one in samples if one.at <= 140], SONIC, 140)
    assert (waiting.state, waiting.reason) == (RUNNING, "vectors_awaited")


def test_vectors_without_marks_are_no_empty_queue() -> None:
    verdict, _ = replay(FEW, every(20, 400, lambda t: small(t, sonic_done=0, server_sonic_blobs=int(t / 10))), SONIC)
    assert (verdict.state, verdict.reason) == (STALLED, "counter_mismatch")


def test_vectors_that_come_late_are_waited_for() -> None:
    late = every(20, 400, lambda t: small(t, server_sonic_blobs=12 if t > 180 else 0))
    verdict, at = replay(FEW, late, SONIC)
    assert (verdict.state, at) == (COMPLETE, 200)


def test_tracks_whose_vectors_were_there_before_are_complete() -> None:
    before = task("sonic", before=counters(sonic_total=12, sonic_done=0, server_sonic_blobs=12))
    verdict, at = replay(before, every(20, 400, lambda t: small(t, server_sonic_blobs=12)), SONIC)
    assert (verdict.state, at) == (COMPLETE, 120)


def test_a_few_tracks_without_a_vector_are_only_odd_tracks() -> None:
    four = task("sonic", before=counters(sonic_total=12, sonic_done=8))
    last = {"sonic_total": 12, "sonic_done": 12, "server_sonic_blobs": 8}
    verdict, _ = replay(four, [sample(0, counters=counters(**last))], SONIC)
    assert verdict.state == COMPLETE


def test_an_api_that_counts_other_tracks_blocks_complete() -> None:
    done = counters(sonic_done=456534)
    verdict, _ = replay(task("sonic"), [sample(0, counters=done, api_total=456000)], SONIC)
    assert verdict.reason == "counter_mismatch"


def test_tracks_in_the_trash_are_listed_by_the_api_and_are_no_mismatch() -> None:
    done = counters(sonic_done=456534, items_trashed=3)
    verdict, _ = replay(task("sonic"), [sample(0, counters=done, api_total=456537)], SONIC)
    assert verdict.state == COMPLETE


def test_without_sqlite_nothing_is_ever_complete() -> None:
    # Recorded (docs/plex-facts.md#incidents no. 1): sqlite3 missing made every counter 0 and the run "100 % complete".
    broken = sample(0, counters=None, counters_error="This machine's Python has no sqlite3")
    for kind in ("scan", "analyse", "sonic", "stabilise", "refresh"):
        verdict, _ = replay(task(kind), [broken], SCAN)
        assert (verdict.state, verdict.reason) == (UNHEALTHY, "counters_failed")
        assert "sqlite3" in verdict.advice


def test_a_mount_that_dies_mid_scan_stops_the_scan_at_the_second_probe() -> None:
    # Recorded (docs/plex-facts.md#incidents): a scan on a degraded mount deleted 221 of 224 movies.
    def at(t: float) -> dict[str, Any]:
        scanner = process("scanner", t, pid=50)
        return {
            "sections": (section(refreshing=True),),
            "processes": (server(), scanner),
            "mount": DEAD if t >= 120 else GOOD,
            "counters": counters(items=224 - int(t / 60), items_trashed=int(t / 60)),
        }

    verdict, when = replay(task("scan"), every(60, 3600, at), SCAN)
    assert (verdict.state, verdict.reason, verdict.next_step) == (UNHEALTHY, "mount_dead", CANCEL_SCAN)
    assert when == 180


def test_one_slow_probe_is_not_a_dead_mount() -> None:
    def at(t: float) -> dict[str, Any]:
        return {
            "sections": (section(refreshing=True),),
            "mount": DEAD if t == 120 else GOOD,
            "counters": counters(items=int(t)),
        }

    verdict, _ = replay(task("scan"), every(60, 600, at), SCAN)
    assert verdict.state == RUNNING


def test_a_slow_mount_has_its_own_name() -> None:
    slow = type(GOOD)(ok=True, tried=12, read=12, missing=0, seconds=55.0)

    def at(_: float) -> dict[str, Any]:
        return {"processes": (server(), process("music_analyzer", 1.0, pid=60)), "mount": slow}

    verdict, _ = replay(task("sonic"), every(120, 3600, at), SONIC)
    assert (verdict.state, verdict.reason) == (STALLED, "mount_slow")


def test_analysis_that_looks_idle_while_ffmpeg_reads_for_40_minutes_is_not_stopped() -> None:
    # Invented from docs/plex-facts.md#incidents, #scanner: deep analysis reads whole files over a slow line with little
    # CPU.
    def at(t: float) -> dict[str, Any]:
        worker = process("transcoder", 0.001 * t, pid=70, read=int(t) * 100_000)
        return {"processes": (server(), worker), "counters": counters(media=315, media_analysed=300)}

    begun = counters(media=315, media_analysed=299)
    verdict, _ = replay(task("analyse", before=begun), every(60, 2400, at), ANALYSE)
    assert verdict.state == RUNNING


def test_analysis_that_hangs_without_reading_is_stalled() -> None:
    def at(_: float) -> dict[str, Any]:
        return {
            "processes": (server(), process("transcoder", 5.0, pid=70)),
            "counters": counters(media=9, media_analysed=3),
        }

    verdict, when = replay(task("analyse", before=counters(media=9)), every(60, 3600, at), ANALYSE)
    assert (verdict.state, verdict.reason) == (STALLED, "no_progress")
    assert when == ANALYSE.stall_after


def test_analysis_ends_moments_after_the_last_item() -> None:
    def at(t: float) -> dict[str, Any]:
        done = min(20, int(t / 5))
        busy = (process("scanner", t, pid=50),) if done < 20 else ()
        return {"processes": (server(), *busy), "counters": counters(media=20, media_analysed=done)}

    verdict, when = replay(task("analyse", before=counters(media=20, media_analysed=0)), every(5, 600, at), ANALYSE)
    assert verdict.state == COMPLETE
    assert when <= 110


def test_items_that_plex_does_not_analyse_end_as_idle_with_their_number() -> None:
    def at(t: float) -> dict[str, Any]:
        busy = (process("scanner", t, pid=50),) if t < 60 else ()
        return {"processes": (server(), *busy), "counters": counters(media=20, media_analysed=18 if t else 10)}

    verdict, _ = replay(task("analyse", before=counters(media=20, media_analysed=10)), every(30, 900, at), ANALYSE)
    assert (verdict.state, verdict.reason) == (IDLE, "items_left")
    assert verdict.evidence["pending"] == 2


def test_a_scan_is_complete_when_its_activity_came_and_went() -> None:
    def at(t: float) -> dict[str, Any]:
        on = t < 300
        return {
            "sections": (section(refreshing=on, scanned_at=0 if on else 99),),
            "activities": (activity("library.update.section", "Scanning Music"),) if on else (),
            "counters": counters(items=int(t)),
        }

    verdict, when = replay(task("scan", scanned_before=5), every(5, 3600, at), SCAN)
    assert verdict.state == COMPLETE
    assert when - 300 <= 15


def test_a_scan_that_ended_before_the_first_sample_is_recognised_by_its_time() -> None:
    trace = every(5, 60, lambda _: {"sections": (section(scanned_at=1000),)})
    verdict, when = replay(task("scan", scanned_before=900), trace, SCAN)
    assert verdict.state == COMPLETE
    assert when <= 15


def test_a_refresh_that_nobody_saw_is_over_only_after_the_whole_calm() -> None:
    # Invented: a small library's metadata come between two looks. When the scan time moves is unconfirmed.
    trace = every(5, 3600, lambda _: {"sections": (section(scanned_at=1000),)})
    verdict, when = replay(task("refresh", scanned_before=900), trace, SCAN)
    assert verdict.state == COMPLETE
    assert when >= SCAN.quiet_for


def test_a_scan_that_never_began_is_not_a_finished_one() -> None:
    verdict, _ = replay(task("scan", scanned_before=0), every(60, 900, lambda _: {}), SCAN)
    assert (verdict.state, verdict.reason, verdict.next_step) == (STALLED, "not_started", START_AGAIN)


def test_another_sections_activity_does_not_hold_up_this_scan() -> None:
    # Facts 1.9: the section sits on the Context child; the prior regex never found it.
    def at(_: float) -> dict[str, Any]:
        return {
            "sections": (section(scanned_at=1000), section(section_id=2, refreshing=True)),
            "activities": (activity("library.update.section", "Scanning Movies", 2),),
        }

    verdict, _ = replay(task("scan", scanned_before=900), every(5, 60, at), SCAN)
    assert verdict.state == COMPLETE


def test_photos_that_take_four_hours_are_waited_for() -> None:
    profile = resolve("cloud_standard", "scan", "photo")

    def at(t: float) -> dict[str, Any]:
        return {"sections": (section(refreshing=True),), "counters": counters(items=int(t))}

    verdict, _ = replay(task("scan"), every(60, 4 * 3600, at), profile)
    assert verdict.state == RUNNING


def test_a_scan_without_end_is_timed_out_and_not_called_done() -> None:
    def at(t: float) -> dict[str, Any]:
        return {"sections": (section(refreshing=True),), "counters": counters(items=int(t))}

    verdict, _ = replay(task("scan"), every(600, 40000, at), SCAN)
    assert (verdict.state, verdict.reason) == (TIMED_OUT, "timeout")


def test_a_database_busy_for_five_minutes_is_waited_for() -> None:
    def at(t: float) -> dict[str, Any]:
        busy = 60 <= t <= 360
        return {
            "sections": (section(refreshing=True),),
            "counters": None if busy else counters(items=int(t)),
            "counters_error": "library.db is busy" if busy else "",
            "counters_busy": busy,
        }

    verdict, _ = replay(task("scan"), every(60, 600, at), SCAN)
    assert verdict.state == RUNNING


def test_a_database_busy_for_ever_is_named() -> None:
    trace = every(60, 3600, lambda _: {"counters": None, "counters_error": "busy", "counters_busy": True})
    verdict, _ = replay(task("scan"), trace, SCAN)
    assert (verdict.state, verdict.reason) == (UNHEALTHY, "plex_busy_db")


def test_nothing_ends_well_on_a_probe_that_failed() -> None:
    # Invented from docs/plex-facts.md#incidents (the mount dies in the last second of a scan): the next probe decides.
    begun = task("scan", scanned_before=100)
    over = {"sections": (section(scanned_at=150),)}
    trace = [sample(0.0, **over), sample(20.0, **over, mount=DEAD), sample(40.0, **over, mount=None)]
    verdict = judge(begun, trace, SCAN, 40.0)
    assert (verdict.state, verdict.reason) == (RUNNING, "mount_in_doubt")
    assert judge(begun, [*trace, sample(45.0, **over, mount=DEAD)], SCAN, 45.0).reason == "mount_dead"
    again = replace(DEAD, ok=True, problem="")
    assert judge(begun, [*trace, sample(45.0, **over, mount=again)], SCAN, 45.0).state == COMPLETE


def test_a_locked_database_that_silences_plex_is_not_taken_for_a_plex_that_died() -> None:
    # Facts 2.1: /identity stays 200 while the database is locked; everything that reads it gives up.
    locked = {"counters": None, "counters_error": "busy", "counters_busy": True, "answered": False, "problem": "500"}
    trace = every(60, 3600, lambda _: locked)
    assert SCAN.silent_after <= SCAN.busy_after
    assert replay(task("scan"), trace, SCAN)[0].reason == "plex_busy_db"
    dead = every(60, 3600, lambda t: locked if t < 300 else {**locked, "counters_busy": False, "counters_error": ""})
    assert replay(task("scan"), dead, SCAN)[0].reason == "plex_silent"


def test_a_restart_loop_is_named() -> None:
    # Recorded (docs/plex-facts.md#incidents): a corrupt archive made Plex restart for ever, visible only in docker
    # logs.
    trace = [sample(60.0 * i, server_pid=100 + i, server_started=float(i)) for i in range(4)]
    assert judge(task("scan"), trace[:2], SCAN, 60.0).next_step == START_AGAIN  # once may be chance
    verdict = judge(task("scan"), trace[:3], SCAN, 120.0)
    assert (verdict.state, verdict.reason) == (UNHEALTHY, "plex_restarting")
    assert verdict.evidence["restarts"] == 2
    later = [*trace[:2], sample(7000.0, server_pid=103, server_started=9.0)]
    assert judge(task("scan"), later, SCAN, 7000.0).state != UNHEALTHY  # two in two hours are no loop


def test_a_kill_for_want_of_memory_is_named() -> None:
    verdict, _ = replay(task("scan"), [sample(0, oom_killed=True)], SCAN)
    assert verdict.reason == "plex_restarting"
    assert "memory" in verdict.advice


def test_a_full_disk_stops_before_plex_corrupts_its_database() -> None:
    verdict, _ = replay(task("scan"), [sample(0, disk_free_bytes=10)], SCAN)
    assert (verdict.state, verdict.reason) == (UNHEALTHY, "disk_full")


def test_a_short_maintenance_is_waited_out_and_a_long_one_named() -> None:
    def at(_: float) -> dict[str, Any]:
        return {"answered": False, "http_status": 503, "maintenance": "currently running database migrations."}

    verdict, _ = replay(task("scan"), every(60, 600, at), SCAN)
    assert verdict.state == RUNNING
    verdict, _ = replay(task("scan"), every(60, 3600, at), SCAN)
    assert (verdict.state, verdict.reason) == (UNHEALTHY, "plex_maintenance")


def test_a_token_that_is_refused_ends_the_watching() -> None:
    trace = every(60, 300, lambda _: {"answered": False, "http_status": 401, "problem": "401"})
    verdict, _ = replay(task("sonic"), trace, SONIC)
    assert verdict.reason == "unauthorized"


def test_stabilised_means_quiet_and_little_cpu() -> None:
    def at(t: float) -> dict[str, Any]:
        cpu = 2.0 * t if t < 100 else 200 + 0.01 * t
        return {"processes": (server(cpu),)}

    verdict, when = replay(task("stabilise"), every(10, 600, at), SCAN)
    assert verdict.state == COMPLETE
    assert 100 <= when <= 150


def test_a_folder_whose_name_looks_like_an_option_does_not_hide_a_scan() -> None:
    args = "Plex Media Scanner --scan --refresh --section 1 --directory /Media/Music/Various -a --analyze"
    trace = every(60, 600, lambda t: {"processes": (server(), process("scanner", t, pid=50, args=args))})
    verdict, _ = replay(task("scan"), trace, SCAN)
    assert verdict.state == RUNNING


def test_a_scanner_of_another_section_is_none_of_ours() -> None:
    args = "Plex Media Scanner --scan --refresh --section 2"
    trace = every(
        5,
        60,
        lambda t: {
            "sections": (section(scanned_at=9),),
            "processes": (server(), process("scanner", t, pid=50, args=args)),
        },
    )
    verdict, _ = replay(task("scan", scanned_before=5), trace, SCAN)
    assert verdict.state == COMPLETE


def test_restarts_that_docker_counts_are_those_of_the_last_hour() -> None:
    slow = [sample(t, restarts=int(t / 7000)) for t in range(0, 20000, 100)]
    assert judge(task("scan"), slow, SCAN, 19900.0).reason != "plex_restarting"
    fast = [*slow, sample(20000.0, restarts=5)]
    assert judge(task("scan"), fast, SCAN, 20000.0).evidence["restarts"] == 3


def test_nothing_ends_on_counts_made_by_increments() -> None:
    done = counters(sonic_done=456534, full=False)
    verdict, _ = replay(task("sonic"), [sample(0, counters=done)], SONIC)
    assert (verdict.state, verdict.reason, verdict.exact) == (RUNNING, "counting_everything", True)


def test_a_section_without_tracks_any_more_is_not_a_complete_one() -> None:
    nothing = counters(sonic_total=0, sonic_done=0)
    verdict, _ = replay(task("sonic"), [sample(0, counters=nothing)], SONIC)
    assert (verdict.state, verdict.reason) == (STALLED, "counter_mismatch")
