"""Home's Plex is stopped, its pair swapped and Plex started by a process at home: whatever is killed, Plex serves."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.plexburst.core.plugins.module_utils.home_job import launch
from ansible_collections.plexburst.core.plugins.module_utils.plex_db import install
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.errors import PlexDatabaseError

from tests import ansible_cache
from tests.modules.home_plex import Home, wait
from tests.modules.runner import run_module
from tests.unit.plex_db import building

SERVES_WITHIN = 120.0


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    made = Home(tmp_path)
    made.start()
    try:
        yield made
    finally:
        made.end()


# Runs the job in the test's own copy of it, and kills it at a step: the child, or the leader with it.
DRIVER = """\
import os, signal, sys
from pathlib import Path
from ansible_collections.plexburst.core.plugins.module_utils.home_job import job, record
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.pair.files import FileOperations
folder, kind, at, begin = Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]

def die():
    if kind == "both":
        os.kill(os.getppid(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)

class Killed(job.Job):
    killed = folder / "killed"
    def _step(self, name, seconds):
        if name == at.removesuffix("-before") and at.endswith("-before") and not self.killed.exists():
            self.killed.touch(); die()
        super()._step(name, seconds)
        if name == at and not self.killed.exists():
            self.killed.touch(); die()
    def _end(self, *values, **more):
        if at == "end" and not self.killed.exists():
            self.killed.touch(); die()
        super()._end(*values, **more)

class Operations(FileOperations):
    def replace(self, source, target):
        if target.name == at and not Killed.killed.exists():
            Killed.killed.touch(); die()
        super().replace(source, target)

with record.Record(folder).lock() as descriptor:
    os._exit(Killed(folder, Operations()).lead(begin))
"""
EIGHT_POINTS = [
    "stop-before",
    "stop",
    "swap",
    "com.plexapp.plugins.library.blobs.db",
    "com.plexapp.plugins.library.db",
    "start",
    "verify",
    "end",
]


def begin(home: Home, **more: Any) -> None:
    home.record.begin({**home.spec, **more}, {"job_id": "1", "what": home.spec["what"], "run_id": "run-1"})


def drive(home: Home, kind: str, at: str) -> subprocess.Popen[bytes]:
    begin(home)
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(home.record.folder), kind, at, "window"],
        env={**os.environ, "PYTHONPATH": str(building.REPO / "collections")},
        start_new_session=True,
    )


def module(home: Home, step: str, **more: Any) -> dict[str, Any]:
    """The module as the action plugin calls it."""
    names = ("databases_dir", "backups_dir", "preferences", "urls", "incoming", "base_dir", "plex_sqlite", "commands")
    arguments = {name: home.spec[name] for name in names}
    arguments |= {
        "work_dir": str(home.root / "work"),
        "run_id": "run-1",
        "ready_timeout": 5,
        "poll": 0.05,
        "step": step,
    }
    return run_module("plex_home_job", {**arguments, "job_id": "1", **more})


def test_the_new_pair_is_in_place_and_nothing_but_the_record_is_left(home: Home) -> None:
    started = module(home, "start")
    assert (started["failed"], started["changed"]) == (False, True), started
    wait(lambda: module(home, "look")["found"] == "ended")
    seen = module(home, "look")
    assert seen["result"]["done"], seen
    assert (seen["result"]["installed"], seen["result"]["serves"]) == (True, True)
    assert seen["result"]["watch_state"] == {"kept": 1, "conflicts": 0}
    assert seen["result"]["version"] == "1.43.4"
    assert (home.whole(), home.serves()) == ("new", True)
    wait(lambda: not (home.record.folder / "code").exists())
    assert home.record.folder.stat().st_mode & 0o777 == 0o700
    assert "owner-token" not in "".join(path.read_text() for path in home.record.folder.iterdir())
    steps = [json.loads(line)["step"] for line in (home.record.folder / "journal.jsonl").read_text().splitlines()]
    assert list(dict.fromkeys(steps)) == ["stop", "swap", "start", "verify"]
    assert module(home, "alone", state="absent")["changed"]
    assert not home.record.folder.exists()
    assert module(home, "look")["found"] == "none"


def test_a_start_whose_answer_was_lost_is_not_done_twice(home: Home) -> None:
    module(home, "start")
    again = module(home, "start")
    assert not again["failed"]
    assert home.ended()["result"]["done"]
    assert len(install.list_backups(home.backups)) == 1


def test_the_job_goes_on_when_the_module_and_its_session_are_killed(home: Home) -> None:
    """The module's whole process group dies with the connection; the job has a session of its own."""
    driver = subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, str(home.record.folder), json.dumps(home.spec)],
        env={**os.environ, "PYTHONPATH": str(building.REPO / "collections")},
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert driver.stdout is not None
    assert driver.stdout.readline() == b"started\n"
    os.killpg(driver.pid, signal.SIGHUP)
    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()
    assert home.ended()["result"]["installed"]
    assert (home.whole(), home.serves()) == ("new", True)


