"""A simulator of Plex Media Server: its HTTP API, its database, its child processes and its traps
(docs/plex-facts.md)."""
