"""The watcher on a virtual clock."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.plexburst.core.plugins.module_utils.plex.observe.sample import Sample
from ansible_collections.plexburst.core.plugins.module_utils.plex.watch import watcher as watch
from ansible_collections.plexburst.core.plugins.module_utils.plex.watch.profiles import PROFILES, resolve

from tests.unit.plex.traces import DEAD, counters, process, sample, section, server, task


@dataclass
class World:
    """A clock, a script of what is seen at which time, and what was done."""

    script: Callable[[float], Sample]
    now: float = 0.0
    lines: list[str] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds

    def observe(self, _last: Sample | None, gap: float) -> list[Sample]:
        first = self.script(self.now)
        if gap <= 0:
            return [first]
        self.now += gap
        return [first, self.script(self.now)]

    def act(self, step: str) -> bool:
        self.steps.append(step)
        return True


def watcher(world: World, kind: str, profile_name: str = "cloud_standard", **values: Any) -> watch.Watcher:
    return watch.Watcher(
        task=task(kind, **values),
        profile=resolve(profile_name, kind, "artist"),
        title="Music",
        observe=world.observe,
        act=world.act,
        emit=world.lines.append,
        clock=world.clock,
        sleep=world.sleep,
        hourly_price=0.4064,
    )


def test_sonic_from_start_to_end_says_what_it_does_and_what_it_costs() -> None:
    def script(t: float) -> Sample:
        done = min(456534, 456034 + int(t / 10))
        busy = (process("music_analyzer", t, pid=60),) if done < 456534 else ()
        return sample(t, processes=(server(), *busy), counters=counters(sonic_done=done))

    world = World(script)
    outcome = watcher(world, "sonic", before=counters(sonic_done=456034)).run()
    assert outcome.verdict.state == "complete"
    assert outcome.rate == pytest.approx(6, rel=0.1)
    assert world.now - 5000 <= 2 * PROFILES["cloud_intensive"].interval
    assert any("456" in line and "/min" in line and "ETA" in line and "EUR" in line for line in world.lines)
    assert not world.steps


def test_a_task_that_ended_early_is_started_again_a_bounded_number_of_times() -> None:
    world = World(lambda t: sample(t, counters=counters(sonic_done=1000)))
    outcome = watcher(world, "sonic", before=counters(sonic_done=1000)).run()
    assert outcome.verdict.state == "stalled"
    assert world.steps == ["start_again"]  # once; the second window shows that starting changes nothing
    assert outcome.task.restarts == 1


def test_restarts_that_gain_tracks_go_on_up_to_the_profiles_limit() -> None:
    holder: dict[str, Any] = {}

    def script(t: float) -> Sample:
        run = len(holder["world"].steps)
        since = t - holder.get("at", 0.0)
        done = 1000 + 10 * run + (10 if since >= 60 else 0)
        busy = (process("music_analyzer", t, pid=60),) if since < 60 else ()
        return sample(t, processes=(server(), *busy), counters=counters(sonic_done=done))

    world = World(script)
    holder["world"] = world
    made = watcher(world, "sonic", before=counters(sonic_done=1000))
    plain_act = world.act

    def act(step: str) -> bool:
        holder["at"] = world.now
        return plain_act(step)

    made.act = act
    outcome = made.run()
    assert world.steps == ["start_again"] * made.profile.restarts
    assert outcome.verdict.reason == "queue_empty_incomplete"


def test_a_plex_that_fell_again_while_it_was_asked_is_watched_until_the_loop_has_its_name() -> None:
    # Seen live: the start that a first restart asks for meets a Plex that is down for the second time.
    def script(t: float) -> Sample:
        life = int(t / 45)
        return sample(t, answered=t % 45 > 20, server_pid=100 + life, server_started=45.0 * life, problem="refused")

    world = World(script)
    made = watcher(world, "scan")
    made.act = lambda step: bool(world.steps.append(step))
    outcome = made.run()
    assert (outcome.verdict.state, outcome.verdict.reason) == ("unhealthy", "plex_restarting")
    assert outcome.task.restarts == 0
    assert world.steps


def test_a_dead_mount_is_cancelled_once_and_stays_a_failure() -> None:
    world = World(
        lambda t: sample(t, sections=(section(refreshing=True),), mount=DEAD, counters=counters(items=int(t)))
    )
    outcome = watcher(world, "scan").run()
    assert (outcome.verdict.state, outcome.verdict.reason) == ("unhealthy", "mount_dead")
    assert world.steps == ["cancel_scan"]


def test_a_lost_connection_costs_samples_not_the_run() -> None:
    def script(t: float) -> Sample:
        if 60 <= t < 400:
            raise watch.SampleMissed("Connection timed out", {"unreachable": True})
        return sample(
            t, sections=(section(scanned_at=0 if t < 600 else 9, refreshing=t < 600),), counters=counters(items=int(t))
        )

    outcome = watcher(World(script), "scan", scanned_before=1).run()
    assert outcome.verdict.state == "complete"
    assert outcome.missed > 3


def test_a_connection_lost_for_good_is_unreachable_with_what_ansible_said() -> None:
    def script(_: float) -> Sample:
        raise watch.SampleMissed("Connection timed out", {"unreachable": True, "msg": "ssh: timed out"})

    world = World(script)
    outcome = watcher(world, "scan").run()
    assert outcome.verdict.reason == "unreachable"
    assert outcome.lost == {"unreachable": True, "msg": "ssh: timed out"}
    assert world.now <= PROFILES["cloud_standard"].missed_after + 60


def test_a_calm_server_needs_no_look_of_its_own_to_be_called_stable() -> None:
    world = World(sample)
    made = watcher(world, "stabilise", window_from=-20.0)
    made.seed = [sample(-20.0), sample(-10.0), sample(0.0)]
    outcome = made.run()
    assert outcome.verdict.state == "complete"
    assert world.now == 0
    assert world.lines == []


def test_samples_are_recorded_for_their_owner_only(tmp_path: Path) -> None:
    world = World(lambda t: sample(t, sections=(section(scanned_at=9),)))
    made = watcher(world, "scan", scanned_before=1)
    made.recorder = watch.Recorder(tmp_path / "samples.jsonl")
    made.run()
    path = tmp_path / "samples.jsonl"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    again = Sample.from_dict(next(entry["sample"] for entry in entries if "sample" in entry))
    assert again.counters == counters()


def test_the_clock_of_the_watched_machine_does_not_matter() -> None:
    world = World(lambda t: sample(t + 86400.0, sections=(section(scanned_at=9),)))
    assert watcher(world, "scan", scanned_before=1).run().verdict.state == "complete"
