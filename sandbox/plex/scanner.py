"""``Plex Media Scanner``: scans a section, refreshes its metadata, analyses items (docs/plex-facts.md#scanner).

    Plex Media Scanner --scan --refresh --section 1 [--directory DIR] [--force]
    Plex Media Scanner --analyze|--analyze-deeply (--item ID[,ID…] | --section ID)
    Plex Media Scanner --list

By hand it needs PLEX_MEDIA_SERVER_APPLICATION_SUPPORT_DIR, as the real one does. Under the server it tells its progress
as JSON lines.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from sandbox.faults import Faults
from sandbox.plex import children
from sandbox.plex import database as db
from sandbox.plex.library import Library, LibraryError
from sandbox.plex.records import LEAF_TYPES, ScanProgress
from sandbox.plex.volumes import Volumes

EMPTY_TRASH_ENV = "PLEX_SIM_EMPTY_TRASH"
_REFRESH_SHARE = 0.1
_TAKE_SHARE = 0.05
_ANALYSE_SHARE = 0.2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=children.SCANNER)
    parser.add_argument("-s", "--scan", action="store_true")
    parser.add_argument("-r", "--refresh", action="store_true")
    parser.add_argument("-a", "--analyze", action="store_true")
    parser.add_argument("--analyze-deeply", action="store_true")
    parser.add_argument("-l", "--list", action="store_true")
    parser.add_argument("-x", "--force", action="store_true")
    parser.add_argument("-c", "--section", type=int)
    parser.add_argument("-d", "--directory")
    parser.add_argument("-o", "--item", default="")
    return parser


class _Run:
    """What one run of the scanner needs."""

    def __init__(self, library: Library, arguments: argparse.Namespace, job: bool, faults: Faults | None) -> None:
        self.library = library
        self.arguments = arguments
        self.faults = faults
        self.job = job
        self.stop = threading.Event()
        self.speed = children.speed()
        if job:
            children.watch_parent(self.stop.set)

    def tell(self, **event: Any) -> None:
        """Progress: a JSON line for the server, nothing for a person."""
        if self.job:
            children.answer(event)

    def _work(self, share: float, *, photo: bool) -> None:
        """What one item costs; by the fault ``photo_seconds`` each photo takes so long besides, a twentieth of it CPU
        (docs/plex-facts.md#incidents: photos took four hours where others took one).
        """
        children.burn(self.speed * share)
        began = time.monotonic()
        while photo and self.faults and time.monotonic() - began < float(self.faults.get("photo_seconds") or 0.0):
            if self.stop.wait(0.19):
                return
            children.burn(0.01)

    def scan(self) -> None:
        arguments, library = self.arguments, self.library
        kind = LEAF_TYPES[library.section_type(arguments.section)]

        def progress(step: ScanProgress) -> None:
            self.tell(event="progress", phase=step.phase, title=step.title, done=step.done, total=step.total)

        result = library.scan(
            arguments.section,
            force=arguments.force,
            path=arguments.directory,
            empty_trash=os.environ.get(EMPTY_TRASH_ENV) == "1",
            progress=progress,
            should_stop=self.stop.is_set,
            work=lambda: self._work(_TAKE_SHARE, photo=kind == db.PHOTO),
        )
        self.tell(event="scanned", added=result.added, trashed=result.trashed, removed=result.removed)
        if arguments.force and not self.stop.is_set():
            ids: Iterable[int] = (
                library.item_ids(arguments.section)
                if arguments.directory is None
                else library.ids_below(arguments.section, arguments.directory)
            )
            library.refresh_items(
                ids,
                work=lambda: children.burn(self.speed * _REFRESH_SHARE),
                should_stop=self.stop.is_set,
                progress=lambda done, title: self.tell(event="progress", phase="refresh", title=title, done=done),
            )
        self.tell(event="done", cancelled=self.stop.is_set())

    def refresh(self) -> None:
        """Metadata of named items and of all below them."""
        for item in self._named():
            self.library.refresh_items(
                self.library.descendants(item),
                work=lambda: children.burn(self.speed * _REFRESH_SHARE),
                should_stop=self.stop.is_set,
            )
        self.tell(event="done", cancelled=self.stop.is_set())

    def analyse(self) -> None:
        """One item after the other; the process title names the one at hand."""
        flag = "--analyze-deeply" if self.arguments.analyze_deeply else "--analyze"
        done = failed = 0
        for item in self._targets():
            if self.stop.is_set():
                break
            if self.job:
                children.retitle(children.SCANNER, (flag, "--item", str(item)))
            photo = self._is_photo(item)
            good, bad = self.library.analyse([item], work=lambda photo=photo: self._work(_ANALYSE_SHARE, photo=photo))
            done, failed = done + good, failed + bad
            if bad:
                print(f"WARN - Analysis of item {item} failed: its file cannot be read.", file=sys.stderr, flush=True)
            self.tell(event="progress", phase="analyze", title=str(item), done=done, failed=failed)
        self.tell(event="done", cancelled=self.stop.is_set(), analysed=done, failed=failed)

    def _is_photo(self, item: int) -> bool:
        row = self.library.library.execute("SELECT metadata_type FROM metadata_items WHERE id=?", (item,)).fetchone()
        return row is not None and row[0] == db.PHOTO

    def _named(self) -> list[int]:
        return [int(item) for item in self.arguments.item.split(",") if item]

    def _targets(self) -> Iterable[int]:
        if self.arguments.item:
            for item in self._named():
                yield from self.library.descendants(item)
            return
        section = self.library.section_type(self.arguments.section)
        yield from self.library.item_ids(self.arguments.section, [LEAF_TYPES[section]])


def main(argv: Sequence[str] | None = None) -> int:
    """Run one job; 0 when it went through."""
    job = children.is_job()
    given = children.receive() if job else list(sys.argv[1:] if argv is None else argv)
    if given is None:
        return 1
    arguments = _parser().parse_args(given)
    if job:
        children.retitle(children.SCANNER, given)
        databases = Path(os.environ[children.DATABASES_ENV])
    else:
        support = os.environ.get("PLEX_MEDIA_SERVER_APPLICATION_SUPPORT_DIR")
        if not support:
            print(
                "Set PLEX_MEDIA_SERVER_APPLICATION_SUPPORT_DIR to the folder that holds 'Plex Media Server'.",
                file=sys.stderr,
            )
            return 2
        databases = Path(support) / "Plex Media Server" / "Plug-in Support" / "Databases"
    faults_file = os.environ.get(children.FAULTS_ENV)
    faults = Faults(Path(faults_file)) if faults_file else None
    volumes = Volumes.from_environment(faults)
    with Library(databases, volumes) as library:
        if arguments.list:
            for key, name in library.library.execute("SELECT id, name FROM library_sections ORDER BY id").fetchall():
                print(f"{key:>3}: {name}")
            return 0
        run = _Run(library, arguments, job, faults)
        try:
            if arguments.scan:
                run.scan()
            elif arguments.analyze or arguments.analyze_deeply:
                run.analyse()
            elif arguments.refresh:
                run.refresh()
            else:
                print("Nothing to do: give --scan, --refresh, --analyze or --list.", file=sys.stderr)
                return 2
        except LibraryError as error:
            run.tell(event="failed", message=str(error))
            print(str(error), file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
