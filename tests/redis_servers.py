"""Real Redis servers on free loopback ports: one alone, with Sentinels, a Cluster.

They keep nothing on disk, and are started and stopped by whoever uses these as context managers.
Where there is no `redis-server`, tests that need one are skipped.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Self

import pytest
import redis

PROGRAM = shutil.which("redis-server") or shutil.which("valkey-server")
needs_redis = pytest.mark.skipif(
    PROGRAM is None,
    reason="NO redis-server: nothing is known about RedisCache (apt-get install redis-server)",
)
# A Cluster's servers speak to one another at the port above theirs by so much.
_BUS = 10_000
_PATIENCE = 20.0
# A Sentinel that the machine has held up for two seconds does nothing for the next thirty.
_TILT = 60.0
# A master would wait some seconds for more replicas than one.
_AT_ONCE = ("--repl-diskless-sync-delay", "0")


def wait_until(holds: Callable[[], object], what: str, patience: float = _PATIENCE) -> None:
    """Wait for a condition, for so many seconds at most."""
    deadline = time.monotonic() + patience
    while True:
        with contextlib.suppress(redis.RedisError, OSError):
            if holds():
                return
        if time.monotonic() > deadline:
            pytest.fail(f"waited for too long: {what}")
        time.sleep(0.01)


def free_port() -> int:
    """Return a port that nobody listens on, nor on that of a Cluster's bus."""
    while True:
        port = random.randrange(20_000, 30_000)
        with contextlib.suppress(OSError), contextlib.ExitStack() as opened:
            for number in (port, port + _BUS):
                opened.enter_context(socket.create_server(("127.0.0.1", number)))
            return port


class RedisServer:
    """One `redis-server`, which may be stopped, started again, and frozen."""

    def __init__(self, place: Path, *options: str, port: int | None = None) -> None:
        self.port = port or free_port()
        self._place = place
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        assert PROGRAM is not None
        self._place.mkdir(parents=True, exist_ok=True)
        command = [PROGRAM, *self._options]
        command += ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._place)]
        if "--sentinel" not in self._options:
            command += ["--save", "", "--appendonly", "no"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            wait_until(lambda: _is_up(self.port), f"redis-server on {self.port}")
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def client(self, **options: Any) -> Any:
        return redis.Redis(port=self.port, host="127.0.0.1", **options)


def _is_up(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
        connection.sendall(b"PING\r\n")
        # It may ask for a password.
        return connection.recv(1) in {b"+", b"-"}


class SentinelSetup:
    """A master, a replica, and Sentinels that watch them."""

    service = "cache"

    def __init__(self, place: Path, sentinels: int = 3) -> None:
        self.master = RedisServer(place / "master", *_AT_ONCE)
        self.replica = RedisServer(
            place / "replica", *_AT_ONCE, "--replicaof", "127.0.0.1", str(self.master.port)
        )
        self.sentinels: list[RedisServer] = []
        for number in range(sentinels):
            folder = place / f"sentinel-{number}"
            folder.mkdir(parents=True)
            settings = folder / "sentinel.conf"
            quorum = sentinels // 2 + 1
            settings.write_text(
                f"sentinel monitor {self.service} 127.0.0.1 {self.master.port} {quorum}\n"
                f"sentinel down-after-milliseconds {self.service} 500\n"
                f"sentinel failover-timeout {self.service} 3000\n"
            )
            self.sentinels.append(RedisServer(folder, str(settings), "--sentinel"))
        self._running = contextlib.ExitStack()

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._running.close()
            raise
        return self

    def _start(self) -> None:
        for server in (self.master, self.replica, *self.sentinels):
            self._running.enter_context(server)
        with self.replica.client() as client:
            wait_until(
                lambda: client.info("replication")["master_link_status"] == "up", "the replica"
            )
        for sentinel in self.sentinels:
            with sentinel.client() as client:
                wait_until(partial(self._is_ready, client), "a Sentinel", _TILT)

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def _is_ready(self, client: Any) -> bool:
        known = client.sentinel_master(self.service)
        others = len(self.sentinels) - 1
        return bool(known["num-slaves"] == 1 and known["num-other-sentinels"] == others)

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{hosts}/{self.service}"

    def master_port(self) -> int:
        with self.sentinels[0].client() as client:
            return int(client.sentinel_get_master_addr_by_name(self.service)[1])


class ClusterSetup:
    """Three masters with a replica each."""

    masters = 3

    def __init__(self, place: Path) -> None:
        self.nodes = [
            RedisServer(
                place / f"node-{number}",
                *("--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf"),
                *("--cluster-node-timeout", "2000"),
                *_AT_ONCE,
            )
            for number in range(2 * self.masters)
        ]
        self._running = contextlib.ExitStack()

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._running.close()
            raise
        return self

    def _start(self) -> None:
        for node in self.nodes:
            self._running.enter_context(node)
        clients = [self._running.enter_context(node.client()) for node in self.nodes]
        bounds = [16_384 * number // self.masters for number in range(self.masters + 1)]
        for number, client in enumerate(clients):
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            if number < self.masters:
                slots = range(bounds[number], bounds[number + 1])
                client.execute_command("CLUSTER", "ADDSLOTS", *slots)
        for number in range(1, len(self.nodes)):
            clients[0].execute_command("CLUSTER", "MEET", "127.0.0.1", self.nodes[number].port)
        wait_until(lambda: all(_knows(client, len(clients)) for client in clients), "all to meet")
        for number, client in enumerate(clients[self.masters :]):
            identity = clients[number].execute_command("CLUSTER", "MYID")
            client.execute_command("CLUSTER", "REPLICATE", identity)
        wait_until(lambda: all(_is_well(client) for client in clients), "the Cluster")

    def __exit__(self, *_: object) -> None:
        self._running.close()

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes[: self.masters])
        return f"redis+cluster://{hosts}"


def _knows(client: Any, count: int) -> bool:
    info = client.execute_command("CLUSTER", "INFO")
    text = info if isinstance(info, dict) else _pairs(info)
    return int(text["cluster_known_nodes"]) == count


def _is_well(client: Any) -> bool:
    info = client.execute_command("CLUSTER", "INFO")
    text = info if isinstance(info, dict) else _pairs(info)
    nodes = client.execute_command("CLUSTER", "NODES")
    return text["cluster_state"] == "ok" and str(nodes).count("slave") >= ClusterSetup.masters


def _pairs(info: Any) -> dict[str, str]:
    text = info.decode() if isinstance(info, bytes) else str(info)
    return dict(line.split(":", 1) for line in text.split("\r\n") if ":" in line)
