"""The loop that watches a task: sample, judge, report, record, and take the safe next step.

Clock, sampling and actions are parameters, so that tests replay days in milliseconds.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ...text import span
from ..observe.sample import Sample
from . import progress
from .profiles import Profile
from .verdict import CANCEL_BUTLER, CANCEL_SCAN, COMPLETE, STALLED, UNHEALTHY, Task, Verdict, judge
from .verdict import soon as verdict_soon

KEPT_SAMPLES = 3000
"""72 hours at two minutes are 2160 samples; above the limit every second sample of the older half is dropped."""
SAME_LINE_SECONDS = 60.0
"""Seconds until an unchanged line is repeated."""


class SampleMissed(Exception):
    """A sample could not be taken (connection lost, module failed). `result` is the result from Ansible."""

    def __init__(self, message: str, result: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.result = dict(result or {})


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the watching ended. `seconds`: duration of the whole task; `steps`: automatic steps that were taken."""

    verdict: Verdict
    task: Task
    seconds: float
    samples: int
    missed: int
    first: Sample | None
    last: Sample | None
    steps: tuple[str, ...] = ()
    lost: Mapping[str, Any] | None = None
    rate: float | None = None

    def plain(self) -> dict[str, Any]:
        """Return the outcome as a task's result."""
        return {
            "state": self.verdict.state,
            "reason": self.verdict.reason,
            "evidence": self.verdict.evidence,
            "advice": self.verdict.advice,
            "seconds": round(self.seconds, 1),
            "samples": self.samples,
            "missed": self.missed,
            "steps": list(self.steps),
            "restarts": self.task.restarts,
            "rate_per_minute": None if self.rate is None else round(self.rate, 2),
        }


@dataclass(slots=True)
class Recorder:
    """Appends samples and verdicts to RUN_DIR/samples.jsonl on the controller, mode 0600."""

    path: Path | None

    def write(self, entry: Mapping[str, Any]) -> None:
        """Append one JSON object as one line."""
        if self.path is None:
            return
        handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(handle, "a", encoding="utf-8") as stream:
            stream.write(json.dumps(entry, separators=(",", ":"), sort_keys=True) + "\n")


