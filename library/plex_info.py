#!/usr/bin/python
# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
from __future__ import annotations

DOCUMENTATION = r"""
module: plex_info
short_description: Return information about a Plex server and its libraries
version_added: 0.1.0
author: [plexburst contributors (@plexburst)]
description:
  - Returns version, claim, Plex Pass and libraries from the API, and counts from the database with O(database_dir).
  - Returns whether Sonic analysis is possible on this server, and if not, why.
extends_documentation_fragment:
  - plexburst.core.plex
  - plexburst.core.plex.reads
options:
  database_dir:
    description: Directory of the databases on this machine; sections are counted if it is given.
    type: path
  known:
    description: Agents and scanners that this server has in addition to Plex's own.
    type: list
    elements: str
    default: []
  processor:
    description: Processor on which Sonic analysis would run, such as V(x86_64). Default is this machine's.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Get information about home's Plex
  plexburst.core.plex_info:
    base_url: http://127.0.0.1:32400
    preferences_file: "{{ plex_server_preferences }}"
    database_dir: "{{ plex_server_database_dir }}"
"""

RETURN = r"""
server:
  description: Name, version, machine identifier, claim, Plex Pass and sign-in state of the server.
  returned: success
  type: dict
sections:
  description:
    - Its libraries with id, title, type, uuid, agent, scanner and locations. C(foreign) is the reason why a library
      cannot be scanned here (its agent, scanner or metadata provider is home's own), and is empty otherwise.
  returned: success
  type: list
  elements: dict
version:
  description: Version of the server.
  returned: success
  type: str
plex_pass:
  description: Whether its owner has Plex Pass.
  returned: success
  type: bool
counters:
  description: Counts by section id (items, trash, analysed, tracks with Sonic data), empty without O(database_dir).
  returned: success
  type: dict
sonic:
  description: C(supported), and C(problems) as sentences.
  returned: success
  type: dict
activities:
  description: What the server is doing now.
  returned: success
  type: list
  elements: dict
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.plexburst.core.plugins.module_utils.plex import sonic
from ansible_collections.plexburst.core.plugins.module_utils.plex.api import readiness, sections
from ansible_collections.plexburst.core.plugins.module_utils.plex.module import connection_spec, make_client, run
from ansible_collections.plexburst.core.plugins.module_utils.plex.observe import counters


def work(module: AnsibleModule) -> dict[str, Any]:
    """Return the server's description for plans and reports."""
    client = make_client(module.params)
    server = readiness.describe_server(client)
    libraries = sections.list_sections(client)
    databases = module.params["database_dir"]
    counted = {
        str(library.id): asdict(counters.read(Path(databases), [library.id])) if databases else {}
        for library in libraries
    }
    problems = sonic.problems(client, server, machine=module.params["processor"])
    return {
        "changed": False,
        "server": asdict(server),
        "version": server.version,
        "plex_pass": server.plex_pass,
        "sections": [
            {**asdict(library), "foreign": sections.foreign(library, module.params["known"])} for library in libraries
        ],
        "counters": counted if databases else {},
        "sonic": {"supported": not problems, "problems": problems},
        "activities": [asdict(activity) for activity in sections.list_activities(client)],
    }


def main() -> None:
    spec = {
        **connection_spec(),
        "database_dir": {"type": "path"},
        "known": {"type": "list", "elements": "str", "default": []},
        "processor": {"type": "str", "default": ""},
    }
    run(AnsibleModule(argument_spec=spec, supports_check_mode=True), work)


if __name__ == "__main__":
    main()
