"""For all tests: one folder for the modules that Ansible packs in this session."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests import frugal


@pytest.fixture(scope="session", autouse=True)
def packed_modules(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A folder for each worker of the session, so that none waits for another's."""
    folder = tmp_path_factory.mktemp("packed")
    os.environ[frugal.VARIABLE] = str(folder)
    yield
    del os.environ[frugal.VARIABLE]
