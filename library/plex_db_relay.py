#!/usr/bin/python
# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""Upload deltas of Plex databases to an encrypted relay, and download them."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: plex_db_relay
short_description: Upload and download deltas of Plex databases through an encrypted relay
version_added: 0.1.0
author:
  - plexburst contributors (@plexburst)
description:
  - Transfers a delta made by C(plexburst.core.plex_db_delta) through a relay, an rclone remote such as an S3 bucket, so
    that neither machine waits for the other's connection.
  - rclone's crypt encrypts contents and names with your passphrase before they leave the machine.
  - An upload is complete when all of it was read back, decrypted and compared. A download is verified by SHA-256.
    Existing parts are not transferred again, damaged parts are, and a lost connection is retried.
  - Its rclone.conf holds the remote, what that wraps, and the crypt; it lies in a private temporary folder while rclone
    runs, and nowhere afterwards. No secret is in an argument of a program or in a message.
  - On the controller it shows its progress.
attributes:
  check_mode:
    description: Can run in check mode and return what it would do, without changing anything.
    support: partial
    details: In check mode no delta is transferred, because there is none then, and V(tested) only lists.
  diff_mode:
    description: Shows what would be changed in diff mode.
    support: none
  idempotent:
    description: Running it twice does not change more than running it once.
    support: full
    details: Existing parts are not transferred again.
options:
  state:
    description:
      - V(uploaded) uploads the delta in O(delta) as O(name).
      - V(downloaded) downloads O(name) to O(delta).
      - V(inspected) returns which parts of O(name) are in the relay.
      - V(absent) removes all files of this run from the relay, or only O(name).
      - V(tested) checks the relay; a few bytes are uploaded, read back and removed.
      - V(pruned) removes the folders of runs that are over and have no results, subject to O(older_than) and O(all).
    type: str
    required: true
    choices: [uploaded, downloaded, inspected, absent, tested, pruned]
  relay:
    description: The relay, and the run.
    type: dict
    required: true
    suboptions:
      remote:
        description: An rclone remote with its path, such as V(media-s3:plexburst-relay).
        type: str
        required: true
      password_file:
        description: File on the controller with the passphrase in one line, readable only by its owner.
        type: path
        required: true
      rclone_config:
        description: The rclone configuration file on the controller that has the remote.
        type: path
        required: true
      rclone_bin:
        description: rclone binary on the controller.
        type: str
        default: rclone
      run:
        description: The run id, which names its folder in the relay. For O(state=pruned), the only run to remove.
        type: str
        default: ''
  at:
    description: Where O(delta) is, for V(uploaded) and V(downloaded) of O(state). Other states run on the controller.
    type: str
    choices: [controller, host]
    default: controller
  name:
    description: Name of the delta in the relay. V(base) is uploaded for the indexer, V(result) comes from it.
    type: str
    default: ''
  delta:
    description: Folder of the delta.
    type: path
  description_sha256:
    description: Expected SHA-256 of the delta's description, for O(state=downloaded). Empty accepts any.
    type: str
    default: ''
  rclone:
    description: rclone binary on the host, for O(at=host).
    type: str
    default: rclone
  patience:
    description: Seconds without progress after which the transfer fails.
    type: float
    default: 600.0
  media:
    description: Remotes that must not contain the relay, because Plex scans them, for O(state=tested).
    type: list
    elements: str
    default: []
  runs_dir:
    description: Folder of the run folders on the controller, which shows the runs that are over, for O(state=pruned).
    type: path
  older_than:
    description: Hours. O(state=pruned) also removes runs that began earlier, even with results.
    type: float
  all:
    description: O(state=pruned) removes all runs of plexburst.
    type: bool
    default: false
  config:
    description: Internal, set by the action plugin for the host. Content of the private rclone.conf.
    type: str
"""

EXAMPLES = r"""
---
- name: Upload the delta to the relay
  plexburst.core.plex_db_relay:
    state: uploaded
    at: host
    relay:
      remote: media-s3:plexburst-relay
      password_file: ~/.config/plexburst/relay-passphrase
      rclone_config: ~/.config/rclone/rclone.conf
      run: 20261122-071500-ab12
    name: result
    delta: /opt/plexburst/transfer/delta
