# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""A run's summary and report, outside Ansible.

    python -m plexburst.report runs/latest          write report.html again
    python -m plexburst.report --check runs/latest  check summary.json against its schema
    python -m plexburst.report --schema             print the schema

The callback plugin writes both at the end of every run with the collection's module_utils (run_summary, run_report),
because a controller such as AWX has the checkout but not this package.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from plexburst.collection import make_importable

make_importable()

from ansible_collections.plexburst.core.plugins.module_utils.run.folder import (  # noqa: E402
    RunFolder,
    RunFolderError,
    write_private,
)
from ansible_collections.plexburst.core.plugins.module_utils.run.report import render_report  # noqa: E402
from ansible_collections.plexburst.core.plugins.module_utils.run.summary import SCHEMA, schema_problems  # noqa: E402

__all__ = ["SCHEMA", "check_summary", "render_report", "schema_problems", "schema_text", "write_report"]


def schema_text() -> str:
    """Return the content of docs/summary.schema.json."""
    return json.dumps(SCHEMA, indent=2, ensure_ascii=False) + "\n"


def check_summary(run_dir: Path) -> list[str]:
    """Return the differences between the run's summary.json and the schema, as sentences.

    Raises OSError or ValueError when the summary cannot be read.
    """
    return schema_problems(json.loads((run_dir / "summary.json").read_text(encoding="utf-8")))


def write_report(run_dir: Path) -> Path:
    """Write report.html from the run's summary and events; returns its path.

    Raises OSError or ValueError when the summary cannot be read, RunFolderError when it is not a run folder.
    """
    folder = RunFolder.open(run_dir)
    summary = json.loads((run_dir / "summary.json").read_text(encoding="utf-8"))
    report = run_dir / "report.html"
    write_private(report, render_report(summary, folder.events()))
    return report


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns 0, 1 when the summary differs from its schema, 2 without a summary."""
    parser = argparse.ArgumentParser(prog="python -m plexburst.report", description="Write or check a run's report.")
    parser.add_argument("run_dir", nargs="?", type=Path, default=Path("runs/latest"))
    parser.add_argument("--check", action="store_true", help="check summary.json against its schema")
    parser.add_argument("--schema", action="store_true", help="print the schema")
    given = parser.parse_args(arguments)
    if given.schema:
        sys.stdout.write(schema_text())
        return 0
    try:
        if given.check:
            problems = check_summary(given.run_dir)
            sys.stdout.write("".join(f"{problem}\n" for problem in problems) or "summary.json is valid\n")
            return 1 if problems else 0
        sys.stdout.write(f"{write_report(given.run_dir)}\n")
    except (OSError, ValueError, RunFolderError) as error:
        sys.stderr.write(f"{given.run_dir} has no usable summary: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
