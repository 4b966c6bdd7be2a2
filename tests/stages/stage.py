"""A small project of its own for tests of the callback plugin: the repository's plugins, another playbook, run from
elsewhere and without ansible.cfg.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plexburst.report import check_summary
from tests import ansible_cache

PROJECT = Path(__file__).resolve().parents[2]
SECRET = "owner-token-that-nobody-may-see"

BEGIN = """
- name: Begin
  hosts: localhost
  gather_facts: false
  vars:
    plexburst_phase: preflight
  tasks:
    - name: Begin the run
      ansible.builtin.include_role:
        name: plexburst.core.run
        tasks_from: begin
      vars:
        run_required: []
"""
END = """
- name: Say what came of it
  hosts: localhost
  gather_facts: false
  vars:
    plexburst_phase: report
  tasks:
    - name: Finish
      ansible.builtin.include_role:
        name: plexburst.core.run
        tasks_from: finish
"""


@dataclass
class Ended:
    """An ansible-playbook that ended."""

    code: int
    output: str
    runs: Path

    @property
    def folder(self) -> Path:
        return self.runs / "latest"

    @property
    def summary(self) -> dict[str, Any]:
        assert check_summary(self.folder) == []
        loaded: dict[str, Any] = json.loads((self.folder / "summary.json").read_text())
        return loaded

    @property
    def phases(self) -> dict[str, str]:
        return {phase["name"]: phase["status"] for phase in self.summary["phases"]}


@dataclass
class Stage:
    """A project of its own: the repository's plugins, another playbook."""

    path: Path

    def command(self, plays: str, *arguments: str, begin: str = BEGIN, end: str = END) -> list[str]:
        """The command that plays them; its playbook, inventory and links are made."""
        for name, target in (("collections", "collections"), ("callback_plugins", "plugins/callback")):
            link = self.path / name
            if not link.is_symlink():
                link.symlink_to(PROJECT / target)
        token = self.path / "token"
        token.write_text(SECRET)
        (self.path / "inventory.yml").write_text(
            "plex_home:\n  hosts:\n    home:\n      ansible_connection: local\n"
            f"      ansible_python_interpreter: {sys.executable}\n"
            "    lost:\n      ansible_host: 127.0.0.1\n      ansible_port: 1\n      ansible_ssh_retries: 0\n"
        )
        playbook = self.path / "small.yml"
        playbook.write_text(f"---\n{begin}{plays}{end}")
        given = ["-e", f"plexburst_runs_dir={self.runs}", "-e", f"plexburst_account_token_file={token}"]
        program = str(Path(sys.executable).with_name("ansible-playbook"))
        return [program, "-i", str(self.path / "inventory.yml"), *given, str(playbook), *arguments]

    @property
    def runs(self) -> Path:
        return self.path / "runs"

    def environment(self, **more: str) -> dict[str, str]:
        """The environment without anything that configures Ansible, but with ``more``."""
        environment = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
        environment |= ansible_cache.environment()
        environment.update(ANSIBLE_HOME=str(self.path / ".ansible"), ANSIBLE_NOCOLOR="1", **more)
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
        return environment

    def play(
        self, plays: str, *arguments: str, begin: str = BEGIN, end: str = END, env: dict[str, str] | None = None
    ) -> Ended:
        ended = subprocess.run(
            self.command(plays, *arguments, begin=begin, end=end),
            cwd="/",
            env=self.environment(**(env or {})),
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        return Ended(ended.returncode, ended.stdout + ended.stderr, self.runs)


def play(phase: str, hosts: str, tasks: str) -> str:
    body = "\n".join(f"    {line}" if line else "" for line in tasks.strip("\n").splitlines())
    return (
        f"- name: Phase {phase}\n  hosts: {hosts}\n  gather_facts: false\n"
        f"  vars:\n    plexburst_phase: {phase}\n  tasks:\n{body}\n"
    )
