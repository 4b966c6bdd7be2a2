"""The server's child processes: real processes with the real names, talking JSON lines with their parent.

A child is `python -m sandbox.plex.<module>` whose argument memory is overwritten, so that `/proc/<pid>/cmdline` and
`comm` read as the real program with its arguments (``pgrep -f 'Plex Media Scanner'``, ``pidof``, psutil all see it),
while its environment stays readable: machines of the sandbox recognise their processes by a variable there. The last
argument is a pad that makes room for the title.

Its first line of standard input is the list of its arguments. When its standard input ends (the server died, even by
kill -9), it ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

PLEX_DIR = "/usr/lib/plexmediaserver"
SERVER, SCANNER = "Plex Media Server", "Plex Media Scanner"
TRANSCODER, ANALYZER = "Plex Transcoder", "Plex Music Analyzer"
MODULES = {
    SCANNER: "sandbox.plex.scanner",
    TRANSCODER: "sandbox.plex.transcoder",
    ANALYZER: "sandbox.plex.analyzer",
}
JOB_ENV = "PLEX_SIM_JOB"
DATABASES_ENV = "PLEX_SIM_DATABASES"
SPEED_ENV = "PLEX_SIM_SPEED"
FAULTS_ENV = "PLEX_SIM_FAULTS"
DEFAULT_SPEED = 0.1

_REPOSITORY = str(Path(__file__).resolve().parents[2])
_LONG_TITLE = 512
_PR_SET_NAME = 15
_ARG_START, _ARG_END = 47, 48  # fields of /proc/self/stat, counted from 0


class ChildError(Exception):
    """A child ended before it answered."""


def retitle(program: str, arguments: Sequence[str] = ()) -> None:
    """Make this process look like ``/usr/lib/plexmediaserver/<program> <arguments>`` to everyone who reads /proc.

    What does not fit into the argument memory is cut off; what is left of it reads as empty arguments.
    """
    ctypes.CDLL(None).prctl(_PR_SET_NAME, program.encode()[:15], 0, 0, 0)
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, end = int(fields[_ARG_START - 2]), int(fields[_ARG_END - 2])
    title = b"\0".join(os.fsencode(text) for text in (f"{PLEX_DIR}/{program}", *arguments))[: end - start - 1]
    ctypes.memmove(start, title.ljust(end - start, b"\0"), end - start)


def burn(seconds: float) -> None:
    """Use this many seconds of CPU time of the calling thread."""
    end = time.thread_time() + seconds
    block = b"plex" * 4096
    while time.thread_time() < end:
        block = hashlib.sha256(block).digest() * 512


def speed() -> float:
    """Seconds of CPU that one unit of work costs (PLEX_SIM_SPEED)."""
    return float(os.environ.get(SPEED_ENV, DEFAULT_SPEED))


class Child:
    """One running child, seen from the server."""

    def __init__(
        self, program: str, arguments: Sequence[str], environment: Mapping[str, str], log: IO[bytes], *, fixed: bool
    ) -> None:
        """``fixed``: its title never changes, so that its argument memory can be exactly as long as the title."""
        self.program = program
        self.arguments = list(arguments)
        command = [sys.executable, "-P", "-m", MODULES[program]]
        title = "\0".join((f"{PLEX_DIR}/{program}", *arguments)) + "\0"
        used = sum(len(os.fsencode(part)) + 1 for part in command)
        pad = (len(os.fsencode(title)) if fixed else _LONG_TITLE) - used - 1
        self.process = subprocess.Popen(
            [*command, "-" * max(pad, 0)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env={**os.environ, **environment, JOB_ENV: "1", "PYTHONPATH": _REPOSITORY},
        )
        self._lock = threading.Lock()
        self.send(list(arguments))

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def send(self, message: Any) -> None:
        """One JSON line to the child. A child that is gone takes none: the next `read` says so."""
        assert self.process.stdin is not None  # noqa: S101 - opened as a pipe above
        with self._lock, contextlib.suppress(BrokenPipeError, ValueError):
            self.process.stdin.write(json.dumps(message).encode() + b"\n")
            self.process.stdin.flush()

    def read(self) -> Any:
        """The next JSON line of the child; None when it has ended."""
        assert self.process.stdout is not None  # noqa: S101
        line = self.process.stdout.readline()
        return json.loads(line) if line else None

    def ask(self, message: Any) -> Any:
        """Send and wait for the answer. Raises ChildError when the child ends instead."""
        self.send(message)
        answer = self.read()
        if answer is None:
            raise ChildError(f"{self.program} ended before it answered (exit code {self.process.wait()}).")
        return answer

    def finish(self, seconds: float = 3.0) -> int:
        """Close its input, wait, end it if it does not end; returns its exit code."""
        with self._lock, contextlib.suppress(BrokenPipeError, ValueError):
            if self.process.stdin is not None:
                self.process.stdin.close()
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        return code

    def kill(self) -> None:
        """End it now."""
        self.process.kill()


def is_job() -> bool:
    """Whether a server started this process (as opposed to a person's command line)."""
    return JOB_ENV in os.environ


class _Input:
    """Standard input read without a lock.

    A thread that waits in ``sys.stdin`` would abort the interpreter's shutdown.
    """

    def __init__(self) -> None:
        self._rest = b""

    def line(self) -> bytes:
        """The next line; empty at the end."""
        while b"\n" not in self._rest:
            piece = os.read(0, 65536)
            if not piece:
                return b""
            self._rest += piece
        line, _, self._rest = self._rest.partition(b"\n")
        return line


_input = _Input()


def receive() -> Any:
    """In the child: the next JSON line of the server; None when there is no server any more."""
    line = _input.line()
    return json.loads(line) if line else None


def answer(message: Any) -> None:
    """In the child: one JSON line to the server."""
    sys.stdout.buffer.write(json.dumps(message).encode() + b"\n")
    sys.stdout.buffer.flush()


def watch_parent(on_stop: Callable[[], None]) -> None:
    """In the child: listen for ``"stop"`` beside the work, and end at once when the server is gone."""

    def listen() -> None:
        while (message := receive()) is not None:
            if message == "stop":
                on_stop()
        os._exit(1)

    threading.Thread(target=listen, daemon=True, name="parent").start()
