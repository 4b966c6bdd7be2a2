"""Check, stop and start home's Plex with the commands from the role plex_server (tasks_from: commands)."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen
from xml.etree import ElementTree

from ..plex_db.errors import PlexDatabaseError
from ..plex_db.pair.pair import holders

COMMAND_SECONDS = 60.0
START_SECONDS = 100.0
"""Seconds for which a failed start is repeated before the old pair is restored."""

LOOK_SECONDS = 10.0
NOT_RUNNING = 3
"""Exit code of the command `running` if Plex does not run."""

OUTPUT_KEPT = 600


class HomeJobError(Exception):
    """A failure; the message has the cause, the finding and the next step."""


class Server:
    """One Plex at home.

    :param commands: {running: argv, stop: [step], start: [step]}. A step is {argv, seconds, when, refuse, because}:
        `when` is `running` or `stopped`, the state before the first step; output that matches the pattern `refuse` is
        a failure with the message `because`.
    :param urls: URLs at which it may answer on home itself.
    :param preferences: its Preferences.xml, which contains the token.
    :param databases: folder of its pair.
    """

    def __init__(
        self,
        commands: Mapping[str, Any],
        urls: Sequence[str],
        preferences: Path,
        databases: Path,
        poll: float = 0.5,
    ) -> None:
        self._commands, self._urls, self._preferences, self._databases = commands, urls, preferences, databases
        self._poll = poll
        self.version = ""
        self.problem = "not checked yet"

    def running(self) -> bool:
        """Return whether it runs; raises HomeJobError if that is unknown."""
        code, output = self._run(self._commands["running"], COMMAND_SECONDS)
        if code not in (0, NOT_RUNNING):
            raise HomeJobError(f"The check whether Plex runs failed (exit code {code}): {output}.")
        return code == 0

    def stop(self) -> None:
        """Stop it and wait until it has ended by itself.

        :raises HomeJobError: it did not end, or was killed.
        """
        self._steps("stop", self.running())

    def serve(self, seconds: float, steady: float = 0.0, patience: float = START_SECONDS) -> None:
        """Start it and wait until it is ready; if it ends in the meantime, start it again.

        :param steady: seconds for which it must stay ready; for a Plex that may still end.
        :param patience: seconds for which a failed start is repeated.
        :raises HomeJobError: it is not ready in `seconds`.
        """
        self._start(patience)
        end = time.monotonic() + seconds
        ready_since = 0.0
        looks = 0
        while True:
            looks += 1
            now = time.monotonic()
            if not self.ready():
                ready_since = 0.0
                if now >= end:
                    raise HomeJobError(
                        f"Plex was started but is not ready after {seconds:.0f} s: {self.problem}. Check its log "
                        "(Plex Media Server.log)."
                    )
                if looks % 10 == 0 and not self.running():
                    self._start(START_SECONDS)
            else:
                ready_since = ready_since or now
                if now - ready_since >= steady:
                    return
            time.sleep(self._poll)

    def ready(self) -> bool:
        """Return whether it answers and lists its libraries; sets `problem` if not, else `version`."""
        if not self._urls:
            return self._opened()
        said = []
        for url in self._urls:
            try:
                identity = json.loads(self._get(f"{url}/identity", ""))
                token = self._token()
                if token:
                    self._get(f"{url}/library/sections", token)
                self.version = str(identity["MediaContainer"]["version"])
            except (OSError, ValueError, KeyError, TypeError) as error:
                said.append(f"{url}: {f'HTTP {error.code}' if isinstance(error, HTTPError) else error}")
            else:
                self.problem = ""
                return True
        self.problem = "; ".join(said)
        return False

    def choose_url(self) -> list[str]:
        """Return the URLs that answer now; none if home cannot reach the container's own network. Then only an open
        database can be checked."""
        found = []
        for url in self._urls:
            with suppress(OSError):
                self._get(f"{url}/identity", "")
                found.append(url)
        return found

    def watch(self, urls: Sequence[str]) -> None:
        """Use these URLs from now on."""
        self._urls = urls

    def _opened(self) -> bool:
        try:
            ready = self.running() and bool(holders(self._databases))
        except (HomeJobError, OSError) as error:
            self.problem = str(error)
            return False
        self.problem = "" if ready else "it has not opened its database"
        return ready

    def _start(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        pause = 1.0
        while True:
            try:
                return self._steps("start", self.running())
            except HomeJobError:
                if time.monotonic() + pause >= end:
                    raise
            time.sleep(pause)
            pause = min(pause * 2, 10.0)

    def _steps(self, name: str, running: bool) -> None:
        now = "running" if running else "stopped"
        for step in self._commands[name]:
            if step.get("when", now) != now:
                continue
            code, output = self._run(step["argv"], float(step.get("seconds", COMMAND_SECONDS)))
            if code != 0:
                raise HomeJobError(f"The {name} of Plex failed: {step['argv'][0]} returned exit code {code}: {output}.")
            if step.get("refuse") and re.search(step["refuse"], output):
                raise HomeJobError(f"{step.get('because', 'Plex did not end by itself')} (found: {output})")

    def _run(self, argv: Sequence[str], seconds: float) -> tuple[int, str]:
        """Return exit code and output of a command; its process group is killed after `seconds`."""
        try:
            process = subprocess.Popen(
                list(argv),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd="/",
            )
        except OSError as error:
            raise HomeJobError(f"{argv[0]} cannot be run: {error}.") from error
        try:
            output, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise HomeJobError(f"{argv[0]} did not end in {seconds:.0f} s and was killed.") from None
        return process.returncode, output.decode("utf-8", "replace").strip()[-OUTPUT_KEPT:] or "no message"

    def _get(self, url: str, token: str) -> bytes:
        headers = {"Accept": "application/json", **({"X-Plex-Token": token} if token else {})}
        # The URLs come from the role and are those of home's Plex.
        with urlopen(Request(url, headers=headers), timeout=LOOK_SECONDS) as answer:  # noqa: S310
            return bytes(answer.read())

    def _token(self) -> str:
        try:
            return ElementTree.parse(self._preferences).getroot().get("PlexOnlineToken", "")  # noqa: S314 - Plex's own
        except FileNotFoundError:
            return ""
        except ElementTree.ParseError as error:
            raise ValueError(f"{self._preferences} cannot be read: {error}") from error


def as_error(error: Exception) -> str:
    """Return an error as a sentence."""
    words = str(error).strip() or type(error).__name__
    known = isinstance(error, (HomeJobError, PlexDatabaseError))
    return words if known else f"{type(error).__name__}: {words}"
