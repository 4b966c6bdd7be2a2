"""plexburst.runner: what it gives back, what it leaves behind, and what it does for a run that was stopped."""

from __future__ import annotations

import os
import signal
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from plexburst.runner import Event, run
from sandbox.control import Sandbox
from sandbox.media import Sizes
from tests.playbooks.evidence import alive
from tests.stages.stage import Stage, play

NOTE = """
- name: Say something
  ansible.builtin.debug:
    msg: still here
"""
PAUSE = """
- name: Wait
  ansible.builtin.pause:
    seconds: 60
"""


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.chdir("/")
    monkeypatch.setenv("PATH", os.defpath)
    return Stage(tmp_path)


def prepared(stage: Stage, plays: str) -> tuple[Path, Path, dict[str, Any]]:
    stage.command(plays)
    given = {
        "plexburst_runs_dir": str(stage.runs),
        "plexburst_account_token_file": str(stage.path / "token"),
        "plexburst_provider": "existing",
    }
    return stage.path / "small.yml", stage.path / "inventory.yml", given


def running(folder: Path) -> dict[int, str]:
    """The processes that name this folder, among their arguments or in their environment, but this one."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            held = (process / "cmdline").read_bytes() + b"\0" + (process / "environ").read_bytes()
        except OSError:  # it has ended meanwhile, or is somebody else's
            continue
        if f"{folder}/".encode() in held and int(process.name) != os.getpid():
            found[int(process.name)] = held[:300].decode(errors="replace")
    return found


def test_a_run_gives_back_its_summary_and_leaves_no_private_folder(stage: Stage) -> None:
    playbook, inventory, given = prepared(stage, play("work", "localhost", NOTE))
    events: list[Event] = []
    seen: dict[str, Any] = {}

    def watch(event: Event) -> None:
        events.append(event)
        if event["event"] != "playbook_on_play_start":
            return
        for private in (stage.path / "tmp").iterdir():
            if private.name.startswith("plexburst-"):
                seen["modes"] = {stat.S_IMODE(path.stat().st_mode) for path in (private, private / "extravars.json")}
        for process in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = process.read_bytes().decode().split("\0")
            except OSError:  # it has ended meanwhile
                continue
            if str(playbook) in words:
                seen["argv"] = words

    ended = run(playbook, inventory, given, event_handler=watch)
    assert (ended.rc, ended.status, ended.released) == (0, "successful", None)
    assert ended.summary is not None
    assert ended.summary["status"] == "succeeded"
    assert ended.run_dir is not None
    assert ended.run_dir.name == ended.summary["run_id"]
    assert seen["modes"] == {0o700, 0o600}
    assert str(stage.runs) not in " ".join(seen["argv"])
    assert "still here" in "".join(str(event["stdout"]) for event in events)
    assert list((stage.path / "tmp").iterdir()) == []


def test_a_failure_is_given_back(stage: Stage) -> None:
    fail = "- name: Break it\n  ansible.builtin.fail:\n    msg: Every type is out of stock.\n"
    playbook, inventory, given = prepared(stage, play("work", "localhost", fail))
    ended = run(playbook, inventory, given)
    assert (ended.rc, ended.status) == (2, "failed")
    assert ended.summary is not None
    assert ended.summary["failure"]["message"] == "Every type is out of stock."


def test_check_mode_is_an_argument(stage: Stage) -> None:
    playbook, inventory, given = prepared(stage, play("work", "localhost", NOTE))
    ended = run(playbook, inventory, given, arguments=["--check"])
    assert (ended.rc, ended.summary) == (0, None)
    assert not stage.runs.exists()


def test_a_run_that_takes_too_long_or_is_cancelled_is_stopped(stage: Stage) -> None:
    playbook, inventory, given = prepared(stage, play("work", "localhost", PAUSE))
    before = signal.getsignal(signal.SIGINT)
    waiting: list[bool] = []

    def watch(event: Event) -> None:
        waiting.append(event["event"] == "playbook_on_task_start" and event["event_data"]["task"] == "Wait")

    ended = run(playbook, inventory, given, event_handler=watch, cancel=lambda: any(waiting))
    assert (ended.rc, ended.status, ended.summary, ended.running) == (254, "canceled", None, ())
    assert ended.released is True  # there is no cloud, so nothing to remove
    assert signal.getsignal(signal.SIGINT) is before
    assert running(stage.path) == {}
    assert run(playbook, inventory, given, timeout=4, release=False).status == "timeout"
    assert running(stage.path) == {}


def test_a_secret_is_refused_as_a_variable(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    playbook, inventory, given = prepared(stage, play("work", "localhost", NOTE))
    monkeypatch.setenv("SCW_SECRET_KEY", "11111111-2222-3333-4444-555555555555")
    for value in ("11111111-2222-3333-4444-555555555555", {"a": ["X-Plex-Token=abcDEF123456"]}):
        with pytest.raises(ValueError, match="The variable token contains a secret"):
            run(playbook, inventory, {**given, "token": value})
    assert not stage.runs.exists()


def test_what_does_not_exist_is_named(stage: Stage) -> None:
    playbook, inventory, _ = prepared(stage, "")
    with pytest.raises(FileNotFoundError, match=r"playbook nowhere\.yml was found neither"):
        run("nowhere.yml", inventory)
    with pytest.raises(FileNotFoundError, match="inventory nobody was found neither"):
        run(playbook, "nobody")


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Sandbox]:
    box = Sandbox(tmp_path / "box", sizes=Sizes(tracks=20, films=6, shows=1, episodes=3, photos=4), speed=0.02)
    try:
        box.up()
        yield box
    finally:
        box.reset()


@pytest.mark.playbook
def test_a_stopped_run_leaves_nothing_in_the_cloud(
    box: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    for name, value in box.ansible_env().items():
        monkeypatch.setenv(name, value)
    short = Path(tempfile.mkdtemp(prefix="pb-", dir="/tmp"))  # where pytest's folders are too deep for a socket
    monkeypatch.setattr(tempfile, "tempdir", str(short))
    made: list[bool] = []
    masters: set[str] = set()

    def watch(event: Event) -> None:
        made.append(event["event"] == "playbook_on_play_start" and event["event_data"]["name"].startswith("Prepare"))
        masters.update(words for words in running(short).values() if words.startswith("ssh: "))

    ended = run(
        "delta_sync.yml",
        "inventory/sandbox",
        {"plexburst_runs_dir": str(tmp_path / "runs")},
        event_handler=watch,
        cancel=lambda: any(made),
    )
    assert (ended.status, ended.released) == ("canceled", True)
    assert {row["kind"] for row in box.ledger()} == {"server", "ip", "volume"}
    assert alive(box.ledger()) == []
    assert masters
    assert running(short) == {}
    short.rmdir()
