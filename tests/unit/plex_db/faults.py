"""Faults at every step of what the modules do at home: the module is killed (-9), or the disk is full.

    python -m tests.unit.plex_db.faults kill|full|limit merge|install|seal|rollback FOLDER

`limit`: the kernel itself refuses to let a file grow beyond a size, for the modules and Plex SQLite's own process.
Otherwise a step is a call of C code that changes something outside of the process: a file operation, a write, a backup
or a statement of SQLite (of the hundreds of statements of a plan one in STATEMENTS). The child of a fork is killed
right before its n-th step, for every n, so it leaves what a power cut between two steps leaves. Prints a JSON object:
how many steps there were, how many different states of the folders they left, and what is wrong. In a process of its
own, for a test runner has threads, and a fork of those may hang.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import signal
import sqlite3
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

from ansible_collections.plexburst.core.plugins.module_utils.plex_db import install
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.delta import delta
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.errors import PlexDatabaseError
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.merge import apply
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.pair import manifest, pair, snapshot
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.pair.files import sha256_of
from ansible_collections.plexburst.core.plugins.modules import plex_db_install, plex_db_merge

from sandbox.plex import database
from tests.unit.plex_db import building

STATEMENTS = 211
REAL = apply.run_plex_sqlite
POSIX = frozenset({"mkdir", "link", "replace", "rename", "unlink", "rmdir", "fsync", "write", "chmod", "sendfile"})
STREAMS = frozenset({"write", "flush"})
SQLITE = frozenset({"backup", "close"})
FREEING = frozenset({"unlink", "rmdir", "chmod", "close"})
"""What a full disk is no obstacle to."""
GONE = 6  # home deletes this track meanwhile
NEW = 2000  # the indexer found this one


class Full(OSError):
    """The disk is full."""

    def __init__(self) -> None:
        super().__init__(errno.ENOSPC, "No space left on device")


class Steps:
    """Counts steps by a profile function, and does `fault` right before the step number `at`."""

    def __init__(self, at: int, fault: Callable[[Any], None], unless: frozenset[str] = frozenset()) -> None:
        self.at, self.fault, self.unless, self.count, self.statements = at, fault, unless, 0, 0

    def __enter__(self) -> Steps:
        sys.setprofile(self._called)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _called(self, _frame: FrameType, event: str, function: Any) -> None:
        if event == "c_call" and self._is_step(function):
            self.step(function)

    def step(self, function: Any = None) -> None:
        """One step."""
        self.count += 1
        if self.count == self.at:
            self.fault(function)

    def _is_step(self, function: Any) -> bool:
        name, owner = function.__name__, getattr(function, "__self__", None)
        if name in self.unless:
            return False
        if getattr(function, "__module__", None) == "posix":
            return name in POSIX
        if isinstance(owner, sqlite3.Connection):
            self.statements += name == "execute"
            return name in SQLITE or (name == "execute" and self.statements % STATEMENTS == 0)
        return name in STREAMS and type(owner).__name__ in ("TextIOWrapper", "BufferedWriter", "FileIO")


def killed(_function: Any) -> None:
    """kill -9."""
    os.kill(os.getpid(), signal.SIGKILL)


def disk_full(function: Any) -> None:
    """What the call would raise on a full disk."""
    if isinstance(getattr(function, "__self__", None), sqlite3.Connection) or function is None:
        raise sqlite3.OperationalError("database or disk is full")
    raise Full


@dataclass(frozen=True)
class Home:
    """A home's folders, as the role plex_home uses them."""

    root: Path

    @property
    def databases(self) -> Path:
        return self.root / "Databases"

    @property
    def incoming(self) -> Path:
        return self.root / "plexburst-incoming"

    @property
    def backups(self) -> Path:
        return self.root / "plexburst-backups"

    def make(self) -> None:
        """A home, the delta of a run that found a track, and what home did since the snapshot went out."""
        building.make_library(self.databases)
        snapshot.take(self.databases, self.root / "sent", "home", "1.43.4")
        indexer = self.root / "indexer"
        shutil.copytree(self.databases, indexer)
        building.write(indexer / pair.LIBRARY, *building.track(NEW, "/Media/Music/new.flac", building.SONIC))
        building.write(indexer / pair.BLOBS, building.vector(NEW))
        snapshot.take(indexer, self.root / "result", "indexer", "1.43.4")
        delta.make(self.root / "result", self.root / "delta")
        for folder in (indexer, self.root / "result"):
            shutil.rmtree(folder)
        building.write(
            self.databases / pair.LIBRARY,
            ("UPDATE metadata_items SET title = 'Renamed' WHERE id = 900",),
            ("INSERT INTO metadata_item_settings(account_id, guid, rating) VALUES(1, 'g-2', 8.0)",),
            ("DELETE FROM media_parts WHERE media_item_id = ?", GONE),
            ("DELETE FROM media_items WHERE metadata_item_id = ?", GONE),
            ("DELETE FROM metadata_items WHERE id = ?", GONE),
        )
        building.write(self.databases / pair.BLOBS, ("DELETE FROM blobs WHERE linked_id = ?", GONE))

    def deliver(self) -> None:
        """What the role does first, also when an earlier attempt left something."""
        delta.apply(self.root / "delta", self.incoming)
        shutil.rmtree(self.root / "plexburst-base", ignore_errors=True)
        shutil.copytree(self.root / "sent", self.root / "plexburst-base")

    def merge(self, plex_sqlite: Sequence[str] = ("Plex SQLite",)) -> None:
        """While Plex works."""
        base = self.root / "plexburst-base"
        plex_db_merge.act(self._module(state="merged", base_dir=base, plex_sqlite=list(plex_sqlite)))

    def later(self) -> None:
        """Home goes on after that merge, until Plex is stopped."""
        building.write(
            self.databases / pair.LIBRARY,
            ("INSERT INTO metadata_item_settings(account_id, guid, rating) VALUES(1, 'g-3', 9.0)",),
        )

    def install(self, plex_sqlite: Sequence[str] = ("Plex SQLite",)) -> None:
        """With Plex stopped."""
        now = self.root / "plexburst-now"
        plex_db_install.act(self._module(state="installed", base_dir=now, plex_sqlite=list(plex_sqlite)))

    def recover(self) -> None:
        """What the role does when the module failed."""
        plex_db_install.act(self._module(state="recovered"))

    def seal(self) -> None:
        """After the start."""
        plex_db_install.act(self._module(state="checksummed"))

    def crash(self) -> None:
        """Plex ends without closing its database: what was written last is in the -wal alone."""
        building.write_elsewhere(self.databases / pair.LIBRARY, "INSERT INTO accounts(id, name) VALUES(78, 'late')")

    def roll_back(self) -> None:
        """To what was before the installation."""
        plex_db_install.act(self._module(state="rolled_back", run_id="back"))

    def _module(self, **options: Any) -> Any:
        given: dict[str, Any] = {
            "databases_dir": self.databases,
            "incoming": self.incoming,
            "backups_dir": self.backups,
            "snapshot_dir": self.root / "plexburst-now",
            "look": False,
            "container": "",
            "path_map": [],
            "conflicts_file": self.incoming / "conflicts.jsonl",
            "sections": [],
            "plex_sqlite": [],
            "run_id": "run-1",
            "keep": 3,
            "backup": "",
            **dict.fromkeys(("owner", "group", "mode", "manifest")),
            **options,
        }
        params = {name: str(value) if isinstance(value, Path) else value for name, value in given.items()}
        return SimpleNamespace(params=params, check_mode=False)

    def hashes(self) -> list[str]:
        """Of home's own pair."""
        return [sha256_of(self.databases / name) for name in pair.NAMES]

    def left(self) -> str:
        """What lies in the folders: names, and whether there is anything in them."""
        found = [
            path for path in sorted(self.root.rglob("*")) if path.is_file() and self.root / "sent" not in path.parents
        ]
        names = (f"{path.relative_to(self.root)}{'' if path.stat().st_size else ' (empty)'}" for path in found)
        return " ".join(name.replace(_date(name), "DATE") for name in names if not name.startswith(("delta/", "sent/")))

    def wrong(self) -> list[str]:
        """What a household would find wrong with its pair, as a Plex that starts on it would see it."""
        problems = []
        for name in pair.NAMES:
            with closing(database.connect(self.databases / name, set_up=False)) as connection:
                checked = connection.execute("PRAGMA integrity_check").fetchall()
                problems += [f"{name}: {row[0]}" for row in checked if row[0] != "ok"]
                if name == pair.LIBRARY:
                    index = "fts4_metadata_titles_icu"
                    connection.execute(f"INSERT INTO {index}({index}) VALUES('integrity-check')")
                    problems += _wrong_rows(connection)
        with closing(database.connect(self.databases / pair.BLOBS, set_up=False)) as connection:
            vectors = {int(row[0]) for row in connection.execute("SELECT linked_id FROM blobs WHERE blob_type = 7")}
            if vectors not in ({1, 2, 3}, {1, 2, 3, NEW}):
                problems.append(f"vectors of {sorted(vectors)}")
        return problems

    def is_new(self) -> bool:
        """Whether the indexer's track is in the library."""
        with closing(database.connect(self.databases / pair.LIBRARY, set_up=False)) as connection:
            found = connection.execute("SELECT count(*) FROM metadata_items WHERE id = ?", (NEW,)).fetchone()
        return bool(found[0])

    def has_late(self) -> bool:
        """Whether what was written last before a crash is in the library."""
        with closing(database.connect(self.databases / pair.LIBRARY, set_up=False)) as connection:
            return bool(connection.execute("SELECT count(*) FROM accounts WHERE id = 78").fetchone()[0])


