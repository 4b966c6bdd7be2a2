"""When checkpoints are made in long work, on a virtual clock, and what becomes of those that fail."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from ansible_collections.plexburst.core.plugins.module_utils.checkpoint.schedule import (
    PATIENCE,
    Checkpoints,
    Kept,
    NotMade,
    State,
)
from ansible_collections.plexburst.core.plugins.module_utils.plex.observe.sample import Sample
from ansible_collections.plexburst.core.plugins.module_utils.transfer.carrier import Cut
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.plex.test_plex_watch import World, watcher
from tests.unit.plex.traces import counters, process, sample, server

MINUTE = 60.0


@dataclass
class Indexer:
    """What the world does with a checkpoint: each takes so many pieces; `trouble` says what goes wrong, and when."""

    world: World
    pieces: int = 1
    made_in: float = 20.0
    trouble: Callable[[str], None] = lambda step: None
    made_at: list[float] = field(default_factory=list)
    kept_at: list[float] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    left: int = 0

    def make(self) -> None:
        self.done.append("make")
        self.trouble("make")
        self.made_at.append(self.world.now)
        self.world.now += self.made_in
        self.left = self.pieces

    def bring(self, until: float | None) -> bool:
        self.done.append("bring")
        while self.left:
            self.trouble("bring")
            self.left -= 1
            self.world.now += 5.0
            if until is not None and self.world.now >= until and self.left:
                return False
        return True

    def keep(self) -> Kept:
        self.done.append("keep")
        self.trouble("keep")
        self.kept_at.append(self.world.now)
        return Kept(len(self.kept_at), "2026-11-22T07:15:00Z", {"items": 9, "sonic_done": 41_200}, 12_300_000)

    def drop(self) -> None:
        self.done.append("drop")


@dataclass
class Remembered:
    """The run's folder."""

    state: dict[str, Any] = field(default_factory=dict)
    events: list[tuple[str, str]] = field(default_factory=list)

    def __call__(self, state: State, event: str, said: str) -> None:
        self.state = state.plain()
        if event:
            self.events.append((event, said))


def made(
    world: World, indexer: Indexer, minutes: float = 60, tracks: int = 25_000, kept: Remembered | None = None
) -> Checkpoints:
    kept = kept if kept is not None else Remembered()
    state = State.of(kept.state or None, world.now)
    return Checkpoints(minutes, tracks, indexer, state, world.lines.append, world.clock, kept)


def analysed(world: World, rate: float, total: int = 200_000) -> Callable[[float], Sample]:
    """Sonic analysis at so many tracks a minute, to its end."""

    def script(t: float) -> Sample:
        done = min(total, int(t * rate / MINUTE))
        busy = (process("music_analyzer", t, pid=60),) if done < total else ()
        return sample(t, processes=(server(), *busy), counters=counters(sonic_done=done, sonic_total=total))

    return script


def sonic(world: World, checkpoints: Checkpoints, total: int = 200_000) -> Any:
    """Watch it as the action plugin does."""
    checkpoints.begin(0)
    watched = watcher(world, "sonic", before=counters(sonic_done=0, sonic_total=total))

    def between(seen: Sample, seconds: float) -> None:
        assert seen.counters is not None
        checkpoints.look(seen.counters.sonic_done, seconds)

    watched.between = between
    outcome = watched.run()
    assert outcome.last is not None
    assert outcome.last.counters is not None
    checkpoints.saw(outcome.last.counters.sonic_done)
    checkpoints.end()
    return outcome


