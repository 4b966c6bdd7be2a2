"""The relay: deltas in a folder of an rclone remote, so that neither machine waits for the other.

Layout: `<run id>/<name>/delta.json` and the delta's parts; `name` is `base` (for the indexer) or `result` (for home).
An rclone crypt encrypts names and contents (module_utils/transfer/relay_config.py). The parts in a folder always belong
to its
description: a folder with another description is emptied before the first part is uploaded.

Behaviour of rclone 1.60 and 1.75 with an S3 server, handled here: `cat` and `copyto` of a missing object end with 0;
`copyto` treats a damaged object of the right size and date as good unless it is told not to compare; an unreachable
destination is reported as "is a file not a directory"; when a later try may help, 1.75 ends with 5, 1.60 with 1.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from ..plex_db.delta.delta import DESCRIPTION, Delta, load, parse
from ..plex_db.errors import PlexDatabaseError
from .carrier import Carried, Carrier, Cut
from .rclone_config import cause

Value = TypeVar("Value")

ROOT = "plexburst-relay-crypt:"
LIMIT = 4 * 3600.0
"""Timeout of an rclone call in seconds; without progress it ends itself after a minute."""
OPTIONS = (
    *("--use-json-log", "--log-level", "NOTICE", "--ask-password=false"),
    # rclone's retries are off, because they are silent for 15 s; the caller retries and logs.
    *("--retries", "1", "--low-level-retries", "1", "--contimeout", "20s", "--timeout", "60s"),
    # Number of parts read back at a time, each with its own buffer; home may have little memory.
    *("--checkers", "4", "--buffer-size", "4M"),
)
NO_FOLDER, TEMPORARY = 3, 5
"""Exit codes of rclone (rclone.org/docs, "Exit code")."""
PAUSES = (2.0, 10.0, 30.0)
"""Seconds before a listing, a removal or a probe is retried."""
MISLEADING = ("is a file not a directory", "destination is a file")
DAMAGED = (
    *("failed to authenticate decrypted block", "bad magic string", "truncated block header"),
    "too short to be encrypted",
)
REFUSALS = (
    *("accessdenied", "forbidden", "invalidaccesskeyid", "signaturedoesnotmatch", "nosuchbucket", "invalidbucketname"),
    *("status code: 40", "statuscode: 40", "didn't find section", "unknown flag", "failed to make cipher"),
    *("no space left", "permission denied", "read-only file system"),
)
"""Errors that a retry cannot fix. All others are retried until the time limit."""


class Damaged(PlexDatabaseError):
    """The content cannot be decrypted."""


@dataclass(frozen=True)
class Held:
    """The state of one delta in the relay. `bytes`: of all parts; without a description all fields are empty."""

    description_sha256: str = ""
    bytes: int = 0
    missing: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether all parts are there, by name and size."""
        return bool(self.description_sha256) and not self.missing


@dataclass(frozen=True)
class Said:
    """How a call of rclone ended."""

    code: int
    out: bytes
    log: str

    @property
    def reason(self) -> str:
        return f"{cause(self.log) or 'No message'} (rclone's exit code {self.code})"

    @property
    def damaged(self) -> bool:
        return any(words in self.log for words in DAMAGED)


@dataclass(frozen=True)
class Line:
    """How long a cut line is waited for (seconds), and where progress is told."""

    emit: Callable[[str], None]
    patience: float = 600.0
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def again(self, what: Callable[[], Value]) -> Value:
        """Do what is done in one call of rclone or two; four times at most, when the line is cut."""
        for pause in PAUSES:
            try:
                return what()
            except Cut as cut:
                self.emit(f"the relay does not answer, next try in {pause:.0f} s ({cut})")
                self.sleep(pause)
        return what()

    def carrier(self, move: Callable[[str], None], title: str) -> Carrier:
        return Carrier(move, self.emit, self.clock, self.sleep, title, self.patience)


