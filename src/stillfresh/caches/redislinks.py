"""Connections to Redis and Valkey, and which server has which keys.

The connections are redis-py's (or valkey-py's) own: TCP, TLS and Unix sockets, passwords,
databases and Sentinel are theirs. Their clients and pools are not used: these retry and wait by
rules of their own, where here one limit holds for all that an operation does, and they take more
than twice the time. So a caller's client is a recipe for connections, and its own are left alone.
What is said over an open connection is in `rediswire.py`.

Everything that waits is a coroutine over a library's connection, blocking or not.
"""

from __future__ import annotations

import binascii
import contextlib
import importlib
import inspect
import math
import os
import socket
import time
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from stillfresh.caches.breaker import Breaker
from stillfresh.caches.rediswire import Refusal, Replies, packed
from stillfresh.errors import CacheError, CacheUnavailable, ConfigError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable, Sequence

    from stillfresh.caches.rediswire import Command

Address: TypeAlias = "tuple[str, int] | None"
"""A server of a Cluster; None is the only one there is."""

_SLOTS: Final = 16_384
# A key that moves while it is asked for is asked for again at its new place: once when its slot
# has moved, once more while it is on its way.
_REDIRECTIONS: Final = 3
# What nobody's request waits for, a page of a listing say, may take so many times longer.
PATIENCE: Final = 20
# Bytes that are received at once.
_RECEIVED: Final = 1 << 16
# How long a reply is watched for, in seconds: about as long as it takes to be put to sleep for it
# and woken, so that it is never much worse than that.
_WATCHED: Final = 100e-6
# So many are slept for at the most before one is watched for again.
_SLEPT: Final = 64
# Seconds. A connection that was made a moment ago leads to whom Sentinel, or a name server, takes
# for the master; one that is older may lead to whom they did before a failover.
_SETTLED: Final = 1.0
_GIVEN_UP: Final = "nobody waits for it any more"
# What the libraries' pools tell their connections, and ours can't be told.
_OF_POOLS: Final = ("maint_notifications_", "oss_cluster_", "orig_", "himport_registry")


def hash_part(name: bytes) -> bytes:
    """Return the part of a key's name that decides on its slot: what is in its first braces."""
    start = name.find(b"{")
    end = name.find(b"}", start + 1) if start >= 0 else -1
    return name[start + 1 : end] if end > start + 1 else name


class Servers:
    """One server, or those of a Cluster; shared by all that speak to them.

    Attributes:
        waits: whether what its connections answer is to be awaited.
        is_cluster: whether a key's name says which of them has it.
        where: names them, without any secret.
        database: which of a server's databases is meant.
    """

    def __init__(
        self,
        connection_class: Any,
        options: dict[str, Any],
        *,
        known: Iterable[tuple[str, int]] = (),
        owner: object = None,
        helpers: Sequence[Any] = (),
    ) -> None:
        """Make connections of a class with `options`.

        `known` are some servers of a Cluster, if it is one. The `owner` is kept alive: a Sentinel's
        connections ask it for their address. The `helpers` are clients to be closed in the end.
        """
        self._class = connection_class
        self._options = options
        self._owner = owner
        self._helpers = helpers
        self._known = list(known)
        self._slots: list[tuple[int, int, Address]] = []
        self._breakers: dict[Address, Breaker] = {}
        self.waits = _is_asynchronous(connection_class)
        self.is_cluster = bool(self._known)
        self.where = _where(options, self._known)
        self.database: object = options.get("db") or 0

    def renew(self) -> None:
        """Begin anew after a fork."""
        for breaker in self._breakers.values():
            breaker.renew()

    async def close(self) -> None:
        """Close what was made for finding them."""
        for helper in self._helpers:
            # The asynchronous ones have had two names for it.
            closing = getattr(helper, "aclose", helper.close)()
            if self.waits:
                await closing

    def breaker(self, address: Address) -> Breaker:
        """Return what knows whether a server is to be asked."""
        found = self._breakers.get(address)
        return found if found is not None else self._breakers.setdefault(address, Breaker())

    def connection(self, address: Address) -> Any:
        """Make a connection, which is not open yet."""
        if address is None:
            return self._class(**self._options)
        return self._class(**{**self._options, "host": address[0], "port": address[1]})

    async def of(self, name: bytes, line: Line) -> Address:
        """Return the server that has a key, if it is a Cluster."""
        slot = binascii.crc_hqx(hash_part(name), 0) % _SLOTS
        for first, last, address in self._slots or await self._map(line):
            if first <= slot <= last:
                return address
        self._slots = []
        msg = f"no server has slot {slot} of {self.where}"
        raise CacheUnavailable(msg)

    async def all(self, line: Line) -> list[Address]:
        """Return every server that has keys."""
        if not self.is_cluster:
            return [None]
        return list(dict.fromkeys(address for *_, address in self._slots or await self._map(line)))

    def moved(self) -> None:
        """Ask which server has what before the next command."""
        self._slots = []

    async def _map(self, line: Line) -> list[tuple[int, int, Address]]:
        """Ask who has what: the first that answers."""
        failures: dict[tuple[str, int], CacheUnavailable] = {}
        # Other threads may ask meanwhile: it is never changed, but followed by another one.
        for asked in self._known:
            # Whoever doesn't answer is the last to be asked the next time.
            self._known = [*(other for other in self._known if other != asked), asked]
            try:
                (reply,) = await line.ask_at(asked, (b"CLUSTER", b"SLOTS"))
            except CacheUnavailable as error:
                failures[asked] = error
                continue
            if isinstance(reply, Refusal):
                failures[asked] = CacheUnavailable(f"{asked[0]}:{asked[1]}: {reply}")
                continue
            slots: list[tuple[int, int, Address]] = [
                (first, last, (_text(node[0]) or asked[0], node[1]))
                for first, last, node, *_ in reply
            ]
            found = [address for *_, address in slots if address is not None]
            self._known = [*dict.fromkeys([*found, *self._known])]
            self._slots = slots
            return slots
        # Always the same one's, so that all of them down are one outage.
        raise failures[min(failures)]


