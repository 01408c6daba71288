"""What a thread has open of a SQLite database: how it is opened, and what its errors mean."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
from typing import Final
from urllib.parse import quote

# The log is written into the database when it has so many pages, 8 MiB: twice what SQLite does by
# itself, which waits for the disk half as often. A longer one is cut back to that.
LOG_PAGES: Final = 2000
# So many KiB of pages are kept in memory.
MEMORY: Final = 2 << 10
# Where SQLite can't work it is for one of these, as on a disk of another machine's.
UNUSABLE: Final = frozenset(
    {
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_NOLFS,
        sqlite3.SQLITE_AUTH,
        sqlite3.SQLITE_IOERR_LOCK,
        sqlite3.SQLITE_IOERR_RDLOCK,
        sqlite3.SQLITE_IOERR_SHMLOCK,
        sqlite3.SQLITE_IOERR_SHMMAP,
        sqlite3.SQLITE_IOERR_SHMOPEN,
    }
)
_DAMAGED: Final = frozenset(
    {
        sqlite3.SQLITE_CONSTRAINT,  # an index and its table contradict each other
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_FORMAT,
        sqlite3.SQLITE_IOERR_SHORT_READ,  # the log is shorter than it says
        sqlite3.SQLITE_MISMATCH,
        sqlite3.SQLITE_NOTADB,
    }
)
# What it says of tables and columns that have other names by now, and of a format that it can't be.
_DAMAGED_SAYS: Final = ("no such", "has no column", "unsupported file format")


class Foreign(sqlite3.DatabaseError):
    """What is in the database's place is another program's, or of another format."""


class Damaged(sqlite3.DatabaseError):
    """What a database says can't be."""


class Mine:
    """What one thread has open.

    Attributes:
        busy: whether the thread is using it.
        number: the number of the database, 0 where none is open.
        bodies: the number of the folder that its body files are in.
        connection: the connection to it.
        cursor: what statements are executed with.
        identity: which file the database is.
        read_only: the number of the last database that said it could not be written to.
    """

    __slots__ = (
        "__weakref__",
        "bodies",
        "busy",
        "connection",
        "cursor",
        "identity",
        "number",
        "read_only",
    )

    def __init__(self) -> None:
        self.busy = False
        self.number = self.bodies = self.read_only = 0
        self.connection: sqlite3.Connection | None = None
        self.cursor: sqlite3.Cursor | None = None
        self.identity: tuple[int, int] | None = None

    def close(self) -> None:
        """Close the connection, if there is one. Never raises."""
        connection, self.connection, self.cursor, self.number = self.connection, None, None, 0
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    def __del__(self) -> None:
        self.close()


def opened(path: str, timeout: float, *, durable: bool) -> sqlite3.Connection:
    """Open the database at `path`, whose writers wait for so many seconds.

    Raises:
        FileNotFoundError: there is none.
        Foreign, Damaged: its files can't be those of a database of ours.
        sqlite3.Error: it can't be opened.
    """
    seen = set()
    for name in (path, f"{path}-wal", f"{path}-shm"):
        try:
            status = os.lstat(name)
        except FileNotFoundError:
            if name == path:
                raise
            continue
        # What is no file was put there by somebody, and a link leads out of here.
        if not stat.S_ISREG(status.st_mode):
            msg = f"{name} is no file"
            raise Foreign(msg)
        # SQLite maps the one into memory and cuts the other back, which ends the process.
        if status.st_nlink > 1 and (status.st_dev, status.st_ino) in seen:
            msg = f"{name} is the same file as another"
            raise Damaged(msg)
        seen.add((status.st_dev, status.st_ino))
    connection = sqlite3.connect(
        f"file:{quote(path)}?mode=rw",
        uri=True,
        timeout=timeout,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        for setting in (
            "trusted_schema = OFF",
            "cell_size_check = ON",
            "temp_store = MEMORY",
            # Some builds write zeros over all that is removed, which nobody asked for.
            "secure_delete = FAST",
            f"cache_size = {-MEMORY}",
            f"wal_autocheckpoint = {LOG_PAGES}",
            f"journal_size_limit = {LOG_PAGES * 4096}",
            f"synchronous = {'FULL' if durable else 'NORMAL'}",
        ):
            connection.execute(f"PRAGMA {setting}")
    except BaseException:
        connection.close()
        raise
    return connection


def end_transaction(connection: sqlite3.Connection) -> None:
    """Roll back what has been begun, if anything has. Never raises."""
    if connection.in_transaction:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")


def is_damage(error: Exception) -> bool:
    """Tell whether an error says that the database is none of ours any more, or damaged."""
    code = getattr(error, "sqlite_errorcode", -1)
    return (
        isinstance(error, Foreign | Damaged | UnicodeDecodeError)
        or not _DAMAGED.isdisjoint({code, code & 0xFF})
        or any(words in str(error) for words in _DAMAGED_SAYS)
    )
