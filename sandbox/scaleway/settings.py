"""Settings of the simulator: who may call it, and how fast things happen."""

from __future__ import annotations

import json
import os
import random
import string
import uuid
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

# Seconds at speed 1. Real ones are longer (a server starts in 4 to 6 s, a block volume takes 10 s to detach), in these
# proportions.
DELAYS = {
    "starting": 1.5,
    "boot": 0.7,
    "cloud_init": 0.8,
    "booted": 1.5,
    "stopping": 1.0,
    "stopping_local": 2.0,
    "terminating": 1.0,
    "rebooting": 1.0,
    "detaching": 1.0,
    "ip_pending": 0.8,
    "deleting_volume": 0.3,
}


@dataclass(slots=True)
class Settings:
    """Kept in FOLDER/scaleway.json (0600). `block` holds the first two octets of the machines' addresses, of which the
    first `first_address` are left to others.

    `delays` replaces single delays (seconds, before `speed` divides them); `speed` 2 means twice as fast.
    """

    access_key: str = ""
    secret_key: str = ""
    project_id: str = ""
    organization_id: str = ""
    block: str = "127.77"
    first_address: int = 0
    ssh_port: int = 2222
    speed: float = 1.0
    delays: dict[str, float] = field(default_factory=dict)

    def delay(self, name: str) -> float:
        """Seconds that the transition `name` takes."""
        return {**DELAYS, **self.delays}[name] / self.speed


def load(directory: Path, **changes: Any) -> Settings:
    """Read the folder's settings, make up the keys that are missing, write them back.

    Keys and block come from the sandbox's state.json if it is there; scaleway.json wins over it, `changes` over both.
    """
    path = directory / "scaleway.json"
    known: dict[str, Any] = {}
    state_path = directory / "state.json"
    if state_path.is_file():
        state = json.loads(state_path.read_text(encoding="utf-8"))
        known |= {name: state["scaleway"].get(name) for name in ("access_key", "secret_key", "project_id")}
        known["block"] = state.get("block")
        known["organization_id"] = state["scaleway"].get("organization_id")
    if path.is_file():
        known |= json.loads(path.read_text(encoding="utf-8"))
    known |= {name: value for name, value in changes.items() if value is not None}
    settings = Settings(**{name: value for name, value in known.items() if value is not None})
    settings.access_key = settings.access_key or "SCW" + "".join(
        random.choices(string.ascii_uppercase + string.digits, k=17)
    )
    settings.secret_key = settings.secret_key or str(uuid.uuid4())
    settings.project_id = settings.project_id or str(uuid.uuid4())
    settings.organization_id = settings.organization_id or settings.project_id
    directory.mkdir(parents=True, exist_ok=True)
    write_private(path, json.dumps(asdict(settings), indent=2) + "\n")
    return settings


def write_private(path: Path, text: str) -> None:
    """Replace `path` in one step, readable by its owner only."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    temporary.replace(path)