class NotConnected(Exception):
    """What was to be asked needs a connection that isn't open."""


class Line:
    """The connections of whoever speaks to the servers now, one operation at a time.

    Attributes:
        may_connect: whether the operation under way may open a connection.
        hung_up: whether nobody waits for it any more.
        limit: how many seconds it has.
        repeats: whether something of the operation is asked again, since an open connection had
            ended: nobody knows whether the server had heard it the first time.
    """

    def __init__(self, servers: Servers) -> None:
        """Connect when something is asked."""
        self.repeats = False
        self.may_connect = True
        self.hung_up = False
        self._servers = servers
        self._links: dict[Address, _Link] = {}
        self._asking: Address = None
        self._deadline = math.inf
        self.limit = math.inf

    @property
    def is_open(self) -> bool:
        """Whether there is an open connection."""
        return bool(self._links)

    def begin(self, deadline: float, limit: float) -> None:
        """Begin an operation: it has `limit` seconds, which end at `deadline` (monotonic)."""
        self._deadline = deadline
        self.limit = limit
        self.repeats = False

    def ask(self, name: bytes, *commands: Command) -> Awaitable[list[Any]]:
        """Send commands about keys with the hash part of `name`, and return the replies.

        One that is an error is a `Refusal` in the list.

        Raises:
            CacheUnavailable: the server can't be reached, or is left alone for now.
        """
        if not self._servers.is_cluster:
            return self.ask_at(None, *commands)
        return self._ask_in_cluster(name, commands)

    async def _ask_in_cluster(self, name: bytes, commands: Sequence[Command]) -> list[Any]:
        address = await self._servers.of(name, self)
        replies = await self.ask_at(address, *commands)
        for at, reply in enumerate(replies):
            if isinstance(reply, Refusal) and reply.sends_elsewhere:
                replies[at] = await self._redirected(commands[at], reply, address)
        return replies

    async def ask_at(self, address: Address, *commands: Command) -> list[Any]:
        """Send commands to one server, as `ask`; nobody is asked elsewhere."""
        breaker = self._servers.breaker(address)
        breaker.enter()
        self._asking = address
        try:
            replies = await self._exchange(address, commands)
        except CacheError:
            raise
        except NotConnected:
            breaker.left()
            raise
        except Exception as error:
            if self.hung_up:
                # What failed it was that. Whoever was late has said so by now (`late`).
                raise CacheUnavailable(_GIVEN_UP) from error
            self._servers.moved()
            raise breaker.failed(_told(error)) from error
        breaker.succeeded()
        return replies

    async def all(self) -> list[Address]:
        """Return every server that has keys."""
        return await self._servers.all(self)

    def late(self) -> CacheUnavailable:
        """Hear that the operation took too long, and return what is to be raised."""
        self._servers.moved()
        return self._servers.breaker(self._asking).failed(str(self._no_answer()))

    def hang_up(self) -> None:
        """Have what is under way end at its next step at the latest: nobody waits for it."""
        self.hung_up = True
        self.cut()

    def cut(self) -> None:
        """End the open connections, by which what waits for them fails. For another thread."""
        for link in list(self._links.values()):
            link.cut()

    async def close(self) -> None:
        """Close the connections."""
        links, self._links = self._links, {}
        for link in links.values():
            await link.close()

    async def _exchange(self, address: Address, commands: Sequence[Command]) -> list[Any]:
        servers, data = self._servers, packed(commands)
        while True:
            if self.hung_up:
                raise CacheUnavailable(_GIVEN_UP)
            link = self._links.get(address)
            was_open = link is not None
            if link is None:
                if not self.may_connect:
                    raise NotConnected
                kind = _AwaitedLink if servers.waits else _Link
                link = self._links[address] = kind(servers.connection(address))
            try:
                replies: Any = link.exchange(data, len(commands))
                taken: list[Any] = await replies if servers.waits else replies
            except BaseException as error:
                # There may be replies on it that nobody reads.
                self._links.pop(address, None)
                await link.close()
                if not was_open or not isinstance(error, Exception):
                    raise
                if time.monotonic() >= self._deadline:
                    raise self._no_answer() from error
                # A server may close what was idle, or have been started anew: that says nothing.
                if _is_timeout(error):
                    raise
                self.repeats = True
            else:
                if link.is_outdated:
                    self._links.pop(address, None)
                    await link.close()
                return taken

    def _no_answer(self) -> TimeoutError:
        return TimeoutError(f"no answer from {self._servers.where} within {self.limit:g} s")

    async def _redirected(self, command: Command, reply: Any, asked: Address) -> Any:
        for _ in range(_REDIRECTIONS):
            if not (isinstance(reply, Refusal) and reply.sends_elsewhere):
                return reply
            host, port = reply.address()
            address = (host or (asked[0] if asked else ""), port)
            if reply.code == "MOVED":
                self._servers.moved()
                (reply,) = await self.ask_at(address, command)
            else:
                _, reply = await self.ask_at(address, (b"ASKING",), command)
        return reply


