"""The swap of the pair: whatever point a crash comes at, `recover` leaves a complete old or a complete new pair."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.plexburst.core.plugins.module_utils.plex_db import install
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.errors import PlexDatabaseError
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.merge import workspace
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.pair import manifest, pair, reader, snapshot
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.pair.files import FileOperations, sha256_of
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.sqlite_pages import changed_rows

from tests.unit.plex_db import building


class PowerCut(BaseException):
    """Nothing in the code under test may catch this: that is what a power cut is like."""


class Faulty(FileOperations):
    """File operations of which the nth fails, or cuts the power before or after it is done."""

    def __init__(self, at: int, fail: Callable[[], None], after: bool = False) -> None:
        self.at, self.fail, self.after, self.count = at, fail, after, 0

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name.startswith("_") or not callable(found) or name in ("fail", "write_text"):
            return found

        def step(*values: Any) -> Any:
            self.count += 1
            mine = self.count == self.at
            if mine and not self.after:
                self.fail()
            result = found(*values)
            if mine and self.after:
                self.fail()
            return result

        return step


def cut() -> None:
    raise PowerCut


def disk_full() -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


class Place:
    """A home with an old pair, and an incoming pair with one more track."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.home = building.make_library(root / "home")
        self.incoming = root / "incoming"
        self.backups = root / "backups"
        self.base = snapshot.take(self.home, root / "base", "home", "1.43.4")
        snapshot.take(self.home, self.incoming, "indexer", "1.43.4")
        (self.incoming / pair.MANIFEST).unlink()
        building.write(self.incoming / pair.LIBRARY, *building.track(2000, "/Media/Music/new.flac", building.SONIC))
        building.write(self.incoming / pair.BLOBS, building.vector(2000))
        self.old = self.hashes(self.home)
        self.new = self.hashes(self.incoming)

    @staticmethod
    def hashes(directory: Path) -> tuple[str, ...]:
        return tuple(sha256_of(directory / name) for name in pair.NAMES)

    def install(self, operations: FileOperations | None = None, **options: Any) -> install.Installed:
        return install.install(
            self.incoming, self.home, self.backups, options.pop("run_id", "run-1"), operations=operations, **options
        )


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def steps_of_an_installation(root: Path) -> int:
    counter = Faulty(10_000, cut)
    Place(root).install(counter)
    return counter.count


def copies(place: Place, number: int) -> Place:
    """The same place again, each in a folder of its own."""
    target = place.root.parent / f"{place.root.name}-{number}"
    shutil.copytree(place.root, target)
    again = object.__new__(Place)
    again.root, again.base, again.old, again.new = target, place.base, place.old, place.new
    again.home, again.incoming, again.backups = target / "home", target / "incoming", target / "backups"
    return again


def test_the_new_pair_is_in_place_and_the_old_one_in_the_backup(place: Place) -> None:
    (place.home / pair.LIBRARY).chmod(0o640)
    done = place.install()
    assert place.hashes(place.home) == place.new
    assert place.hashes(Path(done.backup)) == place.old
    assert (place.home / pair.LIBRARY).stat().st_mode & 0o777 == 0o640
    assert not (place.home / install.JOURNAL).exists()
    assert pair.side_files(place.home) == []


def test_twice_is_once(place: Place) -> None:
    first = place.install()
    second = place.install()
    assert (second.changed, second.backup) == (False, first.backup)


def test_a_dry_run_changes_nothing(place: Place) -> None:
    before = sorted(str(path) for path in place.root.rglob("*"))
    assert place.install(dry_run=True, merging=install.Merging(place.root / "base")).changed
    assert place.hashes(place.home) == place.old
    assert place.hashes(place.incoming) == place.new
    assert sorted(str(path) for path in place.root.rglob("*")) == before


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_power_cut_at_any_step_leaves_a_whole_pair_after_recovery(tmp_path: Path, after: bool) -> None:
    steps = steps_of_an_installation(tmp_path / "count")
    assert steps > 10
    template = Place(tmp_path / "template")
    outcomes = set()
    for number in range(1, steps + 1):
        place = copies(template, number)
        with pytest.raises(PowerCut):
            place.install(Faulty(number, cut, after))
        outcomes.add(install.recover(place.home))
        now = place.hashes(place.home)
        assert now in (place.old, place.new), f"step {number} left a mixed pair"
        assert not (place.home / install.JOURNAL).exists()
        assert pair.side_files(place.home) == []
        assert install.recover(place.home) == "clean"
    assert outcomes == {"clean", "rolled_back", "finished"}


