# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""The message of a task's failed result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_GENERIC = (
    "one or more items failed",
    "all items completed",
    "non-zero return code",
    "module failure",
    "module result deserialization",
)
_TAIL_LINES = 6
_LONGEST = 4000


def failure_message(result: Mapping[str, Any]) -> str:
    """Return the message of a failed task, never empty.

    A generic message is completed by the failed item or by the end of stderr. ``result`` is what the task returned.
    """
    message = str(result.get("msg") or "").strip()
    for item in result.get("results") or ():
        if isinstance(item, Mapping) and (item.get("failed") or item.get("unreachable")):
            label = item.get("item", item.get("_ansible_item_label"))
            prefix = f"{label}: " if isinstance(label, (str, int)) else ""
            return _short(prefix + failure_message(item))
    if not message or message.lower().startswith(_GENERIC):
        for stream in ("stderr", "module_stderr", "stdout", "module_stdout", "exception"):
            lines = str(result.get(stream) or "").strip().splitlines()
            if lines:
                tail = "\n".join(lines[-_TAIL_LINES:])
                code = f" (exit code {result['rc']})" if "rc" in result else ""
                return _short(f"{message or 'The task failed'}{code}:\n{tail}")
    if not message:
        message = str(
            result.get("censored") or result.get("reason") or "The task failed without a message; -vvv shows more."
        )
    return _short(message)


def plain_task_name(name: str) -> str:
    """Return the task's name without the role: ``start | Wait`` for ``plex_server : start | Wait``."""
    return name.partition(" : ")[2] or name


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} …"
