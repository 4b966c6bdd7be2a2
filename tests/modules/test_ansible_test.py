"""ansible-test's sanity tests over the built collection, those that download nothing.

Some run as they are on a copy with real folders. import and runtime-metadata want to install what the test environment
has already: their own programs are run instead, as tests/modules/test_validate_modules.py does with validate-modules.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.built_collection import PROJECT, ansible, build, outside, with_real_folders

MODULES = sorted((PROJECT / "library").glob("*.py"))
# Not replace-urlopen: home_job runs at home as a process of its own, without Ansible, so it has only urllib.
OFFLINE = (
    "action-plugin-docs",
    "compile",
    "empty-init",
    "ignores",
    "line-endings",
    "no-assert",
    "no-get-exception",
    "no-illegal-filenames",
    "no-smart-quotes",
    "shebang",
    "symlinks",
    "use-argspec-type-path",
    "use-compat-six",
)
CONTROLLER_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


def program(*parts: str) -> Path:
    """A program of ansible-test's own."""
    spec = importlib.util.find_spec("ansible_test")
    assert spec is not None
    assert spec.origin is not None
    path = Path(spec.origin).parent.joinpath("_util", *parts)
    assert path.exists()
    return path


@pytest.fixture(scope="module")
def tarball(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("built"))


@pytest.fixture
def core(tarball: Path, tmp_path: Path) -> Path:
    """The root of a copy of the collection; a test may change it."""
    return with_real_folders(tarball, tmp_path)


def sanity(core: Path, *tests: str) -> tuple[int, str]:
    """The exit code and all output of `ansible-test sanity`."""
    chosen = [word for name in tests for word in ("--test", name)]
    home = core.parents[2]
    done = ansible(
        *("ansible-test", "sanity", *chosen, "--python", CONTROLLER_PYTHON, "--color", "no"),
        folder=core,
        env={**outside(home, home), "ANSIBLE_NOCOLOR": "1"},
    )
    return done.returncode, done.stdout + done.stderr


def test_the_copy_that_is_judged_has_every_module(core: Path) -> None:
    assert len(MODULES) >= 25
    assert [path.name for path in sorted((core / "plugins" / "modules").iterdir())] == [path.name for path in MODULES]
    assert not [path for path in core.rglob("*") if path.is_symlink() and path.is_dir()]


def test_sanity_finds_nothing(core: Path) -> None:
    code, output = sanity(core, *OFFLINE)
    assert [line for line in output.splitlines() if line.startswith(("ERROR", "FATAL"))] == []
    assert code == 0, output
    for name in OFFLINE:
        assert f'Running sanity test "{name}"' in output


def test_sanity_sees_what_is_wrong_in_modules_and_their_code(core: Path) -> None:
    for file, old, new in (
        ("plugins/modules/plex_db_check.py", "#!/usr/bin/python\n", "#!/usr/bin/env python3\n"),
        ("plugins/modules/plex_db_delta.py", "    options = module.params\n", "    options = module.params\n    ( =\n"),
        ("plugins/module_utils/run/folder.py", "import os\n", "import os\n\nassert os\n"),
    ):
        text = (core / file).read_text(encoding="utf-8")
        assert old in text
        (core / file).write_text(text.replace(old, new, 1), encoding="utf-8")
    code, output = sanity(core, "compile", "no-assert", "shebang")
    assert code == 1
    assert re.search(r"plugins/modules/plex_db_check\.py:1:1: .*shebang", output)
    assert re.search(r"plugins/modules/plex_db_delta\.py:\d+:\d+: SyntaxError", output)
    assert re.search(r"plugins/module_utils/run/folder\.py:\d+:\d+: raise AssertionError instead of: assert", output)


