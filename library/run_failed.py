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
  - Appends the failure to the run's events, so that the run fails at its end, and sets the fact C(run_ok) to
    V(false).
  - Inside a C(rescue) all values default to those of the failed task. The callback records failures without a
    rescue.
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
    description: The failed result with message and advice. Default is the result of the rescued task.
    type: dict
    default: {}
  phase:
    description: The phase. Default is the play's C(plexburst_phase).
    type: str
  host:
    description: The host. Default is the current host.
    type: str
  task:
    description: The task's name. Default is the name of the rescued task.
    type: str
  reason:
    description: What was expected and what was found. Default is the message of the rescued task.
    type: str
  advice:
    description: The next step. Default is the rescued task's C(advice), or the advice of the project's table.
    type: str
  run_dir:
    description: The run folder; the fact C(run_dir) when left out.
    type: path
"""

EXAMPLES = r"""
---
- name: Create the instance
  block:
    - name: Provision
      ansible.builtin.include_role:
        name: plexburst.core.provider_scaleway
  rescue:
    - name: Record why there is no instance
      plexburst.core.run_failed:
"""

RETURN = r"""
---
failure:
  description: The recorded failure.
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
      description: The message.
      type: str
    advice:
      description: The next step.
      type: str
"""

from ansible.module_utils.basic import AnsibleModule


def main() -> None:
    """Fail: the work of this module is done by its action plugin on the controller."""
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
        msg="The action plugin plexburst.core.run_failed was not found, so no failure was recorded. Call the module by "
        "that full name, from a playbook next to the project's collections/ folder."
    )


if __name__ == "__main__":
    main()
