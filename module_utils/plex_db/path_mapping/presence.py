"""Check which files home's Plex can read. A file that the remote lacks may be on a local disk of home, or not be
uploaded yet.

One shell process checks many paths where Plex runs: in its container, or on the host as Plex's user. It needs `sh`,
`xargs`, `stat` and `ls` of coreutils or BusyBox, but no Python. It reads the paths from standard input, separated by
NUL, as the bytes in the database.

Only the error "No such file or directory" means absent. Any other error, a folder that does not answer in time, and an
empty or missing folder of a section (a disk that is not mounted) make a file `unknown`. Callers must treat unknown like
present.
"""

from __future__ import annotations

import base64
import contextlib
import os
import selectors
import signal
import subprocess
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from ..errors import PlexDatabaseError
from .mapping import is_below

PRESENT, ABSENT, UNKNOWN = "present", "absent", "unknown"
FOLDER_SECONDS = 20.0
# Time until the first output of a process; Docker is slow on a busy small board.
START_SECONDS = 60.0
TOTAL_SECONDS = 300.0
# Maximum number of files to check; the rest is unknown.
MOST_FILES = 200_000
EXAMPLES = 5
NO_ROOT = "its section's folder is empty or missing"
NO_TIME = "the time limit was reached"
HANGS = "its folder does not answer"

# The first line is the process group, so that it can be killed from outside a container.
_START = 'echo "$$"; exec xargs -0 -n 500 sh -c "$1" sh'
# One line per path, in order: p, a, or "u <why>". A path that ends with / is a folder that must not be empty. `test` is
# built into the shell, so only missing files need a process. A folder is checked before its files, so that the folder's
# line is the one that hangs, and the files of a missing folder cost nothing.
_CHECK = """
LC_ALL=C; export LC_ALL
look() {
  if [ -e "$1" ]; then found=p; return; fi
  if [ -L "$1" ]; then found='u a broken link'; return; fi
  if said=$(stat -- "$1" 2>&1); then found=p; return; fi
  case $said in
    *': No such file or directory'|*': Not a directory') found=a ;;
    *) found="u ${said##*: }" ;;
  esac
}
before=
for path do
  case $path in
    */)
      look "${path%/}"
      if [ "$found" = p ]; then
        if held=$(ls -A "${path%/}/" 2>&1); then [ -n "$held" ] || found=a; else found="u ${held##*: }"; fi
      fi ;;
    *)
      folder=${path%/*}
      if [ "$folder" != "$before" ]; then before=$folder; look "${folder:-/}"; place=$found; fi
      if [ "$place" = p ]; then look "$path"; else found=$place; fi ;;
  esac
  printf '%s\\n' "$found"
done
"""


@dataclass(frozen=True)
class View:
    """Where and how to check files for home's Plex.

    :param container: Plex's container; empty if Plex runs on this host.
    :param path_map: Plex's folder -> folder on this host, if they differ.
    :param user: uid and gid for the check on this host, if this process may change to them.
    :param docker: the command line of Docker.
    """

    container: str = ""
    path_map: Mapping[str, str] = field(default_factory=dict)
    user: tuple[int, int] | None = None
    docker: str = "docker"

    def command(self, *arguments: str) -> list[str]:
        """Return the command to run where Plex runs."""
        return [self.docker, "exec", "-i", self.container, *arguments] if self.container else list(arguments)

    def host_path(self, path: str) -> str:
        """Return the path for the command."""
        inside = [place.rstrip("/") for place in self.path_map if f"{path}/".startswith(f"{place.rstrip('/')}/")]
        place = max(inside, key=len, default=None)
        if place is None:
            return path
        hosts = {key.rstrip("/"): host.rstrip("/") for key, host in self.path_map.items()}
        return hosts[place] + path[len(place) :]

    def identity(self) -> dict[str, Any]:
        """Return the arguments of Popen for the user."""
        if self.container or self.user is None or os.geteuid() != 0 or self.user[0] == 0:
            return {}
        uid, gid = self.user
        return {"user": uid, "group": gid, "extra_groups": _groups(uid, gid)}