def failed_imports(core: Path, kind: str, folders: tuple[str, ...], python: tuple[str, ...]) -> list[str]:
    """What ansible-test's importer finds; `kind` is module (only Ansible's module_utils can be had) or plugin."""
    temporary, importable = core.parents[2] / "temporary", core.parents[2] / "importable"
    temporary.mkdir(exist_ok=True)
    importable.mkdir(exist_ok=True)
    if not (importable / "ansible").exists():
        spec = importlib.util.find_spec("ansible")
        assert spec is not None
        assert spec.origin is not None
        (importable / "ansible").symlink_to(Path(spec.origin).parent)
    sources = [path.relative_to(core).as_posix() for folder in folders for path in (core / folder).rglob("*.py")]
    assert sources
    done = subprocess.run(
        [*python, str(program("target", "sanity", "import", "importer.py"))],
        cwd=core,
        env={
            **outside(core.parents[2], core.parents[2]),
            "ANSIBLE_CONTROLLER_MIN_PYTHON_VERSION": "3.11",
            "PYTHONPATH": str(importable),
            "PYTHONDONTWRITEBYTECODE": "1",
            "SANITY_COLLECTION_FULL_NAME": "plexburst.core",
            "SANITY_EXTERNAL_PYTHON": sys.executable,
            "SANITY_IMPORTER_TYPE": kind,
            "SANITY_TEMP_PATH": str(temporary),
            "SANITY_YAML_TO_JSON": str(program("controller", "tools", "yaml_to_json.py")),
        },
        input="\n".join(sorted(sources)),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode in (0, 10), done.stderr
    assert not done.stderr, done.stderr
    found = done.stdout.splitlines()
    assert bool(found) == (done.returncode == 10)
    return found


# -S: no package at all but what belongs to Python, as on a host on which nothing was installed.
NOTHING_INSTALLED = (sys.executable, "-S")


def test_modules_and_their_code_import_where_nothing_is_installed(core: Path) -> None:
    assert failed_imports(core, "module", ("plugins/modules", "plugins/module_utils"), NOTHING_INSTALLED) == []


def test_plugins_import(core: Path) -> None:
    folders = ("action", "callback", "doc_fragments", "filter", "inventory", "plugin_utils")
    found = failed_imports(core, "plugin", tuple(f"plugins/{each}" for each in folders), (sys.executable,))
    assert found == []


def test_an_import_that_is_not_guarded_is_found(core: Path) -> None:
    for path in (core / "plugins" / "modules").glob("*.py"):
        if path.name != "plex_db_check.py":
            path.unlink()
    with (core / "plugins" / "module_utils" / "plex_db" / "errors.py").open("a", encoding="utf-8") as file:
        file.write("\nimport requests\n")
    (found,) = failed_imports(core, "module", ("plugins/modules",), NOTHING_INSTALLED)
    assert "plex_db_check.py" in found
    assert "No module named 'requests'" in found


def older_python(wanted: str) -> str | None:
    """Another Python of this machine: on the PATH, through pyenv where that manages it."""
    env = {**os.environ, "PYENV_VERSION": wanted}
    try:
        asked = subprocess.run(
            [f"python{wanted}", "-c", "import sys; print(sys.executable)"],
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return None
    return asked.stdout.strip() if asked.returncode == 0 else None


def wants(core: Path) -> dict[str, tuple[int, ...]]:
    """For each module, the Python that its requirements name (its documentation fragments' too), else 3.9."""
    home = core.parents[2]
    names = [f"plexburst.core.{path.stem}" for path in MODULES]
    shown = ansible("ansible-doc", "-t", "module", "-j", *names, folder=home, env=outside(home, home))
    assert shown.returncode == 0, shown.stderr
    found = {}
    for name, text in json.loads(shown.stdout).items():
        pythons = [each for each in text["doc"].get("requirements", []) if each.startswith("python >= ")]
        numbers = [tuple(map(int, each.removeprefix("python >= ").split("."))) for each in pythons]
        found[name.rpartition(".")[2]] = max(numbers, default=(3, 9))
    return found


def test_modules_import_on_the_oldest_python_that_they_name(core: Path) -> None:
    python = older_python("3.9")
    if python is None:
        pytest.skip("This machine has no Python 3.9.")
    newer = {name for name, wanted in wants(core).items() if wanted > (3, 9)}
    assert len(MODULES) - len(newer) >= 10
    for name in newer:
        (core / "plugins" / "modules" / f"{name}.py").unlink()
    assert failed_imports(core, "module", ("plugins/modules",), (python, "-S")) == []


def metadata(core: Path) -> str:
    """What ansible-test's own program says of meta/runtime.yml."""
    checker = program("controller", "sanity", "code-smell", "runtime-metadata.py")
    done = subprocess.run(
        [sys.executable, str(checker), "meta/runtime.yml"], cwd=core, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_runtime_metadata(core: Path) -> None:
    assert metadata(core) == ""
    runtime = yaml.safe_load((core / "meta" / "runtime.yml").read_text(encoding="utf-8"))
    named = [name for group in runtime["action_groups"].values() for name in group if isinstance(name, str)]
    assert set(named) <= {path.stem for path in MODULES}
    with (core / "meta" / "runtime.yml").open("a", encoding="utf-8") as file:
        file.write("required_ansible: '2.19'\n")
    assert "required_ansible" in metadata(core)
