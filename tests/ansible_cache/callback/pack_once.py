"""Lets the playbooks of a test session do once what they would do again and again, with the same result.

Packed modules: Ansible keeps them in a temporary folder of each process; here that folder is a link to the session's.
All playbooks of a session pack the same sources. With PLEXBURST_TEST_BYTECODE the bytecode of each file is packed, too:
a module is a process of its own, which would compile some fifty files. A Python of another version passes it over.

Files of variables: Ansible reads and parses those of a play (`vars_files`) again for each task, unless they are
encrypted (ansible.vars.manager); here as it does with the encrypted ones. Nothing writes them while a playbook runs.

Templates: each task has a process of its own, which compiles the templates it needs and those of all variables in them,
some 6,000 in a delta sync. Here what one has compiled is in a file that the main process reads before it starts the
next.

Filters and tests of templates: each task has a process of its own, which loads those it needs; here they are loaded
before there is any.
"""

from __future__ import annotations

import copy
import hashlib
import marshal
import os
import zipfile
from collections.abc import Callable
from contextlib import suppress
from importlib.util import MAGIC_NUMBER, source_hash
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jinja2
from ansible import constants
from ansible._internal._templating._jinja_bits import _TEMPLATE_OVERRIDE_FIELD_NAMES, _TemplateCompileContext
from ansible.executor import module_common
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.callback import CallbackBase
from ansible.plugins.loader import filter_loader, test_loader

DOCUMENTATION = """
name: pack_once
type: aggregate
short_description: Share packed modules between the playbooks of a test session
description:
  - Links the folder of packed modules to the one that PLEXBURST_TEST_PACKED names.
  - Packs bytecode too, where PLEXBURST_TEST_BYTECODE is set.
  - Keeps compiled templates there.
  - Keeps what was read from files of variables, and loads filters and tests before the first task.
"""


def _read_once(read: Callable[..., Any]) -> Callable[..., Any]:
    """`DataLoader.load_from_file` that keeps every file it is not told to forget."""

    def load_from_file(self: DataLoader, file_name: str, cache: str = "all", **options: Any) -> Any:
        return read(self, file_name, cache="all" if cache == "vaulted" else cache, **options)

    return load_from_file


class _WithBytecode(zipfile.ZipFile):
    """Packs Python files with their bytecode, which is not checked against them (PEP 552)."""

    _UNCHECKED = (1).to_bytes(4, "little")

    def writestr(self, zinfo_or_arcname: Any, data: bytes | str, *args: Any, **kwargs: Any) -> None:
        super().writestr(zinfo_or_arcname, data, *args, **kwargs)
        if isinstance(zinfo_or_arcname, zipfile.ZipInfo) and zinfo_or_arcname.filename.endswith(".py"):
            source = data.encode() if isinstance(data, str) else bytes(data)
            code = compile(source, zinfo_or_arcname.filename, "exec", dont_inherit=True)
            info = copy.copy(zinfo_or_arcname)
            info.filename += "c"
            super().writestr(info, MAGIC_NUMBER + self._UNCHECKED + source_hash(source) + marshal.dumps(code))


class _Templates:
    """Compiled templates of the session, in a file: a length of four bytes, the key, the code, again and again."""

    _KEY = 20

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        self._read = 0
        self._known: dict[bytes, bytes] = {}
        self._compile = jinja2.Environment.compile

    def learn(self) -> None:
        """Read what was compiled since; what is being written now is for the next time."""
        # Not by the file's position: the processes of tasks share it.
        new = os.pread(self._file, os.fstat(self._file).st_size - self._read, self._read)
        at = 0
        while (end := at + 4 + int.from_bytes(new[at : at + 4], "big")) <= len(new) and at + 4 < len(new):
            self._known[new[at + 4 : at + 4 + self._KEY]] = new[at + 4 + self._KEY : end]
            at = end
        self._read += at

    def install(self) -> None:
        """Let every environment of Jinja ask here first."""

        def compile_(
            environment: jinja2.Environment,
            source: Any,
            name: Any = None,
            filename: Any = None,
            *args: Any,
            **kwargs: Any,
        ) -> Any:
            if args or kwargs or not isinstance(source, str):
                return self._compile(environment, source, name, filename, *args, **kwargs)
            context = _TemplateCompileContext.current(optional=True)
            # What the code depends on: the text, and how it is read.
            depends = [str(source), name, filename, context.escape_backslashes if context else None]
            depends += [getattr(environment, field) for field in _TEMPLATE_OVERRIDE_FIELD_NAMES]
            key = hashlib.sha1(repr(depends).encode(), usedforsecurity=False).digest()
            if key in self._known:
                return marshal.loads(self._known[key])  # noqa: S302  (our own)
            code = self._compile(environment, source, name, filename)
            self._known[key] = kept = marshal.dumps(code)
            os.write(self._file, (self._KEY + len(kept)).to_bytes(4, "big") + key + kept)
            return code

        jinja2.Environment.compile = compile_  # type: ignore[assignment, method-assign]


class CallbackModule(CallbackBase):  # type: ignore[misc]  # ansible has no types
    """Acts when it is loaded."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "pack_once"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        shared = os.environ.get("PLEXBURST_TEST_PACKED")
        self._templates: _Templates | None = None
        if shared:
            with suppress(FileExistsError):
                Path(constants.DEFAULT_LOCAL_TMP, "ansiballz_cache").symlink_to(shared)
            if os.environ.get("PLEXBURST_TEST_BYTECODE"):
                module_common.zipfile = SimpleNamespace(**{**vars(zipfile), "ZipFile": _WithBytecode})
            self._templates = _Templates(Path(shared, "templates"))
            self._templates.install()
            DataLoader.load_from_file = _read_once(DataLoader.load_from_file)
            list(filter_loader.all())
            list(test_loader.all())

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """The last moment before it has a process."""
        if self._templates is not None:
            self._templates.learn()
