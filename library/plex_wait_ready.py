#!/usr/bin/python
# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
from __future__ import annotations

DOCUMENTATION = r"""
module: plex_wait_ready
short_description: Wait until a Plex server is ready to work
version_added: 0.1.0
author: [plexburst contributors (@plexburst)]
description:
  - Checks C(/identity), the claim, an authenticated C(/library/sections) and C(/) until all are as expected.
  - HTTP 503 C(Maintenance), the answer of a server that migrates its database, is not an error before the deadline.
  - After the deadline, the failure contains duration and state, every try and the end of the log.
extends_documentation_fragment:
  - plexburst.core.plex
  - plexburst.core.plex.reads
options:
  deadline:
    description: Maximum seconds to wait.
    type: float
    default: 900.0
  poll:
    description: Seconds between two tries.
    type: float
    default: 2.0
  expect_sections:
    description: Minimum number of libraries that the server must list, as in the uploaded database.
    type: int
  expect_claimed:
    description: Whether the server must be claimed. Not checked by default.
    type: bool
  log_command:
    description: Command, as a list, that prints the server's log. Run only on failure.
    type: list
    elements: str
    default: []
  log_lines:
    description: Number of its last lines to return.
    type: int
    default: 40
"""

EXAMPLES = r"""
- name: Wait for the indexer's Plex
  plexburst.core.plex_wait_ready:
    base_url: http://127.0.0.1:32400
    preferences_file: /opt/plexburst/config/Library/Application Support/Plex Media Server/Preferences.xml
    expect_sections: 8
    deadline: 900
    log_command: [docker, logs, --tail, "40", plex]
"""

RETURN = r"""
server:
  description: Name, version, machine identifier, claim, Plex Pass and sign-in state of the server.
  returned: success
  type: dict
sections:
  description: Its libraries with id, title, type, uuid, agent, scanner and locations.
  returned: success
  type: list
  elements: dict
version:
  description: Version of the server.
  returned: success
  type: str
plex_pass:
  description: Whether the server's owner has Plex Pass, which Sonic analysis needs.
  returned: success
  type: bool
waited:
  description: Seconds waited.
  returned: always
  type: float
tries:
  description: Every try with status and beginning of the body; equal tries in a row are counted in one entry.
  returned: always
  type: list
  elements: dict
log_tail:
  description: The last lines of O(log_command).
  returned: failure, when a command was given
  type: list
  elements: str
"""

import subprocess
from dataclasses import asdict
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.plexburst.core.plugins.module_utils.plex.api import preferences, readiness
from ansible_collections.plexburst.core.plugins.module_utils.plex.errors import NotReady
from ansible_collections.plexburst.core.plugins.module_utils.plex.module import connection_spec, make_client, run

LOG_SECONDS = 20.0


def log_tail(command: list[str], lines: int, mask: Any) -> list[str]:
    """Return the end of the log, or the reason why it cannot be read, so that this does not hide the real failure."""
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=LOG_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return [f"the log could not be read with {command[0]}: {error}"]
    return [mask(line)[:1000] for line in done.stdout.decode("utf-8", "replace").splitlines()[-lines:]]


def work(module: AnsibleModule) -> dict[str, Any]:
    """Wait, and return the description of the ready server."""
    params = module.params
    client = make_client({**params, "preferences_file": None})
    path = params["preferences_file"]
    try:
        ready = readiness.wait_ready(
            client,
            deadline=params["deadline"],
            poll=params["poll"],
            expect_sections=params["expect_sections"],
            expect_claimed=params["expect_claimed"],
            find_token=(lambda: preferences.read_token(path)) if path else None,
        )
    except NotReady as error:
        if params["log_command"]:
            error.details["log_tail"] = log_tail(params["log_command"], params["log_lines"], client.mask)
        raise
    return {
        "changed": False,
        "server": asdict(ready.server),
        "version": ready.server.version,
        "plex_pass": ready.server.plex_pass,
        "sections": [asdict(section) for section in ready.sections],
        "waited": ready.seconds,
        "tries": ready.waiting.plain(),
    }


def main() -> None:
    spec = {
        **connection_spec(),
        "deadline": {"type": "float", "default": 900.0},
        "poll": {"type": "float", "default": 2.0},
        "expect_sections": {"type": "int"},
        "expect_claimed": {"type": "bool"},
        "log_command": {"type": "list", "elements": "str", "default": []},
        "log_lines": {"type": "int", "default": 40},
    }
    run(AnsibleModule(argument_spec=spec, supports_check_mode=True), work)


if __name__ == "__main__":
    main()