LAUNCHER = """\
import json, sys, time
from pathlib import Path
from ansible_collections.plexburst.core.plugins.module_utils.home_job import launch, record
launch.start(record.Record(Path(sys.argv[1])), "1", json.loads(sys.argv[2]))
print("started", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("at", EIGHT_POINTS)
def test_a_child_that_is_killed_is_followed_by_one_that_settles(home: Home, at: str) -> None:
    began = time.monotonic()
    leader = drive(home, "child", at)
    leader.wait(timeout=SERVES_WITHIN)
    assert time.monotonic() - began < SERVES_WITHIN
    result = home.record.read()["result"]
    forward = EIGHT_POINTS.index(at) >= EIGHT_POINTS.index("com.plexapp.plugins.library.db")
    assert result["serves"]
    assert result["installed"] == (home.whole() == "new") == forward, result
    assert home.serves()
    if not forward:
        assert "interrupted" in result["reason"]


@pytest.mark.parametrize("at", EIGHT_POINTS)
def test_what_is_killed_with_its_leader_is_settled_by_the_next_playbook(home: Home, at: str) -> None:
    drive(home, "both", at).wait(timeout=60)
    wait(lambda: not home.record.alive())
    died = module(home, "look", state="recovered")
    assert died["found"] == "died"
    assert module(home, "settle", state="recovered")["changed"]
    result = home.ended()["result"]
    forward = EIGHT_POINTS.index(at) >= EIGHT_POINTS.index("com.plexapp.plugins.library.db")
    assert result["installed"] == (home.whole() == "new") == forward, result
    assert home.serves()
    assert not (home.config / install.JOURNAL).exists()


def test_a_new_pair_with_which_plex_does_not_become_ready_gives_way_to_the_old_one(home: Home) -> None:
    home.fault("new-is-not-ready")
    launch.start(home.record, "1", {**home.spec, "ready_seconds": 1.0})
    result = home.ended()["result"]
    assert (result["done"], result["serves"], home.whole(), home.serves()) == (False, True, "old", True)
    assert "not ready after 1 s" in result["reason"]
    assert "HTTP 503" in result["reason"]


def test_a_plex_that_does_not_end_keeps_its_pair(home: Home) -> None:
    home.fault("does-not-end")
    launch.start(home.record, "1", {**home.spec, "commands": home.commands(stop_timeout=1)})
    result = home.ended()["result"]
    assert (result["done"], result["serves"], home.whole(), home.serves()) == (False, True, "old", True)
    assert "still runs 1 s after it was asked to end" in result["reason"]


def test_a_start_that_fails_is_tried_again(home: Home) -> None:
    home.fault("does-not-start")
    launch.start(home.record, "1", home.spec)
    wait(lambda: (home.root / "does-not-start").read_text() == "tried")
    home.fault("does-not-start", False)
    assert home.ended()["result"]["installed"]
    assert (home.whole(), home.serves()) == ("new", True)


def test_a_swap_that_fails_starts_the_old_pair(home: Home) -> None:
    """The disk is full when the journal of the swap is written."""
    begin(home)
    leader = subprocess.Popen(
        [sys.executable, "-c", FULL, str(home.record.folder), str(errno.ENOSPC)],
        env={**os.environ, "PYTHONPATH": str(building.REPO / "collections")},
        start_new_session=True,
    )
    leader.wait(timeout=60)
    result = home.record.read()["result"]
    assert (result["done"], result["serves"], home.whole(), home.serves()) == (False, True, "old", True)
    assert "No space left on device" in result["reason"]


FULL = """\
import os, sys
from pathlib import Path
from ansible_collections.plexburst.core.plugins.module_utils.home_job import job
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.pair import files

class Full(files.FileOperations):
    def link(self, source, target):
        raise OSError(int(sys.argv[2]), "No space left on device")
    copy = link

