# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""The next step for common failures, by the failure's text.

The first row with a needle that the text contains (compared in lower case) gives the advice. An ``advice`` that a
module returns has priority.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

FALLBACK = "Read logs/console.log in the run folder from the failed task on. Fix the cause and run again."

_SQLITE3 = (
    "Python on that host cannot `import sqlite3`. Install the packages (python3, libsqlite3), or set "
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
            "Sonic analysis needs Plex Pass on the account, Plex 1.24 or newer and an x86-64 processor. "
            "Set plexburst_skip_sonic=true to run without it."
        ),
    ),
    (
        ("out of stock", "out_of_stock", "shortage", "no stock"),
        ("Set plexburst_zone to another zone, or add types to plexburst_instance_types; stock changes within hours."),
    ),
    (
        ("quota",),
        (
            "Remove resources that you no longer need (ansible-playbook reap.yml removes those of earlier runs), or "
            "ask Scaleway for a higher quota."
        ),
    ),
    (
        ("no module named", "import sqlite3", "_sqlite3", "python's sqlite", "sqlite3 is missing", "sqlite3 missing"),
        _SQLITE3,
    ),
    (
        ("library.db", "blobs.db", "truncated", "malformed", "integrity"),
        (
            "The copy of the database is incomplete or damaged; home keeps its own. Run again; if it repeats, check "
            "the disk space and the connection between the two hosts."
        ),
    ),
    (
        ("plex.tv", "account token", "account_token", "claim token"),
        (
            "Check the file named by plexburst_account_token_file. It must contain the owner's current plex.tv token "
            "as one line, with mode 0600; sign in again to get a new token."
        ),
    ),
    (
        ("accessdenied", "invalidaccesskeyid", "signaturedoesnotmatch", "403", "forbidden", "nosuchbucket"),
        (
            "Check the rclone remote in plexburst_media: `rclone lsd REMOTE:` with plexburst_rclone_config must "
            "list the bucket."
        ),
    ),
    (
        ("maintenance", "not ready", "migrat", "never became ready"),
        (
            "Plex may need longer with a large database: raise plexburst_ready_timeout. The end of its log is in "
            "logs/ of the run folder."
        ),
    ),
    (
        ("never booted", "not boot", "did not reach running", "starting state"),
        (
            "Scaleway did not start the instance in time. Run again, or change plexburst_zone or "
            "plexburst_instance_types."
        ),
    ),
    (
        ("host key verification failed", "host key"),
        (
            "The host that answered has another key than the one made for it. Do not continue; check whether another "
            "machine has that address."
        ),
    ),
    (
        ("connection refused", "connection timed out", "failed to connect", "ssh", "unreachable", "banner"),
        (
            "The host did not answer on SSH. For an instance, raise plexburst_ssh_timeout or check its console; "
            "for home, try `ssh` with the inventory's address, port and key."
        ),
    ),
    (
        ("sqlite3",),
        _SQLITE3,
    ),
    (
        ("no space left", "disk is full", "not enough space"),
        "Free disk space, or raise plexburst_volume_size_gb.",
    ),
    (
        ("401", "unauthorized"),
        (
            "The token was refused. Check the file named by plexburst_account_token_file, and that home's Plex is "
            "signed in."
        ),
    ),
    (
        ("permission denied", "authentication fail"),
        "Allow the key named in the inventory to log in on that host.",
    ),
    (
        ("another run", "run is going on"),
        "Wait for that run, or end it; its run folder shows what it is doing.",
    ),
    (
        ("drop", "reset by peer", "timed out", "timeout"),
        "The other side stopped answering. Run again; if it repeats, check the network and the state of the service.",
    ),
)


def advice_for(text: str) -> str:
    """Return the next step for a failure with this text; never empty."""
    lowered = text.lower()
    for needles, words in _TABLE:
        if any(_has(lowered, needle) for needle in needles):
            return words
    return FALLBACK


def _has(text: str, needle: str) -> bool:
    # A status code must match as a whole word: port 40321 does not contain 403.
    return re.search(rf"\b{needle}\b", text) is not None if needle.isdigit() else needle in text