@dataclass(slots=True)
class Watcher:
    """Watches one task until its verdict is final.

    observe(last sample, gap) returns one sample, or two that are `gap` seconds apart when gap > 0, or raises
    SampleMissed; the last sample is passed without its counters when everything must be counted. act(step) carries out
    a verdict's next_step and returns whether that worked; emit shows a line; clock and sleep use seconds. `seed`:
    samples of the previous task, which may already show that this one is done. `between` is called after each sample
    unless the task has ended, with the seconds until the next sample, and should take no longer than these.
    """

    task: Task
    profile: Profile
    title: str
    observe: Callable[[Sample | None, float], list[Sample]]
    act: Callable[[str], bool]
    emit: Callable[[str], None]
    clock: Callable[[], float]
    sleep: Callable[[float], None]
    recorder: Recorder = field(default_factory=lambda: Recorder(None))
    hourly_price: float = 0.0
    currency: str = "EUR"
    seed: list[Sample] = field(default_factory=list)
    between: Callable[[Sample, float], None] | None = None
    _samples: list[Sample] = field(default_factory=list)
    _steps: list[str] = field(default_factory=list)
    _line: str = ""
    _line_at: float = 0.0

    def run(self) -> Outcome:
        """Watch until the task is complete, idle, stalled without a step left, unhealthy, timed out or unreachable."""
        missed = 0
        missing_since: float | None = None
        near = verdict_soon(self.profile)
        gap, exact = near, False
        early = self._seeded()
        if early is not None:
            return early
        self.emit(self.profile.words(f"{self.task.kind} {self.title}"))
        while True:
            try:
                batch = self._timed(self.observe(self._last(exact=exact), gap))
            except SampleMissed as problem:
                now = self.clock()
                missed += 1
                missing_since = now if missing_since is None else missing_since
                self.recorder.write({"at": now, "task": self.task.kind, "title": self.title, "missed": str(problem)})
                self.emit(f"{self.task.kind} {self.title}: sample missed ({problem})")
                if now - missing_since > self.profile.missed_after:
                    return self._outcome(self._unreachable(now - missing_since, problem), missed, problem.result)
                self.sleep(min(self.profile.interval, 30.0))
                continue
            missing_since = None
            self._keep(batch)
            now = self.clock()
            result = judge(self.task, self._samples, self.profile, now)
            self._record(batch, result)
            self._say(result, missed, now)
            if result.final and not self._step(result, now):
                return self._outcome(result, missed, None)
            wait = result.look_again if result.look_again and not result.final else self.profile.interval
            exact = result.exact
            spent = self._meanwhile(batch[-1], wait)
            # Near a beginning or an end one call takes two samples, with the wait between them.
            gap = wait if wait <= near else 0.0
            if (gap == 0.0 or len(batch) < 2) and wait > spent:
                self.sleep(wait - spent)

    def _meanwhile(self, sample: Sample, wait: float) -> float:
        """Call `between`; returns the seconds that it took."""
        if self.between is None:
            return 0.0
        begun = self.clock()
        self.between(sample, wait)
        return self.clock() - begun

    def _seeded(self) -> Outcome | None:
        """Return the outcome if the samples of the previous task already show that this one is complete, else None."""
        if not self.seed:
            return None
        now = self.clock()
        result = judge(self.task, self.seed, self.profile, now)
        if result.state != COMPLETE:
            return None
        self._samples = list(self.seed)
        self.recorder.write(
            {"at": now, "task": self.task.kind, "title": self.title, "verdict": {"state": result.state}}
        )
        return self._outcome(result, 0, None)

    def _timed(self, batch: list[Sample]) -> list[Sample]:
        """Return the samples with times of the local clock; the observed machine's clock may be off."""
        now = self.clock()
        return [replace(sample, at=now - (batch[-1].at - sample.at)) for sample in batch]

    def recent(self) -> list[Sample]:
        """Return the newest samples, as the seed of the next task."""
        return self._samples[-10:]

    def _last(self, *, exact: bool) -> Sample | None:
        if not self._samples:
            return None
        return replace(self._samples[-1], counters=None) if exact else self._samples[-1]

    def _keep(self, batch: list[Sample]) -> None:
        self._samples.extend(batch)
        if len(self._samples) > KEPT_SAMPLES:
            half = len(self._samples) // 2
            self._samples = self._samples[:half:2] + self._samples[half:]

    def _record(self, batch: list[Sample], result: Verdict) -> None:
        for sample in batch:
            self.recorder.write(
                {"at": sample.at, "task": self.task.kind, "title": self.title, "sample": sample.to_dict()}
            )
        self.recorder.write(
            {
                "at": batch[-1].at,
                "task": self.task.kind,
                "title": self.title,
                "verdict": {"state": result.state, "reason": result.reason, "evidence": result.evidence},
            }
        )

    def _say(self, result: Verdict, missed: int, now: float) -> None:
        text = progress.line(
            self.task.kind,
            self.title,
            self._samples[-200:],
            elapsed=now - self.task.started_at,
            hourly_price=self.hourly_price,
            currency=self.currency,
            reason=result.reason,
            missed=missed,
        )
        if result.final or text != self._line or now - self._line_at >= SAME_LINE_SECONDS:
            self._line, self._line_at = text, now
            self.emit(text)

    def _step(self, result: Verdict, now: float) -> bool:
        """Take the verdict's step; returns True to continue watching with a new window.

        Watching continues after a restart and after stopping another scheduled task. A scan cancelled because of a dead
        mount stays unhealthy.
        """
        if not result.next_step:
            return False
        if self._steps.count(result.next_step) >= self.profile.restarts:
            return False
        self.emit(f"{self.task.kind} {self.title}: {result.reason.replace('_', ' ')}. {result.advice}")
        done = self.act(result.next_step)
        self._steps.append(result.next_step)
        if not done and result.reason == "plex_restarting":
            return True  # Plex ended again during the request; the next sample shows whether that is a loop
        go_on = done and result.state == STALLED and result.next_step != CANCEL_SCAN
        if go_on:
            again = 0 if result.next_step == CANCEL_BUTLER else 1
            self.task = replace(self.task, window_from=now, restarts=self.task.restarts + again)
        return go_on

    def _unreachable(self, seconds: float, problem: SampleMissed) -> Verdict:
        return Verdict(
            UNHEALTHY,
            "unreachable",
            {"seconds": round(seconds), "last": str(problem)},
            f"No sample for {span(seconds)}: {problem}. The instance may be gone. Run recover.yml to recover its "
            "results.",
        )

    def _outcome(self, result: Verdict, missed: int, lost: Mapping[str, Any] | None) -> Outcome:
        samples = self._samples
        measured = progress.measure(self.task.kind, samples)
        elapsed = self.clock() - self.task.started_at
        rate = None
        if measured is not None and self.task.before is not None and elapsed > 0:
            begun = self.task.before.sonic_done if self.task.kind == "sonic" else self.task.before.media_analysed
            rate = max(0, measured.done - begun) / elapsed * 60.0
        return Outcome(
            verdict=result,
            task=self.task,
            seconds=elapsed,
            samples=len(samples),
            missed=missed,
            first=samples[0] if samples else None,
            last=samples[-1] if samples else None,
            steps=tuple(self._steps),
            lost=lost,
            rate=rate,
        )


def plain_counters(sample: Sample | None) -> dict[str, Any] | None:
    """Return the counters of a sample as plain data."""
    return None if sample is None or sample.counters is None else asdict(sample.counters)
