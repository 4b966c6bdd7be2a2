"""A machine's troubles are the kernel's own: whoever opens, reads or locks meets them, and they end without a trace."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.plexburst.core.plugins.module_utils.plex.observe import mount_probe

from sandbox.machines import Machine
from sandbox.plex import database as db
from sandbox.plex.harness import wait_for

Set = Callable[..., None]


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[tuple[Path, Set]]:
    """The media folder of a machine with six files in it, and how its faults are set."""
    faults = tmp_path / "faults.json"
    faults.write_text("{}")
    address = f"127.{100 + secrets.randbelow(150)}.{secrets.randbelow(250)}.{1 + secrets.randbelow(250)}"
    one = Machine(tmp_path / "m", "m", address, faults=faults)
    media = one.folder / "home" / "plexburst" / "media" / "0"
    for number in range(6):
        path = media / f"album {number % 2}" / f"{number}.mp3"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"sound" * 1000)
    process = one.start()
    one.wait_ready()

    def switch(**values: Any) -> None:
        new = faults.with_suffix(".new")
        new.write_text(json.dumps(values))
        new.replace(faults)

    yield media, switch
    one.stop()
    if process is not None:
        process.wait(10)


def look(media: Path) -> mount_probe.Look:
    """What plexburst's own probe sees."""
    return mount_probe.look([str(path) for path in sorted(media.rglob("*.mp3"))], [], time_limit=30)


def test_slow_files_open_late_each_time_and_hold_the_same(machine: tuple[Path, Set]) -> None:
    media, switch = machine
    assert look(media).seconds < 2
    switch(mount_slow=0.5)
    wait_for(lambda: look(media).seconds >= 3)
    for _ in range(2):
        slow = look(media)
        assert slow.seconds >= 3
        assert len(slow.readable()) == 6
    first = next(media.rglob("*.mp3"))
    began = time.monotonic()
    assert first.stat().st_size == 5000
    assert time.monotonic() - began < 0.4
    done = subprocess.run(
        [sys.executable, "-c", f"print(open({str(first)!r}).read() == 'sound' * 1000)"], capture_output=True, check=True
    )
    assert done.stdout == b"True\n"
    switch()
    wait_for(lambda: look(media).seconds < 2)


def test_unreadable_files_are_listed_and_come_back_as_they_were(machine: tuple[Path, Set]) -> None:
    media, switch = machine
    before = {path: path.stat().st_mtime_ns for path in media.rglob("*")}
    switch(mount_unreadable=True)
    wait_for(lambda: not look(media).readable())
    assert set(media.rglob("*")) == before.keys()
    assert set(look(media).errors.values()) == {"EIO"}
    assert {path: path.stat().st_mtime_ns for path in media.iterdir()} == {
        path: before[path] for path in media.iterdir()
    }
    switch()
    wait_for(lambda: len(look(media).readable()) == 6)
    assert {path: path.stat().st_mtime_ns for path in media.rglob("*")} == before
    assert list(media.parents[1].iterdir()) == [media.parent]


NEWCOMER = """
import sqlite3, sys
try:
    row = sqlite3.connect(sys.argv[1], timeout=0).execute("SELECT max(name) FROM accounts WHERE id=7").fetchone()
    print(row[0])
except sqlite3.OperationalError as error:
    print(error)
"""


def newcomer(path: Path) -> str:
    """What another process reads. Two SQLite libraries within one process would break each other's locks."""
    done = subprocess.run([sys.executable, "-c", NEWCOMER, str(path)], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_locked_database_is_busy_for_who_comes_and_open_to_who_is_in(machine: tuple[Path, Set]) -> None:
    media, switch = machine
    databases = media.parents[1] / "config" / "Databases"
    db.create_pair(databases)
    path = databases / db.LIBRARY_DB
    with closing(db.connect(path)) as plex:
        plex.execute("SELECT count(*) FROM accounts").fetchone()
        switch(database_locked=True)

        wait_for(lambda: "locked" in newcomer(path))
        plex.execute("INSERT INTO accounts(id, name) VALUES (7, 'child')")
        switch()
        wait_for(lambda: "locked" not in newcomer(path))
        assert newcomer(path) == "child"
