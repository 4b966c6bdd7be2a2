# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""Action plugin of plex_wait_idle: observe with short module calls until module_utils/plex/maintenance_window/waiter
allows the stop."""

from __future__ import annotations

import time
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.plexburst.core.plugins.module_utils.plex.maintenance_window import waiter as moment
from ansible_collections.plexburst.core.plugins.module_utils.plex.maintenance_window import window

MODULE = "plexburst.core.plex_wait_idle"
TUNNEL = "plexburst.core.ssh_tunnel"
CONNECTION = ("base_url", "token", "preferences_file", "timeout")
ENDS = ("PlexUnauthorized", "TokenMissing", "LibraryMissing")
"""Errors that a retry cannot fix."""


class Ended(Exception):
    """The waiting cannot succeed any more; the argument is the task's result."""

    def __init__(self, result: dict[str, Any]) -> None:
        super().__init__(str(result.get("msg", "")))
        self.result = result


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible has no types
    """plexburst.core.plex_wait_idle"""

    _supports_async = False  # it shows progress while it waits
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Observe until the server may be stopped."""
        super().run(tmp, task_vars)
        self._vars = task_vars or {}
        _spec, self._given = self.validate_argument_spec(
            argument_spec={
                "base_url": {"type": "str", "required": True},
                "token": {"type": "str", "no_log": True},
                "preferences_file": {"type": "path"},
                "timeout": {"type": "float", "default": 30.0},
                "patience": {"type": "float", "default": 1800.0},
                "window": {"type": "str", "default": ""},
                "utc_offset": {"type": "str", "default": "+0000"},
                "poll": {"type": "float", "default": 20.0},
                "settle": {"type": "float", "default": 60.0},
                "version": {"type": "str", "default": ""},
                "tunnel": {"type": "dict", "default": {}},
                "timeout_advice": {"type": "str", "default": "Try again later, or wait longer."},
                "step": {"type": "str", "choices": ["alone", "look"], "default": "alone"},
            }
        )
        self._last: dict[str, Any] = {}
        host = str(self._vars.get("inventory_hostname", "home"))
        try:
            waiter = moment.Waiter(
                look=self._look,
                emit=lambda line: Display().display(f"[{host}] {line}"),
                clock=time.time,
                sleep=time.sleep,
                patience=self._given["patience"],
                window=window.parse(self._given["window"]),
                offset=window.offset(self._given["utc_offset"]),
                poll=self._given["poll"],
                settle=self._given["settle"],
            )
            if self._task.check_mode:
                self._look()
                return self._result(0.0, 1)
            waited = waiter.wait()
        except ValueError as error:
            return {"failed": True, "changed": False, "msg": f"plex_wait_idle: {error}"}
        except (Ended, moment.NoLook) as ended:
            return ended.result if isinstance(ended, Ended) else self._failed(str(ended))
        except moment.InVain as vain:
            return self._failed(str(vain))
        return self._result(round(waited, 3), waiter.looks)

    def _look(self) -> moment.Seen:
        arguments = {name: self._given[name] for name in CONNECTION if self._given[name] is not None}
        found = self._execute_module(
            module_name=MODULE, module_args={**arguments, "step": "look"}, task_vars=self._vars
        )
        if found.get("failed") or found.get("unreachable"):
            if found.get("error") in ENDS:
                raise Ended({**found, "advice": self._given["timeout_advice"]})
            raise moment.NoLook(self._again(found))
        self._last = found
        wanted = self._given["version"]
        if wanted and found["version"] != wanted:
            raise Ended(
                {
                    "failed": True,
                    "changed": False,
                    "msg": f"Expected home's Plex to be {wanted} as when the snapshot was taken, found "
                    f"{found['version']}. Plex was updated meanwhile, so its database may have another schema. Home "
                    "keeps its database.",
                    "advice": "Run the sync again with the new version.",
                }
            )
        return moment.Seen([entry["words"] for entry in found["busy"]])

    def _again(self, found: dict[str, Any]) -> str:
        """Return why the observation failed; a dead tunnel is opened again at the same port."""
        words = str(found.get("msg", "no message")).splitlines()[0]
        tunnel = self._given["tunnel"]
        if found.get("error") != "PlexUnreachable" or not tunnel:
            return words
        opened = self._execute_module(module_name=TUNNEL, module_args=dict(tunnel), task_vars=self._vars)
        if opened.get("failed"):
            return str(opened.get("msg", words)).splitlines()[0]
        if opened.get("base_url") != self._given["base_url"]:
            raise Ended(
                {
                    "failed": True,
                    "changed": False,
                    "msg": f"The tunnel to home was lost and reopened at {opened.get('base_url')} instead of "
                    f"{self._given['base_url']}, because its port was taken meanwhile. Nothing was stopped or changed.",
                    "advice": self._given["timeout_advice"],
                }
            )
        return "the tunnel to it was lost and is open again" if opened.get("changed") else words

    def _result(self, waited: float, looks: int) -> dict[str, Any]:
        return {
            "changed": False,
            "waited": waited,
            "looks": looks,
            "version": self._last["version"],
            "busy": self._last["busy"],
        }

    def _failed(self, words: str) -> dict[str, Any]:
        return {
            "failed": True,
            "changed": False,
            "msg": f"Home's Plex cannot be stopped now: {words.rstrip('.')}. Nothing was stopped or changed.",
            "advice": self._given["timeout_advice"],
        }