def _date(name: str) -> str:
    parts = name.split("/")
    return parts[1].split("-")[0] if parts[0] == "plexburst-backups" and len(parts) > 1 else "\0"


def _wrong_rows(connection: Any) -> list[str]:
    def one(sql: str) -> Any:
        return connection.execute(sql).fetchone()[0]

    problems = []
    if one("SELECT title FROM metadata_items WHERE id = 900") != "Renamed":
        problems.append("the playlist has its old name")
    if one("SELECT count(*) FROM metadata_item_settings WHERE guid = 'g-2' AND rating = 8.0") != 1:
        problems.append("the rating of g-2 is gone or twice")
    if one(f"SELECT count(*) FROM metadata_items WHERE id = {GONE}"):  # noqa: S608 - a number
        problems.append("what home deleted is back")
    if one("SELECT count(*) - count(DISTINCT guid) FROM metadata_items"):
        problems.append("an item is there twice")
    return problems


def by_plex(steps: Callable[[], None]) -> Callable[..., str]:
    """Plex's own SQLite in this process, each statement a step: its own process dies by tests of its own."""

    def run(_command: Sequence[str], path: Path, sql: str, _seconds: float = 0) -> str:
        with closing(database.connect(path, set_up=False)) as connection:
            for statement in sql.split(";\n"):
                steps()
                connection.execute(statement)
        return ""

    return run


