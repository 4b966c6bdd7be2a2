"""``Plex SQLite``: the server's own SQLite with its tokenizer and collation, used like the sqlite3 shell.

    Plex SQLite [-header] [-separator SEP] [-readonly] DBFILE ["SQL; SQL; …"]

Rows go to standard output, columns separated by ``|``. Without SQL it reads it from standard input. Exit code 1 and a
message on standard error after the first error; what stood before it has been done.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import apsw

from sandbox.plex.database import connect


def _text(value: Any) -> str:
    """A value as the sqlite3 shell's list mode prints it."""
    if value is None:
        return ""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return str(value)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the statements; the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    header = read_only = False
    separator = "|"
    while arguments and arguments[0].startswith("-"):
        option = arguments.pop(0).lstrip("-")
        if option == "header":
            header = True
        elif option == "readonly":
            read_only = True
        elif option == "separator" and arguments:
            separator = arguments.pop(0)
        elif option not in ("batch", "bail", "list", "noheader"):
            print(f"Error: unknown option: -{option}", file=sys.stderr)
            return 1
    if not arguments or len(arguments) > 2:
        print('Usage: Plex SQLite [-header] [-separator SEP] [-readonly] DBFILE ["SQL"]', file=sys.stderr)
        return 1
    sql = arguments[1] if len(arguments) == 2 else sys.stdin.read()
    try:
        connection = connect(Path(arguments[0]), read_only=read_only, set_up=False)
    except apsw.Error as error:
        print(f'Error: unable to open database "{arguments[0]}": {error}', file=sys.stderr)
        return 1
    try:
        cursor = connection.cursor()
        seen: tuple[Any, ...] | None = None
        for row in cursor.execute(sql):
            description = cursor.get_description()
            if header and description != seen:
                print(separator.join(column[0] for column in description))
                seen = description
            print(separator.join(_text(value) for value in row))
    except apsw.Error as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    finally:
        connection.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
