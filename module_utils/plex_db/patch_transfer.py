"""Parts on their way between two machines, of a patch or of another kind of parcel: what is there already does not
travel again, a part that arrived damaged does, and a line that was cut is waited for.

Nothing in here knows Ansible or a clock; the action plugin plex_db_transfer gives it both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from .errors import PlexDatabaseError
from .files import sha256_of
from .patch import DESCRIPTION, Part, Parts, amount, is_good, load, missing_parts, remove

ATTEMPTS = 3
"""How often something travels that arrives damaged, before somebody has to look."""
LONGEST_PAUSE = 30.0
SAY_EVERY = 5.0


class Cut(Exception):
    """The line is cut; it may come back."""


class Later(Exception):
    """There is more to bring, but the time for it is over: it is gone on with later."""


@dataclass
class Carried:
    """What came of it. `bytes` travelled, repetitions included; `seconds` from the first byte to the last."""

    bytes: int = 0
    parts: int = 0
    there: int = 0
    repeated: int = 0
    cuts: int = 0
    seconds: float = 0.0

    def plain(self) -> dict[str, Any]:
        """As a task's result."""
        return {**asdict(self), "seconds": round(self.seconds, 1)}


@dataclass(frozen=True)
class Kind:
    """A kind of folder that travels in parts: what its description is called, how it is read, and how what does not
    belong to `keep` is removed from such a folder."""

    description: str
    load: Callable[[Path], Parts]
    remove: Callable[[Path, Any], bool]


PATCHES = Kind(DESCRIPTION, load, remove)


@dataclass
class Carrier:
    """Carries one patch, or another kind of parcel. All times in seconds.

    :param move: moves one file of the patch, by name, between the local folder and the other end. It raises `Cut` when
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
    kind: Kind = PATCHES
    done: Carried = field(default_factory=Carried)
    _size: int = 0
    _total: int = 0
    _count: int = 0
    _begun: float = 0.0
    _said: float = 0.0
    _moved: float = 0.0

    def bring(self, folder: Path, description_sha256: str, until: float | None = None) -> Parts:
        """Bring a patch into `folder`. Parts of an earlier one that are the same stay, the others go away.

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
        patch = self.kind.load(folder)
        self.kind.remove(folder, patch)
        lacking = self._expect(patch, missing_parts(folder, patch))
        for number, part in enumerate(lacking):
            if number and until is not None and self.clock() >= until:
                raise Later(f"{len(lacking) - number} parts are still to come.")
            self._bring_part(folder, part)
        self._end(patch)
        return patch

    def send(self, folder: Path, present: Callable[[], Sequence[str] | None]) -> Parts:
        """Send the patch in `folder`. `present` asks the other end which parts it has, None without a description of
        this patch.

        :raises Cut: the line did not come back in time.
        :raises PlexDatabaseError: something arrived damaged in every attempt.
        """
        self._begin()
        patch, description = self.kind.load(folder), self.kind.description
        there = self._patiently(present)
        if there is None:
            self._patiently(partial(self.move, description))
            self.done.bytes += (folder / description).stat().st_size
            there = self._patiently(present)
        for attempt in range(ATTEMPTS):
            if there is None:
                raise PlexDatabaseError(
                    f"{description} arrived damaged at the other end. Look at its disk and its log, then try again."
                )
            lacking = [part for part in patch.parts if part.name not in there]
            if attempt == 0:
                self._expect(patch, lacking)
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
            if there is None or {part.name for part in patch.parts} - set(there):
                raise PlexDatabaseError(
                    f"{len(patch.parts) - len(there or ())} parts arrived damaged in each of {ATTEMPTS} "
                    "attempts. Look at the disk of the other end, then try again."
                )
        self._end(patch)
        return patch

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
            f"{path.name}{what} arrived damaged or cut short in each of {ATTEMPTS} attempts: its size or SHA-256 is "
            "not what was sent. Nothing was changed; look at the line and at the disks of both ends, then try again."
        )

    def _patiently(self, what: Callable[[], Any]) -> Any:
        """Do it; when the line is cut, wait and do it again, until nothing arrived for `patience`."""
        pause = 1.0
        while True:
            try:
                answer = what()
            except Cut as cut:
                self.done.cuts += 1
                silent = self.clock() - self._moved
                if silent >= self.patience:
                    raise Cut(
                        f"Connection lost: nothing arrived for {round(silent)} s ({cut}). {self.done.parts} parts are "
                        "safe; what is missing travels when it is tried again."
                    ) from cut
                self.emit(f"{self.title}: the line is cut, tried again in {round(pause)} s ({cut})")
                self.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
                continue
            self._moved = self.clock()
            return answer

    def _begin(self) -> None:
        self._begun = self._said = self._moved = self.clock()

    def _expect(self, patch: Parts, lacking: list[Part]) -> list[Part]:
        self._total, self._count = sum(part.size for part in lacking), len(lacking)
        self.done.there = len(patch.parts) - len(lacking)
        again = f", {self.done.there} parts are there already" if self.done.there else ""
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

    def _end(self, patch: Parts) -> None:
        self.done.seconds = self.clock() - self._begun
        if patch.parts:
            self.emit(
                f"{self.title}: {amount(self.done.bytes)} travelled in {self.done.seconds:.1f} s, all parts arrived"
            )