def test_a_power_cut_while_recovering_is_recovered_too(tmp_path: Path) -> None:
    template = Place(tmp_path / "template")
    steps = steps_of_an_installation(tmp_path / "count")
    for number in range(steps // 2, steps + 1):  # before that there is no journal, and nothing to recover
        for again in (1, 3, 5):
            place = copies(template, number * 100 + again)
            with pytest.raises(PowerCut):
                place.install(Faulty(number, cut, after=True))
            try:
                install.recover(place.home, Faulty(again, cut))
            except PowerCut:
                install.recover(place.home)
            assert place.hashes(place.home) in (place.old, place.new)
            shutil.rmtree(place.root)


def test_a_full_disk_at_any_step_leaves_the_old_pair_or_says_that_the_new_one_is_there(tmp_path: Path) -> None:
    steps = steps_of_an_installation(tmp_path / "count")
    template = Place(tmp_path / "template")
    for number in range(1, steps + 1):
        place = copies(template, number)
        with contextlib.suppress(PlexDatabaseError, OSError):
            place.install(Faulty(number, disk_full))
        now = place.hashes(place.home)
        assert now in (place.old, place.new), f"step {number} left a mixed pair"
        assert not (place.home / install.JOURNAL).exists()


def test_kill_9_in_the_middle_of_the_swap_is_finished_by_the_next_start(place: Place) -> None:
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from ansible_collections.plexburst.core.plugins.module_utils.plex_db import install\n"
        "from ansible_collections.plexburst.core.plugins.module_utils.plex_db.pair import files\n"
        "class Killed(files.FileOperations):\n"
        "    def replace(self, source, target):\n"
        "        if target.name == 'com.plexapp.plugins.library.db': os.kill(os.getpid(), signal.SIGKILL)\n"
        "        super().replace(source, target)\n"
        "install.install(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), 'run-1', operations=Killed())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(place.incoming), str(place.home), str(place.backups)],
        env={**os.environ, "PYTHONPATH": str(building.REPO / "collections")},
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    assert place.hashes(place.home) == (place.old[0], place.new[1])
    assert install.recover(place.home) == "finished"
    assert place.hashes(place.home) == place.new


def test_when_plex_ran_after_the_crash_what_people_did_then_wins(place: Place) -> None:
    with pytest.raises(PowerCut):
        place.install(Faulty(first_library_swap(place), cut))
    assert place.hashes(place.home) == (place.old[0], place.new[1])
    building.write(place.home / pair.LIBRARY, ("UPDATE metadata_item_settings SET view_count = 9",))
    assert install.recover(place.home) == "rolled_back"
    assert sha256_of(place.home / pair.BLOBS) == place.old[1]
    assert sha256_of(place.home / pair.LIBRARY) not in (place.old[0], place.new[0])


def first_library_swap(place: Place) -> int:
    """The number of the step that renames library.db: the one after which both names are swapped."""
    for number in range(1, 60):
        trial = copies(place, 9000 + number)
        with pytest.raises(PowerCut):
            trial.install(Faulty(number, cut, after=True))
        if trial.hashes(trial.home) == trial.new:
            return number
    raise AssertionError("no step swapped the pair")


@pytest.mark.parametrize("name", pair.NAMES)
def test_an_incomplete_incoming_pair_is_refused(place: Place, name: str) -> None:
    (place.incoming / name).unlink()
    with pytest.raises(PlexDatabaseError, match="together"):
        place.install()
    assert place.hashes(place.home) == place.old


def test_a_wal_beside_the_incoming_pair_is_refused(place: Place) -> None:
    (place.incoming / f"{pair.LIBRARY}-wal").write_bytes(b"x")
    with pytest.raises(PlexDatabaseError, match="closed pair"):
        place.install()
    assert place.hashes(place.home) == place.old


def test_a_home_that_was_not_closed_cleanly_is_refused(place: Place) -> None:
    building.end(building.open_elsewhere(place.home, "INSERT INTO accounts(id, name) VALUES(78, 'x')"))
    with pytest.raises(PlexDatabaseError, match="stop it gracefully"):
        place.install()
    assert sha256_of(place.home / pair.LIBRARY) == place.old[0]


def test_a_running_plex_is_refused_by_name(place: Place) -> None:
    process = building.open_elsewhere(place.home)
    try:
        with pytest.raises(PlexDatabaseError, match=rf"open in python.* \(pid {process.pid}\): stop it first"):
            place.install()
    finally:
        building.end(process)


def test_the_lock_alone_gives_a_running_plex_away(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pair, "_open_in_proc", lambda _: [])
    assert pair.holders(place.home) == []
    process = building.open_elsewhere(place.home)
    try:
        assert pair.holders(place.home) == ["a process of another user"]
    finally:
        building.end(process)


def test_empty_leftovers_of_a_reader_are_no_obstacle(place: Place) -> None:
    building.end(building.open_elsewhere(place.home))
    assert pair.side_files(place.home) != []
    place.install()
    assert place.hashes(place.home) == place.new
    assert pair.side_files(place.home) == []


def test_rolling_back_restores_the_old_pair_and_keeps_the_other(place: Place) -> None:
    installed = place.install()
    assert install.seal(Path(installed.backup))
    assert not install.seal(Path(installed.backup))
    back = install.roll_back(place.home, place.backups, "run-1")
    assert place.hashes(place.home) == place.old
    assert place.hashes(Path(back.backup)) == place.new
    with pytest.raises(PlexDatabaseError, match="no backup made by an installation"):
        install.roll_back(place.home, place.backups, "run-1")
    install.roll_back(place.home, place.backups, "again", name=Path(back.backup).name)
    assert place.hashes(place.home) == place.new


def test_rolling_back_after_an_unclean_stop_keeps_the_wal_with_its_database(place: Place) -> None:
    place.install()
    building.end(building.open_elsewhere(place.home, "INSERT INTO accounts(id, name) VALUES(78, 'x')"))
    back = install.roll_back(place.home, place.backups, "run-1")
    assert place.hashes(place.home) == place.old
    assert pair.side_files(place.home) == []
    assert (Path(back.backup) / f"{pair.LIBRARY}-wal").stat().st_size > 0


def test_backups_are_named_with_what_they_were_made_for(place: Place) -> None:
    assert install.describe_backups(place.backups) == []
    place.install()
    install.roll_back(place.home, place.backups, "back")
    (backup,) = install.describe_backups(place.backups)
    assert (backup["kind"], backup["run_id"]) == ("rollback", "back")
    assert backup["name"].endswith("-replaced-back")


def test_a_damaged_backup_is_refused(place: Place) -> None:
    backup = Path(place.install().backup)
    install.seal(backup)
    with (backup / pair.LIBRARY).open("r+b") as stream:
        stream.write(b"damaged")
    with pytest.raises(PlexDatabaseError, match="damaged"):
        install.roll_back(place.home, place.backups, "run-1")
    assert place.hashes(place.home) == place.new


def test_a_backup_on_another_file_system_is_a_verified_copy(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_source: Any, _target: Any) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refused)
    done = place.install()
    assert place.hashes(Path(done.backup)) == place.old
    assert place.hashes(place.home) == place.new


