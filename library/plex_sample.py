#!/usr/bin/python
# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
from __future__ import annotations

DOCUMENTATION = r"""
module: plex_sample
short_description: Take samples of a working Plex server
version_added: 0.1.0
author: [plexburst contributors (@plexburst)]
description:
  - Activities, libraries, processes with their CPU, counts from the database, one mount probe, disk and WAL size.
  - A failed source is named in the sample and never replaced by zero. An API that does not answer is not a failure.
extends_documentation_fragment:
  - plexburst.core.plex
  - plexburst.core.plex.library
  - plexburst.core.plex.scope
  - plexburst.core.plex.reads
options:
  sections:
    description: Ids of the libraries to count.
    type: list
    elements: int
    default: []
  probe_section:
    description: Id of the library whose files are read to probe the mount; no probe without it.
    type: int
  api_count:
    description: Also count the tracks of O(sections) by the API.
    type: bool
    default: false
  times:
    description: Number of samples in this call. Two at the end of a task save a round trip.
    type: int
    default: 1
  gap:
    description: Seconds between two samples.
    type: float
    default: 0.0
  cursor:
    description:
      - Counts of the last sample. When the database was not written since, they are returned again; else only what has
        changed is read, with a full count at least every 30 minutes. Without it everything is counted.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Take a sample of the indexer's Plex
  plexburst.core.plex_sample:
    base_url: http://127.0.0.1:32400
    preferences_file: "{{ plex_server_preferences }}"
    database_dir: "{{ plex_server_database_dir }}"
    scope: "{{ plex_server_scope }}"
    sections: [1]
    probe_section: 1
"""

RETURN = r"""
samples:
  description: The samples in order of time, as module_utils/plex/observe/sample.py describes them.
  returned: success
  type: list
  elements: dict
"""

import time
from dataclasses import asdict
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.plexburst.core.plugins.module_utils.plex.module import (
    connection_spec,
    mount_spec,
    observe,
    run,
)


def work(module: AnsibleModule) -> dict[str, Any]:
    """Return the samples; only the first one probes the mount."""
    params = module.params
    samples = [observe(params)]
    while len(samples) < params["times"]:
        time.sleep(params["gap"])
        counted = samples[-1].counters
        cursor = params["cursor"] if counted is None else asdict(counted)
        samples.append(observe({**params, "probe_section": None, "cursor": cursor}))
    return {"changed": False, "samples": [sample.to_dict() for sample in samples]}


def main() -> None:
    spec = {
        **connection_spec(),
        **mount_spec(),
        "scope": {"type": "dict", "required": True},
        "sections": {"type": "list", "elements": "int", "default": []},
        "probe_section": {"type": "int"},
        "api_count": {"type": "bool", "default": False},
        "times": {"type": "int", "default": 1},
        "gap": {"type": "float", "default": 0.0},
        "cursor": {"type": "dict", "default": {}},
    }
    run(AnsibleModule(argument_spec=spec, supports_check_mode=True), work)


if __name__ == "__main__":
    main()