def test_one_is_made_every_so_many_minutes_and_said_in_a_line() -> None:
    world = World(sample)
    world.script = analysed(world, rate=100, total=30_000)
    indexer = Indexer(world)
    kept = Remembered()
    outcome = sonic(world, made(world, indexer, kept=kept), total=30_000)
    assert outcome.verdict.state == "complete"
    assert len(indexer.kept_at) == 4  # 300 minutes of work
    gaps = [later - earlier for earlier, later in zip([0.0, *indexer.made_at], indexer.made_at, strict=False)]
    assert all(60 * MINUTE <= gap <= 65 * MINUTE for gap in gaps)
    said = "checkpoint 2: 41,200 tracks with Sonic data downloaded to the controller (12.3 MB transferred)"
    assert said in world.lines
    assert kept.state["newest"]["number"] == 4
    assert (kept.state["made"], kept.state["failed"], kept.state["transferred_bytes"]) == (4, 0, 4 * 12_300_000)
    assert [event for event, _ in kept.events] == ["checkpoint"] * 4


def test_many_tracks_make_one_due_before_its_time() -> None:
    world = World(sample)
    world.script = analysed(world, rate=1000)
    indexer = Indexer(world)
    sonic(world, made(world, indexer))
    assert len(indexer.kept_at) >= 6
    assert indexer.made_at[0] == pytest.approx(25 * MINUTE, abs=5 * MINUTE)


def test_none_is_made_when_nothing_was_gained_or_nobody_wants_one() -> None:
    world = World(sample)
    world.script = lambda t: sample(
        t, processes=(server(), process("music_analyzer", t, pid=60)), counters=counters(sonic_done=0)
    )
    indexer = Indexer(world)
    assert sonic(world, made(world, indexer)).verdict.state != "complete"
    assert world.now > 60 * MINUTE
    assert indexer.done == []
    world = World(sample)
    world.script = analysed(world, rate=1000)
    indexer = Indexer(world)
    sonic(world, made(world, indexer, minutes=0, tracks=0))
    assert indexer.done == []


def test_samples_go_on_while_a_large_one_travels() -> None:
    world = World(sample)
    world.script = analysed(world, rate=100, total=15_000)
    seen: list[float] = []
    script = world.script
    world.script = lambda t: (seen.append(t), script(t))[1]
    indexer = Indexer(world, pieces=240)  # twenty minutes
    outcome = sonic(world, made(world, indexer), total=15_000)
    assert outcome.verdict.state == "complete"
    assert len(indexer.kept_at) == 2
    travelling = [t for t in seen if indexer.made_at[0] <= t <= indexer.kept_at[0]]
    assert max(later - earlier for earlier, later in itertools.pairwise(travelling)) <= 2.5 * MINUTE
    assert len(travelling) > 5


def failing(*steps: str) -> Callable[[str], None]:
    """What goes wrong, in this order; then nothing does."""
    left: Iterator[str] = iter(steps)

    def trouble(step: str) -> None:
        wanted = next(left, "") if step in ("make", "keep") else ""
        if wanted == step:
            raise NotMade(f"No space left on the {'indexer' if step == 'make' else 'controller'}.")

    return trouble


def test_one_that_fails_is_said_counted_and_tried_again_when_the_next_is_due() -> None:
    world = World(sample)
    world.script = analysed(world, rate=100, total=30_000)
    indexer = Indexer(world, trouble=failing("make", "", "keep"))
    kept = Remembered()
    outcome = sonic(world, made(world, indexer, kept=kept), total=30_000)
    assert outcome.verdict.state == "complete", "the work went on"
    assert indexer.done.count("make") == 4
    assert indexer.done.count("drop") == 2
    assert [event for event, _ in kept.events] == ["checkpoint_failed", "checkpoint_failed", "checkpoint", "checkpoint"]
    assert kept.state["failed"] == 2
    (first, _) = (line for line in world.lines if line.startswith("no checkpoint: "))
    assert first == (
        "no checkpoint: No space left on the indexer. The task continues; the next try is in 60 min or after 25,000 "
        "more tracks."
    )


