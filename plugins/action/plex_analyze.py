# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""Watch plex_analyze to its end; the work is in module_utils/edge_watch.py, the options in library/plex_analyze.py."""

from __future__ import annotations

from ansible_collections.plexburst.core.plugins.module_utils.edge_watch import WatchedAction


class ActionModule(WatchedAction):
    """plexburst.core.plex_analyze"""

    MODULE = "plexburst.core.plex_analyze"
