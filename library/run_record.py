#!/usr/bin/python
# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""Record values for the run's summary."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: run_record
short_description: Record values for the run's summary
version_added: 0.1.0
author:
  - plexburst contributors (@plexburst)
description:
  - Merges O(value) into C(state.json) of the run folder, from which the summary is made.
  - Dictionaries are merged key by key, sections by their id, C(created) and C(deleted) grow; all else is replaced.
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
    support: full
    details: The same value again changes nothing.
options:
  key:
    description:
      - The part of the summary.
      - V(leftovers) takes a list and is short for C(cloud.leftovers); V(partial) takes a list of sentences about what
        is missing, which makes the run V(partial).
    type: str
    required: true
    choices: [cloud, cost, home, leftovers, partial, plan, sections, sonic]
  value:
    description: The value, of the type that C(docs/summary.schema.json) gives this part; it may be incomplete.
    type: raw
    required: true
  replace:
    description: Replace what was recorded instead of merging.
    type: bool
    default: false
  run_dir:
    description: The run folder; the fact C(run_dir) when left out.
    type: path
"""

EXAMPLES = r"""
---
- name: Record the created resources
  plexburst.core.run_record:
    key: cloud
    value:
      created: "{{ provider_scaleway_result.created }}"
"""

RETURN = r"""
---
key:
  description: The part that was recorded.
  returned: success
  type: str
  sample: cloud
"""

from ansible.module_utils.basic import AnsibleModule


def main() -> None:
    """Fail: the work of this module is done by its action plugin on the controller."""
    module = AnsibleModule(
        argument_spec={
            "key": {
                "type": "str",
                "required": True,
                "no_log": False,
                "choices": ["cloud", "cost", "home", "leftovers", "partial", "plan", "sections", "sonic"],
            },
            "value": {"type": "raw", "required": True},
            "replace": {"type": "bool", "default": False},
            "run_dir": {"type": "path"},
        },
        supports_check_mode=True,
    )
    module.fail_json(
        msg="The action plugin plexburst.core.run_record was not found, so nothing was recorded. Call the module by "
        "that full name, from a playbook next to the project's collections/ folder."
    )


if __name__ == "__main__":
    main()
