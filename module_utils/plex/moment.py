"""Waiting for the moment at which a Plex server may be stopped: inside a window of the day, and nobody would notice.

The clock, the pause and the look are given, so that days pass in milliseconds in a test.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ansible_collections.plexburst.core.plugins.module_utils.plex.profiles import span
from ansible_collections.plexburst.core.plugins.module_utils.plex.window import DAY, Window, clock

SAY_EVERY = 300.0
"""A line that says nothing new is repeated only so often."""
LONGEST_PAUSE = 60.0
MARGIN = 120.0
"""A window that closes within so many seconds is closed already: the exchange and the start want their time."""
UNANSWERED = 3600.0
"""Seconds for which every look may fail. A network may be away for that long; a server that does not speak for longer
wants somebody to look at it."""


class NoLook(Exception):
    """The server could not be looked at this time. What is not known is not quiet."""


class InVain(Exception):
    """The moment did not come. `words` say what was waited for."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One look: what a stop would interrupt, in words; empty when nothing."""

    busy: Sequence[str]


@dataclass
class Waiter:
    """All times in seconds.

    :param look: looks once; raises NoLook when it cannot, and anything else that must end the waiting.
    :param clock: seconds since the epoch, which with `offset` (east of UTC) give the time of the day at home.
    :param patience: how long to wait altogether. :param poll: between two looks.
    :param settle: how long it must stay quiet after it was not: between two episodes nobody plays for a moment.
    """

    look: Callable[[], Seen]
    emit: Callable[[str], None]
    clock: Callable[[], float]
    sleep: Callable[[float], None]
    patience: float
    window: Window | None = None
    offset: int = 0
    poll: float = 20.0
    settle: float = 60.0
    looks: int = 0
    _begun: float = 0.0
    _said: tuple[str, float] = field(default=("", 0.0))

    def wait(self) -> float:
        """Return when the moment is there; the seconds that it took. Raises InVain."""
        self._begun = self.clock()
        quiet_since: float | None = None
        answered = self._begun
        was_busy = False
        while True:
            shut = self._shut()
            if shut > 0:
                was_busy, quiet_since = False, None
                self._until_open(shut)
                answered = self.clock()
                continue
            try:
                busy = list(self.look().busy)
            except NoLook as problem:
                # Who was not seen for a while may have come and gone, or come and stayed.
                busy, was_busy = [f"home cannot be asked ({problem})"], True
                if self.clock() - answered >= UNANSWERED:
                    raise InVain(f"home could not be asked for {span(self.clock() - answered)}: {problem}") from problem
            else:
                answered = self.clock()
            self.looks += 1
            if busy:
                was_busy, quiet_since = True, None
                self._pause("; ".join(busy[:3]) + (f" and {len(busy) - 3} more" if len(busy) > 3 else ""))
                continue
            quiet_since = self.clock() if quiet_since is None else quiet_since
            calm = self.clock() - quiet_since
            if not was_busy or calm >= self.settle:
                return self.clock() - self._begun
            self._pause(f"quiet now, and it has to stay so for {span(self.settle)}")

    def _second(self) -> float:
        """The second of the day at home."""
        return (self.clock() + self.offset) % DAY

    def _shut(self) -> float:
        """Seconds until the window opens; 0 while it is open for long enough."""
        if self.window is None:
            return 0.0
        second = self._second()
        left = self.window.left(second)
        return 0.0 if left > MARGIN else left + self.window.opens_in((second + left) % DAY)

    def _until_open(self, seconds: float) -> None:
        words = f"the window {self.window} at home, where it is {clock(self._second())}, opens in {span(seconds)}"
        left = self._left()
        if left < seconds:
            raise InVain(f"{words}, and the patience of {span(self.patience)} ends before")
        # Not the time that is left: it would make every line a new one.
        self._say(f"the window {self.window} at home is not open yet")
        self.sleep(min(seconds, LONGEST_PAUSE))

    def _pause(self, words: str) -> None:
        left = self._left()
        if left <= 0:
            raise InVain(f"after {span(self.patience)} it is still so that {words}")
        self._say(words)
        self.sleep(max(min(self.poll, left), 0.1))

    def _left(self) -> float:
        return self.patience - (self.clock() - self._begun)

    def _say(self, words: str) -> None:
        said, at = self._said
        if words == said and self.clock() - at < SAY_EVERY:
            return
        self._said = (words, self.clock())
        self.emit(f"wait for the moment: {span(self.clock() - self._begun)} · {words}")
