# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""What a person sees of a run, as text: headers, plain lines, failures, and the one line that changes in place.

Nothing in here knows Ansible, a clock or a terminal; edge_console.py does.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.plexburst.core.plugins.module_utils.plex.profiles import span
from ansible_collections.plexburst.core.plugins.module_utils.run_failures import failure_message, plain_task_name

ERASE = "\r\x1b[2K"
"""Back to the line's beginning, and empty it (ECMA-48 EL)."""
NO_TERMINALS = ("", "dumb")
"""Values of TERM that promise nothing about control sequences."""
_INDEXER = re.compile(r"\[plexburst-\d{8}-\d{6}-[0-9a-f]{4}\] ")
"""The run's own machine in front of a line: there is one only, and its name is longer than what it says."""
_EMPTY_PATTERN = "[WARNING]: Could not match supplied host pattern, ignoring: "
_RUN_GROUPS = ("plexburst_run_", "plexburst_no_run")
_RESULT_WORDS = frozenset({"changed", "failed", "skipped", "invocation", "warnings", "deprecations", "msg", "item"})


def is_noise(text: str) -> bool:
    """Whether it is Ansible's warning that a run's group is empty: so it is in every run that makes no indexer."""
    return text.startswith(tuple(_EMPTY_PATTERN + group for group in _RUN_GROUPS))


def within_phase(text: str) -> str:
    """A line as it stands under its phase's header: the name of the run's indexer in front of it is left out."""
    found = _INDEXER.match(text)
    return f"  {text[found.end() :]}" if found else text


def columns_of(text: str) -> int:
    """How many columns a terminal needs for ``text`` (wide characters take two, combining ones none)."""
    return sum(_columns(character) for character in text)


def _columns(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in ("Cc", "Cf", "Cs"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def fit(text: str, columns: int) -> str:
    """``text`` as one line of at most ``columns`` columns; what is cut off is marked by an ellipsis. Characters that
    take no column are left out, for they could move the cursor."""
    clean = "".join(character for character in text.replace("\n", " ").replace("\t", " ") if _columns(character))
    if columns_of(clean) <= columns:
        return clean
    kept, room = "", columns - 1
    for character in clean:
        room -= _columns(character)
        if room < 0:
            break
        kept += character
    return (kept.rstrip() + "…") if columns > 0 else ""


@dataclass(slots=True)
class LiveLine:
    """The last line of a terminal, changed in place.

    ``write`` puts text on the terminal as it is; ``columns`` says how wide that is now. A progress line stays, in
    full, when something else comes; a status is gone without a trace.
    """

    write: Callable[[str], None]
    columns: Callable[[], int]
    _text: str = field(default="", init=False)
    _about: str = field(default="", init=False)

    def progress(self, text: str, about: str) -> None:
        """Show ``text``; the next one about the same takes its place, one about something else comes below."""
        if self._about != about:
            self.end()
        self._put(text, about)

    def status(self, text: str) -> None:
        """Show ``text`` until anything else is shown."""
        self.end()
        self._put(text, "")

    def end(self) -> None:
        """Make place for other lines."""
        if self._about:
            self.write(f"{ERASE}{self._text}\n")
        elif self._text:
            self.write(ERASE)
        self._text = self._about = ""

    def _put(self, text: str, about: str) -> None:
        self._text, self._about = text, about
        # One column is left free: a terminal whose last column was written to may already be on the next line.
        self.write(ERASE + fit(text, self.columns() - 1))


def header(name: str, play: str, clock: str) -> str:
    """The line that begins a phase. ``clock`` as in 16:25:03; the play's name as in ``Index | Scan, analyse``."""
    words = play.partition(" | ")[2] or play
    return f"{clock}  {name}" + (f": {words}" if words and words != name else "")


def footer(status: str, seconds: float) -> str:
    """The line that ends a phase of that status."""
    if status == "skipped":
        return "  nothing to be done"
    return f"  {'failed' if status == 'failed' else 'done'} after {span(round(seconds) if seconds >= 10 else seconds)}"


def task_words(name: str) -> str:
    """A task's name without role and file, as in ``plex_server : start | Wait``."""
    return plain_task_name(name).rpartition(" | ")[2]


def debug_lines(result: Mapping[str, Any]) -> list[str]:
    """The lines of a `debug` task: its message, or the variable that it shows."""
    if "msg" in result:
        return plain_lines(result["msg"])
    shown = {key: value for key, value in result.items() if key not in _RESULT_WORDS and not key.startswith("_ansible")}
    return plain_lines(shown)


def plain_lines(value: Any) -> list[str]:
    """A value as a person writes it: text as it is, a list line by line, a mapping as ``key: value``."""
    if isinstance(value, str):
        return value.replace("\r", "").splitlines()
    if isinstance(value, Mapping):
        lines = []
        for key, entry in value.items():
            inner = plain_lines(entry) or ["none"]
            if len(inner) == 1:
                lines.append(f"{key}: {inner[0]}")
            else:
                lines += [f"{key}:", *(f"  {line}" for line in inner)]
        return lines
    if isinstance(value, Sequence):
        return [line for entry in value for line in plain_lines(entry)]
    return [str(value)]


def failure_lines(result: Mapping[str, Any], *, title: str, host: str, task: str, advice: str) -> list[str]:
    """A failed task in words: every item of a loop that failed, and the next step. ``title`` as in FAILED."""
    results = result.get("results")
    items = results if isinstance(results, Sequence) and not isinstance(results, str) else ()
    bad = [item for item in items if isinstance(item, Mapping) and (item.get("failed") or item.get("unreachable"))]
    messages = [failure_message({"results": [item]}) for item in bad] or [failure_message(result)]
    lines = [f"{title} on {host}: {plain_task_name(task)}"]
    lines += [f"  {line}" for message in messages for line in plain_lines(message) if line.strip()]
    return [*lines, f"  Next: {advice}"] if advice else lines
