"""Entries over bytes that are not what was written, or can't be had."""

from __future__ import annotations

import pytest

from stillfresh.caches import frames
from stillfresh.caches.base import Entry
from stillfresh.errors import BodyLost, CacheUnavailable
from stillfresh.testing.conformance.tools import content

SIZES = [100, 1 << 20, (2 << 20) + 1]


class Disk:
    """Bytes that can't be read while it fails."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.fails = False

    def read_at(self, offset: int, size: int) -> bytes:
        if self.fails:
            raise OSError("the disk has gone to sleep")
        return self._data[offset : offset + size]

    def close(self) -> None:
        """Have nothing to close."""


def entry_of(body: bytes, disk: Disk, *, checked: bool = True) -> Entry:
    digest = frames.digest(body) if checked else None
    return Entry(b"metadata", version="1", size=len(body), source=disk, digest=digest)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("wrong", [0, -1])
def test_a_body_that_is_damaged_anywhere_can_be_read_from_nowhere(size: int, wrong: int) -> None:
    body = content("body", size)
    damaged = bytearray(body)
    damaged[wrong] ^= 1
    for offset in (0, size // 2, size):
        entry = entry_of(body, Disk(bytes(damaged)))
        with pytest.raises(BodyLost, match="not the one that was written"):
            entry.seek(offset)
        with pytest.raises(ValueError, match="closed"):
            entry.read(1)


@pytest.mark.parametrize("size", SIZES)
def test_a_body_that_is_cut_short_can_be_read_from_nowhere(size: int) -> None:
    body = content("body", size)
    for offset in (0, size // 2, size):
        with pytest.raises(BodyLost, match="ends at byte"):
            entry_of(body, Disk(body[:-1])).seek(offset)


@pytest.mark.parametrize(("size", "read"), [*((size, None) for size in SIZES), (SIZES[2], 30)])
def test_who_can_not_be_moved_stays_where_it_is(size: int, read: int | None) -> None:
    body = content("body", size)
    disk = Disk(body)
    entry = entry_of(body, disk)
    at = 0 if read is None else len(entry.read(read))
    disk.fails = True
    with pytest.raises(BodyLost, match="gone to sleep"):
        entry.seek(50)
    disk.fails = False
    assert entry.read(10) == body[at : at + 10]
    entry.seek(50)
    assert entry.read() == body[50:]


@pytest.mark.parametrize("size", SIZES[:2])
def test_a_small_body_that_has_been_checked_is_here(size: int) -> None:
    body = content("body", size)
    disk = Disk(body)
    entry = entry_of(body, disk)
    entry.read(1)
    disk.fails = True
    entry.seek(50)
    assert entry.read() == body[50:]


def test_a_body_that_nobody_has_a_digest_of_is_read_as_it_is() -> None:
    entry = entry_of(b"abcdef", Disk(b"abcdeX"), checked=False)
    entry.seek(4)
    assert entry.read() == b"eX"
    entry.seek(1)
    assert entry.read(2) == b"bc"
    short = entry_of(b"abcdef", Disk(b"abc"), checked=False)
    short.seek(4)
    with pytest.raises(BodyLost, match="ends at byte 4 of 6"):
        short.read()


@pytest.mark.parametrize("fails_at", [0, 1 << 20, 2 << 20])
def test_a_read_that_has_failed_may_be_made_again(fails_at: int) -> None:
    class Away(Disk):
        def read_at(self, offset: int, size: int) -> bytes:
            if self.fails and offset == fails_at:
                self.fails = False
                raise CacheUnavailable("not just now")
            return body[offset : offset + size]

    body = content("body", (3 << 20) + 5)
    disk = Away(body)
    disk.fails = True
    with entry_of(body, disk) as entry:
        with pytest.raises(CacheUnavailable, match="not just now"):
            entry.read()
        assert entry.read() == body


def test_a_body_that_is_given_as_bytes_is_read_like_any_other() -> None:
    body = content("body", 100)
    entry = Entry(b"metadata", version="1", size=100, source=body, digest=frames.digest(body))
    assert entry.read(10) == body[:10]
    entry.check()
    entry.verify()
    buffer = bytearray(20)
    assert entry.readinto(buffer) == 20
    assert bytes(buffer) == body[10:30]
    assert entry.read() == body[30:]
    assert entry.read() == entry.read(5) == b""
    entry.seek(95)
    assert entry.read(10) == body[95:]
    for outside in (-1, 101):
        with pytest.raises(ValueError, match=f"byte {outside} of 100"):
            entry.seek(outside)
    entry.seek(0)
    assert entry.read(0) == b""
    assert entry.read(100) == body
    entry.close()
    entry.close()
    for use in (entry.read, entry.check, entry.verify, lambda: entry.seek(0)):
        with pytest.raises(ValueError, match="closed"):
            use()
