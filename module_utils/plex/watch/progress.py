"""The progress line: phase, section, bar, count/total, rate, ETA, cost so far, current activity."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ...text import span
from ..observe.sample import Counters, Sample, cpu_percent

BAR = 20
RATE_WINDOW = 1800.0
"""Seconds over which the rate is taken: long enough to be steady, short enough to follow a change."""
_LINE = re.compile(
    r"(?P<about>(?:\[(?P<host>[^\]\s]+)\] )?[a-z_]+ .*?): "
    rf"(?:\[[#-]{{{BAR}}}\] \d+/\d+ |\d+ items|[\d.]+ (?:s|min|h|d) · )"
)
"""The beginning of a line made by `line`, with or without the host."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Numbers of a progress line. `rate` in items per minute, `eta` in seconds; None = not known yet."""

    done: int
    total: int
    unit: str
    rate: float | None = None
    eta: float | None = None


def _position(kind: str, counters: Counters) -> tuple[int, int, str] | None:
    if kind == "sonic":
        return counters.sonic_done, counters.sonic_total, "tracks"
    if kind == "analyse":
        return counters.media_analysed, counters.media, "items"
    return None


def measure(kind: str, samples: Sequence[Sample]) -> Progress | None:
    """Return count, rate and ETA of a task with a countable end; None for a scan, whose end is unknown."""
    points = [
        (sample.at, position)
        for sample in samples
        if sample.counters is not None and (position := _position(kind, sample.counters)) is not None
    ]
    if not points:
        return None
    at, (done, total, unit) = points[-1]
    rate = eta = None
    earlier = next((point for point in points if point[0] >= at - RATE_WINDOW), points[0])
    if at - earlier[0] > 0 and done > earlier[1][0]:
        rate = (done - earlier[1][0]) / (at - earlier[0]) * 60.0
        eta = max(0, total - done) / rate * 60.0
    return Progress(done=done, total=total, unit=unit, rate=rate, eta=eta)


def bar(done: int, total: int) -> str:
    """Return [########------------]; full only when everything is done."""
    filled = BAR if total and done >= total else min(BAR - 1, BAR * done // total) if total else 0
    return "[" + "#" * filled + "-" * (BAR - filled) + "]"


def doing(samples: Sequence[Sample]) -> str:
    """Return what Plex is doing now, as short text."""
    last = samples[-1]
    if not last.answered:
        return last.maintenance or "no answer"
    words = []
    for activity in last.activities[:2]:
        percent = f" {activity.progress:.0f}%" if activity.progress >= 0 else ""
        subtitle = f": {activity.subtitle}" if activity.subtitle else ""
        words.append(f"{activity.title or activity.type}{subtitle}{percent}")
    names = {"scanner": "scanner", "transcoder": "transcoder", "music_analyzer": "analyzer"}
    for kind, name in names.items():
        count = len(last.of_kind(kind))
        if count:
            words.append(f"{count} {name}{'s' if count > 1 else ''}")
    if len(samples) > 1:
        words.append(f"cpu {cpu_percent(samples[-2], last):.0f}%")
    return ", ".join(words) or "quiet"


def line(
    kind: str,
    title: str,
    samples: Sequence[Sample],
    *,
    elapsed: float,
    hourly_price: float = 0.0,
    currency: str = "EUR",
    reason: str = "",
    missed: int = 0,
) -> str:
    """The line for the newest sample. `elapsed` in seconds since the task began; the price is of the instance, per
    hour."""
    parts = [f"{kind} {title}:"]
    progress = measure(kind, samples)
    if progress is not None:
        percent = 100.0 * progress.done / progress.total if progress.total else 0.0
        parts.append(
            f"{bar(progress.done, progress.total)} {progress.done}/{progress.total} {progress.unit} ({percent:.1f}%)"
        )
        if progress.rate is not None:
            parts.append(f"{progress.rate:.0f}/min")
        if progress.eta is not None and progress.done < progress.total:
            parts.append(f"ETA {span(progress.eta)}")
    elif samples and samples[-1].counters is not None:
        counters = samples[-1].counters
        trash = f", {counters.items_trashed} in the trash" if counters.items_trashed else ""
        parts.append(f"{counters.items} items{trash}")
    parts.append(span(elapsed))
    if hourly_price > 0:
        parts.append(f"{hourly_price * elapsed / 3600.0:.2f} {currency}")
    if samples:
        parts.append(doing(samples))
    if reason:
        parts.append(f"({reason.replace('_', ' ')})")
    if missed:
        parts.append(f"{missed} sample{'s' if missed > 1 else ''} missed")
    return " · ".join([" ".join(parts[:2]) if len(parts) > 1 else parts[0], *parts[2:]])


def about(text: str) -> str | None:
    """Return the subject of a progress line, as in ``[host] sonic Music``; None for any other text.

    A later line with the same subject may replace it.
    """
    found = _LINE.match(text)
    return found["about"] if found else None


def without_host(text: str) -> str:
    """Return a progress line without the ``[host]``, for a narrow terminal."""
    found = _LINE.match(text)
    return text[len(found["host"]) + 3 :] if found and found["host"] else text
