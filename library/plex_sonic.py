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
  - Starts the server's task C(MusicAnalysis), which is proven to work, and never a forced analysis.
  - Complete only if every track has Sonic data in the database and the API agrees. An idle server is not a success.
  - If the task shows no activity or analyses no track, the other documented ways are tried once each and reported.
    These are C(MusicAnalysisBehavior) V(asap) for a while, analysing the libraries, and analysing the albums.
  - Tracks that got no Sonic data after restarts of the task are listed with their cause.
extends_documentation_fragment:
  - plexburst.core.plex
  - plexburst.core.plex.library
  - plexburst.core.plex.scope
  - plexburst.core.plex.watched
  - plexburst.core.plex.attributes
options:
  sections:
    description: Titles or ids of music libraries. Default is all; Plex has one queue for all of them.
    type: list
    elements: str
    default: []
  retry_failed:
    description: Refresh the albums of tracks that got no Sonic data, once, and analyse again.
    type: bool
    default: false
  retry_albums:
    description: Maximum number of albums to refresh.
    type: int
    default: 500
  way:
    description: Internal, set by the action plugin. How the task is started.
    type: str
    default: butler
    choices: [butler, asap, section, albums]
  step:
    description:
      - Internal, set by the action plugin that watches. V(alone) means that the module was reached without its plugin;
        it then fails and starts nothing.
    type: str
    default: alone
    choices: [alone, start, again, cancel, finish, way, retry]
  since:
    description: Internal, set by the action plugin. Unix time at which the task began on the server's machine.
    type: float
    default: 0.0
"""

EXAMPLES = r"""
- name: Run Sonic analysis
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
  description: Tracks without Sonic data, with file and cause, at most 200. All go to C(sonic_left.json) in O(run_dir).
  returned: success, not in check mode
  type: list
  elements: dict
left_count:
  description: Number of tracks without Sonic data.
  returned: success, not in check mode
  type: int
left_file:
  description: Path of that file on the controller, empty without O(run_dir) or when no track is left.
  returned: success, not in check mode
  type: str
ways:
  description: Each way that was tried, with its verdict and how many tracks it gained.
  returned: when something was started
  type: list
  elements: dict
  sample: [{way: butler, verdict: complete, gained: 12, restarts: 0}]
retried:
  description: Number of albums refreshed because of failed tracks, and of tracks gained by that.
  returned: when O(retry_failed) had something to do
  type: dict
forecast:
  description: Rate, seconds and price left, CPU, bytes read, and what limits it, measured early in the analysis.
  returned: when the analysis took long enough
  type: dict
others:
  description: Albums and artists with Sonic data, before and after.
  returned: when something was started
  type: dict
how:
  description: How the task was started, V(started) or V(already_running).
  returned: when something was started
  type: str
watched:
  description: State and reason of the verdict, evidence, advice, seconds, samples, automatic steps taken.
  returned: when something was started
  type: dict
