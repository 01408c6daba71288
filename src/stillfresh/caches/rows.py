"""The rows of a SQLite cache: the statements about them, and what they hold."""

from __future__ import annotations

import heapq
import math
from array import array
from enum import Enum
from itertools import islice, takewhile
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

import xxhash

from stillfresh.caches import frames
from stillfresh.caches.base import EntryInfo
from stillfresh.caches.frames import BODY_ELSEWHERE
from stillfresh.caches.generations import BODY_NAME
from stillfresh.caches.pruning import AHEAD, Bounds, Cause, PruneReport
from stillfresh.errors import CorruptEntry

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

    from stillfresh.caches.database import Database
    from stillfresh.caches.frames import Frame

# So many rows are listed, and so many removed, in one transaction. The more go at once, the less
# often is a page of the index of keys written, in which they are all over the place; and a
# transaction has to be over in a tenth of a second.
_PAGE: Final = 500
BATCH: Final = 4000

FIND: Final = "SELECT frame, used_at FROM entry WHERE id = ?"
# What was never used counts as used when it was stored.
_USED_AT: Final = "abs(used_at)"
# The version stands in the head of a frame.
EXPIRY: Final = "SELECT expires_at, substr(frame, 49, 8) FROM entry WHERE id = ?"
WHOLE: Final = """
SELECT frame, id, key, size, body_size, stored_at, used_at, expires_at, file FROM entry
WHERE rid = ?
"""
LISTED: Final = "SELECT frame FROM entry WHERE rid = ?"
REMOVE_THIS: Final = "DELETE FROM entry WHERE rid = ? AND frame IS ?"
FILES: Final = "SELECT file FROM entry WHERE file IS NOT NULL"
# All that one transaction removes.
GONE: Final = f"SELECT rowid, file FROM gone LIMIT {BATCH}"  # noqa: S608
FIRST_FILES: Final = f"""
SELECT file FROM entry WHERE file IS NOT NULL ORDER BY {_USED_AT} LIMIT 32
"""  # noqa: S608 - our own text
# What was damaged is no number.
COUNTS: Final = """
SELECT CAST(hits AS INTEGER), CAST(misses AS INTEGER), CAST(served AS INTEGER) FROM total
"""
TOTALS: Final = "SELECT CAST(entries AS INTEGER), CAST(bytes AS INTEGER) FROM total"
STORED: Final = """
SELECT bytes + (SELECT CAST(total(size) AS INTEGER) FROM entry WHERE rid > counted) FROM total
"""
STORE: Final = """
INSERT INTO entry (id, key, host, size, body_size, stored_at, used_at, expires_at, file, frame)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET key = excluded.key, host = excluded.host, size = excluded.size,
    body_size = excluded.body_size, stored_at = excluded.stored_at, used_at = excluded.stored_at,
    expires_at = excluded.expires_at, file = excluded.file, frame = excluded.frame
"""
# The row, and the totals if it was there before.
CHANGED_BY_STORING: Final = 2
REFRESH: Final = """
UPDATE entry SET size = ?, stored_at = ?, expires_at = ?, frame = ? WHERE id = ? AND frame = ?
"""
# The same, of what is in the order of use not yet, or in an old place: it is used by that.
REFRESH_AND_USE: Final = """
UPDATE entry SET size = ?, stored_at = ?2, used_at = ?2, expires_at = ?, frame = ?
WHERE id = ? AND frame = ?
"""
_INFO: Final = f"rid, key, size, body_size, stored_at, {_USED_AT}, expires_at"
_SIGN: Final = 1 << 63
_EXPIRED: Final = "SELECT expires_at, rid, size FROM entry WHERE expires_at <= ? LIMIT ?"
# The rows that were used, those that were while a clock was ahead, and those that weren't, each in
# the order in which they go. What was damaged is no number.
_USED: Final = """
SELECT used_at, rid, size FROM entry WHERE used_at > 0 AND used_at < ? ORDER BY used_at
"""
_AHEAD: Final = """
SELECT CAST(stored_at AS REAL), rid, size FROM entry
WHERE used_at > 0 AND used_at BETWEEN ? AND 9e999 ORDER BY 1
"""
_UNUSED: Final = """
SELECT stored_at, rid, size FROM entry
WHERE rid >= (SELECT unused FROM total) AND used_at <= 0 AND CAST(stored_at AS REAL) <= ?
ORDER BY rid
"""
_SKIP_USED: Final = """
UPDATE total SET unused = (
    SELECT coalesce(
        (SELECT rid FROM entry WHERE rid >= unused AND used_at <= 0 ORDER BY rid LIMIT 1),
        (SELECT max(rid) + 1 FROM entry),
        0
    )
)
"""


