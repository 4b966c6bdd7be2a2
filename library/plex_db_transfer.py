#!/usr/bin/python
# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""Carry a delta between the controller and a host."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: plex_db_transfer
short_description: Copy the delta of two Plex database pairs between the controller and a host
version_added: 0.1.0
author:
  - plexburst contributors (@plexburst)
description:
  - Copies a delta that C(plexburst.core.plex_db_patch) made, or a parcel that C(plexburst.core.plex_bundles) packed,
    part by part, over the connection of the host. Parts that are present are not copied again, a damaged
    part is, and a lost connection is retried.
  - The files travel as the user who logs in, who must be able to read or write O(remote).
  - Shows its progress.
attributes:
  check_mode:
    description: Can run in check mode and return what it would do, without changing anything.
    support: partial
    details: In check mode nothing is copied, because there is no delta then.
  diff_mode:
    description: Shows what would be changed in diff mode.
    support: none
  idempotent:
    description: Running it twice does not change more than running it once.
    support: full
    details: Parts that arrived are not copied again.
options:
  direction:
    description: V(bring) downloads from the host to the controller, V(send) uploads to the host.
    type: str
    required: true
    choices: [bring, send]
  patch:
    description: The folder of the patch, or of the parcel, on the controller.
    type: path
    required: true
  remote:
    description: The folder of the patch, or of the parcel, on the host.
    type: str
    required: true
  description_sha256:
    description: SHA-256 of the patch's description, as the module that made it returned it, for O(direction=bring).
    type: str
    default: ''
  patience:
    description: Seconds without data before the transfer fails.
    type: float
    default: 600.0
  what:
    description: What is copied, the V(database) as a delta or the artwork (V(bundles)) as an archive.
    type: str
    choices: [database, bundles]
    default: database
  owner:
    description:
      - User that owns the parcel on the host, for O(what=bundles) and O(direction=send), where the user who logs in is
        not the one who may read Plex's files. The folder is made if it is missing.
    type: str
    default: ''
"""

EXAMPLES = r"""
---
- name: Download the delta
  plexburst.core.plex_db_transfer:
    direction: bring
    patch: "{{ run_dir }}/snapshots/patch"
    remote: /opt/plexburst/transfer/patch
    description_sha256: "{{ made.description_sha256 }}"
"""

RETURN = r"""
---
bytes:
  description: Bytes that travelled this time, repetitions and the description included.
  returned: always
  type: int
  sample: 1310000
parts:
  description: Parts that travelled.
  returned: always
  type: int
  sample: 2
there:
  description: Parts that were there already.
  returned: always
  type: int
  sample: 0
repeated:
  description: Parts that travelled again because they arrived damaged.
  returned: always
  type: int
  sample: 0
cuts:
  description: How often the line was cut.
  returned: always
  type: int
  sample: 0
seconds:
  description: Seconds it took.
  returned: always
  type: float
  sample: 2.5
whole:
  description: Whether it is the whole pair.
  returned: success, for O(what=database)
  type: bool
  sample: false
manifest:
  description: The manifest of the newer pair.
  returned: success, for O(what=database)
  type: dict
  sample: {schema: 1, source: indexer}
"""

from ansible.module_utils.basic import AnsibleModule


def main() -> None:
    """Only the action plugin of this name can do it: it has the connection."""
    module = AnsibleModule(
        argument_spec={
            "direction": {"type": "str", "required": True, "choices": ["bring", "send"]},
            "patch": {"type": "path", "required": True},
            "remote": {"type": "str", "required": True},
            "description_sha256": {"type": "str", "default": ""},
            "patience": {"type": "float", "default": 600.0},
            "what": {"type": "str", "choices": ["database", "bundles"], "default": "database"},
            "owner": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    module.fail_json(
        msg="plex_db_transfer works through its action plugin, which was not found. Call it as "
        "plexburst.core.plex_db_transfer."
    )


if __name__ == "__main__":
    main()
