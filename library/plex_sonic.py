#!/usr/bin/python
# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
from __future__ import annotations

DOCUMENTATION = r"""
module: plex_sonic
short_description: Run Plex's Sonic analysis of the music libraries to its end, and watch it
version_added: 0.1.0
author: [plexburst contributors (@plexburst)]
description:
  - Starts the server's own task C(MusicAnalysis), the way that is proven to work, and never a forced analysis.
  - Complete only when every track has Sonic data by the database and the API agrees; silence is never success.
  - Tracks that get none although the task was started again are listed with their cause.
requirements: [python >= 3.10, plexapi >= 4.16, requests >= 2.31]
options:
  base_url:
    description: Address of the server, C(http://127.0.0.1:32400) on the machine that runs it.
    type: str
    required: true
  token:
    description: The server owner's token. Give O(preferences_file) instead where the module runs beside the server.
    type: str
  preferences_file:
    description: Path of the server's C(Preferences.xml), from which C(PlexOnlineToken) is read.
    type: path
  timeout:
    description: Seconds that one request may take.
    type: float
    default: 30.0
  database_dir:
    description: Directory that holds C(com.plexapp.plugins.library.db) and its blobs database.
    type: path
    required: true
  path_map:
    description: Where paths that Plex knows lie on this machine. Without an entry a path is the same.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: The path as Plex sees it, such as C(/Media).
        type: str
        required: true
      host:
        description: The same folder on this machine.
        type: path
        required: true
  probe_count:
    description: How many files of the section are read to prove that the mount is alive.
    type: int
    default: 12
  probe_timeout:
    description: Seconds that reading them may take altogether.
    type: float
    default: 60.0
  max_missing_percent:
    description:
      - More than this share of the probed files missing (of at least five) is a sick mount or a wrong O(path_map).
    type: float
    default: 50.0
  sections:
    description: Titles or ids of music libraries. Without it, all of them; Plex has one queue for all.
    type: list
    elements: str
    default: []
  scope:
    description:
      - How the server's processes are found. A dict with C(runtime) V(docker) and C(container), V(systemd) and C(unit),
        or V(process) and C(pid_file).
    type: dict
    required: true
  profile:
    description: Monitoring profile, such as V(cloud_standard), V(cloud_intensive), V(local_quick) or V(sandbox).
    type: str
    default: cloud_standard
  profile_overrides:
    description: Single values of the profile to replace, in seconds, by name.
    type: dict
    default: {}
  run_dir:
    description: Run folder on the controller; samples are appended to C(samples.jsonl) in it.
    type: str
  hourly_price:
    description: Price of the instance per hour, for the cost in the progress line.
    type: float
    default: 0.0
  currency:
    description: Currency of O(hourly_price).
    type: str
    default: EUR
  settle:
    description: Wait afterwards until the server is calm (no activity, no worker, little CPU).
    type: bool
    default: true
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
attributes:
  check_mode:
    description: Can run in check mode and says what it would do without changing anything.
    support: full
  diff_mode:
    description: Returns what changed, before and after.
    support: none
  idempotent:
    description: Run again at once, it changes nothing.
    support: full
  action:
    description: Runs as an action plugin on the controller too.
    support: full
    details: It starts the module, samples, judges, and takes the safe next step.
"""

EXAMPLES = r"""
- name: Analyse the music
  plexburst.core.plex_sonic:
    base_url: http://127.0.0.1:32400
    preferences_file: "{{ plex_server_preferences }}"
    database_dir: "{{ plex_server_database_dir }}"
    scope: "{{ plex_server_scope }}"
    profile: cloud_intensive
"""

