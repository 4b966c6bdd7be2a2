"""What a household would notice, asked of the real things."""

from __future__ import annotations

from sandbox import home
from tests.e2e.world import World
from tests.sandbox.evidence import HomeState


def files_of_remote(world: World) -> set[str]:
    """Every media file in the bucket, as home's Plex names it."""
    root = world.media_dir
    return {f"{home.PATH_IN_PLEX}/{path.relative_to(root).as_posix()}" for path in root.rglob("*") if path.is_file()}


def changed_at_home(before: HomeState, after: HomeState) -> list[str]:
    """What people made at home and is not there any more, or another: one sentence each."""
    lost = [f"view {row}" for row in before.views - after.views]
    lost += [f"setting {row}" for row in before.settings - after.settings]
    lost += [f"account {row}" for row in before.accounts - after.accounts]
    lost += [f"playlist {key}: {row}" for key, row in before.playlists.items() if after.playlists.get(key) != row]
    lost += [f"playlist's item {row}" for row in before.playlist_rows - after.playlist_rows]
    for key, (kind, guid, _title) in before.items.items():
        if key in after.items and after.items[key][:2] != (kind, guid):
            lost.append(f"item {key} was {kind} {guid} and is {after.items[key]}")
    return lost
