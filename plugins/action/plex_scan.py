# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""Watch plex_scan to its end; the work is in module_utils/edge_watch.py, the options in library/plex_scan.py."""

from __future__ import annotations

from ansible_collections.plexburst.core.plugins.module_utils.edge_watch import WatchedAction


class ActionModule(WatchedAction):
    """plexburst.core.plex_scan"""

    MODULE = "plexburst.core.plex_scan"
