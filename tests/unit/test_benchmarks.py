"""The benchmarks' logic, on a small library and few repetitions."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from tests.unit.plex.scenarios import SCENARIOS

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch):
    def by_name(name: str) -> ModuleType:
        monkeypatch.setattr(sys, "path", list(sys.path))
        spec = importlib.util.spec_from_file_location(f"benchmark_{name}", FOLDER / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        return module

    return by_name


def test_the_tail_is_a_twentieth_of_the_prior_rules_and_nothing_ends_falsely(load, capsys) -> None:
    load("idle_tail").main(shifts=1)
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["ratio"] <= 1 / 20
    assert (last["false_stops"], last["false_completes"]) == (0, 0)
    assert last["prior_seconds"] > 3600  # the baseline is the one that waited an hour after the work had ended


def test_a_false_end_is_counted(load) -> None:
    idle_tail = load("idle_tail")
    good = next(scenario for scenario in SCENARIOS if scenario.real_end == 600)
    assert idle_tail.faults((good,)) == ([], [])
    assert idle_tail.faults((replace(good, real_end=10_000.0),)) == ([], [good.name])
    failing = next(scenario for scenario in SCENARIOS if scenario.expected == ("unhealthy", "disk_full"))
    assert idle_tail.faults((replace(failing, expected=("complete", "")),)) == ([failing.name], [])


def test_a_poll_gives_the_plain_counts_numbers(load, capsys, tmp_path: Path) -> None:
    counters = load("counters")
    counters.main(["--tracks", "2000", "--keep", str(tmp_path / "kept")])
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["equal"] is True
    assert last["ratio"] > 0
    counters.main(["--tracks", "2000", "--keep", str(tmp_path / "kept")])  # the kept one is used again
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["equal"] is True


def test_the_way_home_is_a_fraction_of_everything(load, capsys) -> None:
    load("way_home").main(["--items", "3000", "--without-home"])
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["bytes_ratio_1pct"] <= 1 / 50  # fixed costs weigh in a library so small; the full size is 1/100
    assert last["wire_per_changed_byte_1pct"] <= 1 / 3
    assert last["bytes_ratio_1pct"] < last["bytes_ratio_80pct"] < 1
    assert last["memory_mb"] < 64
    assert last["audit_seconds"] > 0
    assert last["merge_seconds"] > 0
    assert last["home_down_seconds"] is None  # left out is not 0
