#!/usr/bin/python
# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""Wait until a Plex server may be stopped."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: plex_wait_idle
short_description: Wait for the maintenance window and an idle Plex server
version_added: 0.1.0
author:
  - plexburst contributors (@plexburst)
description:
  - Waits until there is no playback, recording, download or conversion, and the time of day is within O(window).
    After O(patience) it fails with what the server is still doing.
  - A paused session counts, because stopping Plex would end it. After activity the server must stay idle for
    O(settle), because playback pauses between two episodes.
  - A server without DVR (HTTP 404 or 403 where recordings are listed) records nothing. Any other answer that is not the
    list counts as busy, and a refused token ends the waiting.
  - A player's download queue between two files is not visible. The API shows a queue only to its own player, which
    continues after the restart.
  - Each observation is one short module call, so a lost connection costs only one, and O(tunnel) is opened again.
  - Shows what it waits for.
extends_documentation_fragment:
  - plexburst.core.plex
  - plexburst.core.plex.reads
options:
  patience:
    description: Maximum seconds to wait.
    type: float
    default: 1800.0
  window:
    description: Maintenance window in home's local time, as V(02:00-06:00). Empty means any time.
    type: str
    default: ''
  utc_offset:
    description: Home's offset from UTC, as V(+0100), for O(window).
    type: str
    default: '+0000'
  poll:
    description: Seconds between two observations.
    type: float
    default: 20.0
  settle:
    description: Seconds that the server must stay idle after activity.
    type: float
    default: 60.0
  version:
    description: The version that the server must still have. Another one fails at once. Empty means any.
    type: str
    default: ''
  tunnel:
    description: The options of M(plexburst.core.ssh_tunnel) by which O(base_url) is reached. Empty means no tunnel.
    type: dict
    default: {}
  timeout_advice:
    description: Advice of the failure after O(patience).
    type: str
    default: Try again later, or wait longer.
  step:
    description: Set by the action plugin.
    type: str
    choices: [alone, look]
    default: alone
attributes:
  action:
    description: Runs as an action plugin on the controller too.
    support: full
    details: It calls the module for each observation and waits in between.
"""

EXAMPLES = r"""
---
- name: Wait for an idle Plex at night
  plexburst.core.plex_wait_idle:
    base_url: http://127.0.0.1:40123
    preferences_file: /srv/runs/20261122-071500-ab12/private/Preferences.xml
    patience: 86400
    window: 02:00-06:00
    utc_offset: "{{ ansible_facts['date_time']['tz_offset'] }}"
"""

RETURN = r"""
---
waited:
  description: Seconds waited.
  returned: success
  type: float
  sample: 0.1
looks:
  description: Number of observations.
  returned: success
  type: int
  sample: 1
version:
  description: The server's version at the last observation.
  returned: success
  type: str
  sample: 1.43.4.10903-e5521bd8c
busy:
  description: What a stop would interrupt, each with kind (watching, recording, downloading, converting) and text.
    Empty outside of check mode.
  returned: success
  type: list
  elements: dict
  sample: []
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.plexburst.core.plugins.module_utils.plex.api import sessions
from ansible_collections.plexburst.core.plugins.module_utils.plex.errors import PlexError
from ansible_collections.plexburst.core.plugins.module_utils.plex.module import connection_spec, make_client, run


def work(module: AnsibleModule) -> dict[str, Any]:
    """Return one observation."""
    if module.params["step"] == "alone":
        raise PlexError(
            "The action plugin of plex_wait_idle was not found, so it cannot wait. Call it as "
            "plexburst.core.plex_wait_idle from a playbook that finds the collection (the top-level playbooks do)."
        )
    return {"changed": False, **sessions.look(make_client(module.params)).plain()}


def main() -> None:
    """Return one observation; the action plugin waits."""
    spec = {
        **connection_spec(),
        "patience": {"type": "float", "default": 1800.0},
        "window": {"type": "str", "default": ""},
        "utc_offset": {"type": "str", "default": "+0000"},
        "poll": {"type": "float", "default": 20.0},
        "settle": {"type": "float", "default": 60.0},
        "version": {"type": "str", "default": ""},
        "tunnel": {"type": "dict", "default": {}},
        "timeout_advice": {"type": "str", "default": "Try again later, or wait longer."},
        "step": {"type": "str", "choices": ["alone", "look"], "default": "alone"},
    }
    run(AnsibleModule(argument_spec=spec, supports_check_mode=True), work)


if __name__ == "__main__":
    main()
