# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""summary.json: its JSON Schema, and how it is composed from a run's events and recorded state.

The schema's one home is `SCHEMA`; docs/summary.schema.json is printed from it (``python -m plexburst.report
--schema``) and a test compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

_TIME = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$"}
_COUNT = {"type": ["integer", "null"], "minimum": 0, "description": "null: not measured"}
_AMOUNT = {"type": ["number", "null"], "minimum": 0, "description": "null: not measured"}
_WORDS = {"type": ["string", "null"]}
_RESOURCES = {"type": "array", "items": {"type": "string", "pattern": "^[a-z_]+/.+"}}
_SECONDS = {"type": "number", "minimum": 0}


def _object(
    required: Mapping[str, Any], *, more: Mapping[str, Any] | None = None, open_: bool = True
) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {**required, **(more or {})},
        "required": list(required),
        "additionalProperties": open_,
    }


_ARTWORK = _object(
    {},
    more=dict.fromkeys(("added", "replaced", "same", "kept", "refused", "bytes", "unresolved"), _COUNT),
)
"""Files of Plex's bundles that a run laid at home; empty when it brought none."""
_AT_HOME = _object(
    {},
    more={
        **dict.fromkeys(("present", "absent", "unknown"), _COUNT),
        "sections": {"type": "object", "additionalProperties": _COUNT},
        **{key: {"type": "array", "items": {"type": "string"}} for key in ("examples", "why")},
    },
)
"""Files that the indexer did not see; present and unknown ones were kept, and `sections` counts these by title."""
_TRASH = _object({"kept_off": {"type": "boolean"}, "why": {"type": "string"}, "next": {"type": "string"}})
"""Why autoEmptyTrash stays off at home, and how to switch it on again."""
_FAILURE = _object(
    {
        "phase": {"type": "string"},
        "host": {"type": "string"},
        "task": {"type": "string"},
        "message": {"type": "string", "minLength": 1},
        "advice": {"type": "string", "minLength": 1},
    },
    open_=False,
)

PARTS: Mapping[str, dict[str, Any]] = {
    "sections": {
        "type": "array",
        "items": _object(
            {
                "id": {"type": "integer"},
                "title": {"type": "string"},
                "type": {"enum": ["movie", "show", "artist", "photo"]},
                "items_before": _COUNT,
                "items_after": _COUNT,
                "analysed_before": _COUNT,
                "analysed_after": _COUNT,
            }
        ),
    },
    "sonic": _object(
        {
            "total": _COUNT,
            "before": _COUNT,
            "after": _COUNT,
            "failed": _COUNT,
            "verdict": {"type": "string", "minLength": 1},
            "tracks_per_minute": _AMOUNT,
        }
    ),
    "cost": _object(
        {
            "currency": {"type": "string"},
            "instance_type": _WORDS,
            "hourly_price": _AMOUNT,
            "alive_seconds": _AMOUNT,
            "useful_seconds": _AMOUNT,
            "billed": _AMOUNT,
            "egress_bytes": _COUNT,
        }
    ),
    "cloud": _object(
        {
            "created": _RESOURCES,
            "deleted": _RESOURCES,
            "leftovers": _RESOURCES,
            "listing": _object(
                {
                    "at": {**_TIME, "type": ["string", "null"], "description": "null: Scaleway was not queried"},
                    "problem": _WORDS,
                    "other_runs": {
                        "type": "array",
                        "items": _object(
                            {
                                "run_id": {"type": "string"},
                                "here": {"type": "boolean"},
                                "resources": _RESOURCES,
                                "since": _WORDS,
                                "expires_at": _WORDS,
                                "hourly_price": _AMOUNT,
                                "billed": _AMOUNT,
                                "commands": {"type": "array", "items": {"type": "string"}},
                            }
                        ),
                    },
                }
            ),
        }
    ),
    "home": _object(
        {
            "installed": {"type": "boolean"},
            "backup": _WORDS,
            "watch_state": _object({"kept": _COUNT, "conflicts": _COUNT}),
        },
        more={"artwork": _ARTWORK, "at_home": _AT_HOME, "trash": _TRASH},
    ),
    "checkpoint": _object(
        {"made": _COUNT, "failed": _COUNT, "kept": {"type": "boolean"}},
        more={
            "transferred_bytes": _COUNT,
            "newest": {"type": ["object", "null"]},
            "problem": {"type": "string"},
            "resumed_from": {"type": "string"},
            "resumed_by": {"type": "array", "items": {"type": "string"}},
        },
    ),
    "plan": {"type": "object"},
    "partial": {"type": "array", "items": {"type": "string", "minLength": 1}},
}
"""What `run_record` accepts, by key: the same parts that the summary is made of."""

SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "plexburst summary.json",
    "description": "What one run did. additionalProperties within a part are allowed, at the top they are not.",
    **_object(
        {
            "schema": {"const": 2},
            "run_id": {"type": "string", "pattern": r"^\d{8}-\d{6}-[0-9a-f]{4}$"},
            "playbook": {"type": "string", "minLength": 1},
            "status": {"enum": ["succeeded", "partial", "failed"]},
            "started_at": _TIME,
            "ended_at": _TIME,
            "failure": {"oneOf": [{"type": "null"}, _FAILURE]},
            "phases": {
                "type": "array",
                "items": _object(
                    {
                        "name": {"type": "string", "minLength": 1},
                        "status": {"enum": ["succeeded", "failed", "skipped"]},
                        "started_at": _TIME,
                        "seconds": _SECONDS,
                    },
                    open_=False,
                ),
            },
            "sections": PARTS["sections"],
            "sonic": PARTS["sonic"],
            "cost": PARTS["cost"],
            "cloud": PARTS["cloud"],
            "home": PARTS["home"],
        },
        more={"plan": PARTS["plan"], "partial": PARTS["partial"], "checkpoint": PARTS["checkpoint"]},
        open_=False,
    ),
}


def schema_problems(document: Any, schema: Mapping[str, Any] | None = None) -> list[str]:
    """How ``document`` differs from the schema (SCHEMA when None), as sentences; empty when it does not.

    Needs the package jsonschema (raises ImportError without it).
    """
    import jsonschema  # noqa: PLC0415 - only the controller has it, and reading a summary must work without

    validator = jsonschema.Draft202012Validator(SCHEMA if schema is None else dict(schema))
    return [
        f"{'/'.join(str(part) for part in error.absolute_path) or 'the document'}: {error.message}"
        for error in sorted(validator.iter_errors(document), key=lambda error: str(list(error.absolute_path)))
    ]


def record_problems(key: str, value: Any) -> list[str]:
    """Why ``value`` cannot be recorded under ``key``. What is recorded may be incomplete, but not of another type."""
    if key not in PARTS:
        return [f"{key!r} is not recorded; expected one of {', '.join(PARTS)}."]
    return schema_problems(value, _relaxed(PARTS[key], keep="id" if key == "sections" else ""))


def _relaxed(schema: Any, keep: str = "") -> Any:
    """The same schema with nothing required but ``keep``."""
    if isinstance(schema, Mapping):
        relaxed = {name: _relaxed(entry, keep) for name, entry in schema.items() if name != "required"}
        if keep and keep in schema.get("required", ()):
            relaxed["required"] = [keep]
        return relaxed
    return schema


_NOT_MEASURED: Mapping[str, Mapping[str, Any]] = {
    "sonic": {
        "total": None,
        "before": None,
        "after": None,
        "failed": None,
        "verdict": "not_run",
        "tracks_per_minute": None,
    },
    "home": {"installed": False, "backup": None, "watch_state": {"kept": None, "conflicts": None}},
    "cloud": {
        "created": [],
        "deleted": [],
        "leftovers": [],
        "listing": {"at": None, "problem": "Scaleway was not queried", "other_runs": []},
    },
}
_NO_INSTANCE = {
    "currency": "EUR",
    "instance_type": None,
    "hourly_price": None,
    "alive_seconds": 0,
    "useful_seconds": 0,
    "billed": 0.0,
    "egress_bytes": 0,
}
_UNKNOWN_COST = {**_NO_INSTANCE, "alive_seconds": None, "useful_seconds": None, "billed": None, "egress_bytes": None}
_SECTION = {"items_before": None, "items_after": None, "analysed_before": None, "analysed_after": None}


