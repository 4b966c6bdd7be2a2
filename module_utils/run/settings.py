# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""Settings: the specification in ``settings.yml``, and the conversion of variables to typed values.

Extra vars (``-e plexburst_sections=Music``) and surveys send strings, inventories native values; both are accepted.
All problems are collected, so that they can be fixed at once.
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..plex.maintenance_window import window
from ..plex.watch import profiles

try:
    import yaml
except ImportError as error:
    YAML_PROBLEM = str(error)
else:
    YAML_PROBLEM = ""

PREFIX = "plexburst_"
EXEMPT = frozenset({"plexburst_phase"})
"""Variables with the prefix that are not settings: a play's phase."""

_TYPES = ("str", "int", "float", "bool", "choice", "path", "remote_path", "list", "dict")
_TRUE = frozenset({"true", "yes", "on", "1", "y", "t"})
_FALSE = frozenset({"false", "no", "off", "0", "n", "f"})


class SettingsError(ValueError):
    """The specification file or the values are invalid; ``problems`` are sentences."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(self.problems))


class _Unfit(ValueError):
    """An invalid value; the text names what was expected and what was found."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One entry of settings.yml. ``keys`` describes the dicts of a list of dicts."""

    name: str
    group: str
    type: str
    words: str
    default: Any = None
    required: bool = False
    elements: str = "str"
    choices: tuple[str, ...] = ()
    min: float | None = None
    max: float | None = None
    more: str = ""
    keys: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def variable(self) -> str:
        """The name of the Ansible variable."""
        return PREFIX + self.name


@dataclass(frozen=True, slots=True)
class Spec:
    """The whole specification; ``groups`` maps a group's name to its title, in the order of the file."""

    groups: Mapping[str, str]
    settings: Mapping[str, Setting]


def load_spec(path: Path) -> Spec:
    """Read settings.yml.

    Raises SettingsError with all problems of the file, and OSError when it cannot be read.
    """
    if YAML_PROBLEM:
        raise SettingsError([f"{path} cannot be read without PyYAML ({YAML_PROBLEM}). Install it where Ansible runs."])
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    problems: list[str] = []
    groups = {entry["name"]: entry["title"] for entry in raw["groups"]}
    settings: dict[str, Setting] = {}
    known = set(Setting.__dataclass_fields__) - {"name"}
    for name, entry in raw["settings"].items():
        unknown = sorted(set(entry) - known)
        if unknown:
            problems.append(f"{path.name}: {name} has the unknown fields {', '.join(unknown)}")
            continue
        missing = [key for key in ("group", "type", "words", "default") if key not in entry]
        if missing:
            problems.append(f"{path.name}: {name} lacks {', '.join(missing)}")
            continue
        if entry["group"] not in groups:
            problems.append(f"{path.name}: {name} is in the unknown group {entry['group']!r}")
        if entry["type"] not in _TYPES:
            problems.append(f"{path.name}: {name} has the unknown type {entry['type']!r}")
            continue
        fields = dict(entry)
        fields["choices"] = tuple(entry.get("choices", ()))
        setting = Setting(name=name, **fields)
        settings[name] = setting
        if setting.default not in ("", None):
            try:
                _convert(setting, setting.default, path.parent)
            except _Unfit as unfit:
                problems.append(f"{path.name}: the default of {name}: {unfit}")
    if problems:
        raise SettingsError(problems)
    return Spec(groups=groups, settings=settings)


SYSTEM_INVENTORY = "/etc/ansible/hosts"
"""Ansible's own default. It belongs to the machine, so run folders do not go beside it."""


def base_dir(inventories: Sequence[str], collection: Path, current: Path) -> Path:
    """Return the folder to which relative controller paths are relative: the one beside the inventory.

    That is the folder that contains the first of ``inventories`` (file or folder, as given with ``-i``) that exists. A
    checkout of the project counts as one folder, so an inventory in it means the checkout's top folder. Without an
    inventory, or with one inside an installed ``collection``, it is the ``current`` folder.
    """
    for inventory in inventories:
        path = Path(inventory).expanduser()
        if "," in inventory or inventory == SYSTEM_INVENTORY or not path.exists():
            continue
        beside = path.absolute().parent
        if not _is_below(beside, collection):
            return beside
        if is_checkout(collection):
            return collection
    return collection if is_checkout(collection) and _is_below(current, collection) else current


def is_checkout(collection: Path) -> bool:
    """Whether ``collection`` is the project's folder and not an installation, which has no galaxy.yml."""
    return (collection / "galaxy.yml").is_file()


def runs_dir_problem(runs_dir: str, collection: Path) -> str:
    """Return why no run folder may be in ``runs_dir``: the next installation deletes an installed collection."""
    if is_checkout(collection) or not _is_below(Path(runs_dir), collection):
        return ""
    return (
        f"plexburst_runs_dir: {runs_dir} is inside the installed collection, and the next installation of the "
        "collection deletes it. Start from another folder, or set plexburst_runs_dir to an absolute path elsewhere."
    )


