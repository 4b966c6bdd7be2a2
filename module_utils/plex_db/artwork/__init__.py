"""Artwork in Plex's bundles: find, pack into parts, and install file by file.

`places` finds the files and the targets of references, `references` the references changed by a run, `archive` packs
and
reads, `merge` installs the files at home.
"""
