# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""Ends what a run of ansible-playbook leaves running on this machine.

ansible-runner stops a run by killing ansible-playbook's process group. The workers of ansible-core 2.19 have sessions
of their own and live on: each would go on watching the indexer, for hours, with nobody to tell.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
MARK = "PLEXBURST_PRIVATE_FOLDER"
"""In the environment of everything that a run starts: the private folder of that run, which no other has."""

SECONDS = {signal.SIGTERM: 5.0, signal.SIGKILL: 5.0}
"""How long a process has to end after each signal."""


@dataclass(frozen=True, slots=True)
class _Process:
    pid: int
    session: int
    words: tuple[bytes, ...]


def end(private: Path, *, proc: Path = PROC) -> tuple[int, ...] | None:
    """End every process of the run with that private folder: SIGTERM, and after 5 s SIGKILL.

    These are Ansible's main process, its workers and all in their sessions, and every ssh: tunnels, and the masters of
    shared connections. What the run started for good on this machine (home's Plex, a mount, where a host of the
    inventory is this machine) has a session of its own, and stays.
    Returns the ids of those that did not end, in order; None where there is no /proc (macOS), so that nobody can tell
    whose a process is.
    """
    if not proc.joinpath("self", "environ").exists():
        return None
    sessions: set[int] = set()
    found: list[_Process] = []
    for number, seconds in SECONDS.items():
        until = time.monotonic() + seconds
        told: set[int] = set()
        while True:
            marked = _marked(private, proc)
            # Kept from look to look: what a worker has started is in its session after the worker's end too.
            sessions |= {process.session for process in marked if _is_ansible(process, private)}
            found = [process for process in marked if process.session in sessions or _is_ssh(process)]
            if not found:
                return ()
            for process in found:
                if process.pid not in told:
                    with suppress(ProcessLookupError):
                        os.kill(process.pid, number)
                    told.add(process.pid)
            if time.monotonic() > until:
                break
            time.sleep(0.05)
    return tuple(process.pid for process in found)


def _marked(private: Path, proc: Path) -> list[_Process]:
    mark, below = f"{MARK}={private}".encode(), f"{private}/".encode()
    found = []
    for folder in proc.iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        # Others' processes are theirs, and one that ended meanwhile is no process any more.
        with suppress(PermissionError, FileNotFoundError, ProcessLookupError):
            words = tuple((folder / "cmdline").read_bytes().split(b"\0"))
            # The master of a shared connection writes its title over its environment: "ssh: SOCKET [mux]".
            if mark in (folder / "environ").read_bytes().split(b"\0") or words[0].startswith(b"ssh: " + below):
                # The name, in parentheses, may hold anything; the session is the fourth word after it (proc(5)).
                after = (folder / "stat").read_bytes().rpartition(b")")[2].split()
                found.append(_Process(int(folder.name), int(after[3]), words))
    return sorted(found, key=lambda process: process.pid)


def _is_ansible(process: _Process, private: Path) -> bool:
    """The main process and its forks: only they name the private folder among their arguments."""
    return any(word.startswith(f"@{private}/".encode()) for word in process.words)


def _is_ssh(process: _Process) -> bool:
    return process.words[0].startswith(b"ssh: ") or process.words[0].rpartition(b"/")[2] == b"ssh"
