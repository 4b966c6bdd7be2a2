#!/usr/bin/python
# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""Record a failure that was rescued."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: run_failed
short_description: Record a failure that was rescued
version_added: 0.1.0
author:
  - plexburst contributors (@plexburst)
description:
  - Appends the failure to the run's events, so that the run cannot pass as a success, and sets the fact C(run_ok) to
    V(false).
  - Inside a C(rescue) everything is taken from the failed task. A failure without a C(rescue) is recorded by the
    callback.
  - Runs on the controller.
attributes:
  check_mode:
    description: Can run in check mode and return what it would do, without changing anything.
    support: full
    details: It writes only to the temporary run folder of check mode.
  diff_mode:
    description: Shows what would be changed in diff mode.
    support: none
  idempotent:
    description: Running it twice does not change more than running it once.
    support: none
    details: Every call records one failure.
options:
  result:
    description: The failed result from which message and advice are taken; that of the rescued task when left out.
    type: dict
    default: {}
  phase:
    description: The phase; the play's C(plexburst_phase) when left out.
    type: str
  host:
    description: The host; the current one when left out.
    type: str
  task:
    description: The task's name; that of the rescued task when left out.
    type: str
  reason:
    description: What was expected and what was found; taken from the rescued task when left out.
    type: str
  advice:
    description: The next step; the rescued task's C(advice), or that of the project's table, when left out.
    type: str
  run_dir:
    description: The run folder; the fact C(run_dir) when left out.
    type: path
"""

EXAMPLES = r"""
---
- name: Make the instance
  block:
    - name: Provision
      ansible.builtin.include_role:
        name: plexburst.core.scaleway_instance
  rescue:
    - name: Record why there is no instance
      plexburst.core.run_failed:
"""

RETURN = r"""
---
failure:
  description: What was recorded.
  returned: success
  type: dict
  contains:
    phase:
      description: The phase.
      type: str
    host:
      description: The host.
      type: str
    task:
      description: The task.
      type: str
    message:
      description: What went wrong.
      type: str
    advice:
      description: The next step.
      type: str
"""

from ansible.module_utils.basic import AnsibleModule


def main() -> None:
    """Fail with a sentence: this module's work is done by its action plugin, on the controller."""
    module = AnsibleModule(
        argument_spec={
            "result": {"type": "dict", "default": {}},
            "phase": {"type": "str"},
            "host": {"type": "str"},
            "task": {"type": "str"},
            "reason": {"type": "str"},
            "advice": {"type": "str"},
            "run_dir": {"type": "path"},
        },
        supports_check_mode=True,
    )
    module.fail_json(
        msg="The action plugin plexburst.core.run_failed was not found, so nothing was done. Call the module by that "
        "full name, from a playbook next to the project's collections/ folder."
    )


if __name__ == "__main__":
    main()
