# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""Action plugin of run_record: record values of the run's summary as soon as they are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.plexburst.core.plugins.module_utils.run.folder import RunFolder, RunFolderError
from ansible_collections.plexburst.core.plugins.module_utils.run.summary import record_problems


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible has no types
    """Works on the controller only; in check mode it writes to the temporary folder of run_begin."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_async = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Merge the value into state.json."""
        super().run(tmp, task_vars)
        _spec, arguments = self.validate_argument_spec(
            argument_spec={
                "key": {
                    "type": "str",
                    "required": True,
                    "no_log": False,
                    "choices": ["cloud", "cost", "home", "leftovers", "partial", "plan", "sections", "sonic"],
                },
                "value": {"type": "raw", "required": True},
                "replace": {"type": "bool", "default": False},
                "run_dir": {"type": "path"},
            }
        )
        key, value = arguments["key"], arguments["value"]
        if key == "leftovers":
            key, value = "cloud", {"leftovers": value}
        problems = record_problems(key, value)
        if problems:
            return {"failed": True, "changed": False, "msg": f"This cannot be recorded as {key}: {'; '.join(problems)}"}
        run_dir = arguments["run_dir"] or (task_vars or {}).get("run_dir")
        if not run_dir:
            return {"failed": True, "changed": False, "msg": "There is no run: run_begin has not made a run folder."}
        try:
            changed = RunFolder.open(Path(run_dir)).record(key, value, replace=arguments["replace"])
        except RunFolderError as error:
            return {"failed": True, "changed": False, "msg": str(error)}
        return {"changed": changed, "key": key}
