# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""Action plugin of plex_db_relay: runs the controller's states with progress; the host gets a temporary
configuration."""

from __future__ import annotations

import os
import re
import secrets
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.errors import PlexDatabaseError
from ansible_collections.plexburst.core.plugins.module_utils.run.folder import RunFolderError, check_run_id
from ansible_collections.plexburst.core.plugins.module_utils.run.masking import Masker
from ansible_collections.plexburst.core.plugins.module_utils.transfer import rclone_config, relay_config
from ansible_collections.plexburst.core.plugins.module_utils.transfer.carrier import Cut
from ansible_collections.plexburst.core.plugins.module_utils.transfer.relay import Line, Relay, result_of
from ansible_collections.plexburst.core.plugins.module_utils.transfer.relay_cleanup import sort_out

MODULE = "plexburst.core.plex_db_relay"
NAME = re.compile(r"^[a-z0-9][a-z0-9-]*$")
ADVICE = (
    "Check that `rclone lsf` with plexburst_rclone_config lists the remote in plexburst_transfer_remote, "
    "that its key may write and delete there, and that plexburst_transfer_password_file is the one that was used "
    "before. With -e plexburst_transfer=direct the relay is not used."
)


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible has no types
    """The passphrase never leaves the controller; the host gets its rclone.conf form for one call."""

    TRANSFERS_FILES = False
    _supports_async = False  # progress is shown while it works
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Create the configuration, run the state, mask secrets in the result."""
        super().run(tmp, task_vars)
        _spec, arguments = self.validate_argument_spec(
            argument_spec={
                "state": {
                    "type": "str",
                    "required": True,
                    "choices": ["uploaded", "downloaded", "inspected", "absent", "tested", "pruned"],
                },
                "relay": {
                    "type": "dict",
                    "required": True,
                    "no_log": False,
                    "options": {
                        "remote": {"type": "str", "required": True},
                        "password_file": {"type": "path", "required": True, "no_log": False},
                        "rclone_config": {"type": "path", "required": True},
                        "rclone_bin": {"type": "str", "default": "rclone"},
                        "run": {"type": "str", "default": ""},
                    },
                },
                "at": {"type": "str", "choices": ["controller", "host"], "default": "controller"},
                "name": {"type": "str", "default": ""},
                "delta": {"type": "path"},
                "description_sha256": {"type": "str", "default": ""},
                "rclone": {"type": "str", "default": "rclone"},
                "patience": {"type": "float", "default": 600.0},
                "media": {"type": "list", "elements": "str", "default": []},
                "runs_dir": {"type": "path"},
                "older_than": {"type": "float"},
                "all": {"type": "bool", "default": False},
                "config": {"type": "str", "no_log": True},
            }
        )
        if self._task.check_mode and arguments["state"] in ("uploaded", "downloaded"):
            return {"changed": True, "skipped": True, "msg": "A delta is not transferred in check mode."}
        where = arguments["relay"]
        masker = Masker()
        answer: dict[str, Any]
        try:
            self._require_place(arguments)
            config = self._config(where, arguments["media"], masker)
            if arguments["at"] == "host" and arguments["state"] in ("uploaded", "downloaded"):
                sent = {**self._task.args, "config": config}
                answer = self._execute_module(module_name=MODULE, module_args=sent, task_vars=task_vars or {})
            else:
                answer = self._here(arguments, config)
        except (rclone_config.RcloneConfError, RunFolderError, PlexDatabaseError, Cut) as error:
            answer = {"failed": True, "changed": False, "msg": str(error)}
        except OSError as error:
            words = f"A file for the relay could not be read or written on the controller: {error}."
            return {"failed": True, "changed": False, "msg": words}
        if answer.get("failed") and not answer.get("unreachable"):
            answer = {"advice": ADVICE, **answer, "msg": masker.text(str(answer.get("msg", "")))}
        return answer

    def _require_place(self, arguments: Mapping[str, Any]) -> None:
        """Check that run and name are not empty, because an empty name would mean the whole relay."""
        state, run, name = arguments["state"], arguments["relay"]["run"], arguments["name"]
        if run or state != "pruned":
            check_run_id(run)
        if (name or state in ("uploaded", "downloaded", "inspected")) and not NAME.match(name):
            raise PlexDatabaseError(f"{name!r} is not a valid name in the relay. Expected a name such as `base`.")
        if state in ("uploaded", "downloaded") and not arguments["delta"]:
            raise PlexDatabaseError(f"The state {state} needs the folder of the delta. Set the option delta.")

    def _config(self, where: Mapping[str, Any], media: list[str], masker: Masker) -> str:
        """Return the text of the private rclone.conf."""
        try:
            text = Path(where["rclone_config"]).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise rclone_config.RcloneConfError(
                f"The rclone configuration of the controller, {where['rclone_config']}, cannot be read: {error}."
            ) from error
        sections = relay_config.relay_sections(text, where["remote"])
        masker.add(rclone_config.secrets(sections.values()))
        inside = relay_config.within(text, where["remote"], media)
        if inside:
            raise rclone_config.RcloneConfError(
                f"The relay {where['remote']} is inside {inside}, which Plex scans. Use another bucket, or a "
                "folder beside the media, in plexburst_transfer_remote."
            )
        secret = relay_config.passphrase(where["password_file"])
        masker.add([secret])
        obscured = relay_config.obscured(where["rclone_bin"], secret)
        masker.add([obscured])
        return relay_config.relay_config(sections, where["remote"], obscured)

    def _here(self, arguments: Mapping[str, Any], config: str) -> dict[str, Any]:
        """Run the state on the controller."""
        where, name = arguments["relay"], arguments["name"]
        line = Line(emit=lambda words: Display().display(words), patience=arguments["patience"])
        with tempfile.TemporaryDirectory(prefix="plexburst-relay-") as private:
            path = Path(private) / "rclone.conf"
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
                stream.write(config)
            relay = Relay(where["rclone_bin"], path)
            state, run = arguments["state"], where["run"]
            if state == "uploaded":
                return result_of(*relay.put(line, Path(arguments["delta"]), run, name))
            if state == "downloaded":
                got = relay.get(line, Path(arguments["delta"]), run, name, arguments["description_sha256"])
                return result_of(*got)
            if state == "inspected":
                held = line.again(partial(relay.held, run, name))
                return {
                    "changed": False,
                    "complete": held.complete,
                    "bytes": held.bytes,
                    "description_sha256": held.description_sha256,
                    "missing": list(held.missing),
                }
            if state == "absent":
                return self._absent(relay, line, run, name)
            if state == "tested":
                line.again(relay.runs)
                if not self._task.check_mode:
                    line.again(partial(relay.probe, run, secrets.token_bytes(32)))
                return {"changed": False, "unreadable": relay.unreadable}
            return self._reaped(relay, line, arguments)

    def _absent(self, relay: Relay, line: Line, run: str, name: str) -> dict[str, Any]:
        there = line.again(relay.runs).get(run, {})
        changed = name in there if name else bool(there)
        if changed and not self._task.check_mode:
            line.again(partial(relay.purge, f"{run}/{name}" if name else run))
        return {"changed": changed}

    def _reaped(self, relay: Relay, line: Line, arguments: Mapping[str, Any]) -> dict[str, Any]:
        found = sort_out(
            line.again(relay.runs),
            Path(arguments["runs_dir"]),
            datetime.now(UTC),
            run=arguments["relay"]["run"],
            older_than=arguments["older_than"],
            everything=arguments["all"],
        )
        for run in found.remove:
            if not self._task.check_mode:
                line.again(partial(relay.purge, run))
        return {"changed": bool(found.remove), "deleted": found.remove, "kept": found.kept}
