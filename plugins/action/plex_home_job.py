# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""Action of plex_home_job: starts the job at home, then queries its state by short module calls until it has ended.

The job does not depend on this process: a lost connection only delays the queries.
"""

from __future__ import annotations

import time
import uuid
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.plexburst.core.plugins.plugin_utils import connection_files

MODULE = "plexburst.core.plex_home_job"
STEPS = {
    "begin": "about to stop Plex",
    "stop": "stopping Plex",
    "swap": "merging the last changes and swapping the pair",
    "recover": "completing or reverting an interrupted swap",
    "undo": "restoring the old pair",
    "start": "starting Plex and waiting until it is ready",
    "verify": "verifying the database",
    "end": "done",
}
LOOK_SECONDS = 1.0
AGAIN_SECONDS = 3.0
SETTLES = 2


class OutOfReach(Exception):
    """Home was unreachable for longer than the patience; the argument is the last error."""


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible has no types
    """plexburst.core.plex_home_job"""

    _supports_async = False  # it prints progress while it waits
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Start or find the job and wait until it has ended."""
        super().run(tmp, task_vars)
        self._vars = task_vars or {}
        arguments = self._task.args
        state = str(arguments.get("state", "finished"))
        self._patience = float(arguments.get("patience", 600))
        self._host = str(self._vars.get("inventory_hostname", "home"))
        try:
            if state == "absent":
                return self._call("alone")
            if state == "recovered":
                return self._recovered()
            if self._task.check_mode:
                return {"changed": True, "found": "none", "said": ""}
            return self._finished()
        except OutOfReach as lost:
            return {
                "unreachable": True,
                "changed": True,
                "msg": f"Home was unreachable for {self._patience:.0f} s ({lost}). The job at home continues without "
                "the controller and starts Plex.",
                "advice": "Run the playbook again when home is reachable; it reports the result.",
            }

    def _finished(self) -> dict[str, Any]:
        job_id = uuid.uuid4().hex
        seen = self._wait(self._call("start", job_id=job_id))
        if seen.get("failed"):
            return seen
        if seen["found"] == "died":
            seen = self._settled(seen)
        if seen.get("failed") or seen.get("job_id") != job_id:
            words = "Its record is missing or belongs to another job, because another playbook works on this home"
            return {**seen, "failed": True, "msg": seen.get("msg") or f"The job at home cannot be followed. {words}."}
        if not seen["result"]["done"]:
            reason = str(seen["result"]["reason"]).rstrip(".")
            return {**seen, "failed": True, "changed": True, "msg": f"{reason}."}
        return {**seen, "changed": True}

    def _recovered(self) -> dict[str, Any]:
        seen = self._call("look")
        if seen.get("failed") or seen["found"] == "none":
            return seen
        found, step, about = seen["found"], seen["step"], f"The {seen['what']} of run {seen['run_id']}"
        if found == "running":
            head = f"{about} was running at home (step {step})"
            if self._task.check_mode:
                return {**seen, "said": f"{head}; without --check this run would wait for it."}
            Display().display(f"[{self._host}] {about} is running at home: waiting for it")
            seen = self._wait(seen)
            head = f"{head} and has ended"
        elif found == "died":
            head = f"{about} was interrupted at home in the step {step} ({seen['step_at']})"
            if self._task.check_mode:
                return {**seen, "said": f"{head}; without --check this run would finish or revert it and start Plex."}
        else:
            head = f"{about} had ended at home without its controller"
        if not seen.get("failed") and seen["found"] == "died":
            seen = self._settled(seen)
            head = f"{head} and is now settled"
        if seen.get("failed"):
            return seen
        if seen["found"] == "none":
            return {**seen, "said": f"{head}; another playbook has recovered it."}
        return {**seen, "changed": found != "ended", "found": found, "said": f"{head}: {seen['said'].rstrip('.')}."}

    def _settled(self, seen: dict[str, Any]) -> dict[str, Any]:
        for _ in range(SETTLES):
            Display().display(
                f"[{self._host}] The {seen['what']} of run {seen['run_id']} was interrupted: recovering it"
            )
            seen = self._wait(self._call("settle"))
            if seen.get("failed") or seen["found"] != "died":
                return seen
        return {
            **seen,
            "failed": True,
            "msg": f"The {seen['what']} of run {seen['run_id']} could not be recovered at home. The process was killed "
            f"{SETTLES} times in the step {seen['step']}. The end of its log: {seen.get('log', '')}",
            "advice": "Find out what kills processes at home (out of memory, a service manager), then run the "
            "playbook again.",
        }

    def _wait(self, seen: dict[str, Any]) -> dict[str, Any]:
        step = ""
        while not seen.get("failed") and seen["found"] == "running":
            if seen["step"] != step:
                step = seen["step"]
                Display().display(f"[{self._host}] {seen['what']}: {STEPS.get(step, step)}")
            time.sleep(LOOK_SECONDS)
            seen = self._call("look")
        return seen

    def _call(self, step: str, **more: Any) -> dict[str, Any]:
        """Return the result of one module call; repeated while home is unreachable."""
        since = 0.0
        while True:
            try:
                found = self._execute_module(
                    module_name=MODULE,
                    module_args={**self._task.args, **more, "step": step},
                    task_vars=self._vars,
                )
            except AnsibleConnectionFailure as error:
                found = {"unreachable": True, "msg": str(error)}
            if not found.get("unreachable"):
                return dict(found)
            connection_files.reconnect(self._connection)
            words = (str(found.get("msg", "")).splitlines() or ["no message"])[0][:200]
            if not since:
                since = time.monotonic()
                Display().display(f"[{self._host}] home is unreachable ({words}); the job there continues")
            if time.monotonic() - since >= self._patience:
                raise OutOfReach(words)
            time.sleep(AGAIN_SECONDS)
