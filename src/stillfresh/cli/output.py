"""Where a body goes: the standard output, a file, or a device.

A file is written beside its place, under another name, and renamed when all of it is there. What
is no regular file (`/dev/null`, a named pipe) can't be replaced, and is written as it is.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator


class OutputError(Exception):
    """The output cannot be written; the text says which and why."""


class ReaderGone(OutputError):
    """Nobody reads the pipe any more."""


class Output:
    """An open output.

    Attributes:
        is_terminal: whether what is written there shows on a screen.
    """

    def __init__(self, fd: int, name: str) -> None:
        """Write to the file descriptor `fd`; `name` is for messages."""
        self.is_terminal = os.isatty(fd)
        self._fd = fd
        self._name = name

    def write(self, data: bytes) -> None:
        """Write all of `data`, now.

        Raises:
            OutputError: it can't be written.
        """
        rest = memoryview(data)
        with _explained(self._name):
            while rest:
                rest = rest[os.write(self._fd, rest) :]

    def commit(self) -> None:
        """Put it into its place: all of it has been written.

        Raises:
            OutputError: that can't be done.
        """

    def close(self) -> None:
        """Write no more."""


class _Replacement(Output):
    """A file that has yet to take its place."""

    def __init__(self, path: Path, name: str, mode: int | None) -> None:
        self._path: Final = path
        self._beside: Final = path.with_name(f".stillfresh-{os.urandom(6).hex()}.part")
        # A new file has the mode that the umask leaves it, and one that is replaced keeps its own.
        fd = os.open(self._beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        if mode is not None:
            with suppress(OSError):
                os.fchmod(fd, mode)
        super().__init__(fd, name)

    def commit(self) -> None:
        with _explained(self._name):
            self._close()  # a full disk across the network may only show now
            self._beside.replace(self._path)

    def close(self) -> None:
        with suppress(OSError):
            self._close()
        with suppress(OSError):  # after a commit there is nothing any more
            self._beside.unlink()

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class _Device(Output):
    """What is no regular file, and written as it is."""

    def close(self) -> None:
        with suppress(OSError):
            os.close(self._fd)


@contextmanager
def opened(name: str) -> Iterator[Output]:
    """Open an output, a path or `-` for the standard output, and close it after the block.

    Unless there was a `commit`, a file in that place is what it was before.

    Raises:
        OutputError: it can't be opened.
    """
    if name == "-":
        if sys.stdout is None:
            raise OutputError("there is no standard output to write to")
        yield Output(sys.stdout.fileno(), "to the standard output")
        return
    with _explained(name):
        output = _open(name)
    try:
        yield output
    finally:
        output.close()


def _open(name: str) -> Output:
    mode = _mode(name)
    if mode is not None and not stat.S_ISREG(mode):
        return _Device(os.open(name, os.O_WRONLY | os.O_CLOEXEC), name)
    if mode is not None and not os.access(name, os.W_OK):
        raise _error(errno.EACCES)
    if name.endswith("/"):
        raise _error(errno.EISDIR)
    # A symbolic link stays one, and what it points to is replaced.
    path = Path(os.path.realpath(name))
    return _Replacement(path, name, None if mode is None else stat.S_IMODE(mode))


def _mode(name: str) -> int | None:
    """Return the mode of what is there; None if there is nothing yet."""
    try:
        return Path(name).stat().st_mode
    except FileNotFoundError:
        return None


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


@contextmanager
def _explained(name: str) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError as error:
        raise ReaderGone(str(error)) from error
    except OSError as error:
        raise OutputError(f"cannot write {name}: {error.strerror}") from error
