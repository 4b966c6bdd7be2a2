"""ansible-test's validate-modules, with argument specs, over all our modules.

`ansible-test sanity` wants to download what it needs; its validate-modules is a Python program that runs offline in a
copy of the collection without links.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
MODULES = sorted(path.name for path in (PROJECT / "library").glob("*.py"))

FILTERED = {
    # The project is MIT; the check is for collections that are part of the package `ansible`.
    "missing-gplv3-license",
}


def collection(tmp_path: Path) -> Path:
    """A copy of the collection with real folders; the path of its root."""
    root = tmp_path / "ansible_collections" / "plexburst" / "core"
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("meta", "plugins"):
        shutil.copytree(PROJECT / name, root / name, ignore=ignored)
    shutil.copy(PROJECT / "galaxy.yml", root)
    return root


def validate(root: Path, modules: list[str]) -> list[str]:
    """What validate-modules finds, without what is filtered."""
    spec = importlib.util.find_spec("ansible_test")
    assert spec is not None
    assert spec.origin is not None
    checker = Path(spec.origin).parent / "_util" / "controller" / "sanity" / "validate-modules"
    ended = subprocess.run(
        [
            sys.executable,
            str(checker / "validate.py"),
            *("--format", "plain", "--warnings", "--arg-spec"),
            *("--collection", "ansible_collections/plexburst/core", "--collection-version", "0.2.0"),
            *(f"plugins/modules/{name}" for name in modules),
        ],
        cwd=root,
        env={**os.environ, "PYTHONPATH": f"{checker}{os.pathsep}{root.parents[2]}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    lines = [
        line
        for line in ended.stdout.splitlines()
        if line.strip() and not re.match(r"^(=|  )?plugins/modules/\S+$", line)
    ]
    found = [line for line in lines if not any(code in line for code in FILTERED)]
    assert ended.returncode in (0, 1, 3), ended.stderr
    assert lines or not ended.stderr.strip(), ended.stderr
    # Every module has the finding that is filtered: one without it was not judged.
    judged = {line.partition(":")[0] for line in lines if "missing-gplv3-license" in line}
    assert judged == {f"plugins/modules/{name}" for name in modules}
    return found


def test_documentation_and_argument_specs_say_the_same(tmp_path: Path) -> None:
    assert len(MODULES) >= 5
    assert validate(collection(tmp_path), MODULES) == []


LOCK = """\
  lock:
    description: Take the lock. V(false) is for playbooks that only read.
    type: bool
    default: true
"""
CHOICES = "    choices: [cloud, cost, home, leftovers, partial, plan, sections, sonic]\n"


@pytest.mark.parametrize(("module", "removed"), [("run_begin.py", LOCK), ("run_record.py", CHOICES)])
def test_a_documented_option_that_is_removed_is_missed(tmp_path: Path, module: str, removed: str) -> None:
    root = collection(tmp_path)
    path = root / "plugins" / "modules" / module
    text = path.read_text(encoding="utf-8")
    assert removed in text
    path.write_text(text.replace(removed, ""), encoding="utf-8")
    assert any("argument" in line.lower() for line in validate(root, [module]))
