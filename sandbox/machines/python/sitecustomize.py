"""Python at startup on a machine of the sandbox: remembers what it compiled out of zip files.

Ansible sends a module and everything it imports as a zip file under a new name each time. Python keeps no compiled code
for zip files, so a third of each module's time goes into compiling the same text again; a run has two hundred of them.
Here the compiled code is kept by the content of its source. Nothing else is different, and without the folder that the
variable names nothing is at all.
"""

from __future__ import annotations

import hashlib
import marshal
import os
import zipimport
from contextlib import suppress
from types import CodeType
from typing import Any

VARIABLE = "PLEXBURST_SANDBOX_COMPILED"


def _remember(folder: str) -> None:
    # Private of zipimport: with another Python that has no such function all stays as it is.
    compile_source: Any = getattr(zipimport, "_compile_source", None)
    if compile_source is None:
        return

    def remembered(path: str, source: bytes) -> CodeType:
        name = os.path.join(folder, hashlib.blake2b(source, digest_size=16).hexdigest())  # noqa: PTH118 - each start counts
        with suppress(OSError, EOFError, ValueError, TypeError), open(name, "rb") as stream:  # noqa: PTH123
            return marshal.loads(stream.read())  # type: ignore[no-any-return]  # noqa: S302 - the sandbox's own folder
        code: CodeType = compile_source(path, source)
        with suppress(OSError):
            beside = f"{name}.{os.getpid()}"
            with open(beside, "xb") as stream:  # noqa: PTH123
                stream.write(marshal.dumps(code))
            os.replace(beside, name)  # noqa: PTH105
        return code

    zipimport._compile_source = remembered


if os.environ.get(VARIABLE):
    _remember(os.environ[VARIABLE])
