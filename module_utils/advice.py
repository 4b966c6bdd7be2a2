# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""What to do next, for the failures people really meet.

The first row that has one of its needles in the failure's text (compared in lower case) gives the advice. A module
that knows better returns its own ``advice``, which is used instead.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

FALLBACK = "Read logs/console.log of the run folder from the failed task on, and run again once the cause is mended."

_SQLITE3 = (
    "The Python on that host must be able to `import sqlite3`: install the package (python3, libsqlite3), or set "
    "plexburst_manage_packages=true."
)

_TABLE: Sequence[tuple[tuple[str, ...], str]] = (
    (
        ("that are not alive here hold resources at scaleway",),
        (
            "Run the command that the message names for each of those runs, or add -e plexburst_other_runs=ignore if "
            "another controller works with them."
        ),
    ),
    (
        ("left at scaleway could not be listed",),
        "Check https://status.scaleway.com and the API key's rights (InstancesFullAccess, BlockStorageFullAccess).",
    ),
    (
        ("sonic analysis is not possible",),
        (
            "Sonic analysis needs Plex Pass on the account, Plex 1.24 or newer and an x86-64 processor; "
            "plexburst_skip_sonic=true brings all else home."
        ),
    ),
    (
        ("out of stock", "out_of_stock", "shortage", "no stock"),
        (
            "Set plexburst_zone to another zone, or name more types in plexburst_instance_types; stock changes "
            "within hours."
        ),
    ),
    (
        ("quota",),
        (
            "Release what you no longer need (ansible-playbook reap.yml removes what earlier runs left), or ask "
            "Scaleway for a higher quota."
        ),
    ),
    (
        ("no module named", "import sqlite3", "_sqlite3", "python's sqlite", "sqlite3 is missing", "sqlite3 missing"),
        _SQLITE3,
    ),
    (
        ("library.db", "blobs.db", "truncated", "malformed", "integrity"),
        (
            "The copy of the database is not whole, so home keeps its own. Run again; if it repeats, look at the "
            "disk space and at the line between the two hosts."
        ),
    ),
    (
        ("plex.tv", "account token", "account_token", "claim token"),
        (
            "Look at the file that plexburst_account_token_file names: it must hold the owner's current plex.tv "
            "token, one line, mode 0600; sign in again to get a new one."
        ),
    ),
    (
        ("accessdenied", "invalidaccesskeyid", "signaturedoesnotmatch", "403", "forbidden", "nosuchbucket"),
        (
            "Check the rclone remote that plexburst_media names: `rclone lsd REMOTE:` with plexburst_rclone_config "
            "must list the bucket."
        ),
    ),
    (
        ("maintenance", "not ready", "migrat", "never became ready"),
        (
            "Plex may need longer with a large database: raise plexburst_ready_timeout; the tail of its log is in "
            "the run folder's logs."
        ),
    ),
    (
        ("never booted", "not boot", "did not reach running", "starting state"),
        (
            "Scaleway did not start the instance in time. Run again, or set plexburst_zone or "
            "plexburst_instance_types to something else."
        ),
    ),
    (
        ("host key verification failed", "host key"),
        (
            "The host that answered does not show the key that was made for it. Do not go on: look for another "
            "machine on that address."
        ),
    ),
    (
        ("connection refused", "connection timed out", "failed to connect", "ssh", "unreachable", "banner"),
        (
            "The host did not answer on SSH. For an instance: raise plexburst_ssh_timeout or look at its "
            "console; for home: try `ssh` with the inventory's address, port and key."
        ),
    ),
    (
        ("sqlite3",),
        _SQLITE3,
    ),
    (
        ("no space left", "disk is full", "not enough space"),
        "Make room, or raise plexburst_volume_size_gb.",
    ),
    (
        ("401", "unauthorized"),
        (
            "The token was refused. Look at the file that plexburst_account_token_file names, and whether home's "
            "Plex is signed in."
        ),
    ),
    (
        ("permission denied", "authentication fail"),
        "The key that the inventory names must be allowed to log in on that host.",
    ),
    (
        ("another run", "run is going on"),
        "Wait for that run, or end it; its run folder says what it is doing.",
    ),
    (
        ("drop", "reset by peer", "timed out", "timeout"),
        "The other side stopped answering. Run again; if it repeats, look at the network and at the service's state.",
    ),
)


def advice_for(text: str) -> str:
    """The next step for a failure with this text; never empty."""
    lowered = text.lower()
    for needles, words in _TABLE:
        if any(_has(lowered, needle) for needle in needles):
            return words
    return FALLBACK


def _has(text: str, needle: str) -> bool:
    # A status code is a word of its own: 403 is not in port 40321.
    return re.search(rf"\b{needle}\b", text) is not None if needle.isdigit() else needle in text
