# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""Which checkpoint a run goes on from, whether it is good, and what becomes of it afterwards. On the controller.

A checkpoint fits when it is of this home and its history, of the same Plex version and schema, of sections that are in
this run, and of the same path mappings. What it leads to then is merged with home as it is now, as a pair that comes
home is: base is the snapshot that went out to the indexer that was lost, theirs is the checkpoint's pair, ours is home
now.

Path mappings that stay are part of a checkpoint, so they must be the same. Names that were the lost indexer's alone
are taken back here, by what applying them to its base says: whatever the new indexer's names are is done to the merged
pair.
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

from ansible_collections.plexburst.core.plugins.module_utils.plex_db import (
    check,
    checkpoint,
    guard,
    mapping_write,
    patch_chain,
)
from ansible_collections.plexburst.core.plugins.module_utils.plex_db import manifest as manifests
from ansible_collections.plexburst.core.plugins.module_utils.plex_db import patch as patches
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.checkpoint import Checkpoint
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.errors import PlexDatabaseError
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.files import FileOperations, require_space
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.listing import Listing
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.mapping import Mappings
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.merge import policy
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.merge.gap import GAP
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.pair import LIBRARY, MANIFEST, NAMES
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.reader import connect_closed
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.reader import number as number_of
from ansible_collections.plexburst.core.plugins.module_utils.run_folder import RUN_ID, RunFolder, write_private


@dataclass(frozen=True)
class Asking:
    """The run that would go on. `base`: folder of home's snapshot as it is now, with its manifest."""

    run_id: str
    machine_identifier: str
    sections: Sequence[str]
    path_mappings: Sequence[Mapping[str, Any]]
    base: Path


@dataclass(frozen=True)
class Candidate:
    """A checkpoint that fits. `chain`: the folders of the patches that lead to it; `before`: the manifest of what the
    first leads from."""

    run: Path
    checkpoint: Checkpoint
    chain: Sequence[Path]
    before: Mapping[str, Any]

    @property
    def base(self) -> Path:
        """The pair that went out to the indexer that was lost."""
        return _base_of(self.run)

    @property
    def gained(self) -> dict[str, int]:
        """tracks that got Sonic data, tracks that lacked it (new ones included), and items that were found."""
        was, now = checkpoint.reached(self.before), checkpoint.reached(self.checkpoint.patch.manifest)
        return {
            "tracks": max(0, now["sonic_done"] - was["sonic_done"]),
            "pending": max(0, now["sonic_total"] - was["sonic_done"]),
            "items": max(0, now["items"] - was["items"]),
        }

    def words(self) -> str:
        """What need not be done again."""
        gained = self.gained
        found = (
            f"{gained['items']:,} new item{'s are' if gained['items'] > 1 else ' is'} known" if gained["items"] else ""
        )
        told = f"{gained['tracks']:,} of {gained['pending']:,} tracks need not be analysed again"
        what = [words for words in (told if gained["tracks"] else "", found) if words]
        what = what or ["the media it had analysed need not be analysed again"]
        return f"the checkpoint of run {self.run.name} of {self.checkpoint.taken_at}: {', '.join(what)}"

    def plain(self) -> dict[str, Any]:
        """As a task's result."""
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
    """Why something of a run is not used, as a sentence."""

    run: str
    words: str


def find(runs_dir: Path, asking: Asking) -> tuple[list[Candidate], list[Refused]]:
    """The checkpoints that fit, those of the newest run and the newest of a run first; and why others do not.

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
    candidates: Sequence[Candidate], destination: Path, asking: Asking, listing: Listing | None, limits: guard.Limits
) -> tuple[Candidate | None, list[Refused]]:
    """Make the pair of the first candidate that is good, in `destination`; and why others are not.

    Good: it comes out whole, it holds no less than what went out, within the limits, and home's items are those of its
    base. On the way there is one more copy of the pair where the lost indexer had names of its own.

    :raises PlexDatabaseError: there is no space for it.
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
    """Write down in both runs' folders that one has gone on from the other's checkpoint; whether that is news."""
    old = RunFolder.open(runs_dir / taken)
    by = list(old.state().get("checkpoint", {}).get("taken_over_by", []))
    changed = RunFolder.open(runs_dir / run_id).record("checkpoint", {"gone_on_from": taken})
    if run_id in by:
        return changed
    old.record("checkpoint", {"taken_over_by": [*by, run_id]})
    old.append_event("checkpoint_taken_over", run_id=run_id)
    _tell(old)
    return True


def spend(runs_dir: Path, run_id: str) -> list[str]:
    """The run has brought its pair home: its checkpoints are needless, and so are those of the runs it went on from,
    with what they lead from. Paths that were removed."""
    run = RunFolder.open(runs_dir / run_id)
    removed = _forget(run, checkpoint_only=True)
    taken = run.state().get("checkpoint", {}).get("gone_on_from")
    seen = {run_id}
    while taken and taken not in seen and (runs_dir / taken / "state.json").is_file():
        seen.add(taken)
        old = RunFolder.open(runs_dir / taken)
        removed += _forget(old, checkpoint_only=False)
        _tell(old)
        taken = old.state().get("checkpoint", {}).get("gone_on_from")
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
    """A run that is over has its summary already; what became of its checkpoint is added."""
    path = run.path / "summary.json"
    if not path.is_file():
        return
    summary = json.loads(path.read_text(encoding="utf-8"))
    told = {key: value for key, value in run.state()["checkpoint"].items() if key in ("kept", "taken_over_by")}
    summary["checkpoint"] = {**summary.get("checkpoint", {}), **told}
    write_private(path, json.dumps(summary, indent=1, ensure_ascii=False) + "\n")


