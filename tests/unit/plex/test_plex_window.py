"""A window of the day: what people write, over midnight too."""

from __future__ import annotations

import pytest
from ansible_collections.plexburst.core.plugins.module_utils.plex.maintenance_window import window

HOUR = 3600


def test_a_window_is_open_between_its_times_and_says_when_it_opens() -> None:
    night = window.parse(" 02:00 - 6:30 ")
    assert night is not None
    assert str(night) == "02:00-06:30"
    assert night.opens_in(1 * HOUR) == HOUR
    assert night.opens_in(2 * HOUR) == 0
    assert night.left(2 * HOUR) == 4.5 * HOUR
    assert night.left(6.5 * HOUR) == 0
    assert night.opens_in(20 * HOUR) == 6 * HOUR


def test_a_window_may_go_over_midnight() -> None:
    late = window.parse("23:00-01:00")
    assert late is not None
    assert late.left(23.5 * HOUR) == 1.5 * HOUR
    assert late.left(0.5 * HOUR) == 0.5 * HOUR
    assert late.opens_in(1 * HOUR) == 22 * HOUR


def test_nothing_is_any_time() -> None:
    assert window.parse("") is None


@pytest.mark.parametrize("text", ["2-6", "02:00", "25:00-26:00", "02:60-03:00", "night", "02:00-02:00", "02:00-02:05"])
def test_what_is_no_window_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"02:00-06:00|10 minutes"):
        window.parse(text)


def test_offsets_are_read_as_facts_give_them() -> None:
    assert [window.offset(text) for text in ("+0000", "+0530", "-0330", "+01:00")] == [0, 19800, -12600, 3600]
    with pytest.raises(ValueError, match=r"\+0100"):
        window.offset("CET")
