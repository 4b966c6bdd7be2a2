"""When a checkpoint is due during a long task, and how it is created and downloaded.

Clock and host are parameters, so that tests replay days in milliseconds. A checkpoint is created in one step and
downloaded in parts, so that sampling continues in between. A failed checkpoint is reported, counted, and tried again
when the next one is due; it never ends the task.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from ..text import amount
from ..transfer.carrier import Cut
from .format import words

PATIENCE = 600.0
"""Seconds without progress after which a checkpoint's download is cancelled."""


class NotMade(Exception):
    """The checkpoint could not be created or downloaded; the message is the reason."""


@dataclass(frozen=True)
class Kept:
    """A downloaded checkpoint. `counts` as returned by plex_db.checkpoint.reached; `size`: bytes downloaded."""

    number: int
    taken_at: str
    counts: Mapping[str, int]
    size: int


class Host(Protocol):
    """The operations on the indexer. Each may raise NotMade; `bring` may raise Cut: connection lost, retryable."""

    def make(self) -> None:
        """Copy the pair on the indexer and compute its delta."""

    def bring(self, until: float | None) -> bool:
        """Download parts until the clock reaches `until` (None: all of them); returns whether all have arrived."""

    def keep(self) -> Kept:
        """Move the complete download to its place."""

    def drop(self) -> None:
        """Discard the checkpoint and remove its files from the indexer. Never raises."""


@dataclass
class State:
    """The state kept between two steps of the work.

    since: start of the work or of the last try, in seconds of the clock. waiting: count gained since the last
    checkpoint. made, failed: number of checkpoints. transferred_bytes: downloaded bytes of all checkpoints.
    """

    since: float
    waiting: int = 0
    made: int = 0
    failed: int = 0
    transferred_bytes: int = 0
    newest: dict[str, Any] | None = None
    problem: str = ""

    def plain(self) -> dict[str, Any]:
        """Return the state as plain data for the run folder."""
        return asdict(self)

    @classmethod
    def of(cls, found: Mapping[str, Any] | None, now: float) -> State:
        """Return the state from the result of `plain`; without one the work begins now."""
        names = cls.__dataclass_fields__
        return cls(**{"since": now, **{key: value for key, value in (found or {}).items() if key in names}})


@dataclass
class Checkpoints:
    """The checkpoints of one watched task. Counts are numbers that only grow with the work.

    :param minutes: minutes between checkpoints; 0 disables them.
    :param tracks: tracks gained between checkpoints; 0 disables them.
    :param remember: called with the state after each checkpoint and at the end of a task; `event` names the cause.
    """

    minutes: float
    tracks: int
    host: Host
    state: State
    emit: Callable[[str], None]
    clock: Callable[[], float]
    remember: Callable[[State, str, str], None]
    _before: int | None = None
    _count: int | None = None
    _tried: int = 0
    _covers: int | None = None
    _moved: float = 0.0

    def begin(self, count: int | None) -> None:
        """Begin a task at this count; None: not known yet."""
        self._before = self._count = count

    def saw(self, count: int) -> None:
        """Record the count without starting a checkpoint."""
        self._before = count if self._before is None else self._before
        self._count = count

    def end(self) -> None:
        """Return the count at which the task ended."""
        self.state.waiting = self.gained
        self._before = self._count

    @property
    def gained(self) -> int:
        """Return the count gained since the last checkpoint."""
        return max(0, self.state.waiting + (self._count or 0) - (self._before or 0))

    @property
    def due(self) -> bool:
        """Return whether a checkpoint is due."""
        if self.gained == 0:
            return False
        by_time = self.minutes > 0 and self.clock() - self.state.since >= self.minutes * 60
        return by_time or 0 < self.tracks <= self.gained - self._tried

    def look(self, count: int, seconds: float) -> None:
        """After a sample: start a due checkpoint, or continue the current one, for about `seconds`."""
        self.saw(count)
        if self._covers is None and self.due:
            self._make()
        if self._covers is not None:
            self._bring(self.clock() + seconds)

    def between(self, *, anyway: bool = False) -> None:
        """Between two steps: complete a due or started checkpoint.

        :param anyway: create one even if it is not due, because there may be no later opportunity.
        """
        if self._covers is None and (self.due or (anyway and self.gained)):
            self._make()
        if self._covers is not None:
            self._bring(None)

    def leave(self) -> None:
        """End the task: discard a started checkpoint and keep the unsaved count for the next task."""
        if self._covers is not None:
            self._covers = None
            self.host.drop()
        self.remember(self.state, "", "")

    def _make(self) -> None:
        self.state.since = self._moved = self.clock()
        self._tried = self.gained
        try:
            self.host.make()
        except NotMade as problem:
            self._failed(str(problem))
        else:
            self._covers = self._tried

    def _bring(self, until: float | None) -> None:
        try:
            if not self.host.bring(until):
                self._moved = self.clock()
                return
            kept = self.host.keep()
        except Cut as cut:
            # During the task a lost connection costs no more than a lost sample; the next call continues.
            if until is None or self.clock() - self._moved >= PATIENCE:
                self._failed(f"The connection was lost ({cut}).")
        except NotMade as problem:
            self._failed(str(problem))
        else:
            self._is_safe(kept)

    def _is_safe(self, kept: Kept) -> None:
        self.state.waiting -= self._covers or 0
        self._covers, self._tried = None, 0
        self.state.made += 1
        self.state.transferred_bytes += kept.size
        self.state.problem = ""
        self.state.newest = {"number": kept.number, "taken_at": kept.taken_at, **kept.counts}
        said = f"{words(kept.counts)} downloaded to the controller ({amount(kept.size)} transferred)"
        self.emit(f"checkpoint {kept.number}: {said}")
        self.remember(self.state, "checkpoint", said)

    def _failed(self, problem: str) -> None:
        self._covers = None
        self.state.failed += 1
        self.state.problem = problem
        self.emit(f"no checkpoint: {problem} {self._again()}")
        self.host.drop()
        self.remember(self.state, "checkpoint_failed", problem)

    def _again(self) -> str:
        times = [f"in {self.minutes:g} min"] if self.minutes > 0 else []
        times += [f"after {self.tracks:,} more tracks"] if self.tracks > 0 else []
        return f"The task continues; the next try is {' or '.join(times)}."
