"""When the forecast of a Sonic analysis is said: once, after half an hour at the latest, on a virtual clock."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.utils.display import Display
from ansible_collections.plexburst.core.plugins.action.plex_sonic import ActionModule
from ansible_collections.plexburst.core.plugins.module_utils.plex.observe.sample import Counters, Process, Sample
from ansible_collections.plexburst.core.plugins.module_utils.plex.watch import profiles

PLAN = {"task": "sonic", "title": "Music", "hourly_price": 0.4, "currency": "EUR", "cpus": 8}


def sample(seconds: float, done: int, cpu_share: float) -> Sample:
    """`cpu_share` of one core was used by the analyzer since the beginning."""
    workers = (
        Process(
            pid=7, kind="music_analyzer", cpu_seconds=cpu_share * seconds, started=1.0, read_bytes=int(1e6 * seconds)
        ),
        Process(pid=8, kind="transcoder", cpu_seconds=0.0, started=1.0, read_bytes=0),
    )
    counters = Counters((1,), 456_534, 0, 456_534, 0, 456_534, 456_534, 456_534, done, 0, done, done)
    return Sample(at=seconds, answered=True, processes=workers, counters=counters)


def told(monkeypatch: pytest.MonkeyPatch, profile: str, cpu_share: float, hours: float) -> list[tuple[float, str]]:
    """(virtual second, line) of everything the plugin says while samples of so many hours go by."""
    lines: list[tuple[float, str]] = []
    clock = {"now": 0.0}
    monkeypatch.setattr(Display, "display", lambda self, line, *rest, **more: lines.append((clock["now"], line)))
    action: Any = object.__new__(ActionModule)
    action._seen, action._forecast = [], None
    action._vars = {"inventory_hostname": "indexer"}
    patient = profiles.resolve(profile, "sonic", "artist", {})
    while clock["now"] <= hours * 3600.0:
        at = clock["now"]
        action._look(PLAN, patient, [sample(at, 81_035 + int(at / 2), cpu_share)])
        clock["now"] += patient.interval
    return lines


@pytest.mark.parametrize("profile", sorted(set(profiles.PROFILES) - {"sandbox"}))
def test_the_forecast_comes_once_and_within_half_an_hour(monkeypatch: pytest.MonkeyPatch, profile: str) -> None:
    ((at, line),) = told(monkeypatch, profile, cpu_share=0.97, hours=2)
    assert at <= 1800.0
    assert "forecast: " in line
    assert "30.0/min" in line
    assert "97 % of 800 % CPU" in line
    assert "cpu-bound" in line
    # 374,600 tracks at 30 a minute are 208 hours, at 0.40 EUR each.
    assert "83." in line
    assert "EUR" in line


def test_an_analysis_that_waits_for_its_media_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    ((_, line),) = told(monkeypatch, "cloud_standard", cpu_share=0.1, hours=1)
    assert "network-bound" in line


def test_before_there_is_a_track_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr(Display, "display", lambda self, line, *rest, **more: lines.append(line))
    action: Any = object.__new__(ActionModule)
    action._seen, action._forecast = [], None
    action._vars = {}
    patient = profiles.resolve("cloud_standard", "sonic", "artist", {})
    for minute in range(60):
        action._look(PLAN, patient, [sample(60.0 * minute, 81_035, 0.5)])
    assert lines == []
