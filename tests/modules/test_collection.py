"""What `make collection` packs, and whether Ansible finds its way in it once it is installed."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from tests.built_collection import PROJECT, ansible, build, install, members, outside, tracked

MODULES = {path.stem for path in (PROJECT / "library").glob("*.py")}
PLAYBOOKS = sorted(path.stem for path in (PROJECT / "playbooks").glob("*.yml"))
ROLES = {path.name for path in (PROJECT / "roles").iterdir() if path.is_dir()}

NAME = r"[A-Za-z0-9_-]+"
ALLOWED = [
    re.compile(pattern)
    for pattern in (
        r"(CHANGELOG|CONTRIBUTING|README|SECURITY)\.md",
        r"LICENSE",
        r"(FILES|MANIFEST)\.json",
        r"settings\.yml",
        r"meta/runtime\.yml",
        rf"docs/({NAME}/)?{NAME}\.md",
        r"docs/summary\.schema\.json",
        rf"inventory/example/(group_vars/{NAME}/)?{NAME}\.yml",
        rf"library/{NAME}\.py",
        rf"module_utils/({NAME}/)*{NAME}\.py",
        rf"playbooks/{NAME}\.yml",
        rf"playbooks/(checks|stages|tasks|vars)/{NAME}\.yml",
        rf"playbooks/templates/{NAME}\.\w+\.j2",
        r"playbooks/callback_plugins/plexburst\.py",
        rf"plugins/(action|callback|doc_fragments|filter|inventory|plugin_utils)/{NAME}\.py",
        r"plugins/(modules|module_utils)",
        rf"roles/{NAME}/README\.md",
        rf"roles/{NAME}/(defaults|handlers|meta|tasks|vars)/({NAME}/)?{NAME}\.yml",
        rf"roles/{NAME}/files/{NAME}\.(py|sh)",
        rf"roles/{NAME}/templates/{NAME}\.\w+\.j2",
    )
]
LINKS = {
    "playbooks/callback_plugins/plexburst.py": "../../plugins/callback/plexburst.py",
    "plugins/module_utils": "../module_utils",
    "plugins/modules": "../library",
}
"""All links that may travel; none leads out of the collection."""
TRAVEL = ("LICENSE", "README.md", "library", "meta", "module_utils", "playbooks", "plugins", "roles", "settings.yml")
"""What is tracked below these is packed, all of it."""


def not_allowed(names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if not any(pattern.fullmatch(name) for pattern in ALLOWED))


@pytest.fixture(scope="module")
def tarball(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("built"))


def test_the_tarball_holds_nothing_but_the_collection(tarball: Path) -> None:
    packed = members(tarball)
    assert not_allowed(packed) == []
    assert {name: target for name, target in packed.items() if target} == LINKS
    # Neither what git ignores nor what is merely not added yet.
    assert set(packed) - {"FILES.json", "MANIFEST.json"} <= set(tracked())


@pytest.mark.parametrize(
    "name",
    [
        ".venv/lib/python3.11/site-packages/requests/api.py",
        "benchmarks/delta.py",
        "docs/library.db",
        "inventory/mine/hosts.yml",
        "inventory/sandbox/hosts.yml",
        "module_utils/__pycache__/text.cpython-311.pyc",
        "playbooks/runs/20261201-120000-abcd/summary.json",
        "playbooks/tests/test_plan.yml",
        "roles/run/files/id_ed25519",
        "roles/run/tests/inventory.yml",
        "runs/20261201-120000-abcd/plan.yml",
        "runs/latest",
        "sandbox/plex.py",
        "src/plexburst/runner.py",
        "tests/unit/test_settings.py",
    ],
)
def test_what_does_not_belong_is_noticed(name: str) -> None:
    assert not_allowed([name]) == [name]


def test_without_git_the_tests_fail_and_say_why(tmp_path: Path) -> None:
    with pytest.raises(pytest.fail.Exception, match=r"Run these tests in a git checkout\."):
        tracked(tmp_path)


def test_everything_that_a_run_needs_travels(tarball: Path) -> None:
    packed = set(members(tarball))
    needed = {name for name in tracked() if name.partition("/")[0] in TRAVEL}
    assert sorted(needed - packed) == []
    assert {f"library/{name}.py" for name in MODULES} <= packed
    assert {name.split("/")[1] for name in packed if name.startswith("roles/")} == ROLES
    named = set(re.findall(r"\]\((docs/[^)#]+)", (PROJECT / "README.md").read_text(encoding="utf-8")))
    assert named
    assert sorted(named - packed) == []


@pytest.fixture(scope="module")
def installed(tarball: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A folder outside with nothing but the installed collection, and the environment to use it."""
    folder = tmp_path_factory.mktemp("elsewhere")
    collections = folder / "collections"
    install(tarball, collections, folder)
    return folder, outside(folder, collections)


