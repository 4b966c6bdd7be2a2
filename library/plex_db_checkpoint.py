#!/usr/bin/python
# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""Create a checkpoint of a Plex database pair while Plex works."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: plex_db_checkpoint
short_description: Create a checkpoint of a Plex database pair while Plex works
version_added: 0.1.0
author:
  - plexburst contributors (@plexburst)
description:
  - Copies the pair with SQLite's online backup while Plex works, and writes a delta against the last checkpoint. The
    delta is downloaded in parts, as M(plexburst.core.plex_db_transfer) does.
  - M(plexburst.core.plex_analyze), M(plexburst.core.plex_sonic) and M(plexburst.core.plex_scan) call it.
  - The host keeps one copy of the pair between two checkpoints and two while one is created. Free space is checked
    first.
  - Runs on the host that has the files and needs only Python 3.9 with sqlite3 and zlib.
attributes:
  check_mode:
    description: Can run in check mode and return what it would do, without changing anything.
    support: full
  diff_mode:
    description: Shows what would be changed in diff mode.
    support: none
  idempotent:
    description: Running it twice does not change more than running it once.
    support: partial
    details: V(present) creates another checkpoint; V(confirmed) and V(absent) do nothing the second time.
options:
  state:
    description:
      - V(present) copies the pair and creates the delta.
      - V(confirmed) makes a downloaded checkpoint the base of the next one.
      - V(discarded) removes a checkpoint that was not downloaded; the next one uses the previous base.
      - V(absent) removes everything in O(work_dir).
    type: str
    choices: [present, confirmed, discarded, absent]
    default: present
  work_dir:
    description: A folder on the host that only this module uses.
    type: path
    required: true
  databases_dir:
    description: The folder C(Plug-in Support/Databases) of the Plex server. Required with O(state=present).
    type: path
  base_dir:
    description: Folder of the base pair, with its manifest. Required with O(state=present).
    type: path
  known:
    description:
      - The bases that the controller has, newest first, as C(files) of their manifests. Required with O(state=present).
        If the host has none of them, the delta contains the whole pair.
    type: list
    elements: dict
  plex_version:
    description: The version of the Plex server, for the manifest.
    type: str
    default: ''
  owner:
    description:
      - Owner of the delta, if the login user may not read Plex's files.
      - Empty means the user the module runs as.
    type: str
    default: ''
"""

EXAMPLES = r"""
---
- name: Create a checkpoint
  plexburst.core.plex_db_checkpoint:
    databases_dir: /opt/plexburst/config/Library/Application Support/Plex Media Server/Plug-in Support/Databases
    work_dir: /opt/plexburst/transfer/checkpoint
    base_dir: /opt/plexburst/transfer/base
    known: ["{{ manifest.files }}"]
"""

RETURN = r"""
---
delta:
  description: Folder of the delta on the host.
  returned: O(state=present), not in check mode
  type: str
  sample: /opt/plexburst/transfer/checkpoint/delta
bytes:
  description: Size of the delta in bytes.
  returned: O(state=present), not in check mode
  type: int
  sample: 1300000
words:
  description: Size of the transfer as text.
  returned: O(state=present), not in check mode
  type: str
  sample: the delta, 1.3 MB for 12.9 MB changed of 2300.0 MB
description_sha256:
  description: SHA-256 of the delta's description, by which the controller verifies the download.
  returned: O(state=present), not in check mode
  type: str
  sample: 5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef
"""

import sys
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.errors import PlexDatabaseError

MISSING: ImportError | None = None
try:
    from ansible_collections.plexburst.core.plugins.module_utils.checkpoint import format as checkpoint_format
    from ansible_collections.plexburst.core.plugins.module_utils.plex_db.delta import delta as deltas
    from ansible_collections.plexburst.core.plugins.module_utils.plex_db.pair.files import give_to, sha256_of
except ImportError as error:
    MISSING = error


def make(options: dict[str, Any]) -> dict[str, Any]:
    """State `present`."""
    work = Path(options["work_dir"])
    made = checkpoint_format.make(
        Path(options["databases_dir"]), work, Path(options["base_dir"]), options["plex_version"], options["known"]
    )
    folder = work / checkpoint_format.DELTA
    if options["owner"]:
        give_to(options["owner"], folder, *folder.iterdir())
    return {
        "changed": True,
        "delta": str(folder),
        "bytes": made.size,
        "words": deltas.words(made),
        "description_sha256": sha256_of(folder / deltas.DESCRIPTION),
    }


def act(options: dict[str, Any], check: bool) -> dict[str, Any]:
    """What the state asks for; returns the result."""
    work = Path(options["work_dir"])
    if check:
        wanted = {
            "confirmed": [checkpoint_format.NEW],
            "discarded": [checkpoint_format.NEW, checkpoint_format.DELTA],
            "absent": [""],
        }
        names = wanted.get(options["state"])
        return {"changed": names is None or any((work / name).is_dir() for name in names)}
    if options["state"] == "present":
        return make(options)
    if options["state"] == "confirmed":
        return {"changed": checkpoint_format.keep(work)}
    return {"changed": checkpoint_format.remove(work, held=options["state"] == "absent")}


def main() -> None:
    """Create, keep, drop or remove a checkpoint."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "confirmed", "discarded", "absent"], "default": "present"},
            "work_dir": {"type": "path", "required": True},
            "databases_dir": {"type": "path"},
            "base_dir": {"type": "path"},
            "known": {"type": "list", "elements": "dict"},
            "plex_version": {"type": "str", "default": ""},
            "owner": {"type": "str", "default": ""},
        },
        required_if=[("state", "present", ["databases_dir", "base_dir", "known"])],
        supports_check_mode=True,
    )
    if MISSING is not None:
        module.fail_json(
            msg=f"The Python of this host ({sys.executable}) lacks a module for checkpoints: {MISSING}. Install the "
            "distribution's complete python3, or set ansible_python_interpreter to one."
        )
    try:
        answer = act(module.params, module.check_mode)
    except (PlexDatabaseError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(**answer)


if __name__ == "__main__":
    main()
