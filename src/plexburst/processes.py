# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""End the processes that a stopped ansible-playbook leaves on this machine.

ansible-runner stops a run by killing ansible-playbook's process group. The workers of ansible-core 2.19 have their own
sessions and survive: each would continue to watch the indexer for hours.
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
"""Environment variable of all processes of a run: the run's private folder, which is unique."""

SECONDS = {signal.SIGTERM: 5.0, signal.SIGKILL: 5.0}
"""Seconds that a process has to end after each signal."""


@dataclass(frozen=True, slots=True)
class _Process:
    pid: int
    session: int
    words: tuple[bytes, ...]


def end(private: Path, *, proc: Path = PROC) -> tuple[int, ...] | None:
    """End all processes of the run with that private folder: SIGTERM, and after 5 s SIGKILL.

    These are Ansible's main process, its workers and the processes in their sessions, and all ssh processes: tunnels
    and the masters of shared connections. Services that the run started on this machine (home's Plex or a mount, if a
    host of the inventory is this machine) have their own session and stay.

    Returns the ids of processes that did not end, in order; None without /proc (macOS), where the owner of a process
    cannot be determined.
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
            # Kept between passes, because a worker's children stay in its session after the worker's end.
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
        # Processes of other users cannot be read; a process may also end meanwhile.
        with suppress(PermissionError, FileNotFoundError, ProcessLookupError):
            words = tuple((folder / "cmdline").read_bytes().split(b"\0"))
            # The master of a shared connection writes its title over its environment: "ssh: SOCKET [mux]".
            if mark in (folder / "environ").read_bytes().split(b"\0") or words[0].startswith(b"ssh: " + below):
                # The name in parentheses may contain anything; the session is the fourth field after it (proc(5)).
                after = (folder / "stat").read_bytes().rpartition(b")")[2].split()
                found.append(_Process(int(folder.name), int(after[3]), words))
    return sorted(found, key=lambda process: process.pid)


def _is_ansible(process: _Process, private: Path) -> bool:
    """Return whether it is the main process or a fork: only they have the private folder in their arguments."""
    return any(word.startswith(f"@{private}/".encode()) for word in process.words)


def _is_ssh(process: _Process) -> bool:
    return process.words[0].startswith(b"ssh: ") or process.words[0].rpartition(b"/")[2] == b"ssh"
