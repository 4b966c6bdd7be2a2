"""What is done to home's Plex while it is stopped, as one process at home that needs no controller.

It runs from a copy of this package and of plex_db: Python 3.9, the standard library, nothing of Ansible.
"""

from __future__ import annotations