def _is_below(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


def given_names(variables: Mapping[str, Any]) -> list[str]:
    """Return the names of all variables that must be settings, sorted."""
    return sorted(name for name in variables if name.startswith(PREFIX) and name not in EXEMPT)


def resolve(
    spec: Spec,
    variables: Mapping[str, Any],
    *,
    base: Path,
    required: Sequence[str] | None = None,
    unresolved: Collection[str] = (),
) -> dict[str, Any]:
    """Return the typed values of all settings, keyed without the prefix.

    Names in ``variables`` that do not begin with ``plexburst_`` are ignored. ``required`` names the settings that must
    not be empty (None: those that the specification marks). Relative controller paths are relative to ``base``
    (``base_dir``).
    ``unresolved`` are variables whose template failed; they are not reported as missing as well.

    Raises SettingsError with all problems.
    """
    problems: list[str] = []
    values: dict[str, Any] = {}
    problems.extend(
        _unknown(spec, name) for name in given_names(variables) if name.removeprefix(PREFIX) not in spec.settings
    )
    bad = {variable.removeprefix(PREFIX) for variable in unresolved}
    for name, setting in spec.settings.items():
        value = variables.get(setting.variable, setting.default)
        if value is None:
            value = setting.default
        try:
            values[name] = _convert(setting, value, base)
        except _Unfit as unfit:
            bad.add(name)
            problems.append(f"{setting.variable}: {unfit}")
    must = [name for name, setting in spec.settings.items() if setting.required] if required is None else list(required)
    for name in must:
        if name not in spec.settings:
            problems.append(f"{name!r} is listed in required, but settings.yml has no setting of that name.")
        elif name not in bad and values[name] in ("", [], {}, None):
            problems.append(f"{PREFIX}{name} is missing. {spec.settings[name].words}")
    if not bad:
        problems.extend(_contradictions(values, must))
    if problems:
        raise SettingsError(problems)
    return values


def _unknown(spec: Spec, variable: str) -> str:
    near = difflib.get_close_matches(variable.removeprefix(PREFIX), spec.settings, n=1, cutoff=0.5)
    hint = f" Did you mean {PREFIX}{near[0]}?" if near else ""
    return f"{variable} is not a setting.{hint} settings.yml lists all settings."


def _contradictions(values: Mapping[str, Any], must: Sequence[str]) -> list[str]:
    """Return the problems of values that are valid alone but not together."""
    problems: list[str] = []
    if values["provider"] == "scaleway" and not values["instance_types"]:
        problems.append(
            "plexburst_instance_types is empty. Name at least one type, or set plexburst_provider to existing."
        )
    if values["provider"] == "existing" and values["keep_instance"]:
        problems.append(
            "plexburst_keep_instance has no effect when plexburst_provider is existing: there is no instance."
        )
    try:
        profiles.resolve(values["profile"], "scan", overrides=values["profile_overrides"])
    except ValueError as error:
        problems.append(f"plexburst_profile_overrides: {error}")
    if values["apply"] == "sonic":
        problems.extend(
            f"plexburst_{name} skips Sonic, but plexburst_apply=sonic installs only Sonic data. Set only one of them."
            for name in ("skip_sonic", "quick_test")
            if values[name]
        )
    try:
        window.parse(values["install_window"])
    except ValueError as error:
        problems.append(f"plexburst_install_window: {error}")
    paths = [entry["path"] for entry in values["media"]]
    problems.extend(
        f"plexburst_media: the path {path!r} is not absolute; expected the path that Plex at home has for it."
        for path in paths
        if not path.startswith("/")
    )
    problems.extend(
        f"plexburst_media: the path {path!r} is listed twice." for path in sorted(set(paths)) if paths.count(path) > 1
    )
    problems.extend(
        f"plexburst_media: the remote {entry['remote']!r} has no colon; expected the form `remote:bucket/folder`."
        for entry in values["media"]
        if ":" not in entry["remote"]
    )
    if values["transfer"] == "s3" or values["transfer_remote"]:
        problems.extend(
            f"{PREFIX}{name} is missing. The relay needs it. {words}"
            for name, words in (
                ("transfer_remote", "Set it to an rclone remote and a path that Plex does not scan."),
                ("transfer_password_file", "Set it to a file with a passphrase that only you can read."),
            )
            if not values[name]
        )
    if values["transfer_remote"] and ":" not in values["transfer_remote"]:
        problems.append(
            f"plexburst_transfer_remote: {values['transfer_remote']!r} has no colon; expected the form `remote:bucket`."
        )
    for side, runtime in (("indexer", values["indexer_runtime"]), ("home", values["home_runtime"])):
        if runtime != "process" or not {"media", "home_config_dir"} & set(must):
            continue
        problems.extend(
            f"{PREFIX}{side}_{what} is missing. The runtime `process` needs it."
            for what in ("plex_command", "plex_sqlite")
            if not values[f"{side}_{what}"]
        )
    return problems


def _convert(setting: Setting, value: Any, base: Path) -> Any:
    """Return the typed value; raises _Unfit with what was expected and what was found."""
    converters: Mapping[str, Callable[[], Any]] = {
        "bool": lambda: _bool(value),
        "int": lambda: int(_number(setting, value, whole=True)),
        "float": lambda: float(_number(setting, value, whole=False)),
        "list": lambda: [_element(setting, entry) for entry in _list(value)],
        "dict": lambda: _strings(_dict(value)),
        "choice": lambda: _choice(setting, _text(value)),
        "path": lambda: _path(_text(value), base),
        "remote_path": lambda: _remote_path(_text(value)),
        "str": lambda: _text(value),
    }
    return converters[setting.type]()


def _choice(setting: Setting, text: str) -> str:
    if text not in setting.choices:
        raise _Unfit(f"expected one of {', '.join(setting.choices)}; found {text!r}.")
    return text


def _path(text: str, base: Path) -> str:
    try:
        return str(base / Path(text).expanduser()) if text else ""
    except RuntimeError:
        raise _Unfit(f"{text!r} is the home folder of a user that does not exist.") from None


def _remote_path(text: str) -> str:
    if text and not text.startswith(("/", "~")):
        raise _Unfit(f"expected an absolute path on that host, or a path that begins with ~; found {text!r}.")
    return text


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int, float)):
        return str(value).strip()
    raise _Unfit(f"expected a string; found {_found(value)}.")


