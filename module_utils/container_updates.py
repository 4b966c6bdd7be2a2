# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""Whether a container replaces its Plex whenever it starts, by how it was made.

- `plexinc/pms-docker`: the tags `public` and `beta` (`plexpass` in earlier years) hold no Plex and download the newest
  one at each start; version tags and `latest` hold theirs. `PLEX_UPDATE_CHANNEL` only says where such a tag looks (its
  README and `root/etc/cont-init.d/50-plex-update`).
- `linuxserver/plex`: `VERSION=latest`, `plexpass` or `public`, and `PLEXPASS=1`, download at each start; `docker`, a
  version, nothing at all, and `ADVANCED_DISABLEUPDATES` do not (its `init-plex-update/run`).

An image named by its digest alone does not say its tag: then only the version after the start tells.
"""

from __future__ import annotations

MOVING_TAGS = frozenset({"public", "beta", "plexpass"})
MOVING_VERSIONS = frozenset({"latest", "plexpass", "public"})


def cause(made: str) -> str:
    """What makes the container update itself, such as `VERSION=latest`; empty when nothing is known to.

    :param made: the image's name as it was given, then a line `NAME=value` for each variable of its environment.
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
    """A sentence for home's owner when its container updates itself at each start; empty when it does not."""
    why = cause(made)
    if not why:
        return ""
    return (
        f"The container {container} downloads the newest Plex at each start ({why}). The start after the exchange may "
        "therefore bring another Plex than the one that the indexer ran: it migrates the new database at once, and "
        f"today's version could not open it afterwards. Pin home's version first: the tag {version or '<version>'} of "
        "plexinc/pms-docker, or VERSION=docker with a version tag of linuxserver/plex; then make the container again."
    )
