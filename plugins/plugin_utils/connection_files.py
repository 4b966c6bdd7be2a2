# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""File transfer over a host's Ansible connection, with its key and verified host key; no other tool is needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleAuthenticationFailure, AnsibleConnectionFailure, AnsibleError
from ansible.utils.display import Display
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.errors import PlexDatabaseError
from ansible_collections.plexburst.core.plugins.module_utils.transfer.carrier import Cut


def move(connection: Any, how: Callable[[str, str], None], source: str, target: str) -> None:
    """Move one file by a method of the connection, `fetch_file` or `put_file`.

    :raises Cut: connection lost; retryable.
    :raises PlexDatabaseError: the host refuses the login or the file.
    """
    try:
        how(source, target)
    except AnsibleAuthenticationFailure as error:
        raise PlexDatabaseError(f"The host refused the login: {first_line(error)}") from error
    except AnsibleConnectionFailure as error:
        reconnect(connection)
        raise Cut(first_line(error)) from error
    except AnsibleError as error:
        raise PlexDatabaseError(f"{source} could not be copied to {target}: {first_line(error)}") from error


def reconnect(connection: Any) -> None:
    """Close a dead master connection, so that the next try opens a new one."""
    try:
        connection.reset()
    except (AnsibleError, AttributeError) as error:  # local connections have no reset
        Display().vvv(f"connection reset: {error}")


def first_line(error: Exception) -> str:
    """Return the first line of an error's message."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
