"""A TCP proxy in front of a server, which passes on, stalls, drips or refuses as it is told."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from enum import Enum
from typing import Self


class Mood(Enum):
    """What it does with what comes."""

    PASSING = "passes it on"
    STALLING = "takes it, and answers nothing"
    DRIPPING = "passes on a byte of the answer now and then"
    SLOW = "passes on eight megabytes a second"
    CLOSING = "closes every connection at once"
    LOSING = "passes it on, and closes the connection in the place of the next answer"


class Proxy:
    """Listens on a free loopback port.

    Its `mood`, and which port what connects from now on is led to, may be changed at any time.
    """

    def __init__(self, port: int) -> None:
        self.mood = Mood.PASSING
        self.accepted = 0
        self.leads_to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._listener.close()
        self.cut()

    @property
    def port(self) -> int:
        port: int = self._listener.getsockname()[1]
        return port

    def cut(self) -> None:
        """Close all connections that there are."""
        for one in self._sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self._sockets.clear()

    def _accept(self) -> None:
        while not self._ended.is_set():
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            self._sockets.append(near)
            if self.mood is Mood.CLOSING:
                near.close()
                continue
            far = socket.create_connection(("127.0.0.1", self.leads_to))
            self._sockets.append(far)
            for source, target, is_answer in ((near, far, False), (far, near, True)):
                threading.Thread(
                    target=self._pass_on, args=(source, target, is_answer), daemon=True
                ).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, is_answer: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if is_answer and self.mood is Mood.LOSING:
                    self.mood = Mood.PASSING
                    break
                if is_answer and self.mood is Mood.DRIPPING:
                    for byte in data:
                        target.sendall(bytes([byte]))
                        time.sleep(0.15)
                    continue
                if self.mood is Mood.SLOW:
                    time.sleep(len(data) / (8 << 20))
                while self.mood is Mood.STALLING and not self._ended.wait(0.005):
                    pass
                target.sendall(data)
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
