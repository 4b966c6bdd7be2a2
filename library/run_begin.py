#!/usr/bin/python
# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""Begin a run: its id, its folder, its lock."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: run_begin
short_description: Begin a run with its id, folder and lock
version_added: 0.1.0
author:
  - plexburst contributors (@plexburst)
description:
  - Creates the run folder (mode 0700), points C(latest) to it and locks the runs folder, so that runs do not overlap.
  - A lock of a process that has ended is taken over. The callback plugin C(plexburst) releases the lock at the end.
  - Runs on the controller.
attributes:
  check_mode:
    description: Can run in check mode and return what it would do, without changing anything.
    support: full
    details: The folder is a temporary one that is removed at the end; no lock is taken.
  diff_mode:
    description: Shows what would be changed in diff mode.
    support: none
  idempotent:
    description: Running it twice does not change more than running it once.
    support: none
    details: Every call without O(existing) begins another run.
options:
  runs_dir:
    description: Folder of the run folders, on the controller.
    type: path
    required: true
  run_id:
    description: The run id, as in V(20261122-071500-ab12). Default is a new one.
    type: str
  existing:
    description: Continue with the existing folder of O(run_id), for playbooks that recover, install or release an
      earlier run.
    type: bool
    default: false
  lock:
    description: Take the lock. V(false) is for playbooks that only read.
    type: bool
    default: true
"""

EXAMPLES = r"""
---
- name: Begin the run
  plexburst.core.run_begin:
    runs_dir: "{{ run_settings.runs_dir }}"
"""

RETURN = r"""
---
run_id:
  description: The run's id. Also a fact.
  returned: success
  type: str
  sample: 20261122-071500-ab12
run_dir:
  description: The run's folder on the controller. Also a fact.
  returned: success
  type: str
  sample: /home/me/plexburst/runs/20261122-071500-ab12
run_group:
  description: The inventory group of the run's indexer. Also a fact.
  returned: success
  type: str
  sample: plexburst_run_20261122_071500_ab12
run_ok:
  description: V(true); M(plexburst.core.run_failed) makes it V(false). Also a fact.
  returned: success
  type: bool
runs_dir:
  description: The folder of the run folders.
  returned: success
  type: str
temporary:
  description: Whether the folder is removed at the end (check mode).
  returned: success
  type: bool
locked:
  description: Whether the lock was taken.
  returned: success
  type: bool
"""

from ansible.module_utils.basic import AnsibleModule


def main() -> None:
    """Fail: the work of this module is done by its action plugin on the controller."""
    module = AnsibleModule(
        argument_spec={
            "runs_dir": {"type": "path", "required": True},
            "run_id": {"type": "str"},
            "existing": {"type": "bool", "default": False},
            "lock": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    module.fail_json(
        msg="The action plugin plexburst.core.run_begin was not found, so no run was started. Call the module by "
        "that full name, from a playbook next to the project's collections/ folder."
    )


if __name__ == "__main__":
    main()
