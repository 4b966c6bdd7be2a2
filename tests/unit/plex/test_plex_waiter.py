"""Waiting for the moment to stop home's Plex, on a virtual clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from ansible_collections.plexburst.core.plugins.module_utils.plex.maintenance_window import waiter as moment
from ansible_collections.plexburst.core.plugins.module_utils.plex.maintenance_window import window

HOUR = 3600.0
DAY = 24 * HOUR


@dataclass
class Home:
    """A household: `script` says who is busy at a time, or raises."""

    script: Callable[[float], list[str]]
    now: float = 0.0
    lines: list[str] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds

    def wait(self, **options: Any) -> float:
        text = options.pop("at", "")
        waiter = moment.Waiter(
            look=lambda: moment.Seen(self.script(self.now)),
            emit=self.lines.append,
            clock=lambda: self.now,
            sleep=self.sleep,
            window=window.parse(text),
            **{"patience": DAY, **options},
        )
        return waiter.wait()


def until(end: float, words: str) -> Callable[[float], list[str]]:
    return lambda now: [words] if now < end else []


def test_a_quiet_home_is_not_waited_for() -> None:
    home = Home(lambda _: [])
    assert home.wait() == 0.0
    assert home.lines == []


def test_somebody_who_watches_is_named_and_waited_for_and_a_pause_between_two_episodes_is_no_end() -> None:
    def script(now: float) -> list[str]:
        between = 1800 <= now < 1830
        return ["alice watches 'Dark: Secrets'"] if now < 3600 and not between else []

    home = Home(script)
    waited = home.wait()
    assert 3600 + 60 <= waited <= 3600 + 100
    assert "alice watches 'Dark: Secrets'" in home.lines[0]
    assert 12 <= len(home.lines) <= 18, "a line each five minutes, not each look"


def test_beyond_the_patience_it_ends_with_who_was_waited_for() -> None:
    home = Home(lambda _: ["alice watches 'Dune' (paused)", "'News' is recorded", "a", "b", "c"])
    busy = r"still blocked after 30 min: alice watches 'Dune' \(paused\); 'News' .* and 2 more"
    with pytest.raises(moment.InVain, match=busy):
        home.wait(patience=1800)
    assert home.now == pytest.approx(1800, abs=25)


def test_inside_a_window_only_and_at_once_when_it_opens() -> None:
    home = Home(lambda _: [], now=20 * HOUR)
    assert home.wait(at="02:00-06:00", offset=3600) == pytest.approx(5 * HOUR, abs=1)
    assert len(home.lines) > 10
    assert "02:00-06:00" in home.lines[0]


def test_a_window_that_closes_while_somebody_watches_is_waited_for_again() -> None:
    home = Home(until(6.5 * HOUR, "alice watches"), now=3 * HOUR)
    waited = home.wait(at="02:00-06:00")
    assert home.now == pytest.approx(26 * HOUR, abs=1)
    assert waited == pytest.approx(23 * HOUR, abs=1)


def test_a_quiet_home_in_the_last_moments_of_a_window_is_left_alone() -> None:
    home = Home(until(6 * HOUR - 90, "alice watches"), now=5 * HOUR)
    home.wait(at="02:00-06:00")
    assert home.now == pytest.approx(26 * HOUR, abs=1)


def test_a_window_beyond_the_patience_is_said_at_once() -> None:
    home = Home(lambda _: [], now=12 * HOUR)
    with pytest.raises(moment.InVain, match=r"02:00-06:00 at home, where it is 12:00, opens in 14 h.*the limit of 2 h"):
        home.wait(at="02:00-06:00", patience=2 * HOUR)
    assert home.now == 12 * HOUR


def test_a_lost_look_is_not_a_quiet_home_and_costs_a_look() -> None:
    def script(now: float) -> list[str]:
        if now < 300:
            raise moment.NoLook("no route to host")
        return []

    home = Home(script)
    assert 300 + 60 <= home.wait() <= 300 + 100
    assert "no route to host" in home.lines[0]


def test_a_home_that_never_answers_is_not_waited_for_all_day() -> None:
    def script(_now: float) -> list[str]:
        raise moment.NoLook("HTTP 500")

    home = Home(script)
    with pytest.raises(moment.InVain, match="has not answered for 1 h: HTTP 500"):
        home.wait()


def test_what_ends_the_waiting_passes_through() -> None:
    class Updated(Exception):
        pass

    def script(_now: float) -> list[str]:
        raise Updated

    with pytest.raises(Updated):
        Home(script).wait()