def _bool(value: Any) -> bool:
    if isinstance(value, bool):
        return bool(value)
    if isinstance(value, (str, int)):
        word = str(value).strip().lower()
        if word in _TRUE:
            return True
        if word in _FALSE:
            return False
    raise _Unfit(f"expected true or false; found {_found(value)}.")


def _number(setting: Setting, value: Any, *, whole: bool) -> float:
    expected = "a whole number" if whole else "a number"
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise _Unfit(f"expected {expected}; found {_found(value)}.")
    try:
        number = float(value)
    except ValueError:
        raise _Unfit(f"expected {expected}; found {value!r}.") from None
    if not math.isfinite(number) or (whole and number != int(number)):
        raise _Unfit(f"expected {expected}; found {value!r}.")
    if setting.min is not None and number < setting.min:
        raise _Unfit(f"expected at least {setting.min:g}; found {value}.")
    if setting.max is not None and number > setting.max:
        raise _Unfit(f"expected at most {setting.max:g}; found {value}.")
    return number


def _list(value: Any) -> list[Any]:
    """Return a list, also from ``Music``, ``Music,Movies``, ``["Music"]`` or ``[{"remote": "a:b", "path": "/c"}]``."""
    if isinstance(value, str):
        text = value.strip()
        if text.startswith(("[", "{")):
            parsed = _parsed(text, "a list")
            return parsed if isinstance(parsed, list) else [parsed]
        return [part.strip() for part in text.split(",") if part.strip()]
    if isinstance(value, Mapping):
        return [value]
    if isinstance(value, Sequence):
        return list(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return [value]
    raise _Unfit(f"expected a list, or values separated by commas; found {_found(value)}.")


def _dict(value: Any) -> Mapping[Any, Any]:
    if isinstance(value, Mapping):
        return value
    if isinstance(value, str):
        text = value.strip()
        if not text:
            return {}
        if text.startswith("{"):
            parsed = _parsed(text, "a mapping")
            if isinstance(parsed, Mapping):
                return parsed
        elif all("=" in part for part in text.split(",")):
            pairs = (part.partition("=") for part in text.split(","))
            return {name.strip(): word.strip() for name, _, word in pairs}
    raise _Unfit(f"expected a mapping, or name=value pairs separated by commas; found {_found(value)}.")


def _parsed(text: str, expected: str) -> Any:
    """Return ``text`` parsed as JSON, else as YAML's flow style (a shell may have removed quotes)."""
    try:
        return json.loads(text)
    except ValueError:
        try:
            return yaml.safe_load(text)
        except (yaml.YAMLError, ValueError):  # ValueError: an invalid date
            raise _Unfit(f"expected {expected}; {text!r} is neither JSON nor YAML.") from None


def _element(setting: Setting, entry: Any) -> Any:
    if setting.elements == "dict":
        return _entry(setting, _dict(entry))
    if setting.elements == "int":
        return int(_number(setting, entry, whole=True))
    return _text(entry)


def _entry(setting: Setting, entry: Mapping[Any, Any]) -> dict[str, Any]:
    """Return one dict of a list of dicts, checked against ``setting.keys``."""
    unknown = sorted(str(key) for key in entry if key not in setting.keys)
    if unknown:
        raise _Unfit(f"each entry has the keys {', '.join(setting.keys)}; found also {', '.join(unknown)}.")
    result: dict[str, Any] = {}
    for key, what in setting.keys.items():
        if key in entry:
            result[key] = _bool(entry[key]) if what["type"] == "bool" else _text(entry[key])
        elif what.get("required"):
            raise _Unfit(f"each entry needs the key {key!r}; found {_found(entry)}.")
        else:
            result[key] = what["default"]
    return result


def _strings(mapping: Mapping[Any, Any]) -> dict[str, str]:
    return {str(name): _text(value) for name, value in mapping.items()}


def _found(value: Any) -> str:
    return "nothing" if value is None else f"{type(value).__name__.lstrip('_')} {value!r}"
