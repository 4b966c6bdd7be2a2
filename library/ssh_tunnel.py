#!/usr/bin/python
# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""Open or close an SSH tunnel from the controller to a port of a host."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: ssh_tunnel
short_description: Open or close an SSH tunnel from the controller to a port of a host
version_added: 0.1.0
author:
  - plexburst contributors (@plexburst)
description:
  - Opens a tunnel from a free loopback port to a port that O(host) can reach. The system's ssh runs in the
    background and is controlled through a socket in a private folder. Run it on the controller.
  - The host key is verified as for any other connection of the play; arguments that switch this off are refused.
  - The login uses a key or an agent; there is no password prompt.
attributes:
  check_mode:
    description: Can run in check mode and return what it would do, without changing anything.
    support: full
    details: Returns whether a tunnel would be opened or closed. Use C(check_mode=false) where later reads need it.
  diff_mode:
    description: Shows what would be changed in diff mode.
    support: none
  idempotent:
    description: Running it twice does not change more than running it once.
    support: full
    details: An open tunnel of the same name is used again. One that was lost is opened at the port it had, if that is
      free.
options:
  state:
    description: Whether the tunnel should be open.
    type: str
    choices: [open, closed]
    default: open
  host:
    description: Name or address of the SSH server.
    type: str
    required: true
  port:
    description: Port of the SSH server. V(0) leaves it to ssh.
    type: int
    default: 0
  user:
    description: User to log in as. Empty leaves it to ssh.
    type: str
    default: ''
  private_key_file:
    description: Private key for the login. Empty leaves it to ssh.
    type: str
    default: ''
  ssh_args:
    description:
      - Further arguments for ssh, as the inventory has them (C(ansible_ssh_common_args), C(ansible_ssh_extra_args)).
      - Each entry may contain several arguments, quoted as for a shell.
    type: list
    elements: str
    default: []
  ssh_executable:
    description: The ssh executable.
    type: str
    default: ssh
  remote_host:
    description: Address of the port as seen from O(host).
    type: str
    default: 127.0.0.1
  remote_port:
    description: The port to reach.
    type: int
    required: true
  name:
    description: Name of the tunnel, such as a run id; each name has its own tunnel.
    type: str
    default: plexburst
  timeout:
    description: Seconds for connecting.
    type: int
    default: 30
"""

EXAMPLES = r"""
---
- name: Open a tunnel to home's Plex
  plexburst.core.ssh_tunnel:
    host: zima.lan
    user: casaos
    remote_port: 32400
    name: 20261122-071500-ab12
  delegate_to: localhost
  register: tunnel

- name: Close the tunnel
  plexburst.core.ssh_tunnel:
    state: closed
    host: zima.lan
    user: casaos
    remote_port: 32400
    name: 20261122-071500-ab12
  delegate_to: localhost
"""

RETURN = r"""
---
base_url:
  description: URL of the local port.
  returned: when O(state=open)
  type: str
  sample: http://127.0.0.1:40123
port:
  description: The local port.
  returned: when O(state=open)
  type: int
  sample: 40123
control_path:
  description: The control socket.
  returned: success
  type: str
  sample: /tmp/plexburst-1000/0a1b2c3d4e5f.sock
