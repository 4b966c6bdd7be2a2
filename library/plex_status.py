#!/usr/bin/python
# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
from __future__ import annotations

DOCUMENTATION = r"""
module: plex_status
short_description: Report what a Plex server is doing
version_added: 0.1.0
author: [plexburst contributors (@plexburst)]
description:
  - Takes a few samples, determines the current task, judges it like a watching run, and returns one line.
  - Only reads, and needs no data of the run that uses the server.
extends_documentation_fragment:
  - plexburst.core.plex
  - plexburst.core.plex.library
  - plexburst.core.plex.scope
  - plexburst.core.plex.reads
options:
  profile:
    description: Watch profile whose time limits the verdict uses.
    type: str
    default: cloud_standard
  samples:
    description: Number of samples.
    type: int
    default: 3
  gap:
    description: Seconds between two samples.
    type: float
    default: 2.0
"""

EXAMPLES = r"""
- name: Get the status of the indexer's Plex
  plexburst.core.plex_status:
    base_url: http://127.0.0.1:32400
    preferences_file: "{{ plex_server_preferences }}"
    database_dir: "{{ plex_server_database_dir }}"
    scope: "{{ plex_server_scope }}"
"""

RETURN = r"""
line:
  description: The current task as one line.
  returned: success
  type: str
task:
  description: V(scan), V(analyse), V(sonic) or V(nothing), as far as the samples show.
  returned: success
  type: str
verdict:
  description: State, reason, evidence and advice.
  returned: success
  type: dict
sample:
  description: The newest sample.
  returned: success
  type: dict
sections:
  description: The libraries with their counts.
  returned: success
  type: list
  elements: dict
"""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.plexburst.core.plugins.module_utils.plex.errors import CountersError, Refused
from ansible_collections.plexburst.core.plugins.module_utils.plex.module import (
    connection_spec,
    mount_spec,
    observe,
    run,
)
from ansible_collections.plexburst.core.plugins.module_utils.plex.observe import counters
from ansible_collections.plexburst.core.plugins.module_utils.plex.observe.sample import WORKER_KINDS, Sample
from ansible_collections.plexburst.core.plugins.module_utils.plex.watch import profiles, progress, verdict


def going_on(samples: list[Sample]) -> str:
    """Return the task by verdict.judge's name, `stabilise` without any activity."""
    last = samples[-1]
    words = [f"{a.type} {a.title}".lower().replace(" ", "") for a in last.activities]
    if last.of_kind("music_analyzer") or any("musicanalysis" in text or "sonic" in text for text in words):
        return "sonic"
    scanning = any("--scan" in process.args for process in last.of_kind("scanner"))
    if scanning or any(section.refreshing for section in last.sections):
        return "scan"
    return "analyse" if last.of_kind(*WORKER_KINDS) else "stabilise"


def look(params: dict[str, Any]) -> list[Sample]:
    """The samples, `gap` seconds apart; the last one with a probe of each library's mount until one is sick."""
    found: list[Sample] = []
    asked = {**params, "sections": [], "probe_section": None, "cursor": None, "api_count": False}
    for index in range(params["samples"]):
        if index:
            time.sleep(params["gap"])
        found.append(observe(asked))
        ids = [section.id for section in found[-1].sections]
        if ids and not asked["sections"]:
            asked["sections"] = ids
        cursor = found[-1].counters
        asked["cursor"] = None if cursor is None else asdict(cursor)
        music = [section.id for section in found[-1].sections if section.type == "artist"]
        asked["probe_section"] = next(iter(music or ids), None)
    return found


def counted(params: dict[str, Any], sample: Sample) -> list[dict[str, Any]]:
    """Return each library with its counts, or with the reason why they are unknown."""
    rows: list[dict[str, Any]] = []
    for section in sample.sections:
        row = asdict(section)
        try:
            row["counters"] = asdict(counters.read(Path(params["database_dir"]), [section.id]))
        except CountersError as error:
            row["counters_error"] = error.message
        rows.append(row)
    return rows


def work(module: AnsibleModule) -> dict[str, Any]:
    """Take samples, determine and judge the task, return the status."""
    params = module.params
    if not Path(params["database_dir"]).is_dir():
        raise Refused(
            f"The directory {params['database_dir']} does not exist. Plex has no database yet, or it is elsewhere."
        )
    samples = look(params)
    kind = going_on(samples)
    try:
        profile = profiles.resolve(params["profile"], kind)
    except ValueError as error:
        raise Refused(str(error)) from error
    of_type = {"sonic": ("artist",)}.get(kind)
    ids = [s.id for s in samples[-1].sections if of_type is None or s.type in of_type]
    busy = [s for s in samples[-1].sections if s.refreshing] if kind == "scan" else []
    ids = [s.id for s in busy] or ids
    titles = ", ".join(s.title for s in samples[-1].sections if s.id in ids)
    task = verdict.Task(
        kind=kind, section_ids=tuple(ids), started_at=samples[0].at, before=None, window_from=samples[0].at
    )
    told = verdict.judge(task, samples, profile, samples[-1].at)
    state, reason = told.state, told.reason
    if kind == "stabilise" and state in (verdict.COMPLETE, verdict.RUNNING):
        state, reason = verdict.IDLE, "nothing_runs"
    line = progress.line(
        {"stabilise": "idle"}.get(kind, kind),
        titles,
        samples,
        elapsed=samples[-1].at - samples[0].at,
        reason=reason,
    )
    return {
        "changed": False,
        "line": line,
        "task": {"stabilise": "nothing"}.get(kind, kind),
        "verdict": {"state": state, "reason": reason, "evidence": told.evidence, "advice": told.advice},
        "sample": samples[-1].to_dict(),
        "sections": counted(params, samples[-1]),
    }


def main() -> None:
    spec = {
        **connection_spec(),
        **mount_spec(),
        "scope": {"type": "dict", "required": True},
        "profile": {"type": "str", "default": "cloud_standard"},
        "samples": {"type": "int", "default": 3},
        "gap": {"type": "float", "default": 2.0},
    }
    run(AnsibleModule(argument_spec=spec, supports_check_mode=True), work)


if __name__ == "__main__":
    main()
