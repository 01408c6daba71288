"""Processes that tests start, and what only a process of its own may do to itself."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import pickle
import select
import signal
import struct
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Generic, NoReturn, TypeVar

import pytest

T = TypeVar("T")

needs_fork: Final = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork() here")

# Longer than anything here takes, on a machine with other things to do as well.
PATIENCE: Final = 90.0


class Child(Generic[T]):
    """A fork of this process that does one job, and ends without cleaning up."""

    def __init__(self, job: Callable[[], T]) -> None:
        self._pipe, writing = os.pipe()
        with warnings.catch_warnings():
            # The test runner has threads, none of which holds a lock that a child asks for.
            warnings.simplefilter("ignore", DeprecationWarning)
            self.pid = os.fork()
        if self.pid == 0:
            os.close(self._pipe)
            _work(job, writing)
        os.close(writing)

    def outlives(self, seconds: float) -> bool:
        """Wait for the end of the child, not for long; tell whether it still runs."""
        return not select.select([self._pipe], [], [], seconds)[0]

    def kill(self) -> None:
        """End it at once, wherever it is."""
        os.kill(self.pid, signal.SIGKILL)
        self._reap()

    def end(self, seconds: float = PATIENCE) -> int:
        """Wait until it has ended by itself, or been killed, and return how."""
        self._read(seconds)
        return self._reap()

    def answer(self, seconds: float = PATIENCE) -> T:
        """Wait for the answer of the job. What it raised fails the test."""
        data = self._read(seconds)
        status = self._reap()
        if not data:
            pytest.fail(f"a child ended by {status}")
        went_well, answer = pickle.loads(data)  # noqa: S301 - it is from a child of ours
        if not went_well:
            pytest.fail(f"in a child: {answer}")
        result: T = answer
        return result

    def _read(self, seconds: float) -> bytes:
        parts: list[bytes] = []
        until = time.monotonic() + seconds
        while self._ready(until):
            part = os.read(self._pipe, 1 << 16)
            if not part:
                return b"".join(parts)
            parts.append(part)
        self.kill()
        pytest.fail(f"a child was stuck: it did not end in {seconds:.0f} s")

    def _ready(self, until: float) -> bool:
        return bool(select.select([self._pipe], [], [], max(0.0, until - time.monotonic()))[0])

    def _reap(self) -> int:
        os.close(self._pipe)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def in_child(job: Callable[[], T], seconds: float = PATIENCE) -> T:
    """Do a job in a child, and return its answer."""
    return Child(job).answer(seconds)


def _work(job: Callable[[], Any], writing: int) -> NoReturn:
    try:
        answer = (True, job())
    except BaseException:  # noqa: BLE001 - whatever it is, the parent tells
        answer = (False, traceback.format_exc())
    with contextlib.suppress(OSError), os.fdopen(writing, "wb") as pipe:
        pipe.write(pickle.dumps(answer))
    os._exit(0)


# Mounts of a child's own, which end with it.

_NEW_MOUNTS: Final = 0x0002_0000
_NEW_USER: Final = 0x1000_0000
_READ_ONLY: Final = 1
_REMOUNT: Final = 32
_ALL_PRIVATE: Final = (1 << 14) | (1 << 18)


def mount_small_disk(place: Path, options: str) -> None:
    """Mount a small disk at a directory, seen by this process alone; only for a child."""
    _have_own_mounts()
    place.mkdir(exist_ok=True)
    _mount(place, 0, f"{options},mode=700")


def make_read_only(place: Path, *, read_only: bool) -> None:
    """Let a disk that was mounted by this process be read only, or not any more."""
    _mount(place, _REMOUNT | (_READ_ONLY if read_only else 0), "")


def _mount(place: Path, flags: int, options: str) -> None:
    _call("mount", b"tmpfs", bytes(place), b"tmpfs", ctypes.c_ulong(flags), options.encode())


def _have_own_mounts() -> None:
    user, group = os.geteuid(), os.getegid()
    try:
        _call("unshare", _NEW_MOUNTS)
    except OSError:
        _call("unshare", _NEW_MOUNTS | _NEW_USER)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    _call("mount", None, b"/", None, ctypes.c_ulong(_ALL_PRIVATE), None)


@functools.cache
def _can_mount(place: Path) -> bool:
    def probe() -> bool:
        with contextlib.suppress(OSError, AttributeError):
            mount_small_disk(place, "size=64k")
            return True
        return False

    return in_child(probe)


@pytest.fixture
def small_disk(tmp_path: Path) -> Path:
    """A place where a child may mount a disk."""
    if not hasattr(os, "fork") or not _can_mount(tmp_path.parent):
        pytest.skip("nothing can be mounted here")
    place = tmp_path / "disk"
    place.mkdir()
    return place


# Privileges.

# CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH: modes mean nothing to who has them.
_CAPABILITIES: Final = 0b110
_CAPABILITY_VERSION: Final = 0x2008_0522


def heed_modes() -> None:
    """Let the modes of files mean to this process what they say; only for a child.

    Raises:
        OSError: that can't be had.
        AttributeError: nor can it on this system.
    """
    if os.geteuid() != 0 and not hasattr(ctypes.CDLL(None), "capset"):
        return
    header = ctypes.create_string_buffer(struct.pack("Ii", _CAPABILITY_VERSION, 0), 8)
    sets = ctypes.create_string_buffer(24)
    _call("capget", header, sets)
    words = [word & ~_CAPABILITIES for word in struct.unpack("6I", sets.raw)]
    sets.raw = struct.pack("6I", *words)
    _call("capset", header, sets)


@functools.cache
def can_heed_modes() -> bool:
    if os.geteuid() != 0:
        return True

    def probe() -> bool:
        with contextlib.suppress(OSError, AttributeError):
            heed_modes()
            return True
        return False

    return in_child(probe)


def _call(name: str, *arguments: Any) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
