"""When a checkpoint is due during long work, and what becomes of it. The clock and everything that touches the world
are given, so that days are replayed in milliseconds.

A checkpoint is made in one go and then brought in pieces, so that samples go on meanwhile. One that fails is said,
counted, and tried again when the next is due; it never ends the work.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from ansible_collections.plexburst.core.plugins.module_utils.plex_db.checkpoint import words
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.patch import amount
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.patch_transfer import Cut

PATIENCE = 600.0
"""Seconds for which nothing may arrive of a checkpoint before it is given up."""


class NotMade(Exception):
    """This checkpoint could not be made or brought; the sentence says why."""


@dataclass(frozen=True)
class Kept:
    """A checkpoint that is safe. `counts` as plex_db.checkpoint.reached gives them; `size` in bytes that travelled."""

    number: int
    taken_at: str
    counts: Mapping[str, int]
    size: int


class Host(Protocol):
    """What the world does. Each may raise NotMade; `bring` may raise Cut: the line may come back."""

    def make(self) -> None:
        """Copy the pair on the indexer and work out what is new."""

    def bring(self, until: float | None) -> bool:
        """Bring parts until the clock shows `until` (None: all of them); whether all have arrived."""

    def keep(self) -> Kept:
        """All of it is here: give it its place."""

    def drop(self) -> None:
        """It comes to nothing: remove what is left of it on the indexer. Never raises."""


@dataclass
class State:
    """What is remembered between one step of the work and the next.

    since: when the work began, or the last checkpoint was tried, in seconds of the clock. waiting: what was gained and
    is not safe. made, failed: checkpoints. travelled_bytes: for all of them.
    """

    since: float
    waiting: int = 0
    made: int = 0
    failed: int = 0
    travelled_bytes: int = 0
    newest: dict[str, Any] | None = None
    problem: str = ""

    def plain(self) -> dict[str, Any]:
        """For the run's folder."""
        return asdict(self)

    @classmethod
    def of(cls, found: Mapping[str, Any] | None, now: float) -> State:
        """As `plain` gave it; without one the work begins now."""
        names = cls.__dataclass_fields__
        return cls(**{"since": now, **{key: value for key, value in (found or {}).items() if key in names}})


@dataclass
class Checkpoints:
    """The checkpoints of one watched task. A count is anything that only grows with the work.

    :param minutes: one is due when so much time has passed, 0: never by time.
    :param tracks: one is due when so much was gained, 0: never by that.
    :param remember: called with the state after each checkpoint and at the end of a task; `event` says what happened.
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
        """A stretch of work begins. None: how far it is shows only later."""
        self._before = self._count = count

    def saw(self, count: int) -> None:
        """How far the work is, where nothing else may be done."""
        self._before = count if self._before is None else self._before
        self._count = count

    def end(self) -> None:
        """It has ended."""
        self.state.waiting = self.gained
        self._before = self._count

    @property
    def gained(self) -> int:
        """What was gained and is not safe."""
        return max(0, self.state.waiting + (self._count or 0) - (self._before or 0))

    @property
    def due(self) -> bool:
        """Whether a checkpoint is due."""
        if self.gained == 0:
            return False
        by_time = self.minutes > 0 and self.clock() - self.state.since >= self.minutes * 60
        return by_time or 0 < self.tracks <= self.gained - self._tried

    def look(self, count: int, seconds: float) -> None:
        """After a sample: begin what is due, or go on with what is under way, for about so many seconds."""
        self.saw(count)
        if self._covers is None and self.due:
            self._make()
        if self._covers is not None:
            self._bring(self.clock() + seconds)

    def between(self, *, anyway: bool = False) -> None:
        """Between two steps nothing else runs: what is due, or under way, is done as a whole.

        :param anyway: also what is not due yet, for nobody knows whether there will be a later time.
        """
        if self._covers is None and (self.due or (anyway and self.gained)):
            self._make()
        if self._covers is not None:
            self._bring(None)

    def leave(self) -> None:
        """The task is over: what is under way comes to nothing, what is not safe is remembered for the next one."""
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
            # Within the work this costs what a lost sample costs: the next look goes on.
            if until is None or self.clock() - self._moved >= PATIENCE:
                self._failed(f"The line is cut ({cut}).")
        except NotMade as problem:
            self._failed(str(problem))
        else:
            self._is_safe(kept)

    def _is_safe(self, kept: Kept) -> None:
        self.state.waiting -= self._covers or 0
        self._covers, self._tried = None, 0
        self.state.made += 1
        self.state.travelled_bytes += kept.size
        self.state.problem = ""
        self.state.newest = {"number": kept.number, "taken_at": kept.taken_at, **kept.counts}
        said = f"{words(kept.counts)} safe on the controller ({amount(kept.size)} travelled)"
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
        return f"The work goes on; it is tried again {' or '.join(times)}."
