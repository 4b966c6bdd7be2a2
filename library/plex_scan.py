#!/usr/bin/python
# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
from __future__ import annotations

DOCUMENTATION = r"""
module: plex_scan
short_description: Scan one Plex library and watch it to its end
version_added: 0.1.0
author: [plexburst contributors (@plexburst)]
description:
  - Fails unless C(autoEmptyTrash) and C(allowMediaDeletion) read back as off and real files of the library can be
    read, because Plex treats unreadable files as deleted.
  - The action plugin of the same name watches, shows a progress line per sample, and ends with the verdict.
  - Files that are readable but were moved to the trash prove a mount failure, so the module fails.
  - Files of O(expected_file) that are missing in the library afterwards are scanned by path, then with force;
    files that are still missing are listed.
extends_documentation_fragment:
  - plexburst.core.plex
  - plexburst.core.plex.library
  - plexburst.core.plex.scope
  - plexburst.core.plex.watched
  - plexburst.core.plex.attributes
options:
  section:
    description: Title or id of the library.
    type: str
    required: true
  force:
    description: Scan all folders and refresh all metadata. Slow on large libraries.
    type: bool
    default: false
  path:
    description: Only this folder, as Plex sees it.
    type: str
    default: ""
  expected_file:
    description:
      - File on the controller with the files that the library must have afterwards. Either the audit that
        M(plexburst.core.plex_db_path_audit) writes, of which C(new) counts, or a JSON object of lists by title or id.
    type: path
  missing_folders:
    description: Maximum number of folders to which the missing files are grouped for the scans by path.
    type: int
    default: 50
  force_missing:
    description: Scan the whole library with force when files are still missing after the scans by path.
    type: bool
    default: true
  task:
    description: How the scan is watched. V(refresh) is a forced scan, with the time limits of a metadata refresh.
    type: str
    default: scan
    choices: [scan, refresh]
  step:
    description:
      - Internal, set by the action plugin that watches. V(alone) means that the module was reached without its plugin;
        it then fails and starts nothing.
    type: str
    default: alone
    choices: [alone, start, again, cancel, finish, missing, paths, force]
  since:
    description:
      - Unix time on the server's machine. Files that went into the trash after it are checked. The action plugin sets
        it to the beginning of the scan; give the beginning of an earlier scan to have its trash checked too, and what
        it put there although it can be read scanned by path.
    type: float
    default: 0.0
attributes:
  idempotent:
    description: Run again at once, it changes nothing.
    support: partial
    details: A scan that finds nothing new changes no item; it is reported as unchanged.
"""

EXAMPLES = r"""
- name: Scan Music
  plexburst.core.plex_scan:
    base_url: http://127.0.0.1:32400
    preferences_file: "{{ plex_server_preferences }}"
    database_dir: "{{ plex_server_database_dir }}"
    scope: "{{ plex_server_scope }}"
    section: Music
    path_map:
      - path: /Media
        host: /opt/plexburst/media/0
"""

RETURN = r"""
section:
  description: The library.
  returned: success
  type: dict
before:
  description: Counts before the scan.
  returned: success
  type: dict
after:
  description: Counts after it.
  returned: success, not in check mode
  type: dict
trashed:
  description: Files that were moved to the trash during the scan, at most 200.
  returned: success, not in check mode
  type: list
  elements: str
began:
  description: Unix time on the server's machine before the scan was started.
  returned: success
  type: float
missing:
  description: Result for the files of O(expected_file), and of those that an earlier scan moved to the trash.
  returned: when O(expected_file) or O(since) is given and something was started
  type: dict
  sample: {expected: 12, after_scan: 2, folders: [/Media/Movies/Dune], after_paths: 0, after_force: 0, left: 0,
    files: [], file: /srv/runs/latest/missing.json}
at_rest:
  description: Whether no worker of Plex ran any more after a mount failure, so that the mount may be touched.
  returned: when the mount died
  type: bool
probe:
  description: The probe of the mount before the scan.
  returned: success
  type: dict
watched:
  description: State and reason of the verdict, evidence, advice, seconds, samples, automatic steps taken.
  returned: when something was started
  type: dict
"""

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.plexburst.core.plugins.module_utils.plex.api import preferences, sections
from ansible_collections.plexburst.core.plugins.module_utils.plex.errors import PreconditionRefused
from ansible_collections.plexburst.core.plugins.module_utils.plex.module import (
    connection_spec,
    make_client,
    mount_spec,
    probe_section,
    refuse_alone,
    run,
    watch_plan,
    watch_spec,
)
from ansible_collections.plexburst.core.plugins.module_utils.plex.observe import counters, mount_probe
from ansible_collections.plexburst.core.plugins.module_utils.plex.observe.sample import Counters


def start(module: AnsibleModule) -> dict[str, Any]:
    """Check, count and start; in check mode without the start."""
    params = module.params
    return _start(module, [(params["path"], params["force"])], params["task"])


def _start(module: AnsibleModule, requests: list[tuple[str, bool]], task: str) -> dict[str, Any]:
    """Request scans of (path, force), '' = the whole section. Plex runs them one after the other."""
    params = module.params
    client = make_client(params)
    section = sections.find_section(client, params["section"])
    problems = preferences.check_guards(client)
    if problems:
        raise PreconditionRefused(
            f"The scan of {section.title} is refused: {'; '.join(problems)}. With these on, files that "
            "are temporarily unreadable would be deleted permanently. Run the role plex_indexing with tasks_from: "
            "quiet first.",
            problems=problems,
        )
    mount = probe_section(params, section.id)
    if not mount.ok:
        raise PreconditionRefused(
            f"The scan of {section.title} is refused: {mount.problem}. Plex would treat these files as "
            "deleted. Check the mount and path_map.",
            probe=asdict(mount),
            watch=_plan(params, task, section, None),
        )
    before = counters.read(Path(params["database_dir"]), [section.id])
    began = time.time()
    if not module.check_mode:
        for path, forced in requests:
            sections.refresh_section(client, section.id, force=forced, path=path)
    return {
        "changed": module.check_mode,
        "section": asdict(section),
        "before": asdict(before),
        "probe": asdict(mount),
        "began": began,
        "watch": _plan(params, task, section, before),
    }


