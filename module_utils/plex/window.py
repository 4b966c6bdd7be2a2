"""A daily window of time, such as 02:00-06:00: what it means, whether it is open, when it opens."""

from __future__ import annotations

import re
from dataclasses import dataclass

DAY = 86400
SHORTEST = 600
"""Seconds that a window must last: waiting for one that is over in a moment would be waiting for nothing."""
_TEXT = re.compile(r"(\d{1,2}):(\d{2})\s*-\s*(\d{1,2}):(\d{2})")


@dataclass(frozen=True, slots=True)
class Window:
    """From `start` up to `end`, both in seconds since midnight; one that ends before it starts goes over midnight."""

    start: int
    end: int

    def __str__(self) -> str:
        return f"{clock(self.start)}-{clock(self.end)}"

    @property
    def length(self) -> int:
        """Seconds."""
        return (self.end - self.start) % DAY

    def left(self, second: float) -> float:
        """Seconds until it closes, at a second of the day; 0 while it is closed."""
        gone = (second - self.start) % DAY
        return max(0.0, self.length - gone)

    def opens_in(self, second: float) -> float:
        """Seconds until it opens; 0 while it is open."""
        return 0.0 if self.left(second) > 0 else (self.start - second) % DAY


def parse(text: str) -> Window | None:
    """The window that `HH:MM-HH:MM` says, None for an empty text, which means any time.

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
    """Seconds east of UTC of an offset as `date +%z` and Ansible's facts give it, such as +0100.

    Raises ValueError when it is of another form.
    """
    found = re.fullmatch(r"([+-])(\d{2}):?(\d{2})", text.strip())
    if not found:
        raise ValueError(f"expected an offset from UTC such as +0100, found {text!r}.")
    seconds = int(found[2]) * 3600 + int(found[3]) * 60
    return -seconds if found[1] == "-" else seconds


def clock(second: float) -> str:
    """A second of the day as people say it: 02:05."""
    minutes = int(second) % DAY // 60
    return f"{minutes // 60:02d}:{minutes % 60:02d}"
