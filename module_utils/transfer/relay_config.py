# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""The relay's private rclone configuration, made on the controller.

It has the remote of `plexburst_transfer_remote`, the remotes that it wraps, and a crypt over it that encrypts contents
and names with the user's passphrase. Pure functions, except `passphrase` (reads a file) and `obscured` (runs rclone).
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from .rclone_config import RcloneConfError, Section, parse, problems, render, subset, target, wrapped

CRYPT = "plexburst-relay-crypt"
"""Name of the crypt, the root of all files in the relay."""
SHORTEST_PASSPHRASE = 16
OBSCURE_TIMEOUT = 30.0


def passphrase(path: str) -> str:
    """Return the passphrase in a file that only its owner can read.

    :raises RcloneConfError: the file is missing, readable by others, or its passphrase is too short.
    """
    file = Path(path).expanduser()
    advice = f"Create one with `(umask 077; openssl rand -base64 30 > {file})`, and keep a copy of it."
    try:
        mode = file.stat().st_mode & 0o077
        lines = file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise RcloneConfError(f"The relay's passphrase file {file} does not exist. {advice}") from None
    except (OSError, ValueError) as error:
        raise RcloneConfError(f"The relay's passphrase file {file} cannot be read: {error}.") from None
    if mode:
        raise RcloneConfError(f"The relay's passphrase file {file} can be read by others. Run `chmod 600 {file}`.")
    if len(lines) != 1 or len(lines[0].strip()) < SHORTEST_PASSPHRASE:
        raise RcloneConfError(
            f"Expected one line of at least {SHORTEST_PASSPHRASE} characters in the relay's passphrase file {file}; "
            f"found {len(lines)} lines{f' of {len(lines[0].strip())} characters' if len(lines) == 1 else ''}. {advice}"
        )
    return lines[0].strip()


def obscured(rclone: str, secret: str) -> str:
    """Return the secret in the form of rclone.conf. It is passed on rclone's standard input, never as an argument.

    :raises RcloneConfError: rclone is missing or fails.
    """
    try:
        done = subprocess.run(
            [rclone, "obscure", "-"], input=secret.encode(), capture_output=True, timeout=OBSCURE_TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RcloneConfError(
            f"rclone cannot be started as {rclone} on the controller: {error}. Set plexburst_rclone_bin to one that "
            "works."
        ) from error
    if done.returncode != 0 or not done.stdout.strip():
        # Its output is not quoted because it may contain the secret.
        raise RcloneConfError(
            f"`{rclone} obscure` failed with exit code {done.returncode}. rclone 1.60 or newer is needed."
        )
    return done.stdout.decode().strip()


def relay_sections(text: str, remote: str) -> dict[str, Section]:
    """Return the sections of an rclone.conf that the relay needs.

    :raises RcloneConfError: the remote is unknown, or would not work on another machine.
    """
    sections = subset(parse(text), [remote])
    trouble = problems(sections.values())
    if CRYPT in sections:
        trouble.append(f"The name [{CRYPT}] is reserved by plexburst.")
    if trouble:
        raise RcloneConfError("The rclone.conf cannot be used for the relay: " + " ".join(trouble))
    return sections


def relay_config(sections: Mapping[str, Section], remote: str, obscured_passphrase: str) -> str:
    """Return the text of the private rclone.conf; it contains secrets."""
    lines = (
        "type = crypt",
        f"remote = {remote}",
        "filename_encryption = standard",
        "directory_name_encryption = true",
        f"password = {obscured_passphrase}",
    )
    return render([*sections.values(), Section(CRYPT, {}, lines)])


def within(text: str, remote: str, media: Iterable[str]) -> str:
    """Return the first of the `media` remotes whose folder contains `remote`; empty without one.

    Remotes are followed through what they wrap; two names for one S3 endpoint are the same place.
    """
    sections = parse(text)
    ways = _ways(sections, remote, ())
    for other in media:
        for theirs in _ways(sections, other, ()):
            known = dict(theirs)
            for way in ways:
                # The first place that both ways share decides, because paths below a crypt cannot be compared.
                path, folder = next(((path, known[place]) for place, path in way if place in known), ("", None))
                if folder is not None and (folder in ("", path) or path.startswith(folder + "/")):
                    return other
    return ""


def _ways(sections: Mapping[str, Section], remote: str, passed: Sequence[str]) -> list[list[tuple[str, str]]]:
    """Return each way from a remote down to its data, as a list of (place, path)."""
    goal = target(remote)
    path = "/".join(part for part in goal.path.split("/") if part)
    section = sections.get(goal.name)
    if section is None or goal.name in passed:
        return [[(goal.name or goal.kind, path)]]
    here = (_place(section), path)
    below = [way for inner in wrapped(section) for way in _ways(sections, inner, (*passed, goal.name))]
    if not below:
        return [[here]]
    return [
        [here, *((place, _joined(inner, path) if _plain(section) else inner) for place, inner in way)] for way in below
    ]


def _place(section: Section) -> str:
    if section.type != "s3":
        return section.name
    where = section.options.get("endpoint") or f"{section.options.get('provider')} {section.options.get('region')}"
    return f"s3 {where.lower().rpartition('://')[2].rstrip('/')}"


def _plain(section: Section) -> bool:
    """Return whether a path below the remote is the same path below the wrapped remote."""
    encrypted = section.type == "crypt" and section.options.get("filename_encryption") != "off"
    return not encrypted and section.type != "combine"


def _joined(folder: str, path: str) -> str:
    return "/".join(part for part in (folder, path) if part)
