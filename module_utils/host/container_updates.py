# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""Whether a container updates its Plex at each start, judged by its image and environment.

- `plexinc/pms-docker`: the tags `public` and `beta` (formerly also `plexpass`) contain no Plex and download the newest
  version at each start; version tags and `latest` contain Plex. `PLEX_UPDATE_CHANNEL` only selects the source for such
  a tag (its README and `root/etc/cont-init.d/50-plex-update`).
- `linuxserver/plex`: `VERSION=latest`, `plexpass` or `public`, and `PLEXPASS=1`, download at each start; `docker`, a
  version, nothing at all, and `ADVANCED_DISABLEUPDATES` do not (its `init-plex-update/run`).

An image named only by its digest has no tag; then only the version after the start shows an update.
"""

from __future__ import annotations

MOVING_TAGS = frozenset({"public", "beta", "plexpass"})
MOVING_VERSIONS = frozenset({"latest", "plexpass", "public"})


def cause(made: str) -> str:
    """Return what makes the container update itself, such as `VERSION=latest`; empty if unknown or it does not.

    :param made: the image's name, then one line `NAME=value` for each variable of its environment.
    """
    image, *variables = made.strip().splitlines() or [""]
    environment = dict(line.partition("=")[::2] for line in variables)
    name, _, tag = image.rpartition("/")[2].partition("@")[0].partition(":")
    if name == "pms-docker" and tag.lower() in MOVING_TAGS:
        return f"the image's tag {tag}"
    if environment.get("ADVANCED_DISABLEUPDATES"):
        return ""
    version = environment.get("VERSION", "")
    if version.lower() in MOVING_VERSIONS:
        return f"VERSION={version}"
    # Without VERSION, or with VERSION=0 or docker, linuxserver's image does not look at PLEXPASS.
    if environment.get("PLEXPASS") == "1" and version not in ("", "0", "docker"):
        return "PLEXPASS=1"
    return ""


def warning(made: str, container: str, version: str) -> str:
    """Return a warning when home's container updates itself at each start; empty when it does not."""
    why = cause(made)
    if not why:
        return ""
    return (
        f"The container {container} downloads the newest Plex at each start ({why}). The start after the swap may "
        "therefore install a newer Plex than the indexer's, which migrates the new database so that today's version "
        f"cannot open it any more. Pin home's version first: use the tag {version or '<version>'} of "
        "plexinc/pms-docker, or VERSION=docker with a version tag of linuxserver/plex, and recreate the container."
    )
