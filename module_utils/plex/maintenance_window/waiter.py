"""Wait until a Plex server may be stopped: inside the maintenance window and while Plex is idle.

Clock, sleep and observation are parameters, so that tests replay days in milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ...text import span
from .window import DAY, Window, clock

SAY_EVERY = 300.0
"""Seconds until an unchanged line is repeated."""
LONGEST_PAUSE = 60.0
MARGIN = 120.0
"""Treat a window as closed when less than this many seconds remain, because swap and start take time."""
UNANSWERED = 3600.0
"""Seconds for which requests to the server may fail, as in a network outage; after that the waiting fails."""


class NoLook(Exception):
    """The server's state could not be read; an unknown state is not idle."""


class InVain(Exception):
    """The server did not become available for the stop in time; the message is the reason."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One observation: texts about what a stop would interrupt; empty when idle."""

    busy: Sequence[str]


@dataclass
class Waiter:
    """All times in seconds.

    :param look: observes once; raises NoLook when that fails, and anything else that must end the waiting.
    :param clock: seconds since the epoch, which with `offset` (east of UTC) give the time of the day at home.
    :param patience: how long to wait altogether. :param poll: between two looks.
    :param settle: how long Plex must stay idle after it was busy, because playback pauses between two episodes.
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
        """Wait; returns the seconds that it took. Raises InVain."""
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
                # While home did not answer, a playback may have started.
                busy, was_busy = [f"home does not answer ({problem})"], True
                if self.clock() - answered >= UNANSWERED:
                    raise InVain(f"home has not answered for {span(self.clock() - answered)}: {problem}") from problem
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
            self._pause(f"idle now, and must stay idle for {span(self.settle)}")

    def _second(self) -> float:
        """The second of the day at home."""
        return (self.clock() + self.offset) % DAY

    def _shut(self) -> float:
        """Return the seconds until the window opens; 0 while it is open for long enough."""
        if self.window is None:
            return 0.0
        second = self._second()
        left = self.window.left(second)
        return 0.0 if left > MARGIN else left + self.window.opens_in((second + left) % DAY)

    def _until_open(self, seconds: float) -> None:
        now = clock(self._second())
        words = f"the maintenance window {self.window} at home, where it is {now}, opens in {span(seconds)}"
        left = self._left()
        if left < seconds:
            raise InVain(f"{words}, which is later than the limit of {span(self.patience)}")
        # Without the remaining time, which would make every line a new one.
        self._say(f"the maintenance window {self.window} at home is not open yet")
        self.sleep(min(seconds, LONGEST_PAUSE))

    def _pause(self, words: str) -> None:
        left = self._left()
        if left <= 0:
            raise InVain(f"still blocked after {span(self.patience)}: {words}")
        self._say(words)
        self.sleep(max(min(self.poll, left), 0.1))

    def _left(self) -> float:
        return self.patience - (self.clock() - self._begun)

    def _say(self, words: str) -> None:
        said, at = self._said
        if words == said and self.clock() - at < SAY_EVERY:
            return
        self._said = (words, self.clock())
        self.emit(f"wait to stop home's Plex: {span(self.clock() - self._begun)} · {words}")
