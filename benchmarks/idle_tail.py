"""How long a run goes on after the work has ended: our verdicts against the prior scripts' rules.

    python benchmarks/idle_tail.py

Both watch the same scripted server on the same virtual clock. A library of eight sections as the reference one
(docs/plex-facts.md#reference-library) is scanned, analysed, and its music gets Sonic analysis; for each task the table
says how many
seconds after the real end each of the two goes on. The prior rules (docs/plex-facts.md#earlier-scripts): scan idle at 3
checks of 30 s after a
grace of 60 s; analysis idle at 5 checks of 120 s after the same grace; calm at 3 checks of 60 s; Sonic over after
30 checks of 120 s without a change. Ours: the profiles of a cloud run, the wait for calm included. Then every scenario
of the unit tests is replayed: an end before the real end is a false stop, or a false complete when it is called so.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(1, str(Path(__file__).resolve().parents[1] / "collections"))

from ansible_collections.plexburst.core.plugins.module_utils.plex.observe.sample import Sample, cpu_percent
from ansible_collections.plexburst.core.plugins.module_utils.plex.watch import watcher as watch
from ansible_collections.plexburst.core.plugins.module_utils.plex.watch.profiles import resolve

from tests.unit.plex.scenarios import HOUR, SCENARIOS, Scenario, Script, World, analysis, scan, sonic
from tests.unit.plex.traces import counters, task

PROFILE = "cloud_standard"


@dataclass(frozen=True)
class Work:
    """One task of the run: it really ends at `end` seconds."""

    section: str
    kind: str
    section_type: str
    end: float
    script: Script
    before: dict[str, int]


def library() -> list[Work]:
    """Eight sections as in docs/plex-facts.md#reference-library; the durations are invented, from moments to hours."""
    sections = (
        ("Music", "artist", 456534, 3.1 * HOUR, 2.7 * HOUR),
        ("TV", "show", 938, 421.0, 1711.0),
        ("Movies", "movie", 315, 187.0, 1033.0),
        ("A voir", "movie", 32, 41.0, 113.0),
        ("Photos", "photo", 28338, 1.3 * HOUR, 2.2 * HOUR),
        ("Kids-Movies", "movie", 5, 9.0, 23.0),
        ("Kids-TV", "show", 200, 97.0, 307.0),
        ("Adult", "movie", 57, 53.0, 171.0),
    )
    work = []
    for title, kind, items, scanned, analysed in sections:
        work.append(Work(title, "scan", kind, scanned, scan(scanned), {}))
        if kind == "artist":
            work.append(Work(title, "sonic", kind, 31 * HOUR + 77, sonic(31 * HOUR + 77), {}))
        else:
            before = {"items": items, "media": items, "media_analysed": 0}
            work.append(Work(title, "analyse", kind, analysed, analysis(analysed, items), before))
    return work


def ours(work: Work) -> float:
    """When the run goes on, by the watcher and the wait for calm that follows, as the action plugins do it."""
    world = World(work.script)
    begin = {"before": counters(**work.before), "scanned_before": 5}
    last = _watch(world, work.kind, work.section_type, begin, [])
    _watch(world, "stabilise", work.section_type, {}, last)
    return world.now


def _watch(world: World, kind: str, section_type: str, begin: dict[str, object], recent: list[Sample]) -> list[Sample]:
    start = recent[0].at if recent else world.now
    watcher = watch.Watcher(
        task=task(kind, started_at=world.now, window_from=start, **begin),
        profile=resolve(PROFILE, kind, section_type),
        title=kind,
        observe=world.observe,
        act=world.act,
        emit=world.lines.append,
        clock=world.clock,
        sleep=world.sleep,
        seed=recent,
    )
    outcome = watcher.run()
    if outcome.verdict.state != "complete":
        raise SystemExit(f"{kind} was not recognised as complete: {outcome.verdict}")
    return watcher.recent()


