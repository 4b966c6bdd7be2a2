# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""The console of ansible-playbook's main process: recorded in console.log, and shortened on the screen.

Ansible selects the stdout callback by configuration only, and our playbooks must work without configuration. So the
default callback stays, but during our playbooks its lines go to the logs only, and the callback plugin plexburst
prints phases, progress and failures.
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
from ansible_collections.plexburst.core.plugins.module_utils.plex.watch import progress
from ansible_collections.plexburst.core.plugins.module_utils.run.folder import RunFolder
from ansible_collections.plexburst.core.plugins.module_utils.run.masking import Masker

from . import live_line


def default_output() -> Any:
    """Return the default stdout callback if its output may be hidden, else None.

    None in ansible-runner and AWX (their callback makes the job events), when the user has chosen a callback, and when
    it is not found; then nothing is hidden. Must be called from a callback: Ansible does not pass its
    TaskQueueManager, so it is looked up on the stack.
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
    """Replaces Display for the default stdout callback: its output goes to Ansible's log and to console.log only.

    Warnings of tasks still go to the screen. A task's exception does not, because the failure message is printed.
    """

    def __init__(self, display: Any) -> None:
        self._display = display

    def __getattr__(self, name: str) -> Any:
        return getattr(self._display, name)

    def display(self, msg: str, color: str | None = None, screen_only: bool = False, **more: Any) -> None:
        """Like Display.display, without the screen."""
        if not screen_only:
            self._display.display(msg, color=color, log_only=True, caplevel=more.get("caplevel"))

    def banner(self, msg: str, color: str | None = None, cows: bool = False) -> None:
        """Like Display.banner, but without cowsay, which does not log."""
        del cows
        Display.banner(self, msg, color=color, cows=False)

    def _error(self, error: Any, stderr: bool) -> None:
        Display._error(self, error, stderr=stderr)


class Console:
    """Records everything that Display shows in the main process to console.log.

    Lines of worker processes arrive through Ansible's own queue.
    """

    def __init__(self, masker: Masker) -> None:
        self._masker = masker
        self._folder: RunFolder | None = None
        self._waiting: list[str] = []
        self._pid = os.getpid()
        self._display = Display()
        self._show = self._display.display
        self._quieted: Any = None
        self._live: live_line.LiveLine | None = None

    @property
    def quiet(self) -> bool:
        """Whether the default output is hidden."""
        return self._quieted is not None

    def start(self) -> None:
        """Replace the method ``display`` of this process's Display object."""
        vars(self._display)["display"] = self._tee

    def stop(self) -> None:
        """Restore Display's method and the default output."""
        if self._live is not None:
            self._guarded(self._live.end)
        if self._quieted is not None:
            self._quieted._display = self._display
        self._live = self._quieted = None
        vars(self._display).pop("display", None)

    def quieten(self, output: Any) -> None:
        """Send the lines of the stdout callback ``output`` to the logs only.

        On a terminal, progress lines of the same task now replace each other.
        """
        self._quieted = output
        output._display = LogsOnly(self._display)
        if sys.stdout.isatty() and os.environ.get("TERM", "") not in live_line.NO_TERMINALS:
            self._live = live_line.LiveLine(write=self._put, columns=_columns)

    def write_to(self, folder: RunFolder) -> None:
        """Write to the run's logs/console.log from now on, starting with the lines shown before the folder existed."""
        self._folder = folder
        waiting, self._waiting = self._waiting, []
        for text in waiting:
            self._write(text)

    def say(self, text: str, color: str | None = None, *, log: bool = True) -> None:
        """Show a line; ``log`` is false if the default output has already logged it."""
        self._display.display(text, color=color, screen_only=not log)

    def status(self, text: str) -> None:
        """Show on a terminal what is being done, until the next output."""
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
            # A worker inherits this method by fork; the main process shows and records its lines.
            show(msg)
            return
        if log_only or (live_line.is_noise(msg) and self._display.verbosity == 0):
            show(msg, log_only=True)
        else:
            self._guarded(lambda: self._screen(msg, show))
        # Display calls again for the log, without colours, after a screen-only line.
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
        show(live_line.within_phase(text))
        # Python writes to a pipe in whole blocks; the output of an hour may be less than one block.
        sys.stdout.flush()

    def _put(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    def _guarded(self, action: Callable[[], None]) -> None:
        """Run ``action``; when its output cannot be written any more, continue with the log only.

        A closed pipe or terminal must not end a run that is being paid for.
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
    """Prints phases, tasks and failures of a run while the default output is hidden."""

    def __init__(self, screen: Console) -> None:
        self._screen = screen
        self._header = ""
        self._task = ""

    def phase(self, name: str, play: str) -> None:
        """Begin a phase; its header is shown with its first output."""
        self._header = live_line.header(name, play, time.strftime("%H:%M:%S"))

    def phase_ended(self, status: str, seconds: float) -> None:
        """Print how the phase ended, if its header was shown."""
        if self._screen.quiet and not self._header:
            self._screen.say(live_line.footer(status, seconds), constants.COLOR_ERROR if status == "failed" else None)
        self._header = ""

    def begin(self) -> None:
        """Show the phase's header once."""
        header, self._header = self._header, ""
        if header and self._screen.quiet:
            self._screen.say(header, constants.COLOR_INCLUDED)
            self._screen.status(self._task)

    def task(self, name: str) -> None:
        """Show the task's name."""
        self._task = f"  {live_line.task_words(name)} …"
        if not self._header:
            self._screen.status(self._task)

    def debug(self, result: Mapping[str, Any]) -> None:
        """Print the message of a `debug` task without decoration."""
        for line in live_line.debug_lines(result) if self._screen.quiet else ():
            self._screen.say(f"  {line}", log=False)

    def failure(self, result: Any, *, title: str, advice: str, ignored: bool = False) -> None:
        """Print a task's failure, or that its host is unreachable."""
        if not self._screen.quiet:
            return
        self.begin()
        lines = live_line.failure_lines(
            result.result, title=title, host=result.host.get_name(), task=result.task.get_name(), advice=advice
        )
        color = constants.COLOR_WARN if ignored else constants.COLOR_ERROR
        self._screen.say("\n".join(lines), color, log=False)

    def no_host_left(self) -> None:
        """Print that all hosts of a play have failed."""
        if self._screen.quiet:
            self._screen.say("  All hosts of this phase have failed; it ends here.", constants.COLOR_ERROR, log=False)
