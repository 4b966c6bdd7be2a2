#!/usr/bin/python
# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""Check all plexburst_* variables and return them typed."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: plexburst_settings
short_description: Check all plexburst_* variables and return them typed
version_added: 0.1.0
author:
  - plexburst contributors (@plexburst)
description:
  - Reads C(settings.yml) of the project and all variables of the task whose name begins with C(plexburst_).
  - Extra vars arrive as strings; V(false), V(Music), V(Music,Movies), V(["Music"]) and V(3) are converted to the
    type of the setting.
  - All problems are reported at once; for an unknown name the nearest setting is suggested. Only C(plexburst_phase)
    is exempt.
  - Runs on the controller and changes nothing.
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
  required:
    description:
      - Settings that must not be empty, without the prefix.
      - By default, the settings that C(settings.yml) marks as required; an empty list means none.
    type: list
    elements: str
"""

EXAMPLES = r"""
---
- name: Check the settings
  plexburst.core.plexburst_settings:

- name: Check the settings of a playbook that only removes resources
  plexburst.core.plexburst_settings:
    required: []
"""

RETURN = r"""
---
settings:
  description: All settings without their prefix, typed. Also set as the fact C(run_settings).
  returned: success
  type: dict
  sample: {sections: [Music], max_hours: 24.0, skip_sonic: false}
problems:
  description: One sentence per problem.
  returned: failure
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule


def main() -> None:
    """Fail: the work of this module is done by its action plugin on the controller."""
    module = AnsibleModule(
        argument_spec={"required": {"type": "list", "elements": "str"}},
        supports_check_mode=True,
    )
    module.fail_json(
        msg="The action plugin plexburst.core.plexburst_settings was not found, so no setting was checked. Call the "
        "module by that full name, from a playbook next to the project's collections/ folder."
    )


if __name__ == "__main__":
    main()