class Order(Enum):
    """In which order entries are listed."""

    KEY = "key"
    USE = "used_at"
    SIZE = "size"
    AGE = "stored_at"


_COLUMNS: Final = {Order.USE: _USED_AT}


def listing(database: Database, order: Order | None, host: str | None) -> Iterator[EntryInfo]:
    """List the rows, or those of one host, in some order; None is the quickest.

    Raises:
        StoreError: the database failed.
    """
    # In pages, each a short transaction: who reads the listing may take its time.
    if order is None and host is None:
        last = -(1 << 63)
        while rows := database.rows(
            "listing",
            f"SELECT {_INFO} FROM entry WHERE rid > ? ORDER BY rid LIMIT ?",  # noqa: S608
            (last, _PAGE),
        ):
            yield from map(info, rows)
            last = rows[-1][0]
        return
    column = "rid" if order is None else _COLUMNS.get(order, order.value)
    where, values = ("", ()) if host is None else ("WHERE host = ?", (host,))
    rids = array("q")
    rids.extend(
        rid
        for (rid,) in database.rows(
            "listing",
            f"SELECT rid FROM entry {where} ORDER BY {column}, rid",  # noqa: S608
            values,
        )
    )
    for at in range(0, len(rids), _PAGE):
        page = rids[at : at + _PAGE]
        marks = ", ".join("?" * len(page))
        rows = database.rows(
            "listing",
            f"SELECT {_INFO} FROM entry WHERE rid IN ({marks})",  # noqa: S608
            page,
        )
        found = {row[0]: row for row in rows}
        yield from (info(found[rid]) for rid in page if rid in found)


def count(database: sqlite3.Connection) -> None:
    """Have the totals be of all rows, those too that have come since the last time."""
    database.execute(
        "UPDATE total SET counted = (SELECT coalesce(max(rid), 0) FROM entry), (entries, bytes) ="
        " (SELECT entries + count(*), bytes + CAST(total(size) AS INTEGER)"
        " FROM entry WHERE rid > counted)"
    )


def recount(database: sqlite3.Connection) -> None:
    """Count anew what is stored: the totals may have been damaged."""
    database.execute("UPDATE total SET entries = 0, bytes = 0, counted = 0, unused = 0")
    count(database)


def remove_some(
    database: sqlite3.Connection, bounds: Bounds, now: float, report: PruneReport
) -> bool:
    """Remove a batch of rows, and tell whether there may be more to remove."""
    count(database)
    doomed = database.execute(_EXPIRED, (now, BATCH)).fetchall()
    if doomed:
        return _remove(database, Cause.EXPIRED, doomed, report)
    database.execute(_SKIP_USED)
    if bounds.max_age is not None:
        limit = now - bounds.max_age
        # Of what came while the clock was ahead nobody knows that it is so old.
        idlest = islice(_idlest(database, now, now + AHEAD), BATCH)
        doomed = list(takewhile(lambda row: row[0] < limit, idlest))
        if doomed:
            return _remove(database, Cause.OVER_AGE, doomed, report)
    if bounds.max_bytes is not None:
        stored = database.execute("SELECT bytes FROM total").fetchone()[0]
        excess = _number(stored) - bounds.max_bytes
        for row in islice(_idlest(database, now, math.inf), BATCH if excess > 0 else 0):
            doomed.append(row)
            excess -= _number(row[2])
            if excess <= 0:
                break
        if doomed:
            return _remove(database, Cause.OVER_SIZE, doomed, report)
        if excess > 0:
            # Where there is too much, there is something: what is known of that was damaged.
            recount(database)
    return False


