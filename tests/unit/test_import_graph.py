"""Which package of the collection imports which: no circle, and targets' code needs nothing of the controller's.

A folder without folders below it counts as one package; a module beside folders (plex/errors.py) counts by itself.
So do the folders directly below module_utils/: no circle between these either.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
PREFIX = "ansible_collections.plexburst.core."
FOLDERS = (
    "module_utils",
    "library",
    *(f"plugins/{kind}" for kind in ("action", "callback", "filter", "inventory", "plugin_utils")),
)
ON_TARGETS = ("module_utils", "library")
# Imported inside a function whose docstring says that it raises ImportError: needed on the controller only.
LATE = {("module_utils/run/summary.py", "jsonschema")}

Graph = dict[str, dict[str, str]]
"""Node → what it imports → where (file:line)."""


@dataclass(frozen=True)
class Import:
    """One imported module, with its full name inside the collection or out of it."""

    file: str
    line: int
    name: str
    guarded: bool
    typing: bool

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line}"


def files(project: Path) -> list[Path]:
    """Every Python file, through no link."""
    return sorted(
        path
        for folder in FOLDERS
        for path in (project / folder).rglob("*.py")
        if "__pycache__" not in path.parts and path.is_file()
    )


def dotted(project: Path, path: Path) -> str:
    """The name of the file's module within the collection, as module_utils.plex.errors."""
    parts = path.relative_to(project).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def catches_import_error(tried: ast.Try) -> bool:
    caught = [name for handler in tried.handlers for name in ast.walk(handler.type or ast.Name("Exception"))]
    return any(
        isinstance(name, ast.Name) and name.id in ("ImportError", "ModuleNotFoundError", "Exception") for name in caught
    )


def is_type_checking(node: ast.If) -> bool:
    return any(isinstance(name, ast.Name) and name.id == "TYPE_CHECKING" for name in ast.walk(node.test))


def statements(body: Iterable[ast.AST], *, guarded: bool, typing: bool) -> Iterator[tuple[ast.stmt, bool, bool]]:
    """Every import statement, whether ImportError is caught around it, and whether only a type checker runs it."""
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node, guarded, typing
        elif isinstance(node, ast.Try):
            yield from statements(node.body, guarded=guarded or catches_import_error(node), typing=typing)
            rest = [*node.handlers, *node.orelse, *node.finalbody]
            yield from statements(rest, guarded=guarded, typing=typing)
        elif isinstance(node, ast.If):
            yield from statements(node.body, guarded=guarded, typing=typing or is_type_checking(node))
            yield from statements(node.orelse, guarded=guarded, typing=typing)
        else:
            yield from statements(ast.iter_child_nodes(node), guarded=guarded, typing=typing)


def imports(project: Path) -> list[Import]:
    """Every import of the collection's code, relative ones resolved; names in the collection begin at its root."""
    found: list[Import] = []
    for path in files(project):
        name = dotted(project, path)
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        file = path.relative_to(project).as_posix()
        tree = ast.parse(path.read_text(encoding="utf-8"), file)
        for node, guarded, typing in statements(tree.body, guarded=False, typing=False):
            if isinstance(node, ast.Import):
                named = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
                module = ".".join(
                    [PREFIX.rstrip(".")] * bool(node.level) + base + [node.module or ""] * bool(node.module)
                )
                named = [f"{module}.{alias.name}" for alias in node.names]
            found += [Import(file, node.lineno, inside(each), guarded, typing) for each in named]
    return found


def inside(name: str) -> str:
    """A name of the collection from its root, with `.` before it; another name as it is."""
    if not name.startswith(PREFIX):
        return name
    return "." + name.removeprefix(PREFIX).replace("plugins.module_utils", "module_utils", 1).replace(
        "plugins.modules", "library", 1
    )


def module_of(project: Path, name: str) -> Path | None:
    """The file that a name from the collection's root belongs to: a module, a package, or something inside one."""
    parts = name.lstrip(".").split(".")
    for end in range(len(parts), 0, -1):
        path = project.joinpath(*parts[:end])
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if file.is_file():
                return file
    return None


def leaf(project: Path, path: Path) -> str:
    """The package of a file: its folder, or the file itself where it lies beside folders."""
    folder = path.parent
    if any(child.is_dir() and child.name != "__pycache__" for child in folder.iterdir()):
        return path.relative_to(project).with_suffix("").as_posix()
    return folder.relative_to(project).as_posix()


def area(project: Path, path: Path) -> str:
    """The folder directly below module_utils/ (plex, plex_db, run …), or the kind of plugin."""
    return "/".join(path.relative_to(project).with_suffix("").parts[:2])


