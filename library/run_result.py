#!/usr/bin/python
# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""Check the result of the run."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: run_result
short_description: Check the result of the run
version_added: 0.1.0
author:
  - plexburst contributors (@plexburst)
description:
  - The last task of a playbook. Shows a short summary. If the run failed, it fails with the first recorded failure, its
    next step and the path of the report.
  - Resources that were not removed are a failure, too.
  - Runs on the controller.
attributes:
  check_mode:
    description: Can run in check mode and return what it would do, without changing anything.
    support: full
    details: It only reads, and notes in the run's own events that it was reached.
  diff_mode:
    description: Shows what would be changed in diff mode.
    support: none
  idempotent:
    description: Running it twice does not change more than running it once.
    support: full
    details: It only reads.
options:
  run_dir:
    description: The run folder; the fact C(run_dir) when left out.
    type: path
"""

EXAMPLES = r"""
---
- name: Check the result
  plexburst.core.run_result:
"""

RETURN = r"""
---
status:
  description: Status of the run.
  returned: when there is a run
  type: str
  sample: succeeded
failure:
  description: The first failure, or null.
  returned: when there is a run
  type: dict
report:
  description: Path of the report on the controller.
  returned: when there is a run
  type: str
"""

from ansible.module_utils.basic import AnsibleModule


def main() -> None:
    """Fail: the work of this module is done by its action plugin on the controller."""
    module = AnsibleModule(
        argument_spec={"run_dir": {"type": "path"}},
        supports_check_mode=True,
    )
    module.fail_json(
        msg="The action plugin plexburst.core.run_result was not found, so nothing was checked. Call the module by "
        "that full name, from a playbook next to the project's collections/ folder."
    )


if __name__ == "__main__":
    main()
