# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""Selection, check and cleanup of the checkpoint that a run continues from. Runs on the controller.

A checkpoint fits when it has this home and its history, the same Plex version, schema and path mappings, and only
sections of this run. Its pair is then merged with home's current pair, like a result: base is the snapshot uploaded to
the lost indexer, theirs is the checkpoint's pair, ours is home's pair now.

Path mappings that stay are part of a checkpoint, so they must be the same. Paths that only the lost indexer had are
reverted here, with the journal of applying them to its base; the new indexer's paths are applied to the merged pair.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..plex_db.checks import check, loss
from ..plex_db.delta import chain as delta_chain
from ..plex_db.delta import delta as deltas
from ..plex_db.errors import PlexDatabaseError
from ..plex_db.merge import policy
from ..plex_db.merge.id_gap import GAP
from ..plex_db.pair import manifest as manifests
from ..plex_db.pair.files import FileOperations, require_space
from ..plex_db.pair.pair import LIBRARY, MANIFEST, NAMES
from ..plex_db.pair.reader import connect_closed
from ..plex_db.pair.reader import number as number_of
from ..plex_db.path_mapping import apply
from ..plex_db.path_mapping.mapping import Mappings
from ..plex_db.path_mapping.remote_listing import Listing
from ..run.folder import RUN_ID, RunFolder, write_private
from . import format as checkpoint
from .format import Checkpoint


@dataclass(frozen=True)
class Asking:
    """The run that wants to continue. `base`: folder with home's current snapshot and its manifest."""

    run_id: str
    machine_identifier: str
    sections: Sequence[str]
    path_mappings: Sequence[Mapping[str, Any]]
    base: Path


@dataclass(frozen=True)
class Candidate:
    """A checkpoint that fits.

    `chain`: folders of the deltas up to it, in order; `before`: manifest of the base of the first delta.
    """

    run: Path
    checkpoint: Checkpoint
    chain: Sequence[Path]
    before: Mapping[str, Any]

    @property
    def base(self) -> Path:
        """Return the folder of the snapshot uploaded to the lost indexer."""
        return _base_of(self.run)

    @property
    def gained(self) -> dict[str, int]:
        """Return the counts: tracks that got Sonic data, tracks that lacked it (including new ones), new items."""
        was, now = checkpoint.reached(self.before), checkpoint.reached(self.checkpoint.delta.manifest)
        return {
            "tracks": max(0, now["sonic_done"] - was["sonic_done"]),
            "pending": max(0, now["sonic_total"] - was["sonic_done"]),
            "items": max(0, now["items"] - was["items"]),
        }

    def words(self) -> str:
        """Return the checkpoint's name and what need not be done again, as text."""
        gained = self.gained
        found = (
            f"{gained['items']:,} new item{'s are' if gained['items'] > 1 else ' is'} known" if gained["items"] else ""
        )
        told = f"{gained['tracks']:,} of {gained['pending']:,} tracks need not be analysed again"
        what = [words for words in (told if gained["tracks"] else "", found) if words]
        what = what or ["media that were analysed need not be analysed again"]
        return f"the checkpoint of run {self.run.name} of {self.checkpoint.taken_at}: {', '.join(what)}"

    def plain(self) -> dict[str, Any]:
        """Return the checkpoint as a task's result."""
        return {
            "run": self.run.name,
            "number": self.checkpoint.number,
            "taken_at": self.checkpoint.taken_at,
            "words": self.words(),
            "base": str(self.base),
            "sections": [str(name) for name in self.checkpoint.about.get("sections") or ()],
            **self.gained,
        }


@dataclass(frozen=True)
class Refused:
    """The reason why a run's checkpoint is not used, as a sentence."""

    run: str
    words: str


def find(runs_dir: Path, asking: Asking) -> tuple[list[Candidate], list[Refused]]:
    """Return the checkpoints that fit, newest run and newest checkpoint first, and the reasons why others do not.

    :raises PlexDatabaseError: home's own snapshot cannot be read.
    """
    now = manifests.load(asking.base / MANIFEST)
    fitting: list[Candidate] = []
    refused: list[Refused] = []
    for run in _runs(runs_dir, asking.run_id):
        try:
            before = manifests.load(_base_of(run) / MANIFEST)
            fitting += _of_run(run, before, now, asking, refused)
        except PlexDatabaseError as problem:
            refused.append(_not_used(run, problem))
    return fitting, refused


def open_first(
    candidates: Sequence[Candidate], destination: Path, asking: Asking, listing: Listing | None, limits: loss.Limits
) -> tuple[Candidate | None, list[Refused]]:
    """Create the pair of the first valid candidate in `destination`; returns it and the reasons against the others.

    Valid: the pair is complete, passes the loss check, and home's items are those of its base. If the lost indexer had
    different paths, one more copy of the pair is needed temporarily.

    :raises PlexDatabaseError: there is not enough disk space.
    """
    refused: list[Refused] = []
    for candidate in candidates:
        try:
            _require_space(destination, candidate)
            problem = _open(candidate, destination, asking, listing, limits)
        except BaseException:
            _remove(destination)
            raise
        if not problem:
            return candidate, refused
        _remove(destination)
        refused.append(_not_used(candidate.run, problem, candidate.checkpoint.number))
    return None, refused


