"""Finding and ending the processes of one sandbox, by id, through /proc."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

_PROC = Path("/proc")


def environment(pid: int) -> dict[str, str]:
    """The environment a process was started with; empty if it is gone, a zombie, or another user's."""
    try:
        raw = (_PROC / str(pid) / "environ").read_bytes()
    except OSError:
        return {}
    pairs = (entry.partition(b"=") for entry in raw.split(b"\0") if b"=" in entry)
    return {name.decode(errors="replace"): value.decode(errors="replace") for name, _, value in pairs}


def command(pid: int) -> list[str]:
    """argv of a process; empty if it is gone."""
    try:
        raw = (_PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return []
    return [part.decode(errors="replace") for part in raw.rstrip(b"\0").split(b"\0")]


def is_alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    return _status(pid) is not None


def of_sandbox(directory: Path) -> list[int]:
    """Every living process of the sandbox in `directory`, this one excepted.

    All parts and all machines of a sandbox have their HOME in its folder; nothing of the user's has. A process whose
    title overwrote its environment is found as a child, or by its session, of one that is known.
    """
    root = directory.resolve()
    status: dict[int, tuple[int, int]] = {}
    members: set[int] = set()
    for entry in _PROC.iterdir():
        if not entry.name.isdigit() or (pid := int(entry.name)) == os.getpid() or (found := _status(pid)) is None:
            continue
        status[pid] = found
        home = environment(pid).get("HOME", "")
        if home and Path(home).is_relative_to(root):
            members.add(pid)
    grown = True
    while grown:
        more = {
            pid
            for pid, (parent, session) in status.items()
            if pid not in members and (parent in members or session in members)
        }
        members |= more
        grown = bool(more)
    return sorted(members)


def end(pids: Iterable[int], patience: float = 10.0) -> list[int]:
    """Ask these processes to end, wait up to `patience` seconds, kill what is left; return those that were killed."""
    waiting = [pid for pid in pids if _signal(pid, signal.SIGTERM)]
    waiting = _wait(waiting, patience)
    killed = [pid for pid in waiting if _signal(pid, signal.SIGKILL)]
    _wait(killed, 5.0)
    return killed


def _wait(pids: list[int], seconds: float) -> list[int]:
    deadline = time.monotonic() + seconds
    while (pids := [pid for pid in pids if is_alive(pid)]) and time.monotonic() < deadline:
        time.sleep(0.02)
    return pids


def _signal(pid: int, number: signal.Signals) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def _status(pid: int) -> tuple[int, int] | None:
    """(parent, session) of a living process. The name in /proc/PID/stat may hold brackets: split after the last one."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    if fields[0] in ("Z", "X"):
        return None
    return int(fields[1]), int(fields[3])
