# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""The console of ansible-playbook's main process: kept in console.log, and made quiet for a person.

Ansible lets the stdout callback be chosen by configuration only, and a playbook must do without any. So the default
one stays, but while a playbook of ours runs its lines go to the logs only, and the callback plugin plexburst says what
a person wants to know.
"""

from __future__ import annotations

import errno
import inspect
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from ansible import constants
from ansible.executor.task_queue_manager import TaskQueueManager
from ansible.plugins.callback.default import CallbackModule as DefaultCallback
from ansible.utils.display import Display
from ansible_collections.plexburst.core.plugins.module_utils import console
from ansible_collections.plexburst.core.plugins.module_utils.masking import Masker
from ansible_collections.plexburst.core.plugins.module_utils.plex import progress
from ansible_collections.plexburst.core.plugins.module_utils.run_folder import RunFolder


def default_output() -> Any:
    """The stdout callback that may be made quiet, for a caller that Ansible calls as a callback: the default one, when
    nobody chose it.

    None in ansible-runner and AWX (their own one makes the job events), when the user has chosen one, and when it is
    not found: then nothing is hidden. A callback is not told who calls it, hence the look at the stack.
    """
    if constants.config.get_config_value_and_origin("DEFAULT_STDOUT_CALLBACK")[1] != "default":
        return None
    frame = inspect.currentframe()
    while frame is not None:
        manager = frame.f_locals.get("self")
        if isinstance(manager, TaskQueueManager):
            found = [entry for entry in manager._callback_plugins if type(entry) is DefaultCallback]
            return found[0] if len(found) == 1 else None
        frame = frame.f_back
    return None


class LogsOnly:
    """Stands for Display before the default stdout callback: what it shows goes to Ansible's log and to console.log.

    Warnings of tasks still go to the screen. A task's exception does not: the failure is said in words.
    """

    def __init__(self, display: Any) -> None:
        self._display = display

    def __getattr__(self, name: str) -> Any:
        return getattr(self._display, name)

    def display(self, msg: str, color: str | None = None, screen_only: bool = False, **more: Any) -> None:
        """As Display.display, without the screen."""
        if not screen_only:
            self._display.display(msg, color=color, log_only=True, caplevel=more.get("caplevel"))

    def banner(self, msg: str, color: str | None = None, cows: bool = False) -> None:
        """As Display.banner; never by cowsay, which has no logs."""
        del cows
        Display.banner(self, msg, color=color, cows=False)

    def _error(self, error: Any, stderr: bool) -> None:
        Display._error(self, error, stderr=stderr)


class Console:
    """Everything that Display shows in the main process, kept for console.log; workers' lines arrive here through
    Ansible's own queue.
    """

    def __init__(self, masker: Masker) -> None:
        self._masker = masker
        self._folder: RunFolder | None = None
        self._waiting: list[str] = []
        self._pid = os.getpid()
        self._display = Display()
        self._show = self._display.display
        self._quieted: Any = None
        self._live: console.LiveLine | None = None

    @property
    def quiet(self) -> bool:
        """Whether the default output is hidden, so that somebody else has to say what happens."""
        return self._quieted is not None

    def start(self) -> None:
        """Stand in for Display's method on the one Display object of this process."""
        vars(self._display)["display"] = self._tee

    def stop(self) -> None:
        """Give Display its method, and the default output its voice back."""
        if self._live is not None:
            self._guarded(self._live.end)
        if self._quieted is not None:
            self._quieted._display = self._display
        self._live = self._quieted = None
        vars(self._display).pop("display", None)

    def quieten(self, output: Any) -> None:
        """Let what the stdout callback ``output`` shows go to the logs only. On a terminal, lines of the same task now
        take each other's place."""
        self._quieted = output
        output._display = LogsOnly(self._display)
        if sys.stdout.isatty() and os.environ.get("TERM", "") not in console.NO_TERMINALS:
            self._live = console.LiveLine(write=self._put, columns=_columns)

    def write_to(self, folder: RunFolder) -> None:
        """From now on write to the run's logs/console.log, beginning with what was shown before there was a folder."""
        self._folder = folder
        waiting, self._waiting = self._waiting, []
        for text in waiting:
            self._write(text)

    def say(self, text: str, color: str | None = None, *, log: bool = True) -> None:
        """Show a line; ``log`` is false for what the default output has told the log already."""
        self._display.display(text, color=color, screen_only=not log)

    def status(self, text: str) -> None:
        """Show on a terminal what is being done, until anything else is shown."""
        live = self._live
        if live is not None:
            self._guarded(lambda: live.status(self._masker.text(text)))

    def _tee(
        self,
        msg: str,
        color: str | None = None,
        stderr: bool = False,
        screen_only: bool = False,
        log_only: bool = False,
        **more: Any,
    ) -> None:
        def show(text: str, **changed: Any) -> None:
            given = {"stderr": stderr, "screen_only": screen_only, "log_only": log_only, **more, **changed}
            self._show(text, color=color, **given)

        if os.getpid() != self._pid:
            # A worker inherits this method by fork; its lines are shown, and written, by the main process.
            show(msg)
            return
        if log_only or (console.is_noise(msg) and self._display.verbosity == 0):
            show(msg, log_only=True)
        else:
            self._guarded(lambda: self._screen(msg, show))
        # What is for the screen only comes once more for the log, without colours.
        if not screen_only:
            self._write(msg if msg.endswith("\n") else msg + "\n")

    def _screen(self, msg: str, show: Callable[..., None]) -> None:
        if not self.quiet:
            show(msg)
            return
        live = self._live
        about = progress.about(msg) if live is not None else None
        text = self._masker.text(msg)
        if live is not None and about is not None:
            live.progress(f"  {progress.without_host(text)}", about)
            show(msg, log_only=True)
            return
        if live is not None:
            live.end()
        show(console.within_phase(text))
        # Into a pipe Python writes whole blocks; an hour of a quiet run is less than one.
        sys.stdout.flush()

    def _put(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    def _guarded(self, action: Callable[[], None]) -> None:
        """Nobody reading any more (a closed pipe, a terminal that is gone) must not end a run that is being paid for:
        from then on there is only the log.
        """
        with self._display._lock:
            try:
                action()
            except OSError as problem:
                if problem.errno not in (errno.EPIPE, errno.EIO):
                    raise
                self._live = None
                nowhere = os.open(os.devnull, os.O_WRONLY)
                for stream in (sys.stdout, sys.stderr):
                    os.dup2(nowhere, stream.fileno())
                os.close(nowhere)

    def _write(self, text: str) -> None:
        if self._folder is None:
            self._waiting.append(text)
        else:
            self._folder.append_line("logs/console.log", self._masker.text(text))


def _columns() -> int:
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or 80
    except OSError:
        return 80


class Narrator:
    """Says what a person wants to know of a run, as long as the default output is hidden."""

    def __init__(self, screen: Console) -> None:
        self._screen = screen
        self._header = ""
        self._task = ""

    def phase(self, name: str, play: str) -> None:
        """A phase begins; its header is shown with the first thing that is done in it."""
        self._header = console.header(name, play, time.strftime("%H:%M:%S"))

    def phase_ended(self, status: str, seconds: float) -> None:
        """Say how the phase ended, if it was seen to begin."""
        if self._screen.quiet and not self._header:
            self._screen.say(console.footer(status, seconds), constants.COLOR_ERROR if status == "failed" else None)
        self._header = ""

    def begin(self) -> None:
        """Show the phase's header, once."""
        header, self._header = self._header, ""
        if header and self._screen.quiet:
            self._screen.say(header, constants.COLOR_INCLUDED)
            self._screen.status(self._task)

    def task(self, name: str) -> None:
        """A task begins."""
        self._task = f"  {console.task_words(name)} …"
        if not self._header:
            self._screen.status(self._task)

    def debug(self, result: Mapping[str, Any]) -> None:
        """What a `debug` task says, without decoration."""
        for line in console.debug_lines(result) if self._screen.quiet else ():
            self._screen.say(f"  {line}", log=False)

    def failure(self, result: Any, *, title: str, advice: str, ignored: bool = False) -> None:
        """A task failed, or its host is unreachable."""
        if not self._screen.quiet:
            return
        self.begin()
        lines = console.failure_lines(
            result.result, title=title, host=result.host.get_name(), task=result.task.get_name(), advice=advice
        )
        color = constants.COLOR_WARN if ignored else constants.COLOR_ERROR
        self._screen.say("\n".join(lines), color, log=False)

    def no_host_left(self) -> None:
        """All hosts of a play have failed."""
        if self._screen.quiet:
            self._screen.say("  No host is left to go on with in this phase.", constants.COLOR_ERROR, log=False)
