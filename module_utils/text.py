"""Text for messages: spans of time, sizes, long values; and the form in which names are compared."""

from __future__ import annotations

import unicodedata


def span(seconds: float) -> str:
    """Return seconds as text: 45 s, 15 min, 2.5 h, 3 d."""
    for unit, size in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= size * (1.5 if unit == "d" else 1):
            return f"{seconds / size:.1f}".removesuffix(".0") + f" {unit}"
    return f"{seconds:.1f}".removesuffix(".0") + " s"


def megabytes(size: float) -> str:
    """Return a size in bytes as text: `12.3 MB`."""
    return f"{size / 1_000_000:.1f} MB"


def amount(size: float) -> str:
    """Return a size in bytes as text, also small ones: `12.3 MB`, `34.5 kB`."""
    return megabytes(size) if size >= 1_000_000 else f"{size / 1000:.1f} kB"


def shorten(value: object, limit: int = 300) -> str:
    """Return a value for a sentence: a list joined by commas, and the beginning of a long text."""
    text = ", ".join(str(entry) for entry in value) if isinstance(value, (list, tuple)) else str(value)
    return text if len(text) <= limit else f"{text[:limit]}…"


def canonical(path: str) -> str:
    """A path in the composed Unicode form, so that names written by macOS (decomposed) compare equal to the rest."""
    return path if path.isascii() else unicodedata.normalize("NFC", path)
