"""The tier's tests need its world: they are collected only where `make e2e` has built one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.e2e.engine import STATE_VARIABLE, Engine
from tests.e2e.world import World

if not os.environ.get(STATE_VARIABLE):
    # A plain `make test` has no machines, and needs no root to say so.
    collect_ignore_glob = ["test_*.py"]

# Three workers are done soonest when each begins with a long one, gets the next at once, and short ones come last.
_ORDER = ("test_faults", "test_lost", "test_linuxserver", "test_full", "test_preparing", "test_systemd", "test_image")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In that order; a file that is not named is first, as nobody knows how long it takes."""
    items.sort(key=lambda item: _ORDER.index(item.path.stem) if item.path.stem in _ORDER else -1)


@pytest.fixture(scope="session")
def engine() -> Engine:
    """The running engine."""
    return Engine.load()


@contextmanager
def lived_in(world: World) -> Iterator[World]:
    """A world that ends with its test, whatever happens; what its parts said is printed when it failed."""
    try:
        yield world
    finally:
        world.down()
