#!/usr/bin/python
# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""Make a checkpoint of a Plex database pair that is being worked on."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: plex_db_checkpoint
short_description: Make a checkpoint of a Plex database pair that is being worked on
version_added: 0.1.0
author:
  - plexburst contributors (@plexburst)
description:
  - Copies the pair by SQLite's online backup while Plex works, and writes what is new in it since the last checkpoint
    to a patch. It is downloaded to the controller part by part, as M(plexburst.core.plex_db_transfer) does.
  - M(plexburst.core.plex_analyze), M(plexburst.core.plex_sonic) and M(plexburst.core.plex_scan) call it by themselves.
  - One copy of the pair stays on the host between two checkpoints, two are there while one is made. Free space is
    checked before.
  - Runs on the host that has the files and needs nothing but Python 3.9 with sqlite3 and zlib.
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
    details: V(made) makes another checkpoint; V(kept) and V(absent) do nothing the second time.
options:
  state:
    description:
      - V(made) copies the pair and makes the patch.
      - V(kept) says that the controller has it, so that the next checkpoint leads on from it.
      - V(dropped) removes what is on its way; the next checkpoint leads on from the one before it.
      - V(absent) removes everything in O(work_dir).
    type: str
    choices: [made, kept, dropped, absent]
    default: made
  work_dir:
    description: A folder on the host for this alone.
    type: path
    required: true
  databases_dir:
    description: The folder C(Plug-in Support/Databases) of the Plex server. Required with O(state=made).
    type: path
  base_dir:
    description: The folder of the pair that went out, with its manifest. Required with O(state=made).
    type: path
  known:
    description:
      - What the controller can lead on from, the newest first, as C(files) of manifests have it. Required with
        O(state=made). Where none of it is on the host, the patch holds the whole pair.
    type: list
    elements: dict
  plex_version:
    description: The version of the Plex server, for the manifest.
    type: str
    default: ''
  owner:
    description:
      - User that owns the patch, where the user who logs in is not the one who may read Plex's files.
      - Empty means the user the module runs as.
    type: str
    default: ''
"""

EXAMPLES = r"""
---
- name: Make a checkpoint
  plexburst.core.plex_db_checkpoint:
    databases_dir: /opt/plexburst/config/Library/Application Support/Plex Media Server/Plug-in Support/Databases
    work_dir: /opt/plexburst/transfer/checkpoint
    base_dir: /opt/plexburst/transfer/base
    known: ["{{ manifest.files }}"]
"""

RETURN = r"""
---
patch:
  description: The folder of the patch on the host.
  returned: O(state=made), not in check mode
  type: str
  sample: /opt/plexburst/transfer/checkpoint/patch
bytes:
  description: Bytes of the patch.
  returned: O(state=made), not in check mode
  type: int
  sample: 1300000
words:
  description: What travels, for people.
  returned: O(state=made), not in check mode
  type: str
  sample: the delta, 1.3 MB for 12.9 MB changed of 2300.0 MB
description_sha256:
  description: SHA-256 of the patch's description, by which the controller knows that it arrived.
  returned: O(state=made), not in check mode
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
    from ansible_collections.plexburst.core.plugins.module_utils.plex_db import checkpoint
    from ansible_collections.plexburst.core.plugins.module_utils.plex_db import patch as patches
    from ansible_collections.plexburst.core.plugins.module_utils.plex_db.files import give_to, sha256_of
except ImportError as error:
    MISSING = error


def make(options: dict[str, Any]) -> dict[str, Any]:
    """State `made`."""
    work = Path(options["work_dir"])
    made = checkpoint.make(
        Path(options["databases_dir"]), work, Path(options["base_dir"]), options["plex_version"], options["known"]
    )
    folder = work / checkpoint.PATCH
    if options["owner"]:
        give_to(options["owner"], folder, *folder.iterdir())
    return {
        "changed": True,
        "patch": str(folder),
        "bytes": made.size,
        "words": patches.words(made),
        "description_sha256": sha256_of(folder / patches.DESCRIPTION),
    }


def act(options: dict[str, Any], check: bool) -> dict[str, Any]:
    """What the state asks for; returns the result."""
    work = Path(options["work_dir"])
    if check:
        wanted = {"kept": [checkpoint.NEW], "dropped": [checkpoint.NEW, checkpoint.PATCH], "absent": [""]}
        names = wanted.get(options["state"])
        return {"changed": names is None or any((work / name).is_dir() for name in names)}
    if options["state"] == "made":
        return make(options)
    if options["state"] == "kept":
        return {"changed": checkpoint.keep(work)}
    return {"changed": checkpoint.remove(work, held=options["state"] == "absent")}


def main() -> None:
    """Make one, or say what becomes of it."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["made", "kept", "dropped", "absent"], "default": "made"},
            "work_dir": {"type": "path", "required": True},
            "databases_dir": {"type": "path"},
            "base_dir": {"type": "path"},
            "known": {"type": "list", "elements": "dict"},
            "plex_version": {"type": "str", "default": ""},
            "owner": {"type": "str", "default": ""},
        },
        required_if=[("state", "made", ["databases_dir", "base_dir", "known"])],
        supports_check_mode=True,
    )
    if MISSING is not None:
        module.fail_json(
            msg=f"The Python of this host ({sys.executable}) lacks what a checkpoint needs: {MISSING}. Install the "
            "distribution's complete python3, or set ansible_python_interpreter to one."
        )
    try:
        answer = act(module.params, module.check_mode)
    except (PlexDatabaseError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(**answer)


if __name__ == "__main__":
    main()
