# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""Records a run: phases, failures, the console, and at the end its summary and report.

A callback runs in ansible-playbook's main process. It sees what no task can tell: a host that became unreachable, a
play that found no host.
"""

from __future__ import annotations

DOCUMENTATION = """
name: plexburst
type: notification
short_description: Record the phases, failures, console, summary and report of a plexburst run
version_added: 0.1.0
author: plexburst contributors (@plexburst)
description:
  - Is loaded from C(callback_plugins/) next to the playbook; nothing has to be configured.
  - Wakes up only for playbooks that have a play with the variable C(plexburst_phase); others are not touched.
  - Refuses C(--limit), C(--tags), C(--skip-tags) and C(--start-at-task) for such a playbook, because they would skip
    its guards and the release of the instance, and end with exit code 0.
  - Writes C(events.jsonl), C(logs/console.log), C(summary.json) and C(report.html) of the run folder that
    M(plexburst.core.run_begin) made; all with mode 0600 and with secrets masked.
  - In check mode the run folder is a temporary one, which is removed at the end.
"""

import json
import os
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible import context
from ansible.playbook.block import Block
from ansible.plugins.callback import CallbackBase
from ansible.utils.display import Display
from ansible_collections.plexburst.core.plugins.module_utils.advice import advice_for
from ansible_collections.plexburst.core.plugins.module_utils.masking import Masker, secrets_of
from ansible_collections.plexburst.core.plugins.module_utils.run_failures import failure_message, plain_task_name
from ansible_collections.plexburst.core.plugins.module_utils.run_folder import (
    RunFolder,
    RunFolderError,
    release_lock,
    utc_now,
    write_private,
)
from ansible_collections.plexburst.core.plugins.module_utils.run_report import render_report
from ansible_collections.plexburst.core.plugins.module_utils.run_summary import compose, schema_problems

BAD_OPTIONS = 5
"""ansible-playbook's own exit code for options that make no sense."""

_GATHERING = frozenset({"gather_facts", "ansible.builtin.gather_facts", "setup", "ansible.builtin.setup"})


def _is_action(action: str, name: str) -> bool:
    return action in (name, f"plexburst.core.{name}")


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

    def start(self) -> None:
        """Stand in for Display's method on the one Display object of this process."""
        vars(self._display)["display"] = self._tee

    def stop(self) -> None:
        """Give Display its method back."""
        vars(self._display).pop("display", None)

    def write_to(self, folder: RunFolder) -> None:
        """From now on write to the run's logs/console.log, beginning with what was shown before there was a folder."""
        self._folder = folder
        waiting, self._waiting = self._waiting, []
        for text in waiting:
            self._write(text)

    def _tee(
        self,
        msg: str,
        color: str | None = None,
        stderr: bool = False,
        screen_only: bool = False,
        log_only: bool = False,
        **more: Any,
    ) -> None:
        self._show(msg, color=color, stderr=stderr, screen_only=screen_only, log_only=log_only, **more)
        # A worker inherits this method by fork; its lines are shown, and written, by the main process. What is for
        # the screen only comes once more for the log, without colours.
        if os.getpid() == self._pid and not screen_only:
            self._write(msg if msg.endswith("\n") else msg + "\n")

    def _write(self, text: str) -> None:
        if self._folder is None:
            self._waiting.append(text)
        else:
            self._folder.append_line("logs/console.log", self._masker.text(text))


