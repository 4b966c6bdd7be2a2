"""Transfer of parts of a delta or artwork between two machines.

Existing parts are not transferred again, damaged parts are, and a lost connection is retried. Ansible and the clock are
parameters, from the action plugin plex_db_transfer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ..plex_db.delta.delta import DESCRIPTION, Kind, Part, Parts, is_good, load, missing_parts, remove
from ..plex_db.errors import PlexDatabaseError
from ..plex_db.pair.files import sha256_of
from ..text import amount

ATTEMPTS = 3
"""Number of tries for a part that arrives damaged."""
LONGEST_PAUSE = 30.0
SAY_EVERY = 5.0


class Cut(Exception):
    """Connection lost; retryable."""


class Later(Exception):
    """More parts remain, but the time is over; the transfer continues later."""


@dataclass
class Carried:
    """Result of a transfer. `bytes`: transferred, including repetitions; `seconds`: from first to last byte."""

    bytes: int = 0
    parts: int = 0
    there: int = 0
    repeated: int = 0
    cuts: int = 0
    seconds: float = 0.0

    def plain(self) -> dict[str, Any]:
        """Return the result for a task."""
        return {**asdict(self), "seconds": round(self.seconds, 1)}


DELTAS = Kind(DESCRIPTION, load, remove)


@dataclass
class Carrier:
    """Carries one delta, or another kind of archive. All times in seconds.

    :param move: moves one file of the delta, by name, between the local folder and the other end. It raises `Cut` when
        the line is cut, and PlexDatabaseError when the other end refuses.
    :param emit: shows a line.
    :param patience: how long nothing may arrive before the line is given up.
    """

    move: Callable[[str], None]
    emit: Callable[[str], None]
    clock: Callable[[], float]
    sleep: Callable[[float], None]
    title: str
    patience: float = 600.0
    kind: Kind = DELTAS
    done: Carried = field(default_factory=Carried)
    _size: int = 0
    _total: int = 0
    _count: int = 0
    _begun: float = 0.0
    _said: float = 0.0
    _moved: float = 0.0

    def bring(self, folder: Path, description_sha256: str, until: float | None = None) -> Parts:
        """Bring a delta into `folder`. Parts of an earlier one that are the same stay, the others go away.

        :param until: when the clock shows this, nothing further is begun.
        :raises Later: that time has come before the last part.
        :raises Cut: the line did not come back in time.
        :raises PlexDatabaseError: something arrived damaged in every attempt.
        """
        self._begin()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        description = folder / self.kind.description
        if not description.is_file() or sha256_of(description) != description_sha256:
            self._until_good(description, lambda: sha256_of(description) == description_sha256)
            description.chmod(0o600)
        delta = self.kind.load(folder)
        self.kind.remove(folder, delta)
        lacking = self._expect(delta, missing_parts(folder, delta))
        for number, part in enumerate(lacking):
            if number and until is not None and self.clock() >= until:
                raise Later(f"{len(lacking) - number} parts are still to come.")
            self._bring_part(folder, part)
        self._end(delta)
        return delta

    def send(self, folder: Path, present: Callable[[], Sequence[str] | None]) -> Parts:
        """Send the delta in `folder`. `present` asks the other end which parts it has, None without a description of
        this delta.

        :raises Cut: the line did not come back in time.
        :raises PlexDatabaseError: something arrived damaged in every attempt.
        """
        self._begin()
        delta, description = self.kind.load(folder), self.kind.description
        there = self._patiently(present)
        if there is None:
            self._patiently(partial(self.move, description))
            self.done.bytes += (folder / description).stat().st_size
            there = self._patiently(present)
        for attempt in range(ATTEMPTS):
            if there is None:
                raise PlexDatabaseError(
                    f"{description} arrived damaged at the other end. Check its disk and its log, then try again."
                )
            lacking = [part for part in delta.parts if part.name not in there]
            if attempt == 0:
                self._expect(delta, lacking)
            else:
                self.done.repeated += len(lacking)
            for part in lacking:
                self._patiently(partial(self.move, part.name))
                self.done.bytes += part.size
                self._arrived(part)
            if not lacking:
                break
            there = self._patiently(present)
        else:
            if there is None or {part.name for part in delta.parts} - set(there):
                raise PlexDatabaseError(
                    f"{len(delta.parts) - len(there or ())} parts arrived damaged in each of {ATTEMPTS} "
                    "attempts. Check the disk of the other end, then try again."
                )
        self._end(delta)
        return delta

    def _bring_part(self, folder: Path, part: Part) -> None:
        self._until_good(folder / part.name, lambda: is_good(folder, part), f", a part of {part.file}")
        (folder / part.name).chmod(0o600)
        self._arrived(part)

    def _until_good(self, path: Path, good: Callable[[], bool], what: str = "") -> None:
        for attempt in range(ATTEMPTS):
            self._patiently(partial(self.move, path.name))
            if path.is_file():
                self.done.bytes += path.stat().st_size
                if good():
                    return
            self.done.repeated += int(attempt + 1 < ATTEMPTS)
        raise PlexDatabaseError(
            f"{path.name}{what} arrived damaged or incomplete in each of {ATTEMPTS} attempts; its size or SHA-256 is "
            "wrong. Nothing was changed. Check the connection and the disks of both ends, then try again."
        )

    def _patiently(self, what: Callable[[], Any]) -> Any:
        """Run `action`; after a lost connection, wait and retry until there was no progress for `patience`."""
        pause = 1.0
        while True:
            try:
                answer = what()
            except Cut as cut:
                self.done.cuts += 1
                silent = self.clock() - self._moved
                if silent >= self.patience:
                    raise Cut(
                        f"The connection is lost: no progress for {round(silent)} s ({cut}). {self.done.parts} parts "
                        "are transferred. Run again to transfer the others."
                    ) from cut
                self.emit(f"{self.title}: connection lost, next try in {round(pause)} s ({cut})")
                self.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
                continue
            self._moved = self.clock()
            return answer

    def _begin(self) -> None:
        self._begun = self._said = self._moved = self.clock()

    def _expect(self, delta: Parts, lacking: list[Part]) -> list[Part]:
        self._total, self._count = sum(part.size for part in lacking), len(lacking)
        self.done.there = len(delta.parts) - len(lacking)
        again = f", {self.done.there} parts exist already" if self.done.there else ""
        self.emit(f"{self.title}: {amount(self._total)} in {self._count} parts{again}")
        return lacking

    def _arrived(self, part: Part) -> None:
        self.done.parts += 1
        self._size += part.size
        now = self.clock()
        if now - self._said < SAY_EVERY or self._size >= self._total:
            return
        self._said = now
        rate = self._size / max(now - self._begun, 0.001)
        left = round((self._total - self._size) / max(rate, 1.0))
        self.emit(
            f"{self.title}: {100 * self._size // max(self._total, 1)} %, {amount(self._size)} of "
            f"{amount(self._total)}, {amount(rate)}/s, {left} s left"
        )

    def _end(self, delta: Parts) -> None:
        self.done.seconds = self.clock() - self._begun
        if delta.parts:
            self.emit(
                f"{self.title}: {amount(self.done.bytes)} transferred in {self.done.seconds:.1f} s, all parts arrived"
            )
