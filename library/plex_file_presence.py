#!/usr/bin/python
# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""Look for media files as home's Plex sees them."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: plex_file_presence
short_description: Look for media files as home's Plex sees them
version_added: 0.1.0
author:
  - plexburst contributors (@plexburst)
description:
  - Tells for each path whether the file is there, is not there, or cannot be told, in the container that Plex runs in,
    or on this host as Plex's user.
  - Only a clean "No such file or directory" is absent. Another error, a folder that does not answer in
    O(folder_timeout), and a section's folder that is empty or not there are unknown. Treat unknown like present.
  - One shell process looks at many files. It needs C(sh), C(xargs), C(stat) and C(ls) where Plex lives, no Python.
attributes:
  check_mode:
    description: Can run in check mode and return what it would do, without changing anything.
    support: full
    details: It only reads.
  diff_mode:
    description: Shows what would be changed in diff mode.
    support: none
  idempotent:
    description: Running it twice does not change more than running it once.
    support: full
    details: It only reads.
options:
  packed:
    description: The paths as Plex names them, as RV(plexburst.core.plex_db_paths#module:missing_packed) has them.
    type: str
    required: true
  roots:
    description: The folders of Plex's sections. What is absent below one that is empty or not there is unknown.
    type: list
    elements: str
    default: []
  container:
    description: The container that Plex runs in. Empty means that it runs on this host.
    type: str
    default: ''
  path_map:
    description: Where Plex's folders lie on this host, as V(path) and V(host); the longest path wins.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: The folder as Plex names it.
        type: str
        required: true
      host:
        description: The folder on this host.
        type: str
        required: true
  user_of:
    description: A file of Plex's on this host. Without O(container), files are looked for as its owner.
    type: path
  folder_timeout:
    description: Seconds that one folder may take.
    type: float
    default: 20.0
  timeout:
    description: Seconds that all may take. What is left then is unknown.
    type: float
    default: 300.0
"""

EXAMPLES = r"""
---
- name: Look for what the remote lacks, where home's Plex runs
  plexburst.core.plex_file_presence:
    packed: "{{ audit.missing_packed }}"
    roots: "{{ audit.roots }}"
    container: plex
"""

RETURN = r"""
---
present:
  description: How many files are there.
  returned: success
  type: int
  sample: 2
absent:
  description: How many are not there.
  returned: success
  type: int
  sample: 3
unknown:
  description: How many cannot be told.
  returned: success
  type: int
  sample: 0
examples:
  description: The first of those that are there or cannot be told.
  returned: success
  type: list
  elements: str
  sample: [/Media/Movies/Home Only (2020)/Home Only (2020).mkv]
why:
  description: Why some cannot be told.
  returned: success
  type: list
  elements: str
  sample: []
present_packed:
  description: The paths of those that are there, packed.
  returned: success
  type: str
  sample: eJzTd01Jzy9KBAANdgM4
unknown_packed:
  description: The paths of those that cannot be told, packed.
  returned: success
  type: str
  sample: ''
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.plexburst.core.plugins.module_utils.plex_db import presence
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.errors import PlexDatabaseError


def main() -> None:
    """Look, answer."""
    module = AnsibleModule(
        argument_spec={
            "packed": {"type": "str", "required": True},
            "roots": {"type": "list", "elements": "str", "default": []},
            "container": {"type": "str", "default": ""},
            "path_map": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {"path": {"type": "str", "required": True}, "host": {"type": "str", "required": True}},
            },
            "user_of": {"type": "path"},
            "folder_timeout": {"type": "float", "default": presence.FOLDER_SECONDS},
            "timeout": {"type": "float", "default": presence.TOTAL_SECONDS},
        },
        supports_check_mode=True,
    )
    options = module.params
    try:
        view = presence.View(
            container=options["container"],
            path_map={entry["path"]: entry["host"] for entry in options["path_map"]},
            user=presence.owner_of(Path(options["user_of"])) if options["user_of"] else None,
        )
        found = presence.look(
            presence.unpack(options["packed"]),
            options["roots"],
            view,
            presence.Limits(options["folder_timeout"], options["timeout"]),
        )
    except (PlexDatabaseError, OSError) as error:
        module.fail_json(msg=f"The files that the remote lacks cannot be looked for at home. {error}")
    module.exit_json(
        changed=False,
        **found.as_dict(),
        present_packed=presence.pack(found.of(presence.PRESENT)),
        unknown_packed=presence.pack(found.of(presence.UNKNOWN)),
    )


if __name__ == "__main__":
    main()
