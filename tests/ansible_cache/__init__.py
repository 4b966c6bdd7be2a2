"""What makes Ansible cheaper in tests, and changes nothing that they claim.

Measured on a delta sync in the small sandbox (2 cores, ansible-core 2.19): 145 CPU seconds without, about 90 with it.
The main process asks its workers twenty times less often whether they are done; a module that one playbook of the
session has packed is not packed by the next one again; files of variables are parsed once (6 s of the main process's
20); filters and tests are loaded once. Of all processes of such a run, the sandbox's too, about 155 CPU seconds are 135
when a template is compiled once in a session.
"""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "PLEXBURST_TEST_PACKED"
"""Names the session's folder for packed modules and compiled templates; set by tests/conftest.py."""


def environment(*, bytecode: bool = False) -> dict[str, str]:
    """To be added to a clean environment for ansible-playbook.

    `bytecode`: for machines that do not keep what they compiled, as the sandbox's do (sandbox/machines/compiled.py).
    """
    return {
        "ANSIBLE_CONFIG": str(Path(__file__).with_name("ansible.cfg")),
        **({VARIABLE: os.environ[VARIABLE]} if VARIABLE in os.environ else {}),
        **({"PLEXBURST_TEST_BYTECODE": "1"} if bytecode else {}),
    }
