"""The job at home: one process, independent of the controller, that works while home's Plex is stopped.

It runs from a copy of this package and of plex_db: Python 3.9, the standard library, nothing of Ansible.
"""

from __future__ import annotations
