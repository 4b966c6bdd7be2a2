# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""Action plugin of run_failed: record a rescued failure with cause and next step, so that the run fails."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.plexburst.core.plugins.module_utils.run.advice import advice_for
from ansible_collections.plexburst.core.plugins.module_utils.run.failures import failure_message, plain_task_name
from ansible_collections.plexburst.core.plugins.module_utils.run.folder import RunFolder, RunFolderError
from ansible_collections.plexburst.core.plugins.module_utils.run.masking import Masker, secrets_of

display = Display()


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible has no types
    """Works on the controller only; inside a rescue it needs no argument at all."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_async = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Append the failure to the run's events and set the fact run_ok to false."""
        super().run(tmp, task_vars)
        text = {"type": "str"}
        _spec, arguments = self.validate_argument_spec(
            argument_spec={
                "result": {"type": "dict", "default": {}},
                "phase": text,
                "host": text,
                "task": text,
                "reason": text,
                "advice": text,
                "run_dir": {"type": "path"},
            }
        )
        variables = task_vars or {}
        failed_task = variables.get("ansible_failed_task") or {}
        failed_result = arguments["result"] or variables.get("ansible_failed_result") or {}
        message = arguments["reason"] or (failure_message(failed_result) if failed_result else "")
        if not message:
            return {"failed": True, "changed": False, "msg": "Outside a rescue, run_failed needs the option reason."}
        try:
            masker = Masker(secrets_of(variables.get("run_settings") or {}, os.environ))
        except (OSError, ValueError) as error:
            # Recording the failure is more important; secrets of an unreadable file cannot have been shown either.
            masker = Masker()
            display.warning(f"Some secrets of this run cannot be masked in its events: {error}")
        failure = {
            "phase": arguments["phase"] or str(self._templar.template(variables.get("plexburst_phase") or "run")),
            "host": arguments["host"] or str(variables.get("inventory_hostname", "localhost")),
            "task": plain_task_name(arguments["task"] or str(failed_task.get("name") or "unnamed task")),
            "message": masker.text(message),
            "advice": masker.text(arguments["advice"] or str(failed_result.get("advice") or advice_for(message))),
        }
        run_dir = arguments["run_dir"] or variables.get("run_dir")
        if not run_dir:
            return {
                "failed": True,
                "changed": False,
                "msg": f"{failure['message']} (There is not a run folder to record it in.)",
            }
        try:
            RunFolder.open(Path(run_dir)).append_event("failure", **failure)
        except RunFolderError as error:
            return {"failed": True, "changed": False, "msg": str(error)}
        return {"changed": True, "failure": failure, "ansible_facts": {"run_ok": False}}
