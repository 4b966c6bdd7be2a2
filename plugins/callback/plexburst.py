# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""Record a run: phases, failures, console, summary and report. Print its progress.

A callback runs in ansible-playbook's main process, so it also sees what tasks cannot report: a host that became
unreachable, a play without hosts.
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
  - Is active only for playbooks that have a play with the variable C(plexburst_phase).
  - Refuses C(--limit), C(--tags), C(--skip-tags) and C(--start-at-task) for such a playbook, because they would skip
    its checks and the release of the instance, and end with exit code 0.
  - Writes C(events.jsonl), C(logs/console.log), C(summary.json) and C(report.html) of the run folder that
    M(plexburst.core.run_begin) made; all with mode 0600 and with secrets masked.
  - In check mode the run folder is a temporary one, which is removed at the end.
  - Without C(-v), C(--diff) and C(--step), and unless a stdout callback was chosen, the default output goes to
    C(logs/console.log) only. What is shown instead are the phases with their times, progress (in place on a
    terminal, line by line elsewhere), messages of M(ansible.builtin.debug) tasks, warnings, and every failure.
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
from ansible_collections.plexburst.core.plugins.module_utils.run.advice import advice_for
from ansible_collections.plexburst.core.plugins.module_utils.run.failures import failure_message, plain_task_name
from ansible_collections.plexburst.core.plugins.module_utils.run.folder import (
    RunFolder,
    RunFolderError,
    release_lock,
    utc_now,
    write_private,
)
from ansible_collections.plexburst.core.plugins.module_utils.run.masking import Masker, secrets_of
from ansible_collections.plexburst.core.plugins.module_utils.run.report import render_report
from ansible_collections.plexburst.core.plugins.module_utils.run.summary import compose, schema_problems, this_time
from ansible_collections.plexburst.core.plugins.plugin_utils.console import Console, Narrator, default_output

BAD_OPTIONS = 5
"""ansible-playbook's exit code for invalid options."""

_GATHERING = frozenset({"gather_facts", "ansible.builtin.gather_facts", "setup", "ansible.builtin.setup"})
_DEBUG = frozenset({"debug", "ansible.builtin.debug"})


def _is_action(action: str, name: str) -> bool:
    return action in (name, f"plexburst.core.{name}")


class Phase:
    """The current phase; ``ran`` is true once a task was executed in it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.started_at = utc_now()
        self._clock = time.monotonic()
        self.ran = False
        self.failed = False

    def ended(self) -> dict[str, Any]:
        """Return the fields of the phase's event."""
        status = "failed" if self.failed else "succeeded" if self.ran else "skipped"
        return {
            "phase": self.name,
            "status": status,
            "started_at": self.started_at,
            "seconds": round(time.monotonic() - self._clock, 3),
        }


