"""Reading the project's documents: headings, links, names of files, and what code cites of them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
# What is made, and collections/, whose link leads back to the project.
SKIPPED = {".git", ".venv", ".sandbox", "runs", "build", "dist", "collections", "__pycache__", "mine"}
CODE = {".py", ".yml", ".yaml", ".toml", ".j2", ".sh", ".cfg"}
TOP = "benchmarks|changelog|docs|inventory|library|module_utils|playbooks|plugins|roles|sandbox|src|tests"
# A run, or the reader, makes them.
MADE = {"inventory/mine", "inventory/mine/scaleway.yml"}
# Programs of the earlier scripts, which from-the-earlier-scripts.md translates.
EARLIER = {"automate_delta_sync.py", "automate_scan.py", "test_delta_sync.py", "test_scan_local.py"}


@cache
def files() -> tuple[Path, ...]:
    """Every file of the project, without what is made."""
    found = []
    for folder, folders, names in os.walk(PROJECT):
        folders[:] = sorted(
            name for name in folders if name not in SKIPPED and not name.endswith((".egg-info", "_cache"))
        )
        found += [Path(folder) / name for name in sorted(names)]
    return tuple(found)


@cache
def names() -> frozenset[str]:
    return frozenset(path.name for path in files())


def pages() -> list[Path]:
    return [path for path in files() if path.suffix == ".md"]


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def prose(text: str) -> str:
    """``text`` without code blocks, fenced or indented after an empty line."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"(?:(?<=\n\n)|\A)(?: {4}[^\n]*\n?)+", "\n", text)


def anchors(text: str) -> set[str]:
    """The anchors that GitHub makes of the headings."""
    found: set[str] = set()
    for line in re.findall(r"^#{1,6} +(.+?) *#*$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", line).replace("`", "").lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        same = sum(1 for one in found if one == slug or re.fullmatch(rf"{re.escape(slug)}-\d+", one))
        found.add(f"{slug}-{same}" if same else slug)
    return found


def dead_links(path: Path, text: str) -> list[str]:
    """Relative links of a page that lead to no file, or to no heading."""
    dead = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(text)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        goal = (path.parent / name).resolve() if name else path
        if (name and not goal.exists()) or (anchor and anchor not in anchors(read(goal) if name else text)):
            dead.append(target)
    return dead


def dead_names(text: str) -> list[str]:
    """Names in backticks that look like files of the repository and are none."""
    dead = []
    for name in re.findall(r"`([\w.][\w./-]*)`", text):
        if re.match(rf"(?:{TOP})/", name):
            if name.rstrip("/") not in MADE and not (PROJECT / name).exists():
                dead.append(name)
        elif "/" not in name and name.endswith((".py", ".yml", ".md")) and name not in EARLIER and name not in names():
            dead.append(name)
    return dead


def dead_citations(text: str) -> list[str]:
    """What code cites of the documents, such as docs/plex-facts.md#database, #files, and is not there."""
    dead = []
    for page, first, more in re.findall(r"docs/([\w/-]+\.md)(#[\w-]+)?((?:, #[\w-]+)*)", text):
        goal = PROJECT / "docs" / page
        cited = [anchor.strip(" #") for anchor in (first, *more.split(",")) if anchor.strip(" #")]
        if not goal.exists():
            dead.append(f"docs/{page}")
        else:
            dead += [f"docs/{page}#{anchor}" for anchor in cited if anchor not in anchors(read(goal))]
    return dead + re.findall(r"facts/[\w-]+\.md|\bfacts §[\d.]+|\bfacts \d\.\d+|\bDESIGN\.md", text)


def citing() -> Iterator[tuple[Path, str]]:
    """Files of code with their text, but for this file and its test, which show what is refused."""
    for path in files():
        if path.suffix in CODE and not path.is_symlink() and path.name not in ("documents.py", "test_documents.py"):
            yield path, read(path)


def messages() -> str:
    """The code that speaks, in one line, with the parts of a text that goes over several lines put together."""
    folders = {"library", "module_utils", "playbooks", "plugins", "roles"}
    said = [
        re.sub(r'"\s*\n\s*f?"', "", text) for path, text in citing() if path.relative_to(PROJECT).parts[0] in folders
    ]
    return " ".join(" ".join(said).split())
