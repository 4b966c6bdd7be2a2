#!/usr/bin/python
# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
from __future__ import annotations

DOCUMENTATION = r"""
module: plex_analyze
short_description: Analyse the items of one Plex library that need it, and watch it
version_added: 0.1.0
author: [plexburst contributors (@plexburst)]
description:
  - Only items whose media were never analysed by Plex are sent, in batches and never with force.
  - The first bytes of their files are read first, so that a cold cache does not make Plex wait; errors are kept.
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
  ids:
    description: Only these items. Default is all items of the library without analysis.
    type: list
    elements: int
    default: []
  whole_section:
    description: Analyse every item of the library again.
    type: bool
    default: false
  batch:
    description: Items per request.
    type: int
    default: 50
  warm:
    description: Read the first bytes of the items' files first.
    type: bool
    default: true
  warm_files:
    description: Maximum number of files to read first; Plex reads the others itself.
    type: int
    default: 2000
  warm_seconds:
    description: Maximum seconds for reading them.
    type: float
    default: 300.0
  step:
    description:
      - Internal, set by the action plugin that watches. V(alone) means that the module was reached without its plugin;
        it then fails and starts nothing.
    type: str
    default: alone
    choices: [alone, start, again, cancel, finish]
  since:
    description: Internal, set by the action plugin. Unix time at which the task began on the server's machine.
    type: float
    default: 0.0
"""

EXAMPLES = r"""
- name: Analyse the new items in Movies
  plexburst.core.plex_analyze:
    base_url: http://127.0.0.1:32400
    preferences_file: "{{ plex_server_preferences }}"
    database_dir: "{{ plex_server_database_dir }}"
    scope: "{{ plex_server_scope }}"
    section: Movies
"""

RETURN = r"""
section:
  description: The library.
  returned: success
  type: dict
before:
  description: Counts before.
  returned: success
  type: dict
after:
  description: Counts after.
  returned: success, not in check mode
  type: dict
sent:
  description: Number of items that were sent to analysis, or would be.
  returned: success
  type: int
warmed:
  description: Number of files to read first, read, missing, failed, and not reached.
  returned: success
  type: dict
  sample: {files: 12, read: 11, missing: 1, failed: 0, not_reached: 0, seconds: 0.4}
unreadable:
  description: Files that could not be read, with the error, at most 50.
  returned: success
  type: list
  elements: str
left:
  description: Ids of items that still have no analysis, at most 200.
  returned: success, not in check mode
  type: list
  elements: int
watched:
  description: State and reason of the verdict, evidence, advice, seconds, samples, automatic steps taken.
  returned: when something was started
  type: dict
"""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.plexburst.core.plugins.module_utils.plex.api import sections
from ansible_collections.plexburst.core.plugins.module_utils.plex.errors import PreconditionRefused
from ansible_collections.plexburst.core.plugins.module_utils.plex.module import (
    connection_spec,
    make_client,
    mount_spec,
    refuse_alone,
    run,
    watch_plan,
    watch_spec,
)
from ansible_collections.plexburst.core.plugins.module_utils.plex.observe import counters, mount_probe

LEFT = 200
UNREADABLE = 50
NOT_WARMED: dict[str, Any] = {"files": 0, "read": 0, "missing": 0, "failed": 0, "not_reached": 0, "seconds": 0.0}


