# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""report.html: one static page about a run, from its summary and events.

No scripts, no external resources; all values are escaped.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}
h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:2rem}table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:.25rem .6rem;border-bottom:1px solid #ddd;vertical-align:top}td.n,th.n{text-align:right}
.succeeded{color:#17692d}.partial{color:#8a5a00}.failed{color:#a4161a}.skipped{color:#777}
.box{border-left:4px solid #a4161a;background:#fdf2f2;padding:.5rem 1rem;white-space:pre-wrap}
.bar{background:#5b7aa9;height:.6rem;min-width:1px}
@media(prefers-color-scheme:dark){body{background:#181818;color:#ddd}.box{background:#2a1b1b}th,td{border-color:#444}}
""".strip()


def render_report(summary: Mapping[str, Any], events: Sequence[Mapping[str, Any]]) -> str:
    """Return the page as text."""
    status = escape(str(summary["status"]))
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width,initial-scale=1">',
        f"<title>plexburst {escape(str(summary['run_id']))}</title><style>{_STYLE}</style></head><body>",
        f'<h1>{escape(str(summary["playbook"]))}: <span class="{status}">{status}</span></h1>',
        f"<p>Run {_shown(summary['run_id'])}, {_shown(summary['started_at'])} to {_shown(summary['ended_at'])}</p>",
        *_failures(summary, events),
        *_partial(summary),
        *_phases(summary),
        *_sections(summary),
        *_facts("Sonic", summary["sonic"]),
        *_facts("Cost", summary["cost"]),
        *_facts("Home", summary["home"]),
        *_facts("Cloud", summary["cloud"]),
        *_facts("Checkpoints", summary.get("checkpoint", {})),
        *_facts("Plan", summary.get("plan", {})),
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def _failures(summary: Mapping[str, Any], events: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    failure = summary["failure"]
    if failure is None:
        return
    yield "<h2>What went wrong</h2>"
    yield f'<div class="box">{_failure(failure)}</div>'
    others = [event for event in events if event["event"] == "failure"][1:]
    if others:
        yield "<h2>What failed after that</h2>"
        yield from (f'<div class="box">{_failure(event)}</div>' for event in others)


def _failure(failure: Mapping[str, Any]) -> str:
    place = f"{failure['phase']}, {failure['host']}, {failure['task']}"
    return f"<b>{escape(place)}</b>\n{escape(str(failure['message']))}\n<b>Next:</b> {escape(str(failure['advice']))}"


def _partial(summary: Mapping[str, Any]) -> Iterable[str]:
    if summary.get("partial"):
        yield "<h2>What is missing</h2><ul>"
        yield from (f"<li>{escape(str(words))}</li>" for words in summary["partial"])
        yield "</ul>"


def _phases(summary: Mapping[str, Any]) -> Iterable[str]:
    phases = summary["phases"]
    if not phases:
        return
    longest = max(float(phase["seconds"]) for phase in phases) or 1.0
    yield '<h2>Phases</h2><table><tr><th>Phase<th>Status<th class="n">Seconds<th style="width:40%">'
    for phase in phases:
        status, seconds = escape(str(phase["status"])), float(phase["seconds"])
        yield f'<tr><td>{escape(str(phase["name"]))}<td class="{status}">{status}<td class="n">{seconds:.1f}'
        yield f'<td><div class="bar" style="width:{100 * seconds / longest:.1f}%"></div>'
    yield "</table>"


_COLUMNS = ("items_before", "items_after", "analysed_before", "analysed_after")


def _sections(summary: Mapping[str, Any]) -> Iterable[str]:
    if not summary["sections"]:
        return
    heads = "".join(f'<th class="n">{name.replace("_", " ").capitalize()}' for name in _COLUMNS)
    yield f"<h2>Sections</h2><table><tr><th>Section<th>Type{heads}"
    for section in summary["sections"]:
        cells = "".join(f'<td class="n">{_shown(section.get(name))}' for name in _COLUMNS)
        yield f"<tr><td>{escape(str(section['title']))}<td>{escape(str(section['type']))}{cells}"
    yield "</table>"


def _facts(title: str, facts: Mapping[str, Any]) -> Iterable[str]:
    if not facts:
        return
    yield f"<h2>{escape(title)}</h2><table>"
    for name, value in facts.items():
        yield f"<tr><th>{escape(str(name).replace('_', ' '))}<td>{_shown(value)}"
    yield "</table>"


def _shown(value: Any) -> str:
    if value is None:
        return "not measured"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return "<br>".join(_shown(entry) for entry in value) if value else "none"
    if isinstance(value, Mapping):
        return escape(", ".join(f"{name} {json.dumps(entry, ensure_ascii=False)}" for name, entry in value.items()))
    return escape(str(value))
