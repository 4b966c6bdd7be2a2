"""A module that only documents its action plugin must document the arguments that the action takes."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).resolve().parents[2]


def spec_of(path: Path) -> Any:
    """The value of the one keyword argument ``argument_spec`` in a file, with names of constants put in."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    constants = {
        target.id: node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    (found,) = [
        keyword.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        for keyword in node.keywords
        if keyword.arg == "argument_spec"
    ]

    class PutIn(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> ast.AST:
            return constants[node.id]

    return ast.literal_eval(PutIn().visit(found))


@pytest.mark.parametrize(
    "name",
    [
        "plex_db_relay",
        "plex_db_transfer",
        "plexburst_settings",
        "run_begin",
        "run_record",
        "run_failed",
        "run_result",
    ],
)
def test_module_and_action_take_the_same(name: str) -> None:
    action = spec_of(PROJECT / "plugins" / "action" / f"{name}.py")
    assert spec_of(PROJECT / "library" / f"{name}.py") == action
