"""A simulator of Scaleway's Marketplace, Instance and Block Storage APIs, as far as the official SDK asks them.

Run as `python -m sandbox.scaleway --dir FOLDER --port PORT`. Facts and sources: docs/scaleway-facts.md; what
could not be confirmed there is marked [?] where it is decided here. An unknown route is a typed 501.
"""
