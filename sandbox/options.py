"""What a sandbox was made with: sizes (fixed when it is made) and speed (may change at each `up`)."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from sandbox.files import write_json
from sandbox.media import Sizes

DEFAULT_SPEED = 0.1
"""Seconds of CPU a Plex simulator spends per track it analyses, and so on in proportion (PLEX_SIM_SPEED)."""


@dataclass(frozen=True, slots=True)
class Options:
    """Sizes of the library and speed of both Plex servers."""

    sizes: Sizes = field(default_factory=Sizes)
    speed: float = DEFAULT_SPEED

    @classmethod
    def load(cls, path: Path) -> Options:
        """The options written earlier, or the defaults."""
        if not path.is_file():
            return cls()
        value = json.loads(path.read_text(encoding="utf-8"))
        return cls(Sizes(**value["sizes"]), float(value["speed"]))

    @classmethod
    def choose(cls, path: Path, *, sizes: Sizes | None, speed: float | None) -> Options:
        """Combine what is asked with what was; None keeps what was.

        Raises ValueError if other sizes are asked of a sandbox that has its media already.
        """
        known = cls.load(path)
        if path.is_file() and sizes is not None and sizes != known.sizes:
            raise ValueError(
                f"expected the sizes this sandbox was made with ({known.sizes}), found {sizes}; "
                "make it anew with `python -m sandbox reset`"
            )
        return cls(sizes or known.sizes, known.speed if speed is None else speed)

    def write(self, path: Path) -> None:
        """Keep them for the supervisor and the next `up`."""
        write_json(path, {"sizes": asdict(self.sizes), "speed": self.speed})