def test_only_the_newest_backups_are_kept(place: Place) -> None:
    for number in range(4):
        old = place.backups / f"2020010{number + 1}T000000Z-run"
        old.mkdir(parents=True)
        for name in pair.NAMES:
            (old / name).write_text("x")
        (old / pair.MANIFEST).write_text(json.dumps({"files": {}}))
    done = place.install(keep=2)
    assert len(done.pruned) == 3
    assert len(install.list_backups(place.backups)) == 2
    assert Path(done.backup) in install.list_backups(place.backups)


def test_what_home_did_meanwhile_is_merged_in_before_the_swap(place: Place) -> None:
    building.write(
        place.home / pair.LIBRARY,
        ("UPDATE metadata_item_settings SET view_count = 7, updated_at = 4000000000 WHERE guid = 'g-1'",),
        ("INSERT INTO metadata_item_settings(account_id, guid, rating) VALUES(1, 'g-2', 8.0)",),
        ("INSERT INTO metadata_item_views(account_id, guid, viewed_at) VALUES(1, 'g-2', 4000000000)",),
        ("INSERT INTO accounts(id, name) VALUES(5, 'child')",),
    )
    building.write(
        place.incoming / pair.LIBRARY,
        ("INSERT INTO metadata_item_settings(account_id, guid, view_count) VALUES(1, 'g-5', 3)",),
    )
    done = place.install(merging=install.Merging(place.root / "base"))
    assert (done.merged.kept, done.merged.conflicts) == (3, 1)
    with reader.open_closed(place.home / pair.LIBRARY) as library:
        assert reader.rows(library, "SELECT guid, view_count, rating FROM metadata_item_settings ORDER BY guid") == [
            ("g-1", 7, None),
            ("g-2", None, 8.0),
        ]
        assert reader.number(library, "SELECT COUNT(*) FROM metadata_item_views") == 2
        assert reader.number(library, "SELECT COUNT(*) FROM accounts WHERE id = 5") == 1
        assert reader.number(library, "SELECT COUNT(*) FROM metadata_items WHERE id = 2000") == 1
    assert pair.side_files(place.home) == []


