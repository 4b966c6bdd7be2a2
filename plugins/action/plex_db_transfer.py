# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""Action plugin of plex_db_transfer: transfer a delta or artwork in parts over the host's connection."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.artwork.archive import ARCHIVES
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.delta.delta import Delta
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.errors import PlexDatabaseError
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.pair.files import sha256_of
from ansible_collections.plexburst.core.plugins.module_utils.transfer.carrier import DELTAS, Carrier, Cut
from ansible_collections.plexburst.core.plugins.plugin_utils.connection_files import first_line, move, reconnect

KINDS = {
    "database": (DELTAS, "plexburst.core.plex_db_delta", "delta"),
    "artwork": (ARCHIVES, "plexburst.core.plex_artwork", "archive"),
}
"""By what travels: the kind of folder, the module that knows it on the host, and that module's name for the folder."""


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible has no types
    """Transfers files with the connection plugin as the login user, with its key and verified host key."""

    TRANSFERS_FILES = False
    _supports_async = False  # progress is shown while it works
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Download or upload."""
        super().run(tmp, task_vars)
        _spec, arguments = self.validate_argument_spec(
            argument_spec={
                "direction": {"type": "str", "required": True, "choices": ["download", "upload"]},
                "delta": {"type": "path", "required": True},
                "remote": {"type": "str", "required": True},
                "description_sha256": {"type": "str", "default": ""},
                "patience": {"type": "float", "default": 600.0},
                "what": {"type": "str", "choices": ["database", "artwork"], "default": "database"},
                "owner": {"type": "str", "default": ""},
            }
        )
        self._vars = task_vars or {}
        if self._task.check_mode:
            return {"changed": True, "skipped": True, "msg": "A delta is not transferred in check mode."}
        self._local = Path(arguments["delta"])
        self._remote = self._remote_expand_user(arguments["remote"])
        self._kind, self._module, self._folder = KINDS[arguments["what"]]
        self._owner = {"owner": arguments["owner"]} if arguments["what"] == "artwork" else {}
        bring = arguments["direction"] == "download"
        host = str(self._vars.get("inventory_hostname", "host"))
        carrier = Carrier(
            move=self._bring if bring else self._send,
            emit=lambda line: Display().display(f"[{host}] {line}"),
            clock=time.monotonic,
            sleep=time.sleep,
            title=f"{arguments['direction']} the {arguments['what']}",
            patience=arguments["patience"],
            kind=self._kind,
        )
        try:
            if bring:
                carried = carrier.bring(self._local, arguments["description_sha256"])
            else:
                carried = carrier.send(self._local, self._present)
        except Cut as cut:
            return {"unreachable": True, "changed": True, "msg": str(cut), **carrier.done.plain()}
        except (PlexDatabaseError, OSError) as error:
            return {"failed": True, "changed": True, "msg": str(error), **carrier.done.plain()}
        return {
            "changed": carrier.done.bytes > 0,
            **carrier.done.plain(),
            **({"whole": carried.whole, "manifest": dict(carried.manifest)} if isinstance(carried, Delta) else {}),
        }

    def _bring(self, name: str) -> None:
        move(self._connection, self._connection.fetch_file, f"{self._remote}/{name}", str(self._local / name))

    def _send(self, name: str) -> None:
        move(self._connection, self._connection.put_file, str(self._local / name), f"{self._remote}/{name}")

    def _present(self) -> Sequence[str] | None:
        """Return the parts that the host has; None when its description is missing or different."""
        arguments = {"state": "inspected", self._folder: self._remote, **self._owner}
        try:
            answer = self._execute_module(module_name=self._module, module_args=arguments, task_vars=self._vars)
        except AnsibleConnectionFailure as error:
            reconnect(self._connection)
            raise Cut(first_line(error)) from error
        if answer.get("unreachable"):
            reconnect(self._connection)
            raise Cut(str(answer.get("msg", "unreachable")))
        # A truncated description cannot be read; it is uploaded again like a missing one.
        if answer.get("failed") or answer.get("description_sha256") != sha256_of(self._local / self._kind.description):
            return None
        if answer.get("no_space"):
            raise PlexDatabaseError(str(answer["no_space"]))
        return [str(name) for name in answer["present"]]