RETURN = r"""
sonic:
  description: C(total), C(before), C(after), C(failed), C(verdict) and C(tracks_per_minute), as summary.json has them.
  returned: always
  type: dict
left:
  description: Tracks without Sonic data, with file and cause, at most 200.
  returned: success, not in check mode
  type: list
  elements: dict
how:
  description: How the task was started, V(started) or V(already_running).
  returned: when something was started
  type: str
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
from ansible_collections.plexburst.core.plugins.module_utils.edge_plex import (
    connection_spec,
    make_client,
    mount_spec,
    refuse_alone,
    run,
    watch_plan,
    watch_spec,
)
from ansible_collections.plexburst.core.plugins.module_utils.plex import (
    counters,
    probe,
    readiness,
    sections,
    sonic,
)
from ansible_collections.plexburst.core.plugins.module_utils.plex.errors import Refused
from ansible_collections.plexburst.core.plugins.module_utils.plex.sample import Counters


def pick(client: Any, wanted: list[str]) -> list[sections.Section]:
    """The music libraries asked for, or all."""
    if wanted:
        picked = [sections.find_section(client, name) for name in wanted]
        other = [section.title for section in picked if section.type != "artist"]
        if other:
            raise Refused(f"Sonic analysis is for music; {', '.join(other)} is not a music library.")
        return picked
    return [section for section in sections.list_sections(client) if section.type == "artist"]


def summary(before: Counters, after: Counters, verdict: str) -> dict[str, Any]:
    """The numbers of summary.json; the action plugin adds the rate."""
    return {
        "total": after.sonic_total,
        "before": before.sonic_done,
        "after": after.sonic_done,
        "failed": 0,
        "verdict": verdict,
        "tracks_per_minute": 0.0,
    }


def start(module: AnsibleModule) -> dict[str, Any]:
    """Prerequisites, counts compared with the API, and the start."""
    params = module.params
    client = make_client(params)
    music = pick(client, params["sections"])
    if not music:
        raise Refused("This server has no music library, so there is nothing for Sonic analysis.")
    databases = Path(params["database_dir"])
    ids = [section.id for section in music]
    before = counters.read(databases, ids)
    if before.sonic_pending == 0:
        verdict = "already_complete"
        return {"changed": False, "nothing_to_do": True, "sonic": summary(before, before, verdict), "left": []}
    problems = sonic.problems(client, readiness.describe_server(client))
    if problems:
        raise Refused(f"Sonic analysis is not possible here: {'; '.join(problems)}.", problems=problems)
    sonic.compare(client, databases, ids)
    result: dict[str, Any] = {"changed": module.check_mode, "sonic": summary(before, before, "running")}
    if module.check_mode:
        return result
    result["began"] = time.time()
    result["how"] = sonic.start(client)
    return {
        **result,
        "watch": watch_plan(
            params,
            task="sonic",
            title=", ".join(section.title for section in music),
            section_ids=ids,
            section_type="artist",
            before=before,
            probe_section_id=ids[0],
        ),
    }


def again(module: AnsibleModule) -> dict[str, Any]:
    """Start the task once more."""
    return {"changed": True, "how": sonic.start(make_client(module.params))}


def cancel(module: AnsibleModule) -> dict[str, Any]:
    """Stop every refresh and every scheduled task: what runs instead of Sonic, or Sonic itself on a dead mount."""
    client = make_client(module.params)
    client.call("DELETE", "/library/sections/all/refresh")
    sections.stop_butler(client)
    return {"changed": True}


def finish(module: AnsibleModule) -> dict[str, Any]:
    """Counts afterwards, compared with the API once more, and each track that is left with its cause."""
    params = module.params
    client = make_client(params)
    databases = Path(params["database_dir"])
    ids = [section.id for section in pick(client, params["sections"])]
    after = counters.read(databases, ids)
    sonic.compare(client, databases, ids)
    paths = probe.PathMap.of(params["path_map"])
    left = counters.sonic_left(databases, ids)
    where = {track.id: paths.host(track.file) for track in left if track.file}
    seen = probe.look(list(where.values()), [], time_limit=params["probe_timeout"])
    return {
        "changed": False,
        "after": asdict(after),
        "left": [{**asdict(track), "cause": sonic.cause(seen, where.get(track.id, ""))} for track in left],
    }


def work(module: AnsibleModule) -> dict[str, Any]:
    """The step the action plugin asks for."""
    refuse_alone(module.params, "plex_sonic")
    return {"start": start, "again": again, "cancel": cancel, "finish": finish}[module.params["step"]](module)


def main() -> None:
    spec = {
        **connection_spec(),
        **mount_spec(),
        **watch_spec(),
        "sections": {"type": "list", "elements": "str", "default": []},
    }
    run(AnsibleModule(argument_spec=spec, supports_check_mode=True), work)


if __name__ == "__main__":
    main()