def take_over(runs_dir: Path, run_id: str, taken: str) -> bool:
    """Record in both run folders that one run continues from the other's checkpoint; returns whether that changed."""
    old = RunFolder.open(runs_dir / taken)
    by = list(old.state().get("checkpoint", {}).get("resumed_by", []))
    changed = RunFolder.open(runs_dir / run_id).record("checkpoint", {"resumed_from": taken})
    if run_id in by:
        return changed
    old.record("checkpoint", {"resumed_by": [*by, run_id]})
    old.append_event("checkpoint_taken_over", run_id=run_id)
    _tell(old)
    return True


def spend(runs_dir: Path, run_id: str) -> list[str]:
    """Remove the checkpoints of a run whose pair is downloaded, and of the runs it continued from, with their bases.

    Returns the removed paths.
    """
    run = RunFolder.open(runs_dir / run_id)
    removed = _forget(run, checkpoint_only=True)
    taken = run.state().get("checkpoint", {}).get("resumed_from")
    seen = {run_id}
    while taken and taken not in seen and (runs_dir / taken / "state.json").is_file():
        seen.add(taken)
        old = RunFolder.open(runs_dir / taken)
        removed += _forget(old, checkpoint_only=False)
        _tell(old)
        taken = old.state().get("checkpoint", {}).get("resumed_from")
    return removed


def _forget(run: RunFolder, *, checkpoint_only: bool) -> list[str]:
    folders = [_place_of(run.path)] if checkpoint_only else [_place_of(run.path), _base_of(run.path)]
    found = [folder for folder in folders if folder.is_dir()]
    for folder in found:
        shutil.rmtree(folder)
    if found and run.state().get("checkpoint"):
        run.record("checkpoint", {"kept": False})
    return [str(folder) for folder in found]


def _tell(run: RunFolder) -> None:
    """Add the use of the checkpoint to the existing summary of a run that is over."""
    path = run.path / "summary.json"
    if not path.is_file():
        return
    summary = json.loads(path.read_text(encoding="utf-8"))
    told = {key: value for key, value in run.state()["checkpoint"].items() if key in ("kept", "resumed_by")}
    summary["checkpoint"] = {**summary.get("checkpoint", {}), **told}
    write_private(path, json.dumps(summary, indent=1, ensure_ascii=False) + "\n")


def _place_of(run: Path) -> Path:
    return run / "snapshots" / "checkpoint"


def _base_of(run: Path) -> Path:
    return run / "snapshots" / "base"


def _runs(runs_dir: Path, but: str) -> Iterator[Path]:
    """Return the runs that have a checkpoint and whose result is not at home, newest first."""
    if not runs_dir.is_dir():
        return
    for run in sorted(runs_dir.iterdir(), reverse=True):
        if run.name == but or run.is_symlink() or not RUN_ID.match(run.name) or not (run / "state.json").is_file():
            continue
        if checkpoint.folders(_place_of(run)) and not RunFolder(run).state().get("home", {}).get("installed"):
            yield run


def _of_run(
    run: Path, before: Mapping[str, Any], now: Mapping[str, Any], asking: Asking, refused: list[Refused]
) -> list[Candidate]:
    readable: list[Checkpoint] = []
    for folder in checkpoint.folders(_place_of(run)):
        try:
            readable.append(checkpoint.load(folder))
        except PlexDatabaseError as problem:
            refused.append(_not_used(run, problem, int(folder.name)))
    if not readable:
        return []
    why = _why_not(readable[-1], before, now, asking)
    if not why and deltas.base_of(_base_of(run)) is None:
        why = f"Its base snapshot in {_base_of(run)} is not complete any more."
    if why:
        refused.append(_not_used(run, why))
        return []
    found = []
    for one in reversed(readable):
        try:
            chain = checkpoint.chain(readable, one, before["files"])
            found.append(Candidate(run, one, chain, before))
        except PlexDatabaseError as problem:
            refused.append(_not_used(run, problem, one.number))
    return found


def _not_used(run: Path, why: object, number: int | None = None) -> Refused:
    which = "The checkpoint" if number is None else f"Checkpoint {number}"
    return Refused(run.name, f"{which} of run {run.name} is not used. {why}")