def test_a_merge_that_needs_plexs_own_sqlite_refuses_without_it(place: Place) -> None:
    building.write(place.home / pair.LIBRARY, ("UPDATE metadata_items SET title = 'Other' WHERE id = 900",))
    before = place.hashes(place.home)
    with pytest.raises(PlexDatabaseError, match="metadata_items, which only Plex's own SQLite"):
        place.install(merging=install.Merging(place.root / "base"))
    assert place.hashes(place.home) == before
    place.install(merging=install.Merging(place.root / "base", plex_sqlite=building.plex_sqlite()))
    with reader.open_closed(place.home / pair.LIBRARY) as library:
        assert reader.rows(library, "SELECT title FROM metadata_items WHERE id = 900") == [("Other",)]


def test_what_home_deleted_at_the_last_moment_is_not_missed_afterwards(place: Place) -> None:
    described = {**place.base, **manifest.contents(place.incoming)}
    (place.incoming / pair.MANIFEST).write_text(json.dumps(described))
    building.write(
        place.home / pair.LIBRARY,
        ("DELETE FROM media_parts WHERE id = 5",),
        ("DELETE FROM media_items WHERE id = 5",),
        ("DELETE FROM metadata_items WHERE id = 5",),
    )
    place.install(merging=install.Merging(place.root / "base", plex_sqlite=building.plex_sqlite()))
    installed = manifest.load(place.incoming / pair.MANIFEST)
    install.verify(place.home, installed)
    building.write(place.home / pair.LIBRARY, ("DELETE FROM metadata_items WHERE id = 6",))
    with pytest.raises(PlexDatabaseError, match="Expected at least 11 tracks in section 'Music', found 9"):
        install.verify(place.home, installed)


def test_the_last_merge_reads_the_rows_on_changed_pages_alone(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    changed_rows.remember(place.root / "base")
    statements: list[str] = []
    run = workspace.Workspace.run

    def noted(self: workspace.Workspace, sql: str, parameters: Any = ()) -> int:
        statements.append(sql)
        return run(self, sql, parameters)

    monkeypatch.setattr(workspace.Workspace, "run", noted)
    building.write(
        place.home / pair.LIBRARY,
        ("INSERT INTO metadata_item_views(account_id, guid, viewed_at) VALUES(1, 'g-2', 4000000000)",),
        ("UPDATE metadata_items SET title = 'Other' WHERE id = 3",),
    )
    place.install(merging=install.Merging(place.root / "base", plex_sqlite=building.plex_sqlite()))
    compared = [sql for sql in statements if 'FROM ours."metadata_items" o LEFT JOIN base' in sql]
    assert [sql for sql in compared if "o.id BETWEEN" in sql] == compared
    with reader.open_closed(place.home / pair.LIBRARY) as library:
        assert reader.number(library, "SELECT COUNT(*) FROM metadata_item_views") == 2
        assert reader.rows(library, "SELECT title FROM metadata_items WHERE id = 3") == [("Other",)]
        assert reader.number(library, "SELECT COUNT(*) FROM metadata_items WHERE id = 2000") == 1