class CallbackModule(CallbackBase):  # type: ignore[misc]  # ansible has no types
    """The recorder; inactive until a plexburst playbook starts."""

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
        self._told = False
        self._masker = Masker()
        self._console = Console(self._masker)
        self._narrator = Narrator(self._console)

    # Called by Ansible ------------------------------------------------------------------------------------

    def v2_playbook_on_start(self, playbook: Any) -> None:
        """Start recording for a plexburst playbook; refuse options that would run only a part of it."""
        self._ours = any("plexburst_phase" in play.get_vars() for play in playbook.get_plays())
        if not self._ours:
            return
        self._playbook = Path(str(playbook._file_name)).stem
        self._refuse_parts()
        self._started_at = utc_now()
        self._told = False
        self._console.start()
        asked_for_more = self._display.verbosity > 0 or context.CLIARGS.get("diff") or context.CLIARGS.get("step")
        output = None if asked_for_more else default_output()
        if output is not None:
            self._console.quieten(output)

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """Begin the play's phase; consecutive plays with the same phase are one phase."""
        if not self._ours:
            return
        name = play.get_vars().get("plexburst_phase")
        if self._phase is not None and self._phase.name == name:
            return
        self._end_phase()
        if name:
            self._phase = Phase(str(name))
            self._event("phase_started", phase=self._phase.name)
            self._narrator.phase(self._phase.name, play.get_name())

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """Show the task's name on a terminal."""
        if self._ours:
            self._narrator.task(task.get_name())

    def v2_playbook_on_handler_task_start(self, task: Any) -> None:
        """Show the handler's name on a terminal."""
        if self._ours:
            self._narrator.task(task.get_name())

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        """Show the phase's header when its first task runs."""
        if self._ours and str(task.action) not in _GATHERING:
            self._narrator.begin()

    def v2_runner_item_on_ok(self, result: Any) -> None:
        """Print the message of a `debug` task in a loop."""
        if self._ours and str(result.task.action) in _DEBUG:
            self._narrator.debug(result.result)

    def v2_playbook_on_no_hosts_remaining(self) -> None:
        """Print that all hosts of a play have failed."""
        if self._ours:
            self._narrator.no_host_left()

    def v2_runner_on_ok(self, result: Any) -> None:
        """Record that a task ran; run_begin and plexburst_settings return the run folder and the secrets to mask."""
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
        elif _is_action(action, "run_result"):
            self._told = True
        elif action in _DEBUG and not result.task.loop:
            self._narrator.debug(result.result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """Record a failure without a rescue; run_failed records a rescued failure, within the rescue."""
        if not self._ours:
            return
        self._ran()
        if _is_action(str(result.task.action), "run_result") and result.result.get("failure"):
            self._told = True  # in our own lines
            return
        message = failure_message(result.result)
        rescued = _is_rescued(result.task)
        self._narrator.failure(
            result,
            title="Failed (ignored)" if ignore_errors else "Failed (being dealt with)" if rescued else "FAILED",
            advice="" if ignore_errors else _advice(result, message),
            ignored=ignore_errors,
        )
        if not (ignore_errors or rescued):
            self._fail(result, message)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """Record a lost host, because no rescue or later task of that host will run."""
        if not self._ours:
            return
        self._ran()
        message = f"The host {result.host.get_name()} is unreachable: {failure_message(result.result)}"
        self._narrator.failure(result, title="UNREACHABLE", advice=_advice(result, message))
        self._fail(result, message)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """Write summary and report, and release the lock."""
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

    # Internal ---------------------------------------------------------------------------------------------

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
            f"{' and '.join(parts)} would skip checks of {self._playbook}.yml and the release of the instance, "
            "so it was not started. Run the whole playbook; select work with settings, such as -e "
            "plexburst_sections=Music or -e plexburst_skip_sonic=true.",
            wrap_text=False,
        )
        sys.exit(BAD_OPTIONS)

    def _begin(self, result: Mapping[str, Any]) -> None:
        self._folder = RunFolder.open(Path(result["run_dir"]))
        self._run_id = str(result["run_id"])
        self._runs_dir = Path(result["runs_dir"])
        self._temporary = bool(result.get("temporary"))
        # Events get the time at which they are appended, but the run began with the playbook.
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
            self._display.warning(f"Some secrets of this run cannot be masked in its logs: {error}")

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
            advice=_advice(result, message),
        )

    def _end_phase(self) -> None:
        if self._phase is not None:
            ended = self._phase.ended()
            self._event("phase_ended", **ended)
            if not self._told:
                self._narrator.phase_ended(ended["status"], ended["seconds"])
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
        folder.keep_private()
        self._event("run_ended", status=summary["status"])
        failure = summary["failure"]
        told = any(event["event"] == "result_checked" for event in this_time(events))
        if told and self._console.quiet:
            return
        if failure and not told:
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
        return ["it was not checked, because the Python package jsonschema is missing on the controller"]


def _json(summary: Mapping[str, Any]) -> str:
    return json.dumps(summary, indent=1, ensure_ascii=False) + "\n"


def _advice(result: Any, message: str) -> str:
    return str(result.result.get("advice") or advice_for(message))


def _is_rescued(task: Any) -> bool:
    """Return whether the task is in the `block` part of a block with a `rescue`, at any depth.

    Roles and includes in between do not matter.
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
