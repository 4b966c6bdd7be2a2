# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""Options of plex_db_exchange, which its action checks on the controller and its module where it runs."""

from __future__ import annotations

from typing import Any

OPTIONS: dict[str, Any] = {
    "state": {
        "type": "str",
        "required": True,
        "choices": ["put", "got", "known", "absent", "probed", "reaped"],
    },
    "exchange": {
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
    "patch": {"type": "path"},
    "description_sha256": {"type": "str", "default": ""},
    "rclone": {"type": "str", "default": "rclone"},
    "patience": {"type": "float", "default": 600.0},
    "media": {"type": "list", "elements": "str", "default": []},
    "runs_dir": {"type": "path"},
    "older_than": {"type": "float"},
    "all": {"type": "bool", "default": False},
    "config": {"type": "str", "no_log": True},
}