def _place_of(run: Path) -> Path:
    return run / "snapshots" / "checkpoint"


def _base_of(run: Path) -> Path:
    return run / "snapshots" / "base"


def _runs(runs_dir: Path, but: str) -> Iterator[Path]:
    """Runs that have a checkpoint and whose work is not at home, the newest first."""
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
    if not why and patches.base_of(_base_of(run)) is None:
        why = f"The snapshot that it leads from is not complete in {_base_of(run)} any more."
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
    """Why a run's checkpoints do not fit, as a sentence; empty when they do."""
    about, manifest = one.about, one.patch.manifest
    if about.get("machine_identifier") != asking.machine_identifier:
        return "It is of another home."
    if before["plex_version"] != now["plex_version"]:
        return f"Home's Plex was {before['plex_version']} then and is {now['plex_version']} now."
    if manifest["schema_versions"] != now["schema_versions"]:
        return "Its database has another schema than home's."
    wanted = {str(name) for name in asking.sections}
    had = {str(name) for name in about.get("sections") or ()}
    if wanted and (not had or had - wanted):
        return (
            f"It holds work on {', '.join(sorted(had)) or 'all sections'}, and this run only has "
            f"{', '.join(sorted(wanted))}: the rest would be lost. Leave plexburst_sections as it was to go on from it."
        )
    if _mappings(about.get("path_mappings") or ()) != _mappings(asking.path_mappings):
        return "Its files were named by other plexburst_path_mappings than those of now."
    return _of_another_history(before, now)


def _mappings(entries: Sequence[Mapping[str, Any]]) -> set[tuple[str, str]]:
    return {(str(entry["from"]), str(entry["to"])) for entry in entries}


def _of_another_history(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Ids that home gave away since must be its own: neither an older database nor one that an indexer brought."""
    sections = {section["id"]: section["uuid"] for section in now["sections"]}
    changed = [one["title"] for one in before["sections"] if sections.get(one["id"], one["uuid"]) != one["uuid"]]
    if changed:
        return f"Home's section {changed[0]} is another one by now."
    for table in policy.MERGED:
        was, is_now = before.get("sequences", {}).get(table, 0), now.get("sequences", {}).get(table, 0)
        if is_now < was:
            return f"Home has gone back to an older database since ({table} was at id {was}, is at {is_now})."
        if is_now >= was + GAP:
            return (
                f"Home has got another run's database since, or has grown too much ({table} was at id {was}, is at "
                f"{is_now})."
            )
    return ""


def _require_space(destination: Path, candidate: Candidate) -> None:
    destination.mkdir(mode=0o700, parents=True, exist_ok=True)
    size = sum(int(entry["size"]) for entry in candidate.checkpoint.files.values())
    copies = 2 if candidate.checkpoint.about.get("indexer_path_mappings") else 1
    require_space(destination, size * copies, f"Going on from {candidate.words()}")


def _open(
    candidate: Candidate, destination: Path, asking: Asking, listing: Listing | None, limits: guard.Limits
) -> str:
    """Make and check the pair; why it is not good, empty when it is."""
    about = candidate.checkpoint.about
    try:
        _require_same_items(candidate.base, asking.base)
        patch_chain.apply(candidate.chain, destination, candidate.base)
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
    """An id that both have must be the same item: else home went back to a backup, and gave ids away again."""
    with _both(before, now) as connection:
        count = number_of(
            connection,
            "SELECT COUNT(*) FROM before.metadata_items b JOIN main.metadata_items n ON n.id = b.id "
            "WHERE n.metadata_type IS NOT b.metadata_type OR n.library_section_id IS NOT b.library_section_id "
            "OR n.created_at IS NOT b.created_at",
        )
    if count:
        raise PlexDatabaseError(
            f"{count} of home's items are others by now than those with the same ids then: home went back to an older "
            "database in between."
        )


@contextmanager
def _both(before: Path, now: Path) -> Iterator[Any]:
    with closing(connect_closed(now / LIBRARY)) as connection:
        path = quote(str((before / LIBRARY).absolute()))
        connection.execute("ATTACH DATABASE ? AS before", (f"file:{path}?mode=ro&immutable=1",))
        yield connection


def _take_back_names(pair: Path, base: Path, moves: Mappings, names: Mappings) -> None:
    """Give the files home's names again, as the lost indexer would have done at its end: its journal is gone with it,
    but what was done to the base once is done to a copy of it again, and that writes the same journal."""
    scratch = pair / "names"
    journal = scratch / "names.journal"
    try:
        scratch.mkdir(mode=0o700)
        for name in NAMES:
            shutil.copyfile(base / name, scratch / name)
        if moves:
            mapping_write.apply(scratch, moves, journal=scratch / "moves.journal")
        mapping_write.apply(scratch, names, journal=journal, way_back=True)
        mapping_write.revert(pair, journal=journal)
    finally:
        _remove(scratch)
    manifest = manifests.load(pair / MANIFEST)
    fresh = manifests.build(pair, manifest["source"], manifest["plex_version"], manifest.get("copy"))
    FileOperations().write_text(pair / MANIFEST, json.dumps(fresh, indent=1) + "\n")


def _remove(folder: Path) -> None:
    if folder.is_dir():
        shutil.rmtree(folder)