@dataclass(frozen=True)
class Limits:
    """Time limits and maximum number of files of a check."""

    folder_seconds: float = FOLDER_SECONDS
    total_seconds: float = TOTAL_SECONDS
    files: int = MOST_FILES


@dataclass
class Presence:
    """The result by path, with `why` for unknown paths. `sections`: number of kept files by title, if requested."""

    state: dict[str, str] = field(default_factory=dict)
    why: dict[str, str] = field(default_factory=dict)
    sections: dict[str, int] = field(default_factory=dict)

    @property
    def kept(self) -> list[str]:
        """The paths that do not count as gone: present or unknown."""
        return [path for path, state in self.state.items() if state != ABSENT]

    def of(self, state: str) -> list[str]:
        """Return the paths in that state."""
        return [path for path, found in self.state.items() if found == state]

    def reasons(self) -> list[str]:
        """Return the causes of unknown files, the most frequent first, with number and example."""
        counted = Counter(self.why.values())
        example = {why: path for path, why in reversed(list(self.why.items()))}
        return [
            f"{count} file(s): {why}, such as {shown(example[why])}" for why, count in counted.most_common(EXAMPLES)
        ]

    def as_dict(self) -> dict[str, Any]:
        """Return numbers, first examples and causes for a result."""
        return {
            **{state: len(self.of(state)) for state in (PRESENT, ABSENT, UNKNOWN)},
            "examples": [shown(path) for path in self.kept[:EXAMPLES]],
            "why": self.reasons(),
            **({"sections": self.sections} if self.sections else {}),
        }


def look(paths: Iterable[str], roots: Iterable[str], view: View, limits: Limits | None = None) -> Presence:
    """Check each of the paths.

    :param paths: paths in the database; bytes that are not UTF-8 as surrogates.
    :param roots: the folders of the sections. A file missing below an empty or missing folder is unknown.
    :returns: a state for every path. Paths that could not be checked are unknown, with the cause; nothing is raised.
    """
    limits = limits or Limits()
    wanted = sorted(set(paths), key=lambda path: (path.rpartition("/")[0], path))
    asked = [path for path in wanted if path.startswith("/")][: limits.files]
    inside = {root.rstrip("/") + "/" for root in roots if any(is_below(path, root) for path in asked)}
    answers, hung = _ask([*sorted(inside), *asked] if asked else [], view, limits)
    result = Presence()
    for path in wanted:
        rest = f"the limit of {limits.files} files was reached" if path.startswith("/") else "not an absolute path"
        code = answers.get(path, f"u {hung or rest}")
        root = max((root for root in inside if is_below(path, root)), key=len, default="")
        if code == "a" and root and answers.get(root) != "p":
            code = answers.get(root, "a")
            code = f"u {NO_ROOT}" if code == "a" else code
        result.state[path] = {"p": PRESENT, "a": ABSENT}.get(code, UNKNOWN)
        if result.state[path] == UNKNOWN:
            result.why[path] = code[2:] or "no reason was given"
    return result


def pack(paths: Iterable[str]) -> str:
    """Return paths as a short ASCII text."""
    joined = b"\0".join(os.fsencode(path) for path in paths)
    return base64.b64encode(zlib.compress(joined, 9)).decode("ascii") if joined else ""


def unpack(text: str) -> list[str]:
    """Return the paths of a text made by `pack`.

    :raises PlexDatabaseError: the text is damaged.
    """
    if not text:
        return []
    try:
        joined = zlib.decompress(base64.b64decode(text, validate=True))
    except (ValueError, zlib.error) as error:
        raise PlexDatabaseError(f"The list of paths is damaged: {error}. Make the plan again.") from error
    return [os.fsdecode(path) for path in joined.split(b"\0")]


