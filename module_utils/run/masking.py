# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""Mask secrets in everything that a run writes.

Two methods: exact values, read from the environment and the files named in the settings; and patterns of tokens in
logs, for values that no setting names (tokens of Plex servers).
"""

from __future__ import annotations

import configparser
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

try:
    import yaml
except ImportError as error:
    YAML_PROBLEM = str(error)
else:
    YAML_PROBLEM = ""

MASK = "********"
_SHORTEST = 8
"""Shorter values are not masked: they are not secrets, and masking them would make the text unreadable."""

_SECRET_WORDS = ("pass", "secret", "token", "key", "client_id", "authorization")
_FORMS = (
    re.compile(r"(X-Plex-Token[\"']?\s*[=:]\s*[\"']?)[A-Za-z0-9_\-]{6,}", re.IGNORECASE),
    re.compile(r"((?:PlexOnlineToken|authToken|authenticationToken)[\"']?\s*[=:]\s*[\"']?)[A-Za-z0-9_\-]{6,}"),
    re.compile(
        r"((?:secret_key|secret_access_key|access_token|refresh_token)[\"']?\s*[=:]\s*[\"']?)[^\s\"',}]{6,}",
        re.IGNORECASE,
    ),
    re.compile(r"()\bclaim-[A-Za-z0-9_\-]{8,}"),
    re.compile(r"(-----BEGIN [A-Z ]*PRIVATE KEY-----).*?(?=-----END|\Z)", re.DOTALL),
)


class Masker:
    """Masks secrets in text and in nested values."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets: list[str] = []
        self.add(secrets)

    def add(self, secrets: Iterable[str]) -> None:
        """Add exact values; values under eight characters are ignored."""
        known = {*self._secrets, *(secret for secret in secrets if len(secret) >= _SHORTEST)}
        self._secrets = sorted(known, key=len, reverse=True)

    def text(self, text: str) -> str:
        """Return ``text`` with every secret replaced."""
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        for form in _FORMS:
            text = form.sub(rf"\g<1>{MASK}", text)
        return text

    def value(self, value: Any) -> Any:
        """Return the value with all its strings masked."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {str(key): self.value(entry) for key, entry in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.value(entry) for entry in value]
        return value


def secrets_of(settings: Mapping[str, Any], environ: Mapping[str, str]) -> set[str]:
    """Return the secret values in the settings' files and the environment.

    A missing file is ignored. Raises OSError or ValueError when a file cannot be read or parsed, because the logs
    could then contain its secrets.
    """
    found = {
        value
        for name, value in environ.items()
        if name in ("SCW_SECRET_KEY", "PLEX_TOKEN", "PLEX_ACCOUNT_TOKEN") and value
    }
    token_file = Path(settings.get("account_token_file") or "/nonexistent")
    if token_file.is_file():
        found.update(token_file.read_text(encoding="utf-8").split())
    password_file = Path(settings.get("transfer_password_file") or "/nonexistent")
    if password_file.is_file():
        found.add(password_file.read_text(encoding="utf-8").strip())  # a passphrase may contain spaces
    rclone = Path(settings.get("rclone_config") or "/nonexistent").expanduser()
    if rclone.is_file():
        found.update(_rclone_secrets(rclone))
    scaleway = Path(settings.get("scw_config_file") or "~/.config/scw/config.yaml").expanduser()
    if scaleway.is_file():
        found.update(_scaleway_secrets(scaleway))
    return found


def _rclone_secrets(path: Path) -> set[str]:
    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read_string(path.read_text(encoding="utf-8"))
    except configparser.Error as error:
        # An encrypted rclone.conf is not an INI file, and its content need not be masked.
        if path.read_text(encoding="utf-8").startswith("# Encrypted rclone configuration File"):
            return set()
        raise ValueError(f"{path} is not an rclone configuration: {error.message}") from error
    return {
        value
        for section in parser.sections()
        for name, value in parser.items(section)
        if any(word in name for word in _SECRET_WORDS) and value
    }


def _scaleway_secrets(path: Path) -> set[str]:
    if YAML_PROBLEM:
        raise ValueError(f"{path} cannot be read without PyYAML ({YAML_PROBLEM}). Install it where Ansible runs.")
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not valid YAML. A Scaleway configuration must be a YAML file.") from error
    if not isinstance(loaded, dict):
        return set()
    profiles = loaded.get("profiles") or {}
    places = [loaded, *(entry for entry in profiles.values() if isinstance(entry, dict))]
    return {str(place["secret_key"]) for place in places if place.get("secret_key")}
