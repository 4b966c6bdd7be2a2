"""Faults on demand: a small JSON object on disk, read again whenever the file changes."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from typing import Any

_BEING_WRITTEN_SECONDS = 1.0


class Faults:
    """The switched-on faults of one simulator, kept in `path` so that they survive a restart.

    A missing file means no faults. The file is read again when its time stamp or size changes, so a person, a test or
    another process may simply write it. Raises ValueError or TypeError when the file is not a JSON object: a fault
    that was meant and is silently off would make a test green for nothing.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._lock = threading.RLock()
        self._stamp: tuple[int, int, int] | None = None
        self._values: dict[str, Any] = {}

    def all(self) -> dict[str, Any]:
        """Every fault that is on, as a copy."""
        with self._lock:
            self._refresh()
            return dict(self._values)

    def get(self, name: str, default: Any = None) -> Any:
        """The value of the fault `name`, or `default` when it is off."""
        return self.all().get(name, default)

    def replace(self, values: dict[str, Any]) -> None:
        """Switch exactly these faults on and write them down; `{}` switches everything off."""
        with self._lock:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            temporary = self.path.with_name(f"{self.path.name}.{os.getpid()}.new")
            temporary.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
            temporary.replace(self.path)
            self._stamp = None
            self._refresh()

    def take(self, name: str) -> bool:
        """Use up one of a counted fault: `{"rate_limit": 3}` says yes three times, then removes itself."""
        with self._lock:
            self._refresh()
            left = self._values.get(name, 0)
            if not isinstance(left, int) or left <= 0:
                return False
            values = dict(self._values)
            if left > 1:
                values[name] = left - 1
            else:
                del values[name]
            self.replace(values)
            return True

    def take_value(self, name: str) -> Any:
        """Use up a fault that happens once: its value, and it is off; None when it was off already."""
        with self._lock:
            self._refresh()
            if name not in self._values:
                return None
            values = dict(self._values)
            value = values.pop(name)
            self.replace(values)
            return value

    def _refresh(self) -> None:
        try:
            info = self.path.stat()
            stamp = (info.st_mtime_ns, info.st_size, info.st_ino)
            if stamp == self._stamp:
                return
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            self._stamp, self._values = None, {}
            return
        try:
            values = json.loads(text)
        except ValueError:
            if time.time() - info.st_mtime < _BEING_WRITTEN_SECONDS:
                return  # caught in the middle of being written: what held before holds until it is complete
            raise
        if not isinstance(values, dict):
            raise TypeError(
                f"{self.path} must hold a JSON object of faults, found {type(values).__name__}; write {{}}."
            )
        self._stamp, self._values = stamp, values