class Phase:
    """The phase that is going on; ``ran`` says that a task did something in it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.started_at = utc_now()
        self._clock = time.monotonic()
        self.ran = False
        self.failed = False

    def ended(self) -> dict[str, Any]:
        """The fields of its event."""
        status = "failed" if self.failed else "succeeded" if self.ran else "skipped"
        return {
            "phase": self.name,
            "status": status,
            "started_at": self.started_at,
            "seconds": round(time.monotonic() - self._clock, 3),
        }


class CallbackModule(CallbackBase):  # type: ignore[misc]  # ansible has no types
    """The recorder; idle until a playbook of ours is seen."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "plexburst"
    CALLBACK_NEEDS_ENABLED = False

    def __init__(self, display: Any = None, options: Any = None) -> None:
        super().__init__(display=display, options=options)
        self._ours = False
        self._playbook = ""
        self._started_at = utc_now()
        self._folder: RunFolder | None = None
        self._run_id = ""
        self._runs_dir: Path | None = None
        self._temporary = False
        self._phase: Phase | None = None
        self._waiting: list[tuple[str, dict[str, Any]]] = []
        self._masker = Masker()
        self._console = Console(self._masker)

    # What Ansible calls -------------------------------------------------------------------------------------

    def v2_playbook_on_start(self, playbook: Any) -> None:
        """Wake up for a playbook of ours, and refuse options that would run only a part of it."""
        self._ours = any("plexburst_phase" in play.get_vars() for play in playbook.get_plays())
        if not self._ours:
            return
        self._playbook = Path(str(playbook._file_name)).stem
        self._refuse_parts()
        self._started_at = utc_now()
        self._console.start()

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """A play may begin a phase; plays that follow each other with the same name are one."""
        if not self._ours:
            return
        name = play.get_vars().get("plexburst_phase")
        if self._phase is not None and self._phase.name == name:
            return
        self._end_phase()
        if name:
            self._phase = Phase(str(name))
            self._event("phase_started", phase=self._phase.name)

    def v2_runner_on_ok(self, result: Any) -> None:
        """Something ran; run_begin and plexburst_settings tell where to write and what to mask."""
        if not self._ours:
            return
        action = str(result.task.action)
        if action in _GATHERING:
            return
        self._ran()
        if _is_action(action, "plexburst_settings"):
            self._learn_secrets(result.result.get("settings") or {})
        elif _is_action(action, "run_begin"):
            self._begin(result.result)
        elif _is_action(action, "run_failed") and self._phase is not None:
            self._phase.failed = True

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """A failure that nobody rescues is recorded here; a rescued one by run_failed, within its rescue."""
        if not self._ours:
            return
        self._ran()
        if ignore_errors or _is_rescued(result.task):
            return
        if _is_action(str(result.task.action), "run_result") and result.result.get("failure"):
            return
        self._fail(result, failure_message(result.result))

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """A lost host: no rescue and no later task of it will ever tell."""
        if not self._ours:
            return
        self._ran()
        message = failure_message(result.result)
        self._fail(result, f"The host {result.host.get_name()} is unreachable: {message}")

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """The end: summary, report, lock."""
        if not self._ours:
            return
        self._end_phase()
        try:
            if self._folder is not None:
                self._finish(self._folder)
        finally:
            self._console.stop()
            if self._runs_dir is not None and not self._temporary:
                release_lock(self._runs_dir, self._run_id)
            if self._temporary and self._folder is not None:
                shutil.rmtree(self._folder.path)

    # What follows from it -----------------------------------------------------------------------------------

    def _refuse_parts(self) -> None:
        given = context.CLIARGS
        parts = [
            option
            for option, used in (
                ("--limit", bool(given.get("subset"))),
                ("--tags", tuple(given.get("tags") or ("all",)) != ("all",)),
                ("--skip-tags", bool(given.get("skip_tags"))),
                ("--start-at-task", bool(given.get("start_at_task"))),
            )
            if used
        ]
        if not parts:
            return
        self._display.error(
            f"{' and '.join(parts)} would skip guards of {self._playbook}.yml and the release of the instance, "
            "so it is refused. Run the playbook whole; choose with settings instead, as in -e "
            "plexburst_sections=Music, -e plexburst_skip_sonic=true.",
            wrap_text=False,
        )
        sys.exit(BAD_OPTIONS)

    def _begin(self, result: Mapping[str, Any]) -> None:
        self._folder = RunFolder.open(Path(result["run_dir"]))
        self._run_id = str(result["run_id"])
        self._runs_dir = Path(result["runs_dir"])
        self._temporary = bool(result.get("temporary"))
        # Events are written with the time at which they are appended; the run began when the playbook did.
        self._folder.append_event(
            "run_started", playbook=self._playbook, check=self._temporary, began_at=self._started_at
        )
        waiting, self._waiting = self._waiting, []
        for event, fields in waiting:
            self._event(event, **fields)
        self._console.write_to(self._folder)

    def _learn_secrets(self, settings: Mapping[str, Any]) -> None:
        try:
            self._masker.add(secrets_of(settings, os.environ))
        except (OSError, ValueError) as error:
            self._display.warning(f"Secrets of this run cannot all be masked in its logs: {error}")

    def _event(self, event: str, **fields: Any) -> None:
        if self._folder is None:
            self._waiting.append((event, fields))
        else:
            self._folder.append_event(event, **self._masker.value(fields))

    def _ran(self) -> None:
        if self._phase is not None:
            self._phase.ran = True

    def _fail(self, result: Any, message: str) -> None:
        if self._phase is not None:
            self._phase.failed = True
        self._event(
            "failure",
            phase=self._phase.name if self._phase else "run",
            host=result.host.get_name(),
            task=plain_task_name(result.task.get_name()),
            message=message,
            advice=str(result.result.get("advice") or advice_for(message)),
        )

    def _end_phase(self) -> None:
        if self._phase is not None:
            self._event("phase_ended", **self._phase.ended())
            self._phase = None

    def _finish(self, folder: RunFolder) -> None:
        ended_at = utc_now()
        try:
            events = folder.events()
            summary = self._masker.value(compose(self._run_id, events, folder.state(), ended_at))
        except RunFolderError as error:
            self._display.error(f"The run's summary cannot be written: {error}")
            return
        problems = _checked(summary)
        if problems:
            self._display.error("summary.json does not fit its schema: " + "; ".join(problems), wrap_text=False)
        if self._temporary:
            return
        write_private(folder.path / "summary.json", _json(summary))
        write_private(folder.path / "report.html", render_report(summary, self._masker.value(events)))
        self._event("run_ended", status=summary["status"])
        failure = summary["failure"]
        if failure and not any(event["event"] == "result_checked" for event in events):
            self._display.display(
                (
                    f"plexburst: {failure['phase']} failed on {failure['host']}: {failure['message']}\nNext: "
                    f"{failure['advice']}"
                ),
                color="red",
            )
        self._display.display(
            f"plexburst: run {self._run_id} {summary['status']}, report: {folder.path / 'report.html'}"
        )


def _checked(summary: Mapping[str, Any]) -> list[str]:
    try:
        return schema_problems(summary)
    except ImportError:
        return ["the Python package jsonschema is missing on the controller, so it could not be checked"]


def _json(summary: Mapping[str, Any]) -> str:
    return json.dumps(summary, indent=1, ensure_ascii=False) + "\n"


def _is_rescued(task: Any) -> bool:
    """Whether the task stands in the `block` part of a block that has a `rescue`, at any depth (roles and includes in
    between too).
    """
    child, parent = task, task._parent
    while parent is not None:
        if isinstance(parent, Block) and parent.rescue and _holds(parent.block, child):
            return True
        child, parent = parent, parent._parent
    return False


def _holds(entries: Any, wanted: Any) -> bool:
    # Copies of a task or block keep its _uuid, not its identity.
    return any(entry is wanted or entry._uuid == wanted._uuid for entry in entries)
