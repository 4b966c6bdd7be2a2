"""Lets the playbooks of a test session do once what they would do again and again, with the same result.

Packed modules: Ansible keeps them in a temporary folder of each process; here that folder is a link to the session's.
All playbooks of a session pack the same sources.

Files of variables: Ansible reads and parses those of a play (`vars_files`) again for each task, unless they are
encrypted (ansible.vars.manager); here as it does with the encrypted ones. Nothing writes them while a playbook runs.

Filters and tests of templates: each task has a process of its own, which loads those it needs; here they are loaded
before there is any.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ansible import constants
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.callback import CallbackBase
from ansible.plugins.loader import filter_loader, test_loader

DOCUMENTATION = """
name: packed_once
type: aggregate
short_description: Share packed modules between the playbooks of a test session
description:
  - Links the folder of packed modules to the one that PLEXBURST_TEST_PACKED names.
  - Keeps what was read from files of variables, and loads filters and tests before the first task.
"""


def _read_once(read: Callable[..., Any]) -> Callable[..., Any]:
    """`DataLoader.load_from_file` that keeps every file it is not told to forget."""

    def load_from_file(self: DataLoader, file_name: str, cache: str = "all", **options: Any) -> Any:
        return read(self, file_name, cache="all" if cache == "vaulted" else cache, **options)

    return load_from_file


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
            DataLoader.load_from_file = _read_once(DataLoader.load_from_file)
            list(filter_loader.all())
            list(test_loader.all())
