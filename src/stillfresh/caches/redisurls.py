"""URLs of Redis and Valkey servers, spelled as redis-py and others do.

redis://[[user]:password@]host[:port][/database]        rediss:// is the same over TLS
redis+sentinel://[[user]:password@]host[:port][,host[:port]...]/service[/database]
redis+cluster://[[user]:password@]host[:port][,host[:port]...]
unix://[[user]:password@]/path/to/socket[?db=database]

With TLS the second and third are rediss+sentinel and rediss+cluster. For Valkey there are valkey
and valkeys in the place of redis and rediss; both libraries speak to both servers, so that either
will do. The password is the servers', and where Sentinels want one it is the same. In the query
there may be prefix= (of all names), timeout= (seconds), and what a connection may be told beside.

No error repeats any of a URL but its scheme, and an unknown option where no "@" follows: where a
password isn't written as it should be, it may be anywhere before that.
"""

from __future__ import annotations

import importlib
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import unquote, urlsplit

from stillfresh.caches.redislinks import Servers, servers_of
from stillfresh.caches.urloptions import options_of
from stillfresh.errors import ConfigError

if TYPE_CHECKING:
    from urllib.parse import SplitResult

_SCHEME: Final = re.compile(r"(redis|valkey)(s?)(?:\+(cluster|sentinel))?\Z")
_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[^:\[\]@/]+)(?::(\d{1,5}))?\Z", re.ASCII)
_PORT: Final = 6379
_SENTINEL_PORT: Final = 26_379
# Where nobody says whom else a database belongs to, other keys are left alone.
PREFIX: Final = "stillfresh:"
# Seconds for one operation: what a user hardly notices, and a server on the same continent needs
# a tenth of.
TIMEOUT: Final = 0.25

# What else a connection may be told, beside how it authenticates and where to.
_OPTIONS: Final = frozenset(
    {
        "client_name",
        "db",
        "ssl_ca_certs",
        "ssl_ca_path",
        "ssl_cert_reqs",
        "ssl_certfile",
        "ssl_check_hostname",
        "ssl_keyfile",
    }
)


class Named(NamedTuple):
    """What a URL names."""

    servers: Servers
    prefix: str
    timeout: float


def read_url(url: str, prefix: str | None, timeout: float | None, *, asynchronous: bool) -> Named:
    """Return what a URL names; a prefix or a timeout that is given counts for the URL's.

    Nothing is asked yet.

    Raises:
        ConfigError: it can't be made sense of, or no library for it is installed.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        msg = "that is no URL: brackets belong around an IPv6 address only"
        raise ConfigError(msg) from None
    if parts.fragment:
        msg = "a '#' in a URL is written %23"
        raise ConfigError(msg)
    given = options_of(parts.query, {"prefix", "timeout", *_OPTIONS}, parts.scheme)
    own_prefix, own_timeout = given.pop("prefix", PREFIX), given.pop("timeout", None)
    prefix = own_prefix if prefix is None else prefix
    if timeout is None:
        timeout = TIMEOUT if own_timeout is None else _seconds(own_timeout)
    servers = _servers(parts, given, timeout, asynchronous=asynchronous)
    return Named(servers, prefix, timeout)


def _servers(
    parts: SplitResult, given: dict[str, str], timeout: float, *, asynchronous: bool
) -> Servers:
    credentials, _, hosts = parts.netloc.rpartition("@")
    options: dict[str, Any] = _credentials(credentials)
    for name, value in given.items():
        options[name] = _boolean(value) if name == "ssl_check_hostname" else value
    if "db" in options:
        options["db"] = _database(options["db"])
    if parts.scheme == "unix":
        if hosts or not parts.path.strip("/"):
            msg = "write unix:///path/to/socket, with three slashes"
            raise ConfigError(msg)
        client = _module(asynchronous=asynchronous).Redis(
            unix_socket_path=unquote(parts.path), **options
        )
        return servers_of(client, timeout, asynchronous=asynchronous)
    match = _SCHEME.match(parts.scheme)
    if match is None:
        msg = f"{parts.scheme}: names no Redis server"
        raise ConfigError(msg)
    if match[2]:
        options["ssl"] = True
    path = [unquote(part) for part in parts.path.split("/")[1:] if part]
    if match[3] == "sentinel":
        return _sentinel(hosts, path, options, timeout, asynchronous=asynchronous)
    addresses = _addresses(hosts, _PORT)
    if match[3] == "cluster":
        if path or "db" in options:
            msg = "a Cluster has only one database, and no name for it"
            raise ConfigError(msg)
    elif len(addresses) > 1 or len(path) > 1:
        msg = f"{parts.scheme}:// names one server and at most a database"
        raise ConfigError(msg)
    elif path:
        options["db"] = _database(path[0])
    host, port = addresses[0]
    client = _module(asynchronous=asynchronous).Redis(host=host, port=port, **options)
    known = addresses if match[3] else []
    return servers_of(client, timeout, asynchronous=asynchronous, known=known)


def _sentinel(
    hosts: str, path: list[str], options: dict[str, Any], timeout: float, *, asynchronous: bool
) -> Servers:
    if len(path) not in {1, 2}:
        msg = "a Sentinel's URL ends in the name of a service, as in /mymaster, and maybe /0"
        raise ConfigError(msg)
    if len(path) == 2:
        options["db"] = _database(path[1])
    sentinels = _addresses(hosts, _SENTINEL_PORT)
    # Each has its part of the time, so that one which doesn't answer leaves some to the others.
    limit = timeout / (len(sentinels) + 1)
    own = {name: value for name, value in options.items() if name != "db"}
    own |= {"socket_timeout": limit, "socket_connect_timeout": limit}
    module = _module(".sentinel", asynchronous=asynchronous)
    manager = module.Sentinel(sentinels, sentinel_kwargs=own, **options)
    client = manager.master_for(path[0])
    return servers_of(client, timeout, asynchronous=asynchronous, helpers=manager.sentinels)


def _module(name: str = "", *, asynchronous: bool) -> Any:
    for library in ("redis", "valkey"):
        try:
            return importlib.import_module(f"{library}{'.asyncio' if asynchronous else ''}{name}")
        except ModuleNotFoundError as error:
            if error.name != library:
                raise
    msg = "redis-py is not installed: pip install 'stillfresh[redis]'"
    raise ConfigError(msg)


def _credentials(text: str) -> dict[str, Any]:
    user, _, password = text.partition(":")
    given = {"username": unquote(user), "password": unquote(password)}
    return {name: value for name, value in given.items() if value}


def _addresses(hosts: str, port: int) -> list[tuple[str, int]]:
    found = []
    for host in hosts.split(",") if hosts else ["localhost"]:
        match = _HOST.match(host)
        if match is None or int(match[2] or 0) > 0xFFFF:
            msg = "a server is written host or host:port, and special characters as in %2F"
            raise ConfigError(msg)
        found.append((match[1].strip("[]"), int(match[2] or port)))
    return found


def _database(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        msg = "a database is a number, as in /0"
        raise ConfigError(msg)
    return int(text)


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        msg = f"timeout={text}: write a number of seconds"
        raise ConfigError(msg) from None


def _boolean(text: str) -> bool:
    if text.lower() not in {"true", "false"}:
        msg = f"write true or false, not {text!r}"
        raise ConfigError(msg)
    return text.lower() == "true"
