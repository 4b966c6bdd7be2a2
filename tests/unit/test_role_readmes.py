"""A role's README names every input that the role accepts, and its specification and defaults agree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

ROLES = sorted(path.parent.parent for path in (Path(__file__).resolve().parents[2] / "roles").glob("*/meta/main.yml"))


def options(role: Path) -> dict[str, dict[str, Any]]:
    """Every input of any entry point."""
    specs = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))["argument_specs"]
    return {name: option for spec in specs.values() for name, option in spec.get("options", {}).items()}


def entry_points(role: Path) -> set[str]:
    specs = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))["argument_specs"]
    return set(specs)


def named(text: str, role: str, name: str) -> bool:
    """By its whole name, or without the role's, as `_work_dir`, in a table that lists what each entry point takes."""
    return f"`{name}`" in text or f"`{name.removeprefix(role)}`" in text


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_the_readme_names_every_input_and_every_way_in(role: Path) -> None:
    text = (role / "README.md").read_text(encoding="utf-8")
    assert [name for name in options(role) if not named(text, role.name, name)] == []
    ways = [f"tasks_from: {name}" if f"tasks_from: {name}" in text else f"`{name}`" for name in entry_points(role)]
    assert [way for way in ways if way not in text and way != "`main`"] == []


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_the_specification_and_the_defaults_agree(role: Path) -> None:
    defaults = yaml.safe_load((role / "defaults" / "main.yml").read_text(encoding="utf-8")) or {}
    accepted = options(role)
    assert [name for name in defaults if name not in accepted] == []
    told = {name: option["default"] for name, option in accepted.items() if "default" in option}
    fixed = {name: value for name, value in defaults.items() if "{{" not in str(value)}
    assert {name: told[name] for name in told.keys() & fixed.keys()} == {
        name: fixed[name] for name in told.keys() & fixed.keys()
    }