def prior(work: Work) -> float:
    """When the prior scripts would have gone on (docs/plex-facts.md#earlier-scripts)."""
    if work.kind == "sonic":
        # Before Sonic they waited for calm; that wait is after the scan's real end.
        return _sonic_by_stalls(work.script) + 3 * 60.0
    interval, checks = (30.0, 3) if work.kind == "scan" else (120.0, 5)
    return _idle(work.script, interval, checks, grace=60.0)


def _idle(script: Script, interval: float, checks: int, *, grace: float) -> float:
    t, idle = grace, 0
    before = script(t, [])
    while True:
        t += interval
        seen = script(t, [])
        busy = (
            any(section.refreshing for section in seen.sections)
            or bool(seen.activities)
            or bool(seen.of_kind("scanner"))
            or cpu_percent(before, seen) >= 20.0
        )
        before, idle = seen, 0 if busy else idle + 1
        if idle >= checks:
            return t


def _sonic_by_stalls(script: Script) -> float:
    t, stalls = 0.0, 0
    before = script(t, [])
    while stalls < 30:
        t += 120.0
        seen = script(t, [])
        moved = _done(before) != _done(seen)
        stalls = 0 if moved or cpu_percent(before, seen) >= 5.0 else stalls + 1
        before = seen
    return t


def _done(sample: Sample) -> int:
    if sample.counters is None:
        raise SystemExit("a scripted sample without counts")
    return sample.counters.sonic_done


def faults(scenarios: tuple[Scenario, ...] = SCENARIOS) -> tuple[list[str], list[str]]:
    """Names of the scenarios that were stopped too early, and of those called complete that are not."""
    stops, completes = [], []
    for scenario in scenarios:
        outcome, world = scenario.replay()
        state = outcome.verdict.state
        early = scenario.real_end is not None and world.now < scenario.real_end
        wanted = scenario.expected[0]
        if state == "complete" and (early or wanted != "complete"):
            completes.append(scenario.name)
        elif state != "complete" and (early or wanted == "complete"):
            stops.append(scenario.name)
    return stops, completes


def spread(work: Work, rule: Callable[[Work], float], shifts: int) -> float:
    """Mean seconds after the real end, over ends that fall differently between two looks.

    Every other scan shows no percentage (docs/plex-facts.md#activities: -1 = unknown), so that its end comes without a
    hint.
    """
    tails = []
    for number in range(shifts):
        end = work.end + 7.0 * number
        if work.kind == "scan":
            script = scan(end, hint=number % 2 == 0)
        else:
            script = sonic(end) if work.kind == "sonic" else analysis(end, work.before["media"])
        tails.append(rule(Work(work.section, work.kind, work.section_type, end, script, work.before)) - end)
    return sum(tails) / len(tails)


def main(shifts: int = 6) -> dict[str, float | int]:
    """Print the table and the last line; returns what it says."""
    works = library()
    print(f"{'section':12} {'task':8} {'real end':>10} {'prior: s after':>15} {'ours: s after':>14}")
    total_prior = total_ours = 0.0
    for work in works:
        theirs, mine = spread(work, prior, shifts), spread(work, ours, shifts)
        total_prior, total_ours = total_prior + theirs, total_ours + mine
        print(f"{work.section:12} {work.kind:8} {work.end:>10.0f} {theirs:>15.0f} {mine:>14.0f}")
    print(f"{'all':12} {'':8} {'':>10} {total_prior:>15.0f} {total_ours:>14.0f}")
    stops, completes = faults()
    print(f"{len(SCENARIOS)} scenarios: false stops {stops or 'none'}, false completes {completes or 'none'}")
    result = {
        "ratio": round(total_ours / total_prior, 4),
        "false_stops": len(stops),
        "false_completes": len(completes),
        "ours_seconds": round(total_ours),
        "prior_seconds": round(total_prior),
    }
    print(json.dumps(result))
    return result


if __name__ == "__main__":
    main()
