"""Plex's picture files, beside the databases: found, packed into parts that travel, and merged file by file.

`places` says which files these are and where references lead, `references` which references a run has changed, `parcel`
packs and reads, `merge` lays them among home's own.
"""