def _plan(params: dict[str, Any], task: str, section: sections.Section, before: Counters | None) -> dict[str, Any]:
    return watch_plan(
        params,
        task=task,
        title=section.title,
        section_ids=[section.id],
        section_type=section.type,
        before=before,
        scanned_before=section.scanned_at,
        probe_section_id=section.id,
    )


def again(module: AnsibleModule) -> dict[str, Any]:
    """Start again, with the same checks."""
    started = start(module)
    return {"changed": False, "began": started["began"]}


def wanted_files(params: dict[str, Any]) -> list[str]:
    """Return the files of expected_file, which the action plugin copied to this machine."""
    if not params["expected_file"]:
        return []
    held = json.loads(Path(params["expected_file"]).read_text(encoding="utf-8"))
    return [str(name) for name in held]


def wrongly_trashed(params: dict[str, Any], section_id: int, since: float) -> tuple[list[str], list[str]]:
    """What went into the section's trash after `since`, and which of it can be read all the same: both as Plex says."""
    trashed = counters.trashed_files(Path(params["database_dir"]), section_id, since=int(since))
    paths = mount_probe.PathMap.of(params["path_map"])
    on_this_machine = {paths.host(name): name for name in trashed}
    seen = mount_probe.look(list(on_this_machine), [], time_limit=params["probe_timeout"])
    return trashed, [on_this_machine[name] for name in seen.readable()]


def missing(module: AnsibleModule) -> dict[str, Any]:
    """Which expected files the library does not have (outside its trash), and the folders that hold them.

    After an earlier scan (`since`) also what that put into the trash although it can be read now: Plex does not look
    again into a folder whose modification time is the one it knows, so these stay there without a scan by path.
    """
    params = module.params
    section = sections.find_section(make_client(params), params["section"])
    wanted = wanted_files(params)
    if params["since"]:
        wanted = sorted({*wanted, *wrongly_trashed(params, section.id, params["since"])[1]})
    left = sections.absent_files(Path(params["database_dir"]), section.id, wanted)
    return {
        "changed": False,
        "missing": left,
        "wanted": len(wanted),
        "folders": sections.folders_of(left, section.locations, limit=params["missing_folders"]),
    }


def paths(module: AnsibleModule) -> dict[str, Any]:
    """Scan the folders of the missing files by path, with the checks of every scan."""
    left = missing(module)
    return {**left, **_start(module, [(folder, False) for folder in left["folders"]], "scan")}


def force(module: AnsibleModule) -> dict[str, Any]:
    """Scan the whole section with force, with the checks of every scan."""
    return _start(module, [("", True)], "refresh")


def cancel(module: AnsibleModule) -> dict[str, Any]:
    """Cancel the scan and every scheduled task, which may block it or read from a dead mount."""
    client = make_client(module.params)
    section = sections.find_section(client, module.params["section"])
    sections.cancel_refresh(client, section.id)
    sections.stop_butler(client)
    return {"changed": True}


def finish(module: AnsibleModule) -> dict[str, Any]:
    """Return the counts afterwards, and the readable files that were moved to the trash."""
    params = module.params
    client = make_client(params)
    section = sections.find_section(client, params["section"])
    databases = Path(params["database_dir"])
    after = counters.read(databases, [section.id])
    trashed, alive = wrongly_trashed(params, section.id, params["since"])
    mount = probe_section(params, section.id)
    if alive or not mount.ok:
        what = (
            f"{len(alive)} files of {section.title} were moved to the trash but are readable, the first: {alive[0]}"
            if alive
            else f"after the scan of {section.title} {mount.problem}"
        )
        raise PreconditionRefused(
            f"The mount failed during the scan: {what}. This section must not be installed at home. Mount "
            "again and scan again.",
            mount_sick=True,
            section=asdict(section),
            after=asdict(after),
            trashed=trashed,
            trashed_but_readable=alive,
            probe=asdict(mount),
        )
    return {"changed": False, "section": asdict(section), "after": asdict(after), "trashed": trashed}


def work(module: AnsibleModule) -> dict[str, Any]:
    """The step the action plugin asks for."""
    refuse_alone(module.params, "plex_scan")
    steps = {
        "start": start,
        "again": again,
        "cancel": cancel,
        "finish": finish,
        "missing": missing,
        "paths": paths,
        "force": force,
    }
    return steps[module.params["step"]](module)


def main() -> None:
    spec = {
        **connection_spec(),
        **mount_spec(),
        **watch_spec("missing", "paths", "force"),
        "section": {"type": "str", "required": True},
        "force": {"type": "bool", "default": False},
        "path": {"type": "str", "default": ""},
        "expected_file": {"type": "path"},
        "missing_folders": {"type": "int", "default": 50},
        "force_missing": {"type": "bool", "default": True},
        "task": {"type": "str", "default": "scan", "choices": ["scan", "refresh"]},
    }
    run(AnsibleModule(argument_spec=spec, supports_check_mode=True), work)


if __name__ == "__main__":
    main()
