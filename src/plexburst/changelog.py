# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""CHANGELOG.md, made from changelog/: ``python -m plexburst.changelog`` prints it, ``make docs`` writes it.

A fragment is a file ``changelog/unreleased/<name>.md``: its first line is ``Type: Title``, then an empty line, then the
text. At a release the folder is renamed to ``changelog/<version>_<date>``.
"""

from __future__ import annotations

import re
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

from plexburst.collection import PROJECT

TYPES = ("Security", "Bugfix", "Change", "Enhancement")
"""In the order in which they are printed: what somebody who updates must know comes first."""
UNRELEASED = "unreleased"
HEAD = "<!-- Made by `make docs` from changelog/: add a fragment there. -->\n\n# Changelog\n"


class ChangelogError(ValueError):
    """A fragment or a folder that is not as it must be."""


@dataclass(frozen=True)
class Fragment:
    """One change."""

    type: str
    title: str
    text: str


def read_fragment(path: Path) -> Fragment:
    """One change; raises ChangelogError with the file's name when it is not of the form above."""
    first, _, rest = path.read_text(encoding="utf-8").partition("\n")
    type_, colon, title = first.partition(": ")
    empty, _, text = rest.partition("\n")
    if not colon or type_ not in TYPES or not title.strip() or empty.strip() or not text.strip():
        raise ChangelogError(
            f"{path} must begin with 'Type: Title' (Type one of {', '.join(TYPES)}), an empty line and a text; "
            f"its first line is {first!r}."
        )
    return Fragment(type_, title.strip(), " ".join(text.split()))


def render(folder: Path = PROJECT / "changelog", project: Path = PROJECT / "pyproject.toml") -> str:
    """The whole page, the newest version first."""
    parts = [HEAD]
    versions = [path for path in folder.iterdir() if path.is_dir()]
    for path in sorted(versions, key=_order, reverse=True):
        fragments = [read_fragment(file) for file in sorted(path.glob("*.md"))]
        parts.append(f"## {_heading(path.name, project)}\n")
        for type_ in TYPES:
            lines = [f"- **{one.title}.** {one.text}" for one in fragments if one.type == type_]
            if lines:
                parts += [f"### {type_}\n", "\n".join(lines) + "\n"]
    return "\n".join(parts)


def _order(path: Path) -> tuple[int, ...]:
    if path.name == UNRELEASED:
        return (sys.maxsize,)
    found = re.fullmatch(r"(\d+)\.(\d+)\.(\d+)_\d{4}-\d{2}-\d{2}", path.name)
    if found is None:
        raise ChangelogError(f"{path} must be called {UNRELEASED} or like 0.2.0_2026-12-31.")
    return tuple(int(part) for part in found.groups())


def _heading(name: str, project: Path) -> str:
    if name == UNRELEASED:
        version = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"]
        return f"{version} (unreleased)"
    version, _, date = name.partition("_")
    return f"{version} ({date})"


if __name__ == "__main__":
    sys.stdout.write(render())