def _idlest(
    database: sqlite3.Connection, now: float, latest: float
) -> Iterator[tuple[float, int, Any]]:
    """Go through the rows as they were used, the first one first: when that was, number and size.

    One that was not is in the place where it came, unless that is said to be after `latest`; and
    one that was when the clock was ahead, where it was stored.
    """

    def unused() -> Iterator[tuple[float, int, Any]]:
        moment = 0.0
        for stored_at, rid, size in database.execute(_UNUSED, (latest,)):
            # What was damaged is no number; and a clock may have been ahead.
            if type(stored_at) is float and stored_at <= now + AHEAD:
                moment = stored_at
            yield moment, rid, size

    used = database.execute(_USED, (now + AHEAD,))
    ahead = database.execute(_AHEAD, (now + AHEAD,))
    return heapq.merge(used, ahead, unused(), key=itemgetter(0))


def _remove(
    database: sqlite3.Connection,
    cause: Cause,
    doomed: list[tuple[float, int, Any]],
    report: PruneReport,
) -> bool:
    """Remove rows; True, since there may be more."""
    report.removed[cause] += len(doomed)
    report.removed_bytes += sum(_number(size) for *_, size in doomed)
    database.executemany("DELETE FROM entry WHERE rid = ?", [(rid,) for _, rid, _ in doomed])
    return True


def numbered(key: str) -> tuple[int, bytes]:
    """Return the number of a key, and the key as its row has it.

    The number is 64 bits of its digest, as SQLite's integers have them.
    """
    encoded = frames.encode_key(key)
    return xxhash.xxh3_64_intdigest(encoded) - _SIGN, encoded


def written(frame: Frame, body: bytes) -> bytearray:
    """Write a row's content."""
    head, tail = frames.encode(frame)
    return joined(head, body, tail)


def joined(head: bytes, body: bytes | bytearray, tail: bytes) -> bytearray:
    """Put together a row's content."""
    # No bytes: for those the module sqlite3 looks every time whether they are to be adapted.
    return bytearray().join((head, body, tail))


def read(data: Any) -> tuple[Frame, bytes]:
    """Read a row's content.

    Raises:
        CorruptEntry: it is damaged.
    """
    if type(data) is not bytes:
        msg = "the content is no blob"
        raise CorruptEntry(msg)
    return frames.decode_whole(data)


def info(row: tuple[Any, ...]) -> EntryInfo:
    """Describe a row for a listing; of a damaged one as much as can be told."""
    rid, key, size, body_size, stored_at, used_at, expires_at = row
    try:
        name = key.decode("utf-8", "surrogatepass")
    except (AttributeError, UnicodeDecodeError):
        name = None
    if not type(size) is type(body_size) is int or not type(stored_at) is type(used_at) is float:
        size, body_size = (one if isinstance(one, int) else 0 for one in (size, body_size))
        stored_at, used_at = (_moment(one) or 0.0 for one in (stored_at, used_at))
    if expires_at is not None:
        expires_at = _moment(expires_at)
    return EntryInfo(name, str(rid), size, body_size, stored_at, used_at, expires_at)


def _moment(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def checked(row: Any) -> tuple[Frame, bytes]:
    """Read the `WHOLE` of a row, whose columns have to agree with its content.

    Raises:
        CorruptEntry: it is damaged.
    """
    data, name, key, size, body_size, stored_at, used_at, expires_at, file = row
    frame, body = read(data)
    elsewhere = frame.flags & BODY_ELSEWHERE
    if (name, key) != numbered(frame.key):
        msg = "the row holds the entry of another key"
        raise CorruptEntry(msg)
    whole = len(data) + (frame.body_size if elsewhere else 0)
    mine = (whole, frame.body_size, frame.stored_at, frame.expires_at)
    named = file == (frame.version if elsewhere else None)
    if (size, body_size, stored_at, expires_at) != mine or not named or type(used_at) is not float:
        msg = "the row and its content contradict each other"
        raise CorruptEntry(msg)
    return frame, body


def is_file(name: object) -> bool:
    """Tell whether something is the name of a body file."""
    return type(name) is str and BODY_NAME.fullmatch(name) is not None


def _number(given: Any) -> int:
    """Take what a column holds for a number; what was damaged is none."""
    return given if type(given) is int else 0
