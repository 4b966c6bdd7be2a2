"""Lets the playbooks of a test session share the modules that one of them has packed.

Ansible keeps what it has packed in a temporary folder of each process; here that folder is a link to the session's. All
playbooks of a session pack the same sources.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from ansible import constants
from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: packed_once
type: aggregate
short_description: Share packed modules between the playbooks of a test session
description: Links the folder of packed modules to the one that PLEXBURST_TEST_PACKED names.
"""


class CallbackModule(CallbackBase):  # type: ignore[misc]  # ansible has no types
    """Acts when it is loaded."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "packed_once"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        shared = os.environ.get("PLEXBURST_TEST_PACKED")
        if shared:
            with suppress(FileExistsError):
                Path(constants.DEFAULT_LOCAL_TMP, "ansiballz_cache").symlink_to(shared)
