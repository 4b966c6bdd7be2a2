"""The merge, start to end: plan it over three closed pairs, write it into the one that came back, say what happened."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import PlexDatabaseError
from ..pair.files import FileOperations
from ..pair.pair import LIBRARY, NAMES, holders, require_closed
from ..pair.reader import open_closed, rows
from ..sqlite_pages.changed_rows import Near
from . import apply, conflicts
from . import plan as plans
from .home_files import Look
from .workspace import opened, remove

# How many conflicts a result names; the file has them all.
EXAMPLES = 20


@dataclass(frozen=True)
class Merged:
    """What a merge did.

    :param put: table -> rows of the result that are home's. :param drop: table -> rows that went.
    :param whole: tables taken from home whole. :param kept: rows of watch state that home changed since the base.
    :param conflicts: how many there are; `examples` are the first, each {table, id, what, kept}.
    :param at_home: what became of files that the indexer did not see (Presence.as_dict).
    """

    changed: bool
    kept: int = 0
    conflicts: int = 0
    put: dict[str, int] = field(default_factory=dict)
    drop: dict[str, int] = field(default_factory=dict)
    whole: list[str] = field(default_factory=list)
    examples: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    at_home: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """For a module's result."""
        return asdict(self)


NOTHING = Merged(False)


def merge(
    base: Path,
    ours: Path,
    theirs: Path,
    *,
    sections: Iterable[int] | None = None,
    plex_sqlite: Sequence[str] = (),
    owner_like: Path | None = None,
    conflicts_file: Path | None = None,
    append: bool = False,
    near: Near | None = None,
    look: Look | None = None,
    dry_run: bool = False,
) -> Merged:
    """Apply to `theirs` what home did since `base`. Twice is once.

    :param base, ours, theirs: folders of closed pairs. Only `theirs` is written, and a scratch file beside it.
    :param sections: ids of the sections that were in the run; None: all.
    :param plex_sqlite: argv of Plex's own SQLite; only needed when home changed what its triggers watch.
    :param owner_like: a file whose owner may read and write `theirs` (as whom Plex SQLite runs).
    :param conflicts_file: gets every conflict, a JSON object a line; with `append`, after those it holds.
    :param near: where ours may differ from base (touched.since); None: anywhere.
    :param look: looks for files at home, see `plan.make`.
    :raises PlexDatabaseError: see `plan.make` and `apply.write`; nothing of home is touched.
    """
    for directory in (base, ours, theirs):
        require_closed(directory)
    started = time.monotonic()
    scratch = theirs / ".plexburst-merge.db"
    try:
        with opened(scratch, base, ours, theirs) as work:
            work.run("BEGIN")
            planned = plans.make(work, sections, near, look)
            examples = conflicts.first(work, EXAMPLES)
            work.run("COMMIT")
            if not dry_run:
                if owner_like is not None:
                    apply.hand_over((scratch, theirs, *(theirs / name for name in NAMES)), owner_like)
                apply.write(work, planned, theirs, plex_sqlite)
                if conflicts_file is not None:
                    conflicts.write(work, conflicts_file, append=append)
    finally:
        remove(scratch)
    return Merged(
        changed=planned.changes,
        kept=planned.kept,
        conflicts=planned.conflicts,
        put=planned.put,
        drop=planned.drop,
        whole=[table.name for table in planned.whole],
        examples=examples,
        warnings=planned.warnings,
        at_home=planned.at_home.as_dict() if look is not None else {},
        seconds=round(time.monotonic() - started, 3),
    )


def resume(
    base: Path,
    databases: Path,
    checkpoint: Path,
    *,
    sections: Iterable[int] | None = None,
    plex_sqlite: Sequence[str] = (),
    dry_run: bool = False,
) -> Merged:
    """Go on from the pair of a checkpoint: merge home as it is now into it, and put it in the place of home's pair.

    :param base: the pair that went out to the indexer whose checkpoint it is.
    :param databases: the folder of a Plex that does not run; it holds home's pair, on the same file system.
    :param checkpoint: the pair of the checkpoint. It is written, and gone afterwards.
    :raises PlexDatabaseError: see `merge`, or a Plex runs there; home's pair is in place as before then.
    """
    found = holders(databases)
    if found:
        raise PlexDatabaseError(f"{databases} is open in {', '.join(found)}: stop that Plex first.")
    like = databases / LIBRARY
    done = merge(
        base, databases, checkpoint, sections=sections, plex_sqlite=plex_sqlite, owner_like=like, dry_run=dry_run
    )
    if not dry_run:
        _relay(checkpoint, databases)
    return replace(done, changed=True)


def _relay(pair: Path, databases: Path) -> None:
    """Put both files of a pair in the place of those in `databases`, or neither."""
    operations = FileOperations()
    before = {name: pair / f".{name}.before" for name in NAMES}
    for name, path in before.items():
        operations.link(databases / name, path)
    try:
        for name in NAMES:
            operations.replace(pair / name, databases / name)
    except OSError:
        for name, path in before.items():
            operations.replace(path, databases / name)
        raise
    for path in before.values():
        operations.remove(path)
    operations.sync_directory(databases)


def section_ids(pair: Path, wanted: Sequence[str]) -> list[int] | None:
    """Titles or ids of sections as ids; None for an empty list, which means all.

    :raises PlexDatabaseError: there is no such section.
    """
    if not wanted:
        return None
    with open_closed(pair / LIBRARY) as library:
        known = rows(library, "SELECT id, name FROM library_sections")
    found = []
    for name in wanted:
        ids = [row[0] for row in known if str(name) in (str(row[0]), str(row[1]))]
        if not ids:
            titles = ", ".join(str(row[1]) for row in known)
            raise PlexDatabaseError(f"There is no section {name!r} in {pair}; there are: {titles}.")
        found += ids
    return sorted(set(found))
