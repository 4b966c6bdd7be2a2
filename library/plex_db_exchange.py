#!/usr/bin/python
# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""Upload and download deltas of Plex databases through an encrypted rclone remote."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: plex_db_exchange
short_description: Upload and download deltas of Plex databases through an encrypted rclone remote
version_added: 0.1.0
author:
  - plexburst contributors (@plexburst)
description:
  - Copies a delta that C(plexburst.core.plex_db_patch) made through an rclone remote, the relay, usually an S3
    bucket, so that neither machine waits for the other's connection.
  - Contents and names are encrypted by rclone's crypt with a passphrase of your own, before they leave the machine.
  - An upload is complete when all of it was read back, decrypted and compared. A download is verified by SHA-256.
    Parts that are present are not copied again, a damaged part is, and a lost connection is retried.
  - Its rclone.conf holds the remote, what that wraps, and the crypt; it lies in a private temporary folder while rclone
    runs, and nowhere afterwards. No secret is in an argument of a program or in a message.
  - On the controller it shows its progress.
attributes:
  check_mode:
    description: Can run in check mode and return what it would do, without changing anything.
    support: partial
    details: In check mode nothing is copied, because there is no delta then, and V(probed) only lists.
  diff_mode:
    description: Shows what would be changed in diff mode.
    support: none
  idempotent:
    description: Running it twice does not change more than running it once.
    support: full
    details: Parts that are present are not copied again.
options:
  state:
    description:
      - V(put) uploads the delta in O(patch) as O(name).
      - V(got) downloads O(name) into O(patch).
      - V(known) returns which parts of O(name) are in the relay.
      - V(absent) removes O(name), or everything of this run, from the relay.
      - V(probed) checks that the relay can be used by writing, reading and removing a few bytes.
      - V(reaped) removes the folders of runs that are over and hold no work, as O(older_than) and O(all) say.
    type: str
    required: true
    choices: [put, got, known, absent, probed, reaped]
  exchange:
    description: Address of the relay, and the run that uses it.
    type: dict
    required: true
    suboptions:
      remote:
        description: An rclone remote with its path, such as V(media-s3:plexburst-exchange).
        type: str
        required: true
      password_file:
        description: File on the controller that holds the passphrase in one line, and that only its owner can read.
        type: path
        required: true
      rclone_config:
        description: The rclone configuration file on the controller that has the remote.
        type: path
        required: true
      rclone_bin:
        description: rclone on the controller.
        type: str
        default: rclone
      run:
        description: The run's id, the name of its folder there. For O(state=reaped), the one run to remove, if any.
        type: str
        default: ''
  at:
    description: Where O(patch) is, for V(put) and V(got) of O(state). All else is done on the controller.
    type: str
    choices: [controller, host]
    default: controller
  name:
    description: Name of the delta in the relay. V(base) goes to the indexer, V(result) comes home.
    type: str
    default: ''
  patch:
    description: The folder of the patch.
    type: path
  description_sha256:
    description: SHA-256 that the patch's description must have, for O(state=got). Empty takes what is there.
    type: str
    default: ''
  rclone:
    description: rclone on the host, for O(at=host).
    type: str
    default: rclone
  patience:
    description: Seconds without data before the transfer fails.
    type: float
    default: 600.0
  media:
    description: Remotes in whose folders the relay must not be, because Plex scans them, for O(state=probed).
    type: list
    elements: str
    default: []
  runs_dir:
    description: The folder of the run folders on the controller, which tells what is over, for O(state=reaped).
    type: path
  older_than:
    description: Hours. O(state=reaped) removes also what belongs to a run that began longer ago, whatever it holds.
    type: float
  all:
    description: O(state=reaped) removes everything of ours.
    type: bool
    default: false
  config:
    description: Internal, set by the action plugin for the host. The text of the private rclone.conf.
    type: str
"""

EXAMPLES = r"""
---
- name: Upload the delta to the relay
  plexburst.core.plex_db_exchange:
    state: put
    at: host
    exchange:
      remote: media-s3:plexburst-exchange
      password_file: ~/.config/plexburst/exchange-passphrase
      rclone_config: ~/.config/rclone/rclone.conf
      run: 20261122-071500-ab12
    name: result
    patch: /opt/plexburst/transfer/patch
"""

RETURN = r"""
---
bytes:
  description: Bytes that travelled this time, repetitions included; for O(state=known), bytes that are there.
  returned: for O(state=put), O(state=got) and O(state=known)
  type: int
  sample: 1310000
parts:
  description: Parts that travelled.
  returned: for O(state=put) and O(state=got)
  type: int
  sample: 2