def test_a_cut_line_is_gone_on_with_and_given_up_only_when_it_stays_cut() -> None:
    world = World(sample)
    world.script = analysed(world, rate=100, total=15_000)
    cut_until = [60 * MINUTE + 300.0]

    def trouble(step: str) -> None:
        if step == "bring" and world.now < cut_until[0]:
            raise Cut("Connection reset by peer")

    indexer = Indexer(world, trouble=trouble)
    sonic(world, made(world, indexer), total=15_000)
    assert (indexer.done.count("make"), len(indexer.kept_at)) == (2, 2)

    world = World(sample)
    world.script = analysed(world, rate=100, total=15_000)
    cut_until = [1e9]
    indexer = Indexer(world, trouble=trouble)
    kept = Remembered()
    sonic(world, made(world, indexer, kept=kept), total=15_000)
    assert indexer.kept_at == []
    assert kept.events[0] == ("checkpoint_failed", "The connection was lost (Connection reset by peer).")
    assert indexer.done.count("bring") >= PATIENCE / 120


def test_what_a_step_gained_counts_for_the_next_one_and_between_two_it_is_done_at_once() -> None:
    world = World(sample)
    kept = Remembered()
    scan = made(world, Indexer(world), kept=kept)
    scan.begin(1000)
    world.now = 50 * MINUTE
    scan.saw(4000)
    scan.end()
    scan.between()
    scan.leave()
    assert kept.state["waiting"] == 3000
    assert kept.state["since"] == 0.0
    world.now = 61 * MINUTE
    indexer = Indexer(world, pieces=240)
    analysis = made(world, indexer, kept=kept)
    analysis.begin(4000)
    analysis.end()
    analysis.between()
    assert indexer.done == ["make", "bring", "keep"]
    analysis.leave()
    assert kept.state["waiting"] == 0


def test_after_a_failure_what_was_reached_is_brought_to_safety_though_nothing_is_due() -> None:
    world = World(sample)
    indexer = Indexer(world)
    work = made(world, indexer)
    work.begin(0)
    work.look(500, 60.0)
    work.end()
    assert indexer.done == []
    work.between(anyway=True)
    assert indexer.done == ["make", "bring", "keep"]
    work.between(anyway=True)
    assert indexer.done == ["make", "bring", "keep"], "nothing was gained since"


def test_what_is_under_way_when_the_work_is_over_leaves_nothing_on_the_indexer() -> None:
    world = World(sample)
    indexer = Indexer(world, pieces=1000)
    work = made(world, indexer, minutes=1)
    work.begin(0)
    world.now = 2 * MINUTE
    work.look(500, 60.0)
    work.end()
    work.leave()
    assert indexer.done == ["make", "bring", "drop"]
    assert work.state.waiting == 500


def test_how_far_the_work_is_may_show_only_later() -> None:
    world = World(sample)
    indexer = Indexer(world)
    work = made(world, indexer)
    work.begin(None)
    work.look(400_000, 60.0)
    assert work.gained == 0
    assert indexer.done == []
    work.look(400_010, 60.0)
    assert work.gained == 10


@given(
    steps=st.lists(st.tuples(st.integers(0, 4000), st.floats(1, 5000), st.booleans()), max_size=60),
    minutes=st.floats(0, 100),
    tracks=st.integers(0, 20_000),
)
def test_what_is_gained_is_either_safe_or_waits_and_never_counted_twice(
    steps: list[tuple[int, float, bool]], minutes: float, tracks: int
) -> None:
    world = World(sample)
    broken = [False]

    def trouble(step: str) -> None:
        if broken[0] and step == "make":
            raise NotMade("No.")

    indexer = Indexer(world, trouble=trouble)
    work = made(world, indexer, minutes=minutes, tracks=tracks)
    work.begin(0)
    count = safe = 0
    for more, seconds, fails in steps:
        count += more
        world.now += seconds
        broken[0] = fails
        before = len(indexer.kept_at)
        work.look(count, 60.0)
        if len(indexer.kept_at) > before:
            safe = count
        assert work.gained == count - safe
    work.end()
    assert work.state.waiting == count - safe
