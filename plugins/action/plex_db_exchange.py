# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""Action of plex_db_exchange: what is the controller's is done here, with progress; the host gets a configuration that
is made for it."""

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
from ansible_collections.plexburst.core.plugins.module_utils import exchange_conf, rclone_conf
from ansible_collections.plexburst.core.plugins.module_utils.exchange_reap import sort_out
from ansible_collections.plexburst.core.plugins.module_utils.masking import Masker
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.errors import PlexDatabaseError
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.exchange import Exchange, Line, result_of
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.patch_transfer import Cut
from ansible_collections.plexburst.core.plugins.module_utils.run_folder import RunFolderError, check_run_id

MODULE = "plexburst.core.plex_db_exchange"
NAME = re.compile(r"^[a-z0-9][a-z0-9-]*$")
ADVICE = (
    "Look whether `rclone lsf` with plexburst_rclone_config lists the remote that plexburst_transfer_remote names, "
    "whether its key may write and delete there, and whether plexburst_transfer_password_file is the one that was used "
    "before. -e plexburst_transfer=direct does without the relay."
)


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible has no types
    """The passphrase never leaves the controller; the host gets it in the form that rclone.conf holds, for one call."""

    TRANSFERS_FILES = False
    _supports_async = False  # progress is shown while it works
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Make the configuration, do it, mask what was said."""
        super().run(tmp, task_vars)
        _spec, arguments = self.validate_argument_spec(
            argument_spec={
                "state": {
                    "type": "str",
                    "required": True,
                    "choices": ["put", "got", "known", "absent", "probed", "reaped"],
                },
                "exchange": {
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
                "patch": {"type": "path"},
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
        if self._task.check_mode and arguments["state"] in ("put", "got"):
            return {"changed": True, "skipped": True, "msg": "A patch travels only outside check mode."}
        where = arguments["exchange"]
        masker = Masker()
        answer: dict[str, Any]
        try:
            self._require_place(arguments)
            config = self._config(where, arguments["media"], masker)
            if arguments["at"] == "host" and arguments["state"] in ("put", "got"):
                sent = {**self._task.args, "config": config}
                answer = self._execute_module(module_name=MODULE, module_args=sent, task_vars=task_vars or {})
            else:
                answer = self._here(arguments, config)
        except (rclone_conf.RcloneConfError, RunFolderError, PlexDatabaseError, Cut) as error:
            answer = {"failed": True, "changed": False, "msg": str(error)}
        except OSError as error:
            words = f"A file of the relay could not be read or written on the controller: {error}."
            return {"failed": True, "changed": False, "msg": words}
        if answer.get("failed") and not answer.get("unreachable"):
            answer = {"advice": ADVICE, **answer, "msg": masker.text(str(answer.get("msg", "")))}
        return answer

    def _require_place(self, arguments: Mapping[str, Any]) -> None:
        """What is put, got or removed lies in a folder of a run: an empty name would mean the whole exchange."""
        state, run, name = arguments["state"], arguments["exchange"]["run"], arguments["name"]
        if run or state != "reaped":
            check_run_id(run)
        if (name or state in ("put", "got", "known")) and not NAME.match(name):
            raise PlexDatabaseError(
                f"{name!r} is not the name of a delta in the relay; expected a name such as `base`."
            )
        if state in ("put", "got") and not arguments["patch"]:
            raise PlexDatabaseError(f"The state {state} needs the folder of the delta.")

    def _config(self, where: Mapping[str, Any], media: list[str], masker: Masker) -> str:
        """The text of the private rclone.conf."""
        try:
            text = Path(where["rclone_config"]).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise rclone_conf.RcloneConfError(
                f"The rclone configuration of the controller, {where['rclone_config']}, cannot be read: {error}."
            ) from error
        sections = exchange_conf.exchange_sections(text, where["remote"])
        masker.add(rclone_conf.secrets(sections.values()))
        inside = exchange_conf.within(text, where["remote"], media)
        if inside:
            raise rclone_conf.RcloneConfError(
                f"The relay {where['remote']} lies inside {inside}, which Plex scans. Name another bucket, or a "
                "folder beside the media, in plexburst_transfer_remote."
            )
        secret = exchange_conf.passphrase(where["password_file"])
        masker.add([secret])
        obscured = exchange_conf.obscured(where["rclone_bin"], secret)
        masker.add([obscured])
        return exchange_conf.exchange_config(sections, where["remote"], obscured)

    def _here(self, arguments: Mapping[str, Any], config: str) -> dict[str, Any]:
        """Do it on the controller."""
        where, name = arguments["exchange"], arguments["name"]
        line = Line(emit=lambda words: Display().display(words), patience=arguments["patience"])
        with tempfile.TemporaryDirectory(prefix="plexburst-exchange-") as private:
            path = Path(private) / "rclone.conf"
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
                stream.write(config)
            exchange = Exchange(where["rclone_bin"], path)
            state, run = arguments["state"], where["run"]
            if state == "put":
                return result_of(*exchange.put(line, Path(arguments["patch"]), run, name))
            if state == "got":
                got = exchange.get(line, Path(arguments["patch"]), run, name, arguments["description_sha256"])
                return result_of(*got)
            if state == "known":
                held = line.again(partial(exchange.held, run, name))
                return {
                    "changed": False,
                    "complete": held.complete,
                    "bytes": held.bytes,
                    "description_sha256": held.description_sha256,
                    "missing": list(held.missing),
                }
            if state == "absent":
                return self._absent(exchange, line, run, name)
            if state == "probed":
                line.again(exchange.runs)
                if not self._task.check_mode:
                    line.again(partial(exchange.probe, run, secrets.token_bytes(32)))
                return {"changed": False, "unreadable": exchange.unreadable}
            return self._reaped(exchange, line, arguments)

    def _absent(self, exchange: Exchange, line: Line, run: str, name: str) -> dict[str, Any]:
        there = line.again(exchange.runs).get(run, {})
        changed = name in there if name else bool(there)
        if changed and not self._task.check_mode:
            line.again(partial(exchange.purge, f"{run}/{name}" if name else run))
        return {"changed": changed}

    def _reaped(self, exchange: Exchange, line: Line, arguments: Mapping[str, Any]) -> dict[str, Any]:
        found = sort_out(
            line.again(exchange.runs),
            Path(arguments["runs_dir"]),
            datetime.now(UTC),
            run=arguments["exchange"]["run"],
            older_than=arguments["older_than"],
            everything=arguments["all"],
        )
        for run in found.remove:
            if not self._task.check_mode:
                line.again(partial(exchange.purge, run))
        return {"changed": bool(found.remove), "deleted": found.remove, "kept": found.kept}
