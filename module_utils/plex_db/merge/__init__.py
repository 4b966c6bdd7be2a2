"""The three-way merge of Plex's database pair: base went out, theirs comes back, ours is home now.

`policy` says what happens to each table, `plan` works out what to write (reading three pairs, writing a scratch file),
`apply` writes it, `gap` keeps the ids of both sides apart, `sonic` brings home Sonic data alone.
"""

from __future__ import annotations
