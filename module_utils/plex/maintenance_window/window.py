"""A daily maintenance window such as 02:00-06:00: parsing, whether it is open, when it opens."""

from __future__ import annotations

import re
from dataclasses import dataclass

DAY = 86400
SHORTEST = 600
"""Minimum duration of a window in seconds."""
_TEXT = re.compile(r"(\d{1,2}):(\d{2})\s*-\s*(\d{1,2}):(\d{2})")


@dataclass(frozen=True, slots=True)
class Window:
    """From `start` to `end` in seconds since midnight; with `end` before `start` it includes midnight."""

    start: int
    end: int

    def __str__(self) -> str:
        return f"{clock(self.start)}-{clock(self.end)}"

    @property
    def length(self) -> int:
        """Seconds."""
        return (self.end - self.start) % DAY

    def left(self, second: float) -> float:
        """Return the seconds until it closes, at a second of the day; 0 while it is closed."""
        gone = (second - self.start) % DAY
        return max(0.0, self.length - gone)

    def opens_in(self, second: float) -> float:
        """Return the seconds until it opens; 0 while it is open."""
        return 0.0 if self.left(second) > 0 else (self.start - second) % DAY


def parse(text: str) -> Window | None:
    """Return the window for `HH:MM-HH:MM`, None for an empty text, which means any time.

    Raises ValueError with what was expected.
    """
    if not text.strip():
        return None
    found = _TEXT.fullmatch(text.strip())
    numbers = [int(part) for part in found.groups()] if found else []
    if not numbers or max(numbers[0], numbers[2]) > 23 or max(numbers[1], numbers[3]) > 59:
        raise ValueError(f"expected two times of the day such as 02:00-06:00, or nothing for any time; found {text!r}.")
    window = Window(numbers[0] * 3600 + numbers[1] * 60, numbers[2] * 3600 + numbers[3] * 60)
    if window.length < SHORTEST:
        raise ValueError(
            f"expected a window of at least {SHORTEST // 60} minutes, found {text!r}; leave it empty for any time."
        )
    return window


def offset(text: str) -> int:
    """Return the seconds east of UTC for an offset such as +0100 (`date +%z` and Ansible's facts).

    Raises ValueError when it is of another form.
    """
    found = re.fullmatch(r"([+-])(\d{2}):?(\d{2})", text.strip())
    if not found:
        raise ValueError(f"expected an offset from UTC such as +0100, found {text!r}.")
    seconds = int(found[2]) * 3600 + int(found[3]) * 60
    return -seconds if found[1] == "-" else seconds


def clock(second: float) -> str:
    """Return a second of the day as text, such as 02:05."""
    minutes = int(second) % DAY // 60
    return f"{minutes // 60:02d}:{minutes % 60:02d}"
