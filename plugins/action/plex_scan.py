# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""Watch plex_scan to its end; the loop is in plugins/plugin_utils/watched_action.py, the options in
library/plex_scan.py."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean
from ansible.utils.display import Display
from ansible_collections.plexburst.core.plugins.module_utils.plex.observe.sample import Sample
from ansible_collections.plexburst.core.plugins.module_utils.plex.watch import profiles, verdict, watcher
from ansible_collections.plexburst.core.plugins.plugin_utils.watched_action import WatchedAction

SHOWN = 200


class ActionModule(WatchedAction):
    """plexburst.core.plex_scan"""

    MODULE = "plexburst.core.plex_scan"
    _there = ""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Read the expected files before the scan starts."""
        try:
            self._expected = self._read_expected()
        except (OSError, TypeError, ValueError) as error:
            return {
                "failed": True,
                "msg": f"expected_file {self._task.args['expected_file']} cannot be used: {error}. Expected the audit "
                "of plex_db_path_audit, or a JSON object of lists of files by title or id of the library.",
            }
        return super().run(tmp, task_vars)

    def _read_expected(self) -> dict[str, list[str]]:
        """Return the files by title and by id of their library."""
        path = self._task.args.get("expected_file")
        if not path:
            return {}
        held = json.loads(Path(str(path)).expanduser().read_text(encoding="utf-8"))
        if not isinstance(held, dict):
            raise TypeError(f"it contains a {type(held).__name__}")
        if not isinstance(held.get("sections"), list):
            return {str(key): [str(name) for name in files] for key, files in held.items()}
        found: dict[str, list[str]] = {}
        for section in held["sections"]:
            found[str(section["id"])] = found[str(section["title"])] = section["new"]
        return found

    def _arguments(self, step: str) -> dict[str, Any]:
        """Return the module's arguments, with the file's path on its machine for the steps that read it."""
        args = {key: value for key, value in super()._arguments(step).items() if key != "expected_file"}
        return {**args, "expected_file": self._there} if step in ("missing", "paths") else args

    def _follow(
        self,
        plan: dict[str, Any],
        profile: profiles.Profile,
        result: dict[str, Any],
        outcome: watcher.Outcome,
        recent: list[Sample],
    ) -> tuple[watcher.Outcome, list[Sample]]:
        """Scan missing files by path, then with force; a step that cannot start is reported as its failure."""
        section = result["section"]
        files = self._expected.get(str(section["id"])) or self._expected.get(section["title"])
        repeated = bool(self._task.args.get("since"))
        if not (files or repeated) or outcome.verdict.state != verdict.COMPLETE:
            return outcome, recent
        self._bring(files or [])
        found = self._module("missing")
        told: dict[str, Any] = {"expected": found.get("wanted", len(files or []))}
        for step, name in (("", "after_scan"), ("paths", "after_paths"), ("force", "after_force")):
            if step == "force" and not boolean(self._task.args.get("force_missing", True), strict=False):
                break
            if step:
                later, recent, problem = self._more(step, plan, profile, recent, len(found["missing"]))
                if later is not None and later.verdict.state in (verdict.UNHEALTHY, verdict.TIMED_OUT):
                    outcome, problem = later, self._words(later)
                if problem:
                    told["problem"] = problem
                    break
                found = self._module("missing")
            if found.get("failed"):
                told["problem"] = found.get("msg", "the missing files could not be determined")
                break
            told[name] = len(found["missing"])
            told.setdefault("folders", found["folders"])
            if not found["missing"]:
                break
        left = found.get("missing", [])
        told.update(left=len(left), files=left[:SHOWN])
        told["file"] = self._keep("missing.json", section["title"], {**told, "files": left}) if left else ""
        result["missing"] = told
        if left:
            Display().warning(
                f"{len(left)} of {told['expected']} files of {section['title']} are on the remote but not in the "
                f"library after every scan, the first: {left[0]}. All are in {told['file'] or 'the task result'}; "
                "Plex ignores files that it cannot read or that are not media."
            )
        return outcome, recent

    def _bring(self, files: list[str]) -> None:
        """Copy the list to the module's machine; as an argument it would be returned with every result."""
        shell = self._connection._shell
        if shell.tmpdir is None:
            self._make_tmp_path()
        self._there = shell.join_path(shell.tmpdir, "expected.json")
        self._transfer_data(self._there, json.dumps(files))
        self._fixup_perms2((shell.tmpdir, self._there))

    def _more(
        self, step: str, plan: dict[str, Any], profile: profiles.Profile, recent: list[Sample], missing: int
    ) -> tuple[watcher.Outcome | None, list[Sample], str]:
        """Run and watch one further scan; returns the problem if it could not be started.

        A scan of a few folders may end before it is seen, so missing activity is not a failure; the files are checked.
        """
        how = "by path" if step == "paths" else "with force, because other scans did not find them"
        Display().display(
            f"[{self._task_host()}] scan {plan['title']}: {missing} expected files are missing; scanned {how}"
        )
        started = self._module(step)
        if started.get("failed") or "watch" not in started:
            return None, recent, str(started.get("msg", f"the scan {how} could not be started"))
        patient = profile
        if step == "force":
            patient = profiles.resolve(plan["profile"], "refresh", plan["section_type"], plan["profile_overrides"])
        patient = replace(patient, restarts=0, start_within=min(patient.start_within, 60.0))
        return *self._watch(started["watch"], patient, []), ""
