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