def shown(path: str) -> str:
    """Return a path for messages and JSON, with bytes that are not UTF-8 as escapes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _ask(paths: list[str], view: View, limits: Limits) -> tuple[dict[str, str], str]:
    """Return one code per path with an answer, and why the rest has none."""
    answers: dict[str, str] = {}
    end = time.monotonic() + limits.total_seconds
    left = paths
    while left:
        if time.monotonic() >= end:
            return answers, NO_TIME
        codes, problem = _round(left, view, limits.folder_seconds, end)
        answers.update(zip(left, codes, strict=False))
        left = left[len(codes) :]
        if problem == HANGS and left:
            # Files below a folder that hangs would hang, too.
            folder = left[0].rpartition("/")[0] + "/"
            answers.update({path: f"u {HANGS}" for path in left if path.startswith(folder)})
            left = [path for path in left if path not in answers]
        elif problem:
            return answers, problem
    return answers, ""


def _round(paths: Sequence[str], view: View, patience: float, end: float) -> tuple[list[str], str]:
    """Read the answers of one process until all are there, it hangs, or it ends."""
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as errors:
        for path in paths:
            given.write(os.fsencode(view.host_path(path)) + b"\0")
        given.seek(0)
        try:
            process = subprocess.Popen(
                view.command("sh", "-c", _START, "sh", _CHECK),
                stdin=given,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
                cwd="/",
                **view.identity(),
            )
        except (OSError, subprocess.SubprocessError) as error:
            return [], f"the check at home could not start: {error}"
        group, problem = 0, ""
        codes: list[str] = []
        try:
            for line in _lines(process, patience, end):
                if group == 0:
                    group = int(line) if line.isdigit() else -1
                else:
                    codes.append(line)
                if len(codes) == len(paths):
                    break
        except TimeoutError as error:
            problem = str(error)
        finally:
            if problem or len(codes) < len(paths):
                _end(process, view, group)
            else:
                process.wait()
            if process.stdout is not None:
                process.stdout.close()
        if not problem and len(codes) < len(paths):
            errors.seek(max(0, errors.seek(0, os.SEEK_END) - 500))
            said = " ".join(errors.read().decode("utf-8", "replace").split()) or "no message"
            problem = f"the check at home failed (exit code {process.returncode}): {said}"
        return codes, problem


def _lines(process: subprocess.Popen[bytes], patience: float, end: float) -> Iterable[str]:
    """Yield lines as they arrive.

    :raises TimeoutError: no line in `patience` seconds (START_SECONDS for the first), or `end` was reached; its text
        says which.
    """
    stream = cast(IO[bytes], process.stdout)  # it is PIPE
    held, wait, late = b"", START_SECONDS, f"the check at home did not start in {START_SECONDS:g} s"
    with selectors.DefaultSelector() as waiting:
        waiting.register(stream, selectors.EVENT_READ)
        while True:
            now = time.monotonic()
            if not waiting.select(max(0.0, min(wait, end - now))):
                raise TimeoutError(late if end - now > wait else NO_TIME)
            wait, late = patience, HANGS
            read = os.read(stream.fileno(), 65536)
            if not read:
                return
            *whole, held = (held + read).split(b"\n")
            for line in whole:
                yield line.decode("utf-8", "backslashreplace")


def _end(process: subprocess.Popen[bytes], view: View, group: int) -> None:
    """Kill the process and its children; killing `docker exec` alone leaves its command running."""
    if view.container and group > 0:
        command = view.command("sh", "-c", f"kill -9 -{group} 2>/dev/null || kill -9 {group}")
        # The result does not matter; the next lines kill the local process.
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    # A process that hangs in a dead mount ends only when the mount answers or is removed.
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(5)


def _groups(uid: int, gid: int) -> list[int]:
    import pwd  # noqa: PLC0415 - only where a user can be changed to

    try:
        return os.getgrouplist(pwd.getpwuid(uid).pw_name, gid)
    except KeyError:
        return [gid]


def owner_of(path: Path) -> tuple[int, int]:
    """Return uid and gid of a file, for example Plex's database."""
    found = path.stat()
    return found.st_uid, found.st_gid
