"""What a run may have left behind, found by looking at the machine, not by remembering what was made."""

from __future__ import annotations

import json
import os
from pathlib import Path

from sandbox import processes
from tests.e2e.engine import BRIDGE, MARK, NAME, mounts_below
from tests.e2e.host import run

# Where the parts of a run could write although everything is pointed at its own folder.
_WATCHED = ("/tmp", "/run", "/var/tmp", "/var/run", "/etc", "/var/lib", "/root", "/opt")


def marked(run_id: str) -> list[int]:
    """Every process whose environment or arguments name this run, this one and its parents excepted."""
    ours, pid = set(), os.getpid()
    while pid > 1:
        ours.add(pid)
        pid = int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
    numbers = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [number for number in numbers if number not in ours and _names(number, run_id)]


def _names(pid: int, run_id: str) -> bool:
    # A program that clears its environment (containerd's shims) still has our folder among its arguments.
    return processes.environment(pid).get(MARK) == run_id or any(run_id in part for part in processes.command(pid))


def listing() -> set[str]:
    """The entries of every folder where something of a run could lie; compared before and after."""
    return {str(entry) for folder in _WATCHED if Path(folder).is_dir() for entry in Path(folder).iterdir()}


def found(run_id: str, run_dir: Path, cache: Path) -> list[str]:
    """One sentence for each thing that is left: processes, mounts, links, rules, control groups, files."""
    left = [f"process {pid}: {' '.join(processes.command(pid))[:120]}" for pid in marked(run_id)]
    left += [f"mount {point}" for folder in (run_dir, cache) for point in mounts_below(folder)]
    left += [
        f"network interface {link['ifname']}"
        for link in json.loads(run("ip", "-json", "link"))
        if BRIDGE in (link["ifname"], link.get("master"))
    ]
    left += [
        f"firewall rule {rule}"
        for table in ("filter", "nat")
        for rule in run("iptables", "--wait", "-t", table, "-S").splitlines()
        if NAME in rule
    ]
    if run_dir.exists():
        left.append(f"folder {run_dir}")
    return left