def _why_not(one: Checkpoint, before: Mapping[str, Any], now: Mapping[str, Any], asking: Asking) -> str:
    """Return the reason why a run's checkpoints do not fit, as a sentence; empty when they do."""
    about, manifest = one.about, one.delta.manifest
    if about.get("machine_identifier") != asking.machine_identifier:
        return "It belongs to another home."
    if before["plex_version"] != now["plex_version"]:
        return f"Home's Plex was {before['plex_version']} then and is {now['plex_version']} now."
    if manifest["schema_versions"] != now["schema_versions"]:
        return "Its database has another schema than home's."
    wanted = {str(name) for name in asking.sections}
    had = {str(name) for name in about.get("sections") or ()}
    if wanted and (not had or had - wanted):
        return (
            f"It contains work on {', '.join(sorted(had)) or 'all sections'}, but this run only has "
            f"{', '.join(sorted(wanted))}: the rest would be lost. Set plexburst_sections as in that run to use it."
        )
    if _mappings(about.get("path_mappings") or ()) != _mappings(asking.path_mappings):
        return "It was made with other plexburst_path_mappings than this run's."
    return _of_another_history(before, now)


def _mappings(entries: Sequence[Mapping[str, Any]]) -> set[tuple[str, str]]:
    return {(str(entry["from"]), str(entry["to"])) for entry in entries}


def _of_another_history(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return the reason if home's database was replaced since: by an older one or by another run's result."""
    sections = {section["id"]: section["uuid"] for section in now["sections"]}
    changed = [one["title"] for one in before["sections"] if sections.get(one["id"], one["uuid"]) != one["uuid"]]
    if changed:
        return f"Home's section {changed[0]} was replaced by another section since."
    for table in policy.MERGED:
        was, is_now = before.get("sequences", {}).get(table, 0), now.get("sequences", {}).get(table, 0)
        if is_now < was:
            return f"Home was restored to an older database since ({table} was at id {was}, is at {is_now})."
        if is_now >= was + GAP:
            return (
                f"Home got another run's database since, or has grown too much ({table} was at id {was}, is at "
                f"{is_now})."
            )
    return ""


def _require_space(destination: Path, candidate: Candidate) -> None:
    destination.mkdir(mode=0o700, parents=True, exist_ok=True)
    size = sum(int(entry["size"]) for entry in candidate.checkpoint.files.values())
    copies = 2 if candidate.checkpoint.about.get("indexer_path_mappings") else 1
    require_space(destination, size * copies, f"Continuing from {candidate.words()}")


def _open(candidate: Candidate, destination: Path, asking: Asking, listing: Listing | None, limits: loss.Limits) -> str:
    """Create and check the pair; returns the reason why it is not valid, empty when it is."""
    about = candidate.checkpoint.about
    try:
        _require_same_items(candidate.base, asking.base)
        delta_chain.apply(candidate.chain, destination, candidate.base)
        names = Mappings.parse(about.get("indexer_path_mappings") or ())
        if names:
            moves = Mappings.parse(about.get("path_mappings") or ())
            _take_back_names(destination, candidate.base, moves, names)
        report = check.check(
            destination,
            manifests.load(destination / MANIFEST),
            base=candidate.before,
            base_directory=candidate.base,
            listing=listing,
            limits=limits,
        )
    except PlexDatabaseError as problem:
        return str(problem)
    return check.sentences(report.problems) if report.problems else ""


def _require_same_items(before: Path, now: Path) -> None:
    """Return the reason if a shared id is another item: home was restored from a backup and reused ids."""
    with _both(before, now) as connection:
        count = number_of(
            connection,
            "SELECT COUNT(*) FROM before.metadata_items b JOIN main.metadata_items n ON n.id = b.id "
            "WHERE n.metadata_type IS NOT b.metadata_type OR n.library_section_id IS NOT b.library_section_id "
            "OR n.created_at IS NOT b.created_at",
        )
    if count:
        raise PlexDatabaseError(
            f"{count} of home's items differ from those with the same ids in its base: home was restored to an older "
            "database in between."
        )


@contextmanager
def _both(before: Path, now: Path) -> Iterator[Any]:
    with closing(connect_closed(now / LIBRARY)) as connection:
        path = quote(str((before / LIBRARY).absolute()))
        connection.execute("ATTACH DATABASE ? AS before", (f"file:{path}?mode=ro&immutable=1",))
        yield connection


def _take_back_names(pair: Path, base: Path, moves: Mappings, names: Mappings) -> None:
    """Restore home's paths in the pair, as the lost indexer would have done at its end.

    The indexer's journal is lost, but applying the mappings to a copy of the base writes the same journal.
    """
    scratch = pair / "names"
    journal = scratch / "names.journal"
    try:
        scratch.mkdir(mode=0o700)
        for name in NAMES:
            shutil.copyfile(base / name, scratch / name)
        if moves:
            apply.apply(scratch, moves, journal=scratch / "moves.journal")
        apply.apply(scratch, names, journal=journal, way_back=True)
        apply.revert(pair, journal=journal)
    finally:
        _remove(scratch)
    manifest = manifests.load(pair / MANIFEST)
    fresh = manifests.build(pair, manifest["source"], manifest["plex_version"], manifest.get("copy"))
    FileOperations().write_text(pair / MANIFEST, json.dumps(fresh, indent=1) + "\n")


def _remove(folder: Path) -> None:
    if folder.is_dir():
        shutil.rmtree(folder)
