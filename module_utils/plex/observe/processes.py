"""Processes of a Plex server, from /proc; works for containers without any tool in them.

Scope (dict): {"runtime": "docker", "container": "plex"} | {"runtime": "systemd", "unit": "plexmediaserver"} |
{"runtime": "process", "pid_file": "…/plexmediaserver.pid"}.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ProcessScopeError
from .sample import Process

PROC = Path("/proc")
# argv[0] of Plex's own programs (docs/plex-facts.md#scanner, #sonic-analysis). A kernel comm is cut at 15 letters, so
# the command line decides.
KINDS = (
    ("Plex Media Scanner", "scanner"),
    ("Plex Music Analyzer", "music_analyzer"),
    ("Plex Transcoder", "transcoder"),
    ("Plex Media Server", "server"),
)
ARGS_LIMIT = 300
DOCKER_TIMEOUT = 15.0


@dataclass(frozen=True, slots=True)
class ContainerState:
    """State of the container from `docker inspect`; None outside Docker."""

    pid: int
    restarts: int
    oom_killed: bool


@dataclass(frozen=True, slots=True)
class Tree:
    """The processes of one server. `root` is the first process of the scope."""

    root: int
    processes: tuple[Process, ...]
    container: ContainerState | None = None

    @property
    def server(self) -> Process | None:
        """Return the media server's own process, not a wrapper around it (s6, a shell)."""
        return next((process for process in self.processes if process.kind == "server"), None)


@dataclass(frozen=True, slots=True)
class _Stat:
    pid: int
    ppid: int
    cpu_seconds: float
    started: float


def _stat(pid: int, proc: Path) -> _Stat | None:
    """Fields of /proc/PID/stat; None when the process has ended meanwhile."""
    try:
        text = (proc / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name in parentheses may contain spaces and parentheses, so count from the last one.
    values = text[text.rindex(")") + 2 :].split()
    ticks = os.sysconf("SC_CLK_TCK")
    return _Stat(
        pid=pid,
        ppid=int(values[1]),
        cpu_seconds=(int(values[11]) + int(values[12])) / ticks,
        started=int(values[19]) / ticks,
    )


def command_line(pid: int, proc: Path = PROC) -> str:
    """The command line with spaces between its arguments, '' when the process is gone or a kernel thread."""
    try:
        raw = (proc / str(pid) / "cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return raw.replace(b"\0", b" ").decode("utf-8", "replace").strip()


def kind_of(arguments: str) -> str:
    """Which program a command line runs: the first of Plex's names in its beginning, else 'other'."""
    head = arguments[:200]
    found = [(head.find(name), kind) for name, kind in KINDS if name in head]
    return min(found)[1] if found else "other"


def _read_bytes(pid: int, proc: Path) -> int | None:
    """Return rchar of /proc/PID/io: all bytes read, FUSE included. None without permission."""
    try:
        text = (proc / str(pid) / "io").read_text(encoding="ascii")
    except (PermissionError, FileNotFoundError, ProcessLookupError):
        return None
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name == "rchar":
            return int(value)
    return None


def _docker_root(container: str) -> ContainerState:
    # Docker's own state is the only way from a container's name to its first process.
    command = ["docker", "inspect", "--type", "container", container]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=DOCKER_TIMEOUT, check=False)
    except FileNotFoundError as error:
        raise ProcessScopeError("The runtime is docker, but this machine has no docker command.") from error
    except subprocess.TimeoutExpired as error:
        raise ProcessScopeError(f"docker inspect {container} did not answer within {DOCKER_TIMEOUT:g} s.") from error
    if done.returncode != 0:
        raise ProcessScopeError(f"docker inspect {container} failed: {done.stderr.strip()[:300]}")
    state = json.loads(done.stdout)[0]
    pid = int(state["State"].get("Pid") or 0)
    if pid <= 0:
        raise ProcessScopeError(
            f"The container {container} is not running (state {state['State'].get('Status')!r}, "
            f"exit code {state['State'].get('ExitCode')}). Check `docker logs {container}`."
        )
    return ContainerState(
        pid=pid,
        restarts=int(state.get("RestartCount") or 0),
        oom_killed=bool(state["State"].get("OOMKilled")),
    )


def _unit_pids(unit: str, proc: Path) -> list[int]:
    """Processes of a systemd unit by their control group (v1 and v2 write the path in /proc/PID/cgroup)."""
    wanted = f"/{unit.removesuffix('.service')}.service"
    pids = []
    for pid in _all_pids(proc):
        try:
            groups = (proc / str(pid) / "cgroup").read_text(encoding="utf-8", errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if any(line.endswith(wanted) or f"{wanted}/" in line for line in groups.splitlines()):
            pids.append(pid)
    return pids


def _all_pids(proc: Path) -> list[int]:
    return sorted(int(entry.name) for entry in proc.iterdir() if entry.name.isdigit())


def _pid_from_file(pid_file: str) -> int:
    path = Path(pid_file)
    try:
        text = path.read_text(encoding="ascii").strip()
    except FileNotFoundError as error:
        raise ProcessScopeError(f"The server's pid file {path} does not exist, so Plex is not running.") from error
    except PermissionError as error:
        raise ProcessScopeError(f"The server's pid file {path} is not readable by this user.") from error
    if not text.isdigit():
        raise ProcessScopeError(f"The server's pid file {path} contains {text[:40]!r}, which is not a process id.")
    return int(text)


def tree(scope: Mapping[str, Any], proc: Path = PROC) -> Tree:
    """All processes of the server that `scope` names.

    Raises ProcessScopeError when the scope is malformed or its first process is not running.
    """
    runtime = scope.get("runtime")
    container: ContainerState | None = None
    if runtime == "systemd":
        members = _unit_pids(str(scope.get("unit") or "plexmediaserver"), proc)
        if not members:
            raise ProcessScopeError(f"The systemd unit {scope.get('unit')} has no process, so it is not running.")
        return Tree(root=members[0], processes=_describe(members, proc))
    if runtime == "docker":
        container = _docker_root(str(scope.get("container") or "plex"))
        root = container.pid
    elif runtime == "process":
        root = _pid_from_file(str(scope.get("pid_file") or ""))
    else:
        raise ProcessScopeError(f"The scope's runtime must be docker, systemd or process, got {runtime!r}.")
    if _stat(root, proc) is None:
        raise ProcessScopeError(f"The server's first process {root} has ended.")
    return Tree(root=root, processes=_describe(_descendants(root, proc), proc), container=container)


def _descendants(root: int, proc: Path) -> list[int]:
    children: dict[int, list[int]] = {}
    for pid in _all_pids(proc):
        stat = _stat(pid, proc)
        if stat is not None:
            children.setdefault(stat.ppid, []).append(pid)
    found, queue = [], [root]
    while queue:
        pid = queue.pop()
        found.append(pid)
        queue.extend(children.get(pid, ()))
    return sorted(found)


def _describe(pids: list[int], proc: Path) -> tuple[Process, ...]:
    processes = []
    for pid in pids:
        stat = _stat(pid, proc)
        if stat is None:
            continue
        arguments = command_line(pid, proc)
        processes.append(
            Process(
                pid=pid,
                kind=kind_of(arguments),
                cpu_seconds=stat.cpu_seconds,
                started=stat.started,
                args=arguments[:ARGS_LIMIT],
                read_bytes=_read_bytes(pid, proc),
            )
        )
    return tuple(processes)
