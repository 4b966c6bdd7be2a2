"""Where the Pythons of a sandbox remember what they compiled (sandbox/machines/python/sitecustomize.py)."""

from __future__ import annotations

from pathlib import Path

VARIABLE = "PLEXBURST_SANDBOX_COMPILED"
_STARTUP = Path(__file__).resolve().parent / "python"


def environment(folder: Path) -> dict[str, str]:
    """Variables for a Python that keeps it in `folder`/.compiled, which is made."""
    kept = folder / ".compiled"
    kept.mkdir(mode=0o700, parents=True, exist_ok=True)
    return {"PYTHONPATH": str(_STARTUP), VARIABLE: str(kept)}
