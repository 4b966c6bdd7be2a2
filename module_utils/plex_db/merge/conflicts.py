"""Where both sides wanted something else, and whose value was kept: listed, all of it."""

# ruff: noqa: S608 - statements are built from names of the schema; values are parameters
from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from .workspace import Table, Workspace

CONFLICTS_TABLE = "CREATE TABLE main.conflicts(file TEXT, name TEXT, id INTEGER, words TEXT, kept TEXT)"


def note(work: Workspace, table: Table, rows: str, words: str, kept: str) -> int:
    """List conflicts.

    :param rows: a query for ids, or for ids and more words.
    :param kept: whose value is in the result: `home's` or `the indexer's`.
    """
    two = work.connection.execute(f"SELECT * FROM ({rows}) LIMIT 0").description
    more = "q.words" if len(two) > 1 else "''"
    names = "(id, words)" if len(two) > 1 else "(id)"
    return work.run(
        f"WITH q{names} AS ({rows}) INSERT INTO main.conflicts SELECT ?, ?, q.id, ? || RTRIM({more}), ? FROM q",
        (table.file, table.name, words, kept),
    )


def first(work: Workspace, limit: int) -> list[dict[str, Any]]:
    """The first conflicts, for a result that must stay small."""
    return [_entry(row) for row in work.rows("SELECT name, id, words, kept FROM main.conflicts LIMIT ?", (limit,))]


def write(work: Workspace, path: Path, *, append: bool = False) -> None:
    """All of them, a JSON object a line, readable by its owner only: they tell what people watch."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | (os.O_APPEND if append else os.O_TRUNC), 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as stream:
        for row in work.connection.execute("SELECT name, id, words, kept FROM main.conflicts"):
            stream.write(json.dumps(_entry(row), ensure_ascii=False) + "\n")


def _entry(row: tuple[Any, ...]) -> dict[str, Any]:
    return {"table": row[0], "id": row[1], "what": row[2], "kept": row[3]}
