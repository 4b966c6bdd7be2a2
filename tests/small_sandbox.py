"""A sandbox of its own for the tests that need one: small, in a temporary folder, ended by process ids."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sandbox.control import Sandbox
from sandbox.media import Sizes

SMALL = Sizes(tracks=20, films=6, shows=1, episodes=3, photos=4)


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """One small sandbox per test worker, up. A test that changes it (faults, down) puts it back."""
    box = Sandbox(tmp_path_factory.mktemp("sandbox") / "box", sizes=SMALL, speed=0.02)
    try:
        box.up()
        yield box
    finally:
        box.reset()
