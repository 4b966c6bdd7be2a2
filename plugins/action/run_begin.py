# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""Action plugin of run_begin: create the run id, folder and lock."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.plexburst.core.plugins.module_utils.run.folder import (
    RunFolder,
    RunFolderError,
    acquire_lock,
    check_run_id,
    new_run_id,
    release_lock,
    run_group,
)


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible has no types
    """Works on the controller only; in check mode the folder is a temporary one that the callback removes."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_async = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return run_id, run_dir and run_group as facts."""
        super().run(tmp, task_vars)
        _spec, arguments = self.validate_argument_spec(
            argument_spec={
                "runs_dir": {"type": "path", "required": True},
                "run_id": {"type": "str"},
                "existing": {"type": "bool", "default": False},
                "lock": {"type": "bool", "default": True},
            }
        )
        runs_dir = Path(arguments["runs_dir"])
        run_id = arguments["run_id"] or new_run_id()
        if arguments["existing"] and not arguments["run_id"]:
            return {"failed": True, "msg": "existing needs run_id. Set it to the run to continue."}
        check = bool(self._task.check_mode)
        try:
            check_run_id(run_id)
            if check:
                folder = RunFolder.create_temporary(run_id)
            else:
                folder = self._begin(runs_dir, run_id, existing=arguments["existing"], lock=arguments["lock"])
        except RunFolderError as error:
            return {"failed": True, "changed": False, "msg": str(error)}
        facts = {"run_id": run_id, "run_dir": str(folder.path), "run_group": run_group(run_id), "run_ok": True}
        return {
            "changed": not arguments["existing"],
            "temporary": check,
            "locked": bool(arguments["lock"] and not check),
            "runs_dir": str(runs_dir),
            **facts,
            "ansible_facts": facts,
        }

    def _begin(self, runs_dir: Path, run_id: str, *, existing: bool, lock: bool) -> RunFolder:
        if lock:
            # The lock belongs to ansible-playbook, which outlives this worker process.
            acquire_lock(runs_dir, run_id, os.getppid())
        try:
            return RunFolder.open(runs_dir / run_id) if existing else RunFolder.create(runs_dir, run_id)
        except RunFolderError:
            if lock:
                release_lock(runs_dir, run_id)
            raise