class _Link:
    """One connection, read and written by its socket.

    Attributes:
        is_outdated: whether another one may lead to another server by now.
    """

    __slots__ = (
        "_connection",
        "_is_open",
        "_is_quick",
        "_opened_at",
        "_pause",
        "_sleeps",
        "is_outdated",
    )

    def __init__(self, connection: Any) -> None:
        self.is_outdated = False
        self._connection = connection
        self._is_open = False
        self._opened_at = 0.0
        # `_is_quick` of its socket, once that is open.
        self._is_quick: bool | None = None
        # How many replies are to be slept for before one is watched for again, after the last that
        # came too late, and from now on.
        self._pause = 1
        self._sleeps = 0

    def exchange(self, data: list[bytes], count: int) -> Any:
        connection = self._connection
        if not self._is_open:
            connection.connect()
            self._note_open()
        raw = connection._sock  # noqa: SLF001 - there is no public name for it
        if self._is_quick is None:
            self._is_quick = _is_quick(raw)
        for part in data:
            left = _left_of(part, raw) if self._is_quick else part
            if left:
                raw.sendall(left)
        replies = Replies(count)
        while not replies.take(self._watch_for(raw) or raw.recv(_RECEIVED)):
            pass
        return self._taken(replies)

    def _watch_for(self, raw: socket.socket) -> bytes:
        """Return what comes within a moment; nothing if that is not to be watched for, or ends.

        A server nearby has answered before a thread has been put to sleep and woken again. Of one
        that has not, the next replies are slept for; the more, the more often that happens.
        """
        if not self._is_quick:
            return b""
        if self._sleeps:
            self._sleeps -= 1
            return b""
        fd, until = raw.fileno(), time.perf_counter() + _WATCHED
        while True:
            try:
                data = os.read(fd, _RECEIVED)
            except BlockingIOError:
                if time.perf_counter() > until:
                    self._sleeps = self._pause
                    self._pause = min(2 * self._pause, _SLEPT)
                    return b""
            else:
                self._pause = 1
                return data

    def _note_open(self) -> None:
        self._is_open = True
        self._opened_at = time.monotonic()

    def _taken(self, replies: Replies) -> list[Any]:
        """Return what has come; a master that has become a replica is not asked again."""
        if replies.of_replica:
            # Where that is what the caller wants, it is not to cost a connection each time.
            self.is_outdated = time.monotonic() - self._opened_at > _SETTLED
        return replies.taken

    def cut(self) -> None:
        """End it from another thread. Closing it is left to who uses it, who may be reading."""
        # The public way to it closes it too.
        raw = getattr(self._connection, "_sock", None)
        if isinstance(raw, socket.socket):
            with contextlib.suppress(OSError):
                # The method of a TLS socket would take its state away as well.
                socket.socket.shutdown(raw, socket.SHUT_RDWR)

    async def close(self) -> None:
        with contextlib.suppress(Exception):
            self._connection.disconnect()