def this_time(events: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """The events since the run was last begun: collect, install and release open a run again that has ended before."""
    begun = [index for index, event in enumerate(events) if event["event"] == "run_started"]
    return events[begun[-1] :] if begun else events


UNFINISHED = "The run ended before its last play, which checks the result, was reached."


def first_failure(events: Sequence[Mapping[str, Any]]) -> dict[str, str] | None:
    """The failure that began it all: the first one that was recorded."""
    for event in events:
        if event["event"] == "failure":
            return {name: str(event[name]) for name in ("phase", "host", "task", "message", "advice")}
    return None


def judge(
    events: Sequence[Mapping[str, Any]], state: Mapping[str, Any], *, finished: bool
) -> tuple[str, dict[str, str] | None]:
    """The run's status and its failure.

    ``finished`` says that the last play was reached: a run that ended early without a recorded failure has failed.
    """
    failure = first_failure(this_time(events))
    leftovers = state.get("cloud", {}).get("leftovers", [])
    if failure is None and leftovers:
        failure = {
            "phase": "release",
            "host": "localhost",
            "task": "Prove that nothing stayed behind",
            "message": f"These resources are still there and may cost money: {', '.join(leftovers)}.",
            "advice": "Run ansible-playbook reap.yml now; it removes whatever carries our tags and outlived its run.",
        }
    if failure is None and not finished:
        failure = {
            "phase": "run",
            "host": "localhost",
            "task": "Check the result",
            "message": UNFINISHED,
            "advice": (
                "Look at the end of logs/console.log; run the playbook whole, without --limit, --tags and "
                "--start-at-task."
            ),
        }
    installed = bool(state.get("home", {}).get("installed"))
    if failure is not None and not installed:
        failure = {**failure, "advice": f"{failure['advice']}{_kept_words(state)}"}
    if failure is not None:
        return ("partial" if installed else "failed"), failure
    return ("partial" if _short_of(state) else "succeeded"), None


def _kept_words(state: Mapping[str, Any]) -> str:
    """What becomes of a lost indexer's work, for the advice."""
    checkpoint = state.get("checkpoint", {})
    if not (checkpoint.get("kept") and checkpoint.get("newest")):
        return ""
    newest = checkpoint["newest"]
    words = (
        f" Checkpoint {newest['number']} of {newest['taken_at']} is kept ({newest['sonic_done']:,} of "
        f"{newest['sonic_total']:,} tracks with Sonic data, {newest['items']:,} items): delta_sync.yml goes on from it."
    )
    if state.get("cloud", {}).get("deleted"):
        return words
    return f"{words} If the indexer still lives, recover.yml brings home all that it has."


def _short_of(state: Mapping[str, Any]) -> list[str]:
    """What a run that did not fail still left undone, a sentence each: nothing is silently called complete."""
    failed = int(state.get("sonic", {}).get("failed") or 0)
    tracks = [f"{failed} track(s) got no Sonic data; sonic_left.json in the run folder lists each with its cause."]
    return [*state.get("partial", []), *(tracks if failed else [])]


def compose(
    run_id: str, events: Sequence[Mapping[str, Any]], state: Mapping[str, Any], ended_at: str
) -> dict[str, Any]:
    """The summary of a run from its events and recorded state; what was not recorded is null or empty, never a made-up
    zero.
    """
    events = this_time(events)
    started = next((event for event in events if event["event"] == "run_started"), None)
    finished = any(event["event"] == "result_checked" for event in events)
    status, failure = judge(events, state, finished=finished)
    cloud = {**_NOT_MEASURED["cloud"], **state.get("cloud", {})}
    cloud["listing"] = _listing(cloud["listing"], str(started["at"]) if started else ended_at)
    cost_base = _UNKNOWN_COST if cloud["created"] else _NO_INSTANCE
    home = {**_NOT_MEASURED["home"], **state.get("home", {})}
    home["watch_state"] = {**_NOT_MEASURED["home"]["watch_state"], **home["watch_state"]}
    summary: dict[str, Any] = {
        "schema": 2,
        "run_id": run_id,
        "playbook": str(started["playbook"]) if started else "unknown",
        "status": status,
        "started_at": str(started.get("began_at", started["at"])) if started else ended_at,
        "ended_at": ended_at,
        "failure": failure,
        "phases": phases(events),
        "sections": [{**_SECTION, **section} for section in state.get("sections", [])],
        "sonic": {**_NOT_MEASURED["sonic"], **state.get("sonic", {})},
        "cost": {**cost_base, **state.get("cost", {})},
        "cloud": cloud,
        "home": home,
    }
    more = {"plan": state.get("plan"), "partial": _short_of(state), "checkpoint": _checkpoint(state)}
    summary.update({key: value for key, value in more.items() if value})
    return summary


def _listing(listing: Mapping[str, Any], began: str) -> dict[str, Any]:
    """Return the listing of plexburst's resources at Scaleway; an earlier listing of this run is no proof now."""
    told = {**_NOT_MEASURED["cloud"]["listing"], **listing}
    if told["at"] is not None and told["at"] < began:
        return {"at": None, "problem": f"last listed at {told['at']}, before this playbook", "other_runs": []}
    return told


def _checkpoint(state: Mapping[str, Any]) -> dict[str, Any]:
    """What there is to say about checkpoints; empty when there were none and none was tried."""
    found = {"made": 0, "failed": 0, "kept": False, **state.get("checkpoint", {})}
    names = PARTS["checkpoint"]["properties"]
    told = {name: value for name, value in found.items() if name in names}
    return told if told["made"] or told["failed"] or "resumed_from" in told else {}


def phases(events: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The phases in their order; one that was entered several times is one phase with its seconds added up."""
    found: dict[str, dict[str, Any]] = {}
    rank = {"skipped": 0, "succeeded": 1, "failed": 2}
    for event in events:
        if event["event"] != "phase_ended":
            continue
        name = str(event["phase"])
        phase = found.setdefault(
            name, {"name": name, "status": "skipped", "started_at": event["started_at"], "seconds": 0.0}
        )
        phase["seconds"] = round(phase["seconds"] + float(event["seconds"]), 3)
        phase["status"] = max(phase["status"], str(event["status"]), key=lambda status: rank[status])
    for event in events:
        if event["event"] == "failure" and event["phase"] in found:
            found[event["phase"]]["status"] = "failed"
    return list(found.values())


def headline(summary: Mapping[str, Any], report: str) -> list[str]:
    """A few lines for a person: what came of it, what it cost, where the report is."""
    lines = [f"Run {summary['run_id']} ({summary['playbook']}): {summary['status']}, {_span(summary)}"]
    failure = summary["failure"]
    if failure:
        lines += [
            f"  Failed in {failure['phase']} on {failure['host']}, task {failure['task']!r}:",
            f"  {failure['message']}",
            f"  Next: {failure['advice']}",
        ]
    lines += [f"  Partial: {words}" for words in summary.get("partial", [])]
    for section in summary["sections"]:
        before, after = section["items_before"], section["items_after"]
        if before is None or after is None:
            continue
        lines.append(f"  {section['title']}: {after} items ({after - before:+d})")
    sonic = summary["sonic"]
    if sonic["total"] is not None and sonic["after"] is not None:
        lines.append(f"  Sonic: {sonic['after']} of {sonic['total']} tracks, {sonic['verdict']}")
    cost = summary["cost"]
    if cost["instance_type"] and cost["billed"] is not None:
        lines.append(f"  Cost: {cost['billed']:.4f} {cost['currency']} ({cost['instance_type']})")
    lines.append(f"  Home: {_home_words(summary['home'])}")
    trash = summary["home"].get("trash")
    if trash:
        lines += [f"  Home's trash: {trash['why']}", f"  Next: {trash['next']}"]
    lines.append(f"  Leftovers: {_leftover_words(summary['cloud'])}")
    lines += [f"  Leftovers of other runs: {_other_words(run)}" for run in summary["cloud"]["listing"]["other_runs"]]
    lines.append(f"  Report: {report}")
    return lines


def _leftover_words(cloud: Mapping[str, Any]) -> str:
    """Return the leftovers. A resource that was created and not removed by this run is not a leftover: it was kept
    (plexburst_keep_instance) and is billed, or it was already gone at its removal; the record cannot tell which.

    The result is "none" only after a complete listing of plexburst's resources.
    """
    if cloud["leftovers"]:
        return ", ".join(cloud["leftovers"])
    listing = cloud["listing"]
    words = "none" if listing["at"] else f"not checked ({listing['problem']})"
    if listing["at"] and listing["other_runs"]:
        words = "none of this run"
    kept = [name for name in cloud["created"] if name not in cloud["deleted"]]
    if not kept:
        return words
    return (
        f"{words}, but not removed by this run: {', '.join(kept)}; if kept, they are billed until release.yml ends that"
    )


def _other_words(run: Mapping[str, Any]) -> str:
    price = run["hourly_price"]
    costs = "" if price is None else f" ({price:.4f} {_NO_INSTANCE['currency']} per hour)"
    name = run["run_id"] or "without the tag of a run"
    where = "" if run["here"] else ", not in this controller's runs folder"
    return f"{name}{where}: {', '.join(run['resources'])}{costs}. Next: {' or '.join(run['commands'])}"


def _home_words(home: Mapping[str, Any]) -> str:
    if not home["installed"]:
        return "database unchanged"
    if home.get("sonic"):
        return f"Sonic data of {home['sonic']['vectors']} track(s) added, nothing else changed"
    return "new database installed"


def _span(summary: Mapping[str, Any]) -> str:
    began, ended = (
        datetime.fromisoformat(str(summary[key]).replace("Z", "+00:00")) for key in ("started_at", "ended_at")
    )
    seconds = int((ended - began).total_seconds())
    hours, rest = divmod(seconds, 3600)
    return f"{hours} h {rest // 60} min" if hours else f"{rest // 60} min {rest % 60} s"