def test_every_module_is_documented_where_it_is_installed(installed: tuple[Path, dict[str, str]]) -> None:
    folder, env = installed
    listed = ansible("ansible-doc", "-t", "module", "-l", "-j", "plexburst.core", folder=folder, env=env)
    assert listed.returncode == 0, listed.stderr
    names = set(json.loads(listed.stdout))
    assert names == {f"plexburst.core.{name}" for name in MODULES}
    shown = ansible("ansible-doc", "-t", "module", "-j", *sorted(names), folder=folder, env=env)
    assert shown.returncode == 0, shown.stderr
    assert {name for name, text in json.loads(shown.stdout).items() if text["doc"]["options"] is not None} == names


def test_every_playbook_parses_where_it_is_installed(installed: tuple[Path, dict[str, str]]) -> None:
    folder, env = installed
    assert "delta_sync" in PLAYBOOKS
    named = [f"plexburst.core.{name}" for name in PLAYBOOKS]
    parsed = ansible("ansible-playbook", *named, "--syntax-check", folder=folder, env=env)
    assert parsed.returncode == 0, parsed.stdout + parsed.stderr
    assert parsed.stdout.count("playbook: ") == len(PLAYBOOKS)


def test_no_run_folder_is_below_the_installed_collection(installed: tuple[Path, dict[str, str]]) -> None:
    folder, env = installed
    core = folder / "collections" / "ansible_collections" / "plexburst" / "core"
    (folder / "mine").mkdir()
    (folder / "mine" / "hosts.yml").write_text("all: {hosts: {home: null}}\n", encoding="utf-8")
    (folder / "look.yml").write_text(
        "- hosts: localhost\n"
        "  gather_facts: false\n"
        "  tasks:\n"
        "    - plexburst.core.plexburst_settings: {required: []}\n"
        "    - ansible.builtin.debug: {msg: 'runs={{ run_settings.runs_dir }}'}\n",
        encoding="utf-8",
    )
    look = ("ansible-playbook", str(folder / "look.yml"), "-i")
    for inventory, current, runs in (
        ("mine/hosts.yml", folder, folder / "mine" / "runs"),
        (str(folder / "mine"), core, folder / "runs"),
        (str(core / "inventory" / "example"), folder, folder / "runs"),
    ):
        done = ansible(*look, inventory, folder=current, env=env)
        assert f"runs={runs}" in done.stdout, done.stdout + done.stderr
    refused = ansible(*look, str(core / "inventory" / "example"), folder=core / "docs", env=env)
    assert refused.returncode != 0
    assert "the next installation of the collection deletes it" in refused.stdout + refused.stderr


def test_requires_ansible_is_what_is_tested() -> None:
    """pyproject.toml installs for each Python what the tests run with; the oldest of it is what is required."""
    runtime = yaml.safe_load((PROJECT / "meta" / "runtime.yml").read_text(encoding="utf-8"))
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    cores = [each for each in project["dependencies"] if each.startswith("ansible-core")]
    oldest = min(tuple(map(int, re.findall(r">=(\d+)\.(\d+)", each)[0])) for each in cores)
    assert runtime["requires_ansible"] == f">={oldest[0]}.{oldest[1]}.0"
    assert project["requires-python"] == ">=3.11"
    if sys.version_info[:2] == (3, 11):
        assert tuple(map(int, version("ansible-core").split(".")[:2])) == oldest
