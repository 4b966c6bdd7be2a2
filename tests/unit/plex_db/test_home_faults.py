"""Whatever ends a module at home at whatever point: home's own pair is whole, and a later run goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.plexburst.core.plugins.module_utils.plex_db import install
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.delta import delta
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.errors import PlexDatabaseError
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.merge import apply
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.pair import pair

from tests.unit.plex_db import building, faults

STEPS = {"merge": 30, "install": 25, "rollback": 12, "seal": 4}


@pytest.mark.parametrize("stage", STEPS)
@pytest.mark.parametrize("mode", ["kill", "full"])
def test_killed_or_on_a_full_disk_at_any_step_home_has_one_whole_pair_and_a_later_run_succeeds(
    mode: str, stage: str, tmp_path: Path
) -> None:
    result = steps(mode, stage, tmp_path)
    assert result["steps"] >= STEPS[stage]
    assert result["problems"] == []
    # Both ends of a swap were met: taken back, and finished.
    assert result["new"] == {"merge": [False], "seal": [True]}.get(stage, [False, True])


@pytest.mark.parametrize("stage", ["merge", "install"])
def test_a_file_that_may_not_grow_is_an_error_in_words_in_plexs_own_sqlite_too(stage: str, tmp_path: Path) -> None:
    result = steps("limit", stage, tmp_path)
    assert result["steps"] >= 4
    assert result["problems"] == []
    assert result["new"] == [False]


def steps(mode: str, stage: str, folder: Path) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.unit.plex_db.faults", mode, stage, str(folder)],
        cwd=building.REPO,
        env={**os.environ, "PYTHONPATH": f"{building.REPO}:{building.REPO / 'collections'}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    result: dict[str, object] = json.loads(done.stdout)
    return result


@pytest.fixture
def home(tmp_path: Path) -> faults.Home:
    """A home before the merge."""
    made = faults.Home(tmp_path / "home")
    made.make()
    made.deliver()
    return made


DYING = """
import os, signal, sys
from sandbox.plex import database
statements = sys.stdin.read().split(";\\n")
connection = database.connect(sys.argv[-1], set_up=False)
for statement in statements[: statements.index("COMMIT") + int(sys.argv[1])]:
    connection.execute(statement)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("when", [0, 1], ids=["before its commit", "right after it"])
def test_plexs_own_sqlite_that_dies_is_told_and_its_log_reaches_no_other_database(
    home: faults.Home, when: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = home.hashes()
    dying = ["env", f"PYTHONPATH={building.REPO}", sys.executable, "-c", DYING, str(when)]
    with pytest.raises(PlexDatabaseError, match=r"Plex SQLite could not write .*exit code -9"):
        home.merge(dying)
    assert home.hashes() == before
    left = home.incoming / f"{pair.LIBRARY}-wal"
    assert left.stat().st_size > 0 or when == 0
    home.deliver()
    assert pair.side_files(home.incoming) == []
    home.merge(building.plex_sqlite())
    monkeypatch.setattr(apply, "run_plex_sqlite", faults.by_plex(lambda: None))
    home.install()
    assert home.wrong() == []
    assert home.is_new()


def test_a_delta_is_applied_beside_no_log_of_an_earlier_attempt(home: faults.Home) -> None:
    for suffix in ("-wal", "-shm", "-journal"):
        (home.incoming / f"{pair.BLOBS}{suffix}").write_bytes(b"of another database")
    delta.apply(home.root / "delta", home.incoming)
    pair.require_closed(home.incoming)
    assert not (home.incoming / f"{pair.BLOBS}-journal").exists()


def test_a_backup_that_shares_its_file_with_the_library_in_place_is_none(home: faults.Home) -> None:
    shared = home.backups / "20260101T000000Z-run-0"
    shared.mkdir(parents=True)
    for name in pair.NAMES:
        os.link(home.databases / name, shared / name)
    (shared / pair.MANIFEST).write_text(json.dumps({"files": {}, "kind": "installation", "run_id": "run-0"}))
    with pytest.raises(PlexDatabaseError, match="no backup made by an installation"):
        home.roll_back()
    assert not shared.exists()
    assert install.recover(home.databases) == "clean"
