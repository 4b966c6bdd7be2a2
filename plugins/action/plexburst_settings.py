# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""Action plugin of plexburst_settings: check all ``plexburst_*`` variables and return them typed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible_collections.plexburst.core.plugins.module_utils.run.settings import (
    SettingsError,
    base_dir,
    given_names,
    load_spec,
    resolve,
    runs_dir_problem,
)

COLLECTION = Path(__file__).resolve().parents[2]


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible has no types
    """Read the collection's settings.yml and the task's variables; changes nothing."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_async = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return run_settings as a fact, or fail with all problems."""
        super().run(tmp, task_vars)
        _spec, arguments = self.validate_argument_spec(argument_spec={"required": {"type": "list", "elements": "str"}})
        variables = dict(task_vars or {})
        unknown: dict[str, list[str]] = {}
        given: dict[str, Any] = {}
        for name in given_names(variables):
            try:
                given[name] = self._templar.template(variables[name])
            except AnsibleError as error:
                unknown.setdefault(str(error), []).append(name)
        # Many settings may look up one file, as in the sandbox; a missing file is reported once.
        problems = [f"{', '.join(names)} cannot be templated: {error}" for error, names in unknown.items()]
        try:
            settings = resolve(
                load_spec(COLLECTION / "settings.yml"),
                given,
                base=base_dir(variables.get("ansible_inventory_sources") or [], COLLECTION, Path.cwd()),
                required=arguments["required"],
                unresolved=[name for names in unknown.values() for name in names],
            )
            problems += filter(None, [runs_dir_problem(settings["runs_dir"], COLLECTION)])
        except SettingsError as error:
            problems += error.problems
        except OSError as error:
            problems.append(f"settings.yml cannot be read: {error}.")
        if problems:
            count = "One setting is" if len(problems) == 1 else f"{len(problems)} settings are"
            return {
                "failed": True,
                "changed": False,
                "problems": problems,
                "msg": f"{count} invalid:\n" + "\n".join(f"- {problem}" for problem in problems),
                "advice": "Fix them in group_vars or with -e; docs/settings.md describes every setting.",
            }
        return {"changed": False, "settings": settings, "ansible_facts": {"run_settings": settings}}