def graph(project: Path, node_of: Callable[[Path, Path], str] = leaf) -> Graph:
    """Who imports whom. An import for a type checker counts: it says just as much about what the code knows."""
    drawn: Graph = {}
    for each in imports(project):
        source = node_of(project, project / each.file)
        drawn.setdefault(source, {})
        if not each.name.startswith("."):
            continue
        target = module_of(project, each.name)
        assert target is not None, f"{each.place} imports {each.name.lstrip('.')}, which does not exist."
        if node_of(project, target) != source:
            drawn[source].setdefault(node_of(project, target), each.place)
    return drawn


def circles(drawn: Graph) -> list[str]:
    """Each circle once, as a sentence that names the imports to look at."""
    found: dict[frozenset[str], str] = {}

    def visit(node: str, way: list[str]) -> None:
        for target in sorted(drawn.get(node, {})):
            if target in way:
                ring = [*way[way.index(target) :], target]
                steps = ", ".join(f"{a} imports {b} ({drawn[a][b]})" for a, b in pairwise(ring))
                found.setdefault(frozenset(ring), steps)
            elif target not in done:
                visit(target, [*way, target])
        done.add(node)

    done: set[str] = set()
    for node in sorted(drawn):
        if node not in done:
            visit(node, [node])
    return list(found.values())


def forbidden(project: Path) -> list[str]:
    """What code that runs on targets imports although a target may not have it."""
    problems = []
    for each in imports(project):
        top = each.name.partition(".")[0]
        if each.typing or not each.file.startswith(tuple(f"{folder}/" for folder in ON_TARGETS)):
            continue
        if each.name.startswith("."):
            if each.name.startswith(".plugins."):
                problems.append(f"{each.place} imports {each.name.lstrip('.')}, which exists on the controller only.")
        elif top == "ansible":
            if not f"{each.name}.".startswith("ansible.module_utils."):
                problems.append(f"{each.place} imports {each.name}; on a target, only ansible.module_utils exists.")
        elif top not in sys.stdlib_module_names and not each.guarded and (each.file, top) not in LATE:
            problems.append(f"{each.place} imports {each.name} without catching ImportError (missing_required_lib).")
    return problems


def test_no_circle_between_packages() -> None:
    drawn = graph(PROJECT)
    assert len([node for node in drawn if node.startswith("module_utils/")]) >= 10
    assert circles(drawn) == []


def test_no_circle_between_the_folders_of_module_utils() -> None:
    assert circles(graph(PROJECT, area)) == []


def test_code_for_targets_imports_nothing_that_a_target_may_lack() -> None:
    assert forbidden(PROJECT) == []


def written(project: Path, sources: dict[str, str]) -> Path:
    for file, text in sources.items():
        path = project / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return project


def test_a_circle_is_found_and_named(tmp_path: Path) -> None:
    made_up = written(
        tmp_path,
        {
            "module_utils/plex/errors.py": "",
            "module_utils/plex/api/client.py": "from ..errors import PlexError\nfrom ..watch import verdict\n",
            "module_utils/plex/watch/__init__.py": "",
            "module_utils/plex/watch/verdict.py": "if TYPE_CHECKING:\n    from ..api.client import Client\n",
            "module_utils/run/folder.py": "from ..plex import errors\n",
            "library/plex_info.py": f"from {PREFIX}plugins.module_utils.run.folder import RunFolder\n",
        },
    )
    ring = (
        "module_utils/plex/api imports module_utils/plex/watch (module_utils/plex/api/client.py:2), "
        "module_utils/plex/watch imports module_utils/plex/api (module_utils/plex/watch/verdict.py:2)"
    )
    assert circles(graph(made_up)) == [ring]
    assert graph(made_up)["library"] == {"module_utils/run": "library/plex_info.py:1"}
    assert circles(graph(made_up, area)) == []
    written(made_up, {"module_utils/plex/errors.py": "from ..run import folder\n"})
    assert [each.partition(" (")[0] for each in circles(graph(made_up, area))] == [
        "module_utils/run imports module_utils/plex"
    ]


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import requests\n", "requests without"),
        ("try:\n    import requests\nexcept ValueError:\n    pass\n", "requests without"),
        ("def ask():\n    import requests\n", "requests without"),
        ("try:\n    import requests\nexcept ImportError:\n    import yaml\n", "yaml without"),
        ("from ansible.utils.display import Display\n", "only ansible.module_utils"),
        ("from ansible import constants\n", "only ansible.module_utils"),
        (f"from {PREFIX}plugins.plugin_utils.console import Console\n", "controller only"),
        ("import json\nfrom ansible.module_utils.basic import AnsibleModule\nfrom . import folder\n", ""),
        ("try:\n    import requests\nexcept ImportError:\n    requests = None\n", ""),
        ("if TYPE_CHECKING:\n    import requests\n", ""),
    ],
)
def test_what_a_target_may_lack_is_found(tmp_path: Path, source: str, found: str) -> None:
    problems = forbidden(written(tmp_path, {"module_utils/run/folder.py": source}))
    assert len(problems) == bool(found)
    assert found in "".join(problems)
