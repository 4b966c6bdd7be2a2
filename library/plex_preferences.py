#!/usr/bin/python
# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
from __future__ import annotations

DOCUMENTATION = r"""
module: plex_preferences
short_description: Set a Plex server's preferences and verify them
version_added: 0.1.0
author: [plexburst contributors (@plexburst)]
description:
  - Plex answers 200 for a preference that does not exist, so every key is looked up first and read back afterwards.
  - With O(quiet), the server empties, deletes and publishes nothing, and starts no task by itself.
extends_documentation_fragment:
  - plexburst.core.plex
  - plexburst.core.plex.attributes
options:
  settings:
    description: Preferences by exact key.
    type: dict
    default: {}
  optional:
    description: Keys of O(settings) that may be missing (they depend on version and Plex Pass).
    type: list
    elements: str
    default: []
  quiet:
    description:
      - Also set the quiet values. C(autoEmptyTrash) and C(allowMediaDeletion) must exist and be off,
        the rest is optional. C(MusicAnalysisBehavior) becomes V(scheduled), which fills Sonic's queue and starts
        nothing.
    type: bool
    default: false
  quiet_butler:
    description:
      - Also switch off all boolean preferences whose key begins with C(butler), and move its hours away from now.
    type: bool
    default: false
attributes:
  diff_mode:
    description: Returns what changed, before and after.
    support: full
"""

EXAMPLES = r"""
- name: Set the quiet preferences of the indexer's Plex
  plexburst.core.plex_preferences:
    base_url: http://127.0.0.1:32400
    preferences_file: "{{ plex_server_preferences }}"
    quiet: true
    quiet_butler: true
  register: quiet

- name: Restore the preferences
  plexburst.core.plex_preferences:
    base_url: http://127.0.0.1:32400
    preferences_file: "{{ plex_server_preferences }}"
    settings: "{{ quiet.previous }}"
"""

RETURN = r"""
previous:
  description: The previous value of each key, to be passed as O(settings) for restoring.
  returned: success
  type: dict
after:
  description: The value of each key as read back.
  returned: success
  type: dict
changed_keys:
  description: Keys whose value changed, or would change in check mode.
  returned: success
  type: list
  elements: str
missing:
  description: Optional keys that this server does not know.
  returned: success
  type: list
  elements: str
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.plexburst.core.plugins.module_utils.plex.api import preferences
from ansible_collections.plexburst.core.plugins.module_utils.plex.module import connection_spec, make_client, run


def work(module: AnsibleModule) -> dict[str, Any]:
    """Collect the wanted values, set them and read them back."""
    params = module.params
    client = make_client(params)
    wanted: dict[str, Any] = {}
    optional = set(params["optional"])
    if params["quiet"]:
        wanted.update(preferences.GUARDS)
        wanted.update(preferences.QUIET)
        # While scanning, Sonic only fills its queue; `asap` would start between two scans. In `previous` it also tells
        # restore what plex_sonic may have changed.
        wanted[preferences.SONIC_KEY] = "scheduled"
        optional.update((*preferences.QUIET, preferences.SONIC_KEY))
    if params["quiet_butler"]:
        known = preferences.read_all(client)
        hours = preferences.butler_hours(time.localtime().tm_hour)
        held = known.get("ButlerStartHour")
        if held is not None and _far_from_now(held.value):
            hours = {}  # set by an earlier call; changing it every hour would not be idempotent
        wanted.update(preferences.butler_switches(known))
        wanted.update(hours)
        optional.update(hours)
    wanted.update(params["settings"])
    change = preferences.apply(client, wanted, optional=optional, check=module.check_mode)
    result: dict[str, Any] = {
        "changed": bool(change.changed),
        "previous": change.before,
        "after": change.after,
        "changed_keys": list(change.changed),
        "missing": list(change.missing),
    }
    if module._diff:
        result["diff"] = {
            "before": {key: change.before[key] for key in change.changed},
            "after": {key: change.after[key] for key in change.changed},
        }
    return result


def _far_from_now(hour: Any) -> bool:
    """Return whether a maintenance hour is at least eight hours ahead."""
    return isinstance(hour, int) and 8 <= (hour - time.localtime().tm_hour) % 24 <= 16


def main() -> None:
    spec = {
        **connection_spec(),
        "settings": {"type": "dict", "default": {}},
        "optional": {"type": "list", "elements": "str", "default": []},
        "quiet": {"type": "bool", "default": False},
        "quiet_butler": {"type": "bool", "default": False},
    }
    run(AnsibleModule(argument_spec=spec, supports_check_mode=True), work)


if __name__ == "__main__":
    main()