"""

RETURN = r"""
---
bytes:
  description: Bytes transferred by this call, including repetitions; for O(state=inspected), existing bytes.
  returned: for O(state=uploaded), O(state=downloaded) and O(state=inspected)
  type: int
  sample: 1310000
parts:
  description: Parts transferred.
  returned: for O(state=uploaded) and O(state=downloaded)
  type: int
  sample: 2
there:
  description: Parts that existed already.
  returned: for O(state=uploaded) and O(state=downloaded)
  type: int
  sample: 0
repeated:
  description: Parts transferred again because they arrived damaged.
  returned: for O(state=uploaded) and O(state=downloaded)
  type: int
  sample: 0
cuts:
  description: Number of lost connections.
  returned: for O(state=uploaded) and O(state=downloaded)
  type: int
  sample: 0
seconds:
  description: Duration in seconds.
  returned: for O(state=uploaded) and O(state=downloaded)
  type: float
  sample: 2.5
whole:
  description: Whether the delta contains the whole pair.
  returned: for O(state=uploaded) and O(state=downloaded)
  type: bool
  sample: false
manifest:
  description: The manifest of the newer pair.
  returned: for O(state=uploaded) and O(state=downloaded)
  type: dict
  sample: {schema: 1, source: indexer}
complete:
  description: Whether the delta is complete in the relay, by the names and sizes of its parts.
  returned: for O(state=inspected)
  type: bool
  sample: true
description_sha256:
  description: SHA-256 of its description; empty without one.
  returned: for O(state=inspected)
  type: str
missing:
  description: Parts that are missing or incomplete.
  returned: for O(state=inspected)
  type: list
  elements: str
unreadable:
  description: Number of names that the passphrase cannot decrypt, as reported by rclone.
  returned: for O(state=tested)
  type: int
  sample: 0
deleted:
  description: The runs that were removed.
  returned: for O(state=pruned)
  type: list
  elements: str
kept:
  description: The runs that were kept.
  returned: for O(state=pruned)
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
    from ansible_collections.plexburst.core.plugins.module_utils.transfer.carrier import Cut
    from ansible_collections.plexburst.core.plugins.module_utils.transfer.relay import Line, Relay, result_of
except ImportError as error:
    MISSING = error


def main() -> None:
    """Upload or download on the host; other states are done by the action plugin."""
    module = AnsibleModule(
        # Its action's, again: a module cannot import from an action, and tests/unit/test_action_specs.py compares both.
        argument_spec={
            "state": {
                "type": "str",
                "required": True,
                "choices": ["uploaded", "downloaded", "inspected", "absent", "tested", "pruned"],
            },
            "relay": {
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
            "delta": {"type": "path"},
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
            msg=f"The Python of this host ({sys.executable}) lacks a module for the relay: {MISSING}. Install the "
            "distribution's complete python3, or set ansible_python_interpreter to one."
        )
    if not options["config"] or options["state"] not in ("uploaded", "downloaded"):
        module.fail_json(
            msg="plex_db_relay works through its action plugin, which was not found. Call it as "
            "plexburst.core.plex_db_relay."
        )
    run, name, folder = options["relay"]["run"], options["name"], Path(options["delta"])
    line = Line(emit=module.debug, patience=options["patience"])
    with tempfile.TemporaryDirectory(dir=module.tmpdir) as private:
        config = Path(private) / "rclone.conf"
        with os.fdopen(os.open(config, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:
            stream.write(options["config"])
        relay = Relay(options["rclone"], config)
        try:
            if options["state"] == "uploaded":
                delta, done = relay.put(line, folder, run, name)
            else:
                delta, done = relay.get(line, folder, run, name, options["description_sha256"])
        except (PlexDatabaseError, Cut, OSError) as error:
            module.fail_json(msg=str(error))
    module.exit_json(**result_of(delta, done))


if __name__ == "__main__":
    main()
