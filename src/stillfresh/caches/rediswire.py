"""What is said to Redis and Valkey: commands and replies as bytes, whoever carries them.

It is the second version of their protocol (RESP2), which all of them speak.
The libraries' parsers take replies of every kind, and several times as long over a small value as
the server does. What comes here is of five kinds, and nothing comes unasked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

from stillfresh.errors import CacheFull, CacheUnavailable, CorruptEntry, StoreError

if TYPE_CHECKING:
    from collections.abc import Sequence

Pieced: TypeAlias = "tuple[bytes | bytearray, ...]"
"""Bytes that follow one another, and are put together when they are sent."""
Argument: TypeAlias = "bytes | int | Pieced"
Command: TypeAlias = "tuple[Argument, ...]"

# An argument up to this size is copied to be sent with what stands around it.
_TOGETHER: Final = 1 << 16
_BULK, _SIMPLE, _INTEGER, _ARRAY, _ERROR = b"$+:*-"
# Refusals that say something of the server or the connection, and nothing of what was asked.
_OF_SERVERS: Final = frozenset({"LOADING", "NOAUTH", "WRONGPASS"})
_OF_SERVERS_TOO: Final = "ERR max number of clients reached"


class Refusal(Exception):
    """A reply that is an error.

    Attributes:
        code: its first word, by which they are told from one another.
    """

    def __init__(self, text: str) -> None:
        """Have what the server says."""
        super().__init__(text)
        self.code = text.partition(" ")[0]

    @property
    def is_of_server(self) -> bool:
        """Whether whatever else one asked would be refused as well."""
        return self.code in _OF_SERVERS or str(self).startswith(_OF_SERVERS_TOO)

    @property
    def is_of_replica(self) -> bool:
        """Whether a server refuses to write that another one is the master of."""
        # Before Redis 7, an error in a script is told as one of the script's.
        return self.code == "READONLY" or " -READONLY " in str(self)

    @property
    def sends_elsewhere(self) -> bool:
        """Whether another server of a Cluster has the key."""
        return self.code in {"MOVED", "ASK"}

    def address(self) -> tuple[str, int]:
        """Return which server that is; its host may be empty, for the one that was asked."""
        host, _, port = str(self).rpartition(" ")[2].rpartition(":")
        return host, int(port)

    def as_error(self) -> StoreError:
        """Return what a cache raises for it."""
        text = str(self)
        # Before Redis 7, an error in a script is told as one of the script's.
        if self.code == "OOM" or " -OOM " in text:
            error: StoreError = CacheFull(f"the server is full: {text}")
        elif self.code == "WRONGTYPE":
            error = CorruptEntry("somebody else's: it is no string")
        else:
            error = CacheUnavailable(f"the server refuses: {text}")
        error.__cause__ = self
        return error


def packed(commands: Sequence[Command]) -> list[bytes]:
    """Write commands as the protocol has them, for one write or a few."""
    writes: list[bytes] = []
    pieces: list[bytes | bytearray] = []
    for command in commands:
        pieces.append(b"*%d\r\n" % len(command))
        for argument in command:
            if isinstance(argument, tuple):
                pieces += (b"$%d\r\n" % sum(map(len, argument)), *argument, b"\r\n")
                continue
            data = argument if isinstance(argument, bytes) else b"%d" % argument
            if len(data) <= _TOGETHER:
                pieces.append(b"$%d\r\n%b\r\n" % (len(data), data))
            else:
                pieces.append(b"$%d\r\n" % len(data))
                writes += (b"".join(pieces), data)
                pieces = [b"\r\n"]
    writes.append(b"".join(pieces))
    return writes


class Replies:
    """The replies to so many commands, put together from what comes.

    Attributes:
        taken: those that are here: bytes, numbers, lists of such, None for nothing, or a `Refusal`.
        of_replica: whether one of them says that the server is a replica.
    """

    __slots__ = ("_count", "_missing", "_parts", "of_replica", "taken")

    def __init__(self, count: int) -> None:
        """Have none."""
        self._count = count
        self._parts: list[bytes] = []
        # So many bytes have to come before it is worth looking at them.
        self._missing = 0
        self.taken: list[Any] = []
        self.of_replica = False

    def take(self, data: bytes) -> bool:
        """Take what has come next, and tell whether all are here.

        Raises:
            ConnectionError: nothing has come, by which a connection ends; or one of the replies
                says that the server can't be asked.
            ValueError: that is something else, or more than was asked for.
        """
        if not data:
            msg = "the server has closed the connection"
            raise ConnectionError(msg)
        if self._parts:
            self._parts.append(data)
            self._missing -= len(data)
            if self._missing > 0:
                return False
            data, self._parts = b"".join(self._parts), []
        at, taken = 0, self.taken
        try:
            while len(taken) < self._count:
                reply, at = _parsed(data, at)
                taken.append(reply)
                if isinstance(reply, Refusal):
                    if reply.is_of_server:
                        raise ConnectionError(str(reply))
                    self.of_replica = self.of_replica or reply.is_of_replica
        except _Short as short:
            self._parts.append(data[at:])
            self._missing = short.missing
            return False
        if at != len(data):
            msg = f"{len(data) - at} bytes that nobody has asked for"
            raise ValueError(msg)
        return True


class _Short(Exception):
    def __init__(self, missing: int) -> None:
        self.missing = missing


def _parsed(data: bytes, at: int) -> tuple[Any, int]:
    """Return the reply that begins at `at`, and where the next one does."""
    end = data.find(b"\r\n", at)
    if end < 0:
        raise _Short(1)
    kind, start = data[at], end + 2
    if kind == _BULK:
        size = int(data[at + 1 : end])
        if size < 0:
            return None, start
        end = start + size
        if end + 2 > len(data):
            raise _Short(end + 2 - len(data))
        return data[start:end], end + 2
    line = data[at + 1 : end]
    if kind == _SIMPLE:
        return line, start
    if kind == _INTEGER:
        return int(line), start
    if kind == _ERROR:
        return Refusal(line.decode("utf-8", "replace")), start
    if kind != _ARRAY:
        msg = f"no reply of a known kind: {data[at : at + 20]!r}"
        raise ValueError(msg)
    several: list[Any] = []
    for _ in range(int(line)):
        reply, start = _parsed(data, start)
        several.append(reply)
    return several, start