os._exit(job.Job(Path(sys.argv[1]), Full()).lead("window"))
"""


def test_a_command_that_hangs_is_ended_with_its_time(home: Home) -> None:
    commands = home.commands()
    commands["stop"] = [{"argv": ["sh", "-c", "sleep 600 & wait"], "seconds": 0.5}]
    launch.start(home.record, "1", {**home.spec, "commands": commands})
    result = home.ended()["result"]
    assert (result["done"], home.whole(), home.serves()) == (False, "old", True)
    assert "did not end in" in result["reason"]


def test_a_rollback_goes_the_same_way(home: Home) -> None:
    launch.start(home.record, "1", home.spec)
    assert home.ended()["result"]["installed"]
    launch.forget(home.record)
    back = {**home.spec, "what": "rollback", "base_dir": None, "incoming": None}
    launch.start(home.record, "2", back)
    result = home.ended()["result"]
    assert (result["done"], result["installed"], result["serves"]) == (True, False, True)
    assert Path(result["backup"]).is_dir()
    assert (home.whole(), home.serves()) == ("old", True)


def test_a_rollback_to_a_backup_that_is_not_there_stops_nothing(home: Home) -> None:
    pid = home.pid_file.read_text()
    launch.start(home.record, "1", {**home.spec, "what": "rollback", "backup": "20200101T000000Z-none"})
    result = home.ended()["result"]
    assert not result["done"]
    assert "There is no backup 20200101T000000Z-none" in result["reason"]
    assert home.pid_file.read_text() == pid


def test_a_job_that_was_killed_is_not_forgotten_nor_followed_by_another(home: Home) -> None:
    drive(home, "both", "swap").wait(timeout=60)
    wait(lambda: not home.record.alive())
    with pytest.raises(PlexDatabaseError, match=r"interrupted at home \(step swap\) and is not recovered"):
        launch.start(home.record, "2", home.spec)
    forgotten = module(home, "alone", state="absent")
    assert forgotten["failed"]
    assert "has not ended at home" in forgotten["msg"]


def test_without_its_action_plugin_nothing_is_started(home: Home) -> None:
    alone = module(home, "alone")
    assert alone["failed"]
    assert "without its action plugin" in alone["msg"]
    assert not home.record.exists()


@pytest.mark.playbook
def test_the_task_settles_waits_tells_and_never_calls_a_lost_line_a_failure(home: Home) -> None:
    drive(home, "both", "swap").wait(timeout=60)
    wait(lambda: not home.record.alive())
    place = {"work_dir": str(home.root / "work")}
    names = ("databases_dir", "backups_dir", "preferences", "urls", "incoming", "commands")
    refused = {name: home.spec[name] for name in names} | {"run_id": "run-2"}
    refused["commands"] = {**home.commands(), "stop": [{"argv": ["sh", "-c", "echo not today; exit 1"]}]}
    recovered: dict[str, Any] = {**place, "state": "recovered", "commands": home.commands()}
    tasks: list[dict[str, Any]] = [
        {"plexburst.core.plex_home_job": recovered, "check_mode": True},
        {"plexburst.core.plex_home_job": recovered},
        {"plexburst.core.plex_home_job": recovered},
        {"plexburst.core.plex_home_job": {**place, **refused, "steady": 0.2, "ready_timeout": 5}},
        {"plexburst.core.plex_home_job": {**place, "state": "absent"}},
        {"plexburst.core.plex_home_job": recovered},
    ]
    for number, task in enumerate(tasks):
        task |= {"register": f"out_{number}", "ignore_errors": True, "when": "inventory_hostname == 'home'"}
    unreachable = {"plexburst.core.plex_home_job": {**recovered, "patience": 0}, "register": "lost"}
    tasks.append({**unreachable, "ignore_unreachable": True, "when": "inventory_hostname == 'lost'"})
    kept = [f"hostvars.home.out_{number}" for number in range(6)] + ["hostvars.lost.lost"]
    keep = {
        "content": f"{{{{ [{', '.join(kept)}] | to_json }}}}",
        "dest": str(home.root / "result.json"),
        "mode": "0600",
    }
    tasks.append({"ansible.builtin.copy": keep, "delegate_to": "home", "run_once": True})
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    nowhere = {"ansible_host": "127.0.0.1", "ansible_port": 1, "ansible_ssh_retries": 0}
    (home.root / "hosts.json").write_text(json.dumps({"all": {"hosts": {"home": local, "lost": nowhere}}}))
    (home.root / "play.yml").write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
    done = subprocess.run(
        [
            Path(sys.executable).with_name("ansible-playbook"),
            *("-i", home.root / "hosts.json", home.root / "play.yml"),
        ],
        cwd="/",
        env={
            **os.environ,
            **ansible_cache.environment(),
            "ANSIBLE_COLLECTIONS_PATH": str(building.REPO / "collections"),
            "ANSIBLE_HOME": str(home.root / ".ansible"),
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    checked, settled, again, failed, absent, none, lost = json.loads((home.root / "result.json").read_text())
    begun = "The installation of run run-1 was interrupted at home in the step swap"
    assert checked["said"].startswith(begun)
    assert checked["said"].endswith("without --check this run would finish or revert it and start Plex.")
    assert settled["said"].startswith(begun)
    assert "is now settled: the installation failed, Plex is ready with its former pair" in settled["said"]
    assert (settled["found"], again["found"]) == ("died", "ended")
    assert "had ended at home without its controller" in again["said"]
    assert failed["failed"]
    assert failed["msg"] == "The stop of Plex failed: sh returned exit code 1: not today."
    assert failed["result"]["serves"]
    assert (absent["changed"], none["found"]) == (True, "none")
    assert (home.whole(), home.serves()) == ("old", True)
    assert lost["unreachable"]
    assert "The job at home continues without the controller and starts Plex" in lost["msg"]