def warm(params: dict[str, Any], ids: list[int], plan: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Read the first bytes of the items' files through the mount: counts, and what failed with its error
    (docs/plex-facts.md#incidents).

    Bounded in files and seconds: it spares Plex cold reads, it must not become a task of its own.
    Raises PreconditionRefused, with the watching plugin's `plan`, when none of them can be read.
    """
    paths = mount_probe.PathMap.of(params["path_map"])
    every = [paths.host(name) for name in counters.item_files(Path(params["database_dir"]), ids)]
    files = every[: params["warm_files"]]
    seen = mount_probe.look(files, [], time_limit=params["warm_seconds"])
    errors = {name: error for name, error in seen.errors.items() if error}
    missing = sum(error == "ENOENT" for error in errors.values())
    told = {
        "files": len(every),
        "read": len(seen.readable()),
        "missing": missing,
        "failed": len(errors) - missing,
        "not_reached": len(every) - len(seen.errors),
        "seconds": seen.seconds,
    }
    if files and not seen.readable():
        cause = seen.trouble or errors.get(files[0]) or f"no answer within {params['warm_seconds']:g} s"
        raise PreconditionRefused(
            f"None of {len(files)} files to analyse can be read, the first: {files[0]} ({cause}). The analysis was not "
            "started. Check the mount and path_map.",
            warmed=told,
            watch=plan,
        )
    return told, [f"{name}: {error}" for name, error in errors.items()]


def start(module: AnsibleModule) -> dict[str, Any]:
    """Find the items, read the beginning of their files, send the batches."""
    params = module.params
    client = make_client(params)
    section = sections.find_section(client, params["section"])
    databases = Path(params["database_dir"])
    before = counters.read(databases, [section.id])
    ids = params["ids"] or counters.analysis_left(databases, section.id)
    result: dict[str, Any] = {"changed": False, "section": asdict(section), "before": asdict(before)}
    if not ids and not params["whole_section"]:
        nothing = {"after": asdict(before), "sent": 0, "warmed": NOT_WARMED, "unreadable": [], "left": []}
        return {**result, **nothing, "nothing_to_do": True}
    result["sent"] = before.media if params["whole_section"] else len(ids)
    result.update(warmed=NOT_WARMED, unreadable=[])
    result["began"] = time.time()
    if module.check_mode:
        return {**result, "changed": True}
    plan = watch_plan(
        params,
        task="analyse",
        title=section.title,
        section_ids=[section.id],
        section_type=section.type,
        before=before,
        probe_section_id=section.id,
    )
    if params["warm"] and ids:
        result["warmed"], unreadable = warm(params, ids, plan)
        result["unreadable"] = unreadable[:UNREADABLE]
    if params["whole_section"]:
        client.call("PUT", f"/library/sections/{section.id}/analyze")
    else:
        for index in range(0, len(ids), params["batch"]):
            sections.analyse_items(client, ids[index : index + params["batch"]])
    told = result["warmed"]
    note = f"{told['read']} of {told['files']} files read to warm the cache in {told['seconds']:.0f} s"
    trouble = ", ".join(
        f"{told[key]} {key.replace('_', ' ')}" for key in ("missing", "failed", "not_reached") if told[key]
    )
    return {
        **result,
        "notes": [f"{note} ({trouble})" if trouble else note] if told["files"] else [],
        "watch": plan,
    }


def again(module: AnsibleModule) -> dict[str, Any]:
    """Send the items that are still left."""
    started = start(module)
    return {"changed": False, "sent": started["sent"]}


def cancel(module: AnsibleModule) -> dict[str, Any]:
    """Plex has no call that cancels item analysis; its queue of background tasks is cleared."""
    sections.stop_butler(make_client(module.params))
    return {"changed": True}


def finish(module: AnsibleModule) -> dict[str, Any]:
    """Return the counts afterwards, and the items that are left."""
    params = module.params
    section = sections.find_section(make_client(params), params["section"])
    databases = Path(params["database_dir"])
    after = counters.read(databases, [section.id])
    left = counters.analysis_left(databases, section.id, limit=LEFT)
    return {"changed": False, "section": asdict(section), "after": asdict(after), "left": left}


def work(module: AnsibleModule) -> dict[str, Any]:
    """Run the step that the action plugin requests."""
    refuse_alone(module.params, "plex_analyze")
    return {"start": start, "again": again, "cancel": cancel, "finish": finish}[module.params["step"]](module)


def main() -> None:
    spec = {
        **connection_spec(),
        **mount_spec(),
        **watch_spec(),
        "section": {"type": "str", "required": True},
        "ids": {"type": "list", "elements": "int", "default": []},
        "whole_section": {"type": "bool", "default": False},
        "batch": {"type": "int", "default": 50},
        "warm": {"type": "bool", "default": True},
        "warm_files": {"type": "int", "default": 2000},
        "warm_seconds": {"type": "float", "default": 300.0},
    }
    run(AnsibleModule(argument_spec=spec, supports_check_mode=True), work)


if __name__ == "__main__":
    main()
