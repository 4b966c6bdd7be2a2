#!/usr/bin/python
# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""Check which media files home's Plex can read."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: plex_file_presence
short_description: Check which media files home's Plex can read
version_added: 0.1.0
author:
  - plexburst contributors (@plexburst)
description:
  - Reports for each path whether the file is present, absent or unknown. The check runs in Plex's container, or on
    this host as Plex's user.
  - Only the error "No such file or directory" means absent. Any other error, a folder that does not answer in
    O(folder_timeout), and an empty or missing folder of a section mean unknown. Treat unknown like present.
  - One shell process checks many files. It needs C(sh), C(xargs), C(stat) and C(ls) where Plex runs, but no Python.
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
    description: The paths in Plex's database, packed, from RV(plexburst.core.plex_db_path_audit#module:missing_packed).
    type: str
    required: true
  roots:
    description: The folders of Plex's sections. A file missing below an empty or missing folder is unknown.
    type: list
    elements: str
    default: []
  container:
    description: Plex's container. Empty means that Plex runs on this host.
    type: str
    default: ''
  path_map:
    description: Plex's folders and their paths on this host; the longest O(path_map[].path) wins.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Path of the folder in Plex.
        type: str
        required: true
      host:
        description: Path of the folder on this host.
        type: str
        required: true
  user_of:
    description: A file of Plex on this host. Without O(container), the check runs as the owner of this file.
    type: path
  folder_timeout:
    description: Timeout for one folder, in seconds.
    type: float
    default: 20.0
  timeout:
    description: Timeout for the whole check, in seconds. Files that are left then are unknown.
    type: float
    default: 300.0
"""

EXAMPLES = r"""
---
- name: Check which of the files missing on the remote exist at home
  plexburst.core.plex_file_presence:
    packed: "{{ audit.missing_packed }}"
    roots: "{{ audit.roots }}"
    container: plex
"""

RETURN = r"""
---
present:
  description: Number of files that are present.
  returned: success
  type: int
  sample: 2
absent:
  description: Number of files that are absent.
  returned: success
  type: int
  sample: 3
unknown:
  description: Number of files whose state is unknown.
  returned: success
  type: int
  sample: 0
examples:
  description: The first present or unknown paths.
  returned: success
  type: list
  elements: str
  sample: [/Media/Movies/Home Only (2020)/Home Only (2020).mkv]
why:
  description: Why files are unknown.
  returned: success
  type: list
  elements: str
  sample: []
present_packed:
  description: The present paths, packed.
  returned: success
  type: str
  sample: eJzTd01Jzy9KBAANdgM4
unknown_packed:
  description: The unknown paths, packed.
  returned: success
  type: str
  sample: ''
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.errors import PlexDatabaseError
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.path_mapping import presence


def main() -> None:
    """Check the paths and return the result."""
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
        module.fail_json(msg=f"The check at home for files missing on the remote failed. {error}")
    module.exit_json(
        changed=False,
        **found.as_dict(),
        present_packed=presence.pack(found.of(presence.PRESENT)),
        unknown_packed=presence.pack(found.of(presence.UNKNOWN)),
    )


if __name__ == "__main__":
    main()
