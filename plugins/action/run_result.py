# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""Action plugin of run_result: the last play's only task, which fails the playbook if the run failed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.plexburst.core.plugins.module_utils.run.folder import RunFolder, RunFolderError, utc_now
from ansible_collections.plexburst.core.plugins.module_utils.run.summary import compose, headline, judge

display = Display()


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible has no types
    """Works on the controller only and changes nothing but the run's own events."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_async = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Show the result of the run; fail with the recorded failure, its next step and the report's path."""
        super().run(tmp, task_vars)
        _spec, arguments = self.validate_argument_spec(argument_spec={"run_dir": {"type": "path"}})
        run_dir = arguments["run_dir"] or (task_vars or {}).get("run_dir")
        if not run_dir:
            return {
                "failed": True,
                "changed": False,
                "msg": (
                    "The run was not started, so nothing was done. Run the whole playbook, without --limit, --tags "
                    "and --start-at-task."
                ),
            }
        try:
            folder = RunFolder.open(Path(run_dir))
            events, state = folder.events(), folder.state()
            if not any(event["event"] == "run_started" for event in events):
                return {
                    "failed": True,
                    "changed": False,
                    "msg": (
                        "The callback plugin plexburst is not active, so failures were not recorded and the "
                        "result is unknown. Put it into callback_plugins/ next to the playbook."
                    ),
                }
            folder.append_event("result_checked")
        except RunFolderError as error:
            return {"failed": True, "changed": False, "msg": str(error)}
        status, failure = judge(events, state, finished=True)
        report = "none, check mode leaves nothing" if self._task.check_mode else str(folder.path / "report.html")
        summary = compose(folder.run_id, [*events, {"event": "result_checked"}], state, utc_now())
        for line in headline(summary, report):
            display.display(line)
        result: dict[str, Any] = {"changed": False, "status": status, "failure": failure, "report": report}
        if failure is not None:
            result.update(
                failed=True,
                msg=f"{failure['message']}\nNext: {failure['advice']}\nReport: {report}",
                advice=failure["advice"],
            )
        return result