"""

import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.plexburst.core.plugins.module_utils.plex import sonic
from ansible_collections.plexburst.core.plugins.module_utils.plex.api import readiness, sections
from ansible_collections.plexburst.core.plugins.module_utils.plex.errors import Refused
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
from ansible_collections.plexburst.core.plugins.module_utils.plex.observe.sample import Counters

LEFT = 20_000
"""Tracks without Sonic data that are listed with their cause."""
LOOKED_FOR = 5
"""Times probe_timeout that finding the causes may take; a track it does not get to is `not_read_in_time`."""


def pick(client: Any, wanted: list[str]) -> list[sections.Section]:
    """The music libraries asked for, or all."""
    if wanted:
        picked = [sections.find_section(client, name) for name in wanted]
        other = [section.title for section in picked if section.type != "artist"]
        if other:
            raise Refused(f"Sonic analysis needs music libraries; {', '.join(other)} is not one.")
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
        raise Refused("This server has no music library, so Sonic analysis cannot run.")
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
    result["cpus"] = os.cpu_count() or 0
    result["others"] = {"before": before.sonic_other}
    result["notes"] = backlog(client, databases, ids)
    return {**result, "watch": plan(params, music, before)}


def plan(params: dict[str, Any], music: list[sections.Section], before: Counters) -> dict[str, Any]:
    """How the analysis of these libraries is watched."""
    ids = [section.id for section in music]
    return watch_plan(
        params,
        task="sonic",
        title=", ".join(section.title for section in music),
        section_ids=ids,
        section_type="artist",
        before=before,
        probe_section_id=ids[0],
    )


def backlog(client: Any, databases: Path, ids: list[int]) -> list[str]:
    """Plex has one queue for all music libraries: the ones not asked for, with tracks pending, are told."""
    words = []
    for section in sections.list_sections(client):
        if section.type == "artist" and section.id not in ids:
            pending = counters.read(databases, [section.id]).sonic_pending
            if pending:
                words.append(f"{pending} tracks of {section.title}")
    if not words:
        return []
    return [f"Plex works through one queue for all music libraries, so {' and '.join(words)} are analysed too"]


def again(module: AnsibleModule) -> dict[str, Any]:
    """Start the task again, after stopping a running one."""
    return {"changed": True, "how": sonic.start_again(make_client(module.params), module.params["way"])}


def another_way(module: AnsibleModule) -> dict[str, Any]:
    """Stop the stalled task and start it by `way`."""
    params = module.params
    client = make_client(params)
    music = pick(client, params["sections"])
    ids = [section.id for section in music]
    databases = Path(params["database_dir"])
    before = counters.read(databases, ids)
    albums = sonic.albums_left(databases, ids, limit=params["retry_albums"]) if params["way"] == sonic.ALBUMS else []
    sonic.stop(client)
    how = sonic.start(client, params["way"], section_ids=ids, albums=albums)
    return {"changed": True, "how": how, "albums": len(albums), "watch": plan(params, music, before)}


def retry(module: AnsibleModule) -> dict[str, Any]:
    """Refresh the albums of the tracks that are left: only that queues a failed track again
    (docs/plex-facts.md#sonic-analysis)."""
    params = module.params
    client = make_client(params)
    ids = [section.id for section in pick(client, params["sections"])]
    albums = sonic.albums_left(Path(params["database_dir"]), ids, limit=params["retry_albums"])
    for index in range(0, len(albums), sonic.BATCH):
        sections.refresh_items(client, albums[index : index + sonic.BATCH])
    return {"changed": bool(albums), "albums": len(albums)}


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
    sonic.calm(client)
    databases = Path(params["database_dir"])
    ids = [section.id for section in pick(client, params["sections"])]
    after = counters.read(databases, ids)
    sonic.compare(client, databases, ids)
    if after.sonic_pending == 0:
        return {"changed": False, "after": asdict(after), "left": []}
    paths = mount_probe.PathMap.of(params["path_map"])
    left = counters.sonic_left(databases, ids, limit=LEFT)
    where = {track.id: paths.host(track.file) for track in left if track.file}
    seen = mount_probe.look(list(where.values()), [], time_limit=LOOKED_FOR * params["probe_timeout"])
    return {
        "changed": False,
        "after": asdict(after),
        "left": [{**asdict(track), "cause": sonic.cause(seen, where.get(track.id, ""))} for track in left],
    }


def work(module: AnsibleModule) -> dict[str, Any]:
    """The step the action plugin asks for."""
    refuse_alone(module.params, "plex_sonic")
    steps = {
        "start": start,
        "again": again,
        "cancel": cancel,
        "finish": finish,
        "way": another_way,
        "retry": retry,
    }
    return steps[module.params["step"]](module)


def main() -> None:
    spec = {
        **connection_spec(),
        **mount_spec(),
        **watch_spec("way", "retry"),
        "retry_failed": {"type": "bool", "default": False},
        "retry_albums": {"type": "int", "default": 500},
        "way": {"type": "str", "default": sonic.BUTLER, "choices": list(sonic.WAYS)},
        "sections": {"type": "list", "elements": "str", "default": []},
    }
    run(AnsibleModule(argument_spec=spec, supports_check_mode=True), work)


if __name__ == "__main__":
    main()