class _AwaitedLink(_Link):
    """One connection of an event loop."""

    __slots__ = ()

    async def exchange(self, data: list[bytes], count: int) -> Any:
        connection = self._connection
        if not self._is_open:
            await connection.connect()
            self._note_open()
        await connection.send_packed_command(data, False)
        reader = connection._reader  # noqa: SLF001 - there is no public name for it
        replies = Replies(count)
        while not replies.take(await reader.read(_RECEIVED)):
            pass
        return self._taken(replies)

    async def close(self) -> None:
        with contextlib.suppress(Exception):
            # Without waiting for the other side.
            await self._connection.disconnect(True)


def _is_quick(raw: Any) -> bool:
    """Tell whether a socket can be read and written like a file, at once or not at all.

    Its own methods ask first whether that can be done, and wait.
    """
    try:
        return type(raw) is socket.socket and not os.get_blocking(raw.fileno())
    except (AttributeError, OSError):  # no POSIX system
        return False


def _left_of(data: bytes, raw: socket.socket) -> bytes:
    """Send what can be sent at once, and return the rest."""
    try:
        sent = os.write(raw.fileno(), data)
    except BlockingIOError:
        return data
    return data[sent:]


def servers_of(
    client: Any,
    timeout: float,
    *,
    asynchronous: bool,
    known: Sequence[tuple[str, int]] = (),
    helpers: Sequence[Any] = (),
) -> Servers:
    """Take a client of redis-py or valkey-py as a recipe for connections.

    Where some servers of a Cluster are `known`, it is the recipe for one of them. The `helpers` are
    clients that it needs, and that are closed with the rest.

    Raises:
        ConfigError: it is no such client.
    """
    try:
        if hasattr(client, "get_nodes"):
            nodes = list(client.get_nodes()) or list(client.nodes_manager.startup_nodes.values())
            known = [(node.host, node.port) for node in nodes]
            pool = nodes[0]
            if not hasattr(pool, "connection_class"):
                name = f"get_{_library(type(client))}_connection"
                pool = getattr(client, name)(pool).connection_pool
        else:
            pool = client.connection_pool
        connection_class, options = pool.connection_class, pool.connection_kwargs
    except (AttributeError, IndexError) as error:
        msg = f"a client of redis-py or valkey-py is needed, not a {type(client).__name__}"
        raise ConfigError(msg) from error
    if _is_asynchronous(connection_class) is not asynchronous:
        kind = "redis.asyncio" if asynchronous else "blocking"
        msg = f"a {kind} client is needed, not {type(client).__module__}.{type(client).__name__}"
        raise ConfigError(msg)
    options = _bounded(connection_class, options, None if asynchronous else timeout)
    return Servers(connection_class, options, known=known, owner=client, helpers=helpers)


def _bounded(connection_class: Any, given: dict[str, Any], timeout: float | None) -> dict[str, Any]:
    """Have a connection do one thing at a time, and give up on it in the end.

    The limit that counts is the operation's; this has a thread end that nobody waits for.
    """
    options = {name: value for name, value in given.items() if not name.startswith(_OF_POOLS)}
    library = _library(connection_class)
    inside = ".asyncio" if _is_asynchronous(connection_class) else ""
    retry = importlib.import_module(f"{library}{inside}.retry")
    backoff = importlib.import_module(f"{library}.backoff")
    options |= {
        "decode_responses": False,
        "health_check_interval": 0,
        "protocol": 2,
        "retry": retry.Retry(backoff.NoBackoff(), 0),
        "retry_on_error": [],
        "retry_on_timeout": False,
        "socket_timeout": None if timeout is None else timeout * PATIENCE,
    }
    if "path" not in options:
        options["socket_connect_timeout"] = timeout
    return options


def _library(connection_class: type) -> str:
    for parent in connection_class.__mro__:
        root = parent.__module__.partition(".")[0]
        if root in {"redis", "valkey"}:
            return root
    msg = f"{connection_class.__module__}.{connection_class.__name__} is no connection to Redis"
    raise ConfigError(msg)


def _is_asynchronous(connection_class: Any) -> bool:
    return inspect.iscoroutinefunction(connection_class.connect)


def _where(options: dict[str, Any], known: list[tuple[str, int]]) -> str:
    if known:
        return ", ".join(f"{host}:{port}" for host, port in known)
    pool = options.get("connection_pool")
    if pool is not None:
        return f"the master of {pool.service_name}"
    if "path" in options:
        return str(options["path"])
    return f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"


def _is_timeout(error: Exception) -> bool:
    # While connecting, it is the library's.
    return any(kind.__name__ == "TimeoutError" for kind in type(error).__mro__)


def _told(error: Exception) -> str:
    text = str(error)
    if type(error).__name__ == "MasterNotFoundError":
        # What follows is all that the library knows of its connections, in some of its releases
        # with the password.
        text = text.partition(" : ")[0]
    return f"{type(error).__name__}: {text}"


def _text(host: Any) -> str:
    return host.decode() if isinstance(host, bytes) else host or ""
