# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""docs/settings.md, made from settings.yml: ``python -m plexburst.settings_doc`` prints it, ``make docs`` writes it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from plexburst.collection import PROJECT, make_importable

make_importable()

from ansible_collections.plexburst.core.plugins.module_utils.run.settings import Setting, load_spec  # noqa: E402

HEAD = """\
<!-- Made by `make docs` from settings.yml: change it there. -->

# Settings

Set them in your inventory (`group_vars/all`), or with `-e`. On the command line any usual form is understood
(`-e plexburst_sections=Music,Movies`, `-e plexburst_skip_sonic=yes`). An unknown or unusable setting is refused before
anything is done.
"""


def render_markdown(path: Path = PROJECT / "settings.yml") -> str:
    """The whole page: one table per group, in the order of the file."""
    spec = load_spec(path)
    parts = [HEAD]
    for group, title in spec.groups.items():
        parts += [f"## {title}", "", "| variable | type | default | meaning |", "|---|---|---|---|"]
        parts += [_row(setting) for setting in spec.settings.values() if setting.group == group]
        parts.append("")
    return "\n".join(parts).rstrip("\n") + "\n"


def _row(setting: Setting) -> str:
    words = setting.words if not setting.more else f"{setting.words} {setting.more}"
    return f"| `{setting.variable}` | {_type(setting)} | {_default(setting)} | {_cell(words)} |"


def _type(setting: Setting) -> str:
    if setting.type == "choice":
        return ", ".join(f"`{choice}`" for choice in setting.choices)
    if setting.type == "list":
        return f"list of {setting.elements}"
    bounds = ", ".join(
        f"{word} {bound:g}" for word, bound in (("min", setting.min), ("max", setting.max)) if bound is not None
    )
    return f"{setting.type} ({bounds})" if bounds else setting.type.replace("_", " ")


def _default(setting: Setting) -> str:
    if setting.required:
        return "**required**"
    if setting.default in ("", None):
        return ""
    shown = setting.default if isinstance(setting.default, str) else json.dumps(setting.default)
    return f"`{shown}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(render_markdown())
