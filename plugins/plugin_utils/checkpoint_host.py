# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""Checkpoints of the action plugins: created by a module on the indexer, downloaded over its connection."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.utils.display import Display
from ansible_collections.plexburst.core.plugins.module_utils.checkpoint import format as checkpoint_format
from ansible_collections.plexburst.core.plugins.module_utils.checkpoint.schedule import (
    Checkpoints,
    Kept,
    NotMade,
    State,
)
from ansible_collections.plexburst.core.plugins.module_utils.plex.observe.sample import Counters
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.errors import PlexDatabaseError
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.pair import manifest as manifests
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.pair.files import require_space
from ansible_collections.plexburst.core.plugins.module_utils.run.folder import RunFolder, RunFolderError
from ansible_collections.plexburst.core.plugins.module_utils.transfer.carrier import Carrier, Later

from .connection_files import first_line

MODULE = "plexburst.core.plex_db_checkpoint"
BETWEEN_STEPS_PATIENCE = 60.0
"""Seconds to wait for a lost connection while no sample is due."""


@dataclass(frozen=True)
class Wanted:
    """The option `checkpoint` of the watched tasks.

    `place` and `base_manifest` are paths on the controller, the others on the indexer.
    """

    minutes: float
    tracks: int
    place: Path
    base_manifest: Path
    work_dir: str
    base_dir: str
    plex_version: str
    about: Mapping[str, Any]

    @classmethod
    def of(cls, option: Mapping[str, Any]) -> Wanted | None:
        """Return the parsed option, None without checkpoints.

        :raises ValueError: a key is missing or has a wrong type; the message names it.
        """
        try:
            wanted = cls(
                minutes=float(option["minutes"]),
                tracks=int(option["tracks"]),
                place=Path(str(option["dir"])).expanduser(),
                base_manifest=Path(str(option["base_manifest"])).expanduser(),
                work_dir=str(option["work_dir"]),
                base_dir=str(option["base_dir"]),
                plex_version=str(option["plex_version"]),
                about=dict(option["about"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"The option `checkpoint` is invalid: {error!r}.") from error
        return wanted if wanted.minutes > 0 or wanted.tracks > 0 else None


def progress_of(counters: Counters | None) -> int | None:
    """Return the counts of files, analysed media and tracks with Sonic data; None when unknown."""
    return None if counters is None else counters.items + counters.media_analysed + counters.sonic_done


class IndexerHost:
    """`checkpointing.Host` for an indexer.

    :param call: calls the module plex_db_checkpoint with arguments and returns its result.
    :param fetch: downloads a file of the indexer to a local path; raises Cut or PlexDatabaseError.
    :param owner: the login user, if that user may not read Plex's files.
    """

    def __init__(
        self,
        wanted: Wanted,
        *,
        databases: str,
        owner: str,
        call: Callable[[dict[str, Any]], Mapping[str, Any]],
        fetch: Callable[[str, Path], None],
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self._wanted, self._databases, self._owner = wanted, databases, owner
        self._call, self._fetch, self._clock, self._sleep = call, fetch, clock, sleep
        self._made: Mapping[str, Any] = {}
        self._carrier = self._new_carrier()

    def make(self) -> None:
        """Copy the pair and compute its delta."""
        wanted = self._wanted
        try:
            base = manifests.load(wanted.base_manifest)["files"]
            wanted.place.mkdir(mode=0o700, parents=True, exist_ok=True)
            known = checkpoint_format.known(wanted.place, base)
        except (PlexDatabaseError, OSError) as error:
            raise NotMade(str(error)) from error
        self._made = self._state(
            "present",
            databases_dir=self._databases,
            base_dir=wanted.base_dir,
            known=known,
            plex_version=wanted.plex_version,
            owner=self._owner,
        )
        self._carrier = self._new_carrier()
        try:
            require_space(wanted.place, int(self._made["bytes"]), "A checkpoint")
        except PlexDatabaseError as error:
            raise NotMade(str(error)) from error

    def bring(self, until: float | None) -> bool:
        """Download parts; returns whether all have arrived."""
        self._carrier.patience = BETWEEN_STEPS_PATIENCE if until is None else 0.0
        try:
            self._carrier.bring(
                self._wanted.place / checkpoint_format.NEXT, str(self._made["description_sha256"]), until
            )
        except Later:
            return False
        except (PlexDatabaseError, OSError) as error:
            raise NotMade(str(error)) from error
        return True

    def keep(self) -> Kept:
        """Move the checkpoint to its place and make it the base of the next one."""
        try:
            kept = checkpoint_format.put(self._wanted.place, self._wanted.about)
        except (PlexDatabaseError, OSError) as error:
            raise NotMade(str(error)) from error
        try:
            self._state("confirmed")
        except NotMade as problem:  # this one is safe; the next one is a delta against the uploaded snapshot
            Display().vvv(f"checkpoint {kept.number}: {problem}")
        return Kept(
            kept.number, kept.taken_at, checkpoint_format.reached(kept.delta.manifest), self._carrier.done.bytes
        )

    def drop(self) -> None:
        """Remove the checkpoint's files from the indexer, if it can be reached."""
        try:
            self._state("discarded")
        except NotMade as problem:
            Display().vvv(f"checkpoint: {problem}")

    def _new_carrier(self) -> Carrier:
        return Carrier(self._move, lambda line: None, self._clock, self._sleep, "checkpoint")

    def _move(self, name: str) -> None:
        self._fetch(f"{self._made['delta']}/{name}", self._wanted.place / checkpoint_format.NEXT / name)

    def _state(self, state: str, **more: Any) -> Mapping[str, Any]:
        try:
            answer = self._call({"state": state, "work_dir": self._wanted.work_dir, **more})
        except AnsibleError as error:
            raise NotMade(f"plex_db_checkpoint cannot run on the indexer: {first_line(error)}.") from error
        if answer.get("unreachable"):
            raise NotMade(f"The indexer cannot be reached: {answer.get('msg', 'no message')}.")
        if answer.get("failed"):
            raise NotMade(str(answer.get("msg", "The module plex_db_checkpoint failed without a message.")))
        return answer


def checkpoints(
    wanted: Wanted, host: IndexerHost, run_dir: str, emit: Callable[[str], None], clock: Callable[[], float]
) -> Checkpoints:
    """Return the checkpoints of one task; the state is kept in the run folder.

    :raises RunFolderError: it is not a run folder.
    """
    folder = RunFolder.open(Path(run_dir))

    def remember(state: State, event: str, said: str) -> None:
        try:
            folder.record("checkpoint", {**state.plain(), "kept": state.made > 0})
            if event:
                folder.append_event(event, words=said)
        except (RunFolderError, OSError) as error:
            Display().warning(f"The run folder cannot be written, so its summary lacks a checkpoint: {error}")

    state = State.of(folder.state().get("checkpoint"), clock())
    return Checkpoints(wanted.minutes, wanted.tracks, host, state, emit, clock, remember)
