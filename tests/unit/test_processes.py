"""What a stopped run leaves running on this machine, with real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from plexburst import processes

Start = Callable[..., "subprocess.Popen[bytes]"]
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
PARENT = "import subprocess, sys, time; subprocess.Popen(['sleep', '60']); print(flush=True); time.sleep(60)"

pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a process in a session of its own, with the mark of the run in `tmp_path` unless told otherwise."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(*command: str, program: str | None = None, mark: Path | None = tmp_path) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            command,
            executable=program,
            env={} if mark is None else {"PATH": os.defpath, processes.MARK: str(mark)},
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(5)


def worker(tmp_path: Path, code: str) -> list[str]:
    """A fork of ansible-playbook has its arguments, the file of extra variables among them."""
    return [sys.executable, "-c", code, "-e", f"@{tmp_path}/extravars.json"]


def test_a_worker_and_what_it_has_started_are_ended(start: Start, tmp_path: Path) -> None:
    process = start(*worker(tmp_path, PARENT))
    assert process.stdout is not None
    process.stdout.readline()
    assert processes.end(tmp_path) == ()
    assert process.wait(5) == -signal.SIGTERM
    assert process.stdout.read() == b""  # the child held it open


def test_a_worker_that_does_not_listen_is_killed(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(processes.SECONDS, signal.SIGTERM, 0.1)
    process = start(*worker(tmp_path, DEAF))
    assert process.stdout is not None
    process.stdout.readline()
    assert processes.end(tmp_path) == ()
    assert process.wait(5) == -signal.SIGKILL


def test_tunnels_and_masters_of_shared_connections_are_ended(start: Start, tmp_path: Path) -> None:
    tunnel = start("ssh", "60", program="/bin/sleep")
    master = start(f"ssh: {tmp_path}/ssh/0123456789 [mux]", "60", program="/bin/sleep", mark=None)
    assert processes.end(tmp_path) == ()
    assert tunnel.wait(5) == master.wait(5) == -signal.SIGTERM


def test_what_is_to_stay_on_this_machine_and_other_runs_stay(start: Start, tmp_path: Path) -> None:
    other = tmp_path.with_name(f"{tmp_path.name}2")
    stay = [
        start("sleep", "60"),  # home's Plex, where home is this machine
        start("ssh", "60", program="/bin/sleep", mark=other),
        start(f"ssh: {other}/ssh/0123456789 [mux]", "60", program="/bin/sleep", mark=None),
        start(*worker(other, PARENT), mark=other),
    ]
    assert processes.end(tmp_path) == ()
    assert [process.poll() for process in stay] == [None] * 4


def test_what_cannot_be_seen_is_said(tmp_path: Path) -> None:
    assert processes.end(tmp_path, proc=tmp_path / "proc") is None