there:
  description: Parts that were there already.
  returned: for O(state=put) and O(state=got)
  type: int
  sample: 0
repeated:
  description: Parts that travelled again because they arrived damaged.
  returned: for O(state=put) and O(state=got)
  type: int
  sample: 0
cuts:
  description: How often the line was cut.
  returned: for O(state=put) and O(state=got)
  type: int
  sample: 0
seconds:
  description: Seconds it took.
  returned: for O(state=put) and O(state=got)
  type: float
  sample: 2.5
whole:
  description: Whether it is the whole pair.
  returned: for O(state=put) and O(state=got)
  type: bool
  sample: false
manifest:
  description: The manifest of the newer pair.
  returned: for O(state=put) and O(state=got)
  type: dict
  sample: {schema: 1, source: indexer}
complete:
  description: Whether the whole delta is in the relay, by the names and sizes of its parts.
  returned: for O(state=known)
  type: bool
  sample: true
description_sha256:
  description: SHA-256 of its description; empty without one.
  returned: for O(state=known)
  type: str
missing:
  description: Parts that are not there, or not whole.
  returned: for O(state=known)
  type: list
  elements: str
unreadable:
  description: How many names there the passphrase cannot decrypt, as far as rclone tells.
  returned: for O(state=probed)
  type: int
  sample: 0
deleted:
  description: The runs that were removed.
  returned: for O(state=reaped)
  type: list
  elements: str
kept:
  description: The runs that were not.
  returned: for O(state=reaped)
  type: list
  elements: dict
  contains:
    run_id:
      description: The run.
      type: str
    why:
      description: Why it was kept.
      type: str
"""

import os
import sys
import tempfile
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

MISSING: ImportError | None = None
try:
    from ansible_collections.plexburst.core.plugins.module_utils.plex_db.errors import PlexDatabaseError
    from ansible_collections.plexburst.core.plugins.module_utils.plex_db.exchange import Exchange, Line, result_of
    from ansible_collections.plexburst.core.plugins.module_utils.plex_db.patch_transfer import Cut
except ImportError as error:
    MISSING = error


def main() -> None:
    """Put or get on the host; everything else is the action plugin's."""
    module = AnsibleModule(
        # Its action's, again: a module cannot import from an action, and tests/unit/test_action_specs.py compares both.
        argument_spec={
            "state": {
                "type": "str",
                "required": True,
                "choices": ["put", "got", "known", "absent", "probed", "reaped"],
            },
            "exchange": {
                "type": "dict",
                "required": True,
                "no_log": False,
                "options": {
                    "remote": {"type": "str", "required": True},
                    "password_file": {"type": "path", "required": True, "no_log": False},
                    "rclone_config": {"type": "path", "required": True},
                    "rclone_bin": {"type": "str", "default": "rclone"},
                    "run": {"type": "str", "default": ""},
                },
            },
            "at": {"type": "str", "choices": ["controller", "host"], "default": "controller"},
            "name": {"type": "str", "default": ""},
            "patch": {"type": "path"},
            "description_sha256": {"type": "str", "default": ""},
            "rclone": {"type": "str", "default": "rclone"},
            "patience": {"type": "float", "default": 600.0},
            "media": {"type": "list", "elements": "str", "default": []},
            "runs_dir": {"type": "path"},
            "older_than": {"type": "float"},
            "all": {"type": "bool", "default": False},
            "config": {"type": "str", "no_log": True},
        },
        supports_check_mode=True,
    )
    options = module.params
    if MISSING is not None:
        module.fail_json(
            msg=f"The Python of this host ({sys.executable}) lacks what the relay needs: {MISSING}. Install the "
            "distribution's complete python3, or set ansible_python_interpreter to one."
        )
    if not options["config"] or options["state"] not in ("put", "got"):
        module.fail_json(
            msg="plex_db_exchange works through its action plugin, which was not found. Call it as "
            "plexburst.core.plex_db_exchange."
        )
    run, name, folder = options["exchange"]["run"], options["name"], Path(options["patch"])
    line = Line(emit=module.debug, patience=options["patience"])
    with tempfile.TemporaryDirectory(dir=module.tmpdir) as private:
        config = Path(private) / "rclone.conf"
        with os.fdopen(os.open(config, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:
            stream.write(options["config"])
        exchange = Exchange(options["rclone"], config)
        try:
            if options["state"] == "put":
                patch, done = exchange.put(line, folder, run, name)
            else:
                patch, done = exchange.get(line, folder, run, name, options["description_sha256"])
        except (PlexDatabaseError, Cut, OSError) as error:
            module.fail_json(msg=str(error))
    module.exit_json(**result_of(patch, done))


if __name__ == "__main__":
    main()
