"""What the tables of a SQLite cache are, and how a new database is made."""

from __future__ import annotations

import sqlite3
from typing import Final

from stillfresh.errors import CacheUnavailable

_APPLICATION: Final = 0x5F5265  # says in the database whose it is
FORMAT: Final = 2
# Rows are numbered as they come, so that new ones lie together; `id` is of the key. What is asked
# about stands before the frame, which mostly lies on pages of its own.
#
# A new row changes as little as can be. It is in no order of use before it is used, since its
# number says when it came; till then `used_at` is that moment, and negative. And `total` is of the
# rows up to `counted` only: those that have come since are few, and counted together when somebody
# wants to know (`rows.count`). Any other change to an entry always changes `total` as well, and
# nothing else, unless a body file has lost its row. From `unused` on are all rows that were never
# used. Numbers are given anew where the last rows were removed, so both are kept from being beyond
# the last.
_SCHEMA: Final = """
CREATE TABLE entry (
    rid INTEGER PRIMARY KEY,
    id INTEGER NOT NULL UNIQUE,
    key BLOB NOT NULL,
    host TEXT NOT NULL,
    size INTEGER NOT NULL,
    body_size INTEGER NOT NULL,
    stored_at REAL NOT NULL,
    used_at REAL NOT NULL,
    expires_at REAL,
    file TEXT,
    frame BLOB NOT NULL
);
CREATE INDEX used ON entry (used_at) WHERE used_at > 0;
CREATE INDEX filed ON entry (file) WHERE file IS NOT NULL;
CREATE INDEX expiring ON entry (expires_at) WHERE expires_at IS NOT NULL;
CREATE TABLE place (bodies INTEGER NOT NULL);
CREATE TABLE gone (file TEXT NOT NULL);
CREATE TABLE total (
    entries INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    counted INTEGER NOT NULL,
    unused INTEGER NOT NULL,
    hits INTEGER NOT NULL,
    misses INTEGER NOT NULL,
    served INTEGER NOT NULL
);
INSERT INTO total VALUES (0, 0, 0, 0, 0, 0, 0);
CREATE TRIGGER replaced AFTER UPDATE OF size ON entry BEGIN
    UPDATE total SET bytes = bytes + (new.size - old.size) * (new.rid <= counted);
END;
CREATE TRIGGER removed AFTER DELETE ON entry BEGIN
    UPDATE total SET
        entries = entries - (old.rid <= counted),
        bytes = bytes - old.size * (old.rid <= counted),
        counted = min(counted, (SELECT coalesce(max(rid), 0) FROM entry)),
        unused = min(unused, (SELECT coalesce(max(rid), 0) + 1 FROM entry));
END;
CREATE TRIGGER left_behind AFTER UPDATE OF file ON entry WHEN old.file IS NOT NULL BEGIN
    INSERT INTO gone VALUES (old.file);
END;
CREATE TRIGGER left_alone AFTER DELETE ON entry WHEN old.file IS NOT NULL BEGIN
    INSERT INTO gone VALUES (old.file);
END;
"""


def create(path: str, bodies: int) -> None:
    """Make a database of ours in an empty file that nobody else knows.

    `bodies` is the number of the folder where its body files are.

    Raises:
        CacheUnavailable: SQLite can't work here.
        sqlite3.Error: it can't be made.
    """
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        # It is nothing yet that could be lost.
        connection.execute("PRAGMA synchronous = OFF")
        _keep_log(connection, path)
        connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
        connection.execute("INSERT INTO place VALUES (?)", (bodies,))
        connection.execute(f"PRAGMA application_id = {_APPLICATION}")
        connection.execute(f"PRAGMA user_version = {FORMAT}")
    finally:
        connection.close()


def compact(connection: sqlite3.Connection, path: str) -> None:
    """Copy what a connection is of into an empty file that nobody else knows, without any gaps.

    Raises:
        CacheUnavailable: SQLite can't work here.
        sqlite3.Error: it can't be made.
    """
    connection.execute("VACUUM INTO ?", (path,))
    copy = sqlite3.connect(path, isolation_level=None)
    try:
        _keep_log(copy, path)
    finally:
        copy.close()


def retire(connection: sqlite3.Connection) -> None:
    """Have every statement about entries fail from now on: another database has taken its place.

    Raises:
        sqlite3.Error: it can't be changed.
    """
    connection.execute("ALTER TABLE entry RENAME TO retired")


def _keep_log(connection: sqlite3.Connection, path: str) -> None:
    """Have changes written to a log first, so that readers needn't wait."""
    if connection.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
        msg = f"{path}: SQLite can't work here; FileCache or SeparateBodyFileCache may"
        raise CacheUnavailable(msg)


def is_ours(connection: sqlite3.Connection) -> bool:
    """Tell whether a database is of this library, and of this format."""
    application: int = connection.execute("PRAGMA application_id").fetchone()[0]
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return (application, version) == (_APPLICATION, FORMAT)


def is_marked(path: str) -> bool:
    """Tell whether a database that nobody of this process has open is ours, by its header."""
    with open(path, "rb") as file:
        return file.read(72)[68:] == _APPLICATION.to_bytes(4, "big")
