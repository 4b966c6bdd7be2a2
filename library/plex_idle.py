#!/usr/bin/python
# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""Wait until nobody watches or listens on a Plex server."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: plex_idle
short_description: Wait until nobody watches or listens on a Plex server
version_added: 0.1.0
author:
  - plexburst contributors (@plexburst)
description:
  - Reads C(/status/sessions) until it is empty; fails when somebody still plays something at the deadline.
  - A session that is paused counts, for stopping Plex would end it.
extends_documentation_fragment:
  - plexburst.core.plex
  - plexburst.core.plex.reads
options:
  deadline:
    description: Seconds to wait altogether.
    type: float
    default: 1800.0
  poll:
    description: Seconds between two looks.
    type: float
    default: 10.0
"""

EXAMPLES = r"""
---
- name: Wait until nobody watches
  plexburst.core.plex_idle:
    base_url: http://127.0.0.1:40123
    preferences_file: /srv/runs/20261122-071500-ab12/private/Preferences.xml
    deadline: 600
"""

RETURN = r"""
waited:
  description: Seconds waited.
  returned: success
  type: float
  sample: 0.1
sessions:
  description: How many sessions there are; more than 0 only in check mode.
  returned: success
  type: int
  sample: 0
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.plexburst.core.plugins.module_utils.edge_plex import connection_spec, make_client, run
from ansible_collections.plexburst.core.plugins.module_utils.plex.errors import PlexError


def work(module: AnsibleModule) -> dict[str, Any]:
    """Look until the list of sessions is empty."""
    params = module.params
    client = make_client(params)
    started = time.monotonic()
    while True:
        sessions = list(client.call("GET", "/status/sessions").xml())
        waited = round(time.monotonic() - started, 3)
        if not sessions or module.check_mode:
            return {"changed": False, "waited": waited, "sessions": len(sessions)}
        if waited >= params["deadline"]:
            titles = ", ".join(repr(session.get("title", "something")) for session in sessions[:3])
            raise PlexError(
                f"Somebody is still watching or listening ({len(sessions)} sessions: {titles}) after {waited:.0f} "
                "seconds, and "
                "installing would interrupt them. Nothing was changed. Try again later, or wait longer."
            )
        time.sleep(params["poll"])


def main() -> None:
    """Wait for quiet."""
    spec = {
        **connection_spec(),
        "deadline": {"type": "float", "default": 1800.0},
        "poll": {"type": "float", "default": 10.0},
    }
    run(AnsibleModule(argument_spec=spec, supports_check_mode=True), work)


if __name__ == "__main__":
    main()
