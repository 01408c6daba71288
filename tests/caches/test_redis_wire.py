"""What goes over a connection to Redis: the bytes of commands, and replies however they come."""

from __future__ import annotations

import pytest

from stillfresh.caches.rediswire import Refusal, Replies, packed
from stillfresh.errors import CacheFull, CacheUnavailable, CorruptEntry

SAID = (
    b"+OK\r\n:12\r\n$-1\r\n$0\r\n\r\n$7\r\na\r\nb$c*\r\n*3\r\n:1\r\n*1\r\n$2\r\nxy\r\n$-1\r\n*0\r\n",
    [b"OK", 12, None, b"", b"a\r\nb$c*", [1, [b"xy"], None], []],
)


def test_commands_are_bytes_by_length() -> None:
    written = packed([(b"GET", b"a\r\nb"), (b"EXPIRE", b"", 60)])
    assert written == [
        b"*2\r\n$3\r\nGET\r\n$4\r\na\r\nb\r\n*3\r\n$6\r\nEXPIRE\r\n$0\r\n\r\n$2\r\n60\r\n"
    ]


def test_what_is_long_is_not_copied() -> None:
    long = b"x" * 100_000
    written = packed([(b"SET", b"key", long), (b"SET", b"other", long, b"EX", 60)])
    assert sum(part is long for part in written) == 2
    assert b"".join(written) == (
        b"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$100000\r\n" + long + b"\r\n"
        b"*5\r\n$3\r\nSET\r\n$5\r\nother\r\n$100000\r\n" + long + b"\r\n$2\r\nEX\r\n$2\r\n60\r\n"
    )


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_replies_may_come_in_parts(size: int) -> None:
    said, meant = SAID
    replies = Replies(len(meant))
    parts = [said[at : at + size] for at in range(0, len(said), size)]
    assert [replies.take(part) for part in parts] == [False] * (len(parts) - 1) + [True]
    assert replies.taken == meant


@pytest.mark.parametrize(
    "said", [b"$1\r\na\r\n+", b"+OK\r\n+OK\r\n", b"%1\r\n+a\r\n+b\r\n", b"$x\r\n"]
)
def test_what_was_not_asked_for_is_no_reply(said: bytes) -> None:
    with pytest.raises(ValueError, match=r"asked for|known kind|invalid literal"):
        Replies(1).take(said)


def test_a_connection_that_ends_is_no_reply() -> None:
    replies = Replies(1)
    assert not replies.take(b"$5\r\nab")
    with pytest.raises(ConnectionError):
        replies.take(b"")


def test_a_refusal_is_a_reply_among_others() -> None:
    replies = Replies(3)
    assert replies.take(b"+OK\r\n-MOVED 3999 ::1:6381\r\n:1\r\n")
    _, refusal, _ = replies.taken
    assert isinstance(refusal, Refusal)
    assert refusal.sends_elsewhere
    assert (refusal.code, refusal.address()) == ("MOVED", ("::1", 6381))


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ("OOM command not allowed when used memory > 'maxmemory'.", CacheFull),
        ("ERR Error running script (call to f_1): @user_script:1: -OOM command", CacheFull),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", CorruptEntry),
        ("NOPERM this user has no permissions", CacheUnavailable),
    ],
)
def test_a_refusal_says_what_is_wrong(said: str, error: type[Exception]) -> None:
    assert type(Refusal(said).as_error()) is error


@pytest.mark.parametrize(
    "said",
    [
        "LOADING Redis is loading",
        "NOAUTH Authentication required.",
        "ERR max number of clients reached",
    ],
)
def test_a_server_that_answers_nobody_has_failed(said: str) -> None:
    with pytest.raises(ConnectionError, match=said):
        Replies(2).take(f"-{said}\r\n".encode())