"""

import hashlib
import json
import os
import shlex
import socket
import stat
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

# An address is bound by whoever comes first, so a free port can be lost between finding and using it.
BIND_ATTEMPTS = 5


class TunnelError(Exception):
    """The tunnel failed; the message names what was expected, what was found, and the next step."""


class Tunnel:
    """One named tunnel: its socket and a small file that remembers the local port."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options
        self.extra = [argument for text in options["ssh_args"] for argument in shlex.split(text)]
        keys = ("name", "host", "port", "user", "remote_host", "remote_port")
        digest = hashlib.sha256(json.dumps([options[key] for key in keys]).encode()).hexdigest()[:12]
        # Short, because a socket's path is limited to 104 bytes on some systems.
        self.folder = Path(tempfile.gettempdir()) / f"plexburst-{os.getuid()}"
        self.socket = self.folder / f"{digest}.sock"
        self.memory = self.folder / f"{digest}.json"

    def check_arguments(self) -> None:
        """Refuse arguments that would accept any host key."""
        for argument in self.extra:
            key, _, value = argument.removeprefix("-o").strip().replace(" ", "=").partition("=")
            if (key.lower(), value.lower()) in (
                ("stricthostkeychecking", "no"),
                ("stricthostkeychecking", "off"),
                ("userknownhostsfile", "/dev/null"),
            ):
                raise TunnelError(
                    f"The SSH argument {argument!r} switches off the verification of host keys, "
                    "which plexburst never does. Remove it, and add the host's key to a known_hosts file."
                )

    def open_port(self) -> int:
        """The local port of the tunnel if it is open, else 0."""
        if not self.socket.exists() or not self.memory.exists():
            return 0
        if self._control("check").returncode != 0:
            return 0
        return int(json.loads(self.memory.read_text(encoding="utf-8"))["port"])

    def open(self) -> int:
        """Open it; returns the local port: the one it had before, if it was lost and that port is free."""
        self._make_folder()
        words = ""
        remembered = int(json.loads(self.memory.read_text(encoding="utf-8"))["port"]) if self.memory.exists() else 0
        for attempt in range(BIND_ATTEMPTS):
            self.socket.unlink(missing_ok=True)
            port = remembered if remembered and attempt == 0 else free_port()
            words = self._start(port)
            if not words:
                self.memory.write_text(json.dumps({"port": port}), encoding="utf-8")
                return port
            if "cannot listen to port" not in words and "Address already in use" not in words:
                break
        raise TunnelError(
            f"The tunnel to {self._target()} could not be opened: {words} "
            "Check that ssh can log in on this host with a known host key and a key or agent, "
            "and that its SSH server allows port forwarding."
        )

    def close(self) -> None:
        """Close the tunnel and remove its files."""
        if self.socket.exists():
            self._control("exit")
        for path in (self.socket, self.memory):
            path.unlink(missing_ok=True)

    def exists(self) -> bool:
        """Return whether there is a tunnel to close."""
        return self.socket.exists() or self.memory.exists()

    def _start(self, port: int) -> str:
        options = self.options
        forward = f"127.0.0.1:{port}:{options['remote_host']}:{options['remote_port']}"
        command = [
            *(options["ssh_executable"], "-f", "-N", "-T", "-M", "-S", str(self.socket)),
            # Ours first: ssh takes the first value it sees of an option.
            *("-o", "BatchMode=yes", "-o", "ExitOnForwardFailure=yes", "-o", "ControlPersist=no"),
            *(
                "-o",
                f"ConnectTimeout={options['timeout']}",
                "-o",
                "ServerAliveInterval=15",
                "-o",
                "ServerAliveCountMax=4",
            ),
            *("-L", forward),
            *(("-p", str(options["port"])) if options["port"] else ()),
            *(("-l", options["user"]) if options["user"] else ()),
            *(("-i", options["private_key_file"]) if options["private_key_file"] else ()),
            *self.extra,
            *("--", options["host"]),
        ]
        # A pipe would stay open in the ssh that remains in the background, and waiting for its end would never end.
        with tempfile.TemporaryFile() as errors:
            try:
                done = subprocess.run(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                    timeout=options["timeout"] + 30,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                return f"ssh did not connect within {options['timeout'] + 30} seconds."
            except OSError as error:
                return f"{options['ssh_executable']} cannot be started: {error}."
            if done.returncode == 0:
                return ""
            errors.seek(0)
            return errors.read().decode("utf-8", "replace").strip() or f"ssh ended with exit code {done.returncode}."

    def _control(self, what: str) -> subprocess.CompletedProcess[bytes]:
        command = [self.options["ssh_executable"], "-S", str(self.socket), "-O", what, "--", self.options["host"]]
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False)

    def _target(self) -> str:
        user = self.options["user"]
        return f"{user}@{self.options['host']}" if user else str(self.options["host"])

    def _make_folder(self) -> None:
        self.folder.mkdir(mode=0o700, exist_ok=True)
        status = self.folder.lstat()
        private = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o077
        if not private:
            raise TunnelError(f"{self.folder} is not a private folder of this user. Remove it.")


def free_port() -> int:
    """Return a free loopback port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> None:
    """Open or close the tunnel."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["open", "closed"], "default": "open"},
            "host": {"type": "str", "required": True},
            "port": {"type": "int", "default": 0},
            "user": {"type": "str", "default": ""},
            "private_key_file": {"type": "str", "default": ""},
            "ssh_args": {"type": "list", "elements": "str", "default": []},
            "ssh_executable": {"type": "str", "default": "ssh"},
            "remote_host": {"type": "str", "default": "127.0.0.1"},
            "remote_port": {"type": "int", "required": True},
            "name": {"type": "str", "default": "plexburst"},
            "timeout": {"type": "int", "default": 30},
        },
        supports_check_mode=True,
    )
    try:
        tunnel = Tunnel(module.params)
        tunnel.check_arguments()
        path = str(tunnel.socket)
        if module.params["state"] == "closed":
            there = tunnel.exists()
            if there and not module.check_mode:
                tunnel.close()
            module.exit_json(changed=there, control_path=path)
        port = tunnel.open_port()
        changed = port == 0
        if changed and not module.check_mode:
            port = tunnel.open()
        module.exit_json(changed=changed, port=port, base_url=f"http://127.0.0.1:{port}", control_path=path)
    except (TunnelError, OSError, ValueError, subprocess.TimeoutExpired) as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
