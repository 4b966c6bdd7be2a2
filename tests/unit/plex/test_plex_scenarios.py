"""Whole situations through the Watcher on a virtual clock: the right name, in time, and never a false end."""

from __future__ import annotations

import pytest

from tests.unit.plex.scenarios import SCENARIOS, Scenario


@pytest.mark.parametrize("scenario", SCENARIOS, ids=[scenario.name for scenario in SCENARIOS])
def test_a_situation_is_called_by_its_name(scenario: Scenario) -> None:
    outcome, world = scenario.replay()
    verdict = outcome.verdict
    assert (verdict.state, verdict.reason) == scenario.expected, (world.now, verdict, world.steps)
    if scenario.real_end is not None:
        assert world.now >= scenario.real_end
    if scenario.steps is not None:
        assert tuple(step for _, step in world.steps) == scenario.steps
    if scenario.named is not None:
        said = [at for at, _ in world.steps] or [world.now]
        assert said[0] <= scenario.named
    if verdict.state != "complete":
        assert verdict.evidence, "a verdict without numbers"
        assert verdict.advice.endswith(".")


def test_there_are_at_least_twenty_five_and_each_says_where_it_comes_from() -> None:
    assert len(SCENARIOS) >= 25
    assert len({scenario.name for scenario in SCENARIOS}) == len(SCENARIOS)
    assert all(scenario.label.startswith(("recorded", "invented")) and scenario.fact for scenario in SCENARIOS)


def test_blind_increments_are_named_and_replaced_by_full_counts() -> None:
    scenario = next(entry for entry in SCENARIOS if entry.blind)
    outcome, world = scenario.replay()
    assert any("counter mismatch" in line for line in world.lines)
    assert outcome.verdict.evidence["drift"] > 0
    assert outcome.last is not None
    assert outcome.last.counters is not None
    assert outcome.last.counters.full
    assert not world.steps


@pytest.mark.parametrize("scenario", SCENARIOS, ids=[scenario.name for scenario in SCENARIOS])
def test_watching_costs_little(scenario: Scenario) -> None:
    outcome, world = scenario.replay()
    assert outcome.samples <= max(400, world.now / 30)
