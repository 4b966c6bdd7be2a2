"""For all tests: their order, and one folder for what Ansible packs and compiles in this session."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests import ansible_cache


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole playbooks first: what is left at the end is short, and no worker waits for another's long one."""
    items.sort(key=lambda item: item.get_closest_marker("playbook") is None)


@pytest.fixture(scope="session", autouse=True)
def packed_modules(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A folder for each worker of the session, so that none waits for another's."""
    folder = tmp_path_factory.mktemp("packed")
    os.environ[ansible_cache.VARIABLE] = str(folder)
    yield
    del os.environ[ansible_cache.VARIABLE]