STAGES: dict[str, tuple[Callable[[Home], None], Callable[..., None]]] = {
    "merge": (Home.deliver, Home.merge),
    "install": (lambda home: (home.deliver(), home.merge(), home.later(), None)[-1], Home.install),
    "seal": (lambda home: (home.deliver(), home.merge(), home.later(), home.install(), None)[-1], Home.seal),
    "rollback": (
        lambda home: (home.deliver(), home.merge(), home.later(), home.install(), home.crash(), None)[-1],
        Home.roll_back,
    ),
}


def run_one(work: Callable[..., None], home: Home, at: int, mode: str) -> bool:
    """Do the work with a fault at its step number `at`; whether there was such a step."""
    if mode == "limit":
        return run_limited(work, home, at)
    if mode == "full":
        steps = Steps(at, disk_full, FREEING)
        apply.run_plex_sqlite = by_plex(steps.step)  # type: ignore[assignment]
        try:
            with steps:
                work(home)
        except (PlexDatabaseError, OSError):
            return True
        return steps.count >= at
    pid = os.fork()
    if pid == 0:
        ended = 3
        try:
            steps = Steps(at, killed)
            apply.run_plex_sqlite = by_plex(steps.step)  # type: ignore[assignment]
            with steps:
                work(home)
            ended = 0
        finally:
            leave(ended)
    _, status = os.waitpid(pid, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise RuntimeError("The work failed without a fault; see above.")
    return os.WIFSIGNALED(status)


def leave(ended: int) -> None:
    """End the child of a fork, without what its parent would do at its end."""
    if sys.exc_info()[0] is not None:
        traceback.print_exc()
    sys.stderr.flush()
    os._exit(ended)


def run_limited(work: Callable[..., None], home: Home, at: int) -> bool:
    """Do the work while no file may be written beyond a size, which doubles with each attempt; False if that did."""
    pid = os.fork()
    if pid == 0:
        size = 512 << at
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        apply.run_plex_sqlite = REAL
        ended = 3
        try:
            work(home, building.plex_sqlite())
            ended = 0
        except (PlexDatabaseError, OSError):
            ended = 1
        finally:
            leave(ended)
    _, status = os.waitpid(pid, 0)
    if os.waitstatus_to_exitcode(status) not in (0, 1):
        raise RuntimeError("A limit made the work fail without words; see above.")
    return os.waitstatus_to_exitcode(status) == 1


def again(home: Home, stage: str) -> list[str]:
    """A later run over what is left; what is wrong afterwards."""
    apply.run_plex_sqlite = by_plex(lambda: None)  # type: ignore[assignment]
    if stage == "rollback":
        if home.is_new():  # it did not come to it
            home.roll_back()
        return ["it did not go back"] if home.is_new() else home.wrong() + half_backups(home)
    try:
        home.deliver()
        home.merge()
        home.install()
        home.seal()
        install.verify(home.databases, manifest.load(home.incoming / pair.MANIFEST))
    except (PlexDatabaseError, OSError) as error:
        return [f"a later run failed: {error}"]
    problems = home.wrong()
    if not home.is_new():
        problems.append("a later run did not bring the new track")
    if (home.databases / install.JOURNAL).exists():
        problems.append("a journal is left")
    return problems + half_backups(home)


def half_backups(home: Home) -> list[str]:
    """Folders among the backups that are none and hold a database all the same: nobody would ever remove it."""
    whole = {path.name for path in install.list_backups(home.backups)}
    half = [path for path in home.backups.iterdir() if path.name not in whole and list(path.glob("*.db"))]
    return [f"the backup {path.name} is half one" for path in half]


def judge(home: Home, before: list[str], stage: str, mode: str) -> list[str]:
    """What is wrong right after the fault."""
    if stage == "merge":
        return [] if home.hashes() == before else ["home's pair was touched"]
    if mode == "full" and (home.databases / install.JOURNAL).exists():
        return ["the module left its journal to others"]
    problems = []
    if stage in ("install", "rollback"):
        # What a Plex sees that starts before anybody recovers: on a copy, for looking folds a -wal in.
        looked = Home(home.root.with_name(f"{home.root.name}-looked"))
        shutil.copytree(home.root, looked.root)
        problems += [f"as it was left: {words}" for words in looked.wrong()]
        shutil.rmtree(looked.root)
        home.recover()
        after = home.hashes()
        if (after[0] == before[0]) != (after[1] == before[1]):
            problems.append("the two files are not of the same moment")
        if (home.databases / install.JOURNAL).exists():
            problems.append("the journal outlived the recovery")
        if stage == "rollback" and home.is_new() and not home.has_late():
            problems.append("what Plex wrote last is gone")
    return problems + home.wrong()


def main(mode: str, stage: str, folder: str) -> None:
    """All steps of a stage."""
    root = Path(folder)
    template = Home(root / "template")
    template.root.mkdir(parents=True)
    apply.run_plex_sqlite = by_plex(lambda: None)  # type: ignore[assignment]
    template.make()
    prepare, work = STAGES[stage]
    prepare(template)
    before = template.hashes()
    problems: list[str] = []
    states: dict[str, int] = {}
    number, was_new = 0, set()
    while True:
        number += 1
        home = Home(root / str(number))
        shutil.copytree(template.root, home.root)
        if not run_one(work, home, number, mode):
            break
        left = home.left()
        wrong = judge(home, before, stage, mode)
        was_new.add(home.is_new())
        # What a later run does depends on what is there, so one of each kind is enough.
        if left not in states:
            states[left] = number
            wrong += again(home, stage)
        problems += [f"step {number} (left: {left}): {words}" for words in wrong]
        shutil.rmtree(home.root)
    print(json.dumps({"steps": number - 1, "states": len(states), "new": sorted(was_new), "problems": problems}))


if __name__ == "__main__":
    main(*sys.argv[1:4])
