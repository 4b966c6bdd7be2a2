"""Exit 0 only if this Python's sqlite3 creates, queries and backs up a database; an import alone proves less."""

import sqlite3

source = sqlite3.connect(":memory:")
source.execute("CREATE TABLE probe(id INTEGER PRIMARY KEY, text TEXT)")
source.executemany("INSERT INTO probe(text) VALUES(?)", [("a",), ("b",)])
source.commit()
copy = sqlite3.connect(":memory:")
source.backup(copy)
found = copy.execute("SELECT COUNT(*) FROM probe WHERE text LIKE 'a%'").fetchone()[0]
if found != 1:
    raise SystemExit(f"a query that should count 1 row counted {found}")
print(sqlite3.sqlite_version)
