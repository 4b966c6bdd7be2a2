"""What the roles' logs lose before they leave a machine: secrets, and nothing that explains a failure."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

ROLES = Path(__file__).resolve().parents[2] / "roles"


def masked(role: str, line: str) -> str:
    variables = yaml.safe_load((ROLES / role / "vars" / "main.yml").read_text(encoding="utf-8"))
    done = subprocess.run(
        ["/bin/sed", "-E", variables[f"__{role}_mask"]], input=line, capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.mark.parametrize(
    ("role", "line", "secret"),
    [
        ("plex_server", "GET /?X-Plex-Token=abcdefghijklmnop1234 200", "abcdefghijklmnop1234"),
        ("plex_server", '<Setting PlexOnlineToken="abcdefghijklmnop1234"/>', "abcdefghijklmnop1234"),
        ("plex_server", "claiming with claim-AbCdEfGh12345678 now", "AbCdEfGh12345678"),
        ("rclone_mount", "secret_access_key = wJalrXUtnFEMI/K7MDENG+x", "wJalrXUtnFEMI"),
        ("rclone_mount", 'Authorization: x "access_token":"ya29.a0AfH6SMB_xyz12345"', "SMB_xyz12345"),
        ("rclone_mount", "?X-Amz-Security-Token=IQoJb3JpZ2luX2VjEDAAGPF&x=1", "IQoJb3JpZ2luX2VjEDAAGPF"),
    ],
)
def test_a_secret_does_not_leave_the_machine(role: str, line: str, secret: str) -> None:
    assert secret not in masked(role, line)
    assert "********" in masked(role, line)


@pytest.mark.parametrize(
    ("role", "line"),
    [
        ("plex_server", "Scanner: File '/Media/Movies/The Token (2020)/film.mkv' didn't exist"),
        ("rclone_mount", "ERROR : Music/Keys/01.mp3: vfs cache: failed to download: NoSuchKey: status code: 404"),
        ("rclone_mount", "plexburst-media-0: /opt/plexburst/media/0 cannot be listed, or is empty (failure 2 of 3)"),
    ],
)
def test_what_explains_a_failure_stays(role: str, line: str) -> None:
    assert masked(role, line) == line
