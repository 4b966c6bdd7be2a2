# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""Make the project's collection importable as ``ansible_collections.plexburst.core`` outside Ansible."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
"""The project's folder if this package runs from a checkout."""


def make_importable() -> None:
    """Add the checkout's ``collections`` to sys.path unless the collection is already importable.

    Raises ModuleNotFoundError when it is neither installed nor in a checkout.
    """
    if _found():
        return
    collections = PROJECT / "collections"
    sys.path.insert(0, str(collections))
    importlib.invalidate_caches()
    if not _found():
        raise ModuleNotFoundError(
            f"The collection plexburst.core was not found: it is neither on sys.path nor in {collections}. "
            "Run from a checkout of the project, or put its collections folder on PYTHONPATH."
        )


def _found() -> bool:
    try:
        return importlib.util.find_spec("ansible_collections.plexburst.core.plugins.module_utils") is not None
    except ModuleNotFoundError:
        return False
