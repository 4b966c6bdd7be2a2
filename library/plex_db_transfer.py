#!/usr/bin/python
# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""Upload or download a delta or artwork between controller and host."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: plex_db_transfer
short_description: Upload or download the delta of a Plex database pair, or artwork
version_added: 0.1.0
author:
  - plexburst contributors (@plexburst)
description:
  - Transfers a delta made by C(plexburst.core.plex_db_delta), or artwork packed by C(plexburst.core.plex_artwork), in
    parts over the host's connection. Existing parts are not transferred again, damaged parts are, and a lost
    connection is retried.
  - The transfer uses the login user, who needs permission to read or write O(remote).
  - Shows its progress.
attributes:
  check_mode:
    description: Can run in check mode and return what it would do, without changing anything.
    support: partial
    details: In check mode nothing is transferred, because there is no delta then.
  diff_mode:
    description: Shows what would be changed in diff mode.
    support: none
  idempotent:
    description: Running it twice does not change more than running it once.
    support: full
    details: Existing parts are not transferred again.
options:
  direction:
    description: V(download) downloads to the controller, V(upload) uploads to the host.
    type: str
    required: true
    choices: [download, upload]
  delta:
    description: Folder of the delta or artwork on the controller.
    type: path
    required: true
  remote:
    description: Folder of the delta or artwork on the host.
    type: str
    required: true
  description_sha256:
    description: SHA-256 of the delta's description, as returned by the module that made it, for O(direction=download).
    type: str
    default: ''
  patience:
    description: Seconds without progress after which the transfer fails.
    type: float
    default: 600.0
  what:
    description: What is transferred, the delta of the V(database) or artwork (V(artwork)).
    type: str
    choices: [database, artwork]
    default: database
  owner:
    description:
      - Owner of the artwork on the host, for O(what=artwork) and O(direction=upload), if the login user may not read
        Plex's files. A missing folder is created.
    type: str
    default: ''
"""

EXAMPLES = r"""
---
- name: Download the delta
  plexburst.core.plex_db_transfer:
    direction: download
    delta: "{{ run_dir }}/snapshots/delta"
    remote: /opt/plexburst/transfer/delta
    description_sha256: "{{ made.description_sha256 }}"
"""

RETURN = r"""
---
bytes:
  description: Bytes transferred by this call, including repetitions and the description.
  returned: always
  type: int
  sample: 1310000
parts:
  description: Parts transferred.
  returned: always
  type: int
  sample: 2
there:
  description: Parts that existed already.
  returned: always
  type: int
  sample: 0
repeated:
  description: Parts transferred again because they arrived damaged.
  returned: always
  type: int
  sample: 0
cuts:
  description: Number of lost connections.
  returned: always
  type: int
  sample: 0
seconds:
  description: Duration in seconds.
  returned: always
  type: float
  sample: 2.5
whole:
  description: Whether the delta contains the whole pair.
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
    """Fail: only the action plugin of this name has the connection."""
    module = AnsibleModule(
        argument_spec={
            "direction": {"type": "str", "required": True, "choices": ["download", "upload"]},
            "delta": {"type": "path", "required": True},
            "remote": {"type": "str", "required": True},
            "description_sha256": {"type": "str", "default": ""},
            "patience": {"type": "float", "default": 600.0},
            "what": {"type": "str", "choices": ["database", "artwork"], "default": "database"},
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
