"""Writing files whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def write(path: Path, text: str, mode: int = 0o644) -> None:
    """Write `text` to `path` by rename; the file never exists with wider rights than `mode`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
        handle.write(text)
    part.chmod(mode)
    part.replace(path)


def write_secret(path: Path, text: str) -> None:
    """Write a file only its owner may read (0600)."""
    write(path, text, 0o600)


def write_json(path: Path, value: Any, mode: int = 0o644) -> None:
    """Write `value` as JSON."""
    write(path, json.dumps(value, indent=2) + "\n", mode)


def tail(path: Path, lines: int = 20) -> str:
    """The last lines of a log, for an error message; a sentence if there is none."""
    if not path.is_file():
        return f"({path} was never written)"
    found = path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]
    return "\n".join(found) or f"({path} is empty)"
