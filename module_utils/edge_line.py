# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""Files over a host's own connection: with its key, its verified host key, and nothing else to install."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleAuthenticationFailure, AnsibleConnectionFailure, AnsibleError
from ansible.utils.display import Display
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.errors import PlexDatabaseError
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.patch_transfer import Cut


def move(connection: Any, how: Callable[[str, str], None], source: str, target: str) -> None:
    """Move one file by a method of the connection, `fetch_file` or `put_file`.

    :raises Cut: the line is cut; it may come back.
    :raises PlexDatabaseError: the host refuses the login, or the file.
    """
    try:
        how(source, target)
    except AnsibleAuthenticationFailure as error:
        raise PlexDatabaseError(f"The host refuses the login: {first_line(error)}") from error
    except AnsibleConnectionFailure as error:
        reconnect(connection)
        raise Cut(first_line(error)) from error
    except AnsibleError as error:
        raise PlexDatabaseError(f"{source} could not be copied to {target}: {first_line(error)}") from error


def reconnect(connection: Any) -> None:
    """Drop a dead master connection, so that the next try makes a new one."""
    try:
        connection.reset()
    except (AnsibleError, AttributeError) as error:  # local connections have no reset
        Display().vvv(f"connection reset: {error}")


def first_line(error: Exception) -> str:
    """An error's first line."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
