"""Plex's database pair: reading, copying, checking, auditing and installing it, with the standard library alone.

Home boxes run this, so everything here works from Python 3.9 on and imports nothing that is not in the standard
library.
"""

from __future__ import annotations