class Relay:
    """One remote, through rclone on this machine.

    :param rclone: the program.
    :param config: the private rclone.conf.

    Every method raises `Cut` when a later try may help, and PlexDatabaseError with rclone's own reason when not.
    """

    def __init__(self, rclone: str, config: Path) -> None:
        self._rclone, self._config = rclone, config
        self.unreadable = 0
        """Names that the passphrase could not decrypt, as of the last look (rclone 1.75 tells, 1.60 does not)."""

    def runs(self) -> dict[str, dict[str, dict[str, int]]]:
        """What is there: run id → name → file → bytes."""
        said = self._call("lsjson", "--recursive", "--files-only", "--no-modtime", "--no-mimetype", ROOT)
        if said.code == NO_FOLDER:
            return {}
        if said.code:
            self._refuse("The relay could not be listed", said, look=False)
        self.unreadable = sum("undecryptable" in line for line in said.log.splitlines())
        found: dict[str, dict[str, dict[str, int]]] = {}
        try:
            for entry in json.loads(said.out):
                run, _, rest = str(entry["Path"]).partition("/")
                name, _, file = rest.rpartition("/")
                found.setdefault(run, {}).setdefault(name, {})[file] = int(entry["Size"])
        except (ValueError, LookupError, TypeError) as error:
            raise PlexDatabaseError(f"rclone's listing of the relay is invalid: {error!r}.") from error
        return found

    def held(self, run: str, name: str) -> Held:
        """What is there of one delta."""
        files: Mapping[str, int] = self.runs().get(run, {}).get(name, {})
        text = self._description(f"{run}/{name}") if DESCRIPTION in files else None
        if text is None:
            return Held()
        delta = parse(text, f"{DESCRIPTION} of {run}/{name} in the relay")
        return Held(
            description_sha256=hashlib.sha256(text).hexdigest(),
            bytes=delta.size,
            missing=tuple(part.name for part in delta.parts if files.get(part.name) != part.size),
        )

    def put(self, line: Line, folder: Path, run: str, name: str) -> tuple[Delta, Carried]:
        """Upload the delta in `folder`. It is complete when all of it was read back, decrypted and compared."""
        place = f"{run}/{name}"

        def move(file: str) -> None:
            self._copy(str(folder / file), f"{ROOT}{place}/{file}", f"{file} could not be uploaded to the relay")

        carrier = line.carrier(move, f"upload the {name} to the relay")
        carrier.send(folder, partial(self._present, folder, place))
        return load(folder), carrier.done

    def get(self, line: Line, folder: Path, run: str, name: str, description_sha256: str = "") -> tuple[Delta, Carried]:
        """Download a delta to `folder`; every part is verified by SHA-256, a damaged one is downloaded again.

        :param description_sha256: what the description must be; empty: what is there is taken.
        """
        place = f"{run}/{name}"
        held = line.again(partial(self.held, run, name))
        self._require(held, place, description_sha256)

        def move(file: str) -> None:
            self._copy(f"{ROOT}{place}/{file}", str(folder / file), f"{file} could not be downloaded from the relay")

        carrier = line.carrier(move, f"download the {name} from the relay")
        carrier.bring(folder, held.description_sha256)
        return load(folder), carrier.done

    def purge(self, place: str) -> None:
        """Remove a run (`<run id>`) or one name of it (`<run id>/<name>`), and verify the removal."""
        said = self._call("purge", f"{ROOT}{place}")
        if said.code not in (0, NO_FOLDER):
            self._refuse(f"{place} could not be removed from the relay", said)
        run, _, name = place.partition("/")
        left = self.runs().get(run, {})
        files = sum(len(there) for there in ([left.get(name, {})] if name else left.values()))
        if files:
            raise PlexDatabaseError(
                f"{files} files of {place} are still in the relay after rclone has removed them. Check that the "
                "key of that remote may delete objects."
            )

    def probe(self, run: str, content: bytes) -> None:
        """Upload a few bytes, read them back, remove them."""
        place = f"{run}/probe"
        said = self._call("rcat", f"{ROOT}{place}/probe", data=content)
        if said.code:
            self._refuse("The relay cannot be written", said)
        said = self._call("cat", f"{ROOT}{place}/probe")
        if said.code:
            self._refuse("A file written to the relay cannot be read", said)
        if said.out != content:
            raise PlexDatabaseError(
                f"Expected the {len(content)} bytes just written to the relay, but read {len(said.out)} other ones."
            )
        self.purge(place)

    def _require(self, held: Held, place: str, description_sha256: str) -> None:
        if not held.description_sha256:
            hint = (
                f"{self.unreadable} names cannot be decrypted. Use the passphrase of the upload."
                if self.unreadable
                else "Nothing was uploaded, or another passphrase was used for the upload."
            )
            raise PlexDatabaseError(f"The relay has nothing under {place}. {hint}")
        if held.missing:
            raise PlexDatabaseError(
                f"{len(held.missing)} parts of {place} are missing or incomplete in the relay, the first: "
                f"{held.missing[0]}. Upload it again."
            )
        if description_sha256 not in ("", held.description_sha256):
            raise PlexDatabaseError(
                f"The relay's content under {place} is not the uploaded one: its description has SHA-256 "
                f"{held.description_sha256}, expected {description_sha256}."
            )

    def _present(self, folder: Path, place: str) -> list[str] | None:
        """The parts that are there as they are in `folder`, proved by reading them back; None when the description is
        not."""
        try:
            text = self._description(place)
        except Damaged:
            text = None
        if text != (folder / DESCRIPTION).read_bytes():
            self.purge(place)
            return None
        said = self._call("check", "--download", "--one-way", "--combined", "-", str(folder), f"{ROOT}{place}")
        if said.code:
            # Differences end with a code, too: a listing tells them from a line that is cut.
            self.runs()
        lines = [line.partition(" ") for line in said.out.decode("utf-8", "replace").splitlines()]
        return [name for sign, _, name in lines if sign == "="]

    def _description(self, place: str) -> bytes | None:
        """The description, None when there is none."""
        said = self._call("cat", f"{ROOT}{place}/{DESCRIPTION}")
        if said.code in (0, NO_FOLDER):
            return said.out or None
        if said.damaged:
            raise Damaged(f"{DESCRIPTION} of {place} in the relay is damaged: {said.reason}. Upload it again.")
        return self._refuse(f"{DESCRIPTION} of {place} could not be read from the relay", said)

    def _copy(self, source: str, target: str, failed: str) -> None:
        said = self._call("copyto", "--no-check-dest", source, target)
        if said.code and not said.damaged:  # of a damaged object nothing arrives: the carrier sees it
            self._refuse(failed, said)

    def _call(self, *arguments: str, data: bytes = b"") -> Said:
        command = [self._rclone, *arguments, "--config", str(self._config), *OPTIONS]
        try:
            done = subprocess.run(command, input=data, capture_output=True, timeout=LIMIT, check=False)
        except subprocess.TimeoutExpired:
            raise Cut(f"rclone {arguments[0]} took longer than {LIMIT / 3600:.0f} hours") from None
        except OSError as error:
            raise PlexDatabaseError(
                f"rclone cannot be started as {self._rclone}: {error}. Install rclone on this machine, or set its path."
            ) from error
        return Said(done.returncode, done.stdout, done.stderr.decode("utf-8", "replace"))

    def _refuse(self, what: str, said: Said, *, look: bool = True) -> NoReturn:
        """Raise with rclone's reason."""
        words = said.reason.lower()
        if look and any(word in words for word in MISLEADING):
            self.runs()  # raises the real reason, unless it has passed
        if said.code == TEMPORARY or not any(word in words for word in REFUSALS):
            raise Cut(f"{what}: {said.reason}")
        raise PlexDatabaseError(f"{what}. {said.reason}.")


def result_of(delta: Delta, done: Carried) -> dict[str, Any]:
    """Return the result of `put` and `get` for a task."""
    return {"changed": done.bytes > 0, **done.plain(), "whole": delta.whole, "manifest": dict(delta.manifest)}
