"""A piece of the product in a process of its own, as a module is at home: its seconds and its memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = "ansible_collections.plexburst.core.plugins.module_utils"
# VmHWM, for ru_maxrss remembers what the parent took before exec.
_AROUND = """
import json, time
from pathlib import Path
{imports}
begun = time.perf_counter()
answer = None
{code}
seconds = time.perf_counter() - begun
memory = int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) * 1024
print(json.dumps([seconds, time.process_time(), memory / 1e6, answer]))
"""


@dataclass(frozen=True)
class Measured:
    """Seconds on the clock and of the processor, and the most memory in MB; `answer` is what the code left there."""

    seconds: float
    cpu: float
    memory: float
    answer: Any


def in_a_process(code: str, *modules: str) -> Measured:
    """Run `code`, which may use the modules named (as `plex_db.delta.delta`) and Path, and leave a value in
    `answer`."""
    imports = "\n".join(
        f"from {PACKAGE}.{name.rpartition('.')[0]} import {name.rpartition('.')[2]}" for name in modules
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "collections")}
    done = subprocess.run(
        [sys.executable, "-c", _AROUND.format(imports=imports, code=code)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return Measured(*json.loads(done.stdout.splitlines()[-1]))
